"""The pages: each asks the service what a reader may see, and draws it in their language."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from ecowas_lc.checkpoint.reading import outline_op
from ecowas_lc.drawing.thread_layout import Moment, lanes_of
from ecowas_lc.errors import InvalidDecisionError, NotWaitingError, StorageError
from ecowas_lc.supervisor.routing import get_router
from ecowas_lc.web import charts, views
from ecowas_lc.web.branches import Node, Versions, versions_of
from ecowas_lc.web.doors import LANGUAGE_COOKIE, back_of, door, language_of_reader
from ecowas_lc.web.gate import COOKIE, principal_in, set_cookie, too_many
from ecowas_lc.web.permissions import Permission, may
from ecowas_lc.web.principals import Principal, Role
from ecowas_lc.web.problems import NotFoundError
from ecowas_lc.web.rendering import address, rendered
from ecowas_lc.web.service import LONGEST_ID, LONGEST_QUESTION, Service, new_session
from ecowas_lc.web.texts import LANGUAGES, Texts, texts_of

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web
    from ecowas_lc.web.runs import Run

_NAV = (
    ("chat", "/", Permission.CHAT),
    ("sessions", "/sessions", Permission.CHAT),
    ("approvals", "/approvals", Permission.REVIEW),
    ("analytics", "/analytics", Permission.ANALYTICS),
    ("audit", "/audit", Permission.AUDIT),
    ("system", "/system", Permission.SYSTEM),
)
_ACTIVITY: dict[str, tuple[str, float | None, float | None]] = {
    # by the name in the address: the text's name, active within so many seconds, idle for so many
    "": ("sessions.any_time", None, None),
    "1h": ("sessions.last_hour", 3600.0, None),
    "1d": ("sessions.last_day", 86400.0, None),
    "7d": ("sessions.last_week", 7 * 86400.0, None),
    "idle": ("sessions.idle", None, 30 * 86400.0),
}
_LIFETIMES = (86400, 7 * 86400, 30 * 86400, 90 * 86400)
_SESSIONS_A_PAGE, _STEPS_A_PAGE, _LINES_A_PAGE, _MESSAGES_AT_ONCE, _RECENT = 25, 40, 50, 40, 8
_MOST_AT_ONCE = 200  # sessions that one request changes
_MOST_DAYS = 400
_DECIDED_SECONDS = 5.0  # how long a page waits for a decision to take effect
_AROUND = 700  # characters of a document that are shown before and after a cited passage
_DONE = frozenset(
    {
        "sessions.extended",
        "sessions.cleared",
        "approvals.approved_done",
        "approvals.edited_done",
        "approvals.rejected_done",
        "thread.forked",
    }
)
_TRY = (
    ("energy", "en", "energy"),
    ("finance", "", "resource_mobilization"),
    ("fr", "fr", "agriculture"),
    ("pt", "pt", "digital"),
)
_STATIC = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "chat.js": "text/javascript",
    "mark.svg": "image/svg+xml",
    "vendor/htmx-2.0.11.min.js": "text/javascript",
    "vendor/htmx.LICENSE.txt": "text/plain",
    "fonts/atkinson-hyperlegible-next-latin.woff2": "font/woff2",
    "fonts/atkinson-hyperlegible-next-latin-ext.woff2": "font/woff2",
    "fonts/atkinson-hyperlegible-next.LICENSE.txt": "text/plain",
}
_STREAMED = (
    *("routing", "finished", "started", "stopped", "interrupted", "reconnected", "restarted"),
    *("waits", "busy", "copied", "copy", "failed", "together", "groups"),
)

Handler = Callable[..., Coroutine[Any, Any, Response]]


class Asked(BaseModel):
    """What a page's script asks: a question, and the question it takes the place of or that is answered again."""

    model_config = ConfigDict(extra="forbid")

    session: str = Field(min_length=1, max_length=LONGEST_ID)
    question: str = Field(min_length=1, max_length=LONGEST_QUESTION)
    edit: str | None = Field(default=None, max_length=LONGEST_ID)
    regenerate: str | None = Field(default=None, max_length=LONGEST_ID)


@dataclass(frozen=True)
class Reader:
    """Somebody who looks at a page."""

    web: Web
    request: Request
    by: Principal

    @cached_property
    def texts(self) -> Texts:
        """The page's texts."""
        return texts_of(language_of_reader(self.request))

    @cached_property
    def service(self) -> Service:
        """What they may do."""
        return self.web.service_for(self.by)

    @cached_property
    def speakers(self) -> views.Speakers:
        """The groups' names."""
        return views.Speakers(self.service.organisation.groups, self.texts, self.by.groups)

    def may(self, permission: Permission) -> bool:
        """Return whether they may use what needs this permission."""
        return may(self.by, permission)

    def url(self, path: str, **query: Any) -> str:
        """Return a link to a page."""
        return address(self.web.path, path, **query)

    @property
    def here(self) -> str:
        """Where they are."""
        query = self.request.url.query
        path = self.request.url.path
        return f"{path}?{query}" if query else path

    @property
    def is_fragment(self) -> bool:
        """Whether a part of a page is asked for, by a script."""
        return "hx-request" in self.request.headers

    async def page(self, template: str, name: str, status: int = 200, **values: Any) -> Response:
        """Return a page with its frame."""
        recent: list[dict[str, Any]] = []
        session = values.get("session")
        if self.may(Permission.CHAT) and not self.is_fragment:
            found = await self.service.sessions(self.by, limit=_RECENT)
            recent = [
                {
                    "title": each["title"] or each["session"],
                    "href": self.url("/chat", session=each["session"]),
                    "current": name == "chat" and each["session"] == session,
                }
                for each in found["sessions"]
            ]
        waiting = 0
        if self.may(Permission.REVIEW) and not self.is_fragment:
            waiting = len(await self.service.approvals(self.by))
        done = self.request.query_params.get("done", "")
        count = self.request.query_params.get("n", "")
        number = int(count) if count.isascii() and count.isdecimal() and len(count) < 6 else 1
        frame: dict[str, Any] = {
            "csrf": self.by.csrf or "",
            "page": name,
            "here": self.here,
            "can": {
                "chat": self.may(Permission.CHAT),
                "threads": self.may(Permission.CHAT),
                "change": self.may(Permission.CHAT),
            },
            "nav": [{"name": item, "href": self.url(path)} for item, path, needs in _NAV if self.may(needs)],
            "waiting": waiting,
            "recent": recent,
            "me": {"name": self.by.name, "role": _role_of(self.by), "organisation": self.by.prefix},
            "done": self.texts(done, n=number) if done in _DONE else None,
            "problem": None,
        }
        content = rendered(template, self.texts.language, self.web.path, **{**frame, **values})
        return Response(content, status, media_type="text/html")


