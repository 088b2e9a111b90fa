"""One connection for all the calls of an event loop that wait at the same time, and their replies in order.

Calls that are ready in the same moment are sent together. A server answers a connection's commands in the order in
which they were sent, so the first reply belongs to the call that has waited longest. A call that is cancelled or
late leaves its place in the queue, so that its reply, when it arrives, goes to nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

LOST: Any = object()  # sent, and its connection broke before the reply: the server may have done it or not
UNSENT: Any = object()  # its connection broke, or was wanted by others, before it was sent
# A reply that is longer than this makes the next calls go to another connection.
_LONG_BYTES = 65_536
_NOTHING: Any = object()


class SharedLine(asyncio.Protocol):
    """A connection of redis-py's for asyncio, which carries many calls at once while it is lent to this object.

    It stands between the transport and redis-py's stream from :meth:`attach` to :meth:`detach`; in between, redis-py
    reads nothing from it. ``on_change`` is called with this object when nothing is under way on it any more, and
    when it takes no more calls.
    """

    def __init__(self, connection: Any, on_change: Callable[[SharedLine], None]) -> None:
        self.connection = connection
        self.takes_calls = True
        self.is_broken = False
        self.is_lent = True  # else its connection is at hand for others
        self.is_behind_a_long_reply = False
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._timeout: float | None = connection.socket_timeout
        self._sent: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._watch: asyncio.TimerHandle | None = None
        self._received = 0  # of a reply that is not complete
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_NOTHING
        )
        self._transport: Any = connection._writer.transport
        self._stream: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, cancelled ones included."""
        return not self._sent and not self._unsent

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a command: at once where nothing is under way, else with all others that are ready in this moment.

        The result is the reply, an error of Redis among them, or an error that is no answer; ``LOST`` or ``UNSENT``.
        """
        future = self._loop.create_future()
        if not self.takes_calls:
            future.set_result(UNSENT)
        elif self._unsent:
            self._unsent.append((packed, future))
        elif self._sent:
            self._unsent.append((packed, future))
            self._loop.call_soon(self._flush)
        else:
            self._send(packed, (future,))
        return future

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        waiting = [(packed, future) for packed, future in unsent if not future.done()]
        if not waiting:
            if not self._sent:
                self._on_change(self)
        elif self.is_broken:
            for _, future in waiting:
                future.set_result(UNSENT)
        else:
            self._send(b"".join([packed for packed, _ in waiting]), [future for _, future in waiting])

    def _send(self, data: bytes, futures: Any) -> None:
        deadline = self._loop.time() + self._timeout if self._timeout else 0.0
        self._sent.extend([(future, deadline) for future in futures])
        if self._watch is None and self._timeout:
            self._watch = self._loop.call_at(deadline, self._look)
        try:
            self._transport.write(data)
        except RuntimeError:  # it is closed, says uvloop's
            self.give_up(LOST)

    def _look(self) -> None:
        """Give up on calls that have waited too long, and on the connection once nobody waits for it in vain."""
        self._watch = None
        if not self._sent:
            return
        now = self._loop.time()
        is_late = False
        for future, deadline in self._sent:
            if deadline > now:
                self._watch = self._loop.call_at(deadline, self._look)
                break
            is_late = True
            if not future.done():
                future.set_result(RedisTimeoutError(f"Timeout reading from {self.connection._host_error()}"))
        if is_late:
            self._retire()
            if self._watch is None:
                self.give_up(LOST)

    def _retire(self) -> None:
        if self.takes_calls:
            self.takes_calls = False
            self._on_change(self)

    def give_up(self, result: Any) -> None:
        """Close the connection. Calls under way get this result, those that were not sent ``UNSENT``."""
        if self.is_broken:
            return
        self.is_broken, self.takes_calls = True, False
        self._transport.abort()
        sent, self._sent = self._sent, deque()
        unsent, self._unsent = self._unsent, []
        for future, _ in sent:
            if not future.done():
                future.set_result(result)
        for _, future in unsent:
            if not future.done():
                future.set_result(UNSENT)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._on_change(self)

    async def detach(self) -> None:
        """Give the connection back to redis-py: as it was, or closed."""
        if self._watch is not None:
            self._watch.cancel()
        if self.is_broken or not self.takes_calls or not self.is_idle:
            self.give_up(LOST)
            await self.connection.disconnect(nowait=True)
        else:
            self._transport.set_protocol(self._stream)

    # --- what the event loop calls ---

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait for them, in order."""
        if self.is_broken:
            return
        reader, sent, is_refused = self._reader, self._sent, False
        try:
            reader.feed(data)
            while (reply := reader.gets(False)) is not _NOTHING:
                future, _ = sent.popleft()
                self._received = 0
                if not future.done():
                    if isinstance(reply, RedisConnectionError):
                        is_refused = (
                            True  # it loads its data, or wants another login: redis-py's retries are for both
                        )
                        reply = LOST
                    future.set_result(reply)
                data = b""
        except (InvalidResponse, IndexError) as error:  # not Redis' protocol, or an answer that nobody asked for
            first = sent.popleft()[0] if sent else None
            if first is not None and not first.done():
                first.set_result(InvalidResponse(str(error)))
            self.give_up(LOST)
            return
        self._received += len(data)
        self.is_behind_a_long_reply = self._received > _LONG_BYTES
        if is_refused:
            self._retire()
        if not sent and not self._unsent:
            if not self.takes_calls:
                self.give_up(LOST)
            else:
                self._on_change(self)

    def eof_received(self) -> bool:
        """Take no more calls: the server has closed its end."""
        self._retire()
        self._stream.eof_received()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell those who wait, and redis-py's stream."""
        self.give_up(LOST)
        self._stream.connection_lost(error)

    def pause_writing(self) -> None:
        """Tell redis-py's stream."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Tell redis-py's stream."""
        self._stream.resume_writing()
