"""The pages: each route asks the service for what the reader may see and renders it in the reader's language."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from ecowas_lc.errors import InvalidDecisionError, InvalidInputError, NotWaitingError
from ecowas_lc.web import views
from ecowas_lc.web.conversation_page import chat_page, markdown_of, passage_of, run_links, turns_of, why_of
from ecowas_lc.web.documents_page import document_page, documents_page
from ecowas_lc.web.figures_pages import analytics_of, csv_of, period_of, system_of
from ecowas_lc.web.middleware import COOKIE, principal_in, sender_of, set_cookie, too_many
from ecowas_lc.web.open_pages import LANGUAGE_COOKIE, back_of, door, language_of_reader
from ecowas_lc.web.permissions import Permission
from ecowas_lc.web.problems import NotFoundError
from ecowas_lc.web.reader import NAV, Reader
from ecowas_lc.web.rendering import address
from ecowas_lc.web.service import LONGEST_ID, LONGEST_QUESTION, new_session
from ecowas_lc.web.sessions_page import ACTIVITY, LIFETIMES, sessions_page
from ecowas_lc.web.texts import LANGUAGES, Texts, texts_of
from ecowas_lc.web.thread_page import thread_of

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web

_LINES_A_PAGE = 50
_MOST_AT_ONCE = 200  # sessions that one request can change
_DECIDED_SECONDS = 5.0  # how long a page waits for a decision to take effect
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
PageHandler = Callable[..., Coroutine[Any, Any, Response]]


class AskForm(BaseModel):
    """The request of a page's script: a new question, an edited one, or one to answer again."""

    model_config = ConfigDict(extra="forbid")

    session: str = Field(min_length=1, max_length=LONGEST_ID)
    question: str = Field(min_length=1, max_length=LONGEST_QUESTION)
    edit: str | None = Field(default=None, max_length=LONGEST_ID)
    regenerate: str | None = Field(default=None, max_length=LONGEST_ID)


