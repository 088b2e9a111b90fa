"""``threads show|diff|copy|prune``, also with other graphs and with classes that are not allowed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Interrupt

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from tests.cli.conftest import Run, raising
from tests.fixtures.servers import RunningServer, running_server
from tests.redis.writer import Writer, at, id_of


@dataclasses.dataclass
class Plan:
    """A class of another application's."""

    text: str


HELLO = [HumanMessage("Hello", id="1"), AIMessage("Good morning.", name="energy", id="2")]


@pytest.fixture
def saver(redis_server: RunningServer, prefix: str, environment: pytest.MonkeyPatch) -> RedisSaver:
    return RedisSaver.from_url(redis_server.url, prefix=prefix, allow=[Plan])


@pytest.fixture
def steps(saver: RedisSaver) -> list[str]:
    """The ids of the three checkpoints of a thread that waits for an answer."""
    writer = Writer(saver, "t")
    made = [
        writer.put(None, {"run_id": "r1"}, messages=HELLO[:1], plan=Plan("first"), score=1.5),
        writer.put(None, {"run_id": "r1"}, messages=HELLO, plan=Plan("second"), note={"a": [1]}),
        writer.put(None, {"run_id": "r2", "user_id": "ama"}, gone=("score",), **{"branch:to:ask": None}),
    ]
    saver.put_writes(made[-1], [("__interrupt__", (Interrupt({"question": "Approve?"}, id="i"),))], "task")
    return [id_of(config) for config in made]


def test_show(run: Run, steps: list[str]) -> None:
    """A checkpoint's position, values, next nodes and pending requests are shown; no class is imported."""
    said = run("threads", "show", "t").out
    lines = said.splitlines()
    assert lines[0] == "Thread      t, never expires"
    assert lines[1].startswith(f"Checkpoint  {steps[2]} (step 2, loop, ")
    assert lines[2] == f"After       {steps[1]}"
    assert "Run         r2" in lines
    assert "user_id     ama" in lines
    assert "Next        ask" in lines
    assert "  messages: 2 items\n    user: Hello\n    energy: Good morning.\n" in said
    assert '  plan: {"class": "tests.cli.test_threads.Plan", "data": {"text": "second"}}' in said
    assert said.endswith("Pending\n  interrupt: 1 item\n" + lines[-1] + "\n")
    assert "Approve?" in lines[-1]
    first = run("threads", "show", "t", "--checkpoint", steps[0]).out.splitlines()
    assert "After       none (first checkpoint)" in first
    assert not [line for line in first if line.startswith(("user_id", "Next", "Pending"))]


def test_show_for_programs(run: Run, steps: list[str]) -> None:
    """``--json`` prints any checkpoint in full."""
    shown = json.loads(run("threads", "show", "t", "--checkpoint", steps[1], "--json").out)
    assert (shown["checkpoint"], shown["parent"], shown["run"]) == (steps[1], steps[0], "r1")
    assert shown["values"] == {
        "messages": [
            {"type": "human", "id": "1", "text": "Hello"},
            {"type": "ai", "name": "energy", "id": "2", "text": "Good morning."},
        ],
        "plan": {"class": "tests.cli.test_threads.Plan", "data": {"text": "second"}},
        "score": 1.5,
        "note": {"a": [1]},
    }
    assert shown["pending"] == []
    latest = json.loads(run("threads", "show", "t", "--json").out)
    [write] = latest["pending"]
    assert (write["task"], write["channel"]) == ("task", "__interrupt__")
    assert write["value"][0]["value"] == {"question": "Approve?"}


def test_diff(run: Run, steps: list[str]) -> None:
    """A diff lists what was added, removed and changed between two checkpoints; lists item by item."""
    found = json.loads(run("threads", "diff", "t", steps[0], steps[1], "--json").out)
    assert (found["before"], found["after"]) == (steps[0], steps[1])
    assert found["channels"]["messages"] == {
        "change": "changed",
        "removed": [],
        "added": [{"type": "ai", "name": "energy", "id": "2", "text": "Good morning."}],
    }
    assert found["channels"]["note"] == {"change": "new", "after": {"a": [1]}}
    assert found["channels"]["plan"]["change"] == "changed"
    assert "score" not in found["channels"]
    said = run("threads", "diff", "t", steps[0], steps[1]).out
    assert "\nmessages: changed\n  + energy: Good morning.\n" in said
    last = run("threads", "diff", "t").out
    assert f"From        {steps[1]}" in last
    assert "\nscore: gone\n  - 1.5\n" in last
    assert "branch:to" not in last
    assert run("threads", "diff", "t", steps[1], steps[1]).out.endswith("\nNo value changed.\n")


