"""A plain chat service on Ollama: text in, text out, errors with the command that mends them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ecowas_lc._secret import safe_url
from ecowas_lc.errors import EmptyQuestionError, InvalidInputError, ModelError
from ecowas_lc.llm.context import (
    aeffective_context,
    check_fits,
    effective_context,
    is_surely_short,
    raise_unless_untold,
)
from ecowas_lc.llm.faults import named_errors, not_found, timed_out
from ecowas_lc.llm.models import check_temperature, make_chat_model
from ecowas_lc.settings import Settings, get_settings

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_ollama import ChatOllama

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "ai": "assistant", "system": "system"}


class LLMService:
    """Chat with one model on one Ollama server, from blocking and from asyncio code.

    What is not given comes from the settings. ``timeout`` is the seconds that a whole answer may take.
    ``options`` are ``ChatOllama``'s own (``num_ctx``, ``seed``, …). Nothing is connected until the first call.

    Every call raises :class:`ModelServerUnavailableError` (start the server), :class:`ModelNotFoundError`
    (pull the model), :class:`ModelTimeoutError`, :class:`ContextOverflowError` or another
    :class:`ModelError`; each message says what mends it. A prompt that does not fit the model is refused, where
    Ollama would cut it off in silence: before the first long one the server is asked how much the model takes in.
    """

    def __init__(
        self,
        base_url: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        *,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        settings = settings or get_settings()
        self.timeout = settings.llm_timeout if timeout is None else timeout
        self._model = make_chat_model(
            settings,
            model=model,
            base_url=base_url,
            temperature=temperature,
            timeout=self.timeout,
            **options,
        )
        self._context: int | None = None

    def __repr__(self) -> str:
        return f"LLMService(base_url={self.base_url!r}, model={self.model!r}, timeout={self.timeout:g})"

    @property
    def base_url(self) -> str:
        """The server's address, without any password."""
        return safe_url(self._model.base_url or "")

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model.model

    def chat(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return the model's answer to ``prompt``, of ``max_tokens`` tokens at most."""
        return "".join(self.stream(prompt, system_prompt, temperature, max_tokens))

    async def achat(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return what :meth:`chat` returns, without blocking the event loop."""
        return "".join([part async for part in self.astream(prompt, system_prompt, temperature, max_tokens)])

    def chat_with_history(
        self,
        messages: Sequence[Mapping[str, Any] | BaseMessage],
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return the model's answer to a conversation of ``{"role": …, "content": …}`` dicts or messages."""
        model = self._tuned(temperature, max_tokens)
        return "".join(self._stream(model, _conversation(messages)))

    async def achat_with_history(
        self,
        messages: Sequence[Mapping[str, Any] | BaseMessage],
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return what :meth:`chat_with_history` returns, without blocking the event loop."""
        model = self._tuned(temperature, max_tokens)
        return "".join([part async for part in self._astream(model, _conversation(messages))])

    def stream(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Iterator[str]:
        """Yield the answer to ``prompt`` as the model writes it."""
        return self._stream(self._tuned(temperature, max_tokens), _prompt(prompt, system_prompt))

    def astream(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> AsyncIterator[str]:
        """Yield what :meth:`stream` yields, without blocking the event loop."""
        return self._astream(self._tuned(temperature, max_tokens), _prompt(prompt, system_prompt))

    def list_models(self) -> list[str]:
        """Return the names of the models that the server has."""
        with named_errors(self._model):
            return _names(self._model._client.list())

    async def alist_models(self) -> list[str]:
        """Return what :meth:`list_models` returns, without blocking the event loop."""
        with named_errors(self._model):
            return _names(await self._model._async_client.list())

    def health_check(self) -> bool:
        """Return whether the server answers and has the model. Never raises; :meth:`check` says what is wrong."""
        try:
            self.check()
        except ModelError:
            return False
        return True

    async def ahealth_check(self) -> bool:
        """Return what :meth:`health_check` returns, without blocking the event loop."""
        try:
            await self.acheck()
        except ModelError:
            return False
        return True

    def check(self) -> None:
        """Do nothing where the server answers and has the model.

        Raises:
            ModelServerUnavailableError: nobody answers at the address.
            ModelNotFoundError: the server does not have the model.
        """
        self._check(self.list_models())

    async def acheck(self) -> None:
        """Do what :meth:`check` does, without blocking the event loop."""
        self._check(await self.alist_models())

    def _check(self, names: Sequence[str]) -> None:
        if self.model not in names and f"{self.model}:latest" not in names:
            raise not_found(self.model)

    def _stream(self, model: ChatOllama, messages: list[BaseMessage]) -> Iterator[str]:
        deadline = time.monotonic() + self.timeout
        if not is_surely_short(messages, model.num_ctx):
            try:
                self._context = self._context or effective_context(self._model)
            except ModelError as error:
                raise_unless_untold(error)
            check_fits(messages, self._context, self.model)
        with named_errors(self._model):
            for chunk in model.stream(messages):
                if chunk.text:
                    handed = time.monotonic()
                    yield chunk.text
                    deadline += time.monotonic() - handed  # what the caller takes is not the model's time
                if time.monotonic() > deadline:
                    raise timed_out(f"The model {self.model}", self.timeout)

    async def _astream(self, model: ChatOllama, messages: list[BaseMessage]) -> AsyncIterator[str]:
        deadline = time.monotonic() + self.timeout
        if not is_surely_short(messages, model.num_ctx):
            try:
                self._context = self._context or await aeffective_context(self._model)
            except ModelError as error:
                raise_unless_untold(error)
            check_fits(messages, self._context, self.model)
        with named_errors(self._model):
            async for chunk in model.astream(messages):
                if chunk.text:
                    handed = time.monotonic()
                    yield chunk.text
                    deadline += time.monotonic() - handed
                if time.monotonic() > deadline:
                    raise timed_out(f"The model {self.model}", self.timeout)

    def _tuned(self, temperature: float | None, max_tokens: int | None) -> ChatOllama:
        if temperature is not None:
            check_temperature(temperature)
        if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
            raise InvalidInputError(f"max_tokens of {max_tokens!r} can't be used. Give a whole number from 1 on.")
        update: dict[str, float | int] = {}
        if temperature is not None:
            update["temperature"] = temperature
        if max_tokens is not None:
            update["num_predict"] = max_tokens
        return self._model.model_copy(update=update) if update else self._model


@cache
def get_llm_service() -> LLMService:
    """Return the process's service, made from the settings. ``get_llm_service.cache_clear()`` forgets it."""
    return LLMService()


def _names(listing: Any) -> list[str]:
    return [str(entry.model) for entry in listing.models]


def _prompt(prompt: str, system_prompt: str | None) -> list[BaseMessage]:
    if not isinstance(prompt, str) or not prompt.strip():
        raise EmptyQuestionError("The prompt is empty. Ask something.")
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return _conversation([*system, {"role": "user", "content": prompt}])


def _conversation(messages: Sequence[Mapping[str, Any] | BaseMessage]) -> list[BaseMessage]:
    from langchain_core.messages import BaseMessage, convert_to_messages

    if isinstance(messages, (str, bytes, Mapping)):
        raise InvalidInputError(f"A conversation is a list of messages, not {type(messages).__name__}.")
    if not messages:
        raise EmptyQuestionError("There is no message to answer. Give at least one.")
    checked: list[Any] = []
    for message in messages:
        if isinstance(message, BaseMessage):
            checked.append(message)
            continue
        if not isinstance(message, Mapping):
            raise InvalidInputError(
                f'A message is a dict like {{"role": "user", "content": "…"}}, not {type(message).__name__}.'
            )
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES or not isinstance(content, str):
            raise InvalidInputError(
                f"A message with role {role!r} can't be sent. Give role (user, assistant or system) and text."
            )
        checked.append((_ROLES[role], content))
    return convert_to_messages(checked)
