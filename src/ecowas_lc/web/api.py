"""The JSON API: each function is a thin shell around a method of the service.

:mod:`ecowas_lc.web.permissions` lists the permission that each route requires, by the function's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Body, File, Form, Header, Path, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ecowas_lc.errors import EcowasError, InvalidInputError
from ecowas_lc.web.middleware import COOKIE, principal_in, sender_of, set_cookie, too_many
from ecowas_lc.web.problems import PROBLEM, problem
from ecowas_lc.web.runs import Run, RunEvent
from ecowas_lc.web.service import LONGEST_ID, LONGEST_QUESTION

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web
    from ecowas_lc.web.service import Service

_BEAT = ": still there\n\n"
_DECIDED_SECONDS = 20.0


class AnyJSON(JSONResponse):
    """A JSON response for any stored value: lone surrogates are escaped, and NaN and infinities become null."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(_finite(content)).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- requests ---


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
Groups = Annotated[list[Id], Field(max_length=50)]
OnBusyField = Annotated[
    Literal["refuse", "queue"] | None,
    Field(
        description="What to do while another run of the session is in progress. Default: the service's setting."
    ),
]


class Question(_Strict):
    """A question, and the session to ask it in."""

    question: str = Field(min_length=1, max_length=LONGEST_QUESTION)
    session: Id | None = Field(default=None, description="The session to continue. Default: a new one.")
    groups: Groups = Field(default_factory=list, description="Groups to ask, whatever the question is.")
    on_busy: OnBusyField = None


class Sessions(_Strict):
    """The sessions to act on."""

    sessions: list[Id] = Field(min_length=1, max_length=500)


class Extension(_Strict):
    """The new time to live of a session, in seconds from now."""

    ttl_seconds: int | None = Field(default=None, ge=1, le=31_536_000)


class Extensions(Sessions, Extension):
    """The new time to live of several sessions, in seconds from now."""


class Checkpoint(_Strict):
    """A checkpoint of a thread."""

    checkpoint: Id


class Again(_Strict):
    """The question to answer again: its id, or the id of its answer. Default: the last question."""

    message: Id | None = None
    on_busy: OnBusyField = None


class Edited(_Strict):
    """The new text of a question."""

    message: Id
    question: str = Field(min_length=1, max_length=LONGEST_QUESTION)
    on_busy: OnBusyField = None


class Draft(_Strict):
    """A waiting draft, and its session."""

    session: Id
    draft: Id
    digest: str | None = Field(
        default=None,
        max_length=LONGEST_ID,
        description="The draft's digest from the list. If the draft has changed, the decision is refused.",
    )


class EditedDraft(Draft):
    """The text that replaces a draft."""

    text: str = Field(min_length=1, max_length=100_000)


class RejectedDraft(Draft):
    """The reason for rejecting a draft."""

    reason: str = Field(default="", max_length=2_000)


class SignInKey(_Strict):
    """An API key to sign in with."""

    key: str = Field(min_length=1, max_length=LONGEST_ID)


# --- responses ---


