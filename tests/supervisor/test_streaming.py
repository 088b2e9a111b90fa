"""The stream of a turn: each token once, labelled with its speaker, and nothing that is not for the user."""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import Any

import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Command

from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ModelAskingRouter, ScriptedModel, by_speaker
from tests.supervisor.conftest import Graph, Stream, in_thread

SYNTHESIS = {
    "views": {"energy": "Solar, first.", "digital": "Cables, first."},
    "agreements": ["Both want speed.", "none"],
    "conflicts": ["Who is first."],
    "open_questions": [],
    "answer": "Begin with both of them.",
}


def heard(parts: list[Any]) -> dict[tuple[str, str | None], str]:
    """Join the tokens of each message, by node and label."""
    texts: dict[tuple[str, str | None, str], str] = defaultdict(str)
    for chunk, metadata in parts:
        texts[metadata["langgraph_node"], metadata.get("twg"), chunk.id] += chunk.text
    joined: dict[tuple[str, str | None], str] = {}
    for (node, label, _), text in texts.items():
        assert (node, label) not in joined, "the same speaker was heard under two ids"
        joined[node, label] = text.strip()
    return joined


def of_the_newest_protocol(graph: Graph, *given: Any) -> Any:
    """Stream a run's events; langchain-core warns once in a process that they are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        return graph.stream_events(*given, version="v3")


@pytest.fixture(params=[False, True], ids=["ids of langchain", "ids of the model's own"])
def model(request: pytest.FixtureRequest) -> ScriptedModel:
    return ScriptedModel(script=by_speaker({"synthesis": SYNTHESIS}), structured=True, own_ids=request.param)


def test_a_single_answer_is_heard_once(stream: Stream, model: ScriptedModel) -> None:
    """Passing an answer on does not stream it again."""
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    parts = stream(graph, "energy: a?", stream_mode="messages")
    assert heard(parts) == {("energy", "energy"): "energy speaks."}
    assert len(parts) >= 2


def test_several_groups_are_told_apart(stream: Stream, model: ScriptedModel) -> None:
    """Tokens of groups that answer at the same time have the group's id; those of the synthesis have none."""
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    parts = stream(graph, "energy+digital: a?", stream_mode="messages")
    said = heard(parts)
    assert said[("energy", "energy")] == "energy speaks."
    assert said[("digital", "digital")] == "digital speaks."
    final = graph.get_state({"configurable": {"thread_id": "t"}}).values["messages"][-1]
    assert said[("synthesise", None)] == final.text
    assert len(said) == 3
    assert sum(metadata["langgraph_node"] == "synthesise" for _, metadata in parts) > 5


def test_no_json_is_heard(stream: Stream, model: ScriptedModel) -> None:
    """The form that the model fills in is never streamed."""
    graph = build_supervisor(model, router=FixedRouter())
    text = "".join(chunk.text for chunk, _ in stream(graph, "energy+digital: a?", stream_mode="messages"))
    assert "{" not in text
    assert '"views"' not in text


def test_what_a_router_asks_of_a_model_is_not_heard(stream: Stream) -> None:
    """Routing is not streamed, even if the router does not prevent it."""
    asking = ScriptedModel(script=lambda messages: "ROUTING")
    graph = build_supervisor(ScriptedModel(script=by_speaker({})), router=ModelAskingRouter(asking))
    parts = stream(graph, "energy: a?", stream_mode="messages")
    assert len(asking.calls) == 1
    assert heard(parts) == {("energy", "energy"): "energy speaks."}


def test_minutes_are_not_heard(stream: Stream) -> None:
    """The running summary is not streamed."""
    model = ScriptedModel(script=by_speaker({"energy": "long " * 150, "summary": "MINUTES"}))
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), num_ctx=2048)
    said = ""
    for turn in range(8):
        parts = stream(graph, f"energy: {turn}?", stream_mode="messages")
        said += "".join(chunk.text for chunk, _ in parts)
    assert graph.get_state({"configurable": {"thread_id": "t"}}).values["summary"]["text"] == "MINUTES"
    assert "MINUTES" not in said


