"""Unreadable data ends no command: it is named on standard error and left out, and the exit code reports it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from ecowas_lc import RedisMemoryService, RedisSaver
from tests.cli.conftest import Run
from tests.fixtures.servers import RunningServer


@pytest.fixture
def spoilt(redis_server: RunningServer, prefix: str, environment: pytest.MonkeyPatch) -> None:
    """Three sessions with a thread each; of the second, history and thread can't be read."""
    environment.setenv("REDIS_URL", redis_server.url)
    environment.setenv("ECOWAS_LC_PREFIX", prefix)
    with RedisMemoryService(url=redis_server.url, prefix=prefix) as memory, redis_server.client() as raw:
        saver = RedisSaver(server=memory.server, prefix=prefix)
        for session in ("one", "two", "three"):
            memory.append_to_history("energy", session, {"role": "user", "content": f"said in {session}"})
            config: Any = {"configurable": {"thread_id": session, "checkpoint_ns": ""}}
            checkpoint = empty_checkpoint()
            if session == "three":
                checkpoint["ts"] = "yesterday"
            saver.put(config, checkpoint, {"step": 1}, {})
        raw.set(f"{prefix}:history:energy:two", "{nonsense")
        raw.hset(f"{prefix}:checkpoint:{{two}}", "format", "99")


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["shown", "json"])
def test_lists_leave_it_out(run: Run, form: tuple[str, ...]) -> None:
    """``sessions list`` and ``threads list`` show the others; odd times are no reason to leave one out."""
    for command, named in (("threads", "'two'"), ("sessions", "'energy' in the session 'two'")):
        ended = run(command, "list", *form)
        assert ended.code == 1, ended
        assert "one" in ended.out
        assert "three" in ended.out
        assert "two" not in ended.out
        assert named in " ".join(ended.err.split())
        assert "left out" in " ".join(ended.err.split())


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize("output", [True, False], ids=["file", "standard output"])
def test_exports_leave_it_out(run: Run, tmp_path: Path, output: bool) -> None:
    """A backup contains everything readable, and the exit code says that some data is missing."""
    file = tmp_path / "backup.jsonl"
    ended = run("sessions", "export", *(("--output", str(file)) if output else ()))
    assert ended.code == 1, ended
    text = file.read_text() if output else ended.out
    records = [json.loads(line) for line in text.splitlines()]
    assert {r["session"] for r in records if r.get("type") == "history"} == {"one", "three"}
    assert {r["thread"] for r in records if r.get("type") == "thread"} == {"one", "three"}
    told = " ".join(ended.err.split())
    assert "The history energy/two can't be read and was left out" in told
    assert "The thread 'two' can't be read and was left out" in told


@pytest.mark.usefixtures("spoilt")
def test_a_session_shows_what_can_be_read(run: Run) -> None:
    """``sessions show`` names unreadable parts of a session, and fails only if nothing can be shown."""
    ended = run("sessions", "show", "two")
    assert ended.code == 1
    assert "The history of 'energy' can't be read" in " ".join(ended.err.split())
    assert run("sessions", "show", "none").code == 1
    assert run("sessions", "show", "one").code == 0


@pytest.mark.usefixtures("spoilt")
def test_pruning_all_leaves_it_as_it_is(run: Run) -> None:
    """One unreadable thread does not prevent the others from being pruned."""
    ended = run("threads", "prune", "--all", "--yes")
    assert ended.code == 1
    assert "The thread 'two' can't be read" in " ".join(ended.err.split())
    assert "3 threads pruned" not in ended.out


@pytest.mark.usefixtures("spoilt")
@pytest.mark.rights("+scan", "+info")
def test_threads_are_found_again(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """``threads reindex`` adds existing threads that the index lost."""
    with redis_server.client() as raw:
        raw.delete(f"{prefix}:index:threads")
    assert run("threads", "list").out == ""
    assert "Added 3 threads to the index." in run("threads", "reindex").out
    assert json.loads(run("threads", "reindex", "--json").out) == {"found": 0}
    assert "three" in run("threads", "list").out
