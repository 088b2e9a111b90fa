"""Other servers at Ollama's address, and Ollama's own failures: each has its own error and its own fix."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from ecowas_lc.errors import (
    ConfigurationError,
    ContextOverflowError,
    EcowasError,
    InvalidInputError,
    ModelCapabilityError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
)
from ecowas_lc.llm import LLMService, faults, make_chat_model, models, named_error, served
from ecowas_lc.llm.faults import one_line, timed_out
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.servers import closed_port

PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
    + "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n" * 6
)
HTML = {"Content-Type": "text/html"}

Call = Callable[[LLMService], Any]
CALLS: dict[str, Call] = {
    "chat": lambda llm: llm.chat("x"),
    "achat": lambda llm: asyncio.run(llm.achat("x")),
    "check": lambda llm: llm.check(),
    "acheck": lambda llm: asyncio.run(llm.acheck()),
    "list_models": lambda llm: llm.list_models(),
}


@contextmanager
def answering(status: int, body: str, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers every request with this; ``{url}`` in a header is its own address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value.replace("{url}", url))
            sent = body.encode(errors="surrogateescape")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()


def error(text: str) -> str:
    return json.dumps({"error": text})


NESTED = json.dumps(
    {"error": {"code": 400, "message": "request (8410 tokens) exceeds the available context size"}}
)
ANSWERS: dict[str, tuple[int, str, dict[str, str], type[EcowasError], str]] = {
    "a gateway without Ollama": (
        502,
        PAGE.format("502 Bad Gateway"),
        HTML,
        ModelServerUnavailableError,
        "start Ollama",
    ),
    "a page that is not found": (
        404,
        PAGE.format("404 Not Found"),
        HTML,
        ModelServerUnavailableError,
        "is not Ollama",
    ),
    "too large for a proxy": (413, PAGE.format("413"), HTML, ModelServerUnavailableError, "is not Ollama"),
    "a wrong path": (404, "404 page not found", {}, ModelServerUnavailableError, "not at this address"),
    "a login page": (401, PAGE.format("401 Authorization Required"), HTML, ModelServerUnavailableError, "login"),
    "a login page that says all is well": (
        200,
        PAGE.format("Sign in"),
        HTML,
        ModelServerUnavailableError,
        "not Ollama",
    ),
    "a redirect to a login": (302, "", {"Location": "{url}/login"}, ModelServerUnavailableError, "redirects"),
    "a redirect to nowhere": (
        301,
        "",
        {"Location": "https://127.0.0.1:1/"},
        ModelServerUnavailableError,
        ":1, where",
    ),
    "a redirect to an unknown name": (
        302,
        "",
        {"Location": "https://login.invalid/"},
        ModelServerUnavailableError,
        r"redirects to https://login\.invalid",
    ),
    "a piece of a page": (503, "<h1>Unavailable</h1>", {}, ModelServerUnavailableError, "a web page"),
    "markup": (403, "\ufeff<?xml version='1.0'?><Error/>", {}, ModelServerUnavailableError, "refused the request"),
    "brackets": (200, "[" * 100_000, {}, ModelServerUnavailableError, "is not Ollama"),
    "not UTF-8": (200, '{"model": "\udcff"}', {}, ModelServerUnavailableError, "is not Ollama"),
    "an error with parts": (500, '{"error": {"message": "it broke"}}', {}, ModelError, r"\(500: it broke\)"),
    "forbidden": (403, "", {}, ModelServerUnavailableError, "refused the request"),
    "not gzip": (200, "not gzip", {"Content-Encoding": "gzip"}, ModelServerUnavailableError, "can't be decoded"),
    "a list": (200, "[1]", {}, ModelServerUnavailableError, "is not Ollama"),
    "nothing": (200, "", {}, ModelServerUnavailableError, "is not Ollama"),
    "too many requests": (429, error("rate limited"), {}, ModelServerUnavailableError, "Try again later"),
    "a full queue": (
        503,
        error("server busy, please try again.  maximum pending requests exceeded"),
        {},
        ModelServerUnavailableError,
        "OLLAMA_MAX_QUEUE",
    ),
    "a missing model": (
        404,
        error('model "tiny" not found, try pulling it first'),
        {},
        ModelNotFoundError,
        "ollama pull",
    ),
    "a dead runner": (500, error("llama runner process has terminated"), {}, ModelError, "log"),
    "no memory": (500, error("cudaMalloc failed: out of memory"), {}, ModelError, "smaller one"),
    "JSON within text": (400, error(NESTED), {}, ContextOverflowError, r"tiny: request \(8410 tokens\) exceeds"),
    "a call that can't be read": (500, error("error parsing tool call: raw='{'"), {}, ModelError, "larger model"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_answer_has_its_error(answer: str) -> None:
    """In chat, check and lists, blocking or not: one line with the fix, and only the title of an HTML page."""
    status, body, headers, kind, said = ANSWERS[answer]
    with answering(status, body, headers) as url:
        llm = LLMService(url, "tiny", timeout=20)
        for name, call in CALLS.items():
            with pytest.raises(kind, match=said) as caught:
                call(llm)
            text = str(caught.value)
            assert type(caught.value) is kind, name
            assert "\n" not in text
            assert "<" not in text
            assert len(text) < 500
        assert llm.health_check() is False
        assert asyncio.run(llm.ahealth_check()) is False


@pytest.mark.parametrize("path", ["/v1", "/api", "/api/chat", "/v1/"])
def test_an_address_with_a_path_too_much(path: str) -> None:
    """The address of an OpenAI client, or of Ollama's web interface, differs from a missing model."""
    with serving_stub() as stub:
        for call in CALLS.values():
            with pytest.raises(ModelServerUnavailableError, match=rf"set OLLAMA_BASE_URL to {stub.url}\."):
                call(LLMService(stub.url + path, "tiny", timeout=20))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_name_that_is_not_known(call: Call) -> None:
    """A misspelt host gets a different message than a server that is down, which gets its start command."""
    with pytest.raises(ModelServerUnavailableError, match=r"ollama\.invalid.*can't be resolved"):
        call(LLMService("http://ollama.invalid:11434", "tiny", timeout=20))
    with pytest.raises(ModelServerUnavailableError, match="ollama serve"):
        call(LLMService(f"http://127.0.0.1:{closed_port()}", "tiny", timeout=20))


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:99999",
        "http://[::1",
        "http://exa mple:1",
        "http://local\nhost:1",
        "http://a:b",
        "",
        "http://.:1",
        "http://",
        "http://:11434",
        "ftp://models",
    ],
)
def test_an_address_that_can_not_be_used(address: str) -> None:
    """It is a configuration error, when the service is created or first used; a health check returns False."""
    try:
        llm = LLMService(address, "tiny", timeout=20)
    except ConfigurationError:
        return
    with pytest.raises((ConfigurationError, ModelServerUnavailableError)):
        llm.chat("x")
    assert llm.health_check() is False


