"""``ChatOllama`` that is never cut in silence, waits for its turn, and keeps reasoning apart from its answer."""

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
from ecowas_lc.errors import InvalidInputError, ModelNotFoundError
from ecowas_lc.llm.faults import broken_off, named_errors
from ecowas_lc.llm.line import Patience, Turn, patience
from ecowas_lc.llm.reasoning import ReasoningSplitter
from ecowas_lc.llm.served import Facts, ServedModel, served_model, version_heeds_truncate
from ecowas_lc.llm.tokens import AROUND_A_PROMPT, Window, count_tools

_MOST_OVERESTIMATED = 1.65  # the estimate against what SmolLM2 counts; measured for languages, code and digits
_KEPT_HALF = 4  # tokens that Ollama keeps at the beginning of a prompt that it cuts in the middle
_NEAR = 8
_FAR_BELOW = 0.6  # of what this model counted for such text so far


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, ready to be sent: what Ollama's client is given, and what was counted."""

    served: ServedModel
    params: dict[str, Any]
    messages: Sequence[BaseMessage]
    extra: int
    num_ctx: int
    counted: int

    @property
    def surely(self) -> float:
        """The least that the prompt takes, as far as estimates go."""
        expected = self.served.calibration.expected(self.messages, self.extra)
        return self.counted / _MOST_OVERESTIMATED if expected is None else expected

    @property
    def may_not_fit(self) -> bool:
        return self.counted >= self.num_ctx

    def check(self) -> None:
        """Do nothing where the prompt may fit.

        Raises:
            ContextOverflowError: it surely doesn't; or it may not, and the server is not known to say so.
        """
        if self.surely >= self.num_ctx or (self.may_not_fit and not self.served.heeds_truncate):
            raise errors.ContextOverflowError(
                f"The prompt does not fit the model {self.served.name}: it takes about {self.counted} tokens, and "
                f"prompt and answer may take {self.num_ctx} together. Ask less at once, or raise num_ctx."
            )

    def check_count(self, told: int) -> None:
        """Compare what the server read with what was sent, and learn from it.

        Raises:
            ContextOverflowError: the server cut the prompt, although it was asked not to.
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
                f"{self.counted} tokens. Ask less at once, raise num_ctx, or update Ollama to a version that "
                "heeds truncate=false."
            )
        if not was_cut:
            self.served.calibration.learn(self.messages, told, self.extra)


class GuardedChatOllama(ChatOllama):
    """LangChain's ``ChatOllama`` with what Ollama leaves to its clients.

    - Every request names its context (``num_ctx``) and the most tokens of its answer (``num_predict``, by default
      a quarter of the context and at most 1,024), so that the model is not loaded again and every answer ends.
    - A prompt that does not fit raises :class:`~ecowas_lc.ContextOverflowError`, which is also LangChain's error
      of that name. The server is asked not to cut it (``truncate=False``) nor to forget its beginning while it
      answers (``shift=False``), and what it read is compared with what was sent.
    - Requests of one process wait for their turn here, as many at once as the server answers; time spent waiting
      does not count as time without an answer.
    - Reasoning goes to ``additional_kwargs["reasoning_content"]``, where ``content_blocks`` finds it, also where
      the model writes it into its answer between tags; earlier reasoning is not sent again.

    Everything else is ``ChatOllama``'s: ``GuardedChatOllama(model="qwen3:4b")`` takes its place.

    Args:
        truncate: whether Ollama may cut a prompt that does not fit.
        shift: whether Ollama may drop the beginning of the conversation to go on with an answer.
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
        """Return the model with a clock that stands still while its requests wait for their turn."""
        copy = self.model_copy()
        copy._patience = clock
        return copy

    def _clocks(self) -> tuple[Patience, ...]:
        """Return the clocks that stand still while a request waits: this model's own, and that of what asks it."""
        return tuple({clock: None for clock in (self._patience, patience.get()) if clock is not None})

    def context(self) -> int:
        """Return the tokens that a prompt and its answer may take together.

        Raises:
            ModelError: the server does not answer, or does not have the model.
        """
        return self._facts(self.served).context(self.num_ctx)

    async def acontext(self) -> int:
        """Return what :meth:`context` returns, without blocking the event loop."""
        return (await self._afacts(self.served)).context(self.num_ctx)

    def with_profile(self) -> Self:
        """Return the model with a ``profile`` that says how long a prompt may be, as its server tells.

        LangChain's ``SummarizationMiddleware(trigger=("fraction", 0.8))`` and deepagents go by it. A model with
        ``num_ctx`` has a profile from the start; for any other, the server must be asked.

        Raises:
            ModelError: the server does not answer, or does not have the model.
        """
        return self.model_copy(update={"profile": _profile(self.context(), self.num_predict)})

    async def awith_profile(self) -> Self:
        """Return what :meth:`with_profile` returns, without blocking the event loop."""
        return self.model_copy(update={"profile": _profile(await self.acontext(), self.num_predict)})

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        if model := kwargs.get("model"):  # of this call alone, which ChatOllama's traces do not tell
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
        """Return the request that these arguments make; nothing is sent."""
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
            # a model that reasons needs room for that as well
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
            message.pop("thinking", None)  # what the model thought before is no part of the conversation
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
        """Return what takes the reasoning out of the text of each chunk in turn."""
        if kwargs.get("format", self.format):
            return lambda chunk: chunk  # the server lets through nothing but JSON
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
    """Watches an answer for its last part."""

    request: _Request
    turn: Turn
    seen: _telemetry.Span
    said: str = ""
    waited: float | None = None
    worked: float = 0.0
    done: bool = False

    def take(self, part: Any) -> None:
        """Take note of a part.

        Raises:
            ContextOverflowError: the last one shows that the prompt was cut.
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
        """Do nothing where the last part has come.

        Raises:
            ModelServerUnavailableError: it has not: half an answer is none.
        """
        if not self.done:
            raise broken_off(self.request.served.name, safe_url(address))

    def learn(self) -> None:
        """Tell the line how long the server let the request wait."""
        self.turn.line.learn(self.turn, self.waited, self.worked)


def _seen(request: _Request, address: str) -> AbstractContextManager[_telemetry.Span]:
    """Give the span of a request, which a generator holds from its first part to its last."""
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
    """Forget what is known of a model that turns out to be gone."""
    try:
        yield
    except ollama.ResponseError as error:
        if error.status_code == 404:
            request.served.forget()
        raise
    except ModelNotFoundError:
        request.served.forget()
        raise


def _prepared(client: Any, request: _Request, turn: Turn) -> tuple[Any, dict[str, Any]]:
    """Return the client to call and what to call it with."""
    arguments = dict(request.params)
    more = {name: arguments.pop(name) for name in ("truncate", "shift")}
    if isinstance(client, _Guard):
        client = client.sending(more, turn.ahead)
    return client, arguments


class _Guard:
    """What both of Ollama's clients get: fields that their ``chat`` does not know, and time to wait in a line."""

    _client: Any
    _more: Mapping[str, Any]
    _ahead: int

    def sending(self, more: Mapping[str, Any], ahead: int) -> Self:
        """Return the client for one request, with further fields and so many other requests before it."""
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
    """Return Ollama's client with the guard; one of the user's own making stays as it is."""
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
    # a subclass of the user's keeps its own ways: ours come before ChatOllama's, and after its own
    return type(f"Guarded{kind.__name__}", (kind, GuardedChatOllama), {"__module__": kind.__module__})


