"""What goes wrong between us and a model server, told as this package's own errors."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ecowas_lc._secret import safe_url
from ecowas_lc.errors import (
    ContextOverflowError,
    EcowasError,
    ModelCapabilityError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
)

_NO_CAPABILITY = ("does not support", "not supported", "unsupported")
_NOTHING = ("No data received", "No generation chunks were returned")
_TOO_LONG = ("context size", "context length", "context window", "exceeds the available", "prompt too long")


def named_error(error: BaseException, *, model: Any = None, url: str | None = None) -> EcowasError | None:
    """Return the error of ours that ``error`` amounts to, or ``None`` where it is something else.

    ``model`` is a model's name or a LangChain chat model, from which the name and the server's address are
    read. No message holds a password.
    """
    if isinstance(error, EcowasError):
        return error
    name, address = _name_and_address(model, url)
    if isinstance(error, NotImplementedError):
        return ModelCapabilityError(
            f"The model {name} can't do this: {str(error).removesuffix('.') or 'not implemented'}."
        )
    if _is_no_answer_of_ollama(error):
        return ModelServerUnavailableError(
            f"What answers at {address} is not Ollama. Start Ollama with `ollama serve`, or set OLLAMA_BASE_URL."
        )
    if isinstance(error, ValueError) and any(sign in str(error) for sign in _NOTHING):
        return ModelError(f"The model {name} answered nothing at all. Ask again, or use another model.")
    for link in _chain(error):
        translated = _from_transport(link, name, address) or _from_answer(link, name, address)
        if translated is not None:
            return translated
    return None


@contextmanager
def named_errors(model: Any = None, url: str | None = None) -> Generator[None]:
    """Raise what goes wrong with a model as the error that :func:`named_error` has for it."""
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
    """Return the error for a server that nobody reaches at ``address``."""
    return ModelServerUnavailableError(
        f"No model server answers at {address}. Start Ollama with `ollama serve`, or set OLLAMA_BASE_URL."
    )


def timed_out(name: str, seconds: float | None = None) -> ModelTimeoutError:
    """Return the error for a model that took longer than ``seconds``."""
    within = f" within {seconds:g} s" if seconds is not None else " in time"
    return ModelTimeoutError(
        f"{name} did not answer{within}. Raise LLM_TIMEOUT (seconds), or use a smaller model."
    )


def not_found(name: str) -> ModelNotFoundError:
    """Return the error for a model that the server does not have."""
    return ModelNotFoundError(f"The model {name} is not on the server. Get it with `ollama pull {name}`.")


def _from_transport(error: BaseException, name: str, address: str) -> EcowasError | None:
    import httpx  # already loaded where one of its errors was raised

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
        return unavailable(address)
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return timed_out(f"The model {name}")
    if isinstance(error, httpx.TransportError | ConnectionError):  # it broke off in mid-answer
        return unavailable(address)
    return None


def _from_answer(error: BaseException, name: str, address: str) -> EcowasError | None:
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or type(error).__name__ != "ResponseError":
        return None
    text = str(getattr(error, "error", error)).strip().removesuffix(".") or "no reason given"
    lowered = text.lower()
    if any(sign in lowered for sign in _TOO_LONG):
        return ContextOverflowError(
            f"The prompt does not fit the model {name}: {text}. Ask less at once, or raise num_ctx."
        )
    if any(sign in lowered for sign in _NO_CAPABILITY):
        return ModelCapabilityError(
            f"The model {name} can't do what was asked: {text}. Use one that can, such as `ollama pull llama3.2`."
        )
    if status == 404 or ("model" in lowered and "not found" in lowered):
        return not_found(name)
    if "more system memory" in lowered:
        return ModelError(
            f"The server has too little memory for the model {name}: {text}. Use a smaller one, such as "
            "`ollama pull qwen2.5:0.5b`."
        )
    if status in (502, 503, 504):
        return ModelServerUnavailableError(
            f"The model server at {address} is not ready ({status}: {text}). Try again shortly, or see its log."
        )
    return ModelError(f"The model server at {address} refused the request to {name} ({status}: {text}).")


def _is_no_answer_of_ollama(error: BaseException) -> bool:
    # Ollama's client reads what it is sent as JSON, and makes an object named after the answer of it.
    title = getattr(error, "title", None)
    return isinstance(error, json.JSONDecodeError) or (isinstance(title, str) and title.endswith("Response"))


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what it was raised from, outermost first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return links


def _name_and_address(model: Any, url: str | None) -> tuple[str, str]:
    if isinstance(model, str):
        name = model
    else:
        name = str(getattr(model, "model", None) or getattr(model, "model_name", None) or type(model).__name__)
    # without a base_url, ChatOllama's client alone knows the address (OLLAMA_HOST or its own default)
    client = getattr(getattr(model, "_client", None), "_client", None)
    address = url or getattr(model, "base_url", None) or getattr(client, "base_url", None)
    return name, safe_url(str(address)).rstrip("/") if address else "its address"
