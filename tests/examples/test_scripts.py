"""The promised scripts do what they say, and say what is wrong where they can't."""

from __future__ import annotations

import re

import pytest

from tests.examples.conftest import Run
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import RunningServer, closed_port

pytestmark = pytest.mark.rights("+info", "+dbsize")  # they show what the server uses


def test_the_connection_test(run: Run, redis_server: RunningServer) -> None:
    """Exit code 0 and where it is; 1 and what to do; never the password."""
    done = run("test_redis_connection.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"127.0.0.1:{redis_server.port}" in done.stdout
    assert re.search(r"It answers: \S+ used, \d+ keys, 0 sessions here", done.stdout)

    nowhere = run("test_redis_connection.py", REDIS_URL=f"redis://:secret@127.0.0.1:{closed_port()}/0")
    assert (nowhere.returncode, nowhere.stderr) == (1, "")
    assert "REDIS_URL" in nowhere.stdout
    assert "secret" not in nowhere.stdout

    wrong = run("test_redis_connection.py", REDIS_URL="http://127.0.0.1")
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert "redis://" in wrong.stdout


@pytest.mark.rights("~ecowas-example:*")  # it takes a prefix of its own
def test_the_six_memory_examples(run: Run, redis_server: RunningServer) -> None:
    """History, append and trim, state, session data, several sessions, times to live; nothing is left behind."""
    done = run("redis_memory_example.py")
    assert (done.returncode, done.stderr) == (0, "")
    for expected in (
        "user: What is the West African Power Pool?",
        "cleared: []",
        "message 5: 3 kept",
        "['message 3', 'message 4', 'message 5']",
        "{'step': 'drafting', 'countries': ['Ghana', 'Togo'], 'round': 2}",
        "no state: None",
        "fr, {'pillar': 'energy transition', 'bankable': True}",
        "most recently active first: [",
        "chidi: I am chidi.",
        "the session has 1 message and lives 3600 s more",
        "5 sessions, 1 agents under this prefix",
        "healthy: True",
    ):
        assert expected in done.stdout
    assert [line[:2] for line in done.stdout.splitlines() if line[0].isdigit()] == [f"{n}." for n in range(1, 7)]
    with redis_server.client() as client:
        assert client.keys("ecowas-example:*") == []
    assert run("redis_memory_example.py", REDIS_URL=f"redis://127.0.0.1:{closed_port()}").returncode == 1


def test_the_supervisor_goes_on_in_a_second_process(
    run: Run, redis_server: RunningServer, ollama: OllamaStub
) -> None:
    """What was asked in one process reaches the model in the next."""
    done = run("supervisor_with_redis.py")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.split("--- a second process goes on ---")
    assert "kept in redis, 0 messages so far" in first
    assert first.count("Good morning.") == 2
    assert "[energy: " in first
    assert "kept in redis, 4 messages so far" in second
    assert second.count("Good morning.") == 1
    asked = [message["content"] for message in ollama.bodies("/api/chat")[-1]["messages"][1:]]
    assert asked[::2] == [
        "How can the power pool bring electricity to villages?",
        "Thank you! What is the summit for?",
        "What did I ask you first?",
    ]


def test_the_supervisor_without_a_model_or_without_redis(run: Run) -> None:
    """No model: what mends it. No Redis: a warning, and an answer."""
    no_model = run("supervisor_with_redis.py", OLLAMA_BASE_URL=f"http://127.0.0.1:{closed_port()}")
    assert no_model.returncode == 1
    assert "ollama serve" in no_model.stdout
    no_redis = run(
        "supervisor_with_redis.py", "--session", "s", "hello", REDIS_URL=f"redis://127.0.0.1:{closed_port()}"
    )
    assert no_redis.returncode == 0
    assert "kept in memory" in no_redis.stdout
    assert "Good morning." in no_redis.stdout
    assert "is lost" in no_redis.stderr
