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
from tests.fixtures.servers import need, wait_until

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


async def test_async_waits_for_a_connection_once(opened, monkeypatch):
    """If all connections are in use, the error comes after one wait."""
    async with opened() as client:
        pool = client.connection_pool
        held = [await pool.get_connection(), await pool.get_connection()]
        monkeypatch.setattr(pool, "timeout", 0.01)
        monkeypatch.setattr(client, "parse_response", lambda *words: pytest.fail("tried in redis-py's way too"))
        with pytest.raises(RedisConnectionError, match="No connection available"):
            await aask(client, "?")
        waiting = asyncio.create_task(aask(client, "!"))
        monkeypatch.setattr(pool, "timeout", 30)
        again = asyncio.create_task(aask(client, "!!"))
        await asyncio.sleep(0)
        for connection in held:
            await pool.release(connection)
        assert await again == [b"k", b"!!"]
        await asyncio.gather(waiting, return_exceptions=True)


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
