"""Pictures of threads: their contents, legibly."""

from __future__ import annotations

import re
import struct
from datetime import UTC
from itertools import pairwise
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage, ToolMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from ecowas_lc import InvalidInputError, adraw_thread, draw_thread
from ecowas_lc.drawing import Moment, ThreadPicture, picture, requests, state_picture, thread_layout
from ecowas_lc.drawing.requests import read_request
from ecowas_lc.drawing.thread_layout import lanes_of, time_of
from ecowas_lc.drawing.thread_picture import _groups
from tests.fixtures.network import refuse_connections

CONFIG: dict[str, Any] = {"configurable": {"thread_id": "t"}}


def echo(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"You said: {state['messages'][-1].text}", name="echo")]}


def talk(saver: InMemorySaver, *questions: str) -> Any:
    graph = StateGraph(MessagesState).add_node(echo).add_edge(START, "echo").compile(checkpointer=saver)
    for question in questions:
        graph.invoke({"messages": [("user", question)]}, CONFIG)
    return graph


def test_titles_that_are_too_long() -> None:
    """A turn's title names as many groups as fit and counts the others; a picture prints as text."""
    names = ["energy", "resource_mobilization", "digital", "agriculture"]
    assert _groups(["energy", "digital"]) == "energy, digital"
    assert _groups([*names, "protocol"]) == "energy + 4"
    assert _groups(["a_very_long_name_of_a_group_of_people", "energy"]).endswith("… + 1")
    saver = InMemorySaver()
    talk(saver, "one?")
    drawn = draw_thread(saver, "t")
    assert str(drawn) == drawn.ascii
    with pytest.raises(InvalidInputError, match="not a checkpointer"):
        draw_thread("t", "t")  # type: ignore[arg-type]


async def test_what_can_not_be_drawn_is_left_out() -> None:
    """Other data in a channel, ids of other checkpointers and values that can't be stored end no picture."""
    assert thread_layout._messages([object()]) == []
    saver = InMemorySaver()
    talk(saver, "one?")
    [item, *_] = saver.list(CONFIG)
    item.checkpoint["channel_values"]["decision"] = "energy"
    item.checkpoint["channel_versions"]["decision"] = "2"
    parent = item._replace(checkpoint={**item.checkpoint, "channel_versions": {}})
    assert thread_layout._route(item, parent) == (None, "")
    assert list(requests._ids_of(item._replace(checkpoint={**item.checkpoint, "id": "no hex"}))) == []
    assert state_picture._size(saver, "x") > 0
    assert state_picture._size(None, "four") == 4
    assert (picture.shown("no svg"), picture.saved("no svg")) == ("no svg", "no svg")
    with pytest.raises(InvalidInputError, match="not a checkpointer"):
        await adraw_thread("t", "t")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "hour"),
    [("2026-03-27T10:00:00", 10), ("2026-03-27T10:00:00+02:00", 8), ("soon", None), (None, None)],
)
def test_a_time_that_can_not_be_read_is_none(stored: str | None, hour: int | None) -> None:
    """A checkpoint's time is in UTC unless it says otherwise; another saver's may be missing or unreadable."""
    checkpoint: Any = {**empty_checkpoint(), "ts": stored}
    if stored is None:
        del checkpoint["ts"]
    found = time_of(CheckpointTuple(CONFIG, checkpoint, {}))
    assert (None if found is None else found.astimezone(UTC).hour) == hour


def test_a_request_of_a_tool_of_your_own() -> None:
    """A request names its tool, arguments and choices, however an application spells them."""
    for value in (
        {"tool": "pay", "args": {"amount": 3}, "choices": ["yes", "no"]},
        {"action": "pay", "arguments": {"amount": 3}, "allowed_decisions": ["yes", "no"]},
    ):
        [request] = read_request(value, "cashier", "i")
        assert (request.tool, request.arguments, request.choices) == ("pay", (("amount", "3"),), ("yes", "no"))


def told(picture: ThreadPicture) -> list[tuple[int, int | None, str, list[str]]]:
    return [(m.number, m.parent, m.title, [f"{said.speaker}: {said.text}" for said in m.said]) for m in picture]


def fold(state: list[AnyMessage], writes: Any) -> list[AnyMessage]:
    return [*state, *(message for write in writes for message in write)]


class DeltaState(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(fold)]


