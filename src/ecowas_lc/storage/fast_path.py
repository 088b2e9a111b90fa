"""redis-py's client with a fast path for scripts, because its bookkeeping takes most of a small script's time.

``redis.Redis.execute_command`` makes about ninety Python calls for one command: retries, metrics, the pool,
deprecated arguments. The first attempt here makes about twelve, on a connection that is already open. If it gets
no answer, or if redis-py is being observed (tracing, its metrics), the command takes redis-py's normal path.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections import deque
from collections.abc import Sequence
from copy import copy
from inspect import signature
from time import perf_counter, sleep
from traceback import walk_tb
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
    # Tracing libraries (OpenTelemetry, Sentry, Datadog) replace this method.
    own = isinstance(method, FunctionType) and method.__code__.co_filename in _FILES
    return method if own else None


def _metrics() -> Any:
    # Records redis-py's metrics if they are on: they use OpenTelemetry, and redis-py has them since 7.1.
    try:
        from redis.observability import providers
    except ImportError:
        return None
    return providers.get_observability_instance().get_provider_manager if providers.OTEL_AVAILABLE else None


def driver_option(**given: str) -> dict[str, Any]:
    """Return the option for the library's name and version, which new connections send to the server.

    Without it, each new connection reads the version from the files of the installed package, which takes longer
    than everything else that creates the connection.

    Args:
        **given: ``lib_name`` and ``lib_version``, if they are not redis-py's.
    """
    takers: tuple[Any, ...] = (
        redis.connection.AbstractConnection,
        redis.asyncio.connection.AbstractConnection,
        redis.asyncio.RedisCluster,
    )
    if not all("driver_info" in signature(taker.__init__).parameters for taker in takers):
        return given  # this redis-py reads its version once
    from redis.driver_info import DriverInfo

    version = given.get("lib_version", redis.__version__)
    return {"driver_info": DriverInfo(name=given.get("lib_name", "redis-py"), lib_version=version)}


DRIVER = driver_option()

# The private parts of redis-py in use: of a pool, of a connection, and arguments of the connection's methods.
_NEEDED = (
    ("_checkpid", "pid", "get_connection", "release", "reset"),
    (
        "send_packed_command",
        "read_response",
        "can_read",
        "disconnect",
        "health_check_interval",
        "_sock",
        "_parser",
    ),
    {"read_response": "disable_decoding", "can_read": "timeout"},
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
    """Return whether this redis-py has all that is needed; both arguments stay unused, and nothing is sent."""
    of_pool, of_connection, arguments = needed
    return (
        all(hasattr(pool, name) for name in of_pool)
        and all(hasattr(connection, name) for name in of_connection)
        and all(name in signature(getattr(connection, method)).parameters for method, name in arguments.items())
    )


def _may_be_used(needed: tuple[Any, ...], module: Any) -> bool:
    """Return whether the fast path works with this redis-py; if not, its own slower clients are used."""
    try:
        _metrics()
        return _has(needed, module.BlockingConnectionPool(), module.Connection(**DRIVER))
    except Exception:  # any error: redis-py may have renamed anything
        return False


# redis-py before 7 gives up if a connection breaks between opening and its first answer.
_GREETS_ONCE = redis.__version__.startswith("6.")
_REDIS_PYS = _unless_wrapped(redis.Redis.execute_command)
_REDIS_PYS_ASYNC = _unless_wrapped(redis.asyncio.Redis.execute_command)
IS_USABLE = _may_be_used(_NEEDED, redis)
IS_USABLE_ASYNC = _may_be_used(_NEEDED_ASYNC, redis.asyncio)
_metrics_in_use = _metrics() if IS_USABLE and IS_USABLE_ASYNC else None
_SCRIPT_CALLS = {"EVALSHA", "EVAL"}  # a script that the server lacks is sent with its source
_SMALL_BYTES = 65_536  # a larger command is sent on its own connection
_LINES_TRIED = 4
_TRIES = 2  # a shared connection that breaks affects several calls
# If the server answers within this time, one thread at a time sends the calls of all. If it is further away,
# waiting for each other would cost more than connections do: each thread uses its own, while there are enough.
_NEAR_SECONDS = 0.0005
_PATIENCE_SECONDS = 0.01  # to wait for the sending thread before using another connection


def _packed(words: tuple[Any, ...]) -> Any:
    """Return a command as it is sent; if a word is large, in parts, because copying that would take longer."""
    for word in words:
        if type(word) is bytes and len(word) > _SMALL_BYTES:
            return _packed_in_parts(words)
    return hiredis.pack_command(words)


def _packed_in_parts(words: tuple[Any, ...]) -> list[bytes]:
    parts: list[bytes] = []
    small = [b"*%d\r\n" % len(words)]
    for word in words:
        if isinstance(word, bytes):
            raw = word
        elif isinstance(word, (str, int, float)) and not isinstance(word, bool):
            raw = str(word).encode()
        else:
            raise TypeError(f"A command's words are bytes, text or numbers, not {type(word).__name__}.")
        small.append(b"$%d\r\n" % len(raw))
        if len(raw) > _SMALL_BYTES:
            parts += b"".join(small), raw
            small = [b"\r\n"]
        else:
            small += raw, b"\r\n"
    return [*parts, b"".join(small)]


def _packed_all(commands: Sequence[tuple[Any, ...]]) -> tuple[Any, int]:
    """Return commands as one call sends them, and how many they are; see :func:`_packed`."""
    try:
        parts = [_packed(words) for words in commands]
    except TypeError as error:
        raise DataError(str(error)) from error
    if any(type(part) is list for part in parts):
        return [piece for part in parts for piece in (part if type(part) is list else [part])], len(parts)
    return b"".join(parts), len(parts)


def _answer(connection: Any) -> Any:
    """Return the next reply, which may be an error."""
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def _look_at(sock: Any) -> Any:
    """Return a function that says whether a socket has something to read; ``None`` with TLS and on Windows."""
    if hasattr(sock, "pending") or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return poll.poll


def _is_exhausted(error: Exception) -> bool:
    return "No connection available" in str(error)


def broke_in_writing(error: AttributeError) -> bool:
    """Return whether asyncio wrote to a connection that the server had already reset.

    Python 3.12 and 3.13 raise this instead of a connection error, because ``writelines`` does not check if the
    transport is closed (``'NoneType' object has no attribute '_add_writer'``).
    """
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_code.co_name == "writelines"


class DirectPool(redis.BlockingConnectionPool):
    """redis-py's pool with open connections ready for :meth:`exchange`, and with threads that send for each other.

    Ready connections count as in use. A caller that asks the pool in redis-py's normal way first puts all of them
    back, so that it never waits for an idle connection.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._asks_where = "connection_pool" in options  # each new connection asks Sentinel for the primary

    def exchange(self, words: tuple[Any, ...]) -> Any:
        """Return the reply to a command as bytes.

        ``LOST`` means that the connection broke, so the command may have been executed.

        Raises:
            redis.exceptions.RedisError: the reply is an error, no connection is available, or no answer came in
                time.
        """
        try:
            packed = _packed(words)
        except TypeError as error:
            raise DataError(str(error)) from error
        reply = self._reply(ThreadCall(packed))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def exchange_all(self, commands: Sequence[tuple[Any, ...]]) -> Any:
        """Return the replies, including errors, to commands sent in order on one connection; or ``LOST``."""
        reply = self._reply(ThreadCall(*_packed_all(commands)))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _reply(self, call: ThreadCall) -> Any:
        if os.getpid() != self.pid:
            self._checkpid()
        packed, queue = call.packed, self._queue
        if type(packed) is list or len(packed) > _SMALL_BYTES:
            self._send((call,))
        elif queue.enter(call) or self._is_to_send(call, queue):
            try:
                self._send((call,), queue)
            finally:
                queue.leave()
        return call.reply

    def _is_to_send(self, call: ThreadCall, queue: CallQueue) -> bool:
        """Return whether this thread must send; wait until then, or until another thread has read its reply."""
        try:
            if not call.woken.acquire(timeout=_PATIENCE_SECONDS):
                # The sending thread waits for a slow reply: use another connection if one is available.
                if (self._at_hand or not self.pool.empty()) and queue.withdraw(call, sends=True):
                    return True
                if not call.woken.acquire(timeout=self.timeout):
                    if queue.withdraw(call):
                        raise RedisConnectionError("No connection available.")
                    call.woken.acquire()  # the call was sent, and its sender has a timeout
        except BaseException:
            if not queue.withdraw(call) and call.is_senders:
                queue.leave()
            raise
        return call.is_senders

    def _send(self, calls: Sequence[ThreadCall], queue: CallQueue | None = None) -> None:
        """Send a call together with all calls in the queue, and pass each its reply."""
        try:
            connection = self._ready()
        except RedisConnectionError as error:
            if _is_exhausted(error) or not _GREETS_ONCE:
                raise
            calls[0].reply = LOST
            return
        answered = 0
        failure: Any = LOST
        try:
            if queue is not None:
                if queue.is_busy():
                    sleep(0)  # lets other threads prepare their calls
                calls = queue.take(calls[0])
            packed = calls[0].packed if len(calls) == 1 else b"".join([call.packed for call in calls])
            begun = perf_counter()
            parts = packed if type(packed) is list else (packed,)
            connection.send_packed_command(parts, connection.health_check_interval)
            for call in calls:
                if call.count:
                    call.reply = [_answer(connection) for _ in range(call.count)]
                else:
                    call.reply = _answer(connection)
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
                self._queue.most = self.max_connections  # until the distance to the next server is measured
                self._fail(calls[answered:], failure)
                connection.disconnect()
            self._at_hand.append(connection)
            if self._asking:  # checked last: either this thread sees the asking one, or that one the connection
                self._give_back()

    def _ready(self) -> Any:
        try:
            connection = self._at_hand.pop()
        except IndexError:
            return self.get_connection()
        if self._has_unread(connection):
            connection.disconnect()
        if self._asks_where and connection._sock is None:  # if it reopened by itself, it would not ask
            self.release(connection)
            return self.get_connection()
        return connection

    def _has_unread(self, connection: Any) -> bool:
        """Return whether a reply to no command waits on an open connection, or its end."""
        sock = connection._sock
        if sock is None:
            return False
        if not self._asks_where:
            looked_at, look = self._looks.get(connection, (None, None))
            if looked_at is not sock:  # once for each socket: redis-py does this each time, which takes longer
                look = _look_at(sock)
                self._looks[connection] = sock, look
            reader = connection._parser._reader  # None if another thread has just closed the connection
            if look is not None and not look(0) and reader is not None and not reader.has_data():
                return False
        try:
            return bool(connection.can_read(timeout=0))
        except RedisConnectionError:
            return True

    def _fail(self, calls: Sequence[ThreadCall], failure: Any) -> None:
        for call in calls:
            call.reply = _another_of(failure) if isinstance(failure, Exception) else failure
            if call.woken is not None:
                call.woken.release()

    def get_connection(self, *names: Any, **options: Any) -> Any:
        """Return a connection that is open and has no unread data."""
        self._checkpid()
        asking = self._asking
        asking.append(None)
        try:
            self._give_back()
            return super().get_connection(*names, **options)
        finally:
            asking.pop()

    def reset(self) -> None:
        """Start over, also in a forked process, whose inherited connections belong to its parent."""
        self._at_hand: list[Any] = []
        self._looks: dict[Any, tuple[Any, Any]] = {}  # by connection: its socket, and how to look at that
        self._queue = CallQueue(self.max_connections)
        self._asking: list[None] = []  # one item per asking thread, since a list counts without a lock
        super().reset()

    def _give_back(self) -> None:
        while self._at_hand:
            try:
                connection = self._at_hand.pop()
            except IndexError:  # another thread was faster
                return
            self.release(connection)


