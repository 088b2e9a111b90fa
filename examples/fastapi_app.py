"""The agents behind an HTTP API.

    pip install fastapi uvicorn
    uvicorn examples.fastapi_app:app

Then open http://127.0.0.1:8000/docs (Swagger UI, loaded from the web; /openapi.json works offline). The Redis
server and the model are those of your settings; keys start with `fastapi-example:`, unless you set
ECOWAS_LC_PREFIX. There is no login: add one before others can reach the API.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Annotated, Any
from weakref import WeakSet

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, Field

from ecowas_lc import (
    EcowasError,
    InvalidInputError,
    RedisMemoryService,
    SupervisorAgent,
    ThreadBusyError,
    create_supervisor,
    get_llm_service,
    get_redis_memory,
    get_router,
    get_settings,
    make_chat_model,
)

os.environ.setdefault("ECOWAS_LC_PREFIX", "fastapi-example")

LONGEST_BODY_BYTES = 16_384
LONGEST_PROMPT = 4_000  # characters
LONGEST_ANSWER = 800  # tokens
MOST_AT_ONCE = 8  # answers being made; those who come when all are taken are told to come again
SECONDS_FOR_AN_ANSWER = 180.0

_places = asyncio.Semaphore(MOST_AT_ONCE)

LONGEST_ID = 200  # characters


def usable(session_id: str) -> str:
    """A session's id is part of paths, where it may hold slashes; clients take `.` and `..` out of an address."""
    if not session_id.strip() or {".", ".."} & set(session_id.split("/")):
        raise ValueError("use something other than blanks, and no part that is . or ..")
    return session_id


Memory = Annotated[RedisMemoryService, Depends(get_redis_memory)]
SessionId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID), AfterValidator(usable)]
AGENT = Query(
    min_length=1,
    max_length=LONGEST_ID,
    description="Whose sessions: a group's id, or `supervisor` for the conversation as a whole.",
)


class AnyJSON(JSONResponse):
    """Carries whatever may be stored: lone surrogates are escaped, and what JSON has no number for is null."""

    def render(self, content: Any) -> bytes:
        return json.dumps(without_nan(content)).encode()


def without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Question(BaseModel):
    """What is asked, and in which session."""

    session_id: Annotated[str, Field(min_length=1, max_length=LONGEST_ID), AfterValidator(usable)]
    prompt: str = Field(min_length=1, max_length=LONGEST_PROMPT)
    group: str | None = Field(
        default=None, max_length=LONGEST_ID, description="Ask this group, whatever the question is about."
    )


class Answer(BaseModel):
    """The answer, and who was asked for it."""

    session_id: str
    answer: str
    groups: list[str]


class Problem(BaseModel):
    """What went wrong, and what to do."""

    detail: str
    error: str | None = Field(default=None, description="The name of the package's error, where it is one.")


class Extension(BaseModel):
    """For how many seconds from now a session is to live."""

    ttl: int = Field(ge=1, le=31_536_000)


