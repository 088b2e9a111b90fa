"""The local model over plain HTTP and through ``ollama.Client``: protocol and faults, never its text."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from ecowas_lc.local_model import MODEL_NAME, LocalModel, weights_path
from tests.fixtures.local_model import ENDLESS_SCHEMA, REAL_OLLAMA

pytestmark = [
    pytest.mark.llm,
    pytest.mark.skipif(bool(REAL_OLLAMA), reason="about the local model's own server"),
]

HELLO = [{"role": "user", "content": "Say hello."}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL_NAME, "messages": HELLO, "options": {"num_predict": 8}} | fields


def endless() -> dict[str, Any]:
    return body(format=ENDLESS_SCHEMA, options={"num_predict": -1})


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.fixture
def is_awkward(http: httpx.Client) -> bool:
    return bool(http.get("/api/version").json()["awkward"])


@pytest.fixture
def client(local_model: LocalModel) -> Iterator[ollama.Client]:
    with ollama.Client(local_model.base_url) as client:
        yield client


def test_a_stream_is_lines_of_json_of_which_the_last_is_done(http: httpx.Client) -> None:
    """Streaming is the default: every line has a role and text, only the last is done, with all counts."""
    response = http.post("/api/chat", json=body())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    *parts, last = lines(response)
    assert parts
    assert all(part["message"]["role"] == "assistant" and part["message"]["content"] for part in parts)
    assert not any(part["done"] for part in parts)
    assert last["done"] is True
    assert last["done_reason"] in ("stop", "length")
    for name in ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"):
        assert isinstance(last[name], int), name
        assert 0 < last[name] < 60_000_000_000, name
    assert last["prompt_eval_count"] > len(HELLO)
    assert 0 < last["eval_count"] <= 8
    assert {part["model"] for part in (*parts, last)} == {MODEL_NAME}


def test_a_single_answer_is_one_object(http: httpx.Client) -> None:
    """With ``"stream": false`` the whole text comes with the counts."""
    response = http.post("/api/chat", json=body(stream=False))
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    answer = response.json()
    assert answer["done"] is True
    assert answer["message"]["content"]
    assert answer["eval_count"] > 0


def test_num_predict_ends_the_answer(http: httpx.Client) -> None:
    """num_predict is honoured to the token, and the reason is ``length``."""
    answer = http.post(
        "/api/chat", json=body(stream=False, format=ENDLESS_SCHEMA, options={"num_predict": 5})
    ).json()
    assert (answer["done_reason"], answer["eval_count"]) == ("length", 5)


def test_num_ctx_ends_the_answer(http: httpx.Client) -> None:
    """An answer that may not shift its context never goes beyond num_ctx, and the reason is ``length``."""
    options = {"num_ctx": 60, "num_predict": -1}
    fields = {"format": ENDLESS_SCHEMA, "options": options, "shift": False}
    answer = http.post("/api/chat", json=body(stream=False, **fields)).json()
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] == 60


def test_where_ollama_goes_on_the_kind_server_ends(http: httpx.Client, is_awkward: bool) -> None:
    """Without ``shift: false`` a real Ollama writes past the window; the kind one does not."""
    options = {"num_ctx": 60, "num_predict": 80}
    answer = http.post("/api/chat", json=body(stream=False, format=ENDLESS_SCHEMA, options=options)).json()
    total = answer["prompt_eval_count"] + answer["eval_count"]
    assert (answer["eval_count"] == 80) if is_awkward else (total == 60)


def test_stop_ends_the_answer_before_the_text(http: httpx.Client) -> None:
    """A stop sequence ends the answer and is not part of it."""
    options = {"num_predict": 64, "stop": [","]}
    answer = http.post("/api/chat", json=body(stream=False, format=ENDLESS_SCHEMA, options=options)).json()
    assert answer["done_reason"] == "stop"
    assert answer["message"]["content"]
    assert "," not in answer["message"]["content"]


def test_every_option_of_ollama_is_accepted(http: httpx.Client) -> None:
    """The options that clients send, sampling and loading alike, are no errors."""
    options = {
        "frequency_penalty": 0.1,
        "min_p": 0.05,
        "mirostat": 0,
        "mirostat_eta": 0.1,
        "mirostat_tau": 5.0,
        "num_ctx": 2048,
        "num_gpu": 0,
        "num_predict": 4,
        "num_thread": 2,
        "presence_penalty": 0.1,
        "repeat_last_n": 32,
        "repeat_penalty": 1.2,
        "seed": 42,
        "stop": ["\n\n\n"],
        "temperature": 0,
        "tfs_z": 1.0,
        "top_k": 20,
        "top_p": 0.5,
        "typical_p": 1.0,
    }
    response = http.post("/api/chat", json=body(stream=False, options=options, keep_alive="5m", think=False))
    assert response.status_code == 200
    assert 0 < response.json()["eval_count"] <= 4


def test_a_schema_is_kept_to(http: httpx.Client) -> None:
    """With a schema in ``format``, a finished answer is valid for it, enumerations included."""
    schema = {
        "type": "object",
        "properties": {
            "groups": {"type": "array", "items": {"enum": ["energy", "digital"]}, "minItems": 1, "maxItems": 2}
        },
        "required": ["groups"],
        "additionalProperties": False,
    }
    answer = http.post("/api/chat", json=body(stream=False, format=schema, options={"num_predict": 200})).json()
    assert answer["done_reason"] == "stop"
    value = json.loads(answer["message"]["content"])
    assert value.keys() == {"groups"}
    assert 1 <= len(value["groups"]) <= 2
    assert set(value["groups"]) <= {"energy", "digital"}


def test_format_json_is_an_object(http: httpx.Client) -> None:
    """``"format": "json"`` makes every answer begin as a JSON object, whatever is asked."""
    # White space may come first: more of it than eight tokens did, once.
    options = {"num_predict": 64, "temperature": 0}
    answer = http.post("/api/chat", json=body(stream=False, format="json", options=options)).json()
    assert answer["message"]["content"].lstrip().startswith("{")


def test_tools_are_refused_and_their_results_are_not(http: httpx.Client) -> None:
    """The model has no tools, as in Ollama; a conversation in which another one called some is answered."""
    tool = {"type": "function", "function": {"name": "weather", "description": "The weather in a city"}}
    call = {"function": {"name": "weather", "arguments": {"city": "Accra"}}}
    messages = [
        {"role": "user", "content": "What is the weather in Accra?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "31 degrees", "tool_name": "weather"},
    ]
    for stream in (True, False):
        refused = http.post("/api/chat", json=body(messages=messages, tools=[tool], stream=stream))
        assert (refused.status_code, list(refused.json())) == (400, ["error"])
        assert "does not support tools" in refused.json()["error"]
        response = http.post("/api/chat", json=body(messages=messages, stream=stream))
        assert response.status_code == 200
        assert lines(response)[-1]["done"] is True


@pytest.mark.parametrize("messages", [[], None])
def test_no_messages_only_load(http: httpx.Client, messages: list[Any] | None) -> None:
    """An empty or missing message list is answered at once with ``load``."""
    answer = http.post("/api/chat", json=body(messages=messages)).json()
    assert (answer["done"], answer["done_reason"], answer["message"]["content"]) == (True, "load", "")


def test_another_model_is_not_found(http: httpx.Client) -> None:
    """A model name other than the one served is 404 with Ollama's words, in chat and in show."""
    for path in ("/api/chat", "/api/show"):
        response = http.post(path, json=body(model="qwen2.5:0.5b"))
        assert response.status_code == 404
        assert response.json() == {"error": "model 'qwen2.5:0.5b' not found"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"messages": []}'])
