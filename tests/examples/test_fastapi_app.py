"""The HTTP API, served by uvicorn and asked by httpx."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ecowas_lc import RedisSaver
from ecowas_lc.memory import RedisMemoryService
from tests.examples.conftest import environment_for
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.servers import RunningServer, free_port, wait_until

pytestmark = pytest.mark.rights("+info", "+dbsize")  # they show which server is used


@pytest.fixture(scope="module")
def stub() -> Iterator[OllamaStub]:
    """The model server behind the one application that all tests here ask."""
    with serving_stub() as serving:
        yield serving


@pytest.fixture(scope="module")
def application(
    redis_server: RunningServer, stub: OllamaStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the application, which runs in a separate process."""
    with running_application(redis_server, stub, tmp_path_factory.mktemp("fastapi")) as (address, _):
        yield address


@contextmanager
def running_application(
    redis_server: RunningServer, stub: OllamaStub, folder: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    address = f"http://127.0.0.1:{(port := free_port())}"
    # the model server claims to answer eight at once, so that no request waits in the application
    environment = environment_for(redis_server, "fastapi-test", stub)
    environment |= {"PYTHONWARNINGS": "error", "OLLAMA_NUM_PARALLEL": "8"}
    command = [sys.executable, "-m", "uvicorn", "examples.fastapi_app:app", "--port", str(port)]
    command += ["--ws", "none"]  # old releases of uvicorn import a deprecated part of websockets
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or _answers(address), "the application")
            yield address, process
        finally:
            process.terminate()
            process.wait(20)
        log.seek(0)
        told = log.read()
        assert "Traceback" not in told, told


@pytest.fixture
def api(application: str) -> Iterator[httpx.Client]:
    """A client of the application; afterwards it knows no session."""
    with httpx.Client(base_url=application, timeout=60, trust_env=False) as client:
        yield client
        for session in client.get("/sessions").json():
            client.delete(f"/sessions/{quote(session['session_id'], '')}")


@pytest.fixture
def ollama(stub: OllamaStub) -> Iterator[OllamaStub]:
    """The model server, well again after each test."""
    stub.requests.clear()
    stub.released.clear()  # else a test before this one lets answers through that are to stall
    yield stub
    stub.error, stub.stall_before, stub.models = None, None, ["tiny:latest"]


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/openapi.json", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def events(text: str) -> list[tuple[str, Any]]:
    """The events that the server sent: (event, data)."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def asked_of(ollama: OllamaStub) -> list[dict[str, Any]]:
    """The questions that reached the model; a request without messages only loads it."""
    return [body for body in ollama.bodies("/api/chat") if body["messages"]]


def test_a_conversation(api: httpx.Client, ollama: OllamaStub) -> None:
    """Chat, streamed chat and a named group; the sessions that they create are listed until they are cleared."""
    answer = api.post("/chat", json={"session_id": "s", "prompt": "How far does the power pool reach?"})
    assert answer.json() == {"session_id": "s", "answer": "Good morning.", "groups": ["energy"]}

    with api.stream("POST", "/chat/stream", json={"session_id": "s", "prompt": "hello"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = events("".join(stream.iter_text()))
    assert [name for name, _ in told] == ["text", "text", "text", "done"]
    assert "".join(data for name, data in told if name == "text") == "Good morning."
    assert told[-1] == ("done", [])

    delegated = api.post("/chat", json={"session_id": "s", "prompt": "hello", "group": "digital"})
    assert delegated.json()["groups"] == ["digital"]
    prompts = [message["content"] for message in ollama.bodies("/api/chat")[-1]["messages"][1:]]
    assert prompts == ["How far does the power pool reach?", "Good morning.", "hello", "Good morning.", "hello"]

    api.post("/chat", json={"session_id": "t", "prompt": "hello"})
    assert [session["session_id"] for session in api.get("/sessions").json()] == ["t", "s"]
    shown = api.get("/sessions/s").json()
    assert shown["messages"] == 6
    assert set(shown["agents"]) == {"supervisor", "energy", "digital"}
    assert [message["role"] for message in shown["history"]] == ["user", "assistant"] * 3
    assert api.post("/sessions/s/extend", json={"ttl": 1000}).json()["ttl"] == 1000
    assert 990 <= api.get("/sessions/s").json()["ttl"] <= 1000

    assert api.delete("/sessions/s").status_code == 204
    assert api.get("/sessions/s").status_code == 404
    assert api.post("/sessions/s/extend", json={"ttl": 10}).status_code == 404
    assert [session["session_id"] for session in api.get("/sessions").json()] == ["t"]
    assert api.get("/sessions", params={"agent": "energy"}).json() == []
    again = api.post("/chat", json={"session_id": "s", "prompt": "again?"})
    assert again.status_code == 200
    assert len(ollama.bodies("/api/chat")[-1]["messages"]) == 2, "the thread has been forgotten too"


def test_what_is_refused(api: httpx.Client) -> None:
    """Empty, unknown or too long input gets a status and a sentence, before any model is asked."""
    for body, status in (
        ({"session_id": "s", "prompt": ""}, 422),
        ({"session_id": "s", "prompt": "   "}, 400),
        ({"session_id": "", "prompt": "hello"}, 422),
        ({"session_id": " ", "prompt": "hello"}, 422),
        ({"session_id": "\u00a0\t", "prompt": "hello"}, 422),
        ({"session_id": "y" * 201, "prompt": "hello"}, 422),
        ({"session_id": "a/../b", "prompt": "hello"}, 422),
        ({"session_id": "s", "prompt": "x" * 4001}, 422),
        ({"session_id": "s", "prompt": "hello", "group": "nobody"}, 400),
        ({"session_id": "s", "prompt": "x" * 20_000}, 413),
    ):
        refused = api.post("/chat", json=body)
        assert refused.status_code == status, refused.text
        assert refused.json()["detail"]
    assert api.post("/chat/stream", json={"session_id": "s", "prompt": "  "}).status_code == 400
    assert api.post("/chat", content=iter([b"{}"])).status_code == 411
    assert api.post("/sessions/s/extend", json={"ttl": 0}).status_code == 422
    assert api.get("/sessions", params={"limit": 0}).status_code == 422


NOT_TEXT = ['{"session_id": "\\ud800", "prompt": "hello"}', '{"session_id": "s", "prompt": "\\udfff"}']
NOT_TEXT += [
    '{"session_id": "s", "prompt": "hello", "group": "\\ud800"}',
    '{"\\ud800": "\\ud800"}',
    '"\\ud800"',
    "NaN",
]
NOT_TEXT += ['{"session_id": NaN, "prompt": Infinity}', "[" * 5000, '{"session_id": 1e999, "prompt": -1e999}', ""]


@pytest.mark.parametrize("path", ["/chat", "/chat/stream", "/sessions/s/extend"])
def test_a_body_that_no_answer_could_carry(api: httpx.Client, ollama: OllamaStub, path: str) -> None:
    """Input that JSON or UTF-8 can't represent is a client error, reported as JSON; no model is asked."""
    bodies = [text.encode() for text in NOT_TEXT]
    bodies += [
        b'{"session_id": "\xff", "prompt": "hello"}',
        b"\xff\xfe",
        b'{"ttl": NaN}',
        b'{"ttl": 1e999}',
        b'{"ttl": "\\ud800"}',
    ]
    for body in bodies:
        refused = api.post(path, content=body, headers={"content-type": "application/json"})
        assert refused.status_code in (400, 422), (body, refused.text)
        assert refused.json()["detail"]
    assert asked_of(ollama) == []


