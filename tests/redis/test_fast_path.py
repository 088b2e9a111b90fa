"""The fast path of scripts around redis-py's bookkeeping: no wrong reply, no lost connection, none too many."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import redis.asyncio
from langgraph.checkpoint.base import empty_checkpoint
from redis.exceptions import ConnectionError as RedisConnectionError

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.settings import Settings
from ecowas_lc.storage import fast_path
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.clients import ClientFactory
from ecowas_lc.storage.multiplexing import SharedLine
from tests.fixtures.forked import in_child
from tests.fixtures.servers import need, running_server, wait_until

ECHO = "return {KEYS[1], ARGV[1]}"


@pytest.fixture
def client(redis_server):
    """A client of at most two connections, with a script that returns its argument."""
    settings = Settings(redis_max_connections=2, redis_socket_timeout=5, _env_file=None)
    client = ClientFactory(parse_url(redis_server.url), settings).make()
    with redis_server.client() as raw:
        client.sha = raw.script_load(ECHO)
    yield client
    client.close()


def ask(client, word):
    return client.execute_command("EVALSHA", client.sha, 1, b"k", word, NEVER_DECODE=True)


def test_one_connection_for_one_caller(client, monkeypatch):
    """One call after the other is on one connection, which redis-py's own commands get too, without waiting."""
    monkeypatch.setattr(client.connection_pool, "timeout", 0.001)
    for n in range(5):
        assert ask(client, f"{n}") == [b"k", f"{n}".encode()]
        assert client.ping()
        with client.pipeline(transaction=False) as pipeline:
            assert pipeline.execute_command("PING").execute() == [True]
    assert len(client.connection_pool._connections) == 1


def test_never_more_connections_than_allowed(client):
    """Sixteen threads that use both paths get their own replies over two connections."""

    def work(number):
        for n in range(40):
            word = f"{number}.{n}"
            assert ask(client, word) == [b"k", word.encode()]
            assert client.execute_command("ECHO", word) == word.encode()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(client.connection_pool._connections) <= 2


def test_batches_of_large_and_of_wrong_commands(client):
    """Commands for one node are answered in order, whatever their size; an invalid one is not sent."""
    pool = client.connection_pool
    large = b"x" * 3_000_000
    assert pool.exchange_all([("ECHO", large), ("ECHO", "a")]) == [large, b"a"]
    with pytest.raises(redis.DataError):
        pool.exchange_all([("SET", "k", "a"), ("SET", "k", object())])
    assert client.get("k") is None


def test_connections_are_given_back_by_several_threads(client):
    """A thread does nothing if another one was faster; neither does a forked child."""

    class Emptied(list):
        def pop(self):
            self.clear()
            return super().pop()

    assert ask(client, "x") == [b"k", b"x"]
    pool = client.connection_pool
    pool._at_hand = Emptied(pool._at_hand)
    pool._give_back()
    assert ask(client, "y") == [b"k", b"y"]
    mine = pool._connections[0]._sock.getsockname()
    child = in_child(lambda: [ask(client, "z"), pool._connections[0]._sock.getsockname()])
    assert child[0] == [b"k", b"z"]
    assert child[1] != mine


def test_waits_for_a_connection_once(client, monkeypatch):
    """If all connections are in use, the error comes after one wait, not after one for each path."""
    pool = client.connection_pool
    held = [pool.get_connection(), pool.get_connection()]
    monkeypatch.setattr(pool, "timeout", 0.01)
    asked = []
    real = redis.BlockingConnectionPool.get_connection
    monkeypatch.setattr(
        redis.BlockingConnectionPool,
        "get_connection",
        lambda self, *names: asked.append(self) or real(self, *names),
    )
    with pytest.raises(RedisConnectionError, match="No connection available"):
        ask(client, "?")
    assert asked.count(pool) == 1
    for connection in held:
        pool.release(connection)
    assert ask(client, "!") == [b"k", b"!"]


