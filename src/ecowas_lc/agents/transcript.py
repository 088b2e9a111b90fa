"""One conversation as an agent keeps it: on the server, and in memory for as long as that can't be used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

from langchain_core.messages import BaseMessage

from ecowas_lc.agents.link import OUTAGES, Link
from ecowas_lc.agents.said import Said, storing
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.history.messages import to_document
from ecowas_lc.memory import SessionInfo
from ecowas_lc.supervisor.programs import Doing, Program, arun, run


class Transcript:
    """The last ``limit`` messages of an agent in a session; as a history, it is one for the supervisor graph.

    Without a ``link`` and a ``store`` it is kept in this process alone.
    """

    appends_once: ClassVar[bool] = True

    def __init__(
        self, said: Said, limit: int, link: Link | None = None, store: RedisChatMessageHistory | None = None
    ) -> None:
        self._said = said
        self.limit = limit
        self._link = link
        self._store = store
        said.store = store or said.store

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, oldest first."""
        return run(self.read(), {})

    async def aget_messages(self) -> list[BaseMessage]:
        """The messages, oldest first."""
        return await arun(self.read(), {})

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, each id once."""
        run(self.append(messages), {})

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, each id once."""
        await arun(self.append(messages), {})

    def read(self) -> Program[list[BaseMessage]]:
        """The messages: the server's, or while it can't be used those known here."""
        if self._link is not None and self._link.is_up:
            try:
                return (yield from self.read_stored())
            except OUTAGES as error:
                self._link.failed(error)
        return self._said.view(self.limit)

    def read_stored(self) -> Program[list[BaseMessage]]:
        """The server's messages, what was said here included.

        Raises:
            RedisUnavailableError, RedisRefusedError, EmbeddedServerError: the server can't be used.
        """
        store = self._store
        if store is None:
            return self._said.view(self.limit)
        yield from storing(self._said, store)
        version = self._said.version
        stored: list[BaseMessage] = yield Doing(lambda _: store.messages, lambda _: store.aget_messages())
        self._said.learn(stored, version)
        return stored

    def append(self, messages: Sequence[BaseMessage]) -> Program[None]:
        """Append messages; they are kept whatever becomes of the server meanwhile."""
        for message in messages:
            if message.id is None:
                message.id = str(uuid4())
        self._said.add(messages)
        yield from self._store_or_hold()

    def clear(self) -> Program[None]:
        """Remove the conversation."""
        self._said.reset()
        yield from self._store_or_hold()

    def info(self) -> Program[dict[str, Any]]:
        """Length, activity, where it is kept and for how many more seconds."""
        store = self._store
        if self._link is not None and store is not None and self._link.is_up:
            try:
                yield from storing(self._said, store)
                found: SessionInfo | None = yield Doing(lambda _: store.info(), lambda _: store.ainfo())
            except OUTAGES as error:
                self._link.failed(error)
            else:
                if found:
                    self._said.began, self._said.used = found.first_activity, found.last_activity
                return {
                    "history_length": found.messages if found else 0,
                    "backend": "redis",
                    "ttl": _whole_seconds(found),
                    "first_activity": _text(found.first_activity if found else None),
                    "last_activity": _text(found.last_activity if found else None),
                }
        return {
            "history_length": len(self._said.view(self.limit)),
            "backend": "memory",
            "ttl": None,
            "first_activity": _text(self._said.began),
            "last_activity": _text(self._said.used),
        }

    def _store_or_hold(self) -> Program[None]:
        if self._link is None or self._store is None:
            self._said.keep_here(self.limit)
            return
        if self._link.is_up:
            try:
                yield from storing(self._said, self._store)
            except OUTAGES as error:
                self._link.failed(error)
        if self._said.waits:
            self._link.hold(self._said.key, self._said.replay)


def as_dicts(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages as the published ``{"role": …, "content": …}``."""
    documents = [to_document(message) for message in messages]
    return [{"role": document["role"], "content": document["content"]} for document in documents]


def _whole_seconds(info: SessionInfo | None) -> int | None:
    return None if info is None or info.ttl_seconds is None else math.ceil(info.ttl_seconds)


def _text(time: Any) -> str | None:
    return None if time is None else str(time.isoformat(timespec="milliseconds"))