def moment(number: int, parent: int | None) -> Moment:
    return Moment(number, parent, {}, "loop", (), (), (), (), (), ())


def test_tells_who_spoke_where() -> None:
    """Each checkpoint shows what ran and its new messages, and no others."""
    saver = InMemorySaver()
    talk(saver, "one", "two")
    assert told(draw_thread(saver, "t")) == [
        (1, None, "input", []),
        (2, 1, "start", ["user: one"]),
        (3, 2, "echo", ["echo: You said: one"]),
        (4, 3, "input", []),
        (5, 4, "start", ["user: two"]),
        (6, 5, "echo", ["echo: You said: two"]),
    ]


def test_a_streamed_message_is_told_once() -> None:
    """A chunk that the state holds as a message from the next step on is not a new message."""
    saver = InMemorySaver()
    graph = StateGraph(MessagesState).add_node(echo).add_edge(START, "echo").compile(checkpointer=saver)
    held = [AIMessageChunk("streamed", id="1")]
    version = saver.get_next_version(None, None)
    saver.put(
        {"configurable": {"thread_id": "t", "checkpoint_ns": ""}},
        {**empty_checkpoint(), "channel_values": {"messages": held}, "channel_versions": {"messages": version}},
        {"source": "update", "step": 0, "parents": {}},
        {"messages": version},
    )
    graph.invoke({"messages": [("user", "And then?")]}, CONFIG)
    assert draw_thread(saver, "t").ascii.count("streamed") == 1


def test_leads_back_to_each_checkpoint() -> None:
    """A moment's config is its checkpoint's."""
    saver = InMemorySaver()
    graph = talk(saver, "one", "two")
    picture = draw_thread(saver, "t")
    assert [m.text for m in graph.get_state(picture[3].config).values["messages"]] == ["one", "You said: one"]
    assert picture[2].next == ("echo",)
    with pytest.raises(InvalidInputError, match="from 1 to 6"):
        picture[7]


def test_forks_run_in_lanes_of_their_own() -> None:
    """A fork is drawn next to the branch that it left, connected to its checkpoint."""
    saver = InMemorySaver()
    graph = talk(saver, "one", "two")
    fork = graph.update_state(
        draw_thread(saver, "t")[3].config, {"messages": [("user", "instead")]}, as_node=START
    )
    graph.invoke(None, fork)
    picture = draw_thread(saver, "t")
    assert [picture.lanes.of[m.number] for m in picture] == [0, 0, 0, 0, 0, 0, 1, 1]
    assert picture[7].parent == 3
    assert picture.ascii.splitlines() == [
        "o    1  input",
        "o    2  start   user: one",
        "o    3  echo    echo: You said: one",
        "|-.",
        "o |  4  input",
        "o |  5  start   user: two",
        "o |  6  echo    echo: You said: two",
        "  o  7  update  user: instead",
        "  o  8  echo    echo: You said: instead",
    ]


def test_no_line_covers_another() -> None:
    """Branches share a lane only if one has ended before the other leaves its parent."""
    moments = [moment(1, None), moment(2, 1), moment(3, 1), moment(4, 2), moment(5, 2), moment(6, 5), moment(7, 4)]
    assert lanes_of(moments).of == {1: 0, 2: 0, 3: 1, 4: 0, 5: 2, 6: 2, 7: 0}
    moments = [moment(1, None), moment(2, 1), moment(3, 1), moment(4, 2), moment(5, 4), moment(6, 4)]
    assert lanes_of(moments).of == {1: 0, 2: 0, 3: 1, 4: 0, 5: 0, 6: 1}


def test_interrupts_wait_and_are_answered() -> None:
    """A pending request is marked until it is answered, and stays readable afterwards."""

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("assistant", interrupt({"question": "May I?", "choices": ["yes", "no"]}))]}

    saver = InMemorySaver()
    graph = StateGraph(MessagesState).add_node(ask).add_edge(START, "ask").compile(checkpointer=saver)
    graph.invoke({"messages": [("user", "go")]}, CONFIG)
    before = draw_thread(saver, "t")
    assert before[2].waiting == ("question: May I?, choices: yes / no",)
    assert "?  2  start  user: go" in before.ascii
    assert "waiting for an answer in ask: question: May I?" in before.ascii
    assert "class m2 waiting" in before.mermaid
    graph.invoke(Command(resume="certainly"), CONFIG)
    after = draw_thread(saver, "t")
    assert (after[2].waiting, after[2].answered) == ((), before[2].waiting)
    assert after[3].said[0].text == "certainly"
    assert "?" not in after.ascii.replace("I?", "")