def test_what_is_not_in_a_thread(run: Run, saver: RedisSaver, steps: list[str]) -> None:
    """The error names a missing checkpoint or namespace, and a first checkpoint that has no parent."""
    Writer(saver, "t", "sub|x").put(m=1)
    for arguments, message in (
        (["show", "t", "--checkpoint", "nope"], "There is no checkpoint 'nope' in thread 't'"),
        (
            ["show", "t", "--namespace", "nope"],
            "There is no namespace 'nope' in thread 't'. Available: '' (the main graph's), 'sub|x'.",
        ),
        (["diff", "t", steps[0], "nope"], "There is no checkpoint 'nope'"),
        (["diff", "t", "--namespace", "sub|x"], "is the first, so there is nothing to compare it with"),
    ):
        ended = run("threads", *arguments)
        assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert message in ended.err


def test_nothing_to_prune(run: Run, saver: RedisSaver) -> None:
    """Pruning all threads where there are none, or none any more, asks nothing and prunes nothing."""
    assert run("threads", "prune", "--all").out.startswith("0 threads pruned.")


def test_copy_and_prune(run: Run, saver: RedisSaver, steps: list[str]) -> None:
    """A copy contains the whole thread; pruning keeps the newest checkpoints, of named threads or of all."""
    assert run("threads", "copy", "t", "u").out == "Thread u is a copy of t.\n"
    assert json.loads(run("threads", "copy", "t", "v", "--json").out) == {"thread": "t", "copy": "v"}
    assert run("threads", "prune", "u", "--keep", "2", "--yes").code == 0
    kept = {thread: len(list(saver.list(at(thread)))) for thread in ("t", "u", "v")}
    assert kept == {"t": 3, "u": 2, "v": 3}
    pruned = json.loads(run("threads", "prune", "--all", "--yes", "--json").out)
    assert (sorted(pruned["threads"]), pruned["kept"]) == (["t", "u", "v"], 1)
    assert [id_of(each.config) for each in saver.list(None)] == [steps[2]] * 3
    assert saver.get_tuple(at("t")).pending_writes, "what waits for an answer still does"  # type: ignore[union-attr]


def test_threads_that_can_not_be_read(run: Run, saver: RedisSaver, steps: list[str], prefix: str) -> None:
    """An encrypted thread does not hide the others; opening or copying it says what is required."""
    sealed = RedisSaver(server=saver._server, prefix=prefix, serde=EncryptedRedisSerializer(b"k" * 32))
    Writer(sealed, "sealed").put(messages=HELLO)
    listed = run("threads", "list").out.splitlines()[1:]
    assert [(*line.split()[:3], line.split()[-1]) for line in listed] == [
        ("sealed", "?", "?", "(encrypted)"),
        ("t", "1", "2", "Hello"),
    ]
    rows: list[dict[str, Any]] = json.loads(run("threads", "list", "--json").out)
    assert (rows[0]["messages"], rows[1]["messages"]) == (None, 2)
    assert "is encrypted" in rows[0]["unreadable"]
    assert run("search", "hello").out.startswith("t: 2 messages")
    for command in (["show", "sealed"], ["history", "sealed"], ["copy", "sealed", "x"]):
        ended = run("threads", *command)
        assert (ended.code, ended.out) == (1, "")
        assert "encrypted" in ended.err
    assert run("threads", "delete", "sealed", "--yes").code == 0


def test_waiting(run: Run, saver: RedisSaver, steps: list[str]) -> None:
    """Waiting threads are listed with their requests; other threads are not."""
    Writer(saver, "done").put(messages=HELLO)
    said = run("threads", "waiting").out.splitlines()
    assert said[0] == "t: Hello"
    assert said[1].startswith("  waiting since ")
    assert said[2:] == ["  question: Approve?"]
    [row] = json.loads(run("threads", "waiting", "--json").out)
    assert (row["thread"], row["waiting"]) == ("t", [{"id": "i", "value": {"question": "Approve?"}}])
    saver.delete_thread("t")
    assert "No thread waits" in run("threads", "waiting").err


def test_search(run: Run, saver: RedisSaver) -> None:
    """A search finds conversations by words, within the filters of the options."""
    for thread, question, group in (
        ("a", "Le prix du pétrole?", "energy"),
        ("b", "The price of rice", "agriculture"),
    ):
        Writer(saver, thread).put(
            None,
            {"user_id": f"user-{thread}"},
            messages=[HumanMessage(question), AIMessage("The price rises. " + "More of it. " * 9, name=group)],
        )

    def found(*options: str) -> list[str]:
        return sorted(row["thread"] for row in json.loads(run("search", "price", *options, "--json").out))

    assert found() == ["a", "b"]
    assert found("--group", "energy") == ["a"]
    assert found("--user", "user-b") == ["b"]
    assert found("--since", "1h") == ["a", "b"]
    assert found("--since", "2100-01-01") == []
    assert len(found("--limit", "1")) == 1
    lines = run("search", "petrole").out.splitlines()
    assert lines[0].startswith("a: 2 messages, ")
    assert lines[1:] == ["  Le prix du pétrole?"]
    lines = run("search", "price rises", "--user", "user-a").out.splitlines()
    assert lines[1] == "  Le prix du pétrole?"
    assert lines[2].startswith("  The price rises. More of it."), "the words that were found, below the title"
    assert "No thread has these words" in run("search", "absent").err
    ended = run("search", "price", "--since", "soon")
    assert (ended.code, ended.out) == (2, "")
    assert "--since takes a date" in ended.err


