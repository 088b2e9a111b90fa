"""One rule for lifetimes: objects built from settings use ``REDIS_MEMORY_TTL``; long-term data never expires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc import (
    RedisAgent,
    RedisChatMessageHistory,
    RedisMemoryService,
    RedisSaver,
    RedisStore,
    SupervisorAgent,
    agent_server,
    build_supervisor,
    get_redis_memory,
    get_settings,
    history_factory,
)
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel
from tests.fixtures.servers import RunningServer
from tests.redis.writer import Writer

SECONDS = 600


@pytest.fixture(autouse=True)
def settings(redis_server: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server in the settings, and ten minutes to live."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setenv("REDIS_MEMORY_TTL", "10m")
    monkeypatch.setenv("ECOWAS_LC_PREFIX", prefix)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def lifetimes(server: RunningServer, prefix: str) -> dict[str, float]:
    """The remaining seconds of each key; -1: no expiry. The indexes outlive what they list."""
    with server.client() as admin:
        keys = sorted(admin.scan_iter(f"{prefix}:*"))
        return {key.decode(errors="replace"): admin.ttl(key) for key in keys if b":index:" not in key}


def model() -> ScriptedModel:
    return ScriptedModel(script=lambda messages: "yes")


async def test_what_is_built_from_settings(redis_server: RunningServer, prefix: str) -> None:
    """Saver, histories, services, agents and the Agent Server's saver: each key lives ``REDIS_MEMORY_TTL``."""
    with RedisSaver.from_settings() as saver:
        graph = build_supervisor(
            model(), router=FixedRouter(), checkpointer=saver, history_factory=history_factory()
        )
        graph.invoke({"messages": [("user", "energy: solar?")]}, {"configurable": {"thread_id": "graph"}})
        async with agent_server.checkpointer() as served:
            await Writer(served, "served").aput(a=1)
        Writer(saver, "other").put(a=1)
    RedisChatMessageHistory("a", "s").add_messages([HumanMessage("?")])
    with RedisMemoryService.from_settings() as memory:
        memory.append_to_history("b", "s", {"role": "user", "content": "?"})
        memory.save_agent_state("b", {"x": 1})
        memory.set_session_data("s", "k", 1)
    get_redis_memory().append_to_history("c", "s", {"role": "user", "content": "?"})
    RedisAgent("energy", "agent", model=model()).chat("?")
    SupervisorAgent(session_id="agent", use_redis=True, model=model(), router=FixedRouter()).smart_chat(
        "energy: ?"
    )
    found = lifetimes(redis_server, prefix)
    assert len(found) >= 10
    assert {key: left for key, left in found.items() if not SECONDS - 60 < left <= SECONDS} == {}


def test_what_was_stored_for_good(redis_server: RunningServer, prefix: str) -> None:
    """Threads and histories that were stored without an expiry keep none, whatever the settings say."""
    url = redis_server.url
    with RedisSaver.from_url(url, prefix=prefix) as endless:
        for thread in ("graph", "agent"):
            Writer(endless, thread).put(a=1)
    message: Any = {"role": "user", "content": "?"}
    with RedisMemoryService(url=url, prefix=prefix, default_ttl=None) as memory:
        memory.append_to_history("a", "s", message)
        memory.append_to_history("supervisor", "agent", message)
        memory.save_agent_state("a", {"x": 1})
        memory.set_session_data("s", "k", 1)
    before = lifetimes(redis_server, prefix)
    assert set(before.values()) == {-1}
    with RedisSaver.from_settings(refresh_on_read=True) as saver:
        writer = Writer(saver, "graph")
        writer.put(a=2)
        saver.touch("graph")
        list(saver.list(None))
    history_factory()("a", "s").add_messages([HumanMessage("?")])
    with RedisMemoryService.from_settings() as memory:
        memory.append_to_history("a", "s", message)
        memory.extend_ttl("a", "s")
    SupervisorAgent(session_id="agent", use_redis=True, model=model(), router=FixedRouter()).smart_chat(
        "energy: ?"
    )
    after = lifetimes(redis_server, prefix)
    assert {key: after[key] for key in before} == before


def test_replaced_for_good(redis_server: RunningServer, prefix: str) -> None:
    """A history without an expiry keeps none when its messages are replaced."""
    message: Any = {"role": "user", "content": "?"}
    with RedisMemoryService(url=redis_server.url, prefix=prefix, default_ttl=None) as memory:
        memory.append_to_history("a", "s", message)
    history: Any = history_factory()("a", "s")
    history.replace_messages([HumanMessage("!")])
    assert set(lifetimes(redis_server, prefix).values()) == {-1}
    assert [message.text for message in history.messages] == ["!"]


def test_what_is_long_term(redis_server: RunningServer, prefix: str) -> None:
    """A store built from settings keeps its items forever, unless you set a time."""
    store = RedisStore.from_settings()
    store.put(("facts",), "capital", {"of": "Togo"})
    found = lifetimes(redis_server, prefix)
    assert found
    assert set(found.values()) == {-1}


def test_an_explicit_end(redis_server: RunningServer, prefix: str) -> None:
    """The caller's argument wins over the settings: another time, or none."""
    with RedisSaver.from_settings(ttl=None) as endless, RedisSaver.from_settings(ttl=50) as short:
        Writer(endless, "endless").put(a=1)
        Writer(short, "short").put(a=1)
        assert endless.ttl("endless") is None
        assert 0 < (short.ttl("short") or 0) <= 50


def test_what_others_said_first(redis_server: RunningServer, prefix: str) -> None:
    """A thread without messages leaves messages without ids, which other programs have appended, in place."""
    with RedisSaver.from_settings() as saver:
        Writer(saver, "agent").put(a=1)
    with RedisMemoryService.from_settings() as memory:
        memory.append_to_history("supervisor", "agent", {"role": "user", "content": "first"})
        SupervisorAgent(session_id="agent", use_redis=True, model=model(), router=FixedRouter()).smart_chat(
            "energy: ?"
        )
        kept = memory.get_conversation_history("supervisor", "agent")
    assert [message["content"] for message in kept] == ["first", "energy: ?", "yes"]
