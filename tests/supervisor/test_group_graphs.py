"""Compiled graphs as groups, and the counted cost of groups with tools."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import ConfigurationError, ModelError, SupervisorError
from ecowas_lc.history import history_factory
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.proxy import Proxy, running_proxy
from tests.fixtures.scripted_model import Answer, FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer
from tests.supervisor.conftest import Ask, Graph, Stream, asked, in_thread


@tool
def tariff(country: str) -> str:
    """Look up a country's electricity tariff."""
    return f"{country}: 0.13 USD/kWh, as of last year and until further notice"


def agent(messages: list[BaseMessage]) -> Answer:
    """Call the tool, then answer with its result."""
    if isinstance(messages[-1], ToolMessage):
        return f"It is {messages[-1].text}."
    return AIMessage("", tool_calls=[{"name": "tariff", "args": {"country": "Ghana"}, "id": uuid4().hex}])


def of_agent(script: Any = agent, tools: Any = (tariff,), **options: Any) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(script=script, tools=True)
    return create_agent(model, list(tools), **options), model


def supervisor(graph: Any, **options: Any) -> Graph:
    options.setdefault("checkpointer", InMemorySaver())
    model = ScriptedModel(script=by_speaker({}))
    return build_supervisor(model, router=FixedRouter(), agents={"energy": graph}, **options)


def test_a_graph_answers_for_a_group(ask: Ask) -> None:
    """The graph's last message is the group's answer; its memory is the group's earlier answers in the thread."""
    standing, model = of_agent()
    graph = supervisor(standing)
    result = ask(graph, "energy: a?")
    answer = "It is Ghana: 0.13 USD/kWh, as of last year and until further notice."
    assert result["messages"][-1].text == answer
    assert result["reports"]["energy"]["tools"] == "used"
    ask(graph, "digital: b?")
    ask(graph, "energy: c?")
    assert [message.text for message in model.calls[-2]] == ["energy: a?", answer, "energy: c?"]


def test_a_graph_remembers_the_branch_alone(ask: Ask) -> None:
    """After a fork it knows nothing of the abandoned branch, even with its own saver."""
    standing, model = of_agent(checkpointer=InMemorySaver())
    graph = supervisor(standing)
    for question in ("energy: a?", "energy: b?"):
        ask(graph, question)
    states = [state for state in graph.get_state_history(in_thread("t")) if not state.next]
    after_the_first = next(state for state in states if len(state.values.get("messages", ())) == 2)
    graph.invoke(asked("energy: c?"), after_the_first.config)
    told = [message.text for message in model.calls[-2] if isinstance(message, HumanMessage)]
    assert told == ["energy: a?", "energy: c?"]


def test_a_graph_may_ask_a_person(ask: Ask) -> None:
    """Its own interrupts pause the run; its earlier steps are stored and can be inspected."""

    @tool
    def pay(to: str) -> str:
        """Pay a person."""
        return f"paid {to}: {interrupt(f'Pay {to}?')}"

    def script(messages: list[BaseMessage]) -> Answer:
        if isinstance(messages[-1], ToolMessage):
            return messages[-1].text
        return AIMessage("", tool_calls=[{"name": "pay", "args": {"to": f"No. {len(model.calls)}"}, "id": "c"}])

    standing, model = of_agent(script, [pay])
    graph = supervisor(standing)
    ask(graph, "energy: a?")
    state = graph.get_state(in_thread("t"), subgraphs=True)
    assert [one.value for one in state.interrupts] == ["Pay No. 1?"]
    inner: Any = state.tasks[0].state
    assert [message.type for message in inner.values["messages"]] == ["human", "ai"]
    assert ask(graph, Command(resume="yes"))["messages"][-1].text == "paid No. 1: yes"
    assert len(model.calls) == 2
    ask(graph, "energy: b?")
    assert ask(graph, Command(resume="no"))["messages"][-1].text == "paid No. 3: no"
    told = [message.text for message in model.calls[-1] if isinstance(message, HumanMessage)]
    assert (len(model.calls), told) == (4, ["energy: a?", "energy: b?"]), "it continues with what it knew"


def test_a_graph_is_heard_as_its_group(stream: Stream) -> None:
    """Without ``subgraphs``, its tokens have the group's id; with it, their own namespace."""
    graph = supervisor(of_agent()[0])
    parts = stream(graph, "energy: a?", stream_mode="messages")
    said = [(chunk.text, metadata) for chunk, metadata in parts if chunk.text]
    assert {(metadata["langgraph_node"], metadata["twg"]) for _, metadata in said} == {("energy", "energy")}
    final = graph.get_state(in_thread("t")).values["messages"][-1]
    assert "".join(text for text, _ in said) == final.text
    nested = stream(graph, "energy: b?", "u", stream_mode="messages", subgraphs=True)
    places = {namespace[0].split(":")[0] for namespace, (chunk, _) in nested if chunk.text and namespace}
    assert places == {"energy"}


