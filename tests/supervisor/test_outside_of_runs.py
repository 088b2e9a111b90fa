"""Parts of the supervisor that are called outside of a run, or with input that no run gives them."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt

from ecowas_lc.documents.question import read_question
from ecowas_lc.effects import run
from ecowas_lc.errors import InvalidDecisionError, NotWaitingError, SupervisorError
from ecowas_lc.supervisor import (
    approval,
    concurrency,
    grounding,
    model_calls,
    streaming,
    supervisor_graph,
    tool_graph,
)
from ecowas_lc.supervisor.streaming import to_nobody


def test_events_outside_of_a_run_go_nowhere() -> None:
    """There is no listener, and a config without callbacks stays as it is."""
    assert streaming.teller() is to_nobody
    assert model_calls.heard_as({"callbacks": []}, {}) == {"callbacks": []}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"messages": [("user", "a?")]}, "a?"),
        ({"messages": [{"role": "user", "content": "b?"}]}, "b?"),
        ({"messages": HumanMessage("c?")}, "c?"),
        ({"messages": "d?"}, "d?"),
        (None, ""),
    ],
)
def test_a_question_in_any_form_has_a_text(given: Any, text: str) -> None:
    """Every form of input that langgraph takes."""
    assert supervisor_graph._text_of(given) == text


def test_an_answer_out_of_order_is_shown_at_its_end() -> None:
    """Text that does not continue what was shown is held back until the answer is complete."""
    rendering = model_calls.Rendering(lambda value, *, complete: str(value["text"]))
    assert rendering.take(None) == ""
    assert rendering.take({"text": "One"}) == "One"
    assert rendering.take({"text": "Two"}) == ""
    assert rendering.take({"text": "Two"}, complete=True) == "\n\nTwo"


def test_a_decision_says_what_it_is_about() -> None:
    """With several requests, or with one that is gone, nothing is released."""
    waiting = [Interrupt({"type": "release", "draft": str(number)}, id=str(number) * 32) for number in range(2)]
    with pytest.raises(InvalidDecisionError, match="2 requests wait"):
        approval.check_resume(waiting, {"action": "approve"}, [])
    with pytest.raises(NotWaitingError):
        approval.check_resume(waiting, {"f" * 32: {"action": "approve"}}, [])
    with pytest.raises(NotWaitingError):
        approval.check_resume([], {"action": "approve"}, [])


def test_a_tool_without_functions_is_async_if_its_run_is() -> None:
    """As in tools of one's own that subclass ``BaseTool``."""

    class Slow(BaseTool):
        name: str = "slow"
        description: str = "slow"

        async def _run(self) -> str:  # type: ignore[override]
            return ""

    assert tool_graph.is_async_only(Slow())
    assert tool_graph._error_text(ValueError("no")) == "ValueError: no"


async def test_an_answer_that_was_given_up_ends_where_it_is() -> None:
    """A thread that is no longer waited for stops at its next step, and a limit that has expired stays so."""
    event = threading.Event()
    token = concurrency._given_up.set(event)
    try:
        concurrency.stop_if_given_up()
        event.set()
        with pytest.raises(concurrency.GivenUp):
            concurrency.stop_if_given_up()
    finally:
        concurrency._given_up.reset(token)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0) as limit:
            await asyncio.sleep(1)
    assert concurrency._set(limit, None) is None  # type: ignore[arg-type]


def test_a_decision_that_another_graph_passes_on_unchecked_is_asked_for_again() -> None:
    """In a node of another graph, decisions are not checked first; the request comes back with the problem."""
    draft: Any = {
        "group": "energy",
        "name": "Energy",
        "question": "a?",
        "alone": True,
        "report": {"status": "answered", "text": "118 francs.", "message_id": "m"},
    }
    builder = StateGraph(dict).add_node("ask", lambda _: {"report": approval.reviewed(draft)})
    graph = builder.add_edge(START, "ask").compile(checkpointer=InMemorySaver())
    place: Any = {"configurable": {"thread_id": "t"}}
    [first] = graph.invoke({"x": 1}, place)["__interrupt__"]
    assert "problem" not in first.value
    [again] = graph.invoke(Command(resume={"action": "burn"}), place)["__interrupt__"]
    assert "burn" in again.value["problem"]
    assert graph.invoke(Command(resume=True), place)["report"]["status"] == "answered"


def test_groups_without_documents_find_nothing() -> None:
    """A group has no passages if neither it nor all groups have documents."""
    documents: Any = SimpleNamespace(search=lambda *_: [], asearch=lambda *_: [])
    known = grounding.Grounding({"energy": documents}, "strict")
    assert run(known.search("tariffs", "digital"), {}) == []
    assert not grounding.asks_for_facts(read_question("Is it?"))


def test_an_agent_that_pauses_inside_chat_is_refused_by_name() -> None:
    """The agent can't pause, because its chat would start again when resumed; a graph inside it may pause."""
    asks = model_calls.AskAgent(SimpleNamespace(), "energy", "a?")  # type: ignore[arg-type]
    here = Interrupt.from_ns(None, "")
    with pytest.raises(SupervisorError, match="stops inside chat"), asks._pausing({}):
        raise GraphInterrupt([here])
    with pytest.raises(GraphInterrupt), asks._pausing({}):
        raise GraphInterrupt([Interrupt("?", id="another")])


def test_an_answer_whose_time_is_up_as_it_ends_keeps_its_own_error() -> None:
    """A timeout raised by the program itself is not mistaken for the group's time limit."""

    def program() -> Any:
        raise TimeoutError("the group's own")
        yield

    limited = concurrency.Limited(program(), "energy", 5.0, concurrency.Slots(None))
    with pytest.raises(TimeoutError, match="the group's own"):
        limited.run({})
