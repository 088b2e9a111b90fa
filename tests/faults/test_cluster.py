"""A cluster of three primaries and three replicas under load: primaries that die, slots that move."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import (
    NotReplicatedError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
    StorageError,
)
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.storage.keys import Keys
from tests.faults.conftest import UNHURRIED
from tests.faults.load import Load, build_graph
from tests.fixtures.servers import IN_CLUSTER, running_cluster, running_server, wait_until

EXPECTED = {RedisUnavailableError, RedisTimeoutError, RedisRefusedError, NotReplicatedError, StorageError}
SLOTS_MOVED_OFF_A_NODE = 20
HOW = {0: "asynchronous", 1: "wait_replicas=1"}
# redis-py 6 forgets the connections of nodes that a failover replaces, and leaves them to the garbage collector.
LEAVES_OPEN = redis.__version__.startswith("6.")
pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning")] if LEAVES_OPEN else []
replicas_waited_for = pytest.mark.parametrize("replicas", HOW, ids=list(HOW.values()))


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What is left open is collected within the test that it belongs to."""
    yield
    if LEAVES_OPEN:
        gc.collect()


@pytest.fixture(scope="module")
def replicated(flavour):
    """Three primaries and three replicas; the last test of the module breaks them."""
    with running_cluster(flavour, replicas=1) as cluster:
        yield cluster


def slots_of(client):
    """The ranges of slots of each primary, by port."""
    found = {}
    for line in client.execute_command("CLUSTER", "NODES", NEVER_DECODE=1).decode().splitlines():
        words = line.split()
        if "master" in words[2] and "fail" not in words[2] and len(words) > 8:
            port = int(words[1].split("@")[0].rsplit(":", 1)[1])
            found[port] = (words[0], [word for word in words[8:] if not word.startswith("[")])
    return found


def has_all_slots(client, but):
    """Whether three primaries have slots and ``but`` is not one of them."""
    ports = slots_of(client)
    return len(ports) == 3 and but.port not in ports


def wait_for_replicas(cluster):
    """Wait until every replica follows its primary."""
    for node in cluster.nodes[:3]:
        with node.client() as client:
            wait_until(lambda client=client: _replicas_online(client), "a replica in step")


def _replicas_online(client):
    info = client.info("replication")
    return info["role"] != "master" or info.get("slave0", {}).get("state") == "online"


@replicas_waited_for
def test_slots_move(replicas, replicated, flavour, connect, prefix, load_seconds, is_long, record_row):
    """Slots move to another primary under load (ASK, TRYAGAIN, MOVED): nothing is lost or doubled."""
    wait_for_replicas(replicated)
    with Load(connect(f"{replicated.url}?wait_replicas={replicas}"), prefix) as load:
        load.run_for(load_seconds)
        load.fault()
        moved = 0
        # The distribution of keys is random: the primary with the most of them is taken first.
        fullest_first = sorted(range(3), key=lambda number: -len(slots_in_use(replicated.nodes[number], prefix)))
        for number in fullest_first[: 3 if is_long else 1]:
            source, target = replicated.nodes[number], replicated.nodes[(number + 1) % 3]
            # A quick load fills hundreds of slots; moving them all took longer than a test may.
            for slot in sorted(slots_in_use(source, prefix))[:SLOTS_MOVED_OFF_A_NODE]:
                move_slot(source, target, slot, replicated.nodes[:3])
                moved += 1
        load.wait_for_recovery()
        load.run_for(load_seconds)
    assert moved > 3
    outcome = load.outcome(f"{flavour} cluster: {moved} slots moved under load, {HOW[replicas]}")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert {type(error) for error in load.errors} <= EXPECTED, load.errors[:3]


def test_slots_move_to_a_new_node(replicated, flavour, connect, prefix, load_seconds, record_row):
    """A node unknown to every client takes over slots under load, and hands them back."""
    primaries = replicated.nodes[:3]
    options = (*IN_CLUSTER, "--cluster-allow-replica-migration", "no")
    with running_server(flavour, *options) as new, new.client() as admin:
        admin.execute_command("CLUSTER", "MEET", "127.0.0.1", primaries[0].port)
        wait_until(lambda: all(knows(node, new) for node in primaries), "everybody knows the new node")
        wait_until(
            lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER", "INFO", NEVER_DECODE=1),
            "the new node knows the cluster",
        )
        with Load(connect(replicated.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            moved = [(node, slot) for node in primaries for slot in sorted(slots_in_use(node, prefix))][:5]
            for node, slot in moved:
                move_slot(node, new, slot, [*primaries, new])
            load.wait_for_recovery()
            load.run_for(load_seconds)
            for node, slot in moved:
                move_slot(new, node, slot, [*primaries, new])
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour} cluster: {len(moved)} slots moved to a new node and back")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert not load.errors, load.errors[:3]


def knows(node, other):
    """Whether a node has met another."""
    with node.client() as client:
        nodes = client.execute_command("CLUSTER", "NODES", NEVER_DECODE=1).decode()
        return any(f":{other.port}@" in line and "handshake" not in line for line in nodes.splitlines())


def slots_in_use(node, prefix):
    """The slots of the keys that a node holds."""
    with node.client() as client:
        return {client.execute_command("CLUSTER", "KEYSLOT", key) for key in client.scan_iter(f"{prefix}:*")}


def move_slot(source, target, slot, primaries):
    """Move a slot key by key, as `redis-cli --cluster reshard` does, with a while between two keys."""
    with moving(source, target, slot) as migrate, source.client() as client:
        while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            migrate(keys[0])
            pause = time.monotonic() + 0.01
            wait_until(lambda end=pause: time.monotonic() > end, "callers meet a slot that is half moved")
    with target.client() as client:
        there = client.execute_command("CLUSTER", "MYID", NEVER_DECODE=1)
    for node in primaries:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)