def test_history_is_not_replayed(stream: Stream, model: ScriptedModel) -> None:
    """A later turn's stream contains nothing of the earlier ones."""
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    stream(graph, "energy: a?", stream_mode="messages")
    stream(graph, "hello", stream_mode="messages")
    assert heard(stream(graph, "digital: b?", stream_mode="messages")) == {
        ("digital", "digital"): "digital speaks."
    }


def test_updates_are_labelled_by_node(stream: Stream, model: ScriptedModel) -> None:
    """In the stream of updates, a group's report is under the group's id, and the final answer comes once."""
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    updates = stream(graph, "energy+digital: a?", stream_mode="updates")
    by_node = {node: update for part in updates for node, update in part.items()}
    assert by_node["route"]["decision"]["groups"] == ["energy", "digital"]
    assert by_node["energy"]["reports"]["energy"]["text"] == "energy speaks."
    assert by_node["digital"]["reports"]["digital"]["text"] == "digital speaks."
    finals = [m for part in updates for update in part.values() for m in (update or {}).get("messages", [])]
    assert [type(message) for message in finals] == [AIMessage]


def test_both_modes_together(stream: Stream, model: ScriptedModel) -> None:
    """Both modes work in one stream, and the decision comes before the first token."""
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    parts = stream(graph, "energy: a?", stream_mode=["updates", "messages"])
    assert next(mode for mode, _ in parts) == "updates"
    assert heard([part for mode, part in parts if mode == "messages"]) == {("energy", "energy"): "energy speaks."}


def test_the_note_on_a_missing_view_is_heard(stream: Stream) -> None:
    """The chunks with a message's id are the whole message, including the graph's own sentences."""
    model = ScriptedModel(script=by_speaker({"digital": RuntimeError("boom")}))
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    texts: dict[str, str] = defaultdict(str)
    for chunk, _ in stream(graph, "energy+digital: a?", stream_mode="messages"):
        texts[chunk.id] += chunk.text
    final = graph.get_state({"configurable": {"thread_id": "t"}}).values["messages"][-1]
    assert texts[final.id].split() == final.text.split()


def test_a_held_answer_is_not_heard_before_it_is_released(stream: Stream, model: ScriptedModel) -> None:
    """Neither tokens nor the report reveal a held answer; after its release it is streamed once."""
    graph = build_supervisor(
        model, router=FixedRouter(), checkpointer=InMemorySaver(), interrupt_before_release=["energy"]
    )
    parts = stream(graph, "energy: a?", stream_mode=["updates", "messages"])
    assert [part for mode, part in parts if mode == "messages"] == []
    updates = [part for mode, part in parts if mode == "updates" and "__interrupt__" not in part]
    assert "energy speaks." not in str(updates)
    parts = stream(graph, Command(resume="approve"), stream_mode="messages")
    assert [chunk.text.strip() for chunk, _ in parts] == ["energy speaks."]


@pytest.mark.parametrize("pieces", ["words", "letters"])
@pytest.mark.parametrize("kind", ["alone", "with tools", "own ids", "the supervisor"])
@pytest.mark.parametrize("closed", [True, False])
def test_thinking_is_not_heard(stream: Stream, kind: str, pieces: str, closed: bool) -> None:
    """No listener receives a token of text between tags, whatever model writes it and however it is split."""
    said = "<think>A secret plan.</think>\n\nFive dams." if closed else "Five dams.<think>A secret plan."
    letters = pieces == "letters"
    model = ScriptedModel(script=lambda _: said, tools=True, own_ids=kind == "own ids", letters=letters)
    tools: Any = {"tools": {"energy": [len]}} if kind == "with tools" else {}
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), **tools)
    question = "hello" if kind == "the supervisor" else "energy: a?"
    parts = stream(graph, question, stream_mode=["messages", "updates", "custom"])
    chunks = [part[0] for mode, part in parts if mode == "messages"]
    assert "".join(chunk.text for chunk in chunks).strip() == "Five dams."
    final = graph.get_state(in_thread("t")).values["messages"][-1]
    assert (final.text, {chunk.id for chunk in chunks}) == ("Five dams.", {final.id})
    assert "secret" not in str([chunk.content for chunk in chunks])
    blocks = [block for chunk in chunks for block in chunk.content_blocks if block["type"] == "reasoning"]
    assert "".join(str(block.get("reasoning")) for block in blocks).split() == ["A", "secret", "plan."]


