"""``sessions`` and ``threads`` show what is stored and for how long, and delete it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langgraph.types import Interrupt

from ecowas_lc import RedisStore
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.search.place import bucket_of
from ecowas_lc.storage.keys import Keys
from tests.cli.conftest import Run
from tests.fixtures.leftovers import left_over
from tests.fixtures.servers import RunningServer

SOLAR = "Which solar tariffs does the power pool charge?"


@pytest.fixture
def talked(run: Run, environment: pytest.MonkeyPatch) -> None:
    """Two sessions, the second one more recent."""
    for session in ("first", "second"):
        assert run("ask", SOLAR, "--session", session).code == 0


@pytest.mark.usefixtures("talked")
def test_sessions_are_listed(run: Run) -> None:
    """Each session has one line, the most recent first, with its agents, messages and time to live."""
    rows = json.loads(run("sessions", "list", "--json").out)
    assert [row["session"] for row in rows] == ["second", "first"]
    assert rows[0]["agents"] == {"energy": 2, "supervisor": 2}
    assert 86000 < rows[0]["ttl_seconds"] <= 86400
    lines = run("sessions", "list").out.splitlines()
    assert lines[0].split() == ["session", "turns", "lasted", "active", "expires", "in", "agents"]
    assert lines[1].split()[:2] == ["second", "1"]
    assert rows[0]["turns"] == 1
    assert 0 <= rows[0]["duration_seconds"] < 60
    assert lines[1].endswith("  energy, supervisor")
    limited = run("sessions", "list", "--limit", "1")
    assert len(limited.out.splitlines()) == 2
    assert "1 more" in limited.err


@pytest.mark.usefixtures("talked")
def test_a_session_is_shown(run: Run) -> None:
    """The conversation and each agent's history are shown, in full or one line a message."""
    for arguments in ((), ("--brief",)):
        said = run("sessions", "show", "first", *arguments).out
        assert "Conversation: 2 messages" in said
        assert "History of energy: 2 messages" in said
        assert said.count("Good morning.") == 3
    shown = json.loads(run("sessions", "show", "first", "--json").out)
    assert shown["messages"] == shown["histories"]["energy"]
    assert shown["messages"] == [
        {"speaker": "user", "text": SOLAR},
        {"speaker": "energy", "text": "Good morning."},
    ]


