"""Export and import as JSON Lines: backup and restore."""

from __future__ import annotations

import itertools
import json

import pytest

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import CorruptDataError, FormatVersionError, InvalidInputError
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService

HISTORY = [
    {"role": "user", "content": "été \ud800", "id": "1"},
    {"role": "assistant", "content": None, "x": [1.5]},
]


@pytest.fixture
def memory(redis_server, prefix):
    with RedisMemoryService(url=redis_server.url, prefix=prefix) as service:
        service.save_conversation_history("energy", "s", HISTORY, ttl=500)
        service.append_to_history("energy", "t", HISTORY[0])
        service.append_to_history("digital", "s", HISTORY[1])
        service.save_agent_state("energy", {"étape": [1, {}]})
        service.set_session_data("s", "k", False)
        yield service


@pytest.fixture
def other(redis_server, prefix):
    with RedisMemoryService(url=redis_server.url, prefix=f"{prefix}-other") as service:
        yield service


def test_a_backup_restores_everything(memory, other):
    """An import restores contents, order of sessions, times and times to live."""
    lines = list(memory.export_jsonl())
    assert json.loads(lines[0])["format"] == "ecowas-lc"
    assert not any("\n" in line for line in lines)
    report = other.import_jsonl(lines)
    assert (report.written, report.unchanged, report.kept) == (5, 0, ())
    assert other.get_conversation_history("energy", "s") == HISTORY
    assert other.get_agent_state("energy") == {"étape": [1, {}]}
    assert other.get_session_data("s", "k") is False
    assert other.get_all_agents() == ["digital", "energy"]
    assert other.get_all_sessions_for_agent("energy") == memory.get_all_sessions_for_agent("energy")
    before, after = memory.get_session_info("energy", "s"), other.get_session_info("energy", "s")
    assert (before.first_activity, before.last_activity) == (after.first_activity, after.last_activity)
    assert 490 < after.ttl_seconds <= 500
    strip = ("created", "ttl_seconds")
    assert [{k: v for k, v in json.loads(line).items() if k not in strip} for line in other.export_jsonl()] == [
        {k: v for k, v in json.loads(line).items() if k not in strip} for line in lines
    ]


def test_importing_again_changes_nothing(memory, other):
    """An import can be repeated, as after one that was interrupted."""
    lines = list(memory.export_jsonl())
    with pytest.raises(ConnectionError):
        other.import_jsonl(itertools.chain(lines[:3], _broken()))
    assert (other.import_jsonl(lines).written, other.import_jsonl(lines).unchanged) == (3, 5)


def _broken():
    raise ConnectionError
    yield


def test_newer_data_stays_unless_told_otherwise(memory, other):
    """Existing data with other contents is kept and named in the report; ``overwrite`` restores it."""
    lines = list(memory.export_jsonl())
    memory.append_to_history("energy", "s", HISTORY[1])
    memory.save_agent_state("energy", "newer")
    report = memory.import_jsonl(lines)
    assert set(report.kept) == {"history energy/s", "state energy"}
    assert len(memory.get_conversation_history("energy", "s")) == 3
    assert memory.import_jsonl(lines, overwrite=True).written == 2
    assert memory.get_conversation_history("energy", "s") == HISTORY
    assert memory.get_agent_state("energy") == {"étape": [1, {}]}


def test_a_part_can_be_exported(memory):
    """Only an agent, only a session, or only an agent's part of a session."""

    def names(**which):
        records = [json.loads(line) for line in memory.export_jsonl(**which)][1:]
        return sorted((r["type"], r.get("agent"), r.get("session")) for r in records)

    assert names(agent_id="energy") == [
        ("history", "energy", "s"),
        ("history", "energy", "t"),
        ("state", "energy", None),
    ]
    assert names(session_id="s") == [
        ("history", "digital", "s"),
        ("history", "energy", "s"),
        ("session-data", None, "s"),
    ]
    assert names(agent_id="energy", session_id="t") == [("history", "energy", "t")]


