"""A ``ChatOllama`` whose prompts are never silently cut, whose requests queue, and which separates reasoning."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import ollama
from langchain_core.language_models import LangSmithParams, ModelProfile
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_ollama import ChatOllama
from pydantic import PrivateAttr, model_validator

from ecowas_lc import _telemetry, errors
from ecowas_lc._secret import safe_url
from ecowas_lc.effects import aserve, serve
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.llm.faults import broken_off, named_errors
from ecowas_lc.llm.reasoning import ReasoningSplitter
from ecowas_lc.llm.request_queue import Patience, QueuedRequest, patience
from ecowas_lc.llm.served import Facts, ServedModel, served_model, version_heeds_truncate
from ecowas_lc.llm.tokens import AROUND_A_PROMPT, Window, count_tools

_MOST_OVERESTIMATED = 1.65  # ratio of the estimate to SmolLM2's count, measured for languages, code and digits
_KEPT_HALF = 4  # tokens that Ollama keeps at the start of a prompt that it cuts in the middle
_NEAR = 8
_FAR_BELOW = 0.6  # share of this model's usual count for such text


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that is ready to be sent: the arguments for Ollama's client, and the token counts."""

    served: ServedModel
    params: dict[str, Any]
    messages: Sequence[BaseMessage]
    extra: int
    num_ctx: int
    counted: int

    @property
    def surely(self) -> float:
        """The smallest number of tokens that the prompt can take, according to the estimate."""
        expected = self.served.calibration.expected(self.messages, self.extra)
        return self.counted / _MOST_OVERESTIMATED if expected is None else expected

    @property
    def may_not_fit(self) -> bool:
        return self.counted >= self.num_ctx

    def check(self) -> None:
        """Raise an error if the prompt does not fit.

        Raises:
            ContextOverflowError: The prompt certainly does not fit; or it may not fit, and the server is not known
                to report that.
        """
        if self.surely >= self.num_ctx or (self.may_not_fit and not self.served.heeds_truncate):
            raise errors.ContextOverflowError(
                f"The prompt does not fit the model {self.served.name}: it takes about {self.counted} tokens, and "
                f"prompt and answer may take {self.num_ctx} together. Shorten the prompt, or raise num_ctx."
            )

    def check_count(self, told: int) -> None:
        """Compare the number of tokens that the server read with what was sent, and calibrate the estimate.

        Raises:
            ContextOverflowError: The server cut the prompt although it was asked not to.
        """
        expected = self.served.calibration.expected(self.messages, self.extra)
        half = self.num_ctx - (self.num_ctx - _KEPT_HALF) // 2
        was_cut = (
            told >= self.num_ctx
            or (self.counted >= 0.8 * self.num_ctx and abs(told - half) <= _NEAR)
            or (expected is not None and expected >= half and told < _FAR_BELOW * expected)
        )
        if was_cut and self.params.get("truncate") is not True:
            raise errors.ContextOverflowError(
                f"The server cut the prompt for the model {self.served.name}: it read {told} of about "
                f"{self.counted} tokens. Shorten the prompt, raise num_ctx, or update Ollama to a version that "
                "heeds truncate=false."
            )
        if not was_cut:
            self.served.calibration.learn(self.messages, told, self.extra)