@pytest.mark.usefixtures("talked")
def test_a_session_is_extended(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """Histories and thread live as long as requested, others as before."""
    assert run("sessions", "extend", "first", "--ttl", "100").code == 0
    with redis_server.client() as client:
        for key in ("history:energy:first", "history:supervisor:first", "checkpoint:{first}"):
            assert 90 < client.ttl(f"{prefix}:{key}") <= 100
        assert client.ttl(f"{prefix}:history:energy:second") > 86000
    assert json.loads(run("sessions", "extend", "first", "--json").out)["ttl_seconds"] == 86400
    with redis_server.client() as client:
        assert client.ttl(f"{prefix}:checkpoint:{{first}}") > 86000


@pytest.mark.usefixtures("talked")
def test_a_session_is_cleared(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """Everything of the session is deleted, and the other session is unchanged."""
    assert run("sessions", "clear", "first", "--yes").code == 0
    with redis_server.client() as client:
        assert [key for key in left_over(client, prefix) if b"first" in key] == []
    assert [row["session"] for row in json.loads(run("sessions", "list", "--json").out)] == ["second"]
    assert [row["thread"] for row in json.loads(run("threads", "list", "--json").out)] == ["second"]


@pytest.mark.usefixtures("talked")
def test_removals_for_programs(run: Run) -> None:
    """With ``--json`` a removal says what it removed."""
    assert json.loads(run("threads", "delete", "first", "--yes", "--json").out) == {
        "thread": "first",
        "deleted": True,
    }
    assert json.loads(run("sessions", "clear", "second", "--yes", "--json").out)["session"] == "second"


@pytest.mark.usefixtures("talked")
def test_threads_are_listed(run: Run) -> None:
    """Each thread has one line, the most recent first."""
    rows = json.loads(run("threads", "list", "--json").out)
    assert [(row["thread"], row["turns"], row["messages"]) for row in rows] == [("second", 1, 2), ("first", 1, 2)]
    assert 86000 < rows[0]["ttl_seconds"] <= 86400
    assert [line.split()[0] for line in run("threads", "list").out.splitlines()] == ["thread", "second", "first"]


@pytest.mark.usefixtures("talked")
def test_a_threads_history(run: Run) -> None:
    """Checkpoints are listed newest first, each with its step and its last message."""
    rows = json.loads(run("threads", "history", "first", "--json").out)
    assert [row["step"] for row in rows] == sorted((row["step"] for row in rows), reverse=True)
    assert rows[0]["last"] == "Good morning."
    assert rows[-1]["source"] == "input"
    assert len(json.loads(run("threads", "history", "first", "--limit", "2", "--json").out)) == 2
    assert "Good morning." in run("threads", "history", "first").out


@pytest.mark.usefixtures("talked")
def test_a_thread_is_deleted(run: Run) -> None:
    """The thread is deleted; the groups' histories of the session remain, as help says."""
    assert run("threads", "delete", "first", "--yes").code == 0
    assert [row["thread"] for row in json.loads(run("threads", "list", "--json").out)] == ["second"]
    shown = json.loads(run("sessions", "show", "first", "--json").out)
    assert shown["messages"] == []
    assert len(shown["histories"]["energy"]) == 2


@pytest.mark.usefixtures("talked")
@pytest.mark.parametrize(
    "command",
    [["sessions", "clear", "first"], ["threads", "delete", "first"], ["threads", "prune", "first"]],
    ids=" ".join,
)
def test_what_is_removed_is_asked_first(
    run: Run, redis_server: RunningServer, prefix: str, command: list[str]
) -> None:
    """On a terminal only ``y`` removes; anything else, an empty line and Ctrl-D leave all as it was."""
    with redis_server.client() as client:
        before = client.hgetall(f"{prefix}:checkpoint:{{first}}")
        for answer in ("n\n", "\n", "", "what?\n"):
            ended = run(*command, stdin=answer, on_terminal=True)
            assert (ended.code, ended.out) == (0, "")
            assert "first" in ended.err
            assert "? [y/N] " in ended.err
            assert ended.err.endswith("Nothing was changed.\n")
            assert client.hgetall(f"{prefix}:checkpoint:{{first}}") == before
        assert "first" in run(*command, stdin="y\n", on_terminal=True).err
        assert client.hgetall(f"{prefix}:checkpoint:{{first}}") != before


@pytest.mark.parametrize(
    "command",
    [
        ["sessions", "show", "none"],
        ["sessions", "extend", "none"],
        ["sessions", "clear", "none", "--yes"],
        ["threads", "history", "none"],
        ["threads", "delete", "none", "--yes"],
        ["threads", "show", "none"],
        ["threads", "diff", "none"],
        ["threads", "copy", "none", "some"],
        ["threads", "prune", "none", "--yes"],
        ["threads", "export", "none"],
        ["sessions", "export", "none"],
    ],
    ids=" ".join,
)
def test_what_is_not_there(run: Run, environment: pytest.MonkeyPatch, command: list[str]) -> None:
    """A missing session or thread ends with exit code 1 and the command that lists the existing ones."""
    ended = run(*command)
    assert (ended.code, ended.out) == (1, "")
    assert f"There is no {command[0][:-1]} 'none'. `ecowas-lc {command[0]} list` lists" in ended.err


def test_nothing_there_yet(run: Run, environment: pytest.MonkeyPatch) -> None:
    """An empty list is no failure: a line says how to begin."""
    for kind in ("sessions", "threads"):
        ended = run(kind, "list")
        assert (ended.code, ended.out) == (0, "")
        assert "ecowas-lc ask" in ended.err
        assert json.loads(run(kind, "list", "--json").out) == []


@pytest.mark.rights("+scan")
@pytest.mark.usefixtures("environment")
def test_histories_of_other_programs_are_found(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """``sessions reindex`` adds a history that no index lists, and a second run adds nothing."""
    with redis_server.client() as client:
        client.rpush(f"{prefix}:history:energy:old", json.dumps({"role": "user", "content": SOLAR}))
    assert json.loads(run("sessions", "list", "--json").out) == []
    first, second = (json.loads(run("sessions", "reindex", "--json").out) for _ in range(2))
    assert (first, second) == ({"found": 1, "items": 0}, {"found": 0, "items": 0})
    assert [row["session"] for row in json.loads(run("sessions", "list", "--json").out)] == ["old"]
    assert run("sessions", "show", "old").out.count(SOLAR) == 1


@pytest.mark.usefixtures("talked")
def test_sessions_are_searched(run: Run) -> None:
    """A search matches ids and messages, ignoring case; without a match the command says so."""
    for text, found in (("FIRST", ["first"]), ("solar Tariffs", ["second", "first"]), ("zebra", [])):
        ended = run("sessions", "list", "--search", text, "--json")
        assert [row["session"] for row in json.loads(ended.out)] == found
    none = run("sessions", "list", "--search", "zebra")
    assert (none.code, none.out) == (0, "")
    assert none.err == "No session matches. `ecowas-lc sessions list` lists all.\n"
    assert run("sessions", "list", "--search", " ").code == 2


@pytest.mark.rights("+scan")
def test_search_reads_every_form_of_a_message(
    run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str
) -> None:
    """Blocks of text, messages of other programs and lists that they keep as one JSON text are searched too."""
    with redis_server.client() as client:
        client.set(f"{prefix}:history:a:old", json.dumps([{"role": "user", "content": "The Zebra bridge"}]))
        client.rpush(f"{prefix}:history:a:blocks", json.dumps({"content": [{"type": "text", "text": "Zebra!"}]}))
        client.rpush(f"{prefix}:history:a:lc", json.dumps({"type": "human", "data": {"content": "zebras"}}))
        client.rpush(f"{prefix}:history:a:other", json.dumps({"role": "zebra", "content": "Solar"}))
        client.rpush(f"{prefix}:history:a:broken", "{zebra")
    assert run("sessions", "reindex").code == 0
    ended = run("sessions", "list", "--search", "zebra", "--json")
    assert sorted(row["session"] for row in json.loads(ended.out)) == ["blocks", "lc", "old"]
    assert "'broken'" in ended.err
    assert ended.code == 1  # the list may lack it


def _age(redis_server: RunningServer, prefix: str, session: str, seconds: float) -> None:
    """Let a session's last activity lie so long ago, as its histories and its thread's index say."""
    keys = Keys(prefix)
    with redis_server.client() as client:
        for agent in ("energy", "supervisor"):
            client.zincrby(keys.history_meta(agent, session), -1000 * seconds, "used")
        client.zincrby(keys.threads(), -seconds, session)


@pytest.mark.usefixtures("talked")
def test_active_sessions_are_listed(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """Only sessions with activity within the time are shown."""
    _age(redis_server, prefix, "first", 7200)
    listed = run("sessions", "list", "--active", "1h", "--json")
    assert [row["session"] for row in json.loads(listed.out)] == ["second"]
    assert len(json.loads(run("sessions", "list", "--active", "1d", "--json").out)) == 2
    for nonsense in ("soon", "-1h", "1 fortnight", "nan"):
        ended = run("sessions", "list", "--active", nonsense)
        assert (ended.code, ended.out) == (2, "")
        assert "1h30m" in ended.err


@pytest.mark.usefixtures("talked")
def test_idle_sessions_are_cleared(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """Only sessions idle for this long are deleted, after a question that names them."""
    assert "No session has been idle" in run("sessions", "clear", "--idle", "30d", "--yes").out
    _age(redis_server, prefix, "first", 40 * 86400)
    unanswered = run("sessions", "clear", "--idle", "30d")
    assert unanswered.code == 2
    refused = run("sessions", "clear", "--idle", "30d", stdin="n\n", on_terminal=True)
    assert "Delete everything in 1 session idle for 30 d or more (first)?" in refused.err
    assert len(json.loads(run("sessions", "list", "--json").out)) == 2
    assert json.loads(run("sessions", "clear", "--idle", "30d", "--yes", "--json").out) == {
        "cleared": ["first"],
        "kept": {},
    }
    with redis_server.client() as client:
        assert [key for key in left_over(client, prefix) if b"first" in key] == []
    assert [row["session"] for row in json.loads(run("sessions", "list", "--json").out)] == ["second"]
    _age(redis_server, prefix, "second", 40 * 86400)
    assert run("sessions", "clear", "--idle", "30d", "--yes").out == "1 session deleted.\n"


@pytest.mark.usefixtures("talked")
@pytest.mark.parametrize("still", ["history", "thread", "waiting", "unreadable"])
def test_an_idle_session_that_is_in_use_stays(
    run: Run, redis_server: RunningServer, prefix: str, still: str
) -> None:
    """One agent's recent history, the thread or a pending decision keeps a session."""
    _age(redis_server, prefix, "first", 40 * 86400)
    with redis_server.client() as client:
        if still == "history":
            client.zincrby(Keys(prefix).history_meta("energy", "first"), 1000 * 40 * 86400, "used")
        elif still == "thread":
            client.zincrby(Keys(prefix).threads(), 40 * 86400, "first")
    if still == "waiting":
        saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
        latest = saver.get_tuple({"configurable": {"thread_id": "first"}})
        assert latest is not None
        saver.put_writes(latest.config, [("__interrupt__", (Interrupt("Approve?", id="i"),))], "task")
    elif still == "unreadable":
        with redis_server.client() as client:
            key = f"{prefix}:checkpoint:{{first}}"
            client.hset(key, b"c\0" + client.hget(key, "L"), b"\xff\xff")
    ended = run("sessions", "clear", "--idle", "30d", "--yes", "--json")
    assert json.loads(ended.out)["cleared"] == []
    assert len(json.loads(run("sessions", "list", "--json").out)) == 2
    if still != "history":
        assert "Session first is kept" in ended.err


@pytest.mark.usefixtures("talked")
def test_a_session_that_is_used_while_others_are_cleared_stays(
    run: Run, redis_server: RunningServer, prefix: str, environment: pytest.MonkeyPatch
) -> None:
    """Each session is checked again before it is deleted: the prompt may have been open for a long time."""
    _age(redis_server, prefix, "first", 40 * 86400)
    asked: list[str] = []

    def why_kept(store: Any, session: str, before: Any) -> str:
        asked.append(session)
        return "something has happened in it" if len(asked) > 1 else ""

    environment.setattr("ecowas_lc.cli.sessions._why_kept", why_kept)
    ended = run("sessions", "clear", "--idle", "30d", "--yes")
    assert "Session first is kept: something has happened in it." in ended.err
    assert "No session was deleted." in ended.out


@pytest.mark.rights("+scan")
@pytest.mark.usefixtures("environment")
def test_reindexing_tells_how_many_items_it_found(run: Run, redis_server: RunningServer, prefix: str) -> None:
    """Store items that are missing from the index are added to it again and counted."""
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store:
        store.put(("a", "b"), "k", {"n": 1})
        index = store._at.bucket(bucket_of(("a", "b")))
    with redis_server.client() as client:
        client.unlink(*index, store._at.keys.collections())
    assert "1 item of stores added to the indexes." in run("sessions", "reindex").out


@pytest.mark.parametrize(
    "arguments",
    [[], ["first", "--idle", "1d"], ["--idle", "0"], ["--idle", "0.5s"], ["--idle", "-1d"]],
    ids=" ".join,
)
def test_nothing_is_cleared_by_mistake(run: Run, environment: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Without a session or a time, with both, or with no time at all, nothing is cleared."""
    ended = run("sessions", "clear", *arguments, "--yes")
    assert (ended.code, ended.out) == (2, "")


def test_brackets_in_an_id_are_shown(run: Run, environment: pytest.MonkeyPatch) -> None:
    """Questions, results and tables show ids literally: brackets are no markup."""
    assert run("ask", SOLAR, "--session", "[bold]a[/]").code == 0
    asked = run("sessions", "clear", "[bold]a[/]", stdin="n\n", on_terminal=True)
    assert "session [bold]a[/]? [y/N] " in asked.err
    assert "[bold]a[/]  " in run("sessions", "list").out
    assert run("sessions", "extend", "[bold]a[/]").out.startswith("Session [bold]a[/] expires")
    assert run("sessions", "clear", "[bold]a[/]", "--yes").out == "Session [bold]a[/] deleted.\n"