def guarded(model: ChatOllama) -> GuardedChatOllama:
    """Return the model with the guard, sharing its connections; one that has it already comes back as it is."""
    if isinstance(model, GuardedChatOllama):
        return model
    kind = _guarded_kind(type(model))
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    made = kind.model_construct(_fields_set=set(model.model_fields_set), **fields)
    made._client, made._async_client = _guarded_client(model._client), _guarded_client(model._async_client)
    made._patience = None
    return made


def _profile(context: int, answer: int | None) -> ModelProfile:
    """Return a profile for a model with this context, of which an answer takes so many tokens."""
    taken = Window.of(context).answer if answer is None or answer < 0 else answer
    most = max(1, context - min(taken, context // 2))
    return {"max_input_tokens": most, "max_output_tokens": context - most}


def _longer(timeout: httpx.Timeout, ahead: int) -> httpx.Timeout:
    """Return a time-out that leaves time for the requests before this one."""
    read = None if timeout.read is None else timeout.read * (1 + ahead)
    return httpx.Timeout(connect=timeout.connect, read=read, write=timeout.write, pool=timeout.pool)


def version_of(model: GuardedChatOllama) -> Mapping[str, Any]:
    """Return what the model's server says of itself in ``/api/version``; nothing where it says nothing."""
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
    """Return a part of an answer with text, which some proxies replace by nothing."""
    message = part.get("message")
    if message is not None and message.get("content") is None:
        message.content = ""
    return part


async def _single(answer: Any) -> AsyncGenerator[Any]:
    yield answer


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
