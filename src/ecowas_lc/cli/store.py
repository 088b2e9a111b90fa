"""The server that stores the conversations, and the sessions and threads that commands read, extend or delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ecowas_lc.errors import EcowasError
from ecowas_lc.settings import Settings, get_settings

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langgraph.checkpoint.base import CheckpointTuple

    from ecowas_lc.checkpoint import RedisSaver
    from ecowas_lc.memory import RedisMemoryService
    from ecowas_lc.storage.server import Server
    from ecowas_lc.store import RedisStore


def chosen_server(settings: Settings, *, wanted: bool = True) -> Server | None:
    """Return the settings' server after checking that it answers; ``None`` if the settings or the user want none.

    Raises:
        ConfigurationError: The settings' address is not usable.
        StorageError: The server does not answer, or refuses access.
    """
    if not (wanted and settings.agent_use_redis_memory):
        return None
    return answering_server(settings)


def answering_server(settings: Settings) -> Server:
    """Return the settings' server after checking that it answers.

    Raises:
        ConfigurationError, StorageError: As for :func:`chosen_server`.
    """
    from ecowas_lc.memory.service import ping_op
    from ecowas_lc.storage.keys import Keys
    from ecowas_lc.storage.server import Server

    server = Server.from_settings(settings)
    server.run(ping_op(Keys(settings.prefix)))
    return server


SPEAKERS = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}  # for messages without a name


@dataclass(frozen=True)
class Store:
    """The settings' server with its memory service and its checkpointer."""

    settings: Settings
    server: Server
    memory: RedisMemoryService
    saver: RedisSaver

    def item_stores(self) -> list[RedisStore]:
        """Return the item stores, one for each collection that has been written to."""
        from ecowas_lc.storage.keys import Keys
        from ecowas_lc.store import RedisStore
        from ecowas_lc.store.backup import collections_op

        prefix = self.settings.prefix
        names = self.server.run(collections_op(Keys(prefix)))
        return [RedisStore(server=self.server, prefix=prefix, collection=name) for name in names]

    def thread_ids(self, limit: int = 0) -> list[str]:
        """Return the stored threads, most recently written first, at most ``limit`` (0: all)."""
        from ecowas_lc.storage.evictions import warn_of_evictions_op
        from ecowas_lc.storage.keys import Keys
        from ecowas_lc.storage.left_out import readable_ids
        from ecowas_lc.storage.ops import Op, command

        keys = Keys(self.settings.prefix)

        def op() -> Op[list[str]]:
            [members] = yield (command("ZREVRANGE", keys.threads(), 0, limit - 1),)
            found = readable_ids(members, "threads")
            yield from warn_of_evictions_op(keys, "The list may lack threads", "threads")
            if not found:
                return []
            there = yield tuple(command("EXISTS", keys.thread(thread)) for thread in found)
            return [thread for thread, exists in zip(found, there, strict=True) if exists]

        return self.server.run(op())

    def check_thread(self, thread_id: str) -> None:
        """Raise an error unless the thread exists.

        Raises:
            EcowasError: There is no such thread.
        """
        if not self._has_thread(thread_id):
            raise not_there("thread", thread_id)

    def check_session(self, session_id: str) -> None:
        """Raise an error unless a history, data or a thread of the session exists.

        Raises:
            EcowasError: Nothing of the session is stored.
        """
        if not (
            self.memory.get_all_agents_for_session(session_id)
            or self.memory.get_all_session_data(session_id)
            or self._has_thread(session_id)
        ):
            raise not_there("session", session_id)

    def _has_thread(self, thread_id: str) -> bool:
        return self.saver.ttl(thread_id) != -1

    def thread_messages(self, thread_id: str) -> list[BaseMessage] | None:
        """Return the messages in a thread's latest checkpoint, or ``None`` if there is no such thread."""
        found = self.saver.get_tuple({"configurable": {"thread_id": thread_id}})
        if found is None:
            return None
        return messages_in(found)

    def history(self, agent_id: str, session_id: str) -> list[BaseMessage]:
        """Return an agent's messages in a session."""
        from ecowas_lc.history import RedisChatMessageHistory

        return RedisChatMessageHistory(
            agent_id, session_id, server=self.server, prefix=self.settings.prefix
        ).messages


@contextmanager
def opened_store() -> Iterator[Store]:
    """Yield the stored data of the settings' server, after checking that it answers.

    Raises:
        ConfigurationError, StorageError: The server is not usable.
    """
    from ecowas_lc.checkpoint import RedisSaver
    from ecowas_lc.memory import RedisMemoryService

    settings = get_settings()
    server = answering_server(settings)
    try:
        yield Store(
            settings,
            server,
            RedisMemoryService(server=server, prefix=settings.prefix, default_ttl=settings.redis_memory_ttl),
            RedisSaver(
                server=server,
                prefix=settings.prefix,
                default_ttl=settings.redis_memory_ttl,
            ).viewing(),
        )
    finally:
        server.close()


def not_there(kind: str, name: str) -> EcowasError:
    """Return the error for something that is not stored."""
    return EcowasError(f"There is no {kind} {name!r}. `ecowas-lc {kind}s list` lists them.")


def messages_in(found: CheckpointTuple) -> list[BaseMessage]:
    """Return the conversation in a checkpoint; other applications may store something else in its channel."""
    from ecowas_lc.checkpoint import entries

    return entries.messages_in(found.checkpoint["channel_values"])


def speaker_of(message: BaseMessage) -> str:
    """Return the author of a message: a group's id, ``supervisor`` or ``user``."""
    return str(message.name or SPEAKERS.get(message.type, message.type))


def as_json(message: BaseMessage) -> dict[str, Any]:
    """Return a message in the form that ``--json`` prints."""
    return {"speaker": speaker_of(message), "text": message.text}


def ago(moment: datetime | None) -> str:
    """Return how long ago a time was, as readable text."""
    if moment is None:
        return "unknown"
    return f"{duration(max(0.0, (datetime.now(UTC) - moment).total_seconds()))} ago"


def duration(seconds: float | None) -> str:
    """Return a duration as readable text; ``None`` means that it does not end."""
    if seconds is None:
        return "never"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
