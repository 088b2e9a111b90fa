"""redis-py's client with a short way for scripts: of a small one, redis-py's bookkeeping is most of the time.

``redis.Redis.execute_command`` makes about ninety calls of Python functions for one command: retries, metrics, the
pool, deprecated arguments. The first try here makes a dozen, on a connection that is open already. Where it has no
answer, or somebody listens to redis-py (tracing, its metrics), the command goes redis-py's way.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from copy import copy
from inspect import signature
from time import perf_counter, sleep
from types import FunctionType
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ecowas_lc.storage.multiplexing import LOST, UNSENT, CallQueue, SharedLine, ThreadCall

_FILES = (redis.client.__file__, redis.asyncio.client.__file__)


def _unless_wrapped(method: Any) -> Any:
    # Tracing (OpenTelemetry, Sentry, Datadog) puts itself in the place of this method.
    own = isinstance(method, FunctionType) and method.__code__.co_filename in _FILES
    return method if own else None


def _metrics() -> Any:
    # Tells redis-py's metrics, where they are on: they are OpenTelemetry's, and redis-py has them since 7.1.
    try:
        from redis.observability import providers
    except ImportError:
        return None
    return providers.get_observability_instance().get_provider_manager if providers.OTEL_AVAILABLE else None


# What is used of redis-py beside its API: of a pool, of a connection, and arguments of the connection's methods.
_NEEDED = (
    ("_checkpid", "pid", "get_connection", "release", "reset"),
    ("send_packed_command", "read_response", "disconnect", "health_check_interval"),
    {"read_response": "disable_decoding"},
)
_NEEDED_ASYNC = (
    ("can_get_connection", "ensure_connection", "get_connection", "release", "timeout"),
    (
        *("send_packed_command", "read_response", "disconnect", "is_connected", "socket_timeout"),
        *("_writer", "_parser", "_host_error"),
    ),
    {"read_response": "disable_decoding", "disconnect": "nowait"},
)


def _has(needed: tuple[Any, ...], pool: Any, connection: Any) -> bool:
    """Whether this redis-py has all that is needed of it; both are unused, and nothing is sent."""
    of_pool, of_connection, arguments = needed
    return (
        all(hasattr(pool, name) for name in of_pool)
        and all(hasattr(connection, name) for name in of_connection)
        and all(name in signature(getattr(connection, method)).parameters for method, name in arguments.items())
    )


def _may_be_used(needed: tuple[Any, ...], module: Any) -> bool:
    """Whether the short way can be gone with this redis-py; else its own clients are used, which are slower."""
    try:
        _metrics()
        return _has(needed, module.BlockingConnectionPool(), module.Connection())
    except Exception:  # whatever has been renamed
        return False


# Before 7, redis-py gives up where a connection breaks between its opening and its first answer.
_GREETS_ONCE = redis.__version__.startswith("6.")
_REDIS_PYS = _unless_wrapped(redis.Redis.execute_command)
_REDIS_PYS_ASYNC = _unless_wrapped(redis.asyncio.Redis.execute_command)
IS_USABLE = _may_be_used(_NEEDED, redis)
IS_USABLE_ASYNC = _may_be_used(_NEEDED_ASYNC, redis.asyncio)
_metrics_in_use = _metrics() if IS_USABLE and IS_USABLE_ASYNC else None
_SMALL_BYTES = 65_536  # what is larger has a connection of its own while it travels
_LINES_TRIED = 4
_TRIES = 2  # a connection that breaks takes more calls with it where they share it
# Threads of a server that answers within this time send for each other, one at a time. On longer ways, waiting for
# one another would cost more than connections do: each has its own there, as long as there are enough.
_NEAR_SECONDS = 0.0005
_PATIENCE_SECONDS = 0.01  # for one who sends, before another connection is taken


def _is_exhausted(error: Exception) -> bool:
    return "No connection available" in str(error)


class DirectPool(redis.BlockingConnectionPool):
    """redis-py's pool, with open connections at hand for :meth:`exchange`, and callers who send for each other.

    Connections at hand count as in use. Whoever asks the pool in redis-py's way puts them all back into it first,
    so that nobody waits for one that is idle.
    """

    def exchange(self, words: tuple[Any, ...]) -> Any:
        """The reply to a command, as bytes; ``LOST`` where the connection broke, whatever the server did with it.

        Raises:
            redis.exceptions.RedisError: the reply is an error, or there is no connection, or no answer in time.
        """
        if os.getpid() != self.pid:
            self._checkpid()
        try:
            packed = hiredis.pack_command(words)
        except TypeError as error:
            raise DataError(str(error)) from error
        call, queue = ThreadCall(packed), self._queue
        if len(packed) > _SMALL_BYTES:
            self._send((call,))
        elif queue.enter(call) or self._is_to_send(call, queue):
            try:
                self._send((call,), queue)
            finally:
                queue.leave()
        reply = call.reply
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _is_to_send(self, call: ThreadCall, queue: CallQueue) -> bool:
        """Wait until another thread has read this call's reply, or this one is to send."""
        try:
            if not call.woken.acquire(timeout=_PATIENCE_SECONDS):
                # Who sends waits for something long: another connection, where there is one.
                if (self._at_hand or not self.pool.empty()) and queue.withdraw(call, sends=True):
                    return True
                if not call.woken.acquire(timeout=self.timeout):
                    if queue.withdraw(call):
                        raise RedisConnectionError("No connection available.")
                    call.woken.acquire()  # it was sent, and its sender has a timeout
        except BaseException:
            if not queue.withdraw(call) and call.is_senders:
                queue.leave()
            raise
        return call.is_senders

    def _send(self, calls: Sequence[ThreadCall], queue: CallQueue | None = None) -> None:
        """Send a call, with all that wait in the queue, and give each its reply."""
        try:
            connection = self._at_hand.pop()
        except IndexError:
            try:
                connection = self.get_connection()
            except RedisConnectionError as error:
                if _is_exhausted(error) or not _GREETS_ONCE:
                    raise
                calls[0].reply = LOST
                return
        answered = 0
        failure: Any = LOST
        try:
            if queue is not None:
                if calls[0].is_senders:
                    sleep(0)  # threads that are about to have something to send get it ready
                calls = queue.take(calls[0])
            packed = calls[0].packed if len(calls) == 1 else b"".join([call.packed for call in calls])
            begun = perf_counter()
            connection.send_packed_command((packed,), connection.health_check_interval)
            for call in calls:
                try:
                    call.reply = connection.read_response(disable_decoding=True)
                except ResponseError as error:
                    call.reply = error
                answered += 1
                if call.woken is not None:
                    call.woken.release()
            if perf_counter() - begun < _NEAR_SECONDS:
                self._queue.most = 1
        except RedisConnectionError:
            pass
        except RedisTimeoutError as error:
            failure = error
        finally:
            if answered < len(calls):
                self._queue.most = self.max_connections  # until it is known how far the next one is
                self._fail(calls[answered:], failure)
                connection.disconnect()
            self._at_hand.append(connection)
            if self._asking:  # after it: either this sees who asks, or who asks sees the connection
                self._give_back()

    def _fail(self, calls: Sequence[ThreadCall], failure: Any) -> None:
        for call in calls:
            call.reply = _another_of(failure) if isinstance(failure, Exception) else failure
            if call.woken is not None:
                call.woken.release()

    def get_connection(self, *names: Any, **options: Any) -> Any:
        """A connection that is open and has nothing to say."""
        self._checkpid()
        asking = self._asking
        asking.append(None)
        try:
            self._give_back()
            return super().get_connection(*names, **options)
        finally:
            asking.pop()

    def reset(self) -> None:
        """Begin anew, in a process that was forked too: the connections there are its parent's."""
        self._at_hand: list[Any] = []
        self._queue = CallQueue(self.max_connections)
        self._asking: list[None] = []  # one for each who does: a list counts without a lock
        super().reset()

    def _give_back(self) -> None:
        while self._at_hand:
            try:
                connection = self._at_hand.pop()
            except IndexError:  # somebody was faster
                return
            self.release(connection)


