"""Messages as speech, a thread as the turns recorded in its checkpoints, and the results of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple

from ecowas_lc.display.blocks import (
    Hues,
    bar,
    box,
    code,
    counted,
    cut,
    duration,
    fold,
    heading,
    in_a_row,
    label,
    labels,
    note,
    part,
    plain,
    prose,
    side_by_side,
    speech,
    spoken,
    table,
    talk,
    waiting_in,
)
from ecowas_lc.display.html_elements import Node, element
from ecowas_lc.drawing import GraphPicture, draw_graph
from ecowas_lc.drawing.requests import Request, read_request
from ecowas_lc.drawing.thread_layout import Moment, moments_of, new_messages, speaker_of

if TYPE_CHECKING:
    from ecowas_lc.documents import GroundedAnswer


_MOST_STEPS = 60
_MOST_CALLS = 40


@dataclass
class ShownTurn:
    """One input of a thread and its results: what was said, which steps ran, and how it ended."""

    moments: list[Moment] = field(default_factory=list)
    messages: list[BaseMessage] = field(default_factory=list)
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Seconds from its first checkpoint to its last."""
        first, last = self.moments[0].at, self.moments[-1].at
        return (last - first).total_seconds() if first and last else None


def branch_of(newest_first: Sequence[CheckpointTuple]) -> list[CheckpointTuple]:
    """Return the checkpoints that led to the latest one, oldest first, without those of forks."""
    by_id = {_id(item.config): item for item in newest_first}
    item: CheckpointTuple | None = newest_first[0] if newest_first else None
    branch: list[CheckpointTuple] = []
    while item is not None:
        branch.append(item)
        item = by_id.pop(_id(item.parent_config), None) if item.parent_config else None
    return branch[::-1]


def turns_of(branch: Sequence[CheckpointTuple], channel: str) -> list[ShownTurn]:
    """Return the turns recorded in checkpoints, oldest first."""
    turns: list[ShownTurn] = []
    parent: CheckpointTuple | None = None
    for item, moment in zip(branch, moments_of(branch[::-1], channel), strict=True):
        if not turns or moment.source == "input":
            turns.append(ShownTurn())
        turn = turns[-1]
        turn.moments.append(moment)
        known = {message.id: place for place, message in enumerate(turn.messages) if message.id}
        for message in new_messages(item, parent, channel, is_first=item.parent_config is None):
            if message.id in known:
                turn.messages[known[message.id]] = message
            else:
                turn.messages.append(message)
        turn.values = item.checkpoint["channel_values"]
        parent = item
    return turns


def _id(config: Any) -> str:
    return str((config or {}).get("configurable", {}).get("checkpoint_id", ""))


def turn_speech(turn: ShownTurn, hues: Hues) -> list[Element]:
    """Return a turn as a conversation, with its steps collapsed."""
    told: list[Element] = []
    messages = list(turn.messages)
    while messages and isinstance(messages[0], (HumanMessage, SystemMessage)):
        told.append(message_speech(messages.pop(0), hues))
    told.append(element("div", element("dd", *_course(turn, hues), classes="aside")))
    told += [message_speech(message, hues) for message in messages]
    for moment in turn.moments:
        told += [
            element("div", element("dd", request_box(request, hues), classes="aside"))
            for request in moment.requests
        ]
        told += [
            element("div", element("dd", failure_box(failure.node, failure.text), classes="aside"))
            for failure in moment.failures
        ]
    return told


