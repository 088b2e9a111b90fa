"""One conversation as an agent keeps it: on the server, and in memory while the server can't be used."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

from langchain_core.messages import BaseMessage

from ecowas_lc.agents.outage import OUTAGES, Link, link_to
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.history.messages import to_document
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService, SessionInfo
from ecowas_lc.memory.connections import shared_server
from ecowas_lc.memory.json_values import check_count, check_ttl
from ecowas_lc.settings import Settings
from ecowas_lc.storage.keys import check_id

_UNSETTLED_SECONDS = 10.0  # servers save to disk, or to a replica, with such a delay at most


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be stored in one go: messages, and before them a reset, by its number (0: none)."""

    reset: int = 0
    messages: tuple[BaseMessage, ...] = ()


class Said:
    """One conversation, shared by all agents of the process that take part in it."""

    def __init__(self, agent_id: str, session_id: str) -> None:
        self.agent_id = agent_id
        self.session_id = session_id
        self.began: datetime | None = None
        self.used: datetime | None = None
        self.version = 0
        self.store: RedisChatMessageHistory | None = None
        self._lock = threading.Lock()
        self._known: list[BaseMessage] = []
        self._waiting: list[BaseMessage] = []
        self._unsettled: deque[tuple[float, BaseMessage]] = deque()
        self._is_reset = False
        self._resets = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """The name of this conversation among what a link holds."""
        return ("history", self.agent_id, self.session_id)

    @property
    def waits(self) -> bool:
        """Whether something is not on the server yet."""
        return self._is_reset or bool(self._waiting)

    def add(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages, each of which has an id, except those that are here already."""
        with self._lock:
            self._waiting += _others(messages, (*self._known, *self._waiting))
            self.used = datetime.now(UTC)
            self.began = self.began or self.used

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known, self._waiting, self._is_reset = [], [], True
            self._resets += 1
            self._unsettled.clear()
            self.began = self.used = None
            self.version += 1

    def learn(self, stored: Sequence[BaseMessage], version: int) -> None:
        """Take what the server had at ``version``; what has changed since is not overwritten."""
        with self._lock:
            if version == self.version:
                self._known = list(stored)

    def view(self, limit: int) -> list[BaseMessage]:
        """The last ``limit`` messages, as far as they are known here."""
        with self._lock:
            return [*self._known, *_others(self._waiting, self._known)][-limit:]

    def batch(self) -> Batch:
        """What is to be stored."""
        with self._lock:
            return Batch(self._resets if self._is_reset else 0, tuple(self._waiting))

    def was_reset(self, number: int) -> None:
        """Take note that the server has forgotten the conversation."""
        with self._lock:
            if not self._is_reset:
                # Another thread came before: what it has stored since went with this, and is stored once more.
                self._known, self._waiting = [], [*self._known, *_others(self._waiting, self._known)]
                self.version += 1
            elif number == self._resets:
                self._is_reset = False

    def stored(self, messages: Sequence[BaseMessage]) -> None:
        """Take note that the server has these messages."""
        now = time.monotonic()
        ids = {message.id for message in messages}
        with self._lock:
            done = [message for message in self._waiting if message.id in ids]
            self._waiting = [message for message in self._waiting if message.id not in ids]
            self._known += _others(done, self._known)
            self._unsettled.extend((now, message) for message in done)
            while self._unsettled and _is_settled(self._unsettled[0][0]):
                self._unsettled.popleft()
            self.version += 1

    def keep_here(self, limit: int) -> None:
        """Keep the last ``limit`` messages in this process, there being no server."""
        with self._lock:
            self._known = [*self._known, *self._waiting][-limit:]
            self._waiting, self._is_reset = [], False

    def link_failed(self, link: Link) -> None:
        """Hold what a server that dies now may not have saved yet."""
        with self._lock:
            doubtful = [message for at, message in self._unsettled if not _is_settled(at)]
            self._waiting = [*doubtful, *self._waiting]
            self._unsettled.clear()
        if self.waits:
            link.hold(self.key, self.replay)

    def replay(self) -> None:
        """Store what the server lacks, blocking."""
        if self.store is not None:
            run(storing(self, self.store), {})


def storing(said: Said, store: RedisChatMessageHistory) -> Program[None]:
    """Bring to the server what it lacks; a message that it has is told by its id and left as it is."""
    while (batch := said.batch()).reset:
        yield Doing(lambda _: store.clear(), lambda _: store.aclear())
        said.was_reset(batch.reset)
    if batch.messages:
        yield Doing(lambda _: store.add_messages(batch.messages), lambda _: store.aadd_messages(batch.messages))
        said.stored(batch.messages)


def _others(messages: Sequence[BaseMessage], known: Sequence[BaseMessage]) -> list[BaseMessage]:
    ids = {message.id for message in known}
    return [message for message in messages if message.id not in ids]


def _is_settled(at: float) -> bool:
    return time.monotonic() - at > _UNSETTLED_SECONDS


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


class Keeping:
    """What all agents of one conversation share: the server (with ``use_redis``) and how long it keeps things.

    Raises:
        InvalidInputError: ``ttl`` is not a whole number of seconds from 1 on.
        ConfigurationError: ``memory`` is something else, or the settings can't be used.
    """

    def __init__(
        self, settings: Settings, *, use_redis: bool, ttl: int | None, memory: RedisMemoryService | None
    ) -> None:
        if memory is not None and not isinstance(memory, RedisMemoryService):
            raise ConfigurationError(f"memory must be a RedisMemoryService, not {type(memory).__name__}.")
        self.ttl = None if ttl is None else check_ttl(ttl, "memory_ttl")
        self.link: Link | None = None
        self._said: dict[tuple[str, str], Said] = {}
        if not use_redis:
            return
        if memory is None:
            memory = RedisMemoryService(
                server=shared_server(settings=settings),
                default_ttl=settings.redis_memory_ttl,
                prefix=settings.prefix,
            )
        self.memory = memory
        self.async_memory = AsyncRedisMemoryService(
            server=memory.server, default_ttl=memory.default_ttl, prefix=memory.prefix
        )
        self.link = link_to(memory.server, memory.prefix)

    def transcript(self, agent_id: str, session_id: str, limit: int) -> Transcript:
        """An agent's transcript of a session, of which the last ``limit`` messages are kept."""
        check_id(agent_id, "agent id")
        check_id(session_id, "session id")
        check_count(limit, "max_history")
        key = (agent_id, session_id)
        if self.link is None:
            return Transcript(self._said.setdefault(key, Said(*key)), limit)
        store = RedisChatMessageHistory(
            agent_id,
            session_id,
            ttl=self.ttl,
            max_messages=limit,
            max_history=limit,
            server=self.link.server,
            prefix=self.link.prefix,
            default_ttl=self.memory.default_ttl,
        )
        said = self.link.shared(("history", *key), lambda: Said(*key))
        return Transcript(said, limit, self.link, store)