def test_ids_with_slashes(api: httpx.Client) -> None:
    """A session's id may contain characters with a meaning in URLs, and may end like another path."""
    for session in ("tenant/42", "a/extend", "50%/é?#&", "a b/", "//"):
        path = f"/sessions/{quote(session, '')}"
        assert api.post("/chat", json={"session_id": session, "prompt": "hello"}).json()["session_id"] == session
        assert api.get(path).json()["session_id"] == session
        assert api.post(f"{path}/extend", json={"ttl": 100}).json()["session_id"] == session
        assert api.delete(path).status_code == 204
        assert api.get(path).status_code == 404


def test_ids_that_no_path_can_have(api: httpx.Client) -> None:
    """Blanks and ids beyond 200 characters are the client's error in a path as well."""
    for session in ("%20", "%C2%A0", "y" * 201, "%2E%2E%2Fx"):
        assert api.get(f"/sessions/{session}").status_code == 422
        assert api.delete(f"/sessions/{session}").status_code == 422
    assert api.get("/sessions/%FF").status_code == 404
    assert api.get("/sessions", params={"agent": "y" * 201}).status_code == 422


def test_what_programs_stored_is_shown(api: httpx.Client, redis_server: RunningServer) -> None:
    """Sessions that other programs wrote are listed and shown, with text that UTF-8 has no form for."""
    with RedisMemoryService(url=redis_server.url, prefix="fastapi-test") as memory:
        for session in ("odd", "odd \ud800"):
            memory.append_to_history("supervisor", session, {"role": "user", "content": "\ud800"})
        try:
            assert api.get("/sessions/odd").json()["history"][0]["content"] == "\ud800"
            assert {each["session_id"] for each in api.get("/sessions").json()} == {"odd \ud800", "odd"}
        finally:
            memory.clear_all_agent_data("supervisor")