def test_a_malformed_body_is_refused(http: httpx.Client, content: bytes) -> None:
    """An invalid request is a 400 with a readable error, and the server continues."""
    for path in ("/api/chat", "/api/show"):
        response = http.post(path, content=content)
        assert response.status_code == 400
        assert response.json()["error"]


@pytest.mark.parametrize(
    ("fields", "statuses"),
    [
        ({"messages": "hello"}, {400}),
        ({"options": {"temperature": "hot"}}, {500}),
        ({"format": "xml"}, {500}),
        ({"format": {"type": "nonsense"}}, {400, 500}),
        ({"format": {"$ref": "#/nowhere"}}, {400, 500}),
        ({"format": {"type": "string", "minLength": 10**9}}, {400, 500}),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, {400}),
        ({"think": True}, {400}),
        ({"keep_alive": "soon"}, {400}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_cant_be_done_is_refused_before_the_stream_starts(
    http: httpx.Client, fields: dict[str, Any], statuses: set[int], stream: bool
) -> None:
    """A request that can't be met gets Ollama's status and one error, never a broken stream."""
    response = http.post("/api/chat", json=body(stream=stream, **fields))
    assert response.status_code in statuses
    assert list(response.json()) == ["error"]
    assert http.get("/api/version").status_code == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("words", "options"), [(9000, {"num_ctx": 100_000}), (100, {"num_ctx": 64})])
def test_a_prompt_beyond_the_window_is_refused(
    http: httpx.Client, words: int, options: dict[str, Any], stream: bool
) -> None:
    """With ``truncate: false`` a prompt that does not fit is a 400 that names both lengths: nothing is cut."""
    messages = [{"role": "user", "content": "word " * words}]
    fields = {"messages": messages, "options": options, "stream": stream, "truncate": False}
    response = http.post("/api/chat", json=body(**fields))
    assert response.status_code == 400
    error = json.loads(response.json()["error"])["error"]
    assert error["type"] == "exceed_context_size_error"
    assert error["n_ctx"] == min(8192, options["num_ctx"])
    assert error["n_prompt_tokens"] > words


def test_the_awkward_server_cuts_in_silence(http: httpx.Client, is_awkward: bool) -> None:
    """Without ``truncate: false``, it silently drops the oldest messages, then cuts the last."""
    long = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "old " * 100},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "Say hello."},
    ]
    options = {"num_ctx": 64, "num_predict": 2}
    last = {"role": "user", "content": "word " * 100}
    for messages, read in ((long, 64), ([last], 34), ([long[0], last], 34)):
        response = http.post("/api/chat", json=body(messages=messages, options=options, stream=False))
        assert response.status_code == (200 if is_awkward else 400)
        if is_awkward:
            assert 0 < response.json()["prompt_eval_count"] <= read