def _course(turn: ShownTurn, hues: Hues) -> list[Node]:
    """Return the details of a turn: its steps, the groups that the supervisor asked, and their reports."""
    told: list[Node] = []
    ran = [m for m in turn.moments if m.ran and m.title not in ("start", "input")]
    took = f", {duration(turn.seconds)}" if turn.seconds is not None else ""
    way = " → ".join(_folded([" + ".join(map(spoken, m.ran)) for m in ran]))
    if ran:
        rows = [
            ([spoken(" + ".join(m.ran))], [duration(m.seconds) if m.seconds is not None else ""], _done(m, hues))
            for m in ran[:_MOST_STEPS]
        ]
        steps = table(("Step", "Took", "Result"), rows, ("short", "number"))
        told.append(fold(f"{cut(way, 110)} ({counted(len(ran), 'step')}{took})", steps))
    decision, reports = turn.values.get("decision"), turn.values.get("reports")
    if isinstance(decision, Mapping) and any(moment.route is not None for moment in turn.moments):
        told.insert(0, route_line(decision, hues))
        if isinstance(reports, Mapping) and reports and len(decision.get("groups") or ()) > 1:
            told.append(fold(counted(len(reports), "report"), reports_side_by_side(reports, hues)))
    return told


def _done(moment: Moment, hues: Hues) -> list[Node]:
    found: list[Node] = []
    if moment.route is not None:
        found.append(labels(moment.route, hues))
    found += [label(f"{spoken(group)}: {status}", hues(group)) for group, status in moment.reports.items()]
    found += [f"{spoken(said.speaker)}: {cut(said.text, 90)} " for said in moment.said[:3]]
    found += [waiting_in(spoken(one.node) or "a step") for one in moment.requests]
    found += [label(f"{spoken(one.node) or 'a step'} failed", "bad") for one in moment.failures]
    return found


def _folded(names: Sequence[str]) -> list[str]:
    """Return names in order, with repetitions as one name and a count."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return [name if times == 1 else f"{name} ×{times}" for name, times in runs]


def route_line(decision: Mapping[str, Any], hues: Hues) -> Element:
    """Return the groups that the supervisor asked, and why."""
    groups = decision.get("groups")
    names = map(str, groups) if isinstance(groups, (list, tuple)) else ()
    reason = str(decision.get("reason", ""))
    return asked_line(names, reason, hues)


def asked_line(groups: Iterable[str], reason: str, hues: Hues) -> Element:
    """Return the groups that a question went to, and why."""
    dot = element("span", ".", classes="sep")
    return element("p", "Asked: ", labels(groups, hues), dot, " ", element("small", cut(reason, 240)))


def reports_side_by_side(reports: Mapping[str, Any], hues: Hues) -> Element:
    """Return the groups' answers next to each other."""
    boxes = []
    for group, report in list(reports.items())[:12]:
        if isinstance(report, Mapping):
            boxes.append(report_box(str(group), report, hues))
    return side_by_side(*boxes)


def report_box(group: str, report: Mapping[str, Any], hues: Hues) -> Element:
    """Return one group's report."""
    status = str(report.get("status", ""))
    text = str(report.get("text") or report.get("reason") or "")
    facts: list[str] = [] if status == "answered" else [status]
    if report.get("tools") == "used":
        facts.append("used tools")
    if report.get("model_calls"):
        facts.append(counted(int(report["model_calls"]), "model call"))
    if report.get("released"):
        facts.append(f"{report['released']} by a reviewer")
    left_out = report.get("left_out")
    removed = None
    if isinstance(left_out, list) and left_out:
        lines = element("ul", *(element("li", cut(line, 300)) for line in left_out[:20]))
        removed = fold(f"{counted(len(left_out), 'sentence')} left out: no source supports it", lines)
    hue = "bad" if status in ("failed", "rejected") else "waits" if status == "held" else hues(group)
    said = prose(text) or [note("No text.")]
    citations = report.get("citations")
    return box(
        spoken(group),
        *said,
        sources(citations) if isinstance(citations, list) else None,
        removed,
        note(" · ".join(facts)) if facts else None,
        classes=hue,
    )


