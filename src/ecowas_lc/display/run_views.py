"""Views of a run's result, and of answers that are based on documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, HumanMessage

from ecowas_lc.display.blocks import Hues, fold, heading, label, labels, note, part, prose, spoken, talk
from ecowas_lc.display.conversation_views import (
    citations_of,
    message_speech,
    reports_side_by_side,
    request_box,
    route_line,
    sources,
)
from ecowas_lc.display.html_elements import Node, element
from ecowas_lc.display.wording import counted, cut
from ecowas_lc.drawing import GraphPicture, draw_graph
from ecowas_lc.drawing.requests import read_request

if TYPE_CHECKING:
    from ecowas_lc.documents import GroundedAnswer


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
                    label(f"{spoken(str(name))} lacks: {cut(why, 160)}", "bad")
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
