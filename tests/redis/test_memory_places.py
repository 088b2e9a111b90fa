"""The memory API on a cluster, behind an ACL, and found through settings, factories and FastAPI."""

from __future__ import annotations

import json
import threading
import urllib.request
from typing import Annotated

import pytest
import uvicorn
from fastapi import Depends, FastAPI

from ecowas_lc import memory as memory_package
from ecowas_lc.errors import RedisRefusedError
from ecowas_lc.memory import (
    AsyncRedisMemoryService,
    RedisMemoryService,
    create_redis_memory_from_config,
    get_async_redis_memory,
    get_redis_memory,
    test_redis_connection,
)
from ecowas_lc.settings import get_settings
from tests.fixtures.leftovers import left_over
from tests.fixtures.servers import free_port, wait_until

MESSAGE = {"role": "user", "content": "x"}
AGENTS = ("energy", "digital", "agriculture", "minerals", "protocol", "resource_mobilization", "é:{x}")


@pytest.fixture
def on_cluster(cluster, prefix):
    with RedisMemoryService(url=cluster.url, prefix=prefix) as service:
        yield service


def test_cluster_serves_everything(on_cluster):
    """Histories, indexes, values and removal work with keys spread over the nodes of a cluster."""
    memory = on_cluster
    before = memory.get_memory_stats()
    for agent in AGENTS:
        for number in range(3):
            assert memory.append_to_history(agent, f"s{number}", MESSAGE, max_history=5) == 1
            assert memory.append_to_history(agent, f"s{number}", MESSAGE, max_history=5) == 2
        memory.save_agent_state(agent, {"a": 1})
    for number in range(20):
        memory.set_session_data("s0", f"k{number}", number)
    assert memory.get_all_agents() == sorted(AGENTS)
    for agent in AGENTS:
        assert set(memory.get_all_sessions_for_agent(agent)) == {"s0", "s1", "s2"}
        assert memory.get_conversation_history(agent, "s1") == [MESSAGE, MESSAGE]
    assert set(memory.get_all_agents_for_session("s0")) == set(AGENTS)
    assert len(memory.get_all_session_data("s0")) == 20
    assert len(memory.get_session_infos()) == 21
    assert memory.extend_ttl("energy", "s0", 500) is True
    stats = memory.get_memory_stats()
    assert (stats["nodes"], stats["agents"], stats["sessions"], stats["histories"]) == (3, 7, 3, 21)
    assert stats["total_keys"] >= before["total_keys"] + 21 + 7 + 20
    assert memory.reindex() == 0
    assert len(list(memory.export_jsonl())) == 1 + 21 + 7 + 20
    assert memory.clear_session("s0") == 7 + 20
    assert sum(memory.clear_all_agent_data(agent) for agent in AGENTS) == 14 + 7
    assert left_over(memory.server.client, memory.prefix) == []


def test_cluster_reindexes_every_node(on_cluster, monkeypatch):
    """The scan visits every primary of a cluster, page by page."""
    monkeypatch.setattr("ecowas_lc.storage.scanning._KEYS_AT_ONCE", 3)
    for number in range(30):
        on_cluster.append_to_history("energy", f"s{number}", MESSAGE)
    on_cluster.server.client.delete(f"{on_cluster.prefix}:index:sessions:energy")
    assert on_cluster.get_all_sessions_for_agent("energy") == []
    assert on_cluster.reindex() == 30
    assert len(on_cluster.get_all_sessions_for_agent("energy")) == 30


async def test_cluster_async(cluster, prefix):
    """In asyncio, histories, statistics, indexes and removals work on a cluster, too."""
    async with AsyncRedisMemoryService(url=cluster.url, prefix=prefix) as memory:
        for agent in AGENTS:
            await memory.append_to_history(agent, "s", MESSAGE)
        assert (await memory.get_memory_stats())["nodes"] == 3
        assert set(await memory.get_all_agents_for_session("s")) == set(AGENTS)
        assert await memory.reindex() == 0
        assert await memory.clear_session("s") == 7


def test_an_acl_limited_to_the_prefix_is_enough(server, prefix):
    """A user with only ``~prefix:*`` and no dangerous or admin commands can do everything; statistics say what
    they may not read.
    """
    with server.client() as admin:
        admin.acl_setuser(
            "tenant",
            enabled=True,
            passwords=["+pw"],
            keys=[f"{prefix}:*"],
            categories=["+@all", "-@dangerous", "-@admin"],
        )
        admin.script_flush()
    url = f"redis://tenant:pw@127.0.0.1:{server.port}/0"
    with RedisMemoryService(url=url, prefix=prefix) as memory:
        memory.append_to_history("energy", "s", MESSAGE, max_history=3)
        memory.save_conversation_history("energy", "t", [MESSAGE])
        memory.save_agent_state("energy", {})
        memory.set_session_data("s", "k", 1)
        assert memory.extend_ttl("energy", "s") is True
        assert set(memory.get_all_sessions_for_agent("energy")) == {"s", "t"}
        assert memory.reindex() == 0
        assert memory.health_check() is True
        stats = memory.get_memory_stats()
        assert "INFO" in stats["used_memory"]
        assert stats["used_memory_bytes"] is None
        assert (stats["agents"], stats["sessions"]) == (1, 2)
        assert stats["total_keys"] > 0
        lines = list(memory.export_jsonl())
        assert memory.clear_all_agent_data("energy") == 3
        assert memory.import_jsonl(lines).written == 3
        assert memory.clear_session("s") == 2
    with RedisMemoryService(url=url, prefix=f"{prefix}2") as other:
        with pytest.raises(RedisRefusedError):
            other.append_to_history("energy", "s", MESSAGE)
        assert other.health_check() is False
    with server.client() as admin:
        admin.acl_deluser("tenant")