def test_failures_are_told() -> None:
    """A step that failed says why."""

    def fail(state: MessagesState) -> dict[str, Any]:
        raise ValueError("the lamp is out")

    saver = InMemorySaver()
    graph = StateGraph(MessagesState).add_node(fail).add_edge(START, "fail").compile(checkpointer=saver)
    with pytest.raises(ValueError, match="lamp"):
        graph.invoke({"messages": [("user", "go")]}, CONFIG)
    assert "failed: " in draw_thread(saver, "t").ascii
    assert "the lamp is out" in draw_thread(saver, "t").ascii


def test_tools_and_sent_nodes_have_names() -> None:
    """Tool calls, their results, and nodes reached by Send are shown by name."""

    def call(state: MessagesState) -> Command[Any]:
        asking = AIMessage("", tool_calls=[{"name": "deposit", "args": {"mineral": "lithium"}, "id": "1"}])
        return Command(update={"messages": [asking]}, goto=[Send("look", state)])

    def look(state: MessagesState) -> dict[str, Any]:
        return {"messages": [ToolMessage("18 Mt", tool_call_id="1", name="deposit")]}

    saver = InMemorySaver()
    builder = StateGraph(MessagesState).add_node(call, destinations=("look",)).add_node(look)
    builder.add_edge(START, "call").compile(checkpointer=saver).invoke(
        {"messages": [("user", "how much?")]}, CONFIG
    )
    assert told(draw_thread(saver, "t"))[2:] == [
        (3, 2, "call", ["assistant: calls deposit(mineral: lithium)"]),
        (4, 3, "look", ["tool deposit: 18 Mt"]),
    ]


def test_delta_channels_tell_who_spoke() -> None:
    """Messages are found even if checkpoints hold only the writes."""

    saver = InMemorySaver()
    builder = StateGraph(DeltaState).add_node("echo", lambda state: echo(state))  # noqa: PLW0108  # echo has annotations
    graph = builder.add_edge(START, "echo").compile(checkpointer=saver)
    for text in ("one", "two"):
        graph.invoke({"messages": [HumanMessage(text)]}, CONFIG)
    said = [f"{said.speaker}: {said.text}" for m in draw_thread(saver, "t") for said in m.said]
    assert said == ["user: one", "echo: You said: one", "user: two", "echo: You said: two"]


def test_only_the_newest_when_there_are_many() -> None:
    """``limit`` draws the newest and shows that there are more; earlier messages are not marked as new."""
    saver = InMemorySaver()
    talk(saver, "one", "two", "three")
    picture = draw_thread(saver, "t", limit=3)
    assert picture.is_cut
    assert picture.ascii.startswith(":\n")
    assert [said.text for m in picture for said in m.said] == ["three", "You said: three"]
    assert not draw_thread(saver, "t").is_cut


def test_what_follows_something_that_is_not_drawn_says_so() -> None:
    """Each branch whose beginning is left out has a mark above it: nothing seems to begin out of nothing."""
    saver = InMemorySaver()
    graph = talk(saver, "one", "two")
    graph.update_state(draw_thread(saver, "t")[3].config, {"messages": [("user", "fork")]}, as_node=START)
    picture = draw_thread(saver, "t", limit=2)
    assert [moment.is_cut for moment in picture] == [True, True]
    assert picture.ascii.splitlines()[::2] == [":", ":"]
    assert ET.fromstring(picture.svg.encode()).findtext(".//{http://www.w3.org/2000/svg}title") is not None
    assert [moment.is_cut for moment in draw_thread(saver, "t")] == [False] * 7


