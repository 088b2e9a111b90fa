"""The example scripts do what they promise, and explain what is wrong if they can't."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.conftest import ROOT, Run
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.other_data import put_other_data, unharmed
from tests.fixtures.servers import RunningServer, closed_port, running_server

pytestmark = pytest.mark.rights("+info", "+dbsize")  # they show which server is used


def test_the_connection_test(run: Run, redis_server: RunningServer) -> None:
    """On success: exit code 0 and the server's address. On failure: 1 and the fix. Never the password."""
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


@pytest.mark.rights("~ecowas-example:*")  # it takes a separate prefix
def test_the_six_memory_examples(run: Run, redis_server: RunningServer) -> None:
    """History, append and trim, state, session data, several sessions, times to live; no key remains."""
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
        left = client.keys("ecowas-example:*")
        assert all(key.startswith((b"ecowas-example:history-meta:", b"ecowas-example:cleared:")) for key in left)
        assert all(client.ttl(key) > 0 for key in left), "what remembers a removal goes by itself"
    assert run("redis_memory_example.py", REDIS_URL=f"redis://127.0.0.1:{closed_port()}").returncode == 1


def test_the_supervisor_goes_on_in_a_second_process(
    run: Run, redis_server: RunningServer, ollama: OllamaStub
) -> None:
    """A question from one process reaches the model in the next."""
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


@pytest.fixture(scope="module")
def somebodys_server() -> Iterator[RunningServer]:
    """A server with other people's data, which the settings name."""
    with running_server("redis") as server:
        put_other_data(server)
        yield server


@pytest.mark.parametrize(
    "name",
    ["redis_memory_example.py", "supervisor_with_redis.py", "test_redis_connection.py", "fastapi", "celery"],
)
def test_nobody_elses_data_is_touched(
    environment: dict[str, str], somebodys_server: RunningServer, tmp_path: Path, name: str
) -> None:
    """Run without changes and without a prefix in the settings, an example changes no keys but its own."""
    del environment["ECOWAS_LC_PREFIX"]
    environment |= {"REDIS_URL": somebodys_server.url, "PYTHONWARNINGS": "error"}
    if name == "celery":  # its clean-up, which thinks everything idle
        environment["PYTHONWARNINGS"] = "default"
        command = ["-c", "from examples.celery_tasks import answer, clean_up; answer('s', 'hello'); clean_up(0)"]
    elif name == "fastapi":
        command = ["-c", _ASK_THE_API]
    else:
        command = [str(ROOT / "examples" / name)]
    with unharmed(somebodys_server):
        done = subprocess.run(
            [sys.executable, *command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr


_ASK_THE_API = """
import asyncio, httpx
from examples.fastapi_app import app

async def ask():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        assert (await api.post("/chat", json={"session_id": "s", "prompt": "hello"})).status_code == 200
        assert (await api.get("/sessions")).json()[0]["session_id"] == "s"
        assert (await api.delete("/sessions/s")).status_code == 204

asyncio.run(ask())
"""


def test_the_supervisor_without_a_model_or_without_redis(run: Run) -> None:
    """Without a model, the error gives the fix; without Redis, a warning and an answer."""
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
