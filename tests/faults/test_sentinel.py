"""A primary, a replica and three Sentinels under load: the primary dies, and later returns as a replica."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import (
    ConfigurationError,
    NotReplicatedError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
)
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from tests.faults.conftest import TIMEOUT_SECONDS, UNHURRIED
from tests.faults.load import Load, build_graph
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import RunningServer, closed_port, free_port, running_server, server_binary, wait_until

CONFIG = {"configurable": {"thread_id": "t"}}
AT_ONCE = ("--repl-diskless-sync-delay", "0")


@contextlib.contextmanager
def running_sentinel(folder, primary: RunningServer) -> Iterator[int]:
    """A Sentinel that takes its primary for dead after half a second."""
    port = free_port()
    config = folder / f"sentinel-{port}.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {primary.port} 2\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    with (folder / f"sentinel-{port}.log").open("wb") as log:
        command = [server_binary(primary.flavour), str(config), "--sentinel"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield port
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def watched(flavour, tmp_path):
    """Two servers, and the ports of the three Sentinels that watch them."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(running_server(flavour, *AT_ONCE))
        replica = stack.enter_context(
            running_server(flavour, *AT_ONCE, "--replicaof", f"127.0.0.1 {primary.port}")
        )
        ports = [stack.enter_context(running_sentinel(tmp_path, primary)) for _ in range(3)]
        for port in ports:
            wait_until(lambda port=port: knows_everybody(port), "a Sentinel that knows the others")
        yield primary, replica, ports


def knows_everybody(port):
    sentinel = RunningServer("redis", port, None)
    with contextlib.suppress(Exception), sentinel.client(decode_responses=True) as client:
        words = client.execute_command("SENTINEL", "MASTER", "main", NEVER_DECODE=1)
        found = {key.decode(): value for key, value in zip(words[::2], words[1::2], strict=True)}
        return found["num-slaves"] == b"1" and found["num-other-sentinels"] == b"2"
    return False


@pytest.mark.parametrize("replicas", [0, 1], ids=["asynchronous", "wait_replicas=1"])
def test_primary_killed(replicas, watched, flavour, connect, prefix, load_seconds, record_row):
    """The primary is killed under load: clients find the new one automatically and continue.

    Redis replicates after it has replied, so its last acknowledged writes may be lost with it. With
    ``wait_replicas=1`` a call returns only when a replica has the write too, and nothing is lost.
    """
    primary, replica, ports = watched
    url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main/0"
    with primary.client() as client:
        wait_until(lambda: client.info("replication")["slave0"]["state"] == "online", "a replica in step")
    with Load(connect(f"{url}?wait_replicas={replicas}"), prefix) as load:
        load.run_for(load_seconds)
        load.fault()
        primary.kill()
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["role"] == "master", "the replica takes over")
        if replicas:  # nothing is acknowledged before there is a replica again
            load.wait_for_errors()
            with running_server(flavour, "--replicaof", f"127.0.0.1 {replica.port}"):
                load.wait_for_recovery()
                load.run_for(load_seconds)
        else:
            load.wait_for_recovery()
            load.run_for(load_seconds)
    outcome = load.outcome(
        f"{flavour} Sentinel: primary killed, {'wait_replicas=1' if replicas else 'asynchronous'}"
    )
    record_row(outcome)
    if replicas:
        outcome.assert_nothing_lost()
    assert outcome.doubled == 0
    assert outcome.lost < 0.02 * outcome.acknowledged
    assert load.errors
    assert {type(error) for error in load.errors} <= {
        NotReplicatedError,
        RedisUnavailableError,
        RedisTimeoutError,
        RedisRefusedError,
    }


