"""The chat service on Ollama: its requests, and its handling of the server's failures."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from ecowas_lc.errors import (
    ConfigurationError,
    ContextOverflowError,
    EmptyQuestionError,
    InvalidInputError,
    ModelCapabilityError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
)
from ecowas_lc.llm import LLMService, get_llm_service, make_chat_model
from ecowas_lc.settings import Settings, get_settings
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.servers import closed_port


@pytest.fixture
def stub() -> Iterator[OllamaStub]:
    with serving_stub() as serving:
        yield serving


@pytest.fixture(params=["sync", "async"])
def chat(request: pytest.FixtureRequest) -> Callable[..., str]:
    """``chat(service, prompt, …)`` through the blocking or the awaitable method."""

    def run(service: LLMService, *args: Any, **kwargs: Any) -> str:
        if request.param == "sync":
            return service.chat(*args, **kwargs)
        return asyncio.run(service.achat(*args, **kwargs))

    return run


def service(stub: OllamaStub, **options: Any) -> LLMService:
    return LLMService(stub.url, "tiny", **{"temperature": 0.2, "timeout": 30.0, **options})


def test_chat_sends_prompt_system_prompt_and_limits(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """Temperature and token limit of a call reach the server, those of the service are its defaults."""
    llm = service(stub)
    assert chat(llm, "Hello?", system_prompt="Be brief.", temperature=0.9, max_tokens=33) == "Good morning."
    body = stub.bodies("/api/chat")[-1]
    assert [(m["role"], m["content"]) for m in body["messages"]] == [("system", "Be brief."), ("user", "Hello?")]
    assert body["options"]["temperature"] == 0.9
    assert body["options"]["num_predict"] == 33
    chat(llm, "Again?")
    options = stub.bodies("/api/chat")[-1]["options"]
    assert options["temperature"] == 0.2
    assert options["num_predict"] == 1024  # a quarter of the context


def test_reasoning_is_off_unless_asked_for(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """Reasoning is off by default, because small models would use their whole answer for it."""
    chat(service(stub), "Hello?")
    assert stub.bodies("/api/chat")[-1]["think"] is False


def test_chat_with_history(stub: OllamaStub) -> None:
    """A conversation is sent unchanged, from dictionaries or messages; anything else is refused."""
    llm = service(stub)
    turns: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Two?"},
    ]
    assert llm.chat_with_history(turns) == "Good morning."
    assert asyncio.run(llm.achat_with_history(turns, temperature=0.0, max_tokens=5)) == "Good morning."
    sent = stub.bodies("/api/chat")
    assert [(m["role"], m["content"]) for m in sent[0]["messages"]] == [(t["role"], t["content"]) for t in turns]
    assert sent[1]["options"]["num_predict"] == 5
    llm.chat_with_history([SystemMessage("s"), HumanMessage("u"), AIMessage("a"), HumanMessage("v")])
    assert [m["role"] for m in stub.bodies("/api/chat")[-1]["messages"]] == ["system", "user", "assistant", "user"]
    for wrong in ({"role": "robot", "content": "x"}, {"role": "user", "content": None}, {"content": "x"}):
        with pytest.raises(InvalidInputError, match="role"):
            llm.chat_with_history([wrong])
    with pytest.raises(EmptyQuestionError):
        llm.chat_with_history([])


def test_stream_yields_the_answer_as_it_comes(stub: OllamaStub) -> None:
    """The first words arrive before the last ones are generated."""
    stub.stall_before = 2
    parts = service(stub).stream("Hello?")
    assert next(parts) == "Good "
    assert next(parts) == "morning"
    stub.released.set()
    assert list(parts) == ["."]

    async def collect() -> list[str]:
        return [part async for part in service(stub).astream("Hello?")]

    assert asyncio.run(collect()) == ["Good ", "morning", "."]


def test_one_service_lives_through_several_event_loops(stub: OllamaStub) -> None:
    """``asyncio.run`` again and again with one service: no closed loop, no connection left open."""
    llm = service(stub)
    for _ in range(3):
        assert asyncio.run(llm.achat("Hello?")) == "Good morning."

    async def several() -> list[str]:
        return list(await asyncio.gather(*(llm.achat("Hello?") for _ in range(5))))

    assert asyncio.run(several()) == ["Good morning."] * 5


def test_bad_arguments_are_refused_before_anything_is_sent(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """Empty prompts, impossible temperatures and limits are named errors."""
    llm = service(stub)
    for wrong in ("", "  "):
        with pytest.raises(EmptyQuestionError):
            chat(llm, wrong)
    for temperature in (3.0, -1, "0.5", True, float("nan")):
        with pytest.raises(InvalidInputError, match="temperature"):
            chat(llm, "x", temperature=temperature)
    for max_tokens in (0, 1.5, "9", True):
        with pytest.raises(InvalidInputError, match="max_tokens"):
            chat(llm, "x", max_tokens=max_tokens)
    for conversation in ("hello", {"role": "user", "content": "x"}, [("user", "x")], [{"role": "user"}], [None]):
        with pytest.raises(InvalidInputError, match=r"message|conversation"):
            llm.chat_with_history(conversation)  # type: ignore[arg-type]
    assert stub.requests == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"temperature": 5}, "temperature"),
        ({"num_ctx": "many"}, "num_ctx"),
        ({"num_ctxt": 4096}, "num_ctxt"),
    ],
)
def test_a_service_that_can_not_be_made_is_named(options: dict[str, Any], said: str) -> None:
    """An invalid or unknown option is an error when the service is created, and not ignored."""
    with pytest.raises(ConfigurationError, match=said):
        LLMService(model="tiny", **options)


class _Anything(BaseHTTPRequestHandler):
    """A server that answers every question with a page, or with JSON that means nothing to Ollama's client."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize("body", [b"<html>A router's login page</html>", b'{"models": 5}', b""])