class DirectClient(redis.Redis):
    """``redis.Redis`` on a :class:`DirectPool`."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """The reply to a command; a script's as bytes."""
        if (
            words[0] != "EVALSHA"
            or redis.Redis.execute_command is not _REDIS_PYS
            or (_metrics_in_use is not None and _metrics_in_use() is not None)
        ):
            return super().execute_command(*words, **options)
        pool: Any = self.connection_pool
        # An old connection that the server has closed: a new one. A server that is gone: redis-py's retries.
        for _ in range(_TRIES):
            reply = pool.exchange(words)
            if reply is not LOST:
                return reply
        return super().execute_command(*words, **options)


class AsyncDirectPool(redis.asyncio.BlockingConnectionPool):
    """The same for asyncio: small commands of all callers share a connection, see :mod:`.multiplexing`.

    What was used is at hand, and who waits gets it from whoever had it, first come first. redis-py's pool is left
    to make connections: none that is idle ever goes back to it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._at_hand: list[Any] = []
        self._waiters: deque[asyncio.Future[Any]] = deque()
        self._line: SharedLine | None = None  # that takes calls; others finish what was sent on them
        self._lines: dict[Any, SharedLine] = {}  # by connection, of those that redis-py does not read from
        self._opening: list[asyncio.Future[Any]] | None = None  # those who wait while one of them opens a line
        self._checks_health = bool(options.get("health_check_interval"))

    async def exchange(self, words: tuple[Any, ...]) -> Any:
        """The reply to a command; see :meth:`DirectPool.exchange`."""
        try:
            packed = hiredis.pack_command(words)
        except TypeError as error:
            raise DataError(str(error)) from error
        if len(packed) > _SMALL_BYTES or self._checks_health:
            return await self._exchange_alone(packed)
        for _ in range(_LINES_TRIED):
            line = self._line
            if line is None or self._waiters or (line.is_behind_a_long_reply and self._has_another()):
                line = await self._next_line()
                if line is None:
                    return LOST
            reply = await line.ask(packed)
            if reply is not UNSENT:
                if isinstance(reply, Exception):
                    raise reply
                return reply
        return LOST

    async def _exchange_alone(self, packed: bytes) -> Any:
        try:
            connection = await self._one()
        except RedisConnectionError as error:
            if _is_exhausted(error) or not _GREETS_ONCE:
                raise
            return LOST
        owes_nothing = False
        try:
            await connection.send_packed_command((packed,))
            reply = await connection.read_response(disable_decoding=True)
            owes_nothing = True
            return reply
        except ResponseError:
            owes_nothing = True
            raise
        except RedisConnectionError:
            return LOST
        finally:
            try:
                if not owes_nothing:
                    await connection.disconnect(nowait=True)
            finally:
                self._hand_on(connection)

    async def get_connection(self, *names: Any, **options: Any) -> Any:
        """A connection that is open and has nothing to say."""
        connection = await self._one()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Give a connection back."""
        self._hand_on(connection)

    async def _one(self) -> Any:
        """A connection for one caller alone."""
        if self._at_hand:
            connection = self._at_hand.pop()
        elif self._line is not None and self._line.is_idle:
            connection = self._withdrawn(self._line)
        else:
            connection = await self._another()
        if line := self._lines.pop(connection, None):
            try:
                await line.detach()
            except BaseException:
                self._hand_on(connection)
                raise
        return connection

    async def _next_line(self) -> SharedLine | None:
        """The line for calls to come, opened by one caller for all; ``None`` where a connection broke instead."""
        loop = asyncio.get_running_loop()
        until = None if self.timeout is None else loop.time() + self.timeout
        while self._opening is not None:
            follower = loop.create_future()
            self._opening.append(follower)
            opened = await follower
            if isinstance(opened, Exception):
                raise _another_of(opened)
            if opened is not UNSENT:
                return opened  # type: ignore[no-any-return]
            if self._line is not None and not self._waiters:
                return self._line
        self._opening = []
        found: Any = UNSENT  # for the others where this task is cancelled: one of them does it
        try:
            found = await self._open_line(until)
        except RedisConnectionError as error:
            if _is_exhausted(error):
                raise
            found = None if _GREETS_ONCE else error
            if found is not None:
                raise
        except Exception as error:
            found = error
            raise
        finally:
            followers, self._opening = self._opening, None
            for follower in followers:
                if not follower.done():
                    follower.set_result(found)
        return found  # type: ignore[no-any-return]

    async def _open_line(self, until: float | None) -> SharedLine | None:
        connection = self._at_hand.pop() if self._at_hand else await self._another(until)
        line = self._lines.get(connection)
        if line is None or not line.takes_calls or not connection.is_connected:
            try:
                if line is not None:
                    del self._lines[connection]
                    await line.detach()
                # An end that the server has sent already would not be said to the line again.
                await self.ensure_connection(connection)
                line = SharedLine(connection, self._line_changed)
            except RedisConnectionError:
                self._hand_on(connection)
                return None
            except BaseException:
                self._hand_on(connection)
                raise
            self._lines[connection] = line
        line.is_lent = True
        before, self._line = self._line, line
        if before is not None:
            self._line_changed(before)
        return line

    def _line_changed(self, line: SharedLine) -> None:
        """Hand on the connection of a line that has done its work, where it is not the one for calls to come."""
        if not line.is_lent:
            return
        if line is self._line:
            if line.takes_calls and not (self._waiters and line.is_idle):
                return
            self._line = None
        if line.is_idle:
            line.is_lent = False
            self._hand_on(line.connection)

    def _withdrawn(self, line: SharedLine) -> Any:
        self._line, line.is_lent = None, False
        return line.connection

    def _has_another(self) -> bool:
        return bool(self._at_hand) or self.can_get_connection()

    async def _another(self, until: float | None = None) -> Any:
        # Nothing in there waits before it has taken its place among those in use: two can't take the same one.
        if not self._waiters and self.can_get_connection():
            return await super().get_connection()
        loop = asyncio.get_running_loop()
        if until is None and self.timeout is not None:
            until = loop.time() + self.timeout
        waiter = loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                try:
                    return await waiter
                except asyncio.CancelledError:
                    if waiter.done() and not waiter.cancelled():
                        self._hand_on(waiter.result())
                    raise
        except TimeoutError:
            raise RedisConnectionError("No connection available.") from None

    def _hand_on(self, connection: Any) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._at_hand.append(connection)


