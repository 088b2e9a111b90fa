"""Faults of a single server, under load through the public API, sync and async."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import RedisRefusedError, RedisTimeoutError, RedisUnavailableError
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.store import RedisStore
from tests.faults.conftest import UNHURRIED
from tests.faults.load import Load, build_graph
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import need, running_server, wait_until

# With everysec, a server acknowledges writes that are only in its memory, for as long as an fsync takes.
AOF = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def kinds_of_errors():
    """Asserts that all errors of a load are of these classes exactly."""

    def check(load, *expected):
        found = {type(error) for error in load.errors}
        assert found <= set(expected), [e for e in load.errors if type(e) not in expected][:3]
        return found

    return check


def test_killed_and_restarted(flavour, connect, prefix, load_seconds, is_long, record_row, kinds_of_errors):
    """SIGKILL of a server with an append-only file loses nothing that a call returned for, and doubles nothing."""
    with running_server(flavour, *AOF) as server:
        with Load(connect(server.url), prefix) as load:
            for _ in range(4 if is_long else 2):
                load.run_for(load_seconds)
                load.fault()
                server.kill()
                load.wait_for_errors()
                server.start()
                load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: SIGKILL and restart, AOF always")
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisUnavailableError, RedisTimeoutError, RedisRefusedError)


@pytest.mark.parametrize("what", ["command", "reply"])
def test_cut_in_the_middle(what, flavour, connect, prefix, load_seconds, is_long, record_row, kinds_of_errors):
    """If a connection breaks inside a command or its reply, the call is repeated and counts once."""
    with running_server(flavour) as server, running_proxy(server.port) as proxy:
        with Load(connect(proxy.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            for cut in range(400 if is_long else 60):
                proxy.cut_next(what, after=(0, 1, 2, 3, 7, 19, 40, 83, 211, 999)[cut % 10])
                wait_until(lambda: not proxy.is_armed(what), "the connection breaks")
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: {proxy.cuts} connections cut inside a {what}")
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisUnavailableError)


def test_connections_refused_for_a_while(flavour, connect, prefix, load_seconds, record_row, kinds_of_errors):
    """A network that drops every connection for a while causes named errors, and then everything works again."""
    with running_server(flavour) as server, running_proxy(server.port) as proxy:
        with Load(connect(proxy.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            proxy.refuse()
            load.wait_for_errors()
            proxy.accept()
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: network drops every connection")
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisUnavailableError)


def test_slow_network(flavour, connect, prefix, load_seconds, record_row, kinds_of_errors):
    """20 ms more each way only makes calls slower."""
    with running_server(flavour) as server, running_proxy(server.port) as proxy:
        with Load(connect(proxy.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            proxy.delay_seconds = 0.02
            load.fault()
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: 20 ms of delay each way")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert not load.errors


def test_network_that_swallows(flavour, connect, prefix, load_seconds, record_row, kinds_of_errors):
    """A network that silently drops everything: calls end by their timeout, and succeed afterwards."""
    with running_server(flavour) as server, running_proxy(server.port) as proxy:
        with Load(connect(proxy.url), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            proxy.hold()
            load.wait_for_errors()
            proxy.release()
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: network lets nothing through")
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisTimeoutError)


def test_client_kill(flavour, connect, prefix, load_seconds, is_long, record_row):
    """No caller notices repeated CLIENT KILLs of every connection."""
    with running_server(flavour) as server, server.client() as admin:
        with Load(connect(server.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            end = time.monotonic() + (20 if is_long else 1.5)
            kills = 0
            while time.monotonic() < end or kills <= 20:  # calls share connections, so there are few to kill
                kills += admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                load.run_for(
                    0.2
                )  # more than a command takes on a busy machine: five tries in a row must not all be met
            load.wait_for_recovery()
        outcome = load.outcome(f"{flavour}: CLIENT KILL of {kills} connections")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert kills > 20
    assert not load.errors


def test_script_flush(flavour, connect, prefix, load_seconds, is_long, record_row):
    """No caller notices SCRIPT FLUSH at any moment."""
    with running_server(flavour) as server, server.client() as admin:
        with Load(connect(server.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            for _ in range(100 if is_long else 15):
                admin.script_flush()
                load.run_for(0.02)
            load.wait_for_recovery()
        outcome = load.outcome(f"{flavour}: SCRIPT FLUSH")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert not load.errors


def test_out_of_memory(flavour, connect, prefix, load_seconds, record_row, kinds_of_errors):
    """A full server (noeviction) refuses with an error that says so; no write is stored in part."""
    with running_server(flavour, "--maxmemory-policy", "noeviction") as server, server.client() as admin:
        with Load(connect(server.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            admin.config_set("maxmemory", "1mb")
            load.wait_for_errors(2)
            admin.config_set("maxmemory", "0")
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: out of memory, noeviction")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert kinds_of_errors(load, RedisRefusedError)
    assert all("maxmemory" in str(error) for error in load.errors)


def test_becomes_a_read_only_replica(flavour, connect, prefix, load_seconds, record_row, kinds_of_errors):
    """A server that becomes a replica refuses writes by name, and takes them again as a primary."""
    at_once = ("--repl-diskless-sync-delay", "0")
    with (
        running_server(flavour) as other,
        running_server(flavour, *at_once) as server,
        server.client() as admin,
    ):
        with Load(connect(server.url, **UNHURRIED), prefix) as load, other.client() as other_admin:
            load.run_for(load_seconds)
            other_admin.replicaof("127.0.0.1", server.port)
            wait_until(
                lambda: admin.execute_command("WAIT", 1, 100) == 1, "the other server has what this one has"
            )
            load.fault()
            # A replica of an empty server would empty itself, so this one's primary does not exist.
            admin.replicaof("127.0.0.1", 1)
            load.wait_for_errors(2)
            admin.replicaof("NO", "ONE")
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: becomes a read-only replica for a while")
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisRefusedError)
    assert all("read-only replica" in str(error) for error in load.errors)


def test_disk_full(connect, prefix, load_seconds, record_row, kinds_of_errors):
    """If the disk has no room for the append-only file, writes are refused by name until there is room.

    Only Debian's Redis, with everysec: a server that fsyncs each write ends itself on a full disk.
    """
    options = ("--appendonly", "yes", "--appendfsync", "everysec")
    with small_disk() as folder, running_server("redis", *options, "--dir", str(folder)) as server:
        with Load(connect(server.url, **UNHURRIED), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            filler = folder / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            load.wait_for_errors(2)
            filler.unlink()
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome("redis: disk full for a while")
        live = load.stored()
        server.stop()
        server.start()
        assert load.stored() == live, "what the server acknowledged is what its file brings back"
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisRefusedError, RedisUnavailableError)


@contextlib.contextmanager
def small_disk():
    """A folder on a file system of 64 MB: more than any load here writes."""
    with tempfile.TemporaryDirectory(prefix="ecowas-lc-disk-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode:
            need("root and CAP_SYS_ADMIN, to mount a small file system")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def test_hung_server(flavour, connect, prefix, load_seconds, record_row, kinds_of_errors):
    """SIGSTOP: every call ends by its timeout and not later, and everything works once the server continues."""
    with running_server(flavour) as server:
        with Load(connect(server.url), prefix) as load:
            load.run_for(load_seconds)
            load.fault()
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                load.wait_for_errors(2)
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            load.wait_for_recovery()
            load.run_for(load_seconds)
        outcome = load.outcome(f"{flavour}: SIGSTOP, then SIGCONT")
    record_row(outcome)
    outcome.assert_nothing_lost()
    kinds_of_errors(load, RedisTimeoutError)


def test_eviction(flavour, connect, prefix, is_long):
    """A server that evicts (allkeys-lru) loses whole threads and histories, never parts; nothing else goes wrong.

    Evicted data is lost: that is the policy's meaning, and why `ecowas-lc doctor` warns about it.
    """
    with running_server(flavour, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "4mb") as server:
        service = RedisMemoryService(server=connect(server.url), prefix=prefix)
        saver = RedisSaver(server=service.server, prefix=prefix)
        graph = build_graph(saver)
        count = 300 if is_long else 60
        for n in range(count):
            config = {"configurable": {"thread_id": str(n)}}
            for turn in range(2):
                graph.invoke({"messages": [HumanMessage(os.urandom(8000).hex(), id=str(turn))]}, config)
            for turn in range(2):
                service.append_to_history("a", str(n), {"role": "user", "content": str(turn) + "x" * 2000})
        with server.client() as admin:
            assert admin.info("stats")["evicted_keys"] > 20
        lengths = [len(service.get_conversation_history("a", str(n))) for n in range(count)]
        threads = [
            len(graph.get_state({"configurable": {"thread_id": str(n)}}).values.get("messages", []))
            for n in range(count)
        ]
    assert set(lengths) <= {0, 1, 2}  # one: evicted between two appends, and started again
    assert set(threads) <= {0, 2, 4}
    assert 0 in threads
    assert threads[-1] == 4


def test_eviction_of_items(flavour, connect, prefix, is_long):
    """A store on a server that evicts (allkeys-lru) returns items whole or not at all, and finds no evicted one.

    Items written after an eviction are stored and found.
    """
    with (
        running_server(flavour, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "4mb") as server,
        RedisStore(server=connect(server.url), prefix=prefix, index={"embed": None}) as store,
    ):
        count = 600 if is_long else 200
        for n in range(count):
            store.put((f"user{n}", "notes"), "a", {"text": f"word{n}", "rest": os.urandom(8000).hex()})
            if n % 20 == 0:
                store.search((f"user{n // 2}",), query=f"word{n // 2}", mode="words")
        with server.client() as admin:
            assert admin.info("stats")["evicted_keys"] > 20
        gone = 0
        for n in range(count):
            item = store.get((f"user{n}", "notes"), "a")
            if item is None:
                gone += 1
            else:
                assert item.value["text"] == f"word{n}"
                assert len(item.value["rest"]) == 16_000
            found = store.search((f"user{n}",), query=f"word{n}", mode="words")
            assert [each.value["text"] for each in found] == [f"word{n}"] * len(found)
            assert len(found) <= (item is not None)
        assert 0 < gone < count
        store.put((f"user{count}", "notes"), "a", {"text": "after"})
        assert [each.key for each in store.search((f"user{count}",), query="after", mode="words")] == ["a"]