class DirectClient(redis.Redis):
    """``redis.Redis`` on a :class:`DirectPool`."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Return the reply to a command; a script's reply as bytes."""
        if (
            words[0] not in _SCRIPT_CALLS
            or redis.Redis.execute_command is not _REDIS_PYS
            or (_metrics_in_use is not None and _metrics_in_use() is not None)
        ):
            return super().execute_command(*words, **options)
        pool: Any = self.connection_pool
        # If the server closed an old connection, a new one is used; if the server is gone, redis-py retries.
        for _ in range(_TRIES):
            reply = pool.exchange(words)
            if reply is not LOST:
                return reply
        return super().execute_command(*words, **options)


class AsyncDirectPool(redis.asyncio.BlockingConnectionPool):
    """:class:`DirectPool` for asyncio: small commands of all callers share a connection, see :mod:`.multiplexing`.

    Used connections stay ready, and each one is passed to the caller that has waited longest. redis-py's pool only
    creates connections: idle ones never return to it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._at_hand: list[Any] = []
        self._waiters: deque[asyncio.Future[Any]] = deque()
        self._line: SharedLine | None = None  # takes new calls; other lines finish the calls sent on them
        self._lines: dict[Any, SharedLine] = {}  # by connection, while redis-py does not read from it
        self._opening: list[asyncio.Future[Any]] | None = None  # callers that wait while one of them opens a line
        self._checks_health = bool(options.get("health_check_interval"))
        self._asks_where = "connection_pool" in options  # see DirectPool

    async def exchange(self, words: tuple[Any, ...]) -> Any:
        """Return the reply to a command; see :meth:`DirectPool.exchange`."""
        try:
            packed = _packed(words)
        except TypeError as error:
            raise DataError(str(error)) from error
        if type(packed) is list or len(packed) > _SMALL_BYTES or self._checks_health:
            return await self._exchange_alone(packed if type(packed) is list else [packed])
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

    async def exchange_all(self, commands: Sequence[tuple[Any, ...]]) -> Any:
        """Return the replies to commands; see :meth:`DirectPool.exchange_all`."""
        try:
            packed = [_packed(words) for words in commands]
        except TypeError as error:
            raise DataError(str(error)) from error
        if self._checks_health or any(type(each) is list or len(each) > _SMALL_BYTES for each in packed):
            return UNSENT
        for _ in range(_LINES_TRIED):
            line = self._line
            if line is None or self._waiters or (line.is_behind_a_long_reply and self._has_another()):
                line = await self._next_line()
                if line is None:
                    return LOST
            futures = line.ask_all(packed)
            try:
                replies = [await future for future in futures]
            except asyncio.CancelledError:
                for future in futures:
                    future.cancel()
                raise
            if LOST in replies:
                return LOST
            if replies[0] is not UNSENT:
                return replies
        return LOST

    async def _exchange_alone(self, parts: list[bytes]) -> Any:
        try:
            connection = await (self.get_connection() if self._asks_where else self._one())
        except RedisConnectionError as error:
            if _is_exhausted(error) or not _GREETS_ONCE:
                raise
            return LOST
        owes_nothing = False
        try:
            await connection.send_packed_command(parts)
            reply = await connection.read_response(disable_decoding=True)
            owes_nothing = True
            return reply
        except ResponseError:
            owes_nothing = True
            raise
        except RedisConnectionError:
            return LOST
        except AttributeError as error:
            if broke_in_writing(error):
                return LOST
            raise
        finally:
            try:
                if not owes_nothing:
                    await connection.disconnect(nowait=True)
            finally:
                self._hand_on(connection)

    def retire_lines(self) -> None:
        """Send no more calls on the connections that are open: another server has become the primary."""
        for line in list(self._lines.values()):
            line.retire()

    async def get_connection(self, *names: Any, **options: Any) -> Any:
        """Return a connection that is open and has no unread data."""
        connection = await self._one()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Return a connection to the pool."""
        self._hand_on(connection)

    async def _one(self) -> Any:
        """Return a connection for a single caller."""
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
        """Return the line for the next calls, opened by one caller for all; ``None`` if a connection broke."""
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
        found: Any = UNSENT  # if this task is cancelled, another caller opens the line
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
                # If the server has already closed its end, the line would not be notified again.
                await self.ensure_connection(connection)
                line = SharedLine(connection, self._line_changed)
            except RedisConnectionError:
                self._hand_on(connection)
                if self._asks_where:  # connecting includes the retries: no Sentinel names a primary that answers
                    raise
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
        """Pass on the connection of a line that has finished its calls, unless the line takes the next calls."""
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
        # The pool marks a connection as in use before it awaits anything, so two callers can't take the same one.
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
    """Return a copy of an error for another caller: raising one object twice mixes the tracebacks."""
    try:
        like = copy(error)
    except Exception:
        return error
    like.__cause__ = error.__cause__ or error
    return like


class AsyncDirectClient(redis.asyncio.Redis):
    """``redis.asyncio.Redis`` on an :class:`AsyncDirectPool`."""

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """Return the reply to a command; a script's reply as bytes."""
        if (
            words[0] not in _SCRIPT_CALLS
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
    """Return a client with these pool options, with the fast path if this redis-py supports it."""
    if IS_USABLE:
        return DirectClient.from_pool(DirectPool(**options))
    return redis.Redis.from_pool(redis.BlockingConnectionPool(**options))


def make_async_client(**options: Any) -> redis.asyncio.Redis:
    """Return a client for the running event loop; see :func:`make_client`."""
    if IS_USABLE_ASYNC:
        return AsyncDirectClient.from_pool(AsyncDirectPool(**options))
    return redis.asyncio.Redis.from_pool(redis.asyncio.BlockingConnectionPool(**options))