def test_a_connection_that_the_server_closed(client, redis_server, monkeypatch):
    """An idle connection that was closed is reopened at once, without a wait."""
    waited = []
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: waited.append(threading.current_thread()))
    number = client.client_id()
    ask(client, "a")
    with redis_server.client() as raw:
        raw.client_kill_filter(_id=number)
    assert ask(client, "b") == [b"k", b"b"]
    assert threading.current_thread() not in waited


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_reply_that_was_not_read_is_nobodys(client, monkeypatch, error):
    """An interruption between a command and its reply does not leave the reply to the next call."""
    ask(client, "a")
    [connection] = client.connection_pool._connections
    with monkeypatch.context() as patched:

        def interrupted(**options):
            raise error

        patched.setattr(connection, "read_response", interrupted)
        with pytest.raises(error):
            ask(client, "b")
    assert ask(client, "c") == [b"k", b"c"]
    assert client.execute_command("ECHO", "d") == b"d"


@pytest.mark.parametrize("read", [0, 1], ids=["in the socket", "in the parser"])
def test_a_reply_that_nobody_asked_for(client, read):
    """The reply is never taken for the next call's, as it would be behind a broken proxy."""
    ask(client, "a")
    [connection] = client.connection_pool._connections
    for _ in range(1 + read):
        connection.send_command("ECHO", "stray")
    wait_until(lambda: connection._sock.recv(999, socket.MSG_PEEK).count(b"stray") == 1 + read, "the replies")
    for _ in range(read):
        assert connection.read_response() == b"stray"
    assert ask(client, "b") == [b"k", b"b"]


def test_errors_of_scripts_keep_the_connection(client):
    """An error is a reply like others."""
    number = client.client_id()
    for _ in range(3):
        with pytest.raises(redis.exceptions.NoScriptError):
            client.execute_command("EVALSHA", "0" * 40, 0)
        with pytest.raises(redis.exceptions.DataError):
            client.execute_command("EVALSHA", client.sha, 1, "k", object())
    assert client.client_id() == number


def test_tracing_sees_every_call(client, monkeypatch):
    """Code that wraps redis-py's execute_command, as tracing does, still sees all commands."""
    seen = []
    real = redis.Redis.execute_command

    @functools.wraps(real)
    def traced(self, *words, **options):
        if self is client:
            seen.append(words[0])
        return real(self, *words, **options)

    monkeypatch.setattr(redis.Redis, "execute_command", traced)
    assert ask(client, "a") == [b"k", b"a"]
    assert seen == ["EVALSHA"]
    assert fast_path._unless_wrapped(traced) is None, "wrapped before this package was imported"
    assert fast_path._unless_wrapped(real) is real


def test_metrics_see_every_call(client, monkeypatch):
    """If redis-py's own metrics are on, commands use redis-py's code; redis-py says whether they are."""
    providers = pytest.importorskip("redis.observability.providers", reason="redis-py has metrics since 7.1")
    here = threading.current_thread()
    on = [None]
    monkeypatch.setattr(
        providers.ObservabilityInstance,
        "get_provider_manager",
        lambda self: on[0] if threading.current_thread() is here else None,
    )
    monkeypatch.setattr(fast_path, "_metrics_in_use", fast_path._metrics())
    short, gone_short = client.connection_pool.exchange, []
    monkeypatch.setattr(client.connection_pool, "exchange", lambda words: gone_short.append(words) or short(words))
    assert ask(client, "a") == [b"k", b"a"]
    assert len(gone_short) == 1
    on[0] = object()
    assert ask(client, "a") == [b"k", b"a"]
    assert len(gone_short) == 1


def test_after_closing(client):
    """A closed client opens its connection again, as redis-py's does."""
    ask(client, "a")
    client.close()
    assert ask(client, "again") == [b"k", b"again"]
    assert len(client.connection_pool._connections) == 1


# --- asyncio ---


@pytest.fixture
def opened(redis_server):
    """Opens such a client for the running event loop."""

    @asynccontextmanager
    async def opened():
        settings = Settings(redis_max_connections=2, redis_socket_timeout=5, _env_file=None)
        client = ClientFactory(parse_url(redis_server.url), settings).make_async()
        with redis_server.client() as raw:
            client.sha = raw.script_load(ECHO)
        try:
            yield client
        finally:
            await client.aclose()

    return opened