def standing_for_energy(kind: str, model: ScriptedModel) -> dict[str, Any]:
    """Return the options with which a group answers in each of the ways that there are."""

    class Agent:
        def chat(self, prompt: str) -> str:
            return str(
                model.invoke([SystemMessage("You are Energy & Infrastructure."), HumanMessage(prompt)]).text
            )

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke([SystemMessage("Energy & Infrastructure"), *state["messages"]])]}

    graph = StateGraph(MessagesState).add_node("think", node).add_edge("__start__", "think").compile(name="energy")
    return {
        "alone": {},
        "with tools": {"tools": {"energy": [len]}},
        "a graph": {"agents": {"energy": graph}},
        "an agent": {"agents": {"energy": Agent()}},
    }[kind]


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("kind", ["alone", "with tools", "a graph", "an agent"])
def test_nobody_hears_a_held_answer_before_it_is_released(stream: Stream, kind: str, subgraphs: bool) -> None:
    """However the group answers, no stream contains it, even those of subgraphs; only the reviewer sees it."""
    model = ScriptedModel(script=lambda _: "The secret tariff.", tools=True)
    graph = build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=InMemorySaver(),
        interrupt_before_release=["energy"],
        **standing_for_energy(kind, model),
    )
    modes: list[Any] = ["messages", "updates", "values", "custom", "tools"]
    parts = stream(graph, "energy: a?", stream_mode=modes, subgraphs=subgraphs)
    assert "secret" in str([part for part in parts if "__interrupt__" in str(part)]), "the reviewer is shown it"
    assert [part for part in parts if "__interrupt__" not in str(part) and "secret" in str(part)] == []
    events = stream(graph, Command(resume="approve"), stream_mode="messages")
    assert [chunk.text.strip() for chunk, _ in events] == ["The secret tariff."]


@pytest.mark.parametrize("kind", ["alone", "with tools", "a graph", "an agent"])
def test_events_of_the_newest_protocol_keep_a_held_answer_back(kind: str) -> None:
    """``stream_events(version="v3")`` does not contain it either, including subgraphs' messages."""
    model = ScriptedModel(script=lambda _: "The secret tariff.", tools=True)
    graph = build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=InMemorySaver(),
        interrupt_before_release=["energy"],
        **standing_for_energy(kind, model),
    )
    events = of_the_newest_protocol(graph, {"messages": [("user", "energy: a?")]}, in_thread("t"))
    said = [str(event) for event in events if "__interrupt__" not in str(event) and "interrupts" not in str(event)]
    assert [event for event in said if "secret" in event] == []


def test_events_of_the_newest_protocol_carry_tokens_too() -> None:
    """``stream_events(version="v3")`` yields the same answer, once."""
    graph = build_supervisor(
        ScriptedModel(script=by_speaker({"synthesis": SYNTHESIS}), structured=True), router=FixedRouter()
    )
    deltas: dict[str, str] = defaultdict(str)
    events = of_the_newest_protocol(graph, {"messages": [("user", "energy: a?")]})
    for message in events.messages:
        deltas[message.node] += "".join(message.text)
    assert {node: text.strip() for node, text in deltas.items()} == {"energy": "energy speaks."}


@pytest.mark.parametrize("question", ["energy: a?", "hello"])
def test_an_answer_that_was_cut_off_says_so(stream: Stream, question: str) -> None:
    """If the model ran out of tokens, a mark ends the streamed and the stored text; otherwise there is none."""
    for reason, mark in (("length", " […]"), ("stop", "")):
        model = ScriptedModel(script=by_speaker({}), done_reason=reason)
        graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
        parts = stream(graph, question, stream_mode="messages")
        final = graph.get_state(in_thread("t")).values["messages"][-1]
        assert final.text.endswith(f" speaks.{mark}")
        assert "".join(chunk.text for chunk, _ in parts) == final.text
        assert {chunk.id for chunk, _ in parts} == {final.id}


