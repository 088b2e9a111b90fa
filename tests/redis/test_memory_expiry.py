"""The lifetimes of histories, of values and of their index entries."""

from __future__ import annotations

import time

import pytest

from ecowas_lc.memory import RedisMemoryService
from tests.fixtures.servers import wait_until, was_set

MESSAGE = {"role": "user", "content": "x"}


@pytest.fixture
def memory(server, prefix):
    with RedisMemoryService(url=server.url, prefix=prefix, default_ttl=1000) as service:
        yield service


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


def ttl(memory, agent_id="energy", session_id="s"):
    return memory.get_session_info(agent_id, session_id).ttl_seconds


def test_append_without_ttl_keeps_the_longer(memory):
    """Without ``ttl``, an append keeps the longer of the remaining time and the default; with it, exactly that."""
    began = time.monotonic()
    memory.append_to_history("energy", "s", MESSAGE)
    assert was_set(ttl(memory), 1000, began)
    memory.append_to_history("energy", "s", MESSAGE, ttl=5000)
    assert was_set(ttl(memory), 5000, began)
    memory.append_to_history("energy", "s", MESSAGE)
    assert 4990 < ttl(memory) <= 5000
    memory.append_to_history("energy", "s", MESSAGE, ttl=60)
    assert was_set(ttl(memory), 60, began)
    memory.append_to_history("energy", "s", MESSAGE)
    assert was_set(ttl(memory), 1000, began)


def test_saving_sets_the_time_to_live(memory, raw, prefix):
    """Saved data lives for ``ttl``, or the default: a new value replaces the old expiry."""
    began = time.monotonic()
    memory.save_conversation_history("energy", "s", [MESSAGE], ttl=5000)
    memory.save_conversation_history("energy", "s", [MESSAGE])
    assert was_set(ttl(memory), 1000, began)
    memory.save_agent_state("energy", {}, ttl=30)
    assert 29 <= raw.ttl(f"{prefix}:state:energy") <= 30
    memory.set_session_data("s", "k", 1)
    assert 999 <= raw.ttl(f"{prefix}:session:s:k") <= 1000


def test_no_default_is_for_ever(server, prefix):
    """With ``default_ttl=None``, nothing expires unless a ``ttl`` says so."""
    with RedisMemoryService(url=server.url, prefix=prefix, default_ttl=None) as memory:
        memory.append_to_history("energy", "s", MESSAGE)
        assert ttl(memory) is None
        memory.append_to_history("energy", "s", MESSAGE, ttl=60)
        assert ttl(memory) <= 60
        memory.append_to_history("energy", "s", MESSAGE)
        assert ttl(memory) is None
        assert memory.extend_ttl("energy", "s") is True
        assert memory.get_all_sessions_for_agent("energy") == ["s"]


def test_a_history_expires_whole(memory, raw, prefix):
    """A history and all that belongs to it expire at the same moment, and no listing shows it afterwards."""
    memory.append_to_history("energy", "s", {**MESSAGE, "id": "1"}, ttl=1)
    memory.append_to_history("energy", "t", MESSAGE)
    keys = [
        key for key in raw.scan_iter(f"{prefix}:*") if b"index" not in key and key.endswith((b"energy:s", b"s}"))
    ]
    assert len(keys) == 2
    pipeline = raw.pipeline()
    for key in keys:
        pipeline.pttl(key)
    left = pipeline.execute()
    assert max(left) - min(left) <= 5  # milliseconds that pass between two commands
    wait_until(lambda: not raw.exists(*keys), "the expiry")
    assert memory.get_conversation_history("energy", "s") == []
    assert memory.get_all_sessions_for_agent("energy") == ["t"]
    assert memory.get_all_agents_for_session("s") == []
    assert memory.get_session_info("energy", "s") is None
    assert memory.append_to_history("energy", "s", {**MESSAGE, "id": "1"}) == 1
    assert set(memory.get_all_sessions_for_agent("energy")) == {"s", "t"}


def test_what_expired_leaves_the_counts(memory):
    """Empty agents and sessions soon disappear from lists and counts, without any write."""
    memory.append_to_history("energy", "s", MESSAGE, ttl=1)
    memory.save_agent_state("digital", {}, ttl=1)
    memory.set_session_data("t", "k", 1, ttl=1)
    assert memory.get_all_agents() == ["digital", "energy"]
    wait_until(lambda: memory.get_all_agents() == [], "the expiry", 5)
    wait_until(lambda: memory.get_memory_stats()["sessions"] == 0, "the expiry", 5)
    stats = memory.get_memory_stats()
    assert (stats["agents"], stats["histories"]) == (0, 0)


def test_extending_renews_history_and_data(memory, raw, prefix):
    """``extend_ttl`` renews a history and its session's data, and says whether there was anything."""
    began = time.monotonic()
    assert memory.extend_ttl("energy", "s", 60) is False
    assert list(raw.scan_iter(f"{prefix}:*")) == []
    memory.append_to_history("energy", "s", MESSAGE, ttl=10)
    memory.set_session_data("s", "k", 1, ttl=10)
    memory.set_session_data("s", "long", 1, ttl=9000)
    assert memory.extend_ttl("energy", "s") is True
    assert was_set(ttl(memory), 1000, began)
    assert 999 <= raw.ttl(f"{prefix}:session:s:k") <= 1000
    assert 8990 <= raw.ttl(f"{prefix}:session:s:long") <= 9000
    assert memory.extend_ttl("energy", "s", 50) is True
    assert ttl(memory) <= 50
    assert raw.ttl(f"{prefix}:session:s:long") <= 50
    assert memory.extend_ttl("digital", "s", 60) is True, "its data was renewed"


def test_indexes_do_not_grow_for_ever(memory, raw, prefix):
    """The next write removes expired names from the indexes, and an index expires with its last name."""
    index = f"{prefix}:index:sessions:energy"
    memory.append_to_history("energy", "old", MESSAGE)
    raw.zadd(index, {f"dead-{n}": 1000 + n for n in range(50)})
    memory.append_to_history("energy", "new", MESSAGE)
    assert set(raw.zrange(index, 0, -1)) == {b"old", b"new"}
    for key in raw.scan_iter(f"{prefix}:index:*"):
        assert 1000 < raw.ttl(key) < 1200, key


def test_strays_are_never_listed_and_go_on_reading(memory, raw, prefix):
    """A name whose history is gone (deleted by hand, a crash) is not listed, and reading removes it."""
    memory.append_to_history("energy", "s", MESSAGE)
    memory.append_to_history("energy", "gone", MESSAGE)
    raw.delete(f"{prefix}:history:energy:gone")
    assert memory.get_all_sessions_for_agent("energy") == ["s"]
    assert raw.zrange(f"{prefix}:index:sessions:energy", 0, -1) == [b"s"]
    assert memory.append_to_history("energy", "gone", MESSAGE) == 1
    assert set(memory.get_all_sessions_for_agent("energy")) == {"s", "gone"}


def test_a_longer_life_reaches_the_index(memory, raw, prefix):
    """A history that never expires stays listed: the append that finds it so updates the index."""
    raw.rpush(f"{prefix}:history:energy:s", '{"role":"user","content":"by hand"}')
    memory.append_to_history("energy", "s", MESSAGE)
    assert ttl(memory) is None
    assert raw.zscore(f"{prefix}:index:sessions:energy", "s") == float("inf")
    assert raw.ttl(f"{prefix}:index:sessions:energy") == -1