async def aask(client, word):
    return await client.execute_command("EVALSHA", client.sha, 1, b"k", word, NEVER_DECODE=True)


def known_connections(client):
    pool = client.connection_pool
    return [*pool._available_connections, *pool._in_use_connections]


async def test_async_one_connection_for_one_caller(opened):
    """One call after the other is on one connection, which redis-py's own commands get too."""
    async with opened() as client:
        for n in range(5):
            assert await aask(client, f"{n}") == [b"k", f"{n}".encode()]
            assert await client.ping()
        assert len(known_connections(client)) == 1


async def test_async_never_more_connections_than_allowed(opened):
    """A hundred tasks that use both paths get their own replies over two connections, in order."""
    async with opened() as client:
        done = []

        async def direct_one(number):
            for n in range(10):
                word = f"{number}.{n}"
                assert await aask(client, word) == [b"k", word.encode()]
                done.append("direct")

        async def other(number):
            for n in range(10):
                word = f"{number}.{n}"
                assert await client.execute_command("ECHO", word) == word.encode()
                done.append("redis-py")

        await asyncio.gather(*(work(n) for n in range(50) for work in (direct_one, other)))
        assert len(known_connections(client)) <= 2
        first_half = done[: len(done) // 2]
        assert 200 <= first_half.count("direct") <= 300, "those of one way waited until the other's were done"


@pytest.mark.parametrize("word", ["?", b"?" * 200_000], ids=["small", "large"])
async def test_async_waits_for_a_connection_once(opened, monkeypatch, word):
    """If all connections are in use, the error comes after one wait."""
    async with opened() as client:
        pool = client.connection_pool
        held = [await pool.get_connection(), await pool.get_connection()]
        waits = []
        real = pool._another
        monkeypatch.setattr(pool, "_another", lambda *until: waits.append(until) or real(*until))
        monkeypatch.setattr(pool, "timeout", 0.01)
        monkeypatch.setattr(client, "parse_response", lambda *words: pytest.fail("tried in redis-py's way too"))
        with pytest.raises(RedisConnectionError, match="No connection available"):
            await aask(client, word)
        assert len(waits) == 1
        waiting = asyncio.create_task(aask(client, "!"))
        monkeypatch.setattr(pool, "timeout", 30)
        again = asyncio.create_task(aask(client, "!!"))
        await asyncio.sleep(0)
        for connection in held:
            await pool.release(connection)
        assert await again == [b"k", b"!!"]
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("greets_once", [True, False], ids=["redis-py 6", "later"])
async def test_async_a_connection_that_breaks_while_it_opens(opened, monkeypatch, greets_once):
    """Where Sentinel names the server, a large call tries again if redis-py has not, and else has its error."""
    async with opened() as client:
        pool = client.connection_pool
        monkeypatch.setattr(fast_path, "_GREETS_ONCE", greets_once)
        monkeypatch.setattr(pool, "_asks_where", True)
        real, tried = pool.ensure_connection, []

        async def breaks_once(connection):
            tried.append(connection)
            if len(tried) == 1:
                raise RedisConnectionError("reset")
            await real(connection)

        monkeypatch.setattr(pool, "ensure_connection", breaks_once)
        word = b"x" * 200_000
        if greets_once:
            assert await aask(client, word) == [b"k", word]
            assert len(tried) == 2
        else:
            with pytest.raises(RedisConnectionError, match="reset"):
                await aask(client, word)
            assert len(tried) == 1


async def test_async_a_bug_is_no_lost_connection(opened, monkeypatch):
    """Another AttributeError than that of a reset connection is raised, and its call's reply reaches no other."""
    word = b"x" * 200_000
    async with opened() as client:
        assert await aask(client, word) == [b"k", word]
        [connection] = known_connections(client)

        async def has_a_bug(**options):
            raise AttributeError("a bug")

        monkeypatch.setattr(connection, "read_response", has_a_bug)
        with pytest.raises(AttributeError, match="a bug"):
            await aask(client, word)
        assert not connection.is_connected
        monkeypatch.undo()
        assert await aask(client, "next") == [b"k", b"next"]


async def test_async_a_connection_that_the_server_closed(opened, redis_server, monkeypatch):
    """A closed connection is reopened at once."""
    waited = []

    async def wait(seconds):
        waited.append(asyncio.current_task())

    async with opened() as client:
        monkeypatch.setattr("redis.asyncio.retry.sleep", wait)
        number = await client.client_id()
        await aask(client, "a")
        with redis_server.client() as raw:
            raw.client_kill_filter(_id=number)
        assert await aask(client, "b") == [b"k", b"b"]
    assert asyncio.current_task() not in waited


async def test_async_a_large_call_on_a_connection_that_was_reset(opened):
    """A reset connection costs one attempt; asyncio of Python 3.12 then raises an AttributeError."""
    word = b"x" * 200_000
    async with opened() as client:
        assert await aask(client, word) == [b"k", word]
        [connection] = known_connections(client)
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        assert await aask(client, word) == [b"k", word]
    calls = [0]

    class Closed:
        def writelines(self, data):
            calls[0] += 1
            raise AttributeError("'NoneType' object has no attribute '_add_writer'")

    async with opened() as client:
        await aask(client, word)
        [connection] = known_connections(client)
        writer, connection._writer = connection._writer, Closed()
        connection._writer.close = writer.close
        assert await aask(client, word) == [b"k", word]
    assert calls == [1]


async def test_async_cancelled_calls(opened):
    """Whenever a call is cancelled, its reply reaches no other call, and its connection is not lost."""
    async with opened() as client:
        for n in range(60):
            tasks = [asyncio.create_task(aask(client, f"{n}.{each}")) for each in range(8)]
            for _ in range(n % 12):
                await asyncio.sleep(0)
            for task in tasks[n % 3 :: 2]:
                task.cancel()
            for each, found in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
                assert isinstance(found, asyncio.CancelledError) or found == [b"k", f"{n}.{each}".encode()]
        assert len(known_connections(client)) <= 2
        results = await asyncio.wait_for(asyncio.gather(*(aask(client, f"{n}") for n in range(20))), 5)
        assert [word for _, word in results] == [f"{n}".encode() for n in range(20)]
        pool = client.connection_pool
        held = [await asyncio.wait_for(pool.get_connection(), 5) for _ in range(2)]
        assert set(known_connections(client)) == set(held), "one is lost"


async def test_async_batches_that_do_not_go_together(opened, monkeypatch):
    """A batch that can't be packed is refused; redis-py sends one that is large or that no line accepts."""
    async with opened() as client:
        pool = client.connection_pool
        with pytest.raises(redis.DataError):
            await pool.exchange_all([("SET", "k", object())])
        assert await pool.exchange_all([("SET", "k", b"x" * 3_000_000)]) is fast_path.UNSENT
        assert await pool.exchange_all([("PING",), ("ECHO", "a")]) == [b"PONG", b"a"]
        waits = asyncio.create_task(pool.exchange_all([("BLPOP", "none", 0.3), ("ECHO", "a")]))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert await aask(client, "mine") == [b"k", b"mine"], "no other call gets the cancelled one's replies"

        async def refuse(line, packed):
            return fast_path.UNSENT

        with monkeypatch.context() as patched:
            patched.setattr(SharedLine, "ask", refuse)
            patched.setattr(SharedLine, "ask_all", lambda line, packed: [line.ask(each) for each in packed])
            assert await pool.exchange_all([("PING",)]) is fast_path.LOST
            assert await aask(client, "redis-py's") == [b"k", b"redis-py's"]
        assert await pool.exchange_all([("PING",)]) == [b"PONG"]


async def test_async_connections_that_are_passed_on(opened, monkeypatch):
    """A caller that is cancelled or fails while getting a connection passes it to the next caller."""
    async with opened() as client:
        pool = client.connection_pool
        held = [await pool.get_connection() for _ in range(2)]
        first, second = (asyncio.create_task(pool.get_connection()) for _ in range(2))
        await asyncio.sleep(0)
        await pool.release(held[0])
        first.cancel()  # at the moment when it has been given the connection
        assert await asyncio.wait_for(second, 5) is held[0]
        assert first.cancelled()
        for connection in held:
            await pool.release(connection)
        await aask(client, "on a line")
        line = pool._line

        async def fail(_):
            raise OSError("the loop is closing")

        pool._at_hand.clear()
        with monkeypatch.context() as patched:
            patched.setattr(SharedLine, "detach", fail)
            with pytest.raises(OSError, match="closing"):
                await pool._one()
        assert pool._at_hand == [line.connection]


async def test_async_an_opener_that_is_cancelled(opened, monkeypatch):
    """If several callers wait for the shared line, one opens it and all of them use it."""
    async with opened() as client:
        pool = client.connection_pool
        await aask(client, "x")
        line, openers = pool._line, []

        async def open_line(until):
            openers.append(until)
            if len(openers) == 1:
                await asyncio.Event().wait()
            pool._line = line
            return line

        pool._line = None
        monkeypatch.setattr(pool, "_open_line", open_line)
        first, *others = (asyncio.create_task(pool._next_line()) for _ in range(4))
        for _ in range(3):
            await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [line] * 3
        assert len(openers) == 2


async def test_async_a_line_at_its_ends(opened):
    """redis-py's stream is notified when the line is full; a closed transport and late replies do no harm."""
    async with opened() as client:
        pool = client.connection_pool
        await aask(client, "x")
        line = pool._line
        line.pause_writing()
        assert line._stream._paused
        line.resume_writing()
        assert not line._stream._paused
        transport = line._transport

        class Closed:
            """Behaves like uvloop's transport after it was closed."""

            abort = transport.abort

            def write(self, data):
                raise RuntimeError("unable to perform operation; the handler is closed")

        line._transport = Closed()
        assert await line.ask(b"*1\r\n$4\r\nPING\r\n") is fast_path.LOST
        line.data_received(b"+PONG\r\n")
        assert await aask(client, "next") == [b"k", b"next"]


def test_an_error_that_can_not_be_copied_is_shared():
    """Callers that wait for the same connection all get its error, each a copy if it can be copied."""

    class OddError(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    odd, plain = OddError("a", "b"), OSError("a")
    assert fast_path._another_of(odd) is odd
    assert fast_path._another_of(plain) is not plain


async def test_async_errors_and_large_commands(opened):
    """An error is a reply like others; a command larger than asyncio's buffer is sent with its own timeout."""
    async with opened() as client:
        number = await client.client_id()
        for _ in range(3):
            with pytest.raises(redis.exceptions.NoScriptError):
                await client.execute_command("EVALSHA", "0" * 40, 0)
        large = b"x" * 3_000_000
        assert await aask(client, large) == [b"k", large]
        assert await client.client_id() == number


async def test_async_tracing_sees_every_call(opened, monkeypatch):
    """Code that wraps redis-py's execute_command still sees all commands."""
    seen = []
    real = redis.asyncio.Redis.execute_command

    async def traced(self, *words, **options):
        if self is client:
            seen.append(words[0])
        return await real(self, *words, **options)

    async with opened() as client:
        monkeypatch.setattr(redis.asyncio.Redis, "execute_command", traced)
        assert await aask(client, "a") == [b"k", b"a"]
    assert seen == ["EVALSHA"]


# --- other versions of redis-py ---


class Without:
    """An object that has all but one attribute of another."""

    def __init__(self, whole, name):
        self._whole, self._name = whole, name

    def __getattr__(self, name):
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._whole, name)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_is_needed_of_redis_py(kind):
    """The fast path is used only if redis-py has every private attribute and argument that it needs."""
    needed, module = {
        "sync": (fast_path._NEEDED, redis),
        "async": (fast_path._NEEDED_ASYNC, redis.asyncio),
    }[kind]
    pool, connection = module.BlockingConnectionPool(), module.Connection()
    assert fast_path._has(needed, pool, connection)
    for name in needed[0]:
        assert not fast_path._has(needed, Without(pool, name), connection), name
    for name in needed[1]:
        assert not fast_path._has(needed, pool, Without(connection, name)), name
    for method, argument in needed[2].items():
        assert not fast_path._has((*needed[:2], {method: f"{argument}_renamed"}), pool, connection)
    assert fast_path._may_be_used(needed, module)
    assert not fast_path._may_be_used(needed, object())


async def test_without_the_short_way(redis_server, prefix, monkeypatch):
    """If redis-py lacks one of them, its own clients and pools do all the work, sync and async."""
    monkeypatch.setattr(fast_path, "IS_USABLE", False)
    monkeypatch.setattr(fast_path, "IS_USABLE_ASYNC", False)
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        config = saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
        await saver.aput_writes(config, [("a", 1)], "task")
        assert (await saver.aget_tuple(config)).pending_writes == saver.get_tuple(config).pending_writes
        assert type(saver._server.client) is redis.Redis
        [entry] = saver._server._by_loop.values()
        assert type(entry.client) is redis.asyncio.Redis


VERSIONS = Path(__file__).parents[2] / "build/redis-py"
A_FEW_TESTS = (
    *("tests/redis/test_fast_path.py", "tests/redis/test_multiplexing.py"),
    "tests/redis/test_checkpoint_fencing.py",
)
NAMES = "not other_redis_py and not metrics"  # redis-py has metrics since 7.1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["6.2", "7"])
def test_other_redis_py_versions(version):
    """Savers and the fast path work with the oldest supported redis-py, and with the previous one."""
    folder = VERSIONS / version
    if not folder.is_dir():
        need(f"redis-py {version} in {folder.relative_to(VERSIONS.parents[1])}: `make test` puts it there")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NAMES, *A_FEW_TESTS],
        cwd=VERSIONS.parents[1],
        env={**os.environ, "PYTHONPATH": str(folder), "REDIS_PY": version},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_which_redis_py_this_is():
    """The tests of other versions run with those, and with the fast path."""
    if version := os.environ.get("REDIS_PY"):
        assert redis.__version__.startswith(version)
    assert fast_path.IS_USABLE
    assert fast_path.IS_USABLE_ASYNC


