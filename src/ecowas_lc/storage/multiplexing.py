"""Sending calls together that are ready at the same moment: those of an event loop's tasks, and those of threads.

A server answers the commands of a connection in the order in which they were sent, so the first reply belongs to
the first call. A task's call that is cancelled or late keeps its place in the line, and its reply is discarded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ecowas_lc import forks

LOST: Any = object()  # sent, but the connection broke before the reply: the command may have been executed
UNSENT: Any = object()  # not sent, because the connection broke or was needed by others
# After a reply longer than this, the next calls go to another connection.
_LONG_BYTES = 65_536
_NOTHING: Any = object()
# With at most this many calls in the last flush and in the queue, the next flush does not wait for more calls:
# waiting would take longer than a flush of their own.
_FEW_CALLS = 4


class SharedLine(asyncio.Protocol):
    """A redis-py asyncio connection that carries many calls at once while it is lent to this object.

    Until :meth:`detach` it replaces redis-py's stream, which reads nothing in the meantime. ``on_change`` is
    called with this object when it becomes idle, and when it stops taking calls.
    """

    def __init__(self, connection: Any, on_change: Callable[[SharedLine], None]) -> None:
        self.connection = connection
        self.takes_calls = True
        self.is_broken = False
        # If not, its connection is free for others, and a caller that still knows it comes late.
        self.is_lent = True
        self.is_behind_a_long_reply = False
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._timeout: float | None = connection.socket_timeout
        self._sent: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._watch: asyncio.TimerHandle | None = None
        self._received = 0  # bytes of an incomplete reply
        # A primary that Sentinel has replaced is a replica: its calls are made again at the new primary.
        self._elsewhere: Any = (RedisConnectionError,)
        if hasattr(connection, "connection_pool"):
            self._elsewhere = RedisConnectionError, ReadOnlyError
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_NOTHING
        )
        self._transport: Any = connection._writer.transport
        self._stream: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def is_idle(self) -> bool:
        """Whether no call is in progress, including cancelled ones."""
        return not self._sent and not self._unsent

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a command: at once if the line is idle, else together with all calls that are ready at this moment.

        The result is the reply (which may be an error), a timeout error, ``LOST`` or ``UNSENT``.
        """
        future = self._loop.create_future()
        if not self.takes_calls or not self.is_lent:
            future.set_result(UNSENT)
        elif self._unsent:
            self._unsent.append((packed, future))
        elif self._sent:
            self._unsent.append((packed, future))
            self._loop.call_soon(self._flush)
        else:
            self._send(packed, (future,))
        return future

    def ask_all(self, packed: list[bytes]) -> list[asyncio.Future[Any]]:
        """Send several commands of one caller, in order and in one flush; see :meth:`ask`."""
        if self.is_idle and self.takes_calls and self.is_lent:
            futures = [self._loop.create_future() for _ in packed]
            self._send(b"".join(packed), futures)
            return futures
        return [self.ask(each) for each in packed]

    def retire(self) -> None:
        """Take no more calls, and give up the connection once it is idle."""
        if self.takes_calls:
            self.takes_calls = False
            self._on_change(self)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        waiting = [(packed, future) for packed, future in unsent if not future.done()]
        if waiting:
            self._send(b"".join([packed for packed, _ in waiting]), [future for _, future in waiting])
        elif not self._sent:
            self._on_change(self)

    def _send(self, data: bytes, futures: Any) -> None:
        deadline = self._loop.time() + self._timeout if self._timeout else 0.0
        self._sent.extend([(future, deadline) for future in futures])
        if self._watch is None and self._timeout:
            self._watch = self._loop.call_at(deadline, self._look)
        try:
            self._transport.write(data)
        except RuntimeError:  # uvloop's transport raises this if it is closed
            self.give_up(LOST)

    def _look(self) -> None:
        """Time out calls that have waited too long, and close the connection if only such calls are left."""
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
            self.retire()
            if self._watch is None:
                self.give_up(LOST)

    def give_up(self, result: Any) -> None:
        """Close the connection. Calls in progress get this result; calls that were not sent get ``UNSENT``."""
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
        """Return the connection to redis-py, unchanged or closed."""
        if self._watch is not None:
            self._watch.cancel()
        if self.is_broken or not self.takes_calls or not self.is_idle:
            self.give_up(LOST)
            await self.connection.disconnect(nowait=True)
        else:
            self.takes_calls = False
            self._transport.set_protocol(self._stream)

    # --- called by the event loop ---

    def data_received(self, data: bytes) -> None:
        """Pass the replies to the waiting calls, in order."""
        if self.is_broken:
            return
        reader, sent, is_refused, is_replica = self._reader, self._sent, False, False
        try:
            reader.feed(data)
            while (reply := reader.gets(False)) is not _NOTHING:
                future, _ = sent.popleft()
                self._received = 0
                if not future.done():
                    if isinstance(reply, self._elsewhere):
                        # The server is loading, or requires a login: redis-py's retries handle both.
                        is_refused = True
                        is_replica = is_replica or isinstance(reply, ReadOnlyError)
                        reply = LOST
                    future.set_result(reply)
                data = b""
        except (InvalidResponse, IndexError) as error:  # not Redis' protocol, or an unexpected answer
            first = sent.popleft()[0] if sent else None
            if first is not None and not first.done():
                first.set_result(InvalidResponse(str(error)))
            self.give_up(LOST)
            return
        self._received += len(data)
        self.is_behind_a_long_reply = self._received > _LONG_BYTES
        if is_refused:
            self.retire()
        if is_replica:
            self.connection.connection_pool.forget()
        if not sent and not self._unsent:
            if not self.takes_calls:
                self.give_up(LOST)
            else:
                self._on_change(self)

    def eof_received(self) -> bool:
        """Stop taking calls, because the server has closed its end."""
        self.retire()
        self._stream.eof_received()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Notify the waiting calls and redis-py's stream."""
        self.give_up(LOST)
        self._stream.connection_lost(error)

    def pause_writing(self) -> None:
        """Notify redis-py's stream."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Notify redis-py's stream."""
        self._stream.resume_writing()