class GuardedChatOllama(ChatOllama):
    """LangChain's ``ChatOllama`` with the safeguards that Ollama leaves to its clients.

    - Every request states its context (``num_ctx``) and the maximum length of its answer (``num_predict``, by
      default a quarter of the context and at most 1,024 tokens), so the model is not reloaded and every answer
      ends.
    - A prompt that does not fit raises :class:`~ecowas_lc.ContextOverflowError`, which is also LangChain's error
      of that name. The server is asked not to cut the prompt (``truncate=False``) nor to drop its beginning while
      it answers (``shift=False``), and the number of tokens that it read is compared with what was sent.
    - Requests of one process queue here, and as many run at once as the server answers at once; time in the queue
      does not count towards the timeout.
    - Reasoning goes to ``additional_kwargs["reasoning_content"]``, where ``content_blocks`` finds it, also if the
      model writes it between tags in its answer; earlier reasoning is not sent again.

    In all other respects it is a ``ChatOllama``: use ``GuardedChatOllama(model="qwen3:4b")`` in its place.

    Attributes:
        truncate: Whether Ollama may cut a prompt that does not fit.
        shift: Whether Ollama may drop the beginning of the conversation to continue an answer.
    """

    truncate: bool = False
    shift: bool = False
    _patience: Patience | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _set_clients(self) -> Self:
        made: Self = super()._set_clients()  # type: ignore[operator]
        made._client = _guarded_client(made._client)
        made._async_client = _guarded_client(made._async_client)
        return made

    @property
    def served(self) -> ServedModel:
        """What this process knows of the model on its server."""
        return served_model(self.address, self.model)

    @property
    def address(self) -> str:
        """The server's address."""
        inner = getattr(self._client, "_client", None)
        return str(getattr(inner, "base_url", None) or self.base_url or "")

    def with_patience(self, clock: Patience) -> Self:
        """Return a copy of the model with a clock that is paused while its requests wait in the queue.

        Args:
            clock: The clock of the caller that waits for the answer, such as a group with a time limit.
        """
        copy = self.model_copy()
        copy._patience = clock
        return copy

    def _clocks(self) -> tuple[Patience, ...]:
        """Return the clocks that are paused while a request waits: the model's own, and that of its caller."""
        return tuple({clock: None for clock in (self._patience, patience.get()) if clock is not None})

    def context(self) -> int:
        """Return the number of tokens that a prompt and its answer may take together.

        Raises:
            ModelError: The server does not answer, or does not have the model.
        """
        return self._facts(self.served).context(self.num_ctx)

    async def acontext(self) -> int:
        """Return what :meth:`context` returns, without blocking the event loop."""
        return (await self._afacts(self.served)).context(self.num_ctx)

    def with_profile(self) -> Self:
        """Return a copy of the model with a ``profile`` that states the maximum length of a prompt.

        LangChain's ``SummarizationMiddleware(trigger=("fraction", 0.8))`` and deepagents use the profile. A model
        with ``num_ctx`` has a profile from the start; for any other model, the server must be asked.

        Raises:
            ModelError: The server does not answer, or does not have the model.
        """
        return self.model_copy(update={"profile": _profile(self.context(), self.num_predict)})

    async def awith_profile(self) -> Self:
        """Return what :meth:`with_profile` returns, without blocking the event loop."""
        return self.model_copy(update={"profile": _profile(await self.acontext(), self.num_predict)})

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        if model := kwargs.get("model"):  # set for this call only, which ChatOllama's traces do not show
            params["ls_model_name"] = str(model)
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        return _profile(self.num_ctx, self.num_predict) if self.num_ctx else None

    def _facts(self, served: ServedModel) -> Facts:
        def call(asked: tuple[str, Mapping[str, Any]]) -> Any:
            method, arguments = asked
            with named_errors(self):
                return getattr(self._client, method)(**arguments)

        return serve(served.ask_facts(), call)

    async def _afacts(self, served: ServedModel) -> Facts:
        async def call(asked: tuple[str, Mapping[str, Any]]) -> Any:
            method, arguments = asked
            with named_errors(self):
                return await getattr(self._async_client, method)(**arguments)

        return await aserve(served.ask_facts(), call)

    def _request(
        self, facts: Facts, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> _Request:
        """Build the request for these arguments, without sending it."""
        truncate, shift = kwargs.pop("truncate", self.truncate), kwargs.pop("shift", self.shift)
        try:
            params = self._chat_params(messages, stop, **kwargs)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"This can't be sent to the model {self.model}: {error}") from error
        served = served_model(self.address, str(params["model"]))
        options = dict(params["options"] or {})
        num_ctx = facts.context(_whole(options.get("num_ctx")))
        asked = _whole(options.get("num_predict"))
        if asked is None:
            # A model that reasons also needs room for its reasoning.
            asked = num_ctx // 2 if params.get("think") else Window.of(num_ctx).answer
        options |= {"num_ctx": num_ctx, "num_predict": min(asked, num_ctx)}
        params |= {"options": options, "truncate": truncate, "shift": shift}
        extra = count_tools(params.get("tools") or ())
        counted = served.calibration.count(messages, extra) + AROUND_A_PROMPT
        return _Request(served, params, messages, extra, num_ctx, counted)

    def _chat_params(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        params = super()._chat_params(messages, stop, **kwargs)
        for message in params["messages"]:
            message.pop("thinking", None)  # earlier reasoning is not part of the conversation
        return params

    def _create_chat_stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Iterator[Mapping[str, Any] | str]:
        served = served_model(self.address, str(kwargs.get("model") or self.model))
        request = self._request(self._facts(served), messages, stop, kwargs)
        if request.may_not_fit and request.served.heeds_truncate is None:
            with named_errors(self):
                request.served.heeds_truncate = version_heeds_truncate(_version(self._client))
        request.check()
        with (
            _seen(request, self.address) as seen,
            named_errors(self),
            _following(request),
            request.served.line.held(*self._clocks()) as turn,
        ):
            ending = _Ending(request, turn, seen)
            try:
                client, arguments = _prepared(self._client, request, turn)
                answer = client.chat(**arguments)
                for part in answer if arguments["stream"] else [answer]:
                    ending.take(part)
                    turn.handed()
                    yield _with_text(part)
                    turn.taken()
                ending.check_done(self.address)
            finally:
                ending.learn()

    async def _acreate_chat_stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncIterator[Mapping[str, Any] | str]:
        served = served_model(self.address, str(kwargs.get("model") or self.model))
        request = self._request(await self._afacts(served), messages, stop, kwargs)
        if request.may_not_fit and request.served.heeds_truncate is None:
            with named_errors(self):
                request.served.heeds_truncate = version_heeds_truncate(await _aversion(self._async_client))
        request.check()
        with _seen(request, self.address) as seen, named_errors(self), _following(request):
            async with request.served.line.aheld(*self._clocks()) as turn:
                ending = _Ending(request, turn, seen)
                try:
                    client, arguments = _prepared(self._async_client, request, turn)
                    answer = await client.chat(**arguments)
                    async for part in answer if arguments["stream"] else _single(answer):
                        ending.take(part)
                        turn.handed()
                        yield _with_text(part)
                        turn.taken()
                    ending.check_done(self.address)
                finally:
                    ending.learn()

    def _iterate_over_stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        apart = self._reasoning_apart(kwargs)
        for chunk in super()._iterate_over_stream(messages, stop, **kwargs):
            yield apart(chunk)

    async def _aiterate_over_stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        apart = self._reasoning_apart(kwargs)
        async for chunk in super()._aiterate_over_stream(messages, stop, **kwargs):
            yield apart(chunk)

    def _reasoning_apart(self, kwargs: Mapping[str, Any]) -> Callable[[ChatGenerationChunk], ChatGenerationChunk]:
        """Return a function that moves the reasoning out of each chunk's text."""
        if kwargs.get("format", self.format):
            return lambda chunk: chunk  # the server guarantees JSON output
        splitter = ReasoningSplitter()

        def apart(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
            message = chunk.message
            assert isinstance(message, AIMessageChunk)
            text = str(message.content)
            answer, reasoning = splitter.take(text)
            if (chunk.generation_info or {}).get("done"):
                rest = splitter.end()
                answer, reasoning = answer + rest.answer, reasoning + rest.reasoning
            if answer == text and not reasoning:
                return chunk
            told = message.additional_kwargs.get("reasoning_content", "") + reasoning
            more = {"reasoning_content": told} if told else {}
            changed = message.model_copy(
                update={"content": answer, "additional_kwargs": message.additional_kwargs | more}
            )
            return ChatGenerationChunk(message=changed, generation_info=chunk.generation_info)

        return apart


@dataclass(slots=True)
class _Ending:
    """Watches for the last part of an answer."""

    request: _Request
    turn: QueuedRequest
    seen: _telemetry.Span
    said: str = ""
    waited: float | None = None
    worked: float = 0.0
    done: bool = False

    def take(self, part: Any) -> None:
        """Process a part of the answer.

        Raises:
            ContextOverflowError: The last part shows that the prompt was cut.
        """
        if _telemetry.keeps_content():
            self.said += (part.get("message") or {}).get("content") or ""
        if not part.get("done"):
            self.turn.heard()
            return
        if self.turn.heard_at is None:
            self.turn.heard()
        self.done = True
        self.seen.set(
            gen_ai__usage__input_tokens=part.get("prompt_eval_count"),
            gen_ai__usage__output_tokens=part.get("eval_count"),
            gen_ai__response__model=part.get("model"),
            gen_ai__response__finish_reasons=[str(part.get("done_reason") or "stop")],
        )
        self.seen.set_content(
            gen_ai__input__messages=[{"role": one.type, "content": one.text} for one in self.request.messages],
            gen_ai__output__messages=[{"role": "assistant", "content": self.said}],
        )
        durations = [part.get(f"{name}_duration") for name in ("total", "load", "prompt_eval", "eval")]
        if durations[0]:
            total, *parts = (int(duration or 0) for duration in durations)
            self.waited = max(total - sum(parts), 0) / 1e9
            self.worked = sum(parts) / 1e9
        if told := part.get("prompt_eval_count"):
            self.request.check_count(int(told))

    def check_done(self, address: str) -> None:
        """Raise an error unless the last part has arrived.

        Raises:
            ModelServerUnavailableError: The answer is incomplete.
        """
        if not self.done:
            raise broken_off(self.request.served.name, safe_url(address))

    def learn(self) -> None:
        """Tell the queue how long the server let the request wait."""
        self.turn.line.learn(self.turn, self.waited, self.worked)


def _seen(request: _Request, address: str) -> AbstractContextManager[_telemetry.Span]:
    """Return the span of a request, which a generator keeps open from the first part to the last."""
    if not _telemetry.is_watched():
        return _telemetry.UNWATCHED
    options, where = request.params["options"], urlsplit(address)
    return _telemetry.span(
        "model",
        f"chat {request.served.name}",
        current=False,
        client=True,
        gen_ai__operation__name="chat",
        gen_ai__provider__name="ollama",
        gen_ai__request__model=request.served.name,
        gen_ai__request__max_tokens=options["num_predict"],
        gen_ai__request__temperature=options.get("temperature"),
        server__address=where.hostname,
        server__port=where.port,
        ecowas__num_ctx=options["num_ctx"],
    )


@contextmanager
def _following(request: _Request) -> Generator[None]:
    """Discard what is known of a model if the server no longer has it."""
    try:
        yield
    except ollama.ResponseError as error:
        if error.status_code == 404:
            request.served.forget()
        raise


def _prepared(client: Any, request: _Request, turn: QueuedRequest) -> tuple[Any, dict[str, Any]]:
    """Return the client to call and the arguments for the call."""
    arguments = dict(request.params)
    more = {name: arguments.pop(name) for name in ("truncate", "shift")}
    if isinstance(client, _Guard):
        client = client.sending(more, turn.ahead)
    return client, arguments


class _Guard:
    """Mixin for both of Ollama's clients: fields that ``chat`` does not support, and time to wait in a queue."""

    _client: Any
    _more: Mapping[str, Any]
    _ahead: int

    def sending(self, more: Mapping[str, Any], ahead: int) -> Self:
        """Return a client for one request, with extra fields and a timeout for ``ahead`` earlier requests."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._more, copy._ahead = more, ahead
        return copy

    def _request(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        if "/api/chat" in args and isinstance(kwargs.get("json"), dict):
            kwargs["json"] = {**kwargs["json"], **getattr(self, "_more", {})}
            if ahead := getattr(self, "_ahead", 0):
                kwargs["timeout"] = _longer(self._client.timeout, ahead)
        return super()._request(cls, *args, **kwargs)  # type: ignore[misc]


class _GuardedClient(_Guard, ollama.Client):
    pass


class _GuardedAsyncClient(_Guard, ollama.AsyncClient):
    pass


def _guarded_client(client: Any) -> Any:
    """Return Ollama's client with the guard; return a client that the user made unchanged."""
    kinds = {ollama.Client: _GuardedClient, ollama.AsyncClient: _GuardedAsyncClient}
    kind = kinds.get(type(client))
    if kind is None:
        return client
    guarded = object.__new__(kind)
    guarded.__dict__.update(client.__dict__)
    return guarded


@cache
def _guarded_kind(kind: type[ChatOllama]) -> type[GuardedChatOllama]:
    if kind is ChatOllama:
        return GuardedChatOllama
    # A user's subclass keeps its behaviour: our class comes before ChatOllama's and after the subclass.
    return type(f"Guarded{kind.__name__}", (kind, GuardedChatOllama), {"__module__": kind.__module__})


def guarded(model: ChatOllama) -> GuardedChatOllama:
    """Return the model with the guard, sharing its connections; a guarded model is returned unchanged."""
    if isinstance(model, GuardedChatOllama):
        return model
    kind = _guarded_kind(type(model))
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    made = kind.model_construct(_fields_set=set(model.model_fields_set), **fields)
    made._client, made._async_client = _guarded_client(model._client), _guarded_client(model._async_client)
    made._patience = None
    return made


def _profile(context: int, answer: int | None) -> ModelProfile:
    """Return a profile for a model with this context, reserving ``answer`` tokens for the answer."""
    taken = Window.of(context).answer if answer is None or answer < 0 else answer
    most = max(1, context - min(taken, context // 2))
    return {"max_input_tokens": most, "max_output_tokens": context - most}


def _longer(timeout: httpx.Timeout, ahead: int) -> httpx.Timeout:
    """Return a timeout that leaves time for the requests ahead of this one."""
    read = None if timeout.read is None else timeout.read * (1 + ahead)
    return httpx.Timeout(connect=timeout.connect, read=read, write=timeout.write, pool=timeout.pool)


def version_of(model: GuardedChatOllama) -> Mapping[str, Any]:
    """Return the reply of the model's server to ``/api/version``, or an empty mapping if there is none."""
    try:
        return _version(model._client)
    except httpx.HTTPError:
        return {}


def _version(client: Any) -> Mapping[str, Any]:
    inner = getattr(client, "_client", None)
    if inner is None:
        return {}
    return _version_in(inner.get("/api/version"))


async def _aversion(client: Any) -> Mapping[str, Any]:
    inner = getattr(client, "_client", None)
    if inner is None:
        return {}
    return _version_in(await inner.get("/api/version"))


def _version_in(response: httpx.Response) -> Mapping[str, Any]:
    try:
        told = response.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _with_text(part: Any) -> Any:
    """Return a part of an answer with text; some proxies replace the text with null."""
    message = part.get("message")
    if message is not None and message.get("content") is None:
        message.content = ""
    return part


async def _single(answer: Any) -> AsyncGenerator[Any]:
    yield answer


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
