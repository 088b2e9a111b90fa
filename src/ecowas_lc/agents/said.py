"""What one process knows of a conversation, and which of it may not be on the server."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from langchain_core.messages import BaseMessage

from ecowas_lc.agents.link import Link
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.supervisor.programs import Doing, Program, run

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
