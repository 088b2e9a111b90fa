"""The sync and the async runner at their edges: words of a wrong type, errors of callers, nodes that are gone."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from ecowas_lc.checkpoint import lease
from ecowas_lc.errors import EcowasError, RedisUnavailableError, StorageError
from ecowas_lc.settings import load_settings
from ecowas_lc.storage import server as runners
from ecowas_lc.storage.ops import call, command
from ecowas_lc.storage.server import Server
from tests.fixtures.servers import RunningCluster, RunningServer, wait_until


@pytest.fixture
def own(redis_server: RunningServer, prefix: str) -> Iterator[Server]:
    settings = load_settings(redis_url=redis_server.url, prefix=prefix, redis_socket_timeout=0.2)
    with_pool = Server.from_settings(settings)
    yield with_pool
    with_pool.close()


def ping_op() -> Any:
    """A program that only asks whether the server answers."""
    [reply] = yield (command("PING"),)
    return reply


def exists_op() -> Any:
    """A program that asks the node of a key."""
    [reply] = yield (command("EXISTS", b"k"),)
    return reply


async def both(server: Server, op: Any) -> list[BaseException | Any]:
    """What a program returns or raises, sync and async."""
    found: list[Any] = []
    for run in (lambda: asyncio.to_thread(server.run, op()), lambda: server.arun(op())):
        try:
            found.append(await run())
        except Exception as error:
            found.append(error)
    return found


async def test_words_of_a_wrong_type_are_refused(own: Server) -> None:
    """A word that is no bytes, text or number is named, whether the command is small or large."""
    script = lease._LEASE
    for words in ((True,), (b"x" * 70_000, object())):

        def op(words: Any = words) -> Any:
            yield (call(script, (b"k",), *words),)

        errors = await both(own, op)
        assert all(isinstance(error, EcowasError) for error in errors), errors


async def test_an_error_of_the_callers_code_is_raised_as_it_is(own: Server) -> None:
    """Only replies of an unexpected shape are taken for damage; a TypeError of other code is not."""

    def op() -> Any:
        yield from ping_op()
        raise TypeError("mine")

    assert [str(error) for error in await both(own, op)] == ["mine", "mine"]


async def test_a_batch_on_a_connection_that_was_reset(own: Server) -> None:
    """A reset that Python 3.12 reports as an AttributeError is an error of ours; a bug is raised as it is."""

    def batch_op() -> Any:
        return (yield (command("PING"), command("PING")))

    class Reset:
        def writelines(self, data: Any) -> None:
            raise AttributeError("'NoneType' object has no attribute '_add_writer'")

        def close(self) -> None:
            writer.close()

    async def has_a_bug(**_: Any) -> Any:
        raise AttributeError("a bug")

    assert await own.arun(batch_op()) == [True] * 2
    [connection] = own._by_loop[asyncio.get_running_loop()].client.connection_pool._at_hand
    writer, connection._writer = connection._writer, Reset()
    with pytest.raises(RedisUnavailableError):
        await own.arun(batch_op())
    assert await own.arun(batch_op()) == [True] * 2
    connection.read_response = has_a_bug
    with pytest.raises(AttributeError, match="a bug"):
        await own.arun(batch_op())
    del connection.read_response
    assert await own.arun(batch_op()) == [True] * 2


async def test_a_server_without_a_limit_of_its_own_waits_for_its_turn(own: Server) -> None:
    """Where the pool can't wait for a connection, a gate does, and says so when its time is up."""
    own._gate = threading.BoundedSemaphore(1)
    assert await own.arun(ping_op()) is not None
    loop = asyncio.get_running_loop()
    here = own._by_loop[loop]
    own._by_loop[loop] = here._replace(gate=asyncio.Semaphore(1))
    assert [isinstance(reply, Exception) for reply in await both(own, ping_op)] == [False, False]
    own._gate.acquire()
    await own._by_loop[loop].gate.acquire()
    errors = await both(own, ping_op)
    assert [isinstance(error, EcowasError) for error in errors] == [True, True], errors
    own._gate.release()
    own._gate = None


async def test_connections_are_dropped_and_opened_again(own: Server, cluster: RunningCluster) -> None:
    """After a reply that belongs to another command, each client connects anew."""
    runners._drop_connections(own.client)
    assert own.run(ping_op()) is not None
    of_cluster = Server.from_url(cluster.url)
    runners._drop_connections(of_cluster.client)
    assert of_cluster.run(exists_op()) is not None
    await of_cluster.arun(exists_op())
    await runners._adrop_connections(of_cluster._by_loop[asyncio.get_running_loop()].client)
    assert await of_cluster.arun(exists_op()) is not None

    def gone_op() -> Any:
        yield (command("PING", node="127.0.0.1:1"),)

    assert all(isinstance(error, StorageError) for error in await both(of_cluster, gone_op))
    await of_cluster.aclose()

    def refused_op() -> Any:
        yield (command("NOSUCHCOMMAND", node="*"),)

    assert all(isinstance(error, EcowasError) for error in await both(own, refused_op))


def test_a_server_that_nothing_refers_to_closes_its_connections(redis_server: RunningServer, prefix: str) -> None:
    """They are closed without a warning, although the collector reaches the socket before its client."""
    with redis_server.client() as admin:
        server: Any = Server.from_url(redis_server.url)
        server.run(ping_op())
        server.itself = server
        [connection] = server.client.connection_pool._at_hand or server.client.connection_pool._connections
        socket = connection._sock
        host, port = socket.getsockname()
        later = [server]
        del server, connection
        gc.collect()  # moves what it reaches only through the list behind the socket
        del socket
        later.clear()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            gc.collect()
        assert not [str(each.message) for each in said if f"laddr=('{host}', {port})" in str(each.message)]
        wait_until(
            lambda: f"{host}:{port}" not in [each["addr"] for each in admin.client_list()],
            "its connection is closed",
        )