FIRST_CALL = """
import sys
import redis, redis.asyncio
from langgraph.graph import StateGraph
before = set(sys.modules)
from ecowas_lc import RedisSaver
from langgraph.checkpoint.base import empty_checkpoint
saver = RedisSaver.from_url(sys.argv[1], prefix=sys.argv[2])
config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
saver.put(config, empty_checkpoint(), {}, {})
assert saver.get_tuple(config) is not None
print(*(set(sys.modules) - before))
"""


def test_a_first_call_loads_only_this_package(redis_server, prefix, tmp_path):
    """A saver that is given its server loads no library that langgraph and redis-py have not loaded already."""
    env = {name: text for name, text in os.environ.items() if not name.upper().startswith(("ECOWAS", "REDIS_"))}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, redis_server.url, prefix],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in loaded} == {"ecowas_lc", "lazy_loader"}
    assert not loaded & {"ecowas_lc.settings", "ecowas_lc.embedded", "ecowas_lc.storage.backup_format"}
    assert len(loaded) <= 45, sorted(loaded)


@pytest.mark.parametrize(
    ("options", "told"), [("", ("redis-py", redis.__version__)), ("?lib_name=mine", ("mine", redis.__version__))]
)
def test_a_connection_names_its_library_without_reading_files(monkeypatch, options, told):
    """New connections send the library's name, or the URL's, and read no file to find its version."""

    async def of_async_client(factory):
        async with factory.make_async() as client:
            return await client.client_info()

    with running_server("valkey") as running:  # Debian's Redis does not tell what it was sent
        if hasattr(redis, "driver_info"):  # redis-py before that reads the version once
            monkeypatch.setattr("redis.utils.get_lib_version", lambda: pytest.fail("the version was read"))
        factory = ClientFactory(parse_url(running.url + options), Settings(_env_file=None))
        with factory.make() as client:
            infos = [client.client_info(), asyncio.run(of_async_client(factory))]
        monkeypatch.undo()
    assert [(info["lib-name"], info["lib-ver"]) for info in infos] == [told, told]
