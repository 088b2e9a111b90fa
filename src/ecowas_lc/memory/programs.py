"""The memory API as programs: what the sync and the async service run, written once."""

from __future__ import annotations

from typing import Any

from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.memory.arguments import check_history, check_message, check_ttl, lifetime_seconds
from ecowas_lc.memory.conversations import Conversations, SessionInfo, entry
from ecowas_lc.memory.index import recently_indexed
from ecowas_lc.memory.sessions import Sessions
from ecowas_lc.memory.values import Values
from ecowas_lc.settings import get_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server


def conversations_on(server: Server, prefix: str | None, default_ttl: int | None) -> Conversations:
    """The histories of a prefix (``None``: the settings') on a server."""
    keys = Keys(get_settings().prefix if prefix is None else prefix)
    return Conversations(keys, default_ttl, recently_indexed(server))


class MemoryPrograms:
    """The programs of one prefix on one server, arguments checked."""

    def __init__(self, server: Server, prefix: str | None, default_ttl: int | None) -> None:
        if default_ttl is not None:
            try:
                check_ttl(default_ttl, "default_ttl")
            except InvalidInputError as error:
                raise ConfigurationError(str(error)) from None
        self.conversations = conversations_on(server, prefix, default_ttl)
        self.keys = self.conversations.keys
        self.values = Values(self.keys, default_ttl)
        self.sessions = Sessions(self.conversations, self.values)

    def save_op(self, agent_id: str, session_id: str, history: Any, ttl: int | None) -> Op[None]:
        """Replace a history; an empty one is removed."""
        messages = check_history(history)
        lifetime = lifetime_seconds(ttl, self.values.default_ttl)
        if messages:
            yield from self.conversations.replace_op(agent_id, session_id, messages, lifetime=lifetime)
        else:
            yield from self.sessions.clear_op(agent_id, session_id)

    def append_op(
        self, agent_id: str, session_id: str, message: Any, max_history: int | None, ttl: int | None
    ) -> Op[int]:
        """Append one message; how many the history holds then."""
        place = self.conversations.place(agent_id, session_id)
        words = entry(check_message(message))
        return (yield from self.conversations.append_op(place, words, max_history=max_history, ttl=ttl))

    def info_op(self, agent_id: str, session_id: str) -> Op[SessionInfo | None]:
        """What is known of one history."""
        found = yield from self.conversations.describe_op([(agent_id, session_id)])
        return found[0] if found else None
