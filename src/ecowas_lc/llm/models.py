"""Chat models on Ollama, created from the settings and safe to use from several event loops in turn."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from ecowas_lc._secret import Secret, login_in, safe_url
from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.llm.names import is_loopback
from ecowas_lc.settings import Settings, get_settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_ollama import ChatOllama

    from ecowas_lc.llm.guarded import GuardedChatOllama

_OF_THE_CLIENTS = {"sync_client_kwargs", "async_client_kwargs"}


def make_chat_model(
    settings: Settings | None = None,
    *,
    model: str | None = None,
    base_url: str | None = None,
    temperature: float | None = None,
    timeout: float | None = None,
    **options: Any,
) -> GuardedChatOllama:
    """Return a chat model on Ollama whose prompts are never silently cut.

    Creating the model opens no connection. The model may be used from several event loops, one after the other.
    Reasoning is off unless you ask for it (``reasoning=True``, or a level such as ``"low"``), because small models
    spend their whole answer on it.

    Args:
        settings: The settings to use. Defaults to those of the environment.
        model: The model's name. Defaults to ``OLLAMA_MODEL``.
        base_url: The server's address. Defaults to ``OLLAMA_BASE_URL``.
        temperature: A number from 0 to 2. Defaults to the settings' temperature.
        timeout: Seconds to wait for a connection, and for each further part of the answer. Defaults to
            ``LLM_TIMEOUT``.
        **options: Options of ``ChatOllama`` (``num_ctx``, ``num_predict``, ``seed``, ``keep_alive``, ``logprobs``,
            …), and ``truncate`` and ``shift`` of :class:`~ecowas_lc.llm.guarded.GuardedChatOllama`.

    Returns:
        The model.

    Raises:
        ConfigurationError: An argument is not usable, or ``ChatOllama`` has no such option.
    """
    import httpx
    from pydantic import ValidationError

    from ecowas_lc.llm.guarded import GuardedChatOllama

    settings = settings or get_settings()
    seconds = settings.llm_timeout if timeout is None else timeout
    if not _is_number(seconds) or seconds <= 0:
        raise ConfigurationError(f"A timeout of {seconds!r} can't be used. Pass a number of seconds above 0.")
    if temperature is not None:
        try:
            check_temperature(temperature)
        except InvalidInputError as error:
            raise ConfigurationError(str(error)) from None
    if unknown := sorted(options.keys() - GuardedChatOllama.model_fields.keys()):
        raise ConfigurationError(f"ChatOllama has no option {unknown[0]!r}. Leave it out, or fix its name.")
    # An idle connection belongs to the event loop that opened it, fails in the next one, and is not closed when
    # the model is garbage-collected: keep none.
    no_idle = httpx.Limits(max_keepalive_connections=0)
    address = base_url or settings.ollama_base_url
    if isinstance(address, str) and not _names_a_host(address):
        raise ConfigurationError(
            f"The model server's address {_shown(address)!r} can't be used. Set OLLAMA_BASE_URL to one such as "
            "http://localhost:11434."
        )
    # Only the client receives the login, because printing a model shows its address and its headers.
    try:
        login = login_in(address) if isinstance(address, str) else None
    except ValueError as error:
        raise ConfigurationError(f"The model server's address {error}.") from None
    auth = {"auth": httpx.BasicAuth(*login)} if login else {}
    # A proxy from the environment must not be used for a server on this machine.
    direct = {"trust_env": False} if isinstance(address, str) and is_loopback(address) else {}
    given = options.pop("client_kwargs", None) or {}
    client_kwargs = {"timeout": seconds, "limits": no_idle, **direct, **auth, **given}
    options |= {name: _with_hidden_headers(options[name]) for name in _OF_THE_CLIENTS & options.keys()}
    try:
        return GuardedChatOllama(
            model=model or settings.ollama_model,
            base_url=safe_url(address) if login else address,
            temperature=settings.llm_temperature if temperature is None else temperature,
            client_kwargs=_with_hidden_headers(client_kwargs),
            reasoning=options.pop("reasoning", False),
            **options,
        )
    except ConfigurationError:  # an invalid setting that is read here also raises a ValueError
        raise
    except ValidationError as error:
        [problem, *_] = error.errors(include_input=False, include_url=False)
        name = ".".join(map(str, problem["loc"])) or "the options"
        raise ConfigurationError(f"ChatOllama can't use {name}: {problem['msg']}.") from None
    except (ValueError, UnicodeError, httpx.InvalidURL):
        raise ConfigurationError(
            f"The model server's address {_shown(address)!r} can't be used. Set OLLAMA_BASE_URL to one such as "
            "http://localhost:11434."
        ) from None


def _names_a_host(address: str) -> bool:
    scheme, separator, rest = address.strip().partition("://")
    if separator and (scheme.lower() not in ("http", "https") or rest.startswith((":", "/"))):
        return False
    return bool(rest if separator else scheme) and not any(mark.isspace() for mark in address.strip())


def _shown(address: Any) -> str:
    """Return the address without its login, or a placeholder if the end of the login is ambiguous."""
    try:
        shown = safe_url(str(address))
    except ValueError:
        shown = "@"
    return "that was given" if "@" in shown else shown


def check_temperature(temperature: object) -> None:
    """Raise an error if ``temperature`` is not usable.

    Raises:
        InvalidInputError: It is not a number from 0 to 2.
    """
    if not _is_number(temperature) or not 0 <= temperature <= 2:
        raise InvalidInputError(f"A temperature of {temperature!r} can't be used. Pass a number from 0 to 2.")


def _with_hidden_headers(client_kwargs: Any) -> Any:
    if not isinstance(client_kwargs, Mapping) or not isinstance(client_kwargs.get("headers"), Mapping):
        return client_kwargs  # nothing to hide, or ChatOllama will reject it
    headers = client_kwargs["headers"].items()
    return {**client_kwargs, "headers": {name: Secret(v) if isinstance(v, str) else v for name, v in headers}}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def chat_model(model: BaseChatModel | str | None = None) -> BaseChatModel:
    """Return the given chat model, or the Ollama model with this name (``None``: the settings' model)."""
    if model is None or isinstance(model, str):
        if model is not None and not model.strip():
            raise ConfigurationError("The model's name is empty. Name one, such as 'llama3.2:3b', or pass None.")
        return make_chat_model(model=model)
    if not hasattr(model, "invoke") or not hasattr(model, "bind"):
        raise ConfigurationError(
            f"{model!r} is not a chat model. Pass a LangChain chat model, a model's name, or None."
        )
    return model


def is_chat_ollama(model: object) -> TypeGuard[ChatOllama]:
    """Return whether ``model`` is a ``ChatOllama``, without importing the class if nothing else has."""
    module = sys.modules.get("langchain_ollama")
    return module is not None and isinstance(model, module.ChatOllama)