def message_speech(message: BaseMessage, hues: Hues) -> Element:
    """Return a message as speech."""
    text = message.text
    if isinstance(message, HumanMessage):
        return speech(spoken(message.name or "user"), *prose(text), asks=True)
    if isinstance(message, SystemMessage):
        return speech("system", fold("instructions", *prose(text)))
    if isinstance(message, ToolMessage):
        failed = message.status == "error"
        title = f"tool {message.name or ''}".strip()
        body = code(text, 1_500) if text.strip() else note("No text.")
        return speech(title, fold(cut(" ".join(text.split()), 80) or "result", body), hue="bad" if failed else "")
    name = speaker_of(message)
    calls = list(getattr(message, "tool_calls", ()) or ())[:_MOST_CALLS]
    said: list[Node] = [*prose(text)]
    for call in calls:
        given = call.get("args") or {}
        inner = ", ".join(f"{key}: {plain(one, 120)}" for key, one in list(given.items())[:12])
        said.append(element("p", "calls ", code(f"{call.get('name')}({inner})", 400)))
    about: list[Node] = [tokens_of(message), sources(citations_of(message))]
    return speech(spoken(str(name)), *(said or [note("No text.")]), hue=hues(str(name)), about=about)


def tokens_of(message: BaseMessage) -> Element | None:
    """Return the number of tokens of an answer, if known."""
    used = getattr(message, "usage_metadata", None)
    if not isinstance(message, AIMessage) or not used:
        return None
    return note(f"{used.get('input_tokens', 0):,} tokens in, {used.get('output_tokens', 0):,} out")


def citations_of(message: BaseMessage) -> list[dict[str, Any]]:
    """Return the sources of an answer, each number once."""
    found: dict[Any, dict[str, Any]] = {}
    content = message.content if isinstance(message.content, list) else []
    for block in content:
        if not isinstance(block, dict):
            continue
        for one in block.get("annotations") or ():
            if isinstance(one, dict) and one.get("type") == "citation":
                extras: dict[str, Any] = one["extras"] if isinstance(one.get("extras"), dict) else {}
                number = extras.get("number", len(found) + 1)
                found.setdefault(
                    number,
                    {**extras, "number": number, "title": one.get("title"), "cited_text": one.get("cited_text")},
                )
    return list(found.values())


def sources(citations: Iterable[Any]) -> Element | None:
    """Return the sources that an answer's marks refer to, each with its cited text to open."""
    lines: dict[Any, Element] = {}
    for one in list(citations)[:40]:
        if not isinstance(one, Mapping) or one.get("number") in lines:
            continue
        page = f", page {one['page']}" if one.get("page") else ""
        title = f"[{one.get('number')}] {cut(one.get('title') or one.get('document') or 'source', 120)}{page}"
        quoted = element("blockquote", "“", cut(one.get("cited_text") or "", 600), "”")
        lines[one.get("number")] = fold(title, quoted) if one.get("cited_text") else element("p", title)
    return element("div", *lines.values()) if lines else None


def request_box(request: Request, hues: Hues) -> Element:
    """Return a request that waits for a decision: its step, its action, and the possible decisions."""
    where = f"Waiting for a decision in {spoken(request.node)}" if request.node else "Waiting for a decision"
    rows = [(key or "argument", prose(text, 1_500)) for key, text in request.arguments[:12]]
    return box(
        where,
        element("p", element("strong", cut(request.tool or request.text, 600))),
        table(("Argument", "Value"), rows, ("short",)) if rows else None,
        element("p", "You can ", in_a_row(*map(label, request.choices))) if request.choices else None,
        note("id ", code(request.id)) if request.id else None,
        classes="waits",
    )


def failure_box(node: str, text: str) -> Element:
    """Return an error of a step."""
    return box(f"{spoken(node)} failed" if node else "A step failed", element("p", cut(text, 600)), classes="bad")


def conversation(messages: Sequence[BaseMessage], hues: Hues) -> Element:
    """Return messages as a conversation."""
    return talk(*(message_speech(message, hues) for message in messages))


def share_bar(share: float, least: float | None, hue: str) -> Element:
    """Return a bar in a group's colour."""
    return element("div", bar(share, least), classes=hue)