@contextlib.contextmanager
def moving(source, target, slot):
    """A migrating slot; returns a function that moves one key, and assigns the slot to the target at the end."""
    with source.client() as giving, target.client() as taking:
        here, there = (client.execute_command("CLUSTER", "MYID", NEVER_DECODE=1) for client in (giving, taking))
        taking.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
        giving.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)

        def migrate(key):
            giving.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

        yield migrate
        while left := giving.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):  # other tests' keys
            for key in left:
                migrate(key)
        for client in (taking, giving):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)


@replicas_waited_for
def test_half_moved_slot(replicas, replicated, connect, prefix):
    """While a slot migrates, writes reach a moved key; a half-moved set of keys is retried, then a named error."""
    wait_for_replicas(replicated)
    server = connect(f"{replicated.url}?wait_replicas={replicas}")
    memory = RedisMemoryService(server=server, prefix=prefix)
    awaiting = AsyncRedisMemoryService(server=server, prefix=prefix)
    expected = []

    def append():
        expected.append(str(len(expected)))
        memory.append_to_history("a", "s", {"role": "user", "content": expected[-1]})

    async def append_async():
        # Many at once, so that there are several connections, and a wrong one could be taken.
        texts = [str(len(expected) + n) for n in range(4)]
        expected.extend(texts)
        await asyncio.gather(
            *(awaiting.append_to_history("a", "s", {"role": "user", "content": t}) for t in texts)
        )

    append()
    key = Keys(prefix).history("a", "s")
    with replicated.nodes[0].client() as client:
        slot = client.execute_command("CLUSTER", "KEYSLOT", key)
        here = next(port for port, (_, ranges) in slots_of(client).items() if is_in(slot, ranges))
    source = next(node for node in replicated.nodes if node.port == here)
    target = next(node for node in replicated.nodes[:3] if node is not source)
    with moving(source, target, slot) as migrate:
        append()
        migrate(key)
        with pytest.raises(StorageError, match="moving this slot"):
            append()
        expected.pop()
        migrate(Keys(prefix).history_meta("a", "s"))
        append()
        asyncio.run(append_async())
    append()
    asyncio.run(append_async())
    found = [message["content"] for message in memory.get_conversation_history("a", "s")]
    assert sorted(found, key=int) == expected


def is_in(slot, ranges):
    """Whether a slot is in a range that CLUSTER NODES lists as ``0-99`` or ``7``."""
    return any(int(words[0]) <= slot <= int(words[-1]) for words in (each.split("-") for each in ranges))


def test_wait_replicas(replicated, connect, prefix):
    """A write returns when the replicas asked for have it, and says when they don't; sync, async, new scripts."""
    wait_for_replicas(replicated)
    message = {"role": "user", "content": "?", "id": "1"}
    for replicas in (1, 2):
        server = connect(f"{replicated.url}?wait_replicas={replicas}")
        calls = [
            lambda s=server: RedisMemoryService(server=s, prefix=prefix).append_to_history("a", "s", message),
            lambda s=server: asyncio.run(
                AsyncRedisMemoryService(server=s, prefix=prefix).append_to_history("a", "s", message)
            ),
        ]
        for call in calls:
            for node in replicated.nodes[:3]:
                with node.client() as client:
                    client.script_flush()
            if replicas == 1:
                assert call() == 1, "the same message again is there once"
            else:
                with pytest.raises(NotReplicatedError, match="1 of 2 replicas"):
                    call()
        assert len(RedisMemoryService(server=server, prefix=prefix).get_conversation_history("a", "s")) == 1
    for _ in range(3):  # again, though nothing is left
        again = connect(f"{replicated.url}?wait_replicas=2")
        for delete in (
            lambda s=again: RedisMemoryService(server=s, prefix=prefix).clear_conversation_history("a", "s"),
            lambda s=again: asyncio.run(RedisSaver(server=s, prefix=prefix).adelete_thread("t")),
        ):
            with pytest.raises(NotReplicatedError, match="1 of 2 replicas"):
                delete()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in replicated.nodes[:3]]
        assert not any("wait" in str(key) for client in clients for key in client.scan_iter(f"{prefix}:*"))


