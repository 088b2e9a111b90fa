"""A conversation as its page shows it: turns, versions, sources, and the reasons for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response
from markupsafe import Markup

from ecowas_lc.checkpoint.reading import outline_op
from ecowas_lc.errors import StorageError
from ecowas_lc.supervisor.routing import get_router
from ecowas_lc.web import views
from ecowas_lc.web.branches import BranchNode, Versions, versions_of
from ecowas_lc.web.permissions import Permission
from ecowas_lc.web.problems import NotFoundError
from ecowas_lc.web.reader import Reader
from ecowas_lc.web.service import LONGEST_QUESTION
from ecowas_lc.web.texts import Texts

if TYPE_CHECKING:
    from ecowas_lc.web.runs import Run

_MESSAGES_AT_ONCE = 40
_AROUND = 700  # characters of a document shown before and after a cited passage
_TRY = (
    ("energy", "en", "energy"),
    ("finance", "", "resource_mobilization"),
    ("fr", "fr", "agriculture"),
    ("pt", "pt", "digital"),
)
_STREAMED = (
    *("routing", "finished", "started", "stopped", "interrupted", "reconnected", "restarted"),
    *("waits", "busy", "copied", "copy", "failed", "together", "groups"),
)


async def chat_page(one: Reader, session: str, *, limit: int = 0, is_new: bool = False) -> Response:
    """Return the page of a conversation, or of one that has not started."""
    texts = one.texts
    if is_new:
        found: dict[str, Any] = {"turns": [], "version": "", "earlier": None, "title": texts("chat.untitled")}
    else:
        found = await turns_of(one, session, limit=limit)
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


async def turns_of(one: Reader, session: str, *, limit: int = 0) -> dict[str, Any]:
    """Return a conversation's newest turns, including those whose run is under way."""
    texts = one.texts
    most = min(max(limit, _MESSAGES_AT_ONCE), 2000)
    found = await one.service.session(one.by, session, limit=most)
    runs = await one.service.runs(one.by, session)
    messages = found["messages"]
    versions: Mapping[str, Versions] = {} if runs else await _versions(one, session)
    turns: list[views.TurnView] = []
    for place, message in enumerate(messages, start=found["first"]):
        if message["speaker"] == "user":
            turns.append(
                views.TurnView(views.anchor_of(f"{place}:{message['id']}"), str(message["id"]), message["text"])
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
        turns[-1].unanswered = not turns[-1].waits
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


def _place_runs(one: Reader, turns: list[views.TurnView], runs: Sequence[Run]) -> None:
    """Add each run that is under way to the turn that it answers."""
    for run in runs:
        links = run_links(one, run)
        asked = str(run.given.get("question_id") or "")
        if run.kind == "decide":
            if turns:
                turns[-1].run = links
            continue
        known = next((place for place, turn in enumerate(turns) if turn.id == asked), None)
        if known is None:
            turns.append(views.TurnView(views.anchor_of(run.id), asked, str(run.given.get("question", ""))))
        else:
            del turns[known + 1 :]
            turns[known].question = str(run.given.get("question") or turns[known].question)
        turns[-1].run = links
        turns[-1].answer = None


def run_links(one: Reader, run: Run) -> views.RunLinks:
    """Return the addresses for following and cancelling a run."""
    where = f"/api/runs/{run.id}"
    return views.RunLinks(run.id, one.url(f"{where}/events"), one.url(f"{where}/cancel"))


def _answer(one: Reader, session: str, message: Mapping[str, Any]) -> views.AnswerView:
    texts, speakers = one.texts, one.speakers
    key = str(message["id"])
    citations = {int(each["number"]): each for each in message.get("citations") or ()}

    def href(number: int) -> str:
        return one.url("/chat/source", session=session, message=key, number=number)

    def cite(number: int) -> Markup:
        return views.cite_mark(href(number), number, str(citations[number]["title"]), texts)

    groups = [speakers[group] for group in message.get("groups") or ()]
    text = str(message["text"])
    return views.AnswerView(
        id=key,
        speaker=speakers[str(message["speaker"])],
        groups=groups or [speakers[str(message["speaker"])]],
        html=views.answer_html(text, cite, citations),
        text=text,
        sources=[
            views.SourceView(
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
    """Return the versions of the turns. If the thread was never forked, its checkpoints are not read."""
    organisation = one.service.organisation
    outlined = await organisation.run(outline_op(organisation.saver._at, session))
    nodes = [
        BranchNode(str(each.place.checkpoint_id), each.parent or "", str(each.metadata.get("source", "")))
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


async def why_of(one: Reader, session: str, message: str) -> dict[str, Any]:
    """Return the reasons for an answer: the route with its evidence, and the answer of each group."""
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
        raise NotFoundError("The reasons for this answer are no longer stored.")
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


async def passage_of(one: Reader, session: str, message: str, number: int) -> dict[str, Any]:
    """Return the passage that a citation refers to, with the text around it."""
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


async def markdown_of(one: Reader, session: str) -> str:
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