@pytest.mark.parametrize(
    ("more", "drawn_end"), [("", "there is room"), ("_in_the_picture_finally", "there is room in…")]
)
def test_long_names_and_words_are_cut_and_not_dropped(more: str, drawn_end: str) -> None:
    """A long name of a node, which has three lines, and a word longer than the line show how they begin."""
    saver = InMemorySaver()
    name = f"a_node_with_a_name_that_is_longer_than_there_is_room{more}"
    graph = StateGraph(MessagesState).add_node(name, echo).add_edge(START, name).compile(checkpointer=saver)
    graph.invoke({"messages": [("user", "x" * 500)]}, CONFIG)
    picture = draw_thread(saver, "t")
    drawn = "\n".join(ET.fromstring(picture.svg.encode()).itertext())
    for text in (picture.ascii, drawn):
        assert "a_node_with_a_name" in text
        assert "xxxxxxxxxxxxxxxxxxxx" in text
        assert name not in text
        assert "finally" not in text
    assert drawn_end in drawn
    assert "xxxxxxxxxxxxxxxxxxxx" in picture.mermaid


def test_what_is_written_from_right_to_left_stays_behind_its_speaker() -> None:
    """The colon after a name belongs to the name, whatever the writing direction of the text."""
    saver = InMemorySaver()
    talk(saver, "مرحبا")
    assert "\u200e: مرحبا" in draw_thread(saver, "t").svg


def test_forty_forks_fit() -> None:
    """The lanes of many forks are closer together and leave room for the text."""
    saver = InMemorySaver()
    graph = talk(saver, "one")
    root = draw_thread(saver, "t")[3].config
    for number in range(40):
        graph.update_state(root, {"messages": [("user", f"fork {number} " + "of a tree " * 12)]}, as_node=START)
    picture = draw_thread(saver, "t")
    width, _ = struct.unpack(">II", picture.png[16:24])
    assert picture.lanes.count == 40
    assert width <= 1200
    assert "fork 39 of a tree of a tree of a tree" in picture.svg


async def test_async_draws_the_same() -> None:
    """``adraw_thread`` returns the same picture."""
    saver = InMemorySaver()
    talk(saver, "one")
    assert (await adraw_thread(saver, "t")).ascii == draw_thread(saver, "t").ascii


def test_what_is_not_there_is_named() -> None:
    """A missing thread, or an object that is not a checkpointer, is an error that says so."""
    with pytest.raises(InvalidInputError, match="no thread 'elsewhere'"):
        draw_thread(InMemorySaver(), "elsewhere")
    with pytest.raises(InvalidInputError, match="not a checkpointer"):
        draw_thread("t", "t")


def test_pictures_fit_and_text_stays_apart() -> None:
    """At most 1200 pixels wide; no two rows of text are closer than their height, whatever the text."""
    saver = InMemorySaver()
    graph = talk(saver, "long " * 200, "x" * 500, '<b>&amp;</b> "quoted" \\n {} |', "日本語の質問 " * 30, "")
    graph.invoke(None, graph.update_state(draw_thread(saver, "t")[3].config, {"messages": [("user", "fork")]}))
    picture = draw_thread(saver, "t")
    width, _ = struct.unpack(">II", picture.png[16:24])
    assert picture.png[:4] == b"\x89PNG"
    assert width <= 1200
    root = ET.fromstring(picture.svg.encode())
    assert root.attrib["width"] == "100%"  # of the cell
    assert float(root.attrib["viewBox"].split()[2]) * 96 / 72 <= 930
    places = [
        (round(float(text.attrib["y"]), 1), float(text.attrib["x"]))
        for text in root.iter("{http://www.w3.org/2000/svg}text")
    ]
    rows = sorted({y for y, x in places if x > 100})
    assert min(b - a for a, b in pairwise(rows) if b - a > 1) >= 14
    assert "<b>" in "".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))


def test_shows_itself_in_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook gets SVG and text; without the extra ``draw``, Mermaid and text; nothing goes to the network."""
    refuse_connections(monkeypatch)
    saver = InMemorySaver()
    talk(saver, "one")
    assert set(draw_thread(saver, "t")._repr_mimebundle_()) == {"image/svg+xml", "image/png", "text/plain"}
    monkeypatch.setattr("ecowas_lc.drawing.graph_picture._fonts", lambda: None)
    assert set(draw_thread(saver, "t")._repr_mimebundle_()) == {"text/vnd.mermaid", "text/plain"}


def test_mermaid_takes_any_text() -> None:
    """Characters that could end a label are written as Mermaid's entities."""
    saver = InMemorySaver()
    talk(saver, 'say "end" ] --> <script>')
    labels = re.findall(r'\["(.*)"\]', draw_thread(saver, "t").mermaid)
    assert len(labels) == 3
    assert not [label for label in labels if re.search(r'["\]<>]', label.replace("<br/>", ""))]