def _role_of(by: Principal) -> str:
    return next(role.value for role in (Role.ADMIN, Role.REVIEWER, Role.OPERATOR, Role.STAFF) if role in by.roles)


def add_pages(router: APIRouter, web: Web) -> None:
    """Add the routes of the pages."""

    def page(path: str, *, method: str = "GET") -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            router.add_api_route(path, handler, methods=[method], include_in_schema=False, name=handler.__name__)
            return handler

        return add

    def reader(request: Request) -> Reader:
        return Reader(web, request, principal_in(request))

    def see(path: str) -> Response:
        return RedirectResponse(path, 303)

    # --- chat ---

    @page("/")
    async def page_home(request: Request) -> Response:
        """Show an empty conversation, or the first page that somebody may see."""
        one = reader(request)
        if not one.may(Permission.CHAT):
            return see(next(one.url(path) for _, path, needs in _NAV if one.may(needs)))
        return await _chat(one, new_session(), is_new=True)

    @page("/chat")
    async def page_chat(
        request: Request, session: Annotated[str | None, Query()] = None, limit: Annotated[int, Query()] = 0
    ) -> Response:
        """Show a conversation."""
        one = reader(request)
        if session is None:
            return see(one.url("/"))
        return await _chat(one, session, limit=limit)

    @page("/chat", method="POST")
    async def page_ask(
        request: Request, session: Annotated[str, Form()], question: Annotated[str, Form()]
    ) -> Response:
        """Ask without a script: the answer is there when the page is loaded again."""
        one = reader(request)
        if (wait := web.questions.wait_seconds(f"{one.by.prefix}:{one.by.name}")) > 0:
            return too_many(wait)
        found, groups = _asked_groups(question, one.speakers)
        await one.service.ask(one.by, found, session=session, groups=groups)
        return see(one.url("/chat", session=session))

    @page("/chat/run", method="POST")
    async def page_run(request: Request, given: Asked) -> Response:
        """Ask, ask something else, or ask again, and say where the answer can be followed."""
        one = reader(request)
        if (wait := web.questions.wait_seconds(f"{one.by.prefix}:{one.by.name}")) > 0:
            return too_many(wait)
        question, groups = _asked_groups(given.question, one.speakers)
        if given.regenerate is not None:
            run = await one.service.regenerate(one.by, given.session, given.regenerate)
        elif given.edit is not None:
            run = await one.service.edit(one.by, given.session, given.edit, question)
        else:
            run = await one.service.ask(one.by, question, session=given.session, groups=groups)
        links = _run_links(one, run)
        return JSONResponse({"id": run.id, "events": links.events, "cancel": links.cancel}, 202)

    @page("/chat/turns")
    async def page_turns(
        request: Request, session: Annotated[str, Query()], limit: Annotated[int, Query()] = 0
    ) -> Response:
        """Show the turns of a conversation, without the page around them."""
        one = reader(request)
        return await one.page("turns.html", "chat", **await _turns(one, session, limit=limit))

    @page("/chat/why")
    async def page_why(
        request: Request, session: Annotated[str, Query()], message: Annotated[str, Query()]
    ) -> Response:
        """Show how an answer came about."""
        one = reader(request)
        return await one.page("why.html", "chat", **await _why(one, session, message))

    @page("/chat/source")
    async def page_source(
        request: Request,
        session: Annotated[str, Query()],
        message: Annotated[str, Query()],
        number: Annotated[int, Query()],
    ) -> Response:
        """Show the passage that a citation stands for."""
        one = reader(request)
        return await one.page("source.html", "chat", source=await _passage(one, session, message, number))

    @page("/chat/version", method="POST")
    async def page_version(
        request: Request, session: Annotated[str, Form()], step: Annotated[str, Form()]
    ) -> Response:
        """Go to another version of a turn."""
        one = reader(request)
        await one.service.fork(one.by, session, step)
        return see(one.url("/chat", session=session))

    @page("/chat/export")
    async def page_export(request: Request, session: Annotated[str, Query()]) -> Response:
        """Give a conversation as Markdown."""
        one = reader(request)
        text = await _markdown(one, session)
        name = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else "-" for sign in session)
        headers = {"Content-Disposition": f'attachment; filename="{name[:80] or "conversation"}.md"'}
        return Response(text.encode("utf-8", "replace"), media_type="text/markdown", headers=headers)

    @page("/document")
    async def page_document(request: Request, document: Annotated[str, Query()]) -> Response:
        """Show a document's text."""
        one = reader(request)
        found = await one.service.document(one.by, document)
        return await one.page("document.html", "chat", document=found)

    # --- sessions ---

    @page("/sessions")
    async def page_sessions(
        request: Request,
        search: Annotated[str, Query()] = "",
        group: Annotated[str, Query()] = "",
        active: Annotated[str, Query()] = "",
        at: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Show the sessions that somebody may see."""
        one = reader(request)
        return await _sessions(one, search[:200], group, active if active in _ACTIVITY else "", at)

    @page("/sessions", method="POST")
    async def page_change_sessions(
        request: Request,
        action: Annotated[str, Form()],
        session: Annotated[list[str], Form()],
        ttl: Annotated[int, Form(ge=60, le=366 * 86400)] = _LIFETIMES[1],
        back: Annotated[str, Form()] = "",
    ) -> Response:
        """Extend or clear sessions; clearing asks first."""
        one = reader(request)
        chosen = session[:_MOST_AT_ONCE]
        place = back_of(web, *back.partition("?")[::2]) if back else one.url("/sessions")
        if action == "ask-clear":
            return await one.page("confirm.html", "sessions", chosen=chosen, back=place)
        if action == "clear":
            found = await one.service.clear(one.by, chosen)
            return see(one.url("/sessions", done="sessions.cleared", n=len(found)))
        found = await one.service.extend(one.by, chosen, ttl)
        return see(one.url("/sessions", done="sessions.extended", n=len(found)))

    # --- threads ---

    @page("/thread")
    async def page_thread(
        request: Request,
        session: Annotated[str, Query()],
        step: Annotated[str | None, Query()] = None,
        before: Annotated[str | None, Query()] = None,
    ) -> Response:
        """Show a thread's steps, and what one of them holds."""
        one = reader(request)
        return await one.page("thread.html", "sessions", **await _thread(one, session, step, before))

    @page("/thread/fork", method="POST")
    async def page_fork(
        request: Request,
        session: Annotated[str, Form()],
        step: Annotated[str, Form()],
        question: Annotated[str, Form()],
    ) -> Response:
        """Ask a question from an earlier step on."""
        one = reader(request)
        found, groups = _asked_groups(question, one.speakers)
        await one.service.fork(one.by, session, step)
        await one.service.ask(one.by, found, session=session, groups=groups)
        return see(one.url("/chat", session=session, done="thread.forked"))

    # --- approvals ---

    @page("/approvals")
    async def page_approvals(request: Request) -> Response:
        """Show the drafts that wait for somebody."""
        one = reader(request)
        return await one.page("approvals.html", "approvals", drafts=await _drafts(one), paging=None)

    @page("/approvals", method="POST")
    async def page_decide(
        request: Request,
        action: Annotated[str, Form()],
        session: Annotated[str, Form()],
        draft: Annotated[str, Form()],
        digest: Annotated[str, Form()] = "",
        text: Annotated[str, Form()] = "",
        reason: Annotated[str, Form()] = "",
    ) -> Response:
        """Decide on a draft."""
        one = reader(request)
        decision: dict[str, Any] = {"action": action, "digest": digest}
        if action == "edit":
            decision["text"] = text.replace("\r\n", "\n")
        if action == "reject":
            decision["reason"] = reason.replace("\r\n", "\n").strip()
        try:
            run = await one.service.decide(one.by, session, draft, decision)
        except (NotWaitingError, InvalidDecisionError):
            drafts = await _drafts(one)
            return await one.page(
                "approvals.html", "approvals", 409, drafts=drafts, paging=None, problem=one.texts("approvals.gone")
            )
        await one.service.finished(one.by, run, _DECIDED_SECONDS)
        done = {"approve": "approved_done", "edit": "edited_done"}.get(action, "rejected_done")
        return see(one.url("/approvals", done=f"approvals.{done}"))

    @page("/approvals/diff", method="POST")
    async def page_diff(
        request: Request,
        session: Annotated[str, Form()],
        draft: Annotated[str, Form()],
        text: Annotated[str, Form()] = "",
    ) -> Response:
        """Show how an edited draft differs from what waits."""
        one = reader(request)
        waiting = await one.service.approvals(one.by)
        before = next(
            (each["answer"] for each in waiting if each["session"] == session and each["draft"] == draft), None
        )
        if before is None:
            content: Markup | str = Markup("{}").format(one.texts("approvals.gone"))
        else:
            after = text.replace("\r\n", "\n")
            same = before.strip() == after.strip()
            content = Markup("{}").format(
                one.texts("approvals.unchanged") if same else views.difference_html(before, after)
            )
        return Response(content.encode("utf-8", "replace"), media_type="text/html")

    # --- figures ---

    @page("/analytics")
    async def page_analytics(
        request: Request,
        first: Annotated[str, Query(alias="from")] = "",
        last: Annotated[str, Query(alias="to")] = "",
        organisation: Annotated[str, Query()] = "",
    ) -> Response:
        """Show what was asked."""
        one = reader(request)
        return await one.page("analytics.html", "analytics", **await _analytics(one, first, last, organisation))

    @page("/analytics.csv")
    async def page_analytics_csv(
        request: Request,
        first: Annotated[str, Query(alias="from")] = "",
        last: Annotated[str, Query(alias="to")] = "",
        organisation: Annotated[str, Query()] = "",
    ) -> Response:
        """Give the figures as CSV."""
        one = reader(request)
        begin, end, days = await _days(one, first, last, organisation)
        headers = {"Content-Disposition": f'attachment; filename="analytics-{begin}-{end}.csv"'}
        return Response(_csv(days), media_type="text/csv; charset=utf-8", headers=headers)

    @page("/system")
    async def page_system(request: Request) -> Response:
        """Show how the service runs."""
        one = reader(request)
        found = await one.service.system(one.by, checks=True)
        return await one.page("system.html", "system", **_system(one, found))

    @page("/audit")
    async def page_audit(request: Request, before: Annotated[str | None, Query()] = None) -> Response:
        """Show who changed what."""
        one = reader(request)
        lines = await one.service.audit_lines(one.by, limit=_LINES_A_PAGE, before=before)
        older = one.url("/audit", before=lines[-1]["id"]) if len(lines) == _LINES_A_PAGE else None
        shown = [
            {
                "at": views.moment_of(line["at"], one.texts),
                "who": line["who"],
                "what": line["what"],
                "detail": line.get("detail", ""),
                "where": " · ".join(filter(None, (line.get("session"), line.get("draft")))),
            }
            for line in lines
        ]
        return await one.page("audit.html", "audit", lines=shown, older=older)

    # --- signing in, and what needs no login ---

    @page("/sign-in", method="POST")
    async def page_sign_in(
        request: Request, key: Annotated[str, Form(max_length=300)], back: Annotated[str, Form()] = ""
    ) -> Response:
        """Sign in with a key."""
        host = request.client.host if request.client else ""
        if (wait := web.sign_ins.wait_seconds(host)) > 0:
            return too_many(wait)
        place = back_of(web, *back.partition("?")[::2])
        owner = await web.access.of_key(key.strip())
        if owner is None:
            texts = texts_of(language_of_reader(request))
            return door(web, request, "sign_in.html", 401, back=place, problem=texts("sign_in.wrong"))
        response = see(place)
        set_cookie(web, request, response, await web.access.signed_in(owner))
        await web.service_for(owner).note(owner, "sign in")
        return response

    @page("/sign-out", method="POST")
    async def page_sign_out(request: Request) -> Response:
        """Sign out."""
        if cookie := request.cookies.get(COOKIE):
            await web.access.sign_out(cookie)
        response = see(address(web.path, "/sign-in", done="sign_in.out"))
        response.delete_cookie(COOKIE, path="/")
        return response

    @page("/static/{path:path}")
    async def static(request: Request, path: str) -> Response:
        """Give what pages are drawn with; their addresses change with their content."""
        found = _STATIC.get(path)
        if found is None:
            raise NotFoundError("There is no such file.")
        content = files("ecowas_lc.web").joinpath("static", path).read_bytes()
        lasting = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
        return Response(content, media_type=found, headers={"Cache-Control": lasting})

    @page("/language", method="POST")
    async def set_language(
        request: Request, language: Annotated[str, Form()], back: Annotated[str, Form()] = ""
    ) -> Response:
        """Keep the language that a reader chose."""
        response = see(back_of(web, *back.partition("?")[::2]))
        if language in LANGUAGES:
            response.set_cookie(
                LANGUAGE_COOKIE, language, max_age=365 * 86400, path="/", samesite="lax", httponly=True
            )
        return response


# --- what the pages show ---


def _asked_groups(question: str, speakers: views.Speakers) -> tuple[str, list[str]]:
    """Return a question without the ``@group`` marks at its beginning, and the groups they name."""
    known = {group.id for group in speakers.groups}
    groups: list[str] = []
    rest = question.strip()
    while rest.startswith("@"):
        name, _, after = rest[1:].partition(" ")
        if name.rstrip(",:") not in known:
            break
        groups.append(name.rstrip(",:"))
        rest = after.strip()
    return (rest, groups) if rest else (question, [])


async def _chat(one: Reader, session: str, *, limit: int = 0, is_new: bool = False) -> Response:
    texts = one.texts
    if is_new:
        found: dict[str, Any] = {"turns": [], "version": "", "earlier": None, "title": texts("chat.untitled")}
    else:
        found = await _turns(one, session, limit=limit)
    answers = await one.service.model_answers()
    suggestions = [
        {"text": texts(f"chat.try_{name}"), "lang": language or texts.language, "group": one.speakers[group]}
        for name, language, group in _TRY
        if group in one.service.organisation.groups
    ]
    streamed = {name: texts.raw(f"chat.{name}") for name in _STREAMED}
    thinking = texts.raw("chat.thinking")
    assert not isinstance(thinking, str)
    streamed |= {
        "thinking_one": thinking["one"],
        "thinking_other": thinking["other"],
        "offline": texts("common.offline"),
    }
    return await one.page(
        "chat.html",
        "chat",
        **{
            "session": session,
            "model_answers": answers is not False,
            "model_note": one.service.model_note if answers is not False else "",
            "suggestions": suggestions,
            "most_characters": LONGEST_QUESTION,
            "groups": [
                {"id": each.id, "name": each.name, "css": each.css, "mention": each.mention}
                for each in one.speakers.all
            ],
            "texts": streamed,
            **found,
        },
    )


async def _turns(one: Reader, session: str, *, limit: int = 0) -> dict[str, Any]:
    texts = one.texts
    most = min(max(limit, _MESSAGES_AT_ONCE), 2000)
    found = await one.service.session(one.by, session, limit=most)
    runs = await one.service.runs(one.by, session)
    messages = found["messages"]
    versions: Mapping[str, Versions] = {} if runs else await _versions(one, session)
    turns: list[views.Turn] = []
    for place, message in enumerate(messages, start=found["first"]):
        if message["speaker"] == "user":
            turns.append(
                views.Turn(views.anchor_of(f"{place}:{message['id']}"), str(message["id"]), message["text"])
            )
        elif turns and turns[-1].answer is None:
            turns[-1].answer = _answer(one, session, message)
        elif turns:
            turns[-1].more.append(_answer(one, session, message))
    for turn in turns:
        turn.branches = views.links_of(versions.get(turn.id), lambda step: step)
    _place_runs(one, turns, runs)
    if turns and turns[-1].answer is not None and turns[-1].answer.speaker.id == views.SUPERVISOR:
        reports = (await one.service.state(one.by, session))["reports"]
        turns[-1].rejected = [
            texts("chat.rejected_why", why=report["reason"])
            for report in reports.values()
            if report["status"] == "rejected" and report.get("reason")
        ]
    if turns and turns[-1].run is None and turns[-1].answer is None:
        turns[-1].waits = bool(found["waiting"])
        turns[-1].can_edit = turns[-1].can_regenerate = not turns[-1].waits
    first = found["first"]
    known = repr((found["total"], messages[-1:], [run.id for run in runs], found["waiting"], versions, most))
    return {
        "session": session,
        "title": found["title"] or (turns[0].question if turns else session),
        "turns": turns,
        "earlier": one.url("/chat/turns", session=session, limit=most + _MESSAGES_AT_ONCE) if first > 0 else None,
        "version": views.anchor_of(known),
        "most_characters": LONGEST_QUESTION,
    }


def _place_runs(one: Reader, turns: list[views.Turn], runs: Sequence[Run]) -> None:
    """Put each run that is under way into the turn that it answers."""
    for run in runs:
        links = _run_links(one, run)
        asked = str(run.given.get("question_id") or "")
        if run.kind == "decide":
            if turns:
                turns[-1].run = links
            continue
        known = next((place for place, turn in enumerate(turns) if turn.id == asked), None)
        if known is None:
            turns.append(views.Turn(views.anchor_of(run.id), asked, str(run.given.get("question", ""))))
        else:
            del turns[known + 1 :]
            turns[known].question = str(run.given.get("question") or turns[known].question)
        turns[-1].run = links
        turns[-1].answer = None


def _run_links(one: Reader, run: Run) -> views.RunLinks:
    where = f"/api/runs/{run.id}"
    return views.RunLinks(run.id, one.url(f"{where}/events"), one.url(f"{where}/cancel"))


def _answer(one: Reader, session: str, message: Mapping[str, Any]) -> views.Answer:
    texts, speakers = one.texts, one.speakers
    key = str(message["id"])
    citations = {int(each["number"]): each for each in message.get("citations") or ()}

    def href(number: int) -> str:
        return one.url("/chat/source", session=session, message=key, number=number)

    def cite(number: int) -> Markup:
        return views.cite_mark(href(number), number, str(citations[number]["title"]), texts)

    groups = [speakers[group] for group in message.get("groups") or ()]
    text = str(message["text"])
    return views.Answer(
        id=key,
        speaker=speakers[str(message["speaker"])],
        groups=groups or [speakers[str(message["speaker"])]],
        html=views.answer_html(text, cite, citations),
        text=text,
        sources=[
            views.Source(
                number,
                str(each["title"]),
                _where(texts, each),
                href(number),
            )
            for number, each in sorted(citations.items())
        ],
        why=one.url("/chat/why", session=session, message=key),
        cut=text.endswith("[…]"),
    )


def _where(texts: Texts, citation: Mapping[str, Any]) -> str:
    page = texts("chat.page", n=citation["page"]) if citation.get("page") else ""
    return " · ".join(filter(None, (str(citation.get("file") or ""), page)))


async def _versions(one: Reader, session: str) -> dict[str, Versions]:
    """Return the turns' versions; a thread that was never forked is not read for it."""
    organisation = one.service.organisation
    outlined = await organisation.run(outline_op(organisation.saver._at, session))
    nodes = [
        Node(str(each.place.checkpoint_id), each.parent or "", str(each.metadata.get("source", "")))
        for each in outlined
        if not each.place.namespace
    ]
    parents = [node.parent for node in nodes]
    if len(parents) == len(set(parents)):
        return {}
    graph = await organisation.graph()

    async def state_at(checkpoint: str) -> Any:
        place = {"thread_id": session, "checkpoint_ns": "", "checkpoint_id": checkpoint}
        return await graph.aget_state({"configurable": place})

    return await versions_of(nodes, max(node.id for node in nodes), state_at)


async def _why(one: Reader, session: str, message: str) -> dict[str, Any]:
    """Return what led to an answer: the route with its evidence, and what each group said."""
    texts, speakers, service = one.texts, one.speakers, one.service
    await service.session(one.by, session, limit=1)
    graph = await service.organisation.graph()
    place: Any = {"configurable": {"thread_id": session, "checkpoint_ns": ""}}
    values: Mapping[str, Any] | None = None
    async for state in graph.aget_state_history(place):
        held = state.values.get("messages") or []
        if held and str(held[-1].id) == message:
            values = state.values
            break
    if values is None:
        raise NotFoundError("How this answer came about is no longer stored.")
    decision = values.get("decision") or {}
    source, groups = str(decision.get("source", "")), [str(each) for each in decision.get("groups") or ()]
    question = str(held[-2].text) if len(held) > 1 else ""
    scores: list[dict[str, Any]] = []
    words: list[str] = []
    if source == "lexical" and question.strip():
        again = get_router("lexical", groups=list(service.organisation.groups.values())).route(question)
        scores = [
            {"group": speakers[group], "percent": round(100 * min(max(score, 0.0), 1.0))}
            for group, score in sorted(again.scores.items(), key=lambda pair: -pair[1])
            if score >= 0.005
        ]
        words = list(dict.fromkeys(word.text for word in again.words))[:12]
    if not groups:
        by = texts("chat.route_none")
    elif source == "asked":
        by = texts("chat.route_asked")
    else:
        known = f"router.{source}"
        by = texts("chat.route_by", source=texts(known) if texts.has(known) else source)
    reports = values.get("reports") or {}
    synthesis = values.get("synthesis") or {}
    lists = [
        {"title": texts(f"chat.{name}"), "entries": [str(each) for each in synthesis[name]]}
        for name in ("agreements", "conflicts", "open_questions")
        if synthesis.get(name)
    ]
    missing = {group: report.get("reason") for group, report in reports.items() if report["status"] != "answered"}
    if missing := {**missing, **(synthesis.get("missing") or {})}:
        entries = [f"{speakers[group].name}: {why or '–'}" for group, why in missing.items()]
        lists.append({"title": texts("chat.missing"), "entries": entries})
    left_out = [str(each) for report in reports.values() for each in report.get("left_out") or ()]
    return {
        "route": {"by": by, "scores": scores, "words": words, "reason": str(decision.get("reason", ""))},
        "views": [
            {"group": speakers[group], "html": views.answer_html(str(report.get("text", "")))}
            for group, report in reports.items()
            if len(reports) > 1 and report.get("text") and report.get("status") == "answered"
        ],
        "lists": lists,
        "left_out": left_out,
    }


async def _passage(one: Reader, session: str, message: str, number: int) -> dict[str, Any]:
    found = await one.service.session(one.by, session, limit=2000)
    cited = next(
        (
            each
            for said in found["messages"]
            if str(said["id"]) == message
            for each in said.get("citations") or ()
            if each["number"] == number
        ),
        None,
    )
    if cited is None:
        raise NotFoundError("There is no such source in this conversation.")
    passage = str(cited["cited_text"] or "")
    before = after = ""
    where = [one.texts("chat.page", n=cited["page"])] if cited.get("page") else []
    href: str | None = None
    if cited.get("document") and one.may(Permission.DOCUMENTS):
        try:
            document = await one.service.document(one.by, str(cited["document"]))
        except (NotFoundError, StorageError):
            pass
        else:
            href = one.url("/document", document=document["document"])
            where.insert(0, str(document["name"]))
            if document.get("date"):
                where.append(str(document["date"]))
            text = str(document["text"])
            at = text.find(passage)
            if at >= 0:
                before = ("… " if at > _AROUND else "") + text[max(0, at - _AROUND) : at]
                end = at + len(passage)
                after = text[end : end + _AROUND] + (" …" if len(text) > end + _AROUND else "")
    return {
        "title": cited["title"] or cited["document"],
        "where": " · ".join(where),
        "before": before,
        "cited": passage,
        "after": after,
        "document": href,
    }


async def _markdown(one: Reader, session: str) -> str:
    """Return a conversation as Markdown."""
    found = await one.service.session(one.by, session, limit=10_000)
    lines = [f"# {_one_line(found['title'] or session)}", "", f"*{one.texts.exact(datetime.now(UTC))}*", ""]
    for message in found["messages"]:
        if message["speaker"] == "user":
            lines += [f"## {_one_line(message['text'])}", ""]
            continue
        lines += [f"**{one.speakers[str(message['speaker'])].name}**", "", str(message["text"]), ""]
        for each in message.get("citations") or ():
            page = f", {one.texts('chat.page', n=each['page'])}" if each.get("page") else ""
            lines.append(f"{each['number']}. {_one_line(each['title'])}{page}: “{_one_line(each['cited_text'])}”")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


async def _sessions(one: Reader, search: str, group: str, active: str, at: int) -> Response:
    _, within, idle = _ACTIVITY[active]
    limit = _SESSIONS_A_PAGE
    if group:  # the service knows no filter by group
        every = await one.service.sessions(
            one.by, search=search, active_seconds=within, idle_seconds=idle, limit=1_000_000
        )
        fitting = [each for each in every["sessions"] if group in each["agents"]]
        found: dict[str, Any] = {"sessions": fitting[at : at + limit], "total": len(fitting)}
    else:
        found = await one.service.sessions(
            one.by, search=search, active_seconds=within, idle_seconds=idle, limit=limit, offset=at
        )
    total, texts = found["total"], one.texts

    def place(offset: int) -> str:
        return one.url(
            "/sessions", search=search or None, group=group or None, active=active or None, at=offset or None
        )

    rows = [
        {
            "id": each["session"],
            "title": each["title"] or each["session"],
            "href": one.url("/chat", session=each["session"]),
            "timeline": one.url("/thread", session=each["session"]),
            "owner": each["owner"],
            "groups": [one.speakers[name] for name in each["agents"] if name != views.SUPERVISOR],
            "messages": texts.number(max(each["agents"].values(), default=0)),
            "waiting": each["waiting"],
            "active": views.moment_of(each["last_activity"], texts),
            "kept": texts.lasts(each["ttl_seconds"]),
        }
        for each in found["sessions"]
    ]
    return await one.page(
        "sessions.html",
        "sessions",
        filters={"search": search, "group": group, "active": active},
        filtered=bool(search or group or active),
        groups=one.speakers.groups,
        activity=[(value, name) for value, (name, _, _) in _ACTIVITY.items()],
        sessions=rows,
        total=total,
        show_owner=one.by.is_admin,
        lifetimes=[(seconds, texts.lasts(seconds)) for seconds in _LIFETIMES],
        paging={
            "previous": place(max(0, at - limit)) if at else None,
            "next": place(at + limit) if at + limit < total else None,
            "text": texts("common.range", first=at + 1, last=min(at + limit, total), total=total),
        },
    )


async def _thread(one: Reader, session: str, step: str | None, before: str | None) -> dict[str, Any]:
    texts, speakers = one.texts, one.speakers
    found = await one.service.timeline(one.by, session, limit=_STEPS_A_PAGE, before=before)
    steps = found["steps"]
    numbers = {each["checkpoint"]: place for place, each in enumerate(reversed(steps), start=1)}
    by_id = {each["checkpoint"]: each for each in steps}
    moments = [
        Moment(
            number=numbers[each["checkpoint"]],
            parent=numbers.get(each["parent"]),
            config={"configurable": {"checkpoint_id": each["checkpoint"]}},
            source=str(each["source"]),
            ran=(),
            said=(),
            waiting=tuple(draft["group"] for draft in each["waiting"]),
            answered=(),
            failed=(),
            next=tuple(each["next"]),
            is_cut=bool(each["parent"]) and each["parent"] not in numbers,
        )
        for each in reversed(steps)
    ]
    lanes = lanes_of(moments)
    chosen = step or found["head"]

    def href(checkpoint: str) -> str:
        return one.url("/thread", session=session, step=checkpoint, before=before)

    rows = []
    for moment, each in zip(reversed(moments), steps, strict=True):
        parent = by_id.get(each["parent"])
        said = parent is None or (each["messages"], each["last"]) != (parent["messages"], parent["last"])
        lines = []
        if each["last"] and said:
            speaker = each["speaker"]
            name = texts("thread.user") if speaker == "user" else speakers[speaker].name
            lines = [{"who": name, "text": each["last"]}]
        rows.append(
            {
                "rails": charts.rails(moment, moments, lanes),
                "href": href(each["checkpoint"]),
                "selected": each["checkpoint"] == chosen,
                "title": _step_title(one, each, parent),
                "at": views.moment_of(each["at"], texts),
                "lines": lines,
                "waits": bool(each["waiting"]),
                "failed": "",
            }
        )
    detail = await _step(one, session, chosen, by_id) if steps and chosen else None
    older = one.url("/thread", session=session, before=steps[-1]["checkpoint"])
    return {
        "session": session,
        "moments": rows,
        "newer": one.url("/thread", session=session) if before else None,
        "older": older if len(steps) == _STEPS_A_PAGE else None,
        "step": detail,
        "most_characters": LONGEST_QUESTION,
    }


def _step_title(one: Reader, step: Mapping[str, Any], parent: Mapping[str, Any] | None) -> str:
    texts = one.texts
    if step["source"] in ("input", "fork", "update"):
        return texts(f"thread.step_{step['source']}")
    ran = [name for name in (parent or {}).get("next", ()) if not name.startswith("__")]
    return ", ".join(_node_name(one, name) for name in ran) if ran else texts("thread.step_loop")


def _node_name(one: Reader, node: str) -> str:
    known = f"node.{node}"
    return one.texts(known) if one.texts.has(known) else one.speakers[node].name


async def _step(one: Reader, session: str, checkpoint: str, known: Mapping[str, Any]) -> dict[str, Any]:
    texts, speakers = one.texts, one.speakers
    state = await one.service.state(one.by, session, checkpoint)
    changed = await one.service.diff(one.by, session, after=checkpoint)
    added = [views.message_line(each, speakers, texts) for each in changed["added"]]
    removed = [views.message_line(each, speakers, texts) for each in changed["removed"]]
    for pair in changed["replaced"]:
        removed.append(views.message_line(pair["before"], speakers, texts))
        added.append(views.message_line(pair["after"], speakers, texts))
    changes = []
    if added or removed:
        changes.append(
            {"name": texts("sessions.messages_of"), "kind": "edited", "removed": removed, "added": added}
        )
    for name, ends in changed["changed"].items():
        old, new = ends["before"], ends["after"]
        kind = "new" if not old else "gone" if not new else "edited"
        changes.append(
            {
                "name": name,
                "kind": kind,
                "removed": [views.value_text(old)] if old else [],
                "added": [views.value_text(new)] if new else [],
            }
        )
    values = []
    if state["messages"]:
        text = "\n\n".join(views.message_line(each, speakers, texts) for each in state["messages"][-100:])
        values.append(
            {"name": texts("sessions.messages_of"), "size": texts.number(len(state["messages"])), "text": text}
        )
    values += [
        {"name": name, "size": "", "text": views.value_text(state[name])}
        for name in ("decision", "reports", "synthesis", "summary")
        if state.get(name)
    ]
    return {
        "id": checkpoint,
        "title": _step_title(one, state, known.get(state["parent"])),
        "next": ", ".join(_node_name(one, name) for name in state["next"]),
        "changes": changes,
        "values": values,
    }


async def _drafts(one: Reader) -> list[dict[str, Any]]:
    drafts = []
    for each in await one.service.approvals(one.by):
        names = ", ".join(one.speakers[str(group)].name for group in each.get("concerns") or ())
        drafts.append(
            {
                "anchor": views.anchor_of(f"{each['session']}:{each['draft']}"),
                "id": each["draft"],
                "digest": each["digest"],
                "session": each["session"],
                "href": one.url("/chat", session=each["session"]) if one.by.is_admin else None,
                "group": one.speakers[str(each["group"])],
                "concerns": names,
                "question": each["question"],
                "text": each["answer"],
                "problem": None,
            }
        )
    return drafts


async def _days(one: Reader, first: str, last: str, organisation: str) -> tuple[date, date, list[dict[str, Any]]]:
    today = datetime.now(UTC).date()
    end = min(_date(last) or today, today)
    begin = min(_date(first) or end - timedelta(days=29), end)
    days = min((today - begin).days + 1, _MOST_DAYS)
    found = await one.service.analytics(one.by, days)
    return begin, end, [each for each in found if begin.isoformat() <= each["day"] <= end.isoformat()]


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


async def _analytics(one: Reader, first: str, last: str, organisation: str) -> dict[str, Any]:
    texts, speakers = one.texts, one.speakers
    begin, end, days = await _days(one, first, last, organisation)
    questions, declined = (sum(each[name] for each in days) for name in ("questions", "declined"))
    frame: dict[str, Any] = {
        "csv": one.url("/analytics.csv", **{"from": begin.isoformat(), "to": end.isoformat()}),
        "filters": {"first": begin.isoformat(), "last": end.isoformat(), "organisation": organisation},
        "organisations": [],
        "tiles": [],
        "charts": [],
    }
    if not questions:
        return frame
    durations = views.summed(days, "durations")

    def bound(share: float) -> str:
        found = views.percentile(durations, share)
        if found is None:
            return "–"
        return _bound(texts, found)

    frame["tiles"] = [
        {"value": texts.number(questions), "label": texts("analytics.questions")},
        {"value": texts.number(sum(each["sessions"] for each in days)), "label": texts("analytics.sessions")},
        {"value": bound(0.5), "label": texts("analytics.median")},
        {"value": bound(0.9), "label": texts("analytics.slowest")},
        {"value": f"{texts.number(100 * declined / questions)}\u00a0%", "label": texts("analytics.declined_rate")},
    ]
    by_day = [
        charts.Bar(_short_day(each["day"]), (max(each["questions"] - each["declined"], 0), each["declined"]))
        for each in days
    ]
    title = texts("analytics.by_day")
    day_chart = {
        "anchor": "by-day",
        "title": title,
        "svg": charts.columns(by_day, title=title),
        "legend": [
            {"css": "answered", "text": texts("analytics.answered")},
            {"css": "declined", "text": texts("analytics.declined")},
        ],
        "heads": [texts("analytics.day"), texts("analytics.questions"), texts("analytics.declined")],
        "rows": [
            [each["day"], texts.number(each["questions"]), texts.number(each["declined"])]
            for each in reversed(days)
            if each["questions"]
        ],
    }
    by_group = _ranked(views.summed(days, "groups"))
    by_language = _ranked(views.summed(days, "languages"))
    times = sorted(durations.items(), key=lambda pair: float("inf") if pair[0] == "more" else float(pair[0]))
    frame["charts"] = [
        [day_chart],
        [
            _row_chart(
                texts,
                "group",
                [(speakers[name].name, count, speakers[name].css) for name, count in by_group],
            ),
            _row_chart(
                texts,
                "language",
                [
                    (
                        texts(f"languages.{name}" if texts.has(f"languages.{name}") else "languages.other"),
                        count,
                        "",
                    )
                    for name, count in by_language
                ],
            ),
        ],
        [
            _row_chart(
                texts,
                "duration",
                [
                    (
                        texts("analytics.more_than", n="300")
                        if name == "more"
                        else texts("analytics.up_to", n=name),
                        count,
                        "",
                    )
                    for name, count in times
                ],
            )
        ],
    ]
    return frame


def _bound(texts: Texts, name: str) -> str:
    return texts("analytics.more_than", n="300") if name == "more" else texts("analytics.up_to", n=name)


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _short_day(day: str) -> str:
    _, month, number = day.split("-")
    return f"{int(number)}.{int(month)}."


def _row_chart(texts: Texts, name: str, found: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    title = texts("analytics.durations" if name == "duration" else f"analytics.by_{name}")
    return {
        "anchor": f"by-{name}",
        "title": title,
        "svg": charts.rows(
            [charts.Bar(label, (count,), css) for label, count, css in found],
            title=title,
            figures=[texts.number(count) for _, count, _ in found],
        ),
        "legend": [],
        "heads": [texts(f"analytics.{name}"), texts("analytics.questions")],
        "rows": [[label, texts.number(count)] for label, count, _ in found],
    }


def _csv(days: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as CSV, a line for each day."""
    groups = sorted({name for day in days for name in day["groups"]})
    languages = sorted({name for day in days for name in day["languages"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    heads = ["day", "sessions", "questions", "declined", "mean_seconds"]
    writer.writerow([*heads, *(f"group {name}" for name in groups), *(f"language {name}" for name in languages)])
    for day in days:
        answered = sum(day["durations"].values())
        mean = f"{day['milliseconds'] / 1000 / answered:.3f}" if answered else ""
        row = [day["day"], day["sessions"], day["questions"], day["declined"], mean]
        writer.writerow(
            [
                *row,
                *(day["groups"].get(name, 0) for name in groups),
                *(day["languages"].get(name, 0) for name in languages),
            ]
        )
    return out.getvalue()


def _system(one: Reader, found: Mapping[str, Any]) -> dict[str, Any]:
    texts = one.texts
    model = found["model"]
    areas: dict[str, list[dict[str, str]]] = {}
    if model["answers"] is not None:
        state = "ok" if model["answers"] else "broken"
        said = ": ".join(filter(None, (model["name"], model.get("note")))) or "model"
        areas["model"] = [{"what": "Model server", "state": state, "text": said, "fix": ""}]
    for check in found.get("checks") or ():
        areas.setdefault(str(check["area"]), []).append(
            {
                "what": str(check["what"]),
                "state": str(check["state"]),
                "text": str(check["text"]),
                "fix": str(check.get("mend") or check.get("fix") or ""),
            }
        )
    states = [each["state"] for findings in areas.values() for each in findings]
    worst = "broken" if "broken" in states else "warning" if "warning" in states else "ok"
    memory = found["memory"]
    tiles = [{"value": str(found["version"]), "label": texts("system.service")}]
    if "error" in memory:
        areas.setdefault("redis", []).append(
            {"what": "memory", "state": "broken", "text": str(memory["error"]), "fix": ""}
        )
        worst = "broken"
    else:
        tiles += [
            {"value": _figure(texts, name, memory[name]), "label": texts(f"system.{name}")}
            for name in ("used_memory_bytes", "total_keys", "sessions", "agents")
            if isinstance(memory.get(name), int)
        ]
    tiles.append({"value": texts.number(int(found["runs"])), "label": texts("system.runs")})
    names = {"redis": "server", "server": "server", "model": "model", "models": "model", "memory": "memory"}
    return {
        "worst": worst,
        "attention": sum(state in ("warning", "broken") for state in states) + ("error" in memory),
        "tiles": tiles,
        "areas": [
            {
                "title": texts(f"system.{names[area.lower()]}") if area.lower() in names else area,
                "findings": findings,
            }
            for area, findings in areas.items()
        ],
    }


def _figure(texts: Texts, name: str, value: int) -> str:
    if name != "used_memory_bytes":
        return texts.number(value)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{texts.number(value / size, 1)}\u00a0{unit}"
    return f"{value}\u00a0B"
