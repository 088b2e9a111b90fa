"""One unreadable thread or history does not end a listing or an export: it is named and left out."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from ecowas_lc import IncompleteWarning, RedisMemoryService, RedisSaver
from ecowas_lc.errors import CorruptDataError, FormatVersionError, WrongTypeError
from ecowas_lc.memory import AsyncRedisMemoryService

MESSAGE = {"role": "user", "content": "x"}


@pytest.fixture
def raw(server):
    with server.client() as client:
        yield client


@pytest.fixture
def memory(server, prefix):
    with RedisMemoryService(url=server.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def saver(memory):
    return RedisSaver(server=memory.server, prefix=memory.prefix)


def put(saver: RedisSaver, *thread_ids: str) -> None:
    for thread_id in thread_ids:
        config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"said": "x" * 100}
        checkpoint["channel_versions"] = {"said": 1}
        saver.put(config, checkpoint, {"step": 1, "run_id": f"run of {thread_id}"}, {"said": 1})


def told(found: Any) -> str:
    return "\n".join(str(warning.message) for warning in found if warning.category is IncompleteWarning)


SPOIL = {
    "newer format": lambda raw, key: raw.hset(key, "format", "99"),
    "not a thread": lambda raw, key: (raw.delete(key), raw.hset(key, "field", "theirs")),
    "another type": lambda raw, key: (raw.delete(key), raw.set(key, "theirs")),
}


@pytest.mark.parametrize("how", SPOIL)
async def test_a_thread_that_cant_be_read(saver, raw, prefix, how):
    """Listing and exporting all threads return the others; reading the unreadable one is still an error."""
    put(saver, "a", "b", "c")
    SPOIL[how](raw, f"{prefix}:checkpoint:{{b}}")
    raw.zadd(f"{prefix}:index:threads", {b"\xff\xfe": 5})
    with pytest.warns(IncompleteWarning) as found:
        listed = {each.config["configurable"]["thread_id"] for each in saver.list(None)}
    assert listed == {"a", "c"}
    assert "The thread 'b' can't be read and was left out" in told(found)
    assert "An entry of the index of threads" in told(found)
    raw.zrem(f"{prefix}:index:threads", b"\xff\xfe")
    with pytest.warns(IncompleteWarning, match="The thread 'b'"):
        assert {each.config["configurable"]["thread_id"] async for each in saver.alist(None)} == {"a", "c"}
    with pytest.warns(IncompleteWarning, match="The thread 'b'"):
        lines = [json.loads(line) for line in saver.export_jsonl()]
    assert {line["thread"] for line in lines if line.get("type") == "thread"} == {"a", "c"}
    with pytest.warns(IncompleteWarning, match="The thread 'b'"):
        lines = [json.loads(line) async for line in saver.aexport_jsonl()]
    assert {line["thread"] for line in lines if line.get("type") == "thread"} == {"a", "c"}
    with pytest.raises((FormatVersionError, WrongTypeError)):
        saver.get_tuple({"configurable": {"thread_id": "b"}})


async def test_a_history_that_cant_be_read(memory, raw, prefix):
    """Exports of histories, states and values leave out unreadable ones, each by its name, and so do listings."""
    for session in ("a", "b", "c", "d"):
        memory.append_to_history("energy", session, MESSAGE)
    memory.save_agent_state("energy", {"x": 1})
    for name in ("k", "l"):
        memory.set_session_data("a", name, 1)
    raw.rpush(f"{prefix}:history:energy:b", "{nonsense")
    raw.set(f"{prefix}:history:energy:c", "{nonsense")
    raw.delete(f"{prefix}:history:energy:d")
    raw.hset(f"{prefix}:history:energy:d", "field", "theirs")
    raw.set(f"{prefix}:state:energy", "{nonsense")
    raw.set(f"{prefix}:session:a:l", "{nonsense")
    raw.zadd(f"{prefix}:index:sessions", {b"\xff\xfe": "+inf"})
    with pytest.warns(IncompleteWarning) as found:
        lines = [json.loads(line) for line in memory.export_jsonl()]
    assert [line.get("session") for line in lines[1:]] == ["a", "a"]
    for name in (
        "history energy/b",
        "history energy/c",
        "history energy/d",
        "state of the agent energy",
        "value a/l",
    ):
        assert f"The {name} can't be read and was left out" in told(found)
    with pytest.warns(IncompleteWarning) as found:
        assert {info.session_id for info in memory.get_session_infos()} == {"a", "b"}
    for session in ("c", "d"):
        assert f"The history of 'energy' in the session '{session}'" in told(found)
    with pytest.raises(CorruptDataError):
        memory.get_session_info("energy", "c")
    async with AsyncRedisMemoryService(server=memory.server, prefix=prefix) as awaited:
        with pytest.warns(IncompleteWarning) as found:
            lines = [json.loads(line) async for line in awaited.export_jsonl()]
    assert len(lines) == 3
    assert "The history energy/b can't be read" in told(found)


def test_nothing_is_warned_of_where_all_is_well(memory, saver):
    """An export and a listing of readable data are silent."""
    put(saver, "a")
    memory.append_to_history("energy", "a", MESSAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(saver.export_jsonl())) == 4
        assert len(list(memory.export_jsonl())) == 2
        assert len(list(saver.list(None))) == 1
        assert memory.clear_session("a") == 1