def test_migrate(run: Run, saver: RedisSaver, tmp_path: Path) -> None:
    """The threads of a SQLite file are copied, the number of matches is printed; a second run changes nothing."""
    file = tmp_path / "old.db"
    with SqliteSaver.from_conn_string(str(file)) as old:
        writer = Writer(old, "one")
        writer.put(messages=HELLO[:1])
        writer.put(messages=HELLO)
        Writer(old, "two").put(messages=HELLO)
    assert (
        run("threads", "migrate", str(file)).out == "2 threads: 3 of 3 checkpoints match, 3 of them written now.\n"
    )
    assert len(list(saver.list(at("one")))) == 2
    again = json.loads(run("threads", "migrate", f"sqlite:///{file}", "two", "--json").out)
    assert again == {"threads": 1, "checkpoints": 1, "written": 0, "matched": 1, "failed": {}}
    saver.delete_thread("one")
    Writer(saver, "one").put(id_of(writer.config), messages=[])
    ended = run("threads", "migrate", str(file))
    assert ended.code == 1
    assert "2 of 3 checkpoints match" in ended.out
    assert "one: The target has another checkpoint" in ended.err


@pytest.fixture(params=["postgresql://u:secret@127.0.0.1/x", "rediss://:secret@127.0.0.1"])
def elsewhere(
    request: pytest.FixtureRequest, environment: pytest.MonkeyPatch
) -> tuple[str, list[str], InMemorySaver]:
    """The address of another library's saver, what is done to it in turn, and the saver that opens there."""
    done: list[str] = []

    class Saver(InMemorySaver):
        @classmethod
        @contextmanager
        def from_conn_string(cls, address: str) -> Iterator[InMemorySaver]:
            done.append(address)
            yield opened

        def setup(self) -> None:
            done.append("setup")

    opened = Saver()
    Writer(opened, "one").put(messages=HELLO)
    library, name = ("redis", "RedisSaver") if request.param.startswith("redis") else ("postgres", "PostgresSaver")
    environment.setitem(sys.modules, f"langgraph.checkpoint.{library}", SimpleNamespace(**{name: Saver}))  # type: ignore[arg-type]
    return request.param, done, opened


def test_migrate_from_a_server(
    run: Run, saver: RedisSaver, elsewhere: tuple[str, list[str], InMemorySaver]
) -> None:
    """The threads of a PostgreSQL database or of langgraph-checkpoint-redis, which sets itself up, are copied."""
    address, done, _ = elsewhere
    assert (
        run("threads", "migrate", address).out == "1 thread: 1 of 1 checkpoint matches, 1 of them written now.\n"
    )
    assert done == ([address] if address.startswith("postgres") else [address, "setup"])
    assert saver.get_tuple(at("one")).checkpoint["channel_values"]["messages"] == HELLO  # type: ignore[union-attr]


def test_whose_fault_a_migration_names(
    run: Run,
    environment: pytest.MonkeyPatch,
    elsewhere: tuple[str, list[str], InMemorySaver],
) -> None:
    """A source that fails is named without its password; a server that refuses the copies is not blamed on it."""
    address, _, source = elsewhere
    with running_server("redis", "--maxmemory", "1") as full:
        environment.setenv("REDIS_URL", full.url)
        refused = run("threads", "migrate", address)
        environment.setattr(source, "list", raising(ConnectionError(f"{address} hung up")))
        failed = run("threads", "migrate", address)
    assert (refused.code, refused.out) == (1, "")
    assert "memory" in refused.err
    assert "source" not in refused.err
    assert (failed.code, failed.out) == (2, "")
    assert "The source can't be read (ConnectionError): " in failed.err
    assert "127.0.0.1" in failed.err
    assert "secret" not in failed.err


@pytest.mark.parametrize(
    ("source", "library"),
    [
        ("nothing.db", "sqlite"),
        ("postgresql://u:secret@127.0.0.1:1/x", "postgres"),
        ("redis://:secret@127.0.0.1:1", "redis"),
    ],
)
def test_sources_that_can_not_be_read(run: Run, saver: RedisSaver, source: str, library: str) -> None:
    """A missing source is named without its password, and so is a missing library; nothing is written."""
    ended = run("threads", "migrate", source)
    if find_spec(f"langgraph.checkpoint.{library}"):
        assert (ended.code, ended.out) == (2, "")
    else:
        assert (ended.code, ended.out) == (1, "")
        assert f"pip install langgraph-checkpoint-{library}" in ended.err
    assert "secret" not in ended.err
    assert "Traceback" not in ended.err
    assert saver.threads() == []