def test_what_answers_and_is_not_ollama_is_named(body: bytes, chat: Callable[..., str]) -> None:
    """Another program at the address is reported as such; ``health_check`` does not raise either."""
    handler = type("Handler", (_Anything,), {"body": body})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            llm = LLMService(f"http://127.0.0.1:{server.server_address[1]}", "tiny", timeout=30)
            assert llm.health_check() is False
            assert asyncio.run(llm.ahealth_check()) is False
            with pytest.raises(ModelServerUnavailableError, match=r"is not Ollama.*ollama serve"):
                llm.check()
            with pytest.raises(ModelError):
                chat(llm, "x")
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_is_down_is_named(chat: Callable[..., str]) -> None:
    """The message has the address and the command that fixes it, never the password."""
    port = closed_port()
    llm = LLMService(f"http://user:secret@127.0.0.1:{port}", "tiny", timeout=30)
    with pytest.raises(ModelServerUnavailableError) as caught:
        chat(llm, "x")
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "ollama serve" in str(caught.value)
    assert "secret" not in f"{caught.value}{llm!r}"


def test_a_model_that_is_not_pulled_is_named(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """The message has the command that pulls the model."""
    llm = LLMService(stub.url, "llama9:1b", timeout=30)
    with pytest.raises(ModelNotFoundError, match="ollama pull llama9:1b"):
        chat(llm, "x")


@pytest.mark.parametrize("position", [-1, 1], ids=["before the answer", "in the middle of it"])
def test_a_model_that_takes_too_long_is_given_up(
    stub: OllamaStub, chat: Callable[..., str], position: int
) -> None:
    """The time-out applies to the beginning and to every pause."""
    stub.stall_before = position
    with pytest.raises(ModelTimeoutError, match="LLM_TIMEOUT"):
        chat(service(stub, timeout=0.3), "x")


def test_an_answer_without_end_is_given_up(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """The same time-out limits a model that never stops."""
    stub.words = ["word "] * 200_000
    with pytest.raises(ModelTimeoutError, match=r"0\.2 s"):
        chat(service(stub, timeout=0.2), "x")


def test_what_the_caller_takes_is_not_the_models_time(stub: OllamaStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader of a stream, such as a page, still gets all of it."""
    clock = [0.0]
    monkeypatch.setattr("ecowas_lc.llm.request_queue.time", SimpleNamespace(monotonic=lambda: clock[0]))
    stub.words = ["one ", "two ", "three"]
    heard = []

    def take(text: str) -> None:
        heard.append(text)
        clock[0] += 1000.0

    async def listen() -> None:
        async for text in service(stub, timeout=20).astream("x"):
            take(text)

    for text in service(stub, timeout=20).stream("x"):
        take(text)
    asyncio.run(listen())
    assert heard == ["one ", "two ", "three"] * 2


def test_a_server_that_dies_in_mid_answer_is_named(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """A broken connection is reported as an unavailable server, not returned as half an answer."""
    stub.die_before = 2
    with pytest.raises(ModelServerUnavailableError, match="ollama serve"):
        chat(service(stub), "x")


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "registry.ollama.ai/library/tiny does not support tools", ModelCapabilityError),
        (400, "the request exceeds the available context size (4096)", ContextOverflowError),
        (503, "server busy, please try again", ModelServerUnavailableError),
        (500, "llama runner process has terminated", ModelError),
        (400, "the input length exceeds the context length: shorten it.", ContextOverflowError),
    ],
)
def test_what_the_server_refuses_has_a_name(
    stub: OllamaStub, chat: Callable[..., str], status: int, text: str, kind: type[ModelError]
) -> None:
    """Each refusal is its own error and quotes the server, in one sentence."""
    stub.error = (status, text)
    with pytest.raises(kind) as caught:
        chat(service(stub), "x")
    assert type(caught.value) is kind
    assert text.removesuffix(".") in str(caught.value)
    assert ".." not in str(caught.value)


def test_a_prompt_that_does_not_fit_is_named(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """Ollama would cut it silently. A prompt that can't fit is not sent, and the model is described once."""
    llm = service(stub)
    chat(llm, "word " * 300)
    with pytest.raises(ContextOverflowError, match=r"tiny: it takes about \d+ tokens.*4096 together.*num_ctx"):
        chat(llm, "word " * 9000)
    with pytest.raises(ContextOverflowError):
        list(llm.stream("Go on.", system_prompt="word " * 9000))
    assert len(stub.bodies("/api/chat")) == 1
    assert chat(llm, "word " * 3000) == "Good morning."
    assert len(stub.bodies("/api/show")) == 1
    with pytest.raises(ContextOverflowError, match="512 together"):
        chat(service(stub, num_ctx=512), "word " * 1000)


def test_a_server_that_describes_no_model_is_asked_all_the_same(
    stub: OllamaStub, chat: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context is the requested one; a missing model is named before it is asked anything."""
    known = stub.answer
    monkeypatch.setattr(
        stub, "answer", lambda path, body: (501, {"error": "no"}) if path == "/api/show" else known(path, body)
    )
    assert chat(service(stub), "word " * 3000) == "Good morning."
    assert stub.bodies("/api/chat")[-1]["options"]["num_ctx"] == 4096
    monkeypatch.undo()
    with pytest.raises(ModelNotFoundError, match="ollama pull other"):
        chat(LLMService(stub.url, "other"), "word " * 3000)


def test_health_check_never_raises(stub: OllamaStub) -> None:
    """True if the server answers and has the model; ``check`` says why it is not."""
    llm = service(stub)
    assert llm.health_check() is True
    assert asyncio.run(llm.ahealth_check()) is True
    missing = LLMService(stub.url, "llama9:1b", timeout=30)
    assert missing.health_check() is False
    with pytest.raises(ModelNotFoundError):
        missing.check()
    down = LLMService(f"http://127.0.0.1:{closed_port()}", "tiny", timeout=30)
    assert down.health_check() is False
    assert asyncio.run(down.ahealth_check()) is False
    with pytest.raises(ModelServerUnavailableError):
        asyncio.run(down.acheck())


def test_list_models(stub: OllamaStub) -> None:
    """The error lists the models that the server has."""
    stub.models = ["tiny:latest", "qwen2.5:0.5b"]
    assert service(stub).list_models() == ["tiny:latest", "qwen2.5:0.5b"]
    assert asyncio.run(service(stub).alist_models()) == ["tiny:latest", "qwen2.5:0.5b"]


def test_a_model_too_large_for_the_server_is_named(stub: OllamaStub, chat: Callable[..., str]) -> None:
    """If a model does not fit into memory, the error suggests a smaller one."""
    stub.error = (500, "model requires more system memory (5.6 GiB) than is available (3.1 GiB)")
    with pytest.raises(ModelError, match=r"5\.6 GiB.*ollama pull"):
        chat(service(stub), "x")


def test_the_settings_fill_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's service is created once, from OLLAMA_* and LLM_*."""
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://models.example:1234")
    monkeypatch.setenv("OLLAMA_MODEL", "llama3.2:3b")
    monkeypatch.setenv("LLM_TEMPERATURE", "0.1")
    monkeypatch.setenv("LLM_TIMEOUT", "45")
    get_settings.cache_clear()
    get_llm_service.cache_clear()
    try:
        llm = get_llm_service()
        assert (llm.base_url, llm.model, llm.timeout) == ("http://models.example:1234", "llama3.2:3b", 45.0)
        assert get_llm_service() is llm
        assert make_chat_model().temperature == 0.1
    finally:
        get_settings.cache_clear()
        get_llm_service.cache_clear()


def test_arguments_win_over_settings() -> None:
    """Arguments win; the rest is from the settings."""
    model = make_chat_model(Settings(ollama_model="a", llm_temperature=0.3), model="b", num_ctx=2048)
    assert (model.model, model.temperature, model.num_ctx) == ("b", 0.3, 2048)


def test_importing_the_service_does_not_import_langchain() -> None:
    """Importing ``ecowas_lc.llm`` loads nothing until a model is created."""
    code = (
        "import sys, ecowas_lc.llm\n"
        "print([m for m in ('langchain_core', 'langchain_ollama', 'ollama', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HISTORY = [{"role": "user", "content": "x"}]
METHODS: dict[str, Callable[[LLMService], str]] = {
    "chat": lambda llm: llm.chat("x"),
    "achat": lambda llm: asyncio.run(llm.achat("x")),
    "chat_with_history": lambda llm: llm.chat_with_history(HISTORY),
    "achat_with_history": lambda llm: asyncio.run(llm.achat_with_history(HISTORY)),
    "stream": lambda llm: "".join(llm.stream("x")),
    "astream": lambda llm: asyncio.run(collected(llm)),
}


async def collected(llm: LLMService) -> str:
    return "".join([part async for part in llm.astream("x")])


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_without_text_is_an_error(stub: OllamaStub, method: str) -> None:
    """An empty or blank answer, or only reasoning, in its field or between tags, is not an answer."""
    for words, thinking in (([], None), (["  ", "\n"], None), ([], "hmm"), (["<think>hm", "m</think>"], None)):
        stub.words, stub.thinking = words, thinking
        with pytest.raises(ModelError, match="empty answer"):
            METHODS[method](service(stub, reasoning=True))
    stub.words, stub.thinking, stub.done_reason = ["<think>never closed"], None, "length"
    with pytest.raises(ModelError, match="long reasoning"):
        METHODS[method](service(stub))


@pytest.mark.parametrize("method", METHODS)
def test_reasoning_is_no_part_of_the_answer(stub: OllamaStub, method: str) -> None:
    """Tags may be split over chunks of a stream; an answer that ran out of tokens says so."""
    stub.words = ["<thi", "nk>hmm</th", "ink>\n\nGood ", "morning."]
    assert METHODS[method](service(stub)) == "Good morning."
    stub.done_reason = "length"
    assert METHODS[method](service(stub)) == "Good morning. […]"