def test_what_happens_is_told(stream: Stream) -> None:
    """The custom stream has tool calls and results, waiting drafts, and the final message's id."""

    def tariff(country: str) -> str:
        """Look up a tariff."""
        return f"{country}: 0.13"

    def energy(messages: list[Any]) -> Any:
        if messages[-1].type == "tool":
            return "Done."
        return AIMessage("", tool_calls=[{"name": "tariff", "args": {"country": "Ghana"}, "id": "c1"}])

    model = ScriptedModel(script=by_speaker({"energy": energy}), tools=True)
    graph = build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=InMemorySaver(),
        tools={"energy": [tariff]},
        interrupt_before_release=["protocol"],
    )
    told = stream(graph, "energy: a?", stream_mode="custom")
    final = graph.get_state(in_thread("t")).values["messages"][-1]
    one = {"group": "energy", "id": "c1", "name": "tariff"}
    assert told == [
        {"type": "tool_call", **one, "args": {"country": "Ghana"}},
        {"type": "tool_result", **one, "text": "Ghana: 0.13", "status": "success"},
        {"type": "final", "message_id": final.id, "speaker": "energy"},
    ]
    [waiting] = stream(graph, "protocol: b?", stream_mode="custom")
    assert (waiting["type"], waiting["group"]) == ("waiting", "protocol")
    assert waiting["draft"] == graph.get_state(in_thread("t")).interrupts[0].value["draft"]


def looks_up_tariffs() -> Graph:
    def tariff(country: str) -> str:
        """Look up a tariff."""
        return f"{country}: 0.13"

    def energy(messages: list[Any]) -> Any:
        if messages[-1].type == "tool":
            return "Done."
        return AIMessage("", tool_calls=[{"name": "tariff", "args": {"country": "Ghana"}, "id": "c1"}])

    return build_supervisor(
        ScriptedModel(script=by_speaker({"energy": energy}), tools=True),
        router=FixedRouter(),
        checkpointer=InMemorySaver(),
        tools={"energy": [tariff]},
        interrupt_before_release=["protocol"],
    )


def test_the_newest_protocol_tells_what_happens() -> None:
    """Its ``custom`` channel and its state have tool calls, results, waiting drafts and the final message's id."""
    graph = looks_up_tariffs()
    events = of_the_newest_protocol(graph, {"messages": [("user", "energy: a?")]}, in_thread("t"))
    told = list(events.custom)
    final = graph.get_state(in_thread("t")).values["messages"][-1]
    assert [one["type"] for one in told] == ["tool_call", "tool_result", "final"]
    assert (told[0]["args"], told[1]["text"]) == ({"country": "Ghana"}, "Ghana: 0.13")
    assert told[-1] == {"type": "final", "message_id": final.id, "speaker": "energy"}
    events = of_the_newest_protocol(graph, {"messages": [("user", "protocol: b?")]}, in_thread("t"))
    assert [one["type"] for one in events.custom] == ["waiting"]
    assert events.interrupted
    [request] = events.interrupts
    assert request.value["answer"] == "protocol speaks."


async def test_langchains_events_tell_what_happens() -> None:
    """``astream_events`` has the tool's own events under its group, and ours if ``custom`` is requested."""
    graph = looks_up_tariffs()
    tools: list[tuple[str, str, Any]] = []
    told: list[Any] = []
    for question in ("energy: a?", "protocol: b?"):
        given = {"messages": [("user", question)]}
        async for event in graph.astream_events(given, in_thread("t"), version="v2", stream_mode=["custom"]):
            if event["event"] in ("on_tool_start", "on_tool_end"):
                tools.append((event["event"], event["name"], event["metadata"].get("twg")))
            if event["event"] == "on_chain_stream" and event["name"] == "ecowas_supervisor":
                told.append(event["data"]["chunk"][1]["type"])
    assert tools == [("on_tool_start", "tariff", "energy"), ("on_tool_end", "tariff", "energy")]
    assert told == ["tool_call", "tool_result", "final", "waiting"]


def test_a_group_with_tools_is_heard_as_itself(stream: Stream) -> None:
    """Its tokens have its id, although the model is called in the group's own graph."""
    model = ScriptedModel(script=by_speaker({}), tools=True)
    graph = build_supervisor(model, router=FixedRouter(), tools={"energy": [len]})
    parts = stream(graph, "energy: a?", stream_mode="messages")
    assert heard(parts) == {("energy", "energy"): "energy speaks."}