def add_pages(router: APIRouter, web: Web) -> None:
    """Add the routes of the pages."""

    def page(path: str, *, method: str = "GET") -> Callable[[PageHandler], PageHandler]:
        def add(handler: PageHandler) -> PageHandler:
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
        """Show an empty conversation, or the first page that the reader may see."""
        one = reader(request)
        if not one.may(Permission.CHAT):
            return see(next(one.url(path) for _, path, needs in NAV if one.may(needs)))
        return await chat_page(one, new_session(), is_new=True)

    @page("/chat")
    async def page_chat(
        request: Request, session: Annotated[str | None, Query()] = None, limit: Annotated[int, Query()] = 0
    ) -> Response:
        """Show a conversation."""
        one = reader(request)
        if session is None:
            return see(one.url("/"))
        return await chat_page(one, session, limit=limit)

    @page("/chat", method="POST")
    async def page_ask(
        request: Request, session: Annotated[str, Form()], question: Annotated[str, Form()]
    ) -> Response:
        """Ask a question without JavaScript. The answer appears when the page is reloaded."""
        one = reader(request)
        if (wait := web.questions.wait_seconds(f"{one.by.prefix}:{one.by.name}")) > 0:
            return too_many(wait)
        found, groups = _asked_groups(question, one.speakers)
        await one.service.ask(one.by, found, session=session, groups=groups)
        return see(one.url("/chat", session=session))

    @page("/chat/run", method="POST")
    async def page_run(request: Request, given: AskForm) -> Response:
        """Ask, edit or repeat a question, and return where to follow the answer."""
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
        links = run_links(one, run)
        return JSONResponse({"id": run.id, "events": links.events, "cancel": links.cancel}, 202)

    @page("/chat/turns")
    async def page_turns(
        request: Request, session: Annotated[str, Query()], limit: Annotated[int, Query()] = 0
    ) -> Response:
        """Show the turns of a conversation without the page around them."""
        one = reader(request)
        return await one.page("turns.html", "chat", **await turns_of(one, session, limit=limit))

    @page("/chat/why")
    async def page_why(
        request: Request, session: Annotated[str, Query()], message: Annotated[str, Query()]
    ) -> Response:
        """Show the reasons for an answer."""
        one = reader(request)
        return await one.page("why.html", "chat", **await why_of(one, session, message))

    @page("/chat/source")
    async def page_source(
        request: Request,
        session: Annotated[str, Query()],
        message: Annotated[str, Query()],
        number: Annotated[int, Query()],
    ) -> Response:
        """Show the passage that a citation refers to."""
        one = reader(request)
        return await one.page("source.html", "chat", source=await passage_of(one, session, message, number))

    @page("/chat/version", method="POST")
    async def page_version(
        request: Request, session: Annotated[str, Form()], step: Annotated[str, Form()]
    ) -> Response:
        """Switch to another version of a turn."""
        one = reader(request)
        await one.service.fork(one.by, session, step)
        return see(one.url("/chat", session=session))

    @page("/chat/export")
    async def page_export(request: Request, session: Annotated[str, Query()]) -> Response:
        """Return a conversation as Markdown."""
        one = reader(request)
        text = await markdown_of(one, session)
        name = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else "-" for sign in session)
        headers = {"Content-Disposition": f'attachment; filename="{name[:80] or "conversation"}.md"'}
        return Response(text.encode("utf-8", "replace"), media_type="text/markdown", headers=headers)

    # --- sessions ---

    @page("/sessions")
    async def page_sessions(
        request: Request,
        search: Annotated[str, Query()] = "",
        group: Annotated[str, Query()] = "",
        active: Annotated[str, Query()] = "",
        at: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Show the sessions that the reader may see."""
        one = reader(request)
        return await sessions_page(one, search[:200], group, active if active in ACTIVITY else "", at)

    @page("/sessions", method="POST")
    async def page_change_sessions(
        request: Request,
        action: Annotated[str, Form()],
        session: Annotated[list[str], Form()],
        ttl: Annotated[int, Form(ge=60, le=366 * 86400)] = LIFETIMES[1],
        back: Annotated[str, Form()] = "",
    ) -> Response:
        """Extend or clear sessions. Clearing asks for confirmation first."""
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
        """Show a thread's steps and the state at one of them."""
        one = reader(request)
        return await one.page("thread.html", "sessions", **await thread_of(one, session, step, before))

    @page("/thread/fork", method="POST")
    async def page_fork(
        request: Request,
        session: Annotated[str, Form()],
        step: Annotated[str, Form()],
        question: Annotated[str, Form()],
    ) -> Response:
        """Ask a question from an earlier step."""
        one = reader(request)
        found, groups = _asked_groups(question, one.speakers)
        await one.service.fork(one.by, session, step)
        await one.service.ask(one.by, found, session=session, groups=groups)
        return see(one.url("/chat", session=session, done="thread.forked"))

    # --- approvals ---

    @page("/approvals")
    async def page_approvals(request: Request) -> Response:
        """Show the drafts that wait for the reader's decision."""
        one = reader(request)
        return await one.page("approvals.html", "approvals", drafts=await drafts_of(one), paging=None)

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
            drafts = await drafts_of(one)
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
        """Show the differences between an edited draft and the original."""
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

    # --- documents ---

    @page("/documents")
    async def page_documents(
        request: Request, search: Annotated[str, Query()] = "", group: Annotated[str, Query()] = ""
    ) -> Response:
        """Show the documents that the reader may read, or the passages that match a search."""
        return await documents_page(reader(request), search, group)

    @page("/documents", method="POST")
    async def page_add_document(
        request: Request,
        file: Annotated[UploadFile, File()],
        groups: Annotated[list[str] | None, Form()] = None,
        title: Annotated[str, Form(max_length=500)] = "",
        issuer: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        """Add a document. If the file can't be used, the page says why."""
        one = reader(request)
        try:
            await one.service.add_document(
                one.by,
                file.filename or "",
                await file.read(),
                groups=groups or (),
                title=title.strip(),
                issuer=issuer.strip(),
            )
        except InvalidInputError as error:
            return await documents_page(one, status=422, problem=one.texts("common.failed", why=str(error)))
        return see(one.url("/documents", done="documents.added"))

    @page("/document")
    async def page_document(request: Request, document: Annotated[str, Query()]) -> Response:
        """Show a document's text."""
        return await document_page(reader(request), document)

    @page("/documents/remove", method="POST")
    async def page_remove_document(request: Request, document: Annotated[str, Form()]) -> Response:
        """Remove a document."""
        one = reader(request)
        await one.service.remove_document(one.by, document)
        return see(one.url("/documents", done="documents.removed"))

    # --- figures ---

    @page("/analytics")
    async def page_analytics(
        request: Request,
        first: Annotated[str, Query(alias="from")] = "",
        last: Annotated[str, Query(alias="to")] = "",
        organisation: Annotated[str, Query()] = "",
    ) -> Response:
        """Show the figures of a period."""
        one = reader(request)
        return await one.page("analytics.html", "analytics", **await analytics_of(one, first, last, organisation))

    @page("/analytics.csv")
    async def page_analytics_csv(
        request: Request,
        first: Annotated[str, Query(alias="from")] = "",
        last: Annotated[str, Query(alias="to")] = "",
        organisation: Annotated[str, Query()] = "",
    ) -> Response:
        """Return the figures as CSV."""
        one = reader(request)
        period = await period_of(one, first, last, organisation)
        name = f"analytics-{period.first}-{period.last}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(
            csv_of(period.by_organisation, period.organisation).encode("utf-8", "replace"),
            media_type="text/csv; charset=utf-8",
            headers=headers,
        )

    @page("/system")
    async def page_system(request: Request) -> Response:
        """Show the state of the service."""
        one = reader(request)
        found = await one.service.system(one.by, checks=True)
        return await one.page("system.html", "system", **system_of(one, found))

    @page("/audit")
    async def page_audit(request: Request, before: Annotated[str | None, Query()] = None) -> Response:
        """Show the audit log."""
        one = reader(request)
        lines = await one.service.audit_lines(one.by, limit=_LINES_A_PAGE, before=before)
        older = one.url("/audit", before=lines[-1]["id"]) if len(lines) == _LINES_A_PAGE else None
        shown = [
            {
                "at": views.moment_of(line["at"], one.texts),
                "who": line["who"],
                "what": _deed(line, one.texts),
                "detail": line.get("detail", ""),
                "where": " · ".join(filter(None, (line.get("session"), line.get("draft")))),
            }
            for line in lines
        ]
        return await one.page("audit.html", "audit", lines=shown, older=older)

    # --- signing in, and pages that need no sign-in ---

    @page("/sign-in", method="POST")
    async def page_sign_in(
        request: Request, key: Annotated[str, Form(max_length=300)], back: Annotated[str, Form()] = ""
    ) -> Response:
        """Sign in with a key."""
        if (wait := web.sign_ins.wait_seconds(sender_of(web, request))) > 0:
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
        """Return a static file. Its address changes with its content."""
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
        """Store the language that the reader chose."""
        response = see(back_of(web, *back.partition("?")[::2]))
        if language in LANGUAGES:
            response.set_cookie(
                LANGUAGE_COOKIE, language, max_age=365 * 86400, path="/", samesite="lax", httponly=True
            )
        return response


def _deed(line: Mapping[str, Any], texts: Texts) -> str:
    what = str(line["what"])
    name = "edit_draft" if what == "edit" and line.get("draft") else what.replace(" ", "_")
    return texts(f"deed.{name}") if texts.has(f"deed.{name}") else what


def _asked_groups(question: str, speakers: views.Speakers) -> tuple[str, list[str]]:
    """Return a question without its leading ``@group`` marks, and the groups that these name."""
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


async def drafts_of(one: Reader) -> list[dict[str, Any]]:
    """Return the drafts that wait for a user's decision."""
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