def test_lines_that_can_not_be_read_are_named(memory, other):
    """A damaged line is named by its number; a newer format, and no header at all, are named, too."""
    lines = list(memory.export_jsonl())
    for bad in (
        "{nonsense",
        "[1]",
        "{}",
        '{"type": "threat"}',
        '{"type": "session-data", "session": "", "key": "k", "ttl_seconds": 1, "value": 1}',
        '{"type": "history", "agent": "a", "session": "s", "ttl_seconds": 1, "messages": "x"}',
        '{"type": "history", "agent": "a", "session": "s", "ttl_seconds": 1, "messages": []}',
        '{"type": "state", "agent": "a", "ttl_seconds": "soon", "value": 1}',
        '{"type": "state", "agent": "a", "ttl_seconds": 1, "value": NaN}',
    ):
        with pytest.raises(CorruptDataError, match="Line 3"):
            other.import_jsonl([lines[0], lines[1], bad])
    for bad, reason in (
        ('{"type": "threat"}', "there is no record type 'threat'"),
        ('{"type": "state", "agent": "a", "value": 1}', "it has no 'ttl_seconds'"),
        ('{"type": "state", "agent": "", "ttl_seconds": 1, "value": 1}', "is empty. Give it at least one"),
    ):
        with pytest.raises(CorruptDataError, match=rf"Line 2 can't be imported: .*{reason}.*\. Everything before"):
            other.import_jsonl([lines[0], bad])
    for first in (lines[1:], ['{"format": "other", "version": 1}'], []):
        with pytest.raises(CorruptDataError):
            other.import_jsonl(first)
    with pytest.raises(FormatVersionError):
        other.import_jsonl(['{"format": "ecowas-lc", "version": 2}'])
    assert len(other.get_all_agents()) == 1, "the line before the damaged one"


@pytest.mark.parametrize("ttl", ["1e12", "1e308", "1" + 400 * "0", "Infinity", "NaN", "-1", "true", '"5"'])
def test_times_to_live_that_can_not_be_are_named(memory, ttl):
    """A damaged time to live is found before anything is written; existing data and its expiry are unchanged."""
    header = next(iter(memory.export_jsonl()))
    memory.append_to_history("a", "s", {"role": "user", "content": "kept"}, ttl=100)
    for rest in (
        '"type": "history", "agent": "a", "session": "s", "messages": [{"role": "user", "content": "x"}]',
        '"type": "state", "agent": "b", "value": 1',
        '"type": "session-data", "session": "t", "key": "k", "value": 1',
    ):
        with pytest.raises(CorruptDataError, match=r"Line 2.*ttl_seconds is"):
            memory.import_jsonl([header, f'{{"ttl_seconds": {ttl}, {rest}}}'], overwrite=True)
    assert [message["content"] for message in memory.get_conversation_history("a", "s")] == ["kept"]
    assert 0 < memory.get_session_info("a", "s").ttl_seconds <= 100
    assert "b" not in memory.get_all_agents()


async def test_one_text_is_no_lines(memory, prefix):
    """A whole file's text, whose characters would each be a line, is recognised; so is input without lines."""
    whole = "\n".join(memory.export_jsonl())
    twin = AsyncRedisMemoryService(server=memory.server, prefix=prefix)
    saver = RedisSaver(server=memory.server, prefix=prefix)
    for lines in (whole, whole.encode(), None, 5):
        with pytest.raises(InvalidInputError, match="one by one: pass an open file"):
            memory.import_jsonl(lines)
        with pytest.raises(InvalidInputError, match="one by one: pass an open file"):
            await twin.import_jsonl(lines)
        with pytest.raises(InvalidInputError, match="one by one: pass an open file"):
            saver.import_jsonl(lines)


def test_export_streams(memory):
    """Lines are yielded while later histories are unread: one removed meanwhile is left out."""
    for number in range(40):
        memory.append_to_history("minerals", f"{number:02}", HISTORY[0])
    lines = memory.export_jsonl(agent_id="minerals")
    next(lines), next(lines)
    memory.clear_all_agent_data("minerals")
    assert 0 < len(list(lines)) < 40


def test_progress_is_told(memory):
    """``on_progress`` receives the number of histories, states and values done, and the total."""
    for number in range(40):
        memory.append_to_history("minerals", f"{number:02}", HISTORY[0])
    told = []
    assert len(list(memory.export_jsonl(on_progress=lambda *how: told.append(how)))) == 1 + 5 + 40
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] >= 45
    assert len(told) > 2


async def test_async_import_takes_async_lines(memory, redis_server, prefix):
    """The async service exports and imports asynchronous streams."""
    async with (
        AsyncRedisMemoryService(url=redis_server.url, prefix=prefix) as source,
        AsyncRedisMemoryService(url=redis_server.url, prefix=f"{prefix}-other") as target,
    ):
        assert (await target.import_jsonl(source.export_jsonl())).written == 5
        assert await target.get_conversation_history("energy", "s") == HISTORY
    assert memory.get_conversation_history("energy", "s") == HISTORY