def _another_of(error: Exception) -> Exception:
    """Return an error like this one for a caller of its own: raising one object twice mixes their tracebacks."""
    try:
        like = copy(error)
    except Exception:
        return error
    like.__cause__ = error.__cause__ or error
    return like


class AsyncDirectClient(redis.asyncio.Redis):
    """``redis.asyncio.Redis`` on an :class:`AsyncDirectPool`."""

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """The reply to a command; a script's as bytes."""
        if (
            words[0] != "EVALSHA"
            or redis.asyncio.Redis.execute_command is not _REDIS_PYS_ASYNC
            or (_metrics_in_use is not None and _metrics_in_use() is not None)
        ):
            return await super().execute_command(*words, **options)
        pool: Any = self.connection_pool
        for _ in range(_TRIES):
            reply = await pool.exchange(words)
            if reply is not LOST:
                return reply
        return await super().execute_command(*words, **options)


def make_client(**options: Any) -> redis.Redis:
    """Return a client with a pool of these options: by the short way where this redis-py has it, else its own."""
    if IS_USABLE:
        return DirectClient.from_pool(DirectPool(**options))
    return redis.Redis.from_pool(redis.BlockingConnectionPool(**options))


def make_async_client(**options: Any) -> redis.asyncio.Redis:
    """Return a client for the running event loop; see :func:`make_client`."""
    if IS_USABLE_ASYNC:
        return AsyncDirectClient.from_pool(AsyncDirectPool(**options))
    return redis.asyncio.Redis.from_pool(redis.asyncio.BlockingConnectionPool(**options))