def problems(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Responses for OpenAPI: ``problems(_404="…")``."""
    return {int(name[1:]): {"model": Problem, "description": text} for name, text in statuses.items()}


_supervisors: WeakSet[SupervisorAgent] = WeakSet()


@asynccontextmanager
async def stopping_between_steps(_: FastAPI) -> AsyncIterator[None]:
    """On SIGTERM, answers end with the step that is under way. It is stored, so that the turn can go on."""
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: Any) -> None:
        for supervisor in list(_supervisors):
            supervisor.drain("the server stops")
        if callable(before):
            before(number, frame)

    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        signal.signal(signal.SIGTERM, stop)
    yield
    if is_main:
        signal.signal(signal.SIGTERM, before)


app = FastAPI(
    lifespan=stopping_between_steps,
    title="ECOWAS working groups",
    summary="Chat with the supervisor and its working groups.",
    default_response_class=AnyJSON,
    responses=problems(_400="What was given can't be used.", _503="Redis or the model does not answer."),
)
UNKNOWN = problems(_404="There is no such session.")
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
BUSY = problems(_409="Another question of the session is being answered: ask again when it has been.")
LIMITS = BUSY | problems(_413="The body is too long.", _429="Too many questions at once: ask again shortly.")


# --- limits and errors ---


@app.middleware("http")
async def refuse_long_bodies(request: Request, call_next: Any) -> Any:
    length = request.headers.get("content-length")
    if request.method == "POST" and length is None:
        return JSONResponse({"detail": "Say how long the body is: Content-Length."}, 411)
    if length is not None and not (length.isdecimal() and int(length) <= LONGEST_BODY_BYTES):
        return JSONResponse({"detail": f"Send a body of at most {LONGEST_BODY_BYTES} bytes."}, 413)
    return await call_next(request)


@app.exception_handler(EcowasError)
async def tell(request: Request, error: EcowasError) -> JSONResponse:
    status = 400 if isinstance(error, InvalidInputError) else 503
    if isinstance(error, ThreadBusyError):  # another question of the session is being answered
        status = 409
    return AnyJSON({"detail": str(error), "error": type(error).__name__}, status)


@app.exception_handler(RequestValidationError)
async def tell_what_is_wrong(request: Request, error: RequestValidationError) -> JSONResponse:
    # FastAPI's own answer quotes the input, which may be what no answer can carry
    return AnyJSON(
        {"detail": [{key: each[key] for key in ("type", "loc", "msg")} for each in error.errors()]}, 422
    )


@asynccontextmanager
async def place() -> AsyncIterator[None]:
    """One of the places for answers, for a limited time."""
    if _places.locked():
        raise HTTPException(429, "Too many questions at once. Ask again shortly.", {"Retry-After": "5"})
    async with _places:
        try:
            async with asyncio.timeout(SECONDS_FOR_AN_ANSWER):
                yield
        except TimeoutError:
            raise HTTPException(504, f"No answer within {SECONDS_FOR_AN_ANSWER:g} s.") from None


# --- chat ---


@cache
def parts() -> dict[str, Any]:
    """What all sessions share: a model and a router."""
    settings = get_settings()
    model = make_chat_model(settings, num_predict=LONGEST_ANSWER)
    return {"model": model, "router": get_router(settings.router, model=model)}


def _supervisor(session_id: str) -> SupervisorAgent:
    return create_supervisor(session_id=session_id, use_redis=True, on_busy="refuse", **parts())


async def supervisor_of(session_id: str) -> SupervisorAgent:
    """A session's supervisor; making one reads from Redis, so a thread does it."""
    supervisor = await asyncio.to_thread(_supervisor, session_id)
    _supervisors.add(supervisor)
    return supervisor


@app.post("/chat", responses=LIMITS | problems(_504="No answer in time."))
async def chat(question: Question) -> Answer:
    """The answer, when it is complete."""
    async with place():
        supervisor = await supervisor_of(question.session_id)
        if question.group is None:
            answer = await supervisor.asmart_chat(question.prompt)
        else:
            answer = await supervisor.adelegate_to_agent(question.group, question.prompt)
    decision = (await supervisor.aget_supervisor_status())["last_decision"]
    return Answer(session_id=question.session_id, answer=answer, groups=decision["groups"])


@app.post(
    "/chat/stream",
    response_class=StreamingResponse,
    responses=LIMITS | EVENTS,
)
async def chat_stream(question: Question) -> StreamingResponse:
    """The answer as it is made: server-sent events `text`, then `done`, or `error`."""
    if _places.locked():  # told by a status, which can't be sent any more once the stream has begun
        raise HTTPException(429, "Too many questions at once. Ask again shortly.", {"Retry-After": "5"})
    supervisor = await supervisor_of(question.session_id)
    answer = supervisor.astream(question.prompt)

    async def events() -> AsyncIterator[str]:
        try:
            async with place():
                async for text in answer:
                    yield event("text", text)
            decision = (await supervisor.aget_supervisor_status())["last_decision"]
            yield event("done", decision["groups"])
        except (EcowasError, HTTPException) as error:
            yield event("error", error.detail if isinstance(error, HTTPException) else str(error))

    return StreamingResponse(events(), media_type="text/event-stream")


def event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


# --- sessions ---


@app.get("/sessions")
def sessions(
    memory: Memory,
    agent: Annotated[str, AGENT] = "supervisor",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[dict[str, Any]]:
    """An agent's sessions, most recently active first."""
    return [described(info) for info in memory.get_session_infos(agent)[:limit]]


@app.get("/sessions/{session_id:path}", responses=UNKNOWN)
def show(memory: Memory, session_id: SessionId, agent: Annotated[str, AGENT] = "supervisor") -> dict[str, Any]:
    """A session: who spoke in it, how long it lives, and what was said."""
    info = memory.get_session_info(agent, session_id)
    if info is None:
        raise HTTPException(404, "There is no such session.")
    return {
        **described(info),
        "agents": memory.get_all_agents_for_session(session_id),
        "history": memory.get_conversation_history(agent, session_id),
    }


@app.post("/sessions/{session_id:path}/extend", responses=UNKNOWN)
def extend(memory: Memory, session_id: SessionId, extension: Extension) -> dict[str, Any]:
    """Let a session live on."""
    agents = memory.get_all_agents_for_session(session_id)
    renewed = [memory.extend_ttl(agent, session_id, extension.ttl) for agent in agents]
    if not any(renewed):
        raise HTTPException(404, "There is no such session.")
    return {"session_id": session_id, "ttl": extension.ttl, "agents": agents}


@app.delete("/sessions/{session_id:path}", status_code=204)
async def clear(memory: Memory, session_id: SessionId) -> None:
    """Forget a session: its histories, its thread and its data."""
    await (await supervisor_of(session_id)).areset_history()
    await asyncio.to_thread(memory.clear_session, session_id)


def described(info: Any) -> dict[str, Any]:
    return {
        "agent_id": info.agent_id,
        "session_id": info.session_id,
        "messages": info.messages,
        "ttl": info.ttl_seconds,
        "first_activity": info.first_activity,
        "last_activity": info.last_activity,
    }


# --- the service itself ---


@app.get("/health")
def health(memory: Memory) -> JSONResponse:
    """200 when both Redis and the model answer, else 503; which of them does not."""
    found = {"redis": memory.health_check(), "model": get_llm_service().health_check()}
    return JSONResponse(found, 200 if all(found.values()) else 503)


@app.get("/stats")
def stats(memory: Memory) -> dict[str, Any]:
    """What the server holds."""
    return memory.get_memory_stats()