def test_a_held_graph_is_not_heard(stream: Stream) -> None:
    """No token of an answer that waits for its release is streamed."""
    graph = supervisor(of_agent()[0], interrupt_before_release=["energy"])
    assert stream(graph, "energy: a?", stream_mode="messages") == []


def test_an_answer_that_no_model_made_is_heard_too(stream: Stream) -> None:
    """A graph may answer without a model."""

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Made by hand.", id="made")]}

    graph = supervisor(StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile())
    parts = stream(graph, "energy: a?", stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in parts) == "Made by hand."
    assert {metadata["langgraph_node"] for _, metadata in parts} == {"energy"}


class Other(TypedDict):
    """A state without messages."""

    text: str


def test_graphs_that_can_not_stand_for_a_group_are_refused() -> None:
    """A graph that would remember an abandoned branch, or that has no messages, is refused on building."""
    with pytest.raises(ConfigurationError, match="checkpointer=True"):
        supervisor(of_agent(checkpointer=True)[0])
    other = StateGraph(Other).add_node("a", lambda state: state).add_edge(START, "a").compile()
    with pytest.raises(ConfigurationError, match="'messages'"):
        supervisor(other)


def test_a_graph_without_an_answer_is_a_named_error(ask: Ask) -> None:
    """If its last message is not an answer, the error says so."""
    silent = StateGraph(MessagesState).add_node("a", lambda state: {}).add_edge(START, "a").compile()
    with pytest.raises(ModelError, match="without an answer"):
        ask(supervisor(silent), "energy: a?")


@pytest.fixture
def proxy(redis_server: RunningServer) -> Iterator[Proxy]:
    with running_proxy(redis_server.port) as running:
        yield running


def on(proxy: Proxy, redis_server: RunningServer, prefix: str, **options: Any) -> Graph:
    url = redis_server.url.replace(f":{redis_server.port}", f":{proxy.port}")
    return build_supervisor(
        ScriptedModel(
            script=by_speaker({"energy": agent if "tools" in options else "energy speaks."}), tools=True
        ),
        router=FixedRouter(),
        checkpointer=RedisSaver.from_url(url, prefix=prefix),
        history_factory=history_factory(url, prefix=prefix, max_history=20),
        **options,
    )


@pytest.mark.parametrize("kind", ["tools", "a graph"])
def test_late_turns_send_what_early_ones_do(
    proxy: Proxy, redis_server: RunningServer, prefix: str, kind: str
) -> None:
    """Turn 100 of a group with tools, or of a graph as a group, sends at most 1.2 times what turn 10 sends."""
    options: Any = {"tools": {"energy": [tariff]}} if kind == "tools" else {"agents": {"energy": of_agent()[0]}}
    graph = on(proxy, redis_server, prefix, **options)
    sent: list[int] = []
    for number in range(1, 101):
        proxy.reset_counts()
        graph.invoke(asked(f"energy: question {number:03}, what does power cost there?"), in_thread("t"))
        sent.append(proxy.sent)
    assert sent[99] <= 1.2 * sent[9]


def test_a_group_without_tools_is_one_step(proxy: Proxy, redis_server: RunningServer, prefix: str) -> None:
    """A turn with histories takes 13 round trips, as before each step of other groups was stored."""
    graph = on(proxy, redis_server, prefix)
    trips: list[int] = []
    for number in range(6):
        proxy.reset_counts()
        graph.invoke(asked(f"energy: question {number}?"), in_thread("t"), durability="sync")
        trips.append(proxy.round_trips)
    assert sorted(trips[1:])[2] <= 13


class Asking:
    """An agent of another library."""

    def __init__(self, says: str | None) -> None:
        self.says = says

    def chat(self, question: str) -> str:
        return self.says if self.says is not None else str(interrupt(question))


@pytest.mark.parametrize(("says", "reason"), [("", "an empty answer"), (None, "stops inside chat()")])
def test_an_agent_that_can_not_answer_is_a_named_error(ask: Ask, says: str | None, reason: str) -> None:
    """An agent without an answer, or one that pauses where it can't be resumed, fails with the reason."""
    graph = build_supervisor(
        ScriptedModel(script=by_speaker({})),
        router=FixedRouter(),
        agents={"energy": Asking(says)},
        checkpointer=InMemorySaver(),
    )
    with pytest.raises((ModelError, SupervisorError), match=re.escape(reason)):
        ask(graph, "energy: how?")
