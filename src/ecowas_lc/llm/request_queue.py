"""A queue in front of a model server, so that waiting in line is not mistaken for a slow answer.

Ollama answers ``OLLAMA_NUM_PARALLEL`` requests at a time (one by default) and silently queues the others. It does
not report this number, so the queue starts with one request, occasionally tries one more, and learns from whether
that one was answered at the same time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ecowas_lc import forks

MOST_AT_ONCE = 16
"""Maximum number of requests sent at once; a server that answers more has a queue of its own."""

_POLL_SECONDS = 0.25
_IDLE_SECONDS = 1.0
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 30.0, 600.0
_TOLERATED_WAIT, _TOLERATED_SHARE = 0.01, 0.1
_BEYOND_BUFFERS = 0.05  # seconds; a part that arrives this much later was not already buffered


class Patience:
    """A clock for how long an answer may take, which is paused while the request waits in the queue."""

    def __init__(self, seconds: float | None, changed: Callable[[], None] | None = None) -> None:
        self.seconds = seconds
        self._changed = changed
        self._spent = 0.0
        self._since: float | None = time.monotonic()
        self._pauses = 0
        self._lock = forks.Lock()

    @property
    def left(self) -> float | None:
        """Seconds left; ``None`` while the clock is paused or if there is no limit."""
        with self._lock:
            if self.seconds is None or self._since is None:
                return None
            return self.seconds - self._spent - (time.monotonic() - self._since)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        left = self.left
        return left is not None and left <= 0

    def pause(self) -> None:
        """Stop the clock; each pause needs its :meth:`resume`."""
        with self._lock:
            self._pauses += 1
            if self._since is not None:
                self._spent += time.monotonic() - self._since
                self._since = None
        if self._changed:
            self._changed()

    def resume(self) -> None:
        """Let the clock run again."""
        with self._lock:
            self._pauses -= 1
            if not self._pauses:
                self._since = time.monotonic()
        if self._changed:
            self._changed()


patience: ContextVar[Patience | None] = ContextVar("patience", default=None)
"""The clock of the answer that is being produced in this context."""


@dataclass(eq=False, slots=True)
class QueuedRequest:
    """One request, from joining the queue to the end of its answer."""

    line: RequestQueue
    clocks: tuple[Patience, ...]
    wake: Callable[[], None]
    owner: object
    is_probe: bool = False
    companions: frozenset[QueuedRequest] = frozenset()
    admitted: bool = False
    heard_at: float | None = None
    ended_at: float | None = None
    _handed_at: float | None = None
    _paused: bool = False

    @property
    def ahead(self) -> int:
        """Number of our requests that the server may answer before this one."""
        return len(self.companions) if self.is_probe else 0

    def heard(self) -> None:
        """Note that the server has sent a part of the answer."""
        if self.heard_at is None:
            self.heard_at = time.monotonic()
            self.line.begun(self)
        else:
            self.line.going_on(self)

    def handed(self) -> None:
        """Note that the reader has the answer so far; its reading time does not count."""
        self._handed_at = time.monotonic()

    def taken(self) -> None:
        """Note that the reader wants more."""
        self._handed_at = None

    def is_idle(self, now: float) -> bool:
        """Return whether the reader has paused for long, while the server keeps writing."""
        return self._handed_at is not None and now - self._handed_at > _IDLE_SECONDS

    def pause(self) -> None:
        """Pause the clocks for this turn."""
        if not self._paused:
            self._paused = True
            for clock in self.clocks:
                clock.pause()

    def resume(self) -> None:
        """Resume the clocks: the server is working on this request."""
        if self._paused:
            self._paused = False
            for clock in self.clocks:
                clock.resume()


@dataclass(eq=False)
class RequestQueue:
    """The queue of this process's requests for one model on one server.

    Args:
        fixed: Number of requests that the server answers at once, if known.
    """

    fixed: int | None = None
    limit: int = 1
    _running: list[QueuedRequest] = field(default_factory=list)
    _waiting: deque[QueuedRequest] = field(default_factory=deque)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _rest_until: float = 0.0
    _rest: float = _FIRST_REST_SECONDS

    def __post_init__(self) -> None:
        if self.fixed is not None:
            self.limit = self.fixed
        forks.register(self)

    def forget_parent(self) -> None:
        """Start with an empty queue after a fork: turns held by the parent's threads never end here."""
        self._lock = threading.RLock()
        self._running = []
        self._waiting = deque()

    @contextmanager
    def held(self, *clocks: Patience) -> Generator[QueuedRequest]:
        """Hold a turn, waiting for it in this thread."""
        woken = threading.Event()
        turn = QueuedRequest(self, clocks, woken.set, threading.get_ident())
        self._enter(turn)
        try:
            while not turn.admitted:
                woken.wait(_POLL_SECONDS)
                self._advance()
            yield turn
        finally:
            self._leave(turn)

    @asynccontextmanager
    async def aheld(self, *clocks: Patience) -> AsyncGenerator[QueuedRequest]:
        """Hold a turn, waiting for it in this task."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        turn = QueuedRequest(self, clocks, wake, asyncio.current_task())
        self._enter(turn)
        try:
            while not turn.admitted:
                try:
                    async with asyncio.timeout(_POLL_SECONDS):
                        await woken.wait()
                except TimeoutError:
                    self._advance()
            yield turn
        finally:
            self._leave(turn)

    def learn(self, turn: QueuedRequest, waited: float | None, worked: float = 0.0) -> None:
        """Learn from a finished request how many seconds the server let it wait and worked on it."""
        if self.fixed is not None:
            return
        with self._lock:
            at_once = waited is not None and waited <= max(_TOLERATED_WAIT, _TOLERATED_SHARE * worked)
            was_probe, turn.is_probe = turn.is_probe, False
            if turn.heard_at is None or not turn.companions:
                pass  # it failed, or no request was ahead of it: nothing to learn
            elif was_probe and at_once:
                # Without a wait it proves something only if the server had it before the others' answers ended.
                received_at = time.monotonic() - (waited or 0.0) - worked + _BEYOND_BUFFERS
                if all(other.ended_at is None or received_at < other.ended_at for other in turn.companions):
                    self._widen(turn)
            elif was_probe or not (at_once or waited is None):
                self.limit = max(min(self.limit, len(turn.companions)), 1)
                self._rest_until = time.monotonic() + self._rest
                self._rest = min(self._rest * 2, _LONGEST_REST_SECONDS)
        self._advance()

    def begun(self, turn: QueuedRequest) -> None:
        """Note that the server has started to answer a request."""
        turn.resume()
        self._advance()

    def going_on(self, turn: QueuedRequest) -> None:
        """Note that an answer is still being written: answers that started after it run at the same time."""
        if self.fixed is not None or not any(other.is_probe for other in self._running):
            return
        now = time.monotonic()
        with self._lock:
            proven = [
                other
                for other in self._running
                if other.is_probe
                and turn in other.companions
                and other.heard_at is not None
                and now - other.heard_at > _BEYOND_BUFFERS
            ]
            for other in proven:
                self._widen(other)
                other.is_probe = False
        if proven:
            self._advance()

    def _widen(self, turn: QueuedRequest) -> None:
        self.limit = min(max(self.limit, len(turn.companions) + 1), MOST_AT_ONCE)
        self._rest = _FIRST_REST_SECONDS

    def _enter(self, turn: QueuedRequest) -> None:
        turn.pause()
        with self._lock:
            self._waiting.append(turn)
        self._advance()

    def _leave(self, turn: QueuedRequest) -> None:
        turn.resume()
        turn.ended_at = time.monotonic()
        with self._lock:
            if turn in self._running:
                self._running.remove(turn)
            elif turn in self._waiting:
                self._waiting.remove(turn)
        self._advance()

    def _advance(self) -> None:
        """Admit the requests that may start, and resume the clocks of those that the server must be answering."""
        admitted: list[QueuedRequest] = []
        alone: list[QueuedRequest] = []
        with self._lock:
            now = time.monotonic()
            # A task that asks again while it still reads an answer would otherwise wait for itself.
            for turn in [t for t in self._waiting if any(t.owner == held.owner for held in self._running)]:
                self._waiting.remove(turn)
                self._admit(turn)
                admitted.append(turn)
            while self._waiting:
                busy = [turn for turn in self._running if not turn.is_idle(now)]
                if len(busy) >= self.limit:
                    if not self._may_probe(busy, now):
                        break
                    self._waiting[0].is_probe = True
                turn = self._waiting.popleft()
                turn.companions = frozenset(busy)
                self._admit(turn)
                admitted.append(turn)
            alone = [
                turn
                for turn in self._running
                if turn.is_probe and turn.heard_at is None and not any(c in self._running for c in turn.companions)
            ]
        for turn in (*admitted, *alone):
            if not turn.is_probe or turn in alone:
                turn.resume()
        for turn in admitted:
            turn.wake()

    def _admit(self, turn: QueuedRequest) -> None:
        self._running.append(turn)
        turn.admitted = True

    def _may_probe(self, busy: list[QueuedRequest], now: float) -> bool:
        return (
            self.fixed is None
            and self.limit < MOST_AT_ONCE
            and len(busy) == self.limit
            and now >= self._rest_until
            and all(turn.heard_at is not None and not turn.is_probe for turn in busy)
        )


_lines: dict[tuple[str, str], RequestQueue] = {}
_lines_lock = forks.Lock()


def line_for(address: str, model: str, fixed: int | None = None) -> RequestQueue:
    """Return this process's queue for a model on a server."""
    with _lines_lock:
        line = _lines.get((address, model))
        if line is None or line.fixed != fixed:
            line = _lines[(address, model)] = RequestQueue(fixed)
        return line


def forget_lines() -> None:
    """Discard all queues, as in a new process."""
    with _lines_lock:
        _lines.clear()