@pytest.mark.parametrize("how", ["blocking", "awaited"])
def test_hung_primary(how, replicated, flavour, connect, prefix):
    """A primary that hangs: calls to it end by their timeout (asking who serves the slots included)."""
    wait_for_replicas(replicated)
    kind = RedisMemoryService if how == "blocking" else AsyncRedisMemoryService
    memory = kind(server=connect(replicated.url), prefix=prefix)
    message = {"role": "user", "content": "?"}
    victim = next(node for node in replicated.nodes if is_primary(node))

    async def ended(n):
        began = time.monotonic()
        try:
            done = memory.append_to_history("a", str(n), message)
            if how == "awaited":
                await done
        except StorageError as error:
            return time.monotonic() - began, type(error)
        return None

    async def meet_it():
        assert [await ended(n) for n in range(12)] == [None] * 12
        os.kill(victim.process.pid, signal.SIGSTOP)
        try:
            for n in range(12):
                if found := await ended(n):
                    return found
        finally:
            os.kill(victim.process.pid, signal.SIGCONT)
        return pytest.fail("a third of the histories are on the hung node")

    seconds, error = asyncio.run(meet_it())
    assert seconds < 2.5
    assert error is RedisTimeoutError


def is_primary(node):
    with node.client() as client:
        return client.info("replication")["role"] == "master"


def test_everything_of_a_thread_in_one_slot(replicated, connect, prefix):
    """Every operation of every part works on a cluster: no CROSSSLOT anywhere, whatever the ids."""
    server = connect(replicated.url)
    ids = ["a", "{b}", "a}{b", "{}", "c:d", "é{x}y", "}"]
    saver = RedisSaver(server=server, prefix=prefix)
    graph = build_graph(saver)
    for thread in ids:
        config = {"configurable": {"thread_id": thread}}
        for n in range(2):
            graph.invoke({"messages": [("user", f"{n}" + "x" * 300)]}, config)
        assert len(graph.get_state(config).values["messages"]) == 4
        assert len(list(saver.list(config))) > 4
        saver.copy_thread(thread, thread + "-copy")
        saver.prune([thread], strategy="keep_latest")
        assert saver.touch(thread)
        assert len(graph.get_state(config).values["messages"]) == 4
    assert len({t.config["configurable"]["thread_id"] for t in saver.list(None)}) == 2 * len(ids)
    for thread in ids:
        saver.delete_thread(thread)
        history = RedisChatMessageHistory(thread, thread, server=server, prefix=prefix)
        history.add_messages([])
        history.add_user_message("?")
        history.extend_ttl(60)
        assert history.info().messages == 1
    memory = RedisMemoryService(server=server, prefix=prefix)
    for name in ids:
        memory.save_agent_state(name, {"a": 1})
        memory.set_session_data(name, name, 1)
        assert memory.get_all_session_data(name) == {name: 1}
        assert memory.get_all_sessions_for_agent(name) == [name]
    assert set(memory.get_all_agents()) == set(ids)
    assert memory.get_memory_stats()["agents"] == len(ids)
    for name in ids:
        assert memory.clear_all_agent_data(name) == 2
        assert memory.clear_session(name) == 1
    assert memory.get_memory_stats()["sessions"] == 0


@replicas_waited_for
def test_primary_killed(replicas, replicated, flavour, connect, prefix, load_seconds, record_row):
    """A primary is killed under load: its replica takes over, and the load continues.

    Redis replicates after it has replied, so its last acknowledged writes may be lost with it. With
    ``wait_replicas=1`` a call returns only when a replica has the write too, and nothing is lost.
    """
    wait_for_replicas(replicated)
    victim, survivor = replicated.nodes[replicas], replicated.nodes[2]
    with Load(connect(f"{replicated.url}?wait_replicas={replicas}"), prefix) as load:
        load.run_for(load_seconds)
        load.fault()
        victim.kill()
        with survivor.client() as client:
            # Started again any earlier it would be its slots' primary, with nothing in them.
            wait_until(lambda: has_all_slots(client, but=victim), "another node has its slots")
        if replicas:  # nothing is acknowledged there before there is a replica again
            victim.start()
        load.wait_for_recovery()
        load.run_for(load_seconds)
        if not replicas:
            victim.start()
    outcome = load.outcome(f"{flavour} cluster: primary killed, {HOW[replicas]}")
    record_row(outcome)
    if replicas:
        outcome.assert_nothing_lost()
    assert outcome.doubled == 0
    assert outcome.lost < 0.02 * outcome.acknowledged
    assert outcome.recovery_seconds is not None
    assert load.errors or outcome.recovery_seconds > 1, "the writers met the fault, if only by waiting for its end"
    assert {type(error) for error in load.errors} <= EXPECTED
