"""Pictures of decisions, of a thread's state and of activity: their contents in every format."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from ecowas_lc import (
    ActivityPicture,
    InvalidInputError,
    RouteDecision,
    SessionInfo,
    StatePicture,
    draw_activity,
    draw_graph,
    draw_route,
    draw_state,
    draw_thread,
    get_router,
)
from ecowas_lc.drawing.picture import Picture
from ecowas_lc.supervisor.routing.decision import FoundWord, TakenOver
from tests.display.pages import HOSTILE, MARKER, Parsed
from tests.fixtures.network import refuse_connections

QUESTION = "How can we finance the power grid and its lines?"
SVG = "{http://www.w3.org/2000/svg}"


def echo(state: MessagesState) -> dict[str, Any]:
    """Say it again.

    More of the docstring.
    """
    return {"messages": [AIMessage("yes " * 40)]}


def conversation(turns: int = 3) -> Any:
    builder = StateGraph(MessagesState).add_node(echo).add_edge(START, "echo")
    graph = builder.compile(checkpointer=InMemorySaver())
    for number in range(turns):
        graph.invoke({"messages": [("user", f"<b>{number}</b>")]}, {"configurable": {"thread_id": "t"}})
    return graph


def sessions() -> tuple[SessionInfo, ...]:
    began = datetime(2026, 3, 1, tzinfo=UTC)
    return tuple(
        SessionInfo("energy" if n % 3 else "<i>", f"s{n} & co", n, None, began, began + timedelta(days=n))
        for n in range(1, 40)
    )


def pictures() -> dict[str, Picture]:
    graph = conversation()
    return {
        "route": draw_route(get_router("lexical").route(QUESTION)),
        "state": draw_state(graph, "t"),
        "activity": ActivityPicture(sessions()),
        "graph": draw_graph(graph),
        "thread": draw_thread(graph.checkpointer, "t"),
    }


@pytest.mark.parametrize("name", ["route", "state", "activity", "graph", "thread"])
def test_each_picture_fits_a_notebook(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A picture is at most as wide as its cell, follows its theme, runs and loads nothing, and can be saved."""
    refuse_connections(monkeypatch)
    picture = pictures()[name]
    bundle = picture._repr_mimebundle_()
    svg = bundle["image/svg+xml"]
    root = ET.fromstring(svg.encode())
    pixels = float(root.attrib["viewBox"].split()[2]) * 96 / 72
    assert pixels <= 940
    assert root.attrib["width"] == ("100%" if pixels >= 640 else f"{pixels:.0f}")
    assert "prefers-color-scheme:dark" in svg
    assert "data-jp-theme-light" in svg
    assert not re.search(r"<script|\son\w+=|<a |href=|url\(|<!DOCTYPE", svg)
    assert bundle["image/png"].startswith("iVBOR")
    assert bundle["text/plain"].isascii()
    assert picture.mermaid.strip()
    saved = picture.save(tmp_path / "p.svg").read_text(encoding="utf-8")
    assert int(ET.fromstring(saved.encode()).attrib["width"]) > 100
    assert "prefers-color-scheme" not in saved


def texts(picture: Picture) -> str:
    return "\n".join("".join(text.itertext()) for text in ET.fromstring(picture.svg.encode()).iter(f"{SVG}text"))


def titles(picture: Picture) -> set[str]:
    return {str(title.text) for title in ET.fromstring(picture.svg.encode()).iter(f"{SVG}title")}


def decision_of(question: str) -> RouteDecision:
    return get_router("lexical").route(question)


def test_a_route_shows_why() -> None:
    """The question's decisive words, each group's score, and the threshold; other objects are refused."""
    picture = draw_route(get_router("lexical").route(QUESTION))
    told = texts(picture)
    assert {"finance", "power", "grid", "asked", "energy"} <= set(told.split())
    assert any(re.fullmatch(r"energy: 0\.\d\d, needs 0\.\d\d", title) for title in titles(picture))
    assert "* energy" in picture.ascii
    assert "==>" in picture.mermaid
    assert texts(draw_route(RouteDecision((), "asked", "Because."))).strip() == "Because."
    earlier = TakenOver(("energy",), 0, "Who pays for the grid?")
    long = replace(decision_of("Who " + "really " * 40 + "pays?"), taken_over=earlier)
    told = texts(draw_route(long))
    assert "Continues “Who pays for the grid?”." in told
    assert told.count("really") == 40
    with pytest.raises(InvalidInputError, match="not a decision"):
        draw_route("energy")  # type: ignore[arg-type]


def test_a_decision_tells_its_question_and_is_equal_without() -> None:
    """The question and the thresholds are stored for display; two decisions are equal if they decide the same."""
    decision = get_router("lexical").route(f"  {QUESTION} ")
    assert decision.question == QUESTION
    assert all(QUESTION[word.start : word.end] == word.text for word in decision.words)
    assert decision.thresholds is not None
    assert decision == replace(decision, question="", thresholds=None)
    assert "question=" not in repr(decision)


