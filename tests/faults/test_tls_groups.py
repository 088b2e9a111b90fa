"""Sentinels and clusters that speak nothing but TLS to their users."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ecowas_lc.errors import RedisUnavailableError
from ecowas_lc.history import RedisChatMessageHistory
from tests.fixtures.servers import (
    DEADLINE_SECONDS,
    IN_CLUSTER,
    RunningServer,
    free_port,
    running_server,
    server_binary,
    wait_until,
)


def with_tls(port: int, certificates: Path) -> dict[str, str]:
    return {
        "tls-port": str(port),
        "tls-cert-file": str(certificates / "server.crt"),
        "tls-key-file": str(certificates / "server.key"),
        "tls-ca-cert-file": str(certificates / "ca.crt"),
        "tls-auth-clients": "no",
    }


def as_arguments(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@contextlib.contextmanager
def running_sentinel(folder: Path, primary_port: int, certificates: Path) -> Iterator[int]:
    """A Sentinel that speaks only TLS, also to its primary."""
    port = free_port()
    config = folder / "sentinel.conf"
    lines = ["port 0", "bind 127.0.0.1", f"dir {folder}", "tls-replication yes"]
    lines += [f"{name} {value}" for name, value in with_tls(port, certificates).items()]
    config.write_text("\n".join([*lines, f"sentinel monitor main 127.0.0.1 {primary_port} 1", ""]))
    with (folder / "sentinel.log").open("wb") as log:
        command = [server_binary("redis"), str(config), "--sentinel"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def knows_its_primary(port: int, certificates: Path) -> bool:
    with (
        contextlib.suppress(redis.RedisError, OSError),
        redis.Redis(port=port, ssl=True, ssl_ca_certs=str(certificates / "ca.crt")) as sentinel,
    ):
        return sentinel.sentinel_master("main")["num-slaves"] is not None
    return False


@pytest.fixture
def group(request, tmp_path, certificates) -> Iterator[tuple[str, RunningServer]]:
    """The address of a group, and its one server, which its tests ask without TLS."""
    port = free_port()
    options = with_tls(port, certificates)
    with contextlib.ExitStack() as stack:
        if request.param == "sentinel":
            server = stack.enter_context(running_server("redis", *as_arguments(options)))
            at = stack.enter_context(running_sentinel(tmp_path, port, certificates))
            wait_until(lambda: knows_its_primary(at, certificates), "the Sentinel")
            yield f"rediss+sentinel://localhost:{at}/main/0", server
        else:
            options["tls-cluster"] = "yes"
            server = stack.enter_context(running_server("redis", *IN_CLUSTER, *as_arguments(options)))
            with server.client() as node:
                node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                wait_until(lambda: node.cluster("info")["cluster_state"] == "ok", "the cluster")
            yield f"rediss+cluster://localhost:{port}", server


@pytest.mark.parametrize("group", ["sentinel", "cluster"], indirect=True)
def test_groups_with_tls(group, certificates):
    """Sentinels or cluster nodes, and the servers that they name, are reached by TLS with checked certificates."""
    address, server = group
    history = RedisChatMessageHistory("a", "s", url=f"{address}?ssl_ca_certs={certificates}/ca.crt")
    history.add_user_message("one")

    async def more() -> list[str]:
        await history.aadd_messages(history.messages)
        texts = [message.text for message in await history.aget_messages()]
        await history.server.aclose()
        return texts

    assert asyncio.run(more()) == ["one"]
    with server.client() as raw:
        assert raw.llen("ecowas:history:a:s") == 1
    stranger = RedisChatMessageHistory("a", "s", url=f"{address}?ssl_ca_certs={certificates}/other-ca.crt")
    with pytest.raises(RedisUnavailableError, match="with TLS: CERTIFICATE_VERIFY_FAILED"):
        stranger.add_user_message("two")
    with pytest.raises(RedisUnavailableError, match="with TLS: CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(stranger.aget_messages())
