"""Failures of model servers as this package's own errors, each with its fix."""

from __future__ import annotations

import html
import json
import re
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ecowas_lc import errors
from ecowas_lc._secret import safe_url
from ecowas_lc.errors import (
    ConfigurationError,
    EcowasError,
    ModelCapabilityError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
)
from ecowas_lc.llm.names import is_loopback, proxy_for

_NO_CAPABILITY = ("does not support", "not supported", "unsupported")
_NOTHING = ("No data received", "No generation chunks were returned")
_TOO_LONG = ("context size", "context length", "context window", "exceeds the available", "prompt too long")
_DEAD_RUNNER = ("runner process has terminated", "runner has unexpectedly stopped", "runner process no longer")
_MEMORY = ("more system memory", "out of memory", "cudamalloc failed", "failed to allocate")
_MISSING_MODEL = re.compile(r"model ['\"]?.*['\"]? not found|no such model", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_PAGE = re.compile(
    r"^\W*<[a-z!?]|<(?:!doctype|/?(?:html|head|body|title|h[1-6]|p|div|center|pre|br|hr|script|style|table)\b)",
    re.IGNORECASE,
)
_API_PATHS = ("/v1", "/api", "/api/chat", "/api/generate", "/v1/chat/completions")
_MOST_WORDS = 300


@dataclass(frozen=True, slots=True)
class _Place:
    """The model that was asked, and the server's address."""

    name: str
    address: str

    @property
    def proxy(self) -> str | None:
        """The environment variable that puts a proxy in front of the server."""
        return proxy_for(self.address) if "://" in self.address else None

    @property
    def host(self) -> str:
        return urlsplit(self.address).hostname or self.address


def named_error(error: BaseException, *, model: Any = None, url: str | None = None) -> EcowasError | None:
    """Return this package's error for ``error``, or ``None`` if it has nothing to do with a model server.

    No message contains a password, or more than one line of what a server sent.

    Args:
        error: The error that was raised.
        model: A model's name, or a LangChain chat model from which the name and the server's address are read.
        url: The server's address.
    """
    if isinstance(error, EcowasError):
        return error
    place = _place(model, url)
    if isinstance(error, NotImplementedError):
        return ModelCapabilityError(
            f"The model {place.name} can't do this: {str(error).removesuffix('.') or 'not implemented'}."
        )
    if _is_no_answer_of_ollama(error):
        return not_ollama(place.address)
    if isinstance(error, ValueError) and any(sign in str(error) for sign in _NOTHING):
        return ModelError(f"The model {place.name} returned nothing. Ask again, or use another model.")
    links = _chain(error)
    elsewhere = next(filter(None, (_sent_on_to(link, place) for link in links)), None)
    for link in links:
        translated = _from_transport(link, place, elsewhere) or _from_answer(link, place)
        if translated is not None:
            return translated
    return None


@contextmanager
def named_errors(model: Any = None, url: str | None = None) -> Generator[None]:
    """Raise failures of a model as the error that :func:`named_error` returns for them."""
    try:
        yield
    except EcowasError:
        raise
    except Exception as error:
        named = named_error(error, model=model, url=url)
        if named is None:
            raise
        raise named from error


def unavailable(address: str) -> ModelServerUnavailableError:
    """Return the error for a server that does not answer at ``address``."""
    return ModelServerUnavailableError(
        f"No model server answers at {address}. Start Ollama with `ollama serve`, or set OLLAMA_BASE_URL."
    )


def not_ollama(address: str, what: str = "") -> ModelServerUnavailableError:
    """Return the error for an address where something else answers, such as a proxy or a login page."""
    told = f" ({what})" if what else ""
    proxy = proxy_for(address) if "://" in address else None
    if proxy:
        host = urlsplit(address).hostname
        return ModelServerUnavailableError(
            f"The answer for {address} is not from Ollama{told} but from the proxy that {proxy} names. Add {host} "
            "to NO_PROXY, or set OLLAMA_BASE_URL."
        )
    return ModelServerUnavailableError(
        f"The server at {address} is not Ollama{told}. Start Ollama with `ollama serve`, or set OLLAMA_BASE_URL."
    )


def broken_off(name: str, address: str) -> ModelServerUnavailableError:
    """Return the error for an answer that ended before its last part."""
    return ModelServerUnavailableError(
        f"The answer of the model {name} broke off: {address} closed the connection before the end. Ask again; "
        "if a proxy is in front of the server, raise its timeout."
    )


def timed_out(name: str, seconds: float | None = None, setting: str = "LLM_TIMEOUT") -> ModelTimeoutError:
    """Return the error for a model that took longer than ``seconds``, the limit that ``setting`` sets."""
    within = f" within {seconds:g} s" if seconds is not None else " in time"
    return ModelTimeoutError(f"{name} did not answer{within}. Raise {setting} (seconds), or use a smaller model.")


def not_found(name: str) -> ModelNotFoundError:
    """Return the error for a model that the server does not have."""
    return ModelNotFoundError(f"The model {name} is not on the server. Get it with `ollama pull {name}`.")


def one_line(text: str) -> str:
    """Return a server's reply as one short line; for a page or other markup, its title."""
    if _PAGE.search(text):
        found = _TITLE.search(text)
        title = " ".join(html.unescape(found[1]).split()) if found else ""
        text = f"a web page, {title!r}" if title else "a web page"
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split()).removesuffix(".").strip()
    return f"{text[:_MOST_WORDS]}…" if len(text) > _MOST_WORDS else text