class ThreadCall:
    """A command of one thread, which another thread may send.

    ``reply`` is the reply, an error or ``LOST``; until then it is ``UNSENT``.
    """

    __slots__ = ("count", "is_senders", "packed", "reply", "woken")

    def __init__(self, packed: Any, count: int = 0) -> None:
        self.packed = packed  # bytes, or a list of bytes that is sent alone
        self.count = count  # of commands, if the reply is a list with theirs
        self.reply: Any = UNSENT
        self.is_senders = False  # whether its thread must send, for all waiting threads
        self.woken: Any = None  # locked until the reply is known or its thread must send; None if it does not wait


class CallQueue:
    """The calls of threads that wait while others send. After sending, the longest waiting thread sends next.

    ``most``: how many threads may send at the same time, each on its own connection.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._calls: deque[ThreadCall] = deque()
        self._senders = 0
        self._sent = 0  # calls in the last flush

    def forget_parent(self) -> None:
        """Start empty in a forked child, where no other thread sends or waits."""
        self._begin()

    def enter(self, call: ThreadCall) -> bool:
        """Return whether this call's thread must send; if not, the call waits in the queue."""
        with self._mutex:
            if self._senders < self.most:
                self._senders += 1
                return True
            held = threading.Lock()
            held.acquire()
            call.woken = held
            self._calls.append(call)
            return False

    def is_busy(self) -> bool:
        """Return whether many calls are waiting or were sent last, so that more are likely to follow."""
        return len(self._calls) + self._sent > _FEW_CALLS

    def take(self, first: ThreadCall) -> list[ThreadCall]:
        """Return the calls to send: this one and all waiting ones."""
        if not self._calls:  # one that joins only now is sent by its own thread
            self._sent = 1
            return [first]
        with self._mutex:
            calls = [first, *self._calls]
            self._calls.clear()
        self._sent = len(calls)
        return calls

    def leave(self) -> None:
        """Stop sending; if threads wait, the one that has waited longest sends next."""
        with self._mutex:
            if not self._calls:
                self._senders -= 1
                return
            call = self._calls.popleft()
            call.is_senders = True
        call.woken.release()

    def withdraw(self, call: ThreadCall, *, sends: bool = False) -> bool:
        """Take a call out of the queue and return whether it was in it; with ``sends`` its thread will send."""
        with self._mutex:
            if call not in self._calls:
                return False
            self._calls.remove(call)
            self._senders += sends
            return True