class TestMidAnswer:
    """Errors after the first words of an answer."""

    @pytest.fixture
    def stub(self) -> Iterator[OllamaStub]:
        with serving_stub() as serving:
            yield serving

    @pytest.mark.parametrize(
        ("lines", "kind", "said"),
        [
            ([{"error": "model runner has unexpectedly stopped"}], ModelError, "stopped on the server"),
            ([b"<html>504 Gateway Time-out</html>\n"], ModelServerUnavailableError, "is not Ollama"),
            ([], ModelServerUnavailableError, "broke off"),
        ],
    )
    def test_it_is_no_answer(
        self,
        stub: OllamaStub,
        monkeypatch: pytest.MonkeyPatch,
        lines: list[Any],
        kind: type[ModelError],
        said: str,
    ) -> None:
        """An error line, a proxy's page and a silent end are errors, not half answers."""
        stub.lines = [{"message": {"role": "assistant", "content": "a"}, "done": False}, *lines]
        for call in (CALLS["chat"], CALLS["achat"]):
            with pytest.raises(kind, match=said):
                call(LLMService(stub.url, "tiny", timeout=20))

    def test_content_of_null_is_no_text(self, stub: OllamaStub) -> None:
        """Some proxies replace empty text by null: the rest of the answer is an answer, all of it null is none."""
        null = {"message": {"role": "assistant", "content": None}, "done": False}
        done = {"message": {"role": "assistant", "content": None}, "done": True, "done_reason": "stop"}
        stub.lines = [null, {"message": {"role": "assistant", "content": "b"}, "done": False}, done]
        for call in (CALLS["chat"], CALLS["achat"]):
            assert call(LLMService(stub.url, "tiny", timeout=20)) == "b"
            stub_lines, stub.lines = stub.lines, [null, done]
            with pytest.raises(ModelError, match="empty answer"):
                call(LLMService(stub.url, "tiny", timeout=20))
            stub.lines = stub_lines