def result(shown: Mapping[str, Any], title: str = "Answer") -> list[Node]:
    """Return a run's question, route, reports next to each other, synthesis, sources, and what waits."""
    hues = Hues()
    messages = [one for one in shown.get("messages") or () if isinstance(one, BaseMessage)]
    asked = next(
        (place for place in reversed(range(len(messages))) if isinstance(messages[place], HumanMessage)), 0
    )
    decision = shown.get("decision") or {}
    reports = shown.get("reports") or {}
    synthesis = shown.get("synthesis") or {}
    groups = decision.get("groups") if isinstance(decision, Mapping) else None
    names = map(str, groups) if isinstance(groups, (list, tuple)) else ()
    found: list[Node] = [heading(title, labels(names, hues, "by the supervisor itself"))]
    before = asked
    if before > 0:
        found.append(
            fold(
                counted(before, "earlier message"),
                talk(*(message_speech(one, hues) for one in messages[max(0, before - 20) : before])),
            )
        )
    if messages:
        found.append(talk(message_speech(messages[asked], hues)))
    if decision:
        found.append(route_line(decision, hues))
    if isinstance(reports, Mapping) and len(reports) > 1:
        found += [part("What each group said"), reports_side_by_side(reports, hues)]
    answers = messages[asked + 1 :]
    if answers:
        if isinstance(reports, Mapping) and len(reports) > 1:
            found.append(part("Together"))
        found.append(talk(*(message_speech(one, hues) for one in answers)))
        if len(reports) == 1 and not citations_of(answers[-1]):
            only = next(iter(reports.values()))
            listed = only.get("citations") if isinstance(only, Mapping) else None
            found.append(sources(listed) if isinstance(listed, list) else None)
    found += synthesis_parts(synthesis, "\n".join(one.text for one in answers))
    for interrupt in shown.get("__interrupt__") or ():
        for request in read_request(getattr(interrupt, "value", interrupt), "", str(getattr(interrupt, "id", ""))):
            found.append(request_box(request, hues))
    return found


def agent_picture(agent: Any) -> GraphPicture:
    """Return the picture of the graph that an agent runs."""
    return draw_graph(agent.graph)


def synthesis_parts(synthesis: Any, told: str) -> list[Node]:
    """Return the parts of a synthesis that the answer does not contain."""
    if not isinstance(synthesis, Mapping):
        return []
    found: list[Node] = []
    for key, title in (
        ("agreements", "They agree"),
        ("conflicts", "They differ"),
        ("open_questions", "Open questions"),
    ):
        listed = synthesis.get(key)
        lines = [line for line in listed if str(line) not in told] if isinstance(listed, list) else []
        if lines:
            found.append(
                fold(
                    f"{title}: {len(lines)}",
                    element("ul", *(element("li", cut(line, 400)) for line in lines[:20])),
                    is_open=key == "conflicts",
                )
            )
    missing = synthesis.get("missing")
    if isinstance(missing, Mapping) and missing:
        found.append(
            element(
                "p",
                *(
                    label(f"No answer from {spoken(str(name))}: {cut(why, 160)}", "bad")
                    for name, why in list(missing.items())[:12]
                ),
            )
        )
    return found


def grounded(shown: GroundedAnswer) -> list[Node]:
    """Return an answer with its sources and what the check removed."""
    cited = [
        {"number": one.number, "title": one.document.title, "page": one.page, "cited_text": one.sentence.text}
        for one in shown.citations
    ]
    state = (
        label("the documents do not say", "waits")
        if shown.declined
        else label("quoted", "c0")
        if shown.quoted
        else label("every sentence has a source", "c1")
    )
    removed = None
    if shown.removed:
        lines = element("ul", *(element("li", cut(getattr(one, "text", one), 300)) for one in shown.removed[:30]))
        removed = fold(f"{counted(len(shown.removed), 'sentence')} left out: no source supports it", lines)
    return [
        heading("Answer from documents", state),
        *(prose(shown.text) or [note("No text.")]),
        sources(cited),
        removed,
    ]
