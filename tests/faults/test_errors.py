"""Refusals by real servers become named errors with advice, and no other library's errors."""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import threading
import time

import pytest
import redis

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import (
    ConfigurationError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
    StorageError,
)
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.storage.error_translation import translate
from tests.fixtures.servers import closed_port, running_server, wait_until

MESSAGE = {"role": "user", "content": "?"}
PASSWORD = "s3cret-pa55word"


def raised_by(url, **options):
    """The error of an append, sync and async alike."""
    sync, other = both_raised_by(url, **options)
    assert type(other) is type(sync)
    assert str(other) == str(sync)
    return sync


def both_raised_by(url, **options):
    options = {"url": url, "socket_timeout": 2, "connect_timeout": 2} | options
    with RedisMemoryService(**options) as memory, pytest.raises(StorageError) as sync:
        memory.append_to_history("a", "s", MESSAGE)

    async def append():
        async with AsyncRedisMemoryService(**options) as memory:
            await memory.append_to_history("a", "s", MESSAGE)

    with pytest.raises(StorageError) as other:
        asyncio.run(append())
    return sync.value, other.value


def test_an_unknown_host():
    """An unresolvable host name gets a different message than a server that does not run."""
    error = raised_by("redis://no-such-host.invalid:6379/0")
    assert isinstance(error, RedisUnavailableError)
    assert "host name of Redis at no-such-host.invalid:6379 can't be resolved" in str(error)


def test_a_fault_of_tls_without_a_reason():
    """OpenSSL's refusal of an option is named, although Python gives it no reason."""
    with running_server() as server:
        error = raised_by(f"rediss://127.0.0.1:{server.port}?ssl_ciphers=none")
    assert "can't be reached with TLS: No cipher can be selected." in str(error)


@pytest.mark.parametrize("requirement", ["CERT_NONE", "none", "cert_required"])
def test_both_names_of_a_certificate_requirement(requirement):
    """The names that Celery uses in a URL work as well as redis-py's own, and reach the connection."""
    error = raised_by(f"rediss://127.0.0.1:{closed_port()}?ssl_cert_reqs={requirement}")
    assert "can't be reached. Start it" in str(error)


@pytest.fixture(scope="module")
def own():
    with running_server("redis") as server:
        yield server


@pytest.fixture
def admin(own):
    with own.client() as client:
        yield client


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("maxmemory", "1", "maxmemory"),
        ("min-replicas-to-write", "1", "too few replicas"),
        ("requirepass", PASSWORD, "REDIS_PASSWORD"),
    ],
)
def test_refusals_by_configuration(own, admin, name, value, advice):
    """A refusal caused by the server's configuration is a named error that says what to do."""
    before = admin.config_get(name)[name]
    admin.config_set(name, value)
    try:
        error = raised_by(own.url)
        with RedisMemoryService(url=own.url) as memory, pytest.raises(RedisRefusedError):
            memory.save_conversation_history("a", "s", [MESSAGE])
    finally:
        admin.config_set(name, before)
    assert type(error) is RedisRefusedError
    assert advice in str(error)
    assert PASSWORD not in str(error)


def test_read_only_and_stale_replicas(own, admin):
    """A replica is named as one; a replica that serves nothing reports its lost primary."""
    admin.replicaof("127.0.0.1", 1)
    try:
        assert "read-only replica" in str(raised_by(own.url))
        admin.config_set("replica-serve-stale-data", "no")
        assert "lost its primary" in str(raised_by(own.url))
    finally:
        admin.replicaof("NO", "ONE")


def test_logins(own, admin):
    """Wrong passwords, superfluous passwords and missing permissions each have their own message."""
    address = f"127.0.0.1:{own.port}"
    admin.execute_command("ACL", "SETUSER", "limited", "on", f">{PASSWORD}", "~ecowas:*", "+@read", "+evalsha")
    cases = {
        f"redis://limited:wrong-{PASSWORD}@{address}": "The user name or password is wrong",
        f"redis://:{PASSWORD}@{address}": "It has no password",
        f"redis://limited:{PASSWORD}@{address}": "the user 'limited' may not",
    }
    for url, advice in cases.items():
        error = raised_by(url, prefix="ecowas")
        assert type(error) is RedisRefusedError
        assert advice in str(error)
        assert PASSWORD not in f"{error!r}{error}{error.__cause__!r}{error.__cause__}"
    admin.execute_command("ACL", "DELUSER", "limited")


def test_more_refusals(own, admin):
    """A missing database, a server without a free connection, and one that runs a long script are named."""
    assert "REDIS_DB" in str(raised_by(f"redis://127.0.0.1:{own.port}/99"))
    admin.config_set("maxclients", 1)
    try:
        sync, _ = both_raised_by(own.url)  # async, the connection may be reset before its answer is read
        assert "maxclients" in str(sync)
    finally:
        admin.config_set("maxclients", 1000)
    admin.config_set("busy-reply-threshold", 50)
    endless = threading.Thread(target=_run_endless_script, args=(own,))
    endless.start()
    try:
        with own.client() as other:
            wait_until(lambda: _is_busy(other), "the script is noticed")
            error = raised_by(own.url)
            other.execute_command("SCRIPT", "KILL")
    finally:
        endless.join(20)
    assert "busy with a long script" in str(error)