class Problem(BaseModel):
    """An error and how to fix it (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    error: str | None = Field(default=None, description="The class of the error, if it is one of ecowas_lc.")


class RunView(BaseModel):
    """A run and its status."""

    run: str
    session: str
    kind: str
    by: str
    status: str = Field(description="running, done, waiting (for a reviewer), failed or cancelled")
    began: float
    attempt: int


class Answer(BaseModel):
    """A complete answer."""

    run: str
    session: str
    status: str
    answer: str | None
    speaker: str | None = None
    groups: list[str]
    message: dict[str, Any] | None = None
    waiting: list[dict[str, Any]] = Field(default_factory=list)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses with these statuses, for OpenAPI."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": "A problem: see its detail.", "model": Problem, "content": content}
        for status in statuses
    }


_ALWAYS = (400, 401, 403, 413, 422, 429, 503)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
SessionPath = Annotated[str, Path(min_length=1, max_length=LONGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=500)]
CheckpointQuery = Annotated[str | None, Query(min_length=1, max_length=LONGEST_ID)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]


def sse(event: RunEvent) -> str:
    """Return an event in the format of server-sent events."""
    return f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(event.data)}\n\n"


def add_api(router: APIRouter, web: Web) -> None:
    """Add the API's routes to a router with guarded routes."""

    def service_of(request: Request) -> Service:
        return web.service_for(principal_in(request))

    def started(run: Run) -> AnyJSON:
        where = f"{web.path}/api/runs/{run.id}"
        return AnyJSON({**run.as_json(), "events": f"{where}/events"}, 202, headers={"Location": where})

    def streamed(service: Service, run: Run, after: str) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield "retry: 1000\n\n"
            try:
                async with aclosing(service.events(run, after)) as events:
                    async for event in events:
                        yield _BEAT if event is None else sse(event)
            except EcowasError as error:
                yield f"event: problem\ndata: {json.dumps({'detail': str(error)})}\n\n"

        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)

    def asked_too_often(request: Request) -> Response | None:
        by = principal_in(request)
        wait = web.questions.wait_seconds(f"{by.prefix}:{by.name}")
        return too_many(wait) if wait > 0 else None

    # --- signing in ---

    @router.post("/api/sign-in", tags=["access"], responses=problems(*_ALWAYS), status_code=204)
    async def use_key(request: Request, given: SignInKey) -> Response:
        """Sign in with an API key. This sets the cookie that the pages use."""
        wait = web.sign_ins.wait_seconds(sender_of(web, request))
        if wait > 0:
            return too_many(wait)
        owner = await web.access.of_key(given.key)
        if owner is None:
            return problem(401, "This key is unknown. Check it, or ask an administrator for another one.")
        response = Response(status_code=204)
        set_cookie(web, request, response, await web.access.signed_in(owner))
        await web.service_for(owner).note(owner, "sign in")
        return response

    @router.post("/api/sign-out", tags=["access"], responses=problems(*_ALWAYS), status_code=204)
    async def sign_out(request: Request) -> Response:
        """Sign out. The cookie is no longer valid."""
        if cookie := request.cookies.get(COOKIE):
            await web.access.sign_out(cookie)
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/")
        return response

    @router.get("/api/me", tags=["access"], responses=problems(*_ALWAYS))
    async def me(request: Request) -> AnyJSON:
        """Return your name, your permissions, and the token that a browser must send with changes."""
        by = principal_in(request)
        return AnyJSON({**by.as_json(), "how": by.how, "csrf_token": by.csrf})

    @router.get("/api/groups", tags=["chat"], responses=problems(*_ALWAYS))
    async def groups(request: Request) -> AnyJSON:
        """Return the working groups, and whether you may ask each of them."""
        by = principal_in(request)
        found = web.service_for(by).organisation.groups.values()
        return AnyJSON(
            [
                {
                    "group": each.id,
                    "name": each.name,
                    "description": each.description,
                    "yours": by.may_use([each.id]),
                }
                for each in found
            ]
        )

    # --- chat and runs ---

    @router.post("/api/chat", tags=["chat"], response_model=Answer, responses=problems(*_ALWAYS, 404, 409, 502))
    async def chat(request: Request, given: Question) -> Response:
        """Ask a question and wait for the complete answer. The run continues if you disconnect."""
        if (refusal := asked_too_often(request)) is not None:
            return refusal
        service, by = service_of(request), principal_in(request)
        run = await service.ask(
            by, given.question, session=given.session, groups=given.groups, on_busy=given.on_busy
        )
        return await _whole(service, run)

    @router.post("/api/chat/stream", tags=["chat"], responses=_STREAM | problems(*_ALWAYS, 404, 409))
    async def chat_stream(request: Request, given: Question) -> Response:
        """Ask a question and receive its events as they happen. To resume, call `GET /api/runs/{run}/events`."""
        if (refusal := asked_too_often(request)) is not None:
            return refusal
        service, by = service_of(request), principal_in(request)
        run = await service.ask(
            by, given.question, session=given.session, groups=given.groups, on_busy=given.on_busy
        )
        return streamed(service, run, "0-0")

    @router.post(
        "/api/runs", tags=["runs"], status_code=202, response_model=RunView, responses=problems(*_ALWAYS, 404, 409)
    )
    async def start_run(request: Request, given: Question) -> Response:
        """Ask a question and return immediately. To follow the run, read its events."""
        if (refusal := asked_too_often(request)) is not None:
            return refusal
        service, by = service_of(request), principal_in(request)
        run = await service.ask(
            by, given.question, session=given.session, groups=given.groups, on_busy=given.on_busy
        )
        return started(run)

    @router.get("/api/runs", tags=["runs"], response_model=list[RunView], responses=problems(*_ALWAYS, 404))
    async def list_runs(
        request: Request, session: Annotated[str, Query(min_length=1, max_length=LONGEST_ID)]
    ) -> AnyJSON:
        """Return a session's runs that are running or queued."""
        runs = await service_of(request).runs(principal_in(request), session)
        return AnyJSON([run.as_json() for run in runs])

    @router.get("/api/runs/{run}", tags=["runs"], response_model=RunView, responses=problems(*_ALWAYS, 404))
    async def show_run(request: Request, run: SessionPath) -> AnyJSON:
        """Return a run and its status."""
        return AnyJSON((await service_of(request).run(principal_in(request), run)).as_json())

    @router.get("/api/runs/{run}/events", tags=["runs"], responses=_STREAM | problems(*_ALWAYS, 404))
    async def run_events(
        request: Request,
        run: SessionPath,
        last_event_id: Annotated[str | None, Header()] = None,
        after: Annotated[str | None, Query(max_length=LONGEST_ID)] = None,
    ) -> Response:
        """Return a run's events after `Last-Event-ID` (or `after`), as they happen."""
        service = service_of(request)
        found = await service.run(principal_in(request), run)
        place = last_event_id or after or "0-0"
        service.events(found, place)  # checks the id before the stream starts
        return streamed(service, found, place)

    @router.post("/api/runs/{run}/cancel", tags=["runs"], responses=problems(*_ALWAYS, 404))
    async def cancel_run(request: Request, run: SessionPath) -> AnyJSON:
        """Cancel a run. The text written so far is kept in its thread."""
        how = await service_of(request).cancel(principal_in(request), run)
        return AnyJSON({"run": run, "status": "cancelling" if how == "asked" else how}, 202)

    # --- sessions ---

    @router.get("/api/sessions", tags=["sessions"], responses=problems(*_ALWAYS))
    async def list_sessions(
        request: Request,
        search: Annotated[str, Query(max_length=LONGEST_ID)] = "",
        active_seconds: Annotated[int | None, Query(ge=0, le=10**9)] = None,
        idle_seconds: Annotated[int | None, Query(ge=0, le=10**9)] = None,
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> AnyJSON:
        """Return sessions, most recently active first: your own, or all sessions if you are an admin."""
        found = await service_of(request).sessions(
            principal_in(request),
            search=search,
            active_seconds=active_seconds,
            idle_seconds=idle_seconds,
            limit=limit,
            offset=offset,
        )
        return AnyJSON(found)

    @router.post("/api/sessions/extend", tags=["sessions"], responses=problems(*_ALWAYS, 404))
    async def extend_sessions(request: Request, given: Extensions) -> AnyJSON:
        """Extend the time to live of sessions."""
        found = await service_of(request).extend(principal_in(request), given.sessions, given.ttl_seconds)
        return AnyJSON({"extended": found})

    @router.post("/api/sessions/clear", tags=["sessions"], responses=problems(*_ALWAYS, 404))
    async def clear_sessions(request: Request, given: Sessions) -> AnyJSON:
        """Delete sessions with their threads, histories, data and runs."""
        return AnyJSON({"cleared": await service_of(request).clear(principal_in(request), given.sessions)})

    @router.post("/api/sessions/{session:path}/extend", tags=["sessions"], responses=problems(*_ALWAYS, 404))
    async def extend_session(
        request: Request, session: SessionPath, given: Annotated[Extension | None, Body()] = None
    ) -> AnyJSON:
        """Extend a session's time to live."""
        ttl = given.ttl_seconds if given is not None else None
        return AnyJSON({"extended": await service_of(request).extend(principal_in(request), [session], ttl)})

    @router.get("/api/sessions/{session:path}", tags=["sessions"], responses=problems(*_ALWAYS, 404))
    async def show_session(
        request: Request,
        session: SessionPath,
        limit: Limit = 100,
        before: Annotated[int | None, Query(ge=0, le=10**9)] = None,
    ) -> AnyJSON:
        """Return a session: its latest messages, its open runs and drafts, and its time to live."""
        found = await service_of(request).session(principal_in(request), session, limit=limit, before=before)
        return AnyJSON(found)

    @router.delete("/api/sessions/{session:path}", tags=["sessions"], responses=problems(*_ALWAYS, 404))
    async def clear_session(request: Request, session: SessionPath) -> AnyJSON:
        """Delete a session with its thread, histories, data and runs."""
        return AnyJSON({"cleared": await service_of(request).clear(principal_in(request), [session])})

    # --- threads ---

    @router.get("/api/threads", tags=["threads"], responses=problems(*_ALWAYS))
    async def list_threads(request: Request, limit: Limit = 50, offset: Offset = 0) -> AnyJSON:
        """Return threads, most recently written first."""
        return AnyJSON(await service_of(request).threads(principal_in(request), limit=limit, offset=offset))

    @router.get("/api/threads/{thread:path}/state", tags=["threads"], responses=problems(*_ALWAYS, 404))
    async def thread_state(request: Request, thread: SessionPath, checkpoint: CheckpointQuery = None) -> AnyJSON:
        """Return a thread's state at a checkpoint. Default: the latest."""
        return AnyJSON(await service_of(request).state(principal_in(request), thread, checkpoint))

    @router.get("/api/threads/{thread:path}/diff", tags=["threads"], responses=problems(*_ALWAYS, 404))
    async def thread_diff(
        request: Request, thread: SessionPath, before: CheckpointQuery = None, after: CheckpointQuery = None
    ) -> AnyJSON:
        """Return the changes between two checkpoints. Default: the changes of the last step."""
        return AnyJSON(await service_of(request).diff(principal_in(request), thread, before, after))

    @router.post("/api/threads/{thread:path}/fork", tags=["threads"], responses=problems(*_ALWAYS, 404, 409))
    async def fork_thread(request: Request, thread: SessionPath, given: Checkpoint) -> AnyJSON:
        """Continue from an earlier checkpoint. The next question is asked there."""
        return AnyJSON(await service_of(request).fork(principal_in(request), thread, given.checkpoint))

    @router.post(
        "/api/threads/{thread:path}/regenerate",
        tags=["threads"],
        status_code=202,
        response_model=RunView,
        responses=problems(*_ALWAYS, 404, 409),
    )
    async def regenerate(request: Request, thread: SessionPath, given: Again) -> Response:
        """Answer a question again, on a new branch."""
        if (refusal := asked_too_often(request)) is not None:
            return refusal
        run = await service_of(request).regenerate(
            principal_in(request), thread, given.message, on_busy=given.on_busy
        )
        return started(run)

    @router.post(
        "/api/threads/{thread:path}/edit",
        tags=["threads"],
        status_code=202,
        response_model=RunView,
        responses=problems(*_ALWAYS, 404, 409),
    )
    async def edit_question(request: Request, thread: SessionPath, given: Edited) -> Response:
        """Ask an edited question, on a new branch."""
        if (refusal := asked_too_often(request)) is not None:
            return refusal
        run = await service_of(request).edit(
            principal_in(request), thread, given.message, given.question, on_busy=given.on_busy
        )
        return started(run)

    @router.get("/api/threads/{thread:path}", tags=["threads"], responses=problems(*_ALWAYS, 404))
    async def thread_timeline(
        request: Request, thread: SessionPath, limit: Limit = 50, before: CheckpointQuery = None
    ) -> AnyJSON:
        """Return a thread's checkpoints, newest first."""
        found = await service_of(request).timeline(principal_in(request), thread, limit=limit, before=before)
        return AnyJSON(found)

    # --- approvals ---

    @router.get("/api/approvals", tags=["approvals"], responses=problems(*_ALWAYS))
    async def list_approvals(request: Request) -> AnyJSON:
        """Return the drafts that wait for your decision."""
        return AnyJSON(await service_of(request).approvals(principal_in(request)))

    async def decided(request: Request, given: Draft, decision: dict[str, Any]) -> AnyJSON:
        service, by = service_of(request), principal_in(request)
        if given.digest is not None:
            decision["digest"] = given.digest
        run = await service.decide(by, given.session, given.draft, decision)
        run = await service.finished(by, run, _DECIDED_SECONDS)
        return AnyJSON({**run.as_json(), "draft": given.draft, "action": decision["action"]})

    @router.post("/api/approvals/approve", tags=["approvals"], responses=problems(*_ALWAYS, 409))
    async def approve(request: Request, given: Draft) -> AnyJSON:
        """Release a draft unchanged."""
        return await decided(request, given, {"action": "approve"})

    @router.post("/api/approvals/edit", tags=["approvals"], responses=problems(*_ALWAYS, 409))
    async def edit_draft(request: Request, given: EditedDraft) -> AnyJSON:
        """Release an edited text instead of a draft."""
        return await decided(request, given, {"action": "edit", "text": given.text})

    @router.post("/api/approvals/reject", tags=["approvals"], responses=problems(*_ALWAYS, 409))
    async def reject(request: Request, given: RejectedDraft) -> AnyJSON:
        """Reject a draft."""
        return await decided(request, given, {"action": "reject", "reason": given.reason})

    # --- documents ---

    @router.get("/api/documents", tags=["documents"], responses=problems(*_ALWAYS))
    async def list_documents(request: Request) -> AnyJSON:
        """Return the documents that answers can cite, newest first."""
        return AnyJSON(await service_of(request).documents(principal_in(request)))

    @router.post("/api/documents", tags=["documents"], status_code=201, responses=problems(*_ALWAYS))
    async def add_document(
        request: Request,
        file: Annotated[UploadFile, File(description="PDF, DOCX, Markdown, HTML or text.")],
        groups: Annotated[str, Form(max_length=1000, description="Ids, separated by commas. Default: all.")] = "",
        title: Annotated[str, Form(max_length=500)] = "",
        issuer: Annotated[str, Form(max_length=500)] = "",
    ) -> AnyJSON:
        """Add a document."""
        names = [word.strip() for word in groups.split(",") if word.strip()]
        content = await file.read()
        found = await service_of(request).add_document(
            principal_in(request),
            file.filename or "document.txt",
            content,
            groups=names,
            title=title,
            issuer=issuer,
        )
        return AnyJSON(found, 201)

    @router.get("/api/documents/search", tags=["documents"], responses=problems(*_ALWAYS))
    async def search_documents(
        request: Request,
        query: Annotated[str, Query(min_length=1, max_length=2000)],
        group: Annotated[str | None, Query(min_length=1, max_length=LONGEST_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=50)] = 5,
    ) -> AnyJSON:
        """Return the passages that match best."""
        found = await service_of(request).search_documents(principal_in(request), query, group=group, limit=limit)
        return AnyJSON(found)

    @router.get("/api/documents/{document}", tags=["documents"], responses=problems(*_ALWAYS, 404))
    async def show_document(request: Request, document: SessionPath) -> AnyJSON:
        """Return a document with its text."""
        return AnyJSON(await service_of(request).document(principal_in(request), document))

    @router.delete("/api/documents/{document}", tags=["documents"], responses=problems(*_ALWAYS, 404))
    async def remove_document(request: Request, document: SessionPath) -> AnyJSON:
        """Delete a document. Later answers don't use it."""
        await service_of(request).remove_document(principal_in(request), document)
        return AnyJSON({"removed": document})

    # --- figures ---

    @router.get("/api/analytics", tags=["figures"], responses=problems(*_ALWAYS))
    async def analytics(request: Request, days: Annotated[int, Query(ge=1, le=400)] = 30) -> AnyJSON:
        """Return daily figures for the last ``days`` days."""
        return AnyJSON({"days": await service_of(request).analytics(principal_in(request), days)})

    @router.get("/api/system", tags=["figures"], responses=problems(*_ALWAYS))
    async def system(request: Request, checks: bool = False) -> AnyJSON:
        """Return the state of the service. With `checks`, include the findings of `ecowas-lc doctor`."""
        return AnyJSON(await service_of(request).system(principal_in(request), checks=checks))

    @router.get("/api/audit", tags=["figures"], responses=problems(*_ALWAYS))
    async def audit(
        request: Request, limit: Limit = 100, before: Annotated[str | None, Query(max_length=LONGEST_ID)] = None
    ) -> AnyJSON:
        """Return the audit log, newest first: each change, its user and its time."""
        found = await service_of(request).audit_lines(principal_in(request), limit=limit, before=before)
        return AnyJSON({"lines": found})


async def _whole(service: Service, run: Run) -> Response:
    """Return the complete answer of a run that has ended."""
    answer: dict[str, Any] | None = None
    waiting: list[dict[str, Any]] = []
    status = "running"
    async for event in service.events(run):
        if event is None:
            continue
        if event.type == "answer":
            answer = event.data
        elif event.type == "waiting":
            waiting.append({"draft": event.data["draft"], "group": event.data["group"]})
        elif event.type == "error":
            more = {"error": event.data["error"]} if event.data.get("error") else {}
            return problem(
                int(event.data["status"]), str(event.data["detail"]), run=run.id, session=run.session, **more
            )
        elif event.type == "done":
            status = str(event.data["status"])
    if status == "running":
        return problem(
            503,
            "This process is being shut down; the run continues in another one.",
            {"Retry-After": "2"},
            run=run.id,
        )
    message = answer["message"] if answer else None
    return AnyJSON(
        {
            "run": run.id,
            "session": run.session,
            "status": status,
            "answer": message["text"] if message else None,
            "speaker": message["speaker"] if message else None,
            "groups": answer["groups"] if answer else [],
            "message": message,
            "waiting": waiting,
        }
    )


__all__ = ["InvalidInputError", "add_api"]