def test_the_server_is_the_settings_own(api: httpx.Client, redis_server: RunningServer) -> None:
    """No query parameter can choose another server, and the API offers none."""
    asked = api.get("/stats", params={"host": "evil.example", "port": 1, "password": "x", "db": 5})
    assert asked.status_code == 200
    assert asked.json()["nodes"] == 1
    paths = api.get("/openapi.json").json()["paths"]
    offered = {
        p["name"] for path in paths.values() for method in path.values() for p in method.get("parameters", [])
    }
    assert offered == {"agent", "limit", "session_id"}
    told = {path: set(next(iter(methods.values()))["responses"]) for path, methods in paths.items()}
    assert told["/chat"] == {"200", "400", "409", "413", "422", "429", "503", "504"}
    assert "404" in told["/sessions/{session_id}/extend"]
    assert set(paths) == {
        "/chat",
        "/chat/stream",
        "/sessions",
        "/sessions/{session_id}",
        "/sessions/{session_id}/extend",
        "/health",
        "/stats",
    }


def test_health_and_a_model_that_fails(api: httpx.Client, ollama: OllamaStub) -> None:
    """503 names the part that is down; a failing model's question gets the reason, in a stream too."""
    assert (api.get("/health").status_code, api.get("/health").json()) == (200, {"redis": True, "model": True})
    ollama.error = (500, "out of memory")
    failed = api.post("/chat", json={"session_id": "s", "prompt": "hello"})
    assert (failed.status_code, failed.json()["error"]) == (503, "ModelError")
    assert "out of memory" in failed.json()["detail"]
    [(name, detail)] = events(api.post("/chat/stream", json={"session_id": "s", "prompt": "hello"}).text)
    assert name == "error"
    assert "out of memory" in detail
    ollama.models = []
    assert (api.get("/health").status_code, api.get("/health").json()["model"]) == (503, False)
    assert api.get("/sessions").json() == [], "a question that was not answered leaves no trace"


def test_two_questions_of_one_session_at_once(
    api: httpx.Client, ollama: OllamaStub, redis_server: RunningServer
) -> None:
    """The second request is refused with 409, whichever process answers the first, and nothing of it is stored."""
    with RedisSaver.from_url(redis_server.url, prefix="fastapi-test") as saver:
        assert saver.leases.hold("busy", "another process", 60.0)
        for path in ("/chat", "/chat/stream"):
            answer = api.post(path, json={"session_id": "busy", "prompt": "hello"})
            told = answer.json() if path == "/chat" else {"detail": events(answer.text)[0][1]}
            assert "under way" in told["detail"], path
            if path == "/chat":
                assert (answer.status_code, told["error"]) == (409, "ThreadBusyError")
        assert api.get("/sessions/busy").status_code == 404
        saver.leases.release("busy", "another process")
        assert api.post("/chat", json={"session_id": "busy", "prompt": "hello"}).status_code == 200


def test_a_server_that_stops_ends_answers_between_two_steps(
    redis_server: RunningServer, ollama: OllamaStub, tmp_path: Path
) -> None:
    """The group's answer is finished and stored; the client gets a named error and can ask again."""
    ollama.stall_before = 1
    question = {"session_id": "stopped", "prompt": "Which solar tariffs does the power pool charge?"}
    with running_application(redis_server, ollama, tmp_path) as (address, process), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{address}/chat", json=question, timeout=60, trust_env=False)
        wait_until(lambda: bool(asked_of(ollama)), "the question is on its way")
        process.terminate()
        ollama.stall_before = None
        ollama.released.set()
        answer = asked.result(60)
        assert (answer.status_code, answer.json()["error"]) == (503, "TurnStoppedError")
        assert process.wait(30) is not None
    with RedisSaver.from_url(redis_server.url, prefix="fastapi-test") as saver:
        kept = saver.get_tuple({"configurable": {"thread_id": "stopped"}})
        assert kept is not None
        assert kept.checkpoint["channel_values"]["reports"]["energy"]["text"] == "Good morning."


def test_too_many_at_once(api: httpx.Client, ollama: OllamaStub) -> None:
    """Eight requests are answered, and further ones are told to retry; afterwards all are accepted again."""
    ollama.stall_before = 1

    def ask(number: int) -> int:
        return api.post("/chat", json={"session_id": f"s{number}", "prompt": "hello"}).status_code

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, number) for number in range(8)]
        wait_until(lambda: len(asked_of(ollama)) == 8, "eight questions on their way")
        late = api.post("/chat", json={"session_id": "late", "prompt": "hello"})
        assert (late.status_code, late.headers.get("retry-after")) == (429, "5"), late.text
        assert api.post("/chat/stream", json={"session_id": "late", "prompt": "hello"}).status_code == 429
        assert api.get("/health").status_code == 200, "others are served meanwhile"
        ollama.released.set()
        assert [future.result(30) for future in asked] == [200] * 8
    assert ask(9) == 200