def _from_transport(error: BaseException, place: _Place, elsewhere: str | None) -> EcowasError | None:
    import httpx  # already loaded if one of its errors was raised

    address = place.address
    if isinstance(error, UnicodeDecodeError):
        return not_ollama(address, "its answer is not UTF-8")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError | UnicodeError):
        return ConfigurationError(
            f"The model server's address {address} can't be used. Set OLLAMA_BASE_URL to one such as "
            "http://localhost:11434."
        )
    if elsewhere and isinstance(error, socket.gaierror | httpx.ConnectError | httpx.ConnectTimeout):
        return ModelServerUnavailableError(
            f"The server at {address} redirects to {elsewhere}, where no server answers. Set OLLAMA_BASE_URL to "
            "the address of Ollama itself."
        )
    if isinstance(error, socket.gaierror):
        return ModelServerUnavailableError(
            f"The name {place.host} of the model server can't be resolved. Check its spelling in OLLAMA_BASE_URL, "
            "or the network."
        )
    if isinstance(error, httpx.ProxyError) or (
        isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and place.proxy
    ):
        return ModelServerUnavailableError(
            f"The proxy that {place.proxy or 'the environment'} names refuses connections to {address}. Add "
            f"{place.host} to NO_PROXY, or set OLLAMA_BASE_URL."
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return unavailable(address)
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return timed_out(f"The model {place.name}")
    if isinstance(error, httpx.DecodingError):
        return not_ollama(address, "its answer can't be decoded")
    if isinstance(error, httpx.TooManyRedirects):
        return not_ollama(address, "it redirects without end, as login pages do")
    if isinstance(error, httpx.TransportError | ConnectionError):  # broken off in mid-answer
        return unavailable(address)
    if isinstance(error, httpx.HTTPError | httpx.StreamError):
        return not_ollama(address, one_line(str(error)))
    return None


def _sent_on_to(error: Any, place: _Place) -> str | None:
    """Return the server that a redirect led to, or ``None`` if there was no redirect."""
    try:
        reached = error.request.url
    except (AttributeError, RuntimeError):  # httpx does not know the request either
        return None
    asked = urlsplit(place.address if "://" in place.address else f"//{place.address}")
    is_same = reached.host == asked.hostname or (is_loopback(str(reached)) and is_loopback(place.address))
    if is_same and reached.scheme == (asked.scheme or reached.scheme):
        return None
    return f"{reached.scheme}://{reached.netloc.decode('ascii')}"


def _from_answer(error: BaseException, place: _Place) -> EcowasError | None:
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or type(error).__name__ != "ResponseError":
        return None
    told = getattr(error, "error", error)
    sent = _message(told) or str(told)
    text, is_page = one_line(_innermost(sent)) or "no reason given", "<" in sent and one_line(sent) != sent.strip()
    lowered = text.lower()
    return (
        _about_the_prompt(place, text, lowered)
        or _about_the_model(place, status, text, lowered)
        or _about_the_server(place, status, text, lowered, is_page=is_page)
    )


def _about_the_prompt(place: _Place, text: str, lowered: str) -> EcowasError | None:
    if any(sign in lowered for sign in _TOO_LONG):
        return errors.ContextOverflowError(
            f"The prompt does not fit the model {place.name}: {text}. Shorten the prompt, or raise num_ctx."
        )
    if any(sign in lowered for sign in _NO_CAPABILITY):
        return ModelCapabilityError(
            f"The model {place.name} can't do what was asked: {text}. Use one that can, such as "
            "`ollama pull llama3.2`."
        )
    return None


def _about_the_model(place: _Place, status: int, text: str, lowered: str) -> EcowasError | None:
    if status in (404, -1, 400) and _MISSING_MODEL.search(lowered):
        return not_found(place.name)
    if "tool call" in lowered and "parsing" in lowered:
        return ModelError(
            f"The model {place.name} wrote a tool call that can't be read: {text}. Ask again, or use a larger "
            "model."
        )
    if any(sign in lowered for sign in _MEMORY):
        return ModelError(
            f"The server has too little memory for the model {place.name}: {text}. Use a smaller one, such as "
            "`ollama pull qwen2.5:0.5b`, or a smaller num_ctx."
        )
    if any(sign in lowered for sign in _DEAD_RUNNER):
        return ModelError(
            f"The model {place.name} stopped on the server: {text}. Ask again; if it stops again, look at "
            "Ollama's log, or use a smaller num_ctx or another model."
        )
    return None


def _about_the_server(place: _Place, status: int, text: str, lowered: str, *, is_page: bool) -> EcowasError:
    address = place.address
    path = urlsplit(address).path.rstrip("/") if "://" in address else ""
    if status == 404 and not is_page:
        if path:
            bare = address.partition("?")[0].removesuffix(path)
            cure = f"set OLLAMA_BASE_URL to {bare}" if path in _API_PATHS else "check the path in OLLAMA_BASE_URL"
        else:
            cure = "check OLLAMA_BASE_URL, or update the server"
        return ModelServerUnavailableError(
            f"The server at {address} answers, but Ollama's interface is not at this address ({text}): {cure}."
        )
    if status == 401 and "unauthorized" in lowered and not is_page and not place.proxy and "ollama.com" in lowered:
        return ModelServerUnavailableError(
            f"The model {place.name} runs in Ollama's cloud, and its server is not signed in. Run `ollama signin`."
        )
    if status in (401, 403, 407):
        who = f"The proxy that {place.proxy} names" if place.proxy and is_page else f"The server at {address}"
        return ModelServerUnavailableError(
            f"{who} refused the request ({status}: {text}). Put the login into the address "
            "(OLLAMA_BASE_URL=https://user:password@host), or pass headers with client_kwargs; for a model in "
            "Ollama's cloud run `ollama signin`."
        )
    if status == 503 and ("server busy" in lowered or "pending requests" in lowered):
        return ModelServerUnavailableError(
            f"Too many requests wait at the model server at {address} ({text}). Ask fewer at once "
            "(max_parallel), or raise its OLLAMA_MAX_QUEUE."
        )
    if status == 429:
        return ModelServerUnavailableError(
            f"The server at {address} accepts no more requests for now ({status}: {text}). Try again later."
        )
    if is_page and status in (502, 503, 504):
        return ModelServerUnavailableError(
            f"The proxy in front of the model server at {address} can't reach it ({status}: {text}). Try again "
            "shortly, or start Ollama behind it."
        )
    if is_page:
        return not_ollama(address, f"{status}: {text}")
    if status in (502, 503, 504):
        return ModelServerUnavailableError(
            f"The model server at {address} is not ready ({status}: {text}). Try again shortly, or see its log."
        )
    told = f"{status}: {text}" if status > 0 else text  # an error in the middle of a stream has no status
    return ModelError(f"The model server at {address} refused the request to {place.name} ({told}).")


def _innermost(text: str) -> str:
    """Return the innermost message of JSON errors nested in text, as Ollama 0.32 forwards llama.cpp's errors."""
    for _ in range(4):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        text = _message(value) or text
    return text


def _message(value: Any) -> str:
    while isinstance(value, Mapping):
        value = value.get("error", value.get("message", ""))
    return value if isinstance(value, str) else ""


def _is_no_answer_of_ollama(error: BaseException) -> bool:
    # Ollama's client parses the response as JSON and builds a response object from it; other content makes that
    # fail.
    title = getattr(error, "title", None)
    if isinstance(error, json.JSONDecodeError) or (isinstance(title, str) and title.endswith("Response")):
        return True
    if isinstance(error, RecursionError):  # of nested brackets; langgraph's own error is a RecursionError too
        return "decoding a JSON" in str(error)
    if not isinstance(error, AttributeError | TypeError):
        return False
    trace = error.__traceback__  # the JSON is not an object, so Ollama's client fails
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_filename.replace("\\", "/") if trace else ""
    return code.endswith("ollama/_client.py")


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, the most informative first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        hidden = link.__context__
        if type(link) is ConnectionError and hidden is not None:
            link = hidden  # Ollama's client raises this in place of httpx's error, which names the cause
            continue
        links.append(link)
        hides = link.__suppress_context__ and not type(link).__module__.startswith("httpcore")
        link = link.__cause__ or (None if hides else hidden)
    resolving = [link for link in links if isinstance(link, socket.gaierror)]
    return [*resolving, *links]


def _place(model: Any, url: str | None) -> _Place:
    if isinstance(model, str):
        name = model
    else:
        name = str(getattr(model, "model", None) or getattr(model, "model_name", None) or type(model).__name__)
    # Without a base_url, only ChatOllama's client knows the address (OLLAMA_HOST or its own default).
    client = getattr(getattr(model, "_client", None), "_client", None)
    address = url or getattr(model, "base_url", None) or getattr(client, "base_url", None)
    return _Place(name, _shown(str(address)) if address else "its address")


def _shown(address: str) -> str:
    try:
        shown = one_line(safe_url(address)).rstrip("/")
    except ValueError:
        shown = "@"
    return "that was given" if "@" in shown else shown  # passwords may contain a slash
