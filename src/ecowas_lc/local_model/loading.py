"""The queue of requests for the model, and the context with which it is loaded; a single queue, as in Ollama.

The weights stay in memory. Loading is only recorded, so that requests for different contexts wait for each other
and appear in ``/api/ps`` as in Ollama.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from ecowas_lc.local_model.protocol import TRAINED_TOKENS, RefusedError

MAX_QUEUE = 512
"""Maximum number of waiting requests, as in Ollama (``OLLAMA_MAX_QUEUE``)."""


@dataclass(slots=True)
class _Waiting:
    num_ctx: int
    turn: asyncio.Future[bool]


@dataclass(slots=True)
class Loading:
    """The queue for the model.

    Args:
        slots: The maximum number of answers at the same time.
        load_seconds: How long loading takes.
        max_queue: The maximum number of waiting requests.
    """

    slots: int
    load_seconds: float = 0.0
    max_queue: int = MAX_QUEUE
    loads: int = 0
    """The number of times that the model was loaded."""
    _num_ctx: int | None = None
    _expires: float | None = None  # by the monotonic clock; None: never
    _running: int = 0
    _line: deque[_Waiting] = field(default_factory=deque)

    @property
    def loaded(self) -> tuple[int, float | None] | None:
        """Return the context that the model is loaded with and its remaining seconds (``None``: forever)."""
        if self._num_ctx is None:
            return None
        if self._expires is None:
            return self._num_ctx, None
        left = self._expires - time.monotonic()
        if left <= 0 and not self._running:
            self._num_ctx = None
            return None
        return self._num_ctx, max(left, 0.0)

    @asynccontextmanager
    async def held(self, num_ctx: int, keep_seconds: float | None) -> AsyncGenerator[float]:
        """Hold a slot with the model loaded for ``num_ctx``; yield the seconds that loading took.

        Raises:
            RefusedError: 503, too many requests are waiting.
        """
        if len(self._line) >= self.max_queue:
            raise RefusedError(503, "server busy, please try again.  maximum pending requests exceeded")
        waiting = _Waiting(num_ctx, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._advance()
        try:
            must_load = await waiting.turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._line.remove(waiting)
            if waiting.turn.done() and not waiting.turn.cancelled():
                self._leave(keep_seconds)
            raise
        try:
            if must_load:
                await asyncio.sleep(self.load_seconds)
            yield self.load_seconds if must_load else 0.0
        finally:
            self._leave(keep_seconds)

    def unload(self) -> None:
        """Unload the model once no request needs it."""
        self._expires = time.monotonic()

    def _advance(self) -> None:
        while self._line:
            first = self._line[0]
            if first.turn.done():
                self._line.popleft()
                continue
            loaded = self.loaded
            is_same = loaded is not None and loaded[0] == first.num_ctx
            together = min(self.slots, max(TRAINED_TOKENS // first.num_ctx, 1))
            if self._running and not (is_same and self._running < together):
                return
            self._line.popleft()
            self._running += 1
            if not is_same:
                self._num_ctx, self._expires = first.num_ctx, None
                self.loads += 1
            first.turn.set_result(not is_same)

    def _leave(self, keep_seconds: float | None) -> None:
        self._running -= 1
        self._expires = None if keep_seconds is None else time.monotonic() + keep_seconds
        self._advance()