def test_prefixes_are_separate_organisations(server, prefix):
    """Two prefixes on one server never see each other's data."""
    one, two = (RedisMemoryService(url=server.url, prefix=f"{prefix}{name}") for name in "ab")
    one.append_to_history("energy", "s", MESSAGE)
    assert two.get_conversation_history("energy", "s") == []
    assert two.get_all_agents() == []
    assert two.clear_all_agent_data("energy") == 0
    assert one.clear_all_agent_data("energy") == 1


@pytest.fixture
def settings_for(monkeypatch, tmp_path, prefix):
    """Make the environment name a server, only for this test."""
    monkeypatch.chdir(tmp_path)

    def use(**variables):
        for name in ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"ECOWAS_LC_PREFIX": prefix, **variables}.items():
            monkeypatch.setenv(name, str(value))
        get_settings.cache_clear()

    yield use
    monkeypatch.undo()
    get_settings.cache_clear()


def test_one_instance_for_the_same_arguments(settings_for, server):
    """The factory returns one instance for the same arguments; without arguments, the settings' server."""
    settings_for(REDIS_URL=server.url, REDIS_MEMORY_TTL=77)
    assert get_redis_memory() is get_redis_memory()
    assert get_redis_memory().default_ttl == 77
    assert get_redis_memory(port=server.port) is get_redis_memory(port=server.port)
    assert get_redis_memory(port=server.port) is not get_redis_memory(port=server.port, db=1)
    assert get_redis_memory(port=server.port) is not get_redis_memory()
    get_redis_memory().append_to_history("energy", "s", MESSAGE)
    assert get_redis_memory(port=server.port).get_conversation_history("energy", "s") == [MESSAGE]
    assert get_redis_memory(port=server.port, db=1).get_conversation_history("energy", "s") == []
    assert isinstance(get_async_redis_memory(), AsyncRedisMemoryService)
    with ThreadedCalls(get_redis_memory, 16) as found:
        assert len({id(service) for service in found}) == 1
    get_redis_memory().close()
    assert get_redis_memory().health_check() is True


class ThreadedCalls:
    """The results of a function called in several threads at once."""

    def __init__(self, function, count):
        self.results = []
        self._threads = [threading.Thread(target=lambda: self.results.append(function())) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        return self.results

    def __exit__(self, *_):
        pass


def test_settings_name_the_server(settings_for, server):
    """``create_redis_memory_from_config`` and ``test_redis_connection`` talk to the settings' server."""
    settings_for(REDIS_HOST="127.0.0.1", REDIS_PORT=server.port, REDIS_MEMORY_TTL=99)
    with create_redis_memory_from_config() as memory:
        assert memory.default_ttl == 99
        memory.append_to_history("energy", "s", MESSAGE)
        assert memory.get_session_info("energy", "s").ttl_seconds <= 99
    assert test_redis_connection() is True
    assert test_redis_connection.__test__ is False
    settings_for(REDIS_URL="redis://127.0.0.1:1/0", REDIS_CONNECT_TIMEOUT=0.2)
    assert test_redis_connection() is False


def test_no_argument_is_localhost(settings_for):
    """``RedisMemoryService()`` is ``localhost:6379``, as its signature says, whatever the settings are."""
    settings_for(REDIS_URL="redis://127.0.0.1:1/0")
    assert RedisMemoryService().server.where == "localhost:6379"


SyncMemory = Annotated[RedisMemoryService, Depends(get_redis_memory)]
AsyncMemory = Annotated[AsyncRedisMemoryService, Depends(get_async_redis_memory)]


@pytest.fixture
def http(settings_for, server):
    """A FastAPI app with the memory as a dependency, over HTTP."""
    settings_for(REDIS_URL=server.url)
    app = FastAPI()

    @app.get("/sync/{agent}/{session}")
    def history(agent: str, session: str, memory: SyncMemory):
        return {"where": memory.server.where, "history": memory.get_conversation_history(agent, session)}

    @app.get("/async/{agent}/{session}")
    async def ahistory(agent: str, session: str, memory: AsyncMemory):
        return {"where": memory.server.where, "history": await memory.get_conversation_history(agent, session)}

    host = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning", ws="none"))
    thread = threading.Thread(target=host.run)
    thread.start()
    wait_until(lambda: host.started, "the HTTP server")
    yield f"http://127.0.0.1:{host.config.port}"
    host.should_exit = True
    thread.join()


def test_a_request_can_not_choose_the_server(http, server):
    """Behind ``Depends(get_redis_memory)`` a request's parameters don't reach the factory."""
    get_redis_memory().append_to_history("energy", "s", MESSAGE)
    for path in ("sync", "async"):
        url = f"{http}/{path}/energy/s?host=evil.example&port=1&password=x&db=3"
        with urllib.request.urlopen(url) as reply:
            body = json.load(reply)
        assert body == {"where": f"127.0.0.1:{server.port}", "history": [MESSAGE]}
    with urllib.request.urlopen(f"{http}/openapi.json") as reply:
        document = json.load(reply)
    for path in document["paths"].values():
        assert {parameter["name"] for parameter in path["get"]["parameters"]} == {"agent", "session"}


def test_public_names_are_there():
    """Everything that the package says it exports exists."""
    for name in memory_package.__all__:
        assert getattr(memory_package, name)