def test_ps_shows_what_is_loaded_and_for_how_long(http: httpx.Client) -> None:
    """No model is loaded at first; then one with the requested context, for as long as ``keep_alive`` says."""

    def shown() -> list[dict[str, Any]]:
        loaded: list[dict[str, Any]] = http.get("/api/ps").json()["models"]
        return loaded

    def ask(**fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = http.post("/api/chat", json=body(stream=False, **fields)).json()
        return answer

    assert ask(messages=[], keep_alive=0)["done_reason"] == "unload"
    assert shown() == []
    ask(options={"num_ctx": 512, "num_predict": 1})
    assert [model["context_length"] for model in shown()] == [512]
    ask(options={"num_predict": 1})
    [model] = shown()
    assert model["context_length"] == 4096
    assert model["expires_at"] > datetime.now(UTC).isoformat()
    for forever in (-1, 1e300):
        ask(messages=[], keep_alive=forever)
        assert shown()[0]["expires_at"] > "2200"
        ask(messages=[], keep_alive=0)
    ask(options={"num_predict": 1}, keep_alive=0)
    assert shown() == []


def test_another_context_loads_the_model_again(http: httpx.Client, is_awkward: bool) -> None:
    """Requests for one context share it; each change is a load, which ``load_duration`` and the count show."""

    def loads() -> int:
        return int(http.get("/api/version").json()["loads"])

    def ask(**options: Any) -> float:
        fields = {"options": {"num_predict": 1, **options}, "stream": False}
        return float(http.post("/api/chat", json=body(**fields)).json()["load_duration"]) / 1e9

    ask(num_ctx=700)
    before = loads()
    times = [ask(num_ctx=700), ask(num_ctx=800), ask(num_ctx=800), ask(num_ctx=700)]
    assert loads() - before == 2
    if is_awkward:
        assert [seconds > 0.2 for seconds in times] == [False, True, False, True]


def test_a_model_is_found_by_all_its_names(http: httpx.Client) -> None:
    """Any case, with the library or its registry."""
    for name in (MODEL_NAME.upper(), f"library/{MODEL_NAME}", f"registry.ollama.ai/library/{MODEL_NAME}"):
        answer = http.post("/api/chat", json=body(model=name, messages=[])).json()
        assert (answer["done_reason"], answer["model"]) == ("load", name)
        assert http.post("/api/show", json={"model": name}).status_code == 200


def test_what_is_not_offered_says_so(http: httpx.Client) -> None:
    """Ollama's other endpoints answer 501 and name an alternative; unknown paths get Ollama's plain text."""
    for path in ("generate", "embed", "embeddings", "pull", "push", "create", "copy", "delete"):
        response = http.request("DELETE" if path == "delete" else "POST", f"/api/{path}", json={})
        assert response.status_code == 501
        assert "/api/chat" in response.json()["error"]
    for response, text in (
        (http.get("/nowhere"), "404 page not found"),
        (http.get("/api/chat"), "405 method not allowed"),
    ):
        assert (response.text, response.headers["content-type"]) == (text, "text/plain")
        assert response.status_code == int(text[:3])


def test_it_does_not_pretend_to_be_ollama(http: httpx.Client) -> None:
    """The greeting and the version name the server."""
    assert "it is not Ollama" in http.get("/").text
    assert http.get("/api/version").json()["server"] == "ecowas_lc local model"


def test_ollamas_client_lists_and_shows_it(client: ollama.Client) -> None:
    """``list``, ``show`` and ``ps`` of the official client agree on name, size, digest and window."""
    client.chat(MODEL_NAME, [])
    [listed] = client.list().models
    [running] = client.ps().models
    assert listed.model == running.model == MODEL_NAME
    assert listed.size == weights_path().stat().st_size
    assert listed.digest is not None
    assert len(listed.digest) == 64
    assert listed.digest == running.digest
    assert running.context_length == 4096
    shown = client.show(MODEL_NAME)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192  # the context it was trained for
    assert {line.split()[0] for line in (shown.parameters or "").splitlines()} == {"stop"}
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        client.show("llama3")
    assert missing.value.status_code == 404


def test_ollamas_client_chats(client: ollama.Client) -> None:
    """The official client reads both forms of answer, and refusals as its own error."""
    answer = client.chat(MODEL_NAME, HELLO, options={"num_predict": 4})
    assert answer.message.content
    *_, last = client.chat(MODEL_NAME, HELLO, stream=True, options={"num_predict": 4})
    assert last.done_reason in ("stop", "length")
    with pytest.raises(ollama.ResponseError, match="exceeds the available context size"):
        next(client.chat(MODEL_NAME, HELLO, stream=True, options={"num_ctx": 4}))


def test_concurrent_requests_are_all_answered(http: httpx.Client) -> None:
    """Requests beyond the engine's number of slots wait for their turn and get their own answers."""

    def ask(limit: int) -> dict[str, Any]:
        fields = {"format": ENDLESS_SCHEMA, "options": {"num_predict": limit}, "stream": limit % 2 == 0}
        return lines(http.post("/api/chat", json=body(**fields)))[-1]

    limits = [4, 5, 6, 7, 8, 9]
    with ThreadPoolExecutor(len(limits)) as pool:
        answers = list(pool.map(ask, limits))
    assert [answer["eval_count"] for answer in answers] == limits


async def test_clients_that_go_away_free_the_model(local_model: LocalModel, is_awkward: bool) -> None:
    """Endless answers whose clients left, streamed, single or still waiting, do not hold up the next one."""
    async with httpx.AsyncClient(base_url=local_model.base_url, timeout=60) as http:

        async def stream(first_line: asyncio.Event) -> None:
            async with http.stream("POST", "/api/chat", json=endless()) as response:
                async for line in response.aiter_lines():
                    assert not json.loads(line)["done"]
                    first_line.set()

        async def single() -> None:
            await http.post("/api/chat", json=endless() | {"stream": False})

        for streaming in ((True,), (False,)) if is_awkward else ((True, True), (True, False), (False, False)):
            started = [asyncio.Event() for is_stream in streaming if is_stream]
            clients = [asyncio.create_task(stream(event)) for event in started]
            # The model computes one or two answers at a time: earlier requests could keep others waiting forever.
            await asyncio.wait_for(asyncio.gather(*(event.wait() for event in started)), 30)
            clients += [asyncio.create_task(single()) for is_stream in (*streaming, False) if not is_stream]
            await asyncio.wait(clients, timeout=0.5)  # those without a first line are in progress, or wait
            for client in clients:
                assert not client.done()
                client.cancel()
            await asyncio.wait(clients)

            before = time.monotonic()
            answer = await http.post("/api/chat", json=body(stream=False))
            assert answer.status_code == 200
            assert time.monotonic() - before < 30  # endless answers take minutes


@pytest.mark.usefixtures("local_model")
async def test_an_error_in_mid_stream_is_a_line() -> None:
    """An error after the status was sent is a line with an error, which Ollama's clients raise."""
    from ecowas_lc.local_model import app  # importable only with the extra

    class BreakingEngine:
        weights = Path("none.gguf")
        slots = 1

        async def chat(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
            yield {"choices": [{"delta": {"content": "Well"}}]}
            yield {"error": {"code": 500, "message": "out of memory"}}

    transport = httpx.ASGITransport(app.create_app(BreakingEngine()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        first, last = lines(await http.post("/api/chat", json=body()))
        assert first["message"]["content"] == "Well"
        assert last == {"error": "out of memory"}
        single = await http.post("/api/chat", json=body(stream=False))
        assert (single.status_code, single.json()) == (500, {"error": "out of memory"})


def test_only_names_of_this_machine_are_answered(http: httpx.Client) -> None:
    """A request for another host name, as a web page with a rebound name sends it, is refused."""
    port = http.base_url.port
    for host, status in (
        ("localhost", 200),
        (f"127.0.0.1:{port}", 200),
        ("evil.example", 403),
        ("evil.example:11434", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ):
        assert http.get("/api/tags", headers={"Host": host}).status_code == status, host
    assert http.get(f"http://localhost:{port}/api/version").status_code == 200


def test_only_pages_of_this_machine_are_answered(http: httpx.Client) -> None:
    """A web page of another origin can't make the model compute, even if the request needs no preflight."""
    for origin, status in (
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
        ("", 403),
    ):
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        answer = http.post("/api/chat", json=body(messages=[]), headers=headers)
        assert answer.status_code == status, origin
        assert http.get("/api/tags", headers=headers).status_code == status, origin
        if status == 403:
            assert answer.content == b""


class HeldEngine:
    """An engine with one slot that answers once it is released."""

    weights = Path("none.gguf")
    slots = 1

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.then: Callable[[], object] = lambda: None

    async def chat(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        await self.released.wait()
        yield {"choices": [{"delta": {"content": "Well"}, "finish_reason": "stop"}]}
        self.then()


async def test_a_full_queue_is_refused() -> None:
    """More requests than may wait get Ollama's 503, and those before them are answered."""
    from ecowas_lc.local_model import app

    transport = httpx.ASGITransport(app.create_app(engine := HeldEngine(), max_queue=1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        asking = [asyncio.create_task(http.post("/api/chat", json=body(stream=False))) for _ in range(3)]
        [refused], waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result().status_code == 503
        assert "maximum pending requests exceeded" in refused.result().json()["error"]
        engine.released.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_client_that_leaves_as_its_turn_comes_holds_up_nobody() -> None:
    """A client may leave at the moment that its request would begin: the next request takes its place."""
    from ecowas_lc.local_model import app

    transport = httpx.ASGITransport(app.create_app(engine := HeldEngine(), max_queue=1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        asking = [asyncio.create_task(http.post("/api/chat", json=body(stream=False))) for _ in range(3)]
        served, leaves, refused = asking
        engine.then = leaves.cancel  # its turn comes before it notices
        assert (await refused).status_code == 503, "the second request waits"
        engine.released.set()
        await asyncio.wait((served, leaves))
        assert served.result().status_code == 200
        assert leaves.cancelled()
        last = await asyncio.wait_for(http.post("/api/chat", json=body(stream=False)), 30)
        assert last.status_code == 200


def test_only_the_loopback_address_listens(local_model: LocalModel) -> None:
    """The port is open on 127.0.0.1 and on no other address."""
    port = httpx.URL(local_model.base_url).port
    assert port is not None
    for address, is_open in (("127.0.0.1", True), ("127.0.0.2", False)):
        with socket.socket() as client:
            client.settimeout(5)
            assert (client.connect_ex((address, port)) == 0) is is_open


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_other_port_of_it_lets_anybody_in(local_model: LocalModel) -> None:
    """Any other port of the engine is on 127.0.0.1 and requires a key."""
    ports = _listening_ports(local_model.pid)
    assert httpx.URL(local_model.base_url).port in ports
    for port in ports - {httpx.URL(local_model.base_url).port}:
        for method, path in (("GET", "/props"), ("GET", "/slots"), ("POST", "/v1/chat/completions")):
            assert httpx.request(method, f"http://127.0.0.1:{port}{path}").status_code in (401, 404)


def _listening_ports(pid: int) -> set[int]:
    """The TCP ports on which a process listens, all of which must be on 127.0.0.1."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                assert address == "0100007F"  # 127.0.0.1
                ports.add(int(port, 16))
    return ports
