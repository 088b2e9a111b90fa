"""An agent's conversation: stored on the server, and in memory while the server is unavailable."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Self
from uuid import uuid4

from langchain_core.messages import BaseMessage

from ecowas_lc import forks
from ecowas_lc.agents.outage import OUTAGES, UNSETTLED_SECONDS, ServerLink, link_to
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import ConfigurationError, InvalidInputError, TooLargeError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.history.messages import to_document
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService, SessionInfo
from ecowas_lc.memory.connections import shared_server
from ecowas_lc.memory.json_values import check_count, check_ttl
from ecowas_lc.settings import Settings
from ecowas_lc.storage.keys import check_id
from ecowas_lc.storage.server import Server

# A larger message is sent on its own, so that an error concerns only this message. No server can be configured
# with a lower limit.
_LARGE_BYTES = 2**20

# The longest time that a message is expected to take to the server, with a new connection and after retries.
_LATEST_ARRIVAL_SECONDS = 2.0

_MOST_HELD = 1000  # messages of a conversation held in this process if the server keeps all of them

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset: its number, its name on the server, and when it was requested."""

    number: int
    operation: str
    at: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message, when it was said (monotonic clock), and whether the server has acknowledged it."""

    message: BaseMessage
    at: float
    was_stored: bool = False

    def age(self, now: float) -> float:
        """Return the message's age in seconds, from which the server decides whether a later removal covers it.

        The server subtracts the age when the message arrives, so a delayed message seems younger than it is. A
        message that was stored before gets a higher age, so that the delay can't save it from its removal.
        """
        return now - self.at + (_LATEST_ARRIVAL_SECONDS if self.was_stored else 0)


@dataclass(frozen=True, slots=True)
class TranscriptWrite:
    """What to store together: messages, and optionally a reset before them."""

    reset: Reset | None = None
    messages: tuple[Spoken, ...] = ()


class SharedConversation:
    """A conversation, shared by all agents of the process that take part in it.

    It holds no more than would be kept anyway: the last ``limit`` messages.
    """

    def __init__(self, agent_id: str, session_id: str, limit: int = _MOST_HELD) -> None:
        self.agent_id = agent_id
        self.session_id = session_id
        self.limit = limit
        self.began: datetime | None = None
        self.used: datetime | None = None
        self.version = 0
        self.store: RedisChatMessageHistory | None = None
        self._lock = forks.Lock()
        self._known: list[BaseMessage] = []
        self._waiting: list[Spoken] = []
        self._unsettled: deque[tuple[float, Spoken]] = deque()
        self._reset: Reset | None = None
        self._resets = 0
        self.last_operation = ""
        """The name of the last reset; everything here was said after it."""
        forks.register(self)

    def forget_parent(self) -> None:
        """Discard the backlog after a fork: the parent stores it, and a second reset would delete its messages."""
        self._known = [*self._known, *_others(_messages(self._waiting), self._known)]
        self._waiting, self._reset = [], None
        self._unsettled.clear()

    @property
    def key(self) -> tuple[str, str, str]:
        """The key of this conversation in a link's backlog."""
        return ("history", self.agent_id, self.session_id)

    @property
    def waits(self) -> bool:
        """Whether something is not on the server yet."""
        return self._reset is not None or bool(self._waiting)

    def add(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages that are not here already; each must have an id."""
        now = time.monotonic()
        with self._lock:
            new = _others(messages, (*self._known, *_messages(self._waiting)))
            self._wait_for([*self._waiting, *(Spoken(message, now) for message in new)])
            self.used = datetime.now(UTC)
            self.began = self.began or self.used

    def reset(self) -> None:
        """Delete all messages."""
        with self._lock:
            self._resets += 1
            self._known, self._waiting = [], []
            self._reset = Reset(self._resets, uuid4().hex, time.monotonic())
            self.last_operation = self._reset.operation
            self._unsettled.clear()
            self.began = self.used = None
            self.version += 1

    def learn(self, stored: Sequence[BaseMessage], version: int) -> None:
        """Set the messages to those that the server had at ``version``, keeping later changes."""
        with self._lock:
            if version == self.version:
                self._known = list(stored)

    def view(self, limit: int) -> list[BaseMessage]:
        """Return the last ``limit`` messages that are known here."""
        with self._lock:
            return [*self._known, *_others(_messages(self._waiting), self._known)][-limit:]

    def batch(self) -> TranscriptWrite:
        """Return what has to be stored."""
        with self._lock:
            return TranscriptWrite(self._reset, tuple(self._waiting))

    def was_reset(self, number: int) -> None:
        """Note that the server has deleted the conversation."""
        now = time.monotonic()
        with self._lock:
            if self._reset is None:
                # Another thread's reset came first and deleted what it had stored since: store that again.
                known = [Spoken(message, now) for message in self._known]
                new = _others(_messages(self._waiting), self._known)
                self._wait_for([*known, *(each for each in self._waiting if each.message in new)])
                self._known = []
                self.version += 1
            elif number == self._reset.number:
                self._reset = None

    def stored(self, spoken: Sequence[Spoken]) -> None:
        """Note that the server has these messages."""
        now = time.monotonic()
        with self._lock:
            done = self._take_out(spoken)
            self._known = [*self._known, *_others(_messages(done), self._known)][-self.limit :]
            self._unsettled.extend((now, replace(each, was_stored=True)) for each in done)
            while self._unsettled and (_is_settled(self._unsettled[0][0]) or len(self._unsettled) > self.limit):
                self._unsettled.popleft()
            self.version += 1

    def drop(self, spoken: Spoken, why: str) -> None:
        """Drop a message that the server never accepts, and log which one and why."""
        message = spoken.message
        with self._lock:
            self._take_out([spoken])
        log.error(
            "The message %s (%s, %d bytes) of the agent %r in the session %r can't be stored and was dropped; the "
            "conversation continues without it. %s",
            message.id,
            message.type,
            _size(message),
            self.agent_id,
            self.session_id,
            why,
        )

    def give_up_one(self, error: Exception) -> bool:
        """Drop a message that the server rejects although it accepts other writes; return whether there is one."""
        with self._lock:
            first = self._waiting[0] if self._waiting and self._reset is None else None
        if first is None or _size(first.message) < _LARGE_BYTES:
            return False
        self.drop(
            first,
            f"Redis accepts other writes but not this one, which is larger than 1 MB: {error} See also its "
            "client-query-buffer-limit and maxmemory.",
        )
        return True

    def keep_here(self, limit: int) -> None:
        """Keep the last ``limit`` messages in this process, because there is no server."""
        with self._lock:
            self._known = [*self._known, *_messages(self._waiting)][-limit:]
            self._waiting, self._reset = [], None

    def link_failed(self, link: ServerLink) -> None:
        """Keep what a crashing server may not have saved yet."""
        with self._lock:
            doubtful = [spoken for at, spoken in self._unsettled if not _is_settled(at)]
            self._wait_for([*doubtful, *self._waiting])
            self._unsettled.clear()
        if self.waits:
            self.hold(link)

    def hold(self, link: ServerLink) -> None:
        """Schedule storing what is waiting for when the server is available."""
        link.hold(self.key, self.replay, self.give_up_one)

    def replay(self) -> None:
        """Store what the server lacks; blocks."""
        if self.store is not None:
            run(storing(self, self.store), {})

    def _wait_for(self, spoken: list[Spoken]) -> None:
        self._waiting = spoken[-self.limit :]

    def _take_out(self, spoken: Sequence[Spoken]) -> list[Spoken]:
        ids = {each.message.id for each in spoken}
        done = [each for each in self._waiting if each.message.id in ids]
        self._waiting = [each for each in self._waiting if each.message.id not in ids]
        return done


def storing(conversation: SharedConversation, store: RedisChatMessageHistory) -> Program[None]:
    """Store what the server lacks; a message whose id it already has is left unchanged.

    Messages that another process has since removed are not stored again. Messages that the server never accepts
    are dropped.
    """
    while (reset := (batch := conversation.batch()).reset) is not None:
        yield _clearing(store, reset)
        conversation.was_reset(reset.number)
    for some in _in_parts(batch.messages):
        try:
            yield from _adding(conversation, store, some)
        except _NEVER as error:
            if len(some) == 1:
                conversation.drop(some[0], str(error))
                continue
            for one in some:
                try:
                    yield from _adding(conversation, store, [one])
                except _NEVER as its_error:
                    conversation.drop(one, str(its_error))


# Errors in a message itself, which persist whatever the server's state.
_NEVER = (TooLargeError, InvalidInputError)


def _clearing(store: RedisChatMessageHistory, reset: Reset) -> Doing:
    age = time.monotonic() - reset.at
    return Doing(
        lambda _: store.clear(operation=reset.operation, age=age),
        lambda _: store.aclear(operation=reset.operation, age=age),
    )


def _adding(
    conversation: SharedConversation, store: RedisChatMessageHistory, some: Sequence[Spoken]
) -> Program[None]:
    now, after = time.monotonic(), conversation.last_operation
    messages, ages = _messages(some), [each.age(now) for each in some]
    yield Doing(
        lambda _: store.add_messages(messages, ages=ages, after=after),
        lambda _: store.aadd_messages(messages, ages=ages, after=after),
    )
    conversation.stored(some)


def _in_parts(spoken: Sequence[Spoken]) -> Iterator[list[Spoken]]:
    """Split messages into batches, in order, each small enough for one command."""
    part: list[Spoken] = []
    size = 0
    for each in spoken:
        more = _size(each.message)
        if part and size + more > _LARGE_BYTES // 2:
            yield part
            part, size = [], 0
        part.append(each)
        size += more
    if part:
        yield part


def _size(message: BaseMessage) -> int:
    """Estimate a message's size in bytes by its text, its largest part."""
    content = message.content
    return len((content if isinstance(content, str) else str(content)).encode(errors="replace"))


def _messages(spoken: Sequence[Spoken]) -> list[BaseMessage]:
    return [each.message for each in spoken]


def _others(messages: Sequence[BaseMessage], known: Sequence[BaseMessage]) -> list[BaseMessage]:
    ids = {message.id for message in known}
    return [message for message in messages if message.id not in ids]


def _is_settled(at: float) -> bool:
    return time.monotonic() - at > UNSETTLED_SECONDS


class Transcript:
    """An agent's last ``limit`` messages in a session (``None``: all); usable as the supervisor graph's history.

    Without a ``link`` and a ``store``, it is kept in this process only.
    """

    appends_once: ClassVar[bool] = True

    def __init__(
        self,
        conversation: SharedConversation,
        limit: int | None,
        link: ServerLink | None = None,
        store: RedisChatMessageHistory | None = None,
    ) -> None:
        self._conversation = conversation
        self.limit = limit
        self._link = link
        self._store = store
        conversation.store = store or conversation.store
        conversation.limit = max(conversation.limit, self.most)

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, oldest first."""
        return run(self.read(), {})

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the messages, oldest first."""
        return await arun(self.read(), {})

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, skipping ids that are already stored."""
        run(self.append(messages), {})

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, skipping ids that are already stored."""
        await arun(self.append(messages), {})

    def latest(self, count: int | None) -> list[BaseMessage]:
        """Return the last ``count`` messages (``None``: all)."""
        return run(self.read(count), {})

    async def alatest(self, count: int | None) -> list[BaseMessage]:
        """Return the last ``count`` messages (``None``: all)."""
        return await arun(self.read(count), {})

    @property
    def max_history(self) -> int | None:
        """Maximum number of messages kept; ``None`` means no limit."""
        return self.limit

    @property
    def most(self) -> int:
        """Maximum number of messages that this process holds."""
        return _MOST_HELD if self.limit is None else self.limit

    def replace_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Replace the conversation with the given messages."""
        run(self.replaced(messages), {})

    async def areplace_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Replace the conversation with the given messages."""
        await arun(self.replaced(messages), {})

    def replaced(self, messages: Sequence[BaseMessage]) -> Program[None]:
        """Replace the conversation with the given messages."""
        self._conversation.reset()
        yield from self.append(messages)

    def read(self, count: int | None = None) -> Program[list[BaseMessage]]:
        """Return the last ``count`` messages: the server's, or those known here while it is unavailable."""
        if self._link is not None and self._link.is_up:
            try:
                return (yield from self.read_stored(count))
            except OUTAGES as error:
                self._link.failed(error)
        return self._conversation.view(count or self.most)

    def read_stored(self, count: int | None = None) -> Program[list[BaseMessage]]:
        """Return the last ``count`` messages of the server, including what was said here.

        Raises:
            RedisUnavailableError, RedisRefusedError, EmbeddedServerError: The server is unavailable.
        """
        store = self._store
        if store is None:
            return self._conversation.view(count or self.most)
        yield from storing(self._conversation, store)
        if count is not None:
            return list((yield Doing(lambda _: store.latest(count), lambda _: store.alatest(count))))
        version = self._conversation.version
        stored: list[BaseMessage] = yield Doing(lambda _: store.messages, lambda _: store.aget_messages())
        self._conversation.learn(stored, version)
        return stored

    def append(self, messages: Sequence[BaseMessage]) -> Program[None]:
        """Append messages. They are kept even if the server becomes unavailable."""
        for message in messages:
            if message.id is None:
                message.id = str(uuid4())
        self._conversation.add(messages)
        yield from self._store_or_hold()

    def clear(self) -> Program[None]:
        """Delete the conversation."""
        self._conversation.reset()
        yield from self._store_or_hold()

    def info(self) -> Program[dict[str, Any]]:
        """Return length, activity, where the conversation is kept, and the seconds until it expires."""
        store = self._store
        if self._link is not None and store is not None and self._link.is_up:
            try:
                yield from storing(self._conversation, store)
                found: SessionInfo | None = yield Doing(lambda _: store.info(), lambda _: store.ainfo())
            except OUTAGES as error:
                self._link.failed(error)
            else:
                if found:
                    self._conversation.began, self._conversation.used = found.first_activity, found.last_activity
                return {
                    "history_length": found.messages if found else 0,
                    "backend": "redis",
                    "ttl": _whole_seconds(found),
                    "first_activity": _text(found.first_activity if found else None),
                    "last_activity": _text(found.last_activity if found else None),
                }
        return {
            "history_length": len(self._conversation.view(self.most)),
            "backend": "memory",
            "ttl": None,
            "first_activity": _text(self._conversation.began),
            "last_activity": _text(self._conversation.used),
        }

    def _store_or_hold(self) -> Program[None]:
        if self._link is None or self._store is None:
            self._conversation.keep_here(self.most)
            return
        if self._link.is_up:
            try:
                yield from storing(self._conversation, self._store)
            except OUTAGES as error:
                self._link.failed(error)
        if self._conversation.waits:
            self._conversation.hold(self._link)


def as_dicts(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return messages as dicts of the published form ``{"role": …, "content": …}``."""
    documents = [to_document(message) for message in messages]
    return [{"role": document["role"], "content": document["content"]} for document in documents]


def _whole_seconds(info: SessionInfo | None) -> int | None:
    return None if info is None or info.ttl_seconds is None else math.ceil(info.ttl_seconds)


def _text(time: Any) -> str | None:
    return None if time is None else str(time.isoformat(timespec="milliseconds"))


class Keeping:
    """What all agents of one conversation share: the server (with ``use_redis``) and the time to live.

    Raises:
        InvalidInputError: ``ttl`` is not a positive whole number of seconds.
        ConfigurationError: ``memory`` is not a memory service, or the settings are not usable.
    """

    def __init__(
        self, settings: Settings, *, use_redis: bool, ttl: int | None, memory: RedisMemoryService | None
    ) -> None:
        if memory is not None and not isinstance(memory, RedisMemoryService):
            raise ConfigurationError(f"memory must be a RedisMemoryService, not {type(memory).__name__}.")
        self.ttl = None if ttl is None else check_ttl(ttl, "memory_ttl")
        self.link: ServerLink | None = None
        self._conversations: dict[tuple[str, str], SharedConversation] = {}
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

    @classmethod
    def on(cls, server: Server | None, settings: Settings) -> Self:
        """Return an instance for a server that the caller closes (``None``: everything stays in this process)."""
        if server is None:
            return cls(settings, use_redis=False, ttl=None, memory=None)
        memory = RedisMemoryService(server=server, default_ttl=settings.redis_memory_ttl, prefix=settings.prefix)
        return cls(settings, use_redis=True, ttl=None, memory=memory)

    def clearing_session(self, session_id: str) -> Doing:
        """Delete everything that agents keep of a session, including session data."""
        return Doing(
            lambda _: self.memory.clear_session(session_id), lambda _: self.async_memory.clear_session(session_id)
        )

    def transcript(self, agent_id: str, session_id: str, limit: int | None) -> Transcript:
        """Return an agent's transcript of a session, which keeps the last ``limit`` messages (``None``: all)."""
        check_id(agent_id, "agent id")
        check_id(session_id, "session id")
        most = _MOST_HELD if limit is None else check_count(limit, "max_history")
        key = (agent_id, session_id)
        if self.link is None:
            return Transcript(self._conversations.setdefault(key, SharedConversation(*key, most)), limit)
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
        conversation = self.link.shared(("history", *key), lambda: SharedConversation(*key, most))
        return Transcript(conversation, limit, self.link, store)
