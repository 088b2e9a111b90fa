"""A server that evicts: incomplete results say so, and reindex restores the indexes."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from ecowas_lc import IncompleteWarning, RedisMemoryService, RedisSaver
from ecowas_lc.memory import AsyncRedisMemoryService
from tests.fixtures.servers import running_server, wait_until
from tests.redis.test_left_out import MESSAGE, put, told


@pytest.fixture(scope="module", params=["allkeys-lru", "volatile-ttl"])
def evicting(request):
    """A server that has evicted keys, but none of the test's."""
    with running_server("redis", "--maxmemory-policy", request.param) as server, server.client() as raw:
        for n in range(200):
            raw.set(f"others:{n}", "x" * 1000, ex=1000)
        used = raw.info("memory")["used_memory"]
        raw.config_set("maxmemory", used)
        n = 0
        while not raw.info("stats")["evicted_keys"]:
            raw.set(f"others:more:{n}", "x" * 1000, ex=500)
            n += 1
        raw.config_set("maxmemory", 0)
        yield server


@pytest.fixture
def memory(evicting, prefix):
    with RedisMemoryService(url=evicting.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def saver(memory):
    return RedisSaver(server=memory.server, prefix=memory.prefix)


@pytest.fixture
def raw(evicting):
    with evicting.client() as client:
        yield client


def lose(raw: Any, prefix: str, *indexes: str) -> None:
    """Evict as the server does: whole keys."""
    assert raw.delete(*(f"{prefix}:index:{index}" for index in indexes)) == len(indexes)


def test_a_removal_says_that_it_may_have_left_something(memory, raw, prefix):
    """If the indexes of a session or an agent were evicted, a warning says that data may be missing."""
    memory.append_to_history("energy", "s", MESSAGE)
    memory.set_session_data("s", "k", 1)
    lose(raw, prefix, "session-agents:s", "session-data:s", "agents", "sessions", "sessions:energy")
    for remove in (lambda: memory.clear_session("s"), lambda: memory.clear_all_agent_data("energy")):
        with pytest.warns(IncompleteWarning, match=r"Redis has evicted \d+ keys.*noeviction.*sessions reindex"):
            assert remove() == 0
    assert len(memory.get_conversation_history("energy", "s")) == 1
    assert memory.reindex() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert memory.clear_session("s") == 2
    assert memory.get_conversation_history("energy", "s") == []
    assert memory.get_session_data("s", "k") is None


def test_a_removal_finds_what_another_index_knows(memory, raw, prefix):
    """If only a session's own index was evicted, its histories are found through the known agents."""
    memory.append_to_history("energy", "s", MESSAGE)
    memory.append_to_history("digital", "s", MESSAGE)
    lose(raw, prefix, "session-agents:s")
    memory.append_to_history("minerals", "s", MESSAGE)
    with pytest.warns(IncompleteWarning):
        assert memory.clear_session("s") == 3


async def test_the_async_services_say_so_too(memory, prefix):
    """The async methods report the same."""
    async with AsyncRedisMemoryService(server=memory.server, prefix=prefix) as awaited:
        with pytest.warns(IncompleteWarning, match="Removing the session 's'"):
            assert await awaited.clear_session("s") == 0
        with pytest.warns(IncompleteWarning, match="The export may lack histories"):
            assert len([line async for line in awaited.export_jsonl()]) == 1


async def test_an_export_says_that_it_may_lack_threads(saver, raw, prefix):
    """If the index of threads was evicted, an export is empty and says so; after reindex it is complete."""
    put(saver, "a", "b:c", "d")
    scores = dict(raw.zrange(f"{prefix}:index:threads", 0, -1, withscores=True))
    lose(raw, prefix, "threads", "runs:run of a")
    saver.copy_thread("a", "e")
    lose(raw, prefix, "threads")
    with pytest.warns(IncompleteWarning) as found:
        assert len(list(saver.export_jsonl())) == 1
    assert "The export may lack threads: Redis has evicted" in told(found)
    assert "threads reindex" in told(found)
    raw.hset(f"{prefix}:checkpoint:{{theirs}}", "field", "theirs")
    raw.hset(f"{prefix}:checkpoint:{{a}}:copy:5", mapping={"format": "1", "N": ""})
    raw.set(f"{prefix}:checkpoint:{{odd}}", "theirs")
    with pytest.warns(IncompleteWarning, match="The thread 'odd'"):
        assert saver.reindex() == 4
    found_scores = dict(raw.zrange(f"{prefix}:index:threads", 0, -1, withscores=True))
    assert set(found_scores) == {b"a", b"b:c", b"d", b"e"}
    for member, score in scores.items():
        assert abs(found_scores[member] - score) < 2, "when it was last written, by its latest checkpoint"
    assert set(raw.zrange(f"{prefix}:index:runs:run of a", 0, -1)) == {b"a", b"e"}
    raw.delete(f"{prefix}:checkpoint:{{odd}}")
    assert await saver.areindex() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = [json.loads(line) for line in saver.export_jsonl()]
    assert {line["thread"] for line in lines if line.get("type") == "thread"} == {"a", "b:c", "d", "e"}


def test_runs_are_looked_for_everywhere_where_indexes_may_be_lost(saver, raw, prefix):
    """A run's index that was evicted and recreated names some threads: deleting the run checks all of them."""
    put(saver, "a")
    raw.rename(f"{prefix}:index:runs:run of a", f"{prefix}:index:runs:lost")
    config: Any = {"configurable": {"thread_id": "b", "checkpoint_ns": ""}}
    from langgraph.checkpoint.base import empty_checkpoint

    saver.put(config, empty_checkpoint(), {"step": 1, "run_id": "run of a"}, {})
    with pytest.warns(IncompleteWarning, match="Removing runs"):
        saver.delete_for_runs(["run of a"])
    assert list(saver.list(None)) == []


def test_a_user_who_may_not_ask_is_not_bothered(evicting, prefix):
    """Without the permission for INFO, evictions are unknown: removals and exports work without a warning."""
    evicting.limit(prefix)
    try:
        with RedisMemoryService(url=evicting.url, prefix=prefix) as memory, warnings.catch_warnings():
            warnings.simplefilter("error")
            memory.append_to_history("energy", "s", MESSAGE)
            assert memory.clear_session("s") == 1
    finally:
        evicting.user = ""


def test_ids_are_known_on_a_server_that_really_evicts(prefix):
    """If a history's companion key was evicted, the same message sent again is stored once."""
    options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10")
    with (
        running_server("redis", *options) as server,
        RedisMemoryService(url=server.url, prefix=prefix) as memory,
        server.client() as raw,
    ):
        for n in range(60):
            for k in range(3):
                memory.append_to_history("a", f"s{n}", {**MESSAGE, "id": f"q{k}"})

        def alone() -> list[str]:
            lists = [f"s{n}" for n in range(60) if raw.exists(f"{prefix}:history:a:s{n}")]
            return [s for s in lists if not raw.exists(f"{prefix}:history-meta:{{{prefix}:history:a:{s}}}")]

        def is_pressed() -> bool:
            for n in range(0, 60, 3):  # these are in use
                memory.get_conversation_history("a", f"s{n}")
            raw.config_set("maxmemory", raw.info("memory")["used_memory"] - 2000)
            raw.config_set("maxmemory", 0)
            return bool(alone())

        wait_until(is_pressed, "a companion is evicted alone")
        for session in alone():
            memory.append_to_history("a", session, {**MESSAGE, "id": "q0"})
            ids = [message["id"] for message in memory.get_conversation_history("a", session)]
            assert ids.count("q0") <= 1, session