def test_a_proxy_that_answers_for_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is named with its variable and the host to exclude; a server on this machine never uses it."""
    with answering(403, PAGE.format("Access denied"), HTML) as proxy, serving_stub() as stub:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for call in CALLS.values():
            with pytest.raises(ModelServerUnavailableError, match="HTTP_PROXY"):
                call(LLMService("http://ollama.example:11434", "tiny", timeout=20))
            call(LLMService(stub.url, "tiny", timeout=20))
            call(LLMService(stub.url.replace("127.0.0.1", "localhost"), "tiny", timeout=20))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        with pytest.raises(ModelServerUnavailableError, match=r"HTTP_PROXY.*NO_PROXY"):
            LLMService("http://ollama.example:11434", "tiny", timeout=20).check()
    with answering(200, PAGE.format("Welcome"), HTML) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(ModelServerUnavailableError, match=r"the proxy that HTTP_PROXY names.*NO_PROXY"):
            LLMService("http://ollama.example:11434", "tiny", timeout=20).check()


def test_a_time_out_names_the_setting_that_holds() -> None:
    """The model's own time-out and a group's are raised in different places."""
    assert "LLM_TIMEOUT" in str(timed_out("The model", 3))
    told = str(timed_out("The group", 3, "group_timeout"))
    assert "group_timeout" in told
    assert "LLM_TIMEOUT" not in told
    assert isinstance(timed_out("x"), ModelTimeoutError)


def test_what_is_no_text_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the model can't read is the caller's mistake, not the server's fault."""
    with serving_stub() as stub:
        from langchain_core.messages import HumanMessage

        block = {"type": "file", "base64": "aGk=", "mime_type": "application/pdf"}
        with pytest.raises(InvalidInputError, match="can't be sent to the model tiny"):
            LLMService(stub.url, "tiny").chat_with_history([HumanMessage([block])])


def test_one_line_of_anything() -> None:
    """Control characters, HTML pages and long texts become one short line."""
    assert one_line(PAGE.format("502 Bad &amp; Gateway")) == "a web page, '502 Bad & Gateway'"
    assert one_line("a\x1b[31m\r\n b\x00.") == "a [31m b"
    assert len(one_line("x" * 5000)) == 301


def test_errors_within_errors_are_unwrapped_to_a_bound() -> None:
    """A forwarded JSON error is shown with its innermost message; endless nesting is shown as text."""
    text = "no room"
    for _ in range(3):
        text = json.dumps({"error": {"message": text}})
    assert faults._innermost(text) == "no room"
    for _ in range(9):
        text = json.dumps({"error": {"message": text}})
    assert "no room" in faults._innermost(text)


def test_what_is_not_about_models_has_no_name() -> None:
    """Errors of other kinds are passed on unchanged."""
    assert named_error(KeyError("x")) is None
    assert named_error(TypeError("x")) is None
    assert isinstance(named_error(NotImplementedError("tools")), ModelCapabilityError)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (NotImplementedError("no tools."), ModelCapabilityError, "tiny can't do this: no tools."),
        (ValueError("No data received from Ollama stream."), ModelError, "returned nothing"),
        (httpx.HTTPError("odd"), ModelServerUnavailableError, "is not Ollama"),
        (KeyError("mine"), None, ""),
    ],
)
def test_errors_are_named_by_their_kind(error: Exception, kind: type[Exception] | None, said: str) -> None:
    """An error of a client or a library gets a name and a fix; an error of another kind stays what it is."""
    found = named_error(error, model="tiny", url="http://h:1")
    assert kind is None if found is None else isinstance(found, kind or ())
    assert said in str(found)
    if found is not None:
        assert named_error(found) is found


def test_addresses_and_settings_that_can_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is never shown with its login, and invalid settings stop no model that needs none of them."""
    assert faults._shown("http://user:secret@[") == "that was given"
    with pytest.raises(ConfigurationError) as raised:
        make_chat_model(model="tiny", base_url="http://user:secret@h\u0000st:99999999")
    assert "secret" not in str(raised.value)
    for address in ("http://\x7f", "http://é..x", "ftp://user:secret@["):
        with pytest.raises(ConfigurationError, match=r"can't be used.* OLLAMA_BASE_URL") as raised:
            make_chat_model(model="tiny", base_url=address)
        assert "secret" not in str(raised.value)
    hidden = models._with_hidden_headers({"headers": {"Authorization": "Bearer secret", "X": 1}})
    assert "secret" not in repr(hidden)

    def invalid() -> None:
        raise ConfigurationError("no")

    monkeypatch.setattr(served, "get_settings", invalid)
    assert (served.default_context(), served._parallel()) == (None, None)
