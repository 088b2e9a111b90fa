"""``ask``: one question, answered and kept."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import RunningServer

SOLAR = "Which solar tariffs does the power pool charge?"
BOTH = "Which solar tariffs make broadband cables cheaper?"


def test_the_answer_is_labelled_and_explained(run: Run, environment: pytest.MonkeyPatch) -> None:
    """Standard output shows the route, how it was decided, the speaker's name and the answer."""
    ended = run("ask", SOLAR, "--session", "s")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "Route  energy"
    assert lines[1].startswith("Why    ")
    assert lines[1].endswith("(lexical)")
    assert lines[2:] == ["", "● Energy & Infrastructure", "  Good morning."]


def test_how_to_go_on_is_a_remark(run: Run, environment: pytest.MonkeyPatch) -> None:
    """Everything else goes to standard error, such as a new session's id in a command that works when pasted."""
    ended = run("ask", SOLAR)
    assert "ecowas-lc ask --session " in ended.err
    session = ended.err.split("Session ")[1].split(". ")[0]
    assert session not in ended.out
    assert json.loads(run("sessions", "show", session, "--json").out)["session"] == session


def test_json_is_one_object(run: Run, environment: pytest.MonkeyPatch) -> None:
    """``--json`` prints the answer and how it was produced as one object, and nothing else."""
    ended = run("ask", BOTH, "--session", "s", "--json")
    answer = json.loads(ended.out)
    assert sorted(answer) == ["answer", "groups", "question", "reason", "reports", "session", "source"]
    assert answer["session"] == "s"
    assert answer["question"] == BOTH
    assert sorted(answer["groups"]) == ["digital", "energy"]
    assert answer["source"] == "lexical"
    assert answer["reports"]["energy"] == {"status": "answered", "text": "Good morning."}
    assert "Good morning." in answer["answer"]


def test_a_session_goes_on(run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub) -> None:
    """The second question of a session is asked with the first one and its answer before it."""
    run("ask", SOLAR, "--session", "s")
    run("ask", "And which for hydro power?", "--session", "s")
    told = [message["content"] for message in stub.bodies("/api/chat")[-1]["messages"]]
    assert told[-3:] == [SOLAR, "Good morning.", "And which for hydro power?"]
    assert run("ask", "And wind power?", "--session", "s").out.count("Good morning.") == 1, "nothing is replayed"


def test_histories_are_readable_on_the_server(
    run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str
) -> None:
    """Each group's history of the session is stored under the published key as JSON with role and content."""
    run("ask", BOTH, "--session", "s")
    with redis_server.client() as client:
        for group in ("energy", "digital"):
            rows = [json.loads(row) for row in client.lrange(f"{prefix}:history:{group}:s", 0, -1)]
            assert [(row["role"], row["content"]) for row in rows] == [
                ("user", BOTH),
                ("assistant", "Good morning."),
            ]
        assert 86000 < client.ttl(f"{prefix}:history:energy:s") <= 86400
        assert 86000 < client.ttl(f"{prefix}:checkpoint:{{s}}") <= 86400, "thread and histories live equally long"


def test_named_groups_are_asked(run: Run, environment: pytest.MonkeyPatch) -> None:
    """``--agent`` asks these groups, whatever the question is about."""
    ended = run("ask", SOLAR, "--agent", "minerals", "--agent", "protocol", "--json")
    answer = json.loads(ended.out)
    assert (answer["groups"], answer["source"]) == (["minerals", "protocol"], "asked")


def test_a_general_question_is_the_supervisors(run: Run, environment: pytest.MonkeyPatch) -> None:
    """If a question concerns no group, the supervisor answers under its own name."""
    ended = run("ask", "Hello!")
    assert "Route  no group: the supervisor answers" in ended.out
    assert "● Supervisor\n  Good morning." in ended.out


def test_nothing_is_kept_where_the_settings_say_so(
    run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str
) -> None:
    """With ``AGENT_USE_REDIS_MEMORY=false``, no key is written, and a remark says that nothing is stored."""
    environment.setenv("AGENT_USE_REDIS_MEMORY", "false")
    ended = run("ask", SOLAR)
    assert ended.code == 0
    assert "Not stored" in ended.err
    with redis_server.client() as client:
        assert list(client.scan_iter(f"{prefix}:*")) == []


@pytest.mark.parametrize("session", ["Abuja 2026", "a:b", "{x}*", "é\n☃"])
def test_any_text_is_a_session(run: Run, environment: pytest.MonkeyPatch, session: str) -> None:
    """A session's id may be any text, and the command that continues the session quotes it for the shell."""
    ended = run("ask", SOLAR, "--session", session)
    assert ended.code == 0
    shown = json.loads(run("sessions", "show", "--json", session).out)
    assert len(shown["messages"]) == 2
