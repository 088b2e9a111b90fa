"""A primary, a replica and three Sentinels under load: the primary dies, and later comes back as a replica."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from ecowas_lc.errors import RedisRefusedError, RedisTimeoutError, RedisUnavailableError
from tests.faults.load import Load
from tests.fixtures.servers import RunningServer, free_port, running_server, server_binary, wait_until


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
        primary = stack.enter_context(running_server(flavour))
        replica = stack.enter_context(running_server(flavour, "--replicaof", f"127.0.0.1 {primary.port}"))
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


def test_primary_killed(watched, flavour, connect, prefix, load_seconds, is_long, record_row):
    """The primary is killed under load: clients find the new one by themselves and go on."""
    primary, replica, ports = watched
    url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main/0"
    with Load(connect(url), prefix) as load:
        load.run_for(load_seconds)
        with primary.client() as client:
            wait_until(lambda: client.info("replication")["slave0"]["state"] == "online", "a replica in step")
        load.fault()
        primary.kill()
        load.wait_for_recovery()
        load.run_for(load_seconds)
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"
        primary.start()
        with primary.client() as client:
            wait_until(
                lambda: client.info("replication")["role"] == "slave", "the old primary follows the new one"
            )
        load.run_for(load_seconds)
    outcome = load.outcome(f"{flavour} Sentinel: primary killed, failover (asynchronous replication)")
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert load.errors
    assert {type(error) for error in load.errors} <= {RedisUnavailableError, RedisTimeoutError, RedisRefusedError}