def test_a_state_shows_what_grows_and_what_changes() -> None:
    """Each channel has its size at every checkpoint, and the checkpoints where it changed."""
    picture = draw_state(conversation(), "t")
    assert isinstance(picture, StatePicture)
    sizes = picture.sizes["messages"]
    assert sizes == sorted(sizes)
    assert sum(picture.changed["messages"]) == 6
    assert len(sizes) == len(picture.moments) == 9
    assert "messages" in picture.ascii
    with pytest.raises(InvalidInputError, match="no thread 'x'"):
        draw_state(conversation(), "x")
    with pytest.raises(InvalidInputError, match="no checkpointer"):
        draw_state("graph", "t")


def test_activity_counts_days_and_sessions() -> None:
    """Days without sessions are included; a session counts on its last active day."""
    picture = ActivityPicture(sessions(), limit=5)
    assert [sum(counts.values()) for counts in picture.by_day.values()] == [1] * 39
    assert "s39 & co" in texts(picture)
    assert "s34 & co" not in texts(picture)
    assert "No sessions." in ActivityPicture(()).ascii
    assert "0 sessions" in texts(ActivityPicture(()))
    with pytest.raises(InvalidInputError, match="not a memory service"):
        draw_activity("redis")


def test_a_graph_tells_conditions_docstrings_and_subgraphs() -> None:
    """Edges that a step decides on are dashed, a node's docstring is its tooltip, a subgraph has a frame."""
    inner = conversation(0)
    builder = StateGraph(MessagesState).add_node("inner", inner).add_node("other", lambda state: {})
    builder.add_conditional_edges(START, lambda state: "inner", ["inner", "other"])
    picture = draw_graph(builder.compile(), subgraphs=True)
    assert "stroke-dasharray" in picture.svg
    assert "conditional: a step decides" in texts(picture)
    assert "Say it again." in titles(picture)
    assert 'class="cluster"' in picture.svg
    assert "-.->" in picture.mermaid
    assert "cluster" not in draw_graph(builder.compile()).svg


def test_a_long_thread_is_folded_and_has_pages() -> None:
    """Steps that say nothing share a row, and turns have one each if there are many.

    What comes before a picture is drawn with ``before``.
    """
    graph = conversation(40)
    for limit, count in ((45, 30), (60, 20), (None, 40)):
        page = draw_thread(graph.checkpointer, "t", limit=limit)
        assert len([title for title in titles(page) if title.startswith("checkpoint ")]) == count
    for said in ("user: <b>39</b>", "assistant: yes yes"):
        assert said in texts(page).replace("\n", "").replace("\u200e", "")
    fork = graph.update_state(page[60].config, {"messages": [("user", "a fork")]}, as_node=START)
    forked = draw_thread(graph.checkpointer, "t", limit=None)
    assert forked[len(forked)].config == fork
    assert "a fork" in texts(forked)
    page = draw_thread(graph.checkpointer, "t", limit=60, before=forked[121].config)
    earlier = draw_thread(graph.checkpointer, "t", limit=60, before=page[1].config)
    assert earlier[60].config != page[1].config
    assert not earlier.is_cut
    assert len(earlier) + len(page) == 120
    assert not {title for title in titles(draw_graph(graph)) if "executor" in title}


def test_a_name_without_a_visible_character_is_drawn_as_nothing() -> None:
    """A session's id may consist of characters that can't be seen; the picture shows its line without a name."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    picture = ActivityPicture((SessionInfo("energy", "\u200b", 1_234, None, now, now),))
    found = texts(picture).split("\n")
    assert "1,234" in found
    assert not [text for text in found if re.fullmatch(r"n\d+", text)], "Graphviz shows its own name of the node"


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_what_people_and_models_write_is_text(number: int) -> None:
    """A picture shows any text of questions, names, errors and docstrings, and never as markup."""
    bad = HOSTILE[number].encode("utf-8", "replace").decode()

    def fail(state: MessagesState) -> dict[str, Any]:
        raise ValueError(bad)

    fail.__doc__ = bad
    builder = StateGraph(MessagesState).add_node("fail", fail).add_edge(START, "fail")
    graph = builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match=MARKER):
        graph.invoke({"messages": [HumanMessage(bad, name=bad)]}, {"configurable": {"thread_id": bad}})
    decision = RouteDecision((bad,), "x", bad, {bad: 0.5}, (FoundWord(bad, 0, len(bad), bad),), bad, None, bad)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for picture in (
        draw_graph(graph, labels={"fail": bad}),
        draw_thread(graph.checkpointer, bad),
        draw_state(graph, bad),
        draw_route(decision),
        ActivityPicture((SessionInfo(bad, bad, 3, None, now, now),)),
    ):
        found = Parsed(picture.svg)
        assert found.tags <= {
            "svg",
            "style",
            "g",
            "title",
            "text",
            "path",
            "polygon",
            "polyline",
            "ellipse",
            "!--",
        }
        assert not [name for name in found.attributes if name.startswith(("on", "href", "xlink:href"))]
        assert MARKER in found.text
        ET.fromstring(picture.svg.encode())