@pytest.mark.parametrize("how", ["blocking", "awaited"])
def test_hung_primary(how, watched, connect, prefix):
    """The primary hangs: calls end by their timeout until another primary is elected, and then succeed there."""
    primary, replica, ports = watched
    server = connect("redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main/0")
    kind = RedisMemoryService if how == "blocking" else AsyncRedisMemoryService
    memory = kind(server=server, prefix=prefix)
    message = {"role": "user", "content": "?"}

    async def append():
        done = memory.append_to_history("a", "s", message)
        return await done if how == "awaited" else done

    async def go_on():
        await append()
        os.kill(primary.process.pid, signal.SIGSTOP)
        try:
            slowest, deadline = 0.0, time.monotonic() + 30
            while time.monotonic() < deadline:
                began = time.monotonic()
                try:
                    return await append(), slowest
                except RedisUnavailableError:
                    slowest = max(slowest, time.monotonic() - began)
        finally:
            os.kill(primary.process.pid, signal.SIGCONT)
        with replica.client() as client:
            pytest.fail(f"nobody took over, and the replica is {client.info('replication')['role']}")

    count, slowest = asyncio.run(go_on())
    assert count >= 1
    assert 0.5 < slowest < 2 * TIMEOUT_SECONDS


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_calls_that_share_a_connection(how, flavour, tmp_path, connect, prefix):
    """Calls share a connection to the primary; when another server becomes the primary, all go on there."""
    message = {"role": "user", "content": "?"}
    with (
        running_server(flavour, *AT_ONCE) as first,
        running_server(flavour, *AT_ONCE) as second,
        running_sentinel(tmp_path, first) as port,
        first.client() as old,
        second.client() as new,
        RunningServer("redis", port, None).client() as sentinel,
    ):
        server = connect(f"redis+sentinel://127.0.0.1:{port}/main", **UNHURRIED)
        memory = RedisMemoryService(server=server, prefix=prefix)
        awaiting = AsyncRedisMemoryService(server=server, prefix=prefix)

        async def append_all():
            if how == "tasks":
                await asyncio.gather(*(awaiting.append_to_history("a", f"{n}", message) for n in range(200)))
            else:
                append = functools.partial(asyncio.to_thread, memory.append_to_history, "a")
                await asyncio.gather(*(append(f"{n}", message) for n in range(200)))

        async def main():
            await append_all()
            before = old.info("stats")["total_reads_processed"]
            await append_all()
            assert old.info("stats")["total_reads_processed"] - before < 150
            sentinel.execute_command("SENTINEL", "REMOVE", "main")
            sentinel.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", second.port, 1)
            old.replicaof("127.0.0.1", second.port)
            await append_all()

        asyncio.run(main())
        assert new.dbsize() >= 200
        assert {len(memory.get_conversation_history("a", f"{n}")) for n in range(200)} == {1}


@pytest.mark.parametrize("topology", ["single", "sentinel"])
def test_an_answer_that_comes_too_late(topology, flavour, tmp_path, connect, prefix):
    """A late reply that no call waits for is never taken for the next call's."""
    with running_server(flavour) as server, running_sentinel(tmp_path, server) as port:
        url = server.url if topology == "single" else f"redis+sentinel://127.0.0.1:{port}/main"
        memory = RedisMemoryService(server=connect(url, redis_socket_timeout=0.5), prefix=prefix)
        for name in "ab":
            memory.save_agent_state(name, name)
        with ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                os.kill(server.process.pid, signal.SIGSTOP)
                try:
                    with pytest.raises(RedisTimeoutError):
                        memory.get_agent_state("a")
                    answer = pool.submit(memory.get_agent_state, "b")
                    end = time.monotonic() + 0.1
                    wait_until(lambda end=end: time.monotonic() > end, "the next call has been sent")
                finally:
                    os.kill(server.process.pid, signal.SIGCONT)
                with contextlib.suppress(RedisUnavailableError):  # a machine that is busy
                    assert answer.result() == "b"
                assert memory.get_agent_state("a") == "a"