def _run_endless_script(own):
    with own.client() as client, pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


def _is_busy(client):
    try:
        client.get("a")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_clusters_and_single_servers_told_apart(own, cluster):
    """A cluster addressed as a single server, and the reverse, gets the right URL; so does a false Sentinel."""
    single = raised_by(f"redis://127.0.0.1:{cluster.nodes[0].port}", prefix="p")
    assert type(single) is RedisRefusedError
    assert "redis+cluster://" in str(single)
    error = raised_by(f"redis+cluster://127.0.0.1:{own.port}")
    assert type(error) is RedisRefusedError
    assert "redis:// URL" in str(error)
    error = raised_by(f"redis+sentinel://127.0.0.1:{own.port}/main")
    assert type(error) is RedisRefusedError
    assert "not a Sentinel" in str(error)


def test_what_was_opened_to_a_server_that_is_no_cluster(own):
    """The connection through which a single server said so is closed, although the caller keeps the error."""
    with own.client() as admin:
        before = {each["id"] for each in admin.client_list()}
        kept = [raised_by(f"redis+cluster://127.0.0.1:{own.port}") for _ in range(3)]
        wait_until(
            lambda: {each["id"] for each in admin.client_list()} <= before, f"nothing is left open after {kept[0]}"
        )


def test_a_cluster_without_its_slots():
    """A cluster that serves no slot, or whose nodes are all gone, is a named error."""
    with running_server("redis", "--cluster-enabled", "yes") as server:
        assert isinstance(raised_by(f"redis+cluster://127.0.0.1:{server.port}"), StorageError)
        down = raised_by(f"redis://127.0.0.1:{server.port}")
        assert "--cluster check" in str(down)
    assert isinstance(raised_by(f"redis+cluster://127.0.0.1:{closed_port()}"), RedisUnavailableError)


def test_what_is_not_redis():
    """Another service at the address gets a different message than a server that does not run."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        other.RequestHandlerClass.log_message = lambda *_: None
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            error = raised_by(f"redis://127.0.0.1:{other.server_port}")
        finally:
            other.shutdown()
            thread.join(10)
    assert isinstance(error, RedisUnavailableError)


def test_nobody_there():
    """A closed port, an unknown host or a missing socket is reported as unreachable, with the address."""
    port = closed_port()
    for url, where in {
        f"redis://:{PASSWORD}@127.0.0.1:{port}": f"127.0.0.1:{port}",
        f"redis://:{PASSWORD}@no-such-host.invalid:6379": "no-such-host.invalid:6379",
        f"unix://:{PASSWORD}@/no/such.sock": "/no/such.sock",
        f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/main": f"127.0.0.1:{port}",
    }.items():
        error = raised_by(url)
        assert type(error) is RedisUnavailableError
        assert where in str(error)
        assert PASSWORD not in f"{error!r}{error}{error.__cause__!r}{error.__cause__}"


@pytest.mark.parametrize(
    "text",
    [
        "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
        "ERR Error running script (call to f_1): @user_script: 1: OOM command not allowed",
        "OOM command not allowed when used memory > 'maxmemory'.",
    ],
)
def test_errors_of_older_servers(text):
    """Redis 6 wraps the error of a command inside a script; older redis-py leaves its code in the text."""
    assert "maxmemory" in str(translate(redis.ResponseError(text), "h:1"))


def test_url_options(own):
    """Connection options at the end of a URL win over the settings; unknown and unusable ones are named."""
    with RedisSaver.from_url(f"{own.url}?socket_timeout=0.2&max_connections=3&health_check_interval=9") as saver:
        saver.put_writes({"configurable": {"thread_id": "t", "checkpoint_id": "1"}}, [("a", 1)], "task")
        options = saver._server.client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["health_check_interval"]) == (0.2, 9)
    for query in ("unknown=1", "decode_responses=1", "socket_timeout=soon", "ssl=1"):
        with pytest.raises(ConfigurationError), RedisSaver.from_url(f"{own.url}?{query}") as saver:
            saver.delete_thread("t")


def test_calls_end_by_their_timeout(own, admin):
    """A server that hangs: one call takes its timeout and not a multiple of it, sync and async."""
    with (
        running_server("redis") as hung,
        RedisMemoryService(url=hung.url, socket_timeout=0.5, connect_timeout=0.5) as memory,
    ):
        assert memory.health_check()
        os.kill(hung.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                memory.append_to_history("a", "s", MESSAGE)
            first = time.monotonic() - began
            # On a new connection: the kernel accepts it, the server does not answer the handshake.
            began = time.monotonic()
            error = raised_by(hung.url, socket_timeout=0.5)
            both = time.monotonic() - began
        finally:
            os.kill(hung.process.pid, signal.SIGCONT)
    assert type(error) is RedisTimeoutError
    assert first < 0.9
    assert both < 2 * 0.9
