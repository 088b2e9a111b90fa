"""A plain chat service on Ollama: text in, text out, errors with the command that fixes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from ecowas_lc._secret import safe_url
from ecowas_lc.errors import EmptyQuestionError, InvalidInputError
from ecowas_lc.llm.answer_checks import empty_answer, mark_after, ran_out
from ecowas_lc.llm.faults import named_errors, not_found, timed_out
from ecowas_lc.llm.models import check_temperature, make_chat_model
from ecowas_lc.llm.names import is_same_model
from ecowas_lc.llm.reasoning import split_reasoning
from ecowas_lc.llm.request_queue import Patience
from ecowas_lc.settings import Settings, get_settings

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ecowas_lc.llm.guarded import GuardedChatOllama

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "ai": "assistant", "system": "system"}


class LLMService:
    """A plain chat service for one model on one Ollama server, for blocking and asyncio code.

    Nothing is connected until the first call. Reasoning is not part of an answer. An answer is limited to
    ``max_tokens`` tokens (by default a quarter of the context and at most 1,024); if it reaches the limit, it ends
    with ``[…]``. A prompt that does not fit the model's context is rejected instead of being silently cut by
    Ollama.

    Every call may raise :class:`ModelServerUnavailableError` (start the server), :class:`ModelNotFoundError`
    (pull the model), :class:`ModelTimeoutError`, :class:`ContextOverflowError`, or another :class:`ModelError`,
    for example for an empty answer. Each message says how to fix the problem.

    Args:
        base_url: The server's address. Defaults to ``OLLAMA_BASE_URL``.
        model: The model's name. Defaults to ``OLLAMA_MODEL``.
        temperature: A number from 0 to 2. Defaults to the settings' temperature.
        timeout: Seconds that a whole answer may take, without the time spent waiting for other requests of this
            process. Defaults to ``LLM_TIMEOUT``.
        settings: The settings to use. Defaults to those of the environment.
        **options: Options of ``ChatOllama``, such as ``num_ctx`` and ``seed``.
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
        """Return the model's answer to a prompt.

        Args:
            prompt: The user's text.
            system_prompt: Instructions to the model.
            temperature: A number from 0 to 2, for this call only.
            max_tokens: Maximum length of the answer in tokens.
        """
        return _whole(self.stream(prompt, system_prompt, temperature, max_tokens))

    async def achat(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return what :meth:`chat` returns, without blocking the event loop."""
        return _whole([part async for part in self.astream(prompt, system_prompt, temperature, max_tokens)])

    def chat_with_history(
        self,
        messages: Sequence[Mapping[str, Any] | BaseMessage],
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return the model's answer to a conversation.

        Args:
            messages: ``{"role": …, "content": …}`` dicts or LangChain messages, oldest first.
            temperature: A number from 0 to 2, for this call only.
            max_tokens: Maximum length of the answer in tokens.
        """
        model = self._tuned(temperature, max_tokens)
        return _whole(self._stream(model, _conversation(messages)))

    async def achat_with_history(
        self,
        messages: Sequence[Mapping[str, Any] | BaseMessage],
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Return what :meth:`chat_with_history` returns, without blocking the event loop."""
        model = self._tuned(temperature, max_tokens)
        return _whole([part async for part in self._astream(model, _conversation(messages))])

    def stream(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Iterator[str]:
        """Stream the answer to a prompt as the model writes it.

        Args:
            prompt: The user's text.
            system_prompt: Instructions to the model.
            temperature: A number from 0 to 2, for this call only.
            max_tokens: Maximum length of the answer in tokens.

        Returns:
            The pieces of the answer.
        """
        return self._stream(self._tuned(temperature, max_tokens), _prompt(prompt, system_prompt))

    def astream(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> AsyncIterator[str]:
        """Stream what :meth:`stream` streams, without blocking the event loop."""
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
        """Return whether the server answers and has the model; never raise. :meth:`check` says what is wrong."""
        try:
            self.check()
        except Exception:  # any error means that the service is not healthy
            return False
        return True

    async def ahealth_check(self) -> bool:
        """Return what :meth:`health_check` returns, without blocking the event loop."""
        try:
            await self.acheck()
        except Exception:  # any error means that the service is not healthy
            return False
        return True

    def check(self) -> None:
        """Raise an error unless the server answers and has the model.

        Raises:
            ModelServerUnavailableError: No Ollama server answers at the address.
            ModelNotFoundError: The server does not have the model.
        """
        self._check(self.list_models())

    async def acheck(self) -> None:
        """Do what :meth:`check` does, without blocking the event loop."""
        self._check(await self.alist_models())

    def _check(self, names: Sequence[str]) -> None:
        if not any(is_same_model(self.model, name) for name in names):
            raise not_found(self.model)

    def _stream(self, model: GuardedChatOllama, messages: list[BaseMessage]) -> Iterator[str]:
        answer = _Answer(self.model, self.timeout)
        with named_errors(self._model):
            for chunk in model.with_patience(answer.clock).stream(messages):
                if text := answer.take(chunk):
                    with answer.handed():
                        yield text
                answer.check_time()
        yield from answer.end()

    async def _astream(self, model: GuardedChatOllama, messages: list[BaseMessage]) -> AsyncIterator[str]:
        answer = _Answer(self.model, self.timeout)
        with named_errors(self._model):
            async for chunk in model.with_patience(answer.clock).astream(messages):
                if text := answer.take(chunk):
                    with answer.handed():
                        yield text
                answer.check_time()
        for text in answer.end():
            yield text

    def _tuned(self, temperature: float | None, max_tokens: int | None) -> GuardedChatOllama:
        if temperature is not None:
            check_temperature(temperature)
        if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
            raise InvalidInputError(f"max_tokens of {max_tokens!r} can't be used. Pass a whole number, 1 or more.")
        update: dict[str, float | int] = {}
        if temperature is not None:
            update["temperature"] = temperature
        if max_tokens is not None:
            update["num_predict"] = max_tokens
        return self._model.model_copy(update=update) if update else self._model


class _Answer:
    """An answer that is being written."""

    def __init__(self, model: str, seconds: float) -> None:
        self._model = model
        self._last: Any = None
        self._text = ""
        self.clock = Patience(seconds)

    def take(self, chunk: Any) -> str:
        """Return the text of a chunk."""
        if chunk.response_metadata:
            self._last = chunk
        self._text += chunk.text
        return str(chunk.text)

    @contextmanager
    def handed(self) -> Generator[None]:
        """Pause the clock: the caller's reading time does not count."""
        self.clock.pause()
        try:
            yield
        finally:
            self.clock.resume()

    def check_time(self) -> None:
        """Raise ModelTimeoutError if the answer takes too long."""
        if self.clock.is_over:
            raise timed_out(f"The model {self._model}", self.clock.seconds)

    def end(self) -> list[str]:
        """Return what follows the text: a mark if the answer reached its token limit.

        Raises:
            ModelError: The answer has no text.
        """
        if not split_reasoning(self._text).answer:
            raise empty_answer("LLMService", self._last)
        return [mark_after(self._text)] if self._last is not None and ran_out(self._last) else []


@cache
def get_llm_service() -> LLMService:
    """Return the process's service, created from the settings; ``get_llm_service.cache_clear()`` discards it."""
    return LLMService()


def _whole(parts: Iterable[str]) -> str:
    """Join the parts and return the answer; a late closing tag may show that all before was reasoning."""
    text = "".join(parts)
    answer = split_reasoning(text).answer
    return text if answer == text.strip() else answer


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
        raise EmptyQuestionError("There is no message to answer. Pass at least one.")
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
                f"A message with role {role!r} can't be sent. Pass role (user, assistant or system) and text."
            )
        checked.append((_ROLES[role], content))
    return convert_to_messages(checked)