def test_no_sentinel_is_forgotten(watched, connect):
    """Many callers that look for the primary at once, while a Sentinel is down, keep all Sentinels known."""
    primary, _, ports = watched
    hosts = ",".join(f"127.0.0.1:{port}" for port in (closed_port(), *ports))
    server = connect(f"redis+sentinel://{hosts}/main/0")
    known = server.client.connection_pool.sentinel_manager
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(known.discover_master, ["main"] * 16))
    assert set(found) == {("127.0.0.1", primary.port)}
    assert len({id(sentinel) for sentinel in known.sentinels}) == 4

    async def discover():
        client = server._factory.make_async()
        known = client.connection_pool.sentinel_manager
        assert set(await asyncio.gather(*(known.discover_master("main") for _ in range(16)))) == set(found)
        assert len({id(sentinel) for sentinel in known.sentinels}) == 4
        await asyncio.gather(client.aclose(), *(sentinel.aclose() for sentinel in known.sentinels))

    asyncio.run(discover())


def test_wait_replicas(flavour, connect, prefix):
    """With too few replicas a write says that they lack it; with enough it returns. Reads never wait."""
    with running_server(flavour, *AT_ONCE) as server:
        memory = RedisMemoryService(server=connect(f"{server.url}?wait_replicas=1"), prefix=prefix)
        message = {"role": "user", "content": "?", "id": "1"}
        with pytest.raises(NotReplicatedError, match="0 of 1 replicas"):
            memory.append_to_history("a", "s", message)
        assert len(memory.get_conversation_history("a", "s")) == 1
        with running_server(flavour, "--replicaof", f"127.0.0.1 {server.port}"), server.client() as client:
            wait_until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "a replica")
            patient = connect(f"{server.url}?wait_replicas=1", redis_socket_timeout=40)
            memory = RedisMemoryService(server=patient, prefix=prefix)
            assert memory.append_to_history("a", "s", message) == 1, "the same message again is there once"
            client.script_flush()
            assert memory.append_to_history("a", "s", message | {"id": "2"}) == 2
    with pytest.raises(ConfigurationError, match="number"):
        connect("redis://127.0.0.1:1?wait_replicas=many")


def test_a_write_made_again_waits_too(flavour, connect, prefix):
    """A write whose reply was lost is repeated, and not acknowledged without its replica then either."""
    with (
        running_server(flavour, *AT_ONCE) as server,
        running_server(flavour, "--replicaof", f"127.0.0.1 {server.port}") as replica,
        running_proxy(server.port) as proxy,
    ):
        with server.client() as client:
            wait_until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "a replica")
        connected = connect(f"{proxy.url}?wait_replicas=1", redis_socket_timeout=0.5)
        memory = RedisMemoryService(server=connected, prefix=prefix)
        history = RedisChatMessageHistory("b", "s", server=connected, prefix=prefix)
        saver = RedisSaver(server=connected, prefix=prefix)
        patient = RedisSaver(
            server=connect(f"{server.url}?wait_replicas=1", redis_socket_timeout=40), prefix=prefix
        )
        graph = build_graph(patient)
        graph.invoke({"messages": [HumanMessage("?")]}, CONFIG)
        config = graph.get_state(CONFIG).config
        message = {"role": "user", "content": "?"}
        os.kill(replica.process.pid, signal.SIGSTOP)
        try:
            for call in (
                lambda: memory.append_to_history("a", "s", message),
                lambda: memory.save_conversation_history("a", "s", [message]),
                lambda: memory.save_agent_state("a", {"n": 1}),
                lambda: history.add_messages([HumanMessage("!", id="1")]),
                lambda: saver.put_writes(config, [("messages", [HumanMessage("!")])], "task"),
            ):
                cuts = proxy.cuts
                memory.get_session_data("s", "nothing")  # connects, so that the cut loses no answer to a greeting
                proxy.cut_next("reply", after=1)
                with pytest.raises(NotReplicatedError):
                    call()
                assert proxy.cuts == cuts + 1
        finally:
            os.kill(replica.process.pid, signal.SIGCONT)
        assert len(memory.get_conversation_history("a", "s")) == len(history.messages) == 1
