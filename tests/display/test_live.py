"""A run in a notebook's cell: the display while it runs, the final display, and no required extra."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from ecowas_lc import InvalidInputError, SupervisorAgent, build_supervisor
from ecowas_lc.display import event_sources
from ecowas_lc.display.live import LiveRun
from ecowas_lc.notebook import awatch, watch
from tests.display.pages import Parsed
from tests.display.samples import ANSWERS, QUESTIONS, SYNTHESIS, agent_with_tools
from tests.display.test_displays import nothing_unsafe_in
from tests.fixtures.scripted_model import ScriptedModel, by_speaker


def supervisor(**options: Any) -> Any:
    model = ScriptedModel(script=by_speaker({**ANSWERS, "synthesis": SYNTHESIS}), structured=True)
    return build_supervisor(model, router="lexical", checkpointer=InMemorySaver(), **options)


def text_of(run: LiveRun) -> str:
    return nothing_unsafe_in(run._repr_html_() or "").text


def test_a_run_shows_route_groups_and_answer() -> None:
    """The display shows each group's words, the route and the combined answer, and the run holds the answer."""
    run = watch(supervisor(), QUESTIONS[0], thread_id="t")
    told = text_of(run)
    for part in (
        "done",
        "thread t",
        "Asked:",
        "coastal backbone",
        "bankable",
        "Together",
        "A feasibility study comes first.",
    ):
        assert part in told
    assert run.thread_id == "t"
    assert run.finished is not None


def test_what_waits_is_shown_and_decided() -> None:
    """A waiting run shows the draft and the choices; a decision continues in the same thread."""
    graph = supervisor(interrupt_before_release=["energy"])
    run = watch(graph, "Does the power pool cover the coastal states?", thread_id="t")
    assert run.answer == ""
    told = text_of(run)
    for part in ("waiting for a decision", "approve", "reject"):
        assert part in told
    [identity] = run.waiting
    after = watch(graph, Command(resume={identity: "approve"}), thread_id="t")
    assert "coastal backbone" in after.answer
    assert "done" in text_of(after)


def test_any_graph_can_be_watched() -> None:
    """Another graph's nodes, tools and approvals are shown as the supervisor's are."""
    graph = agent_with_tools(InMemorySaver(), "before")
    told = text_of(watch(graph, "Find a room.", thread_id="t"))
    for part in (
        "✓ free_rooms(day: 2026-03-04",
        "Plenary (400 seats)",
        "book_room",
        "waiting for a decision",
        "edit",
    ):
        assert part in told
    with pytest.raises(InvalidInputError, match="not a graph"):
        watch("graph", "?")


class Plan(TypedDict):
    """A state without messages."""

    topic: str
    title: str
    scores: dict[str, int]


def test_a_graph_without_messages_takes_its_own_input() -> None:
    """The nodes show what they wrote, the run holds the result, and a question alone is refused by name."""
    builder = StateGraph(Plan)
    builder.add_node("name", lambda state: {"title": f"On {state['topic']}", "scores": {"a": 1}})
    graph = builder.add_edge(START, "name").compile()
    run = watch(graph, {"topic": "grids"})
    told = text_of(run)
    assert [part for part in ("done", "grids", "title: On grids", "scores: {a: 1}") if part not in told] == []
    assert run.result == {"topic": "grids", "title": "On grids", "scores": {"a": 1}}
    with pytest.raises(InvalidInputError, match="its keys are topic, title"):
        watch(graph, "grids")


def test_whatever_a_run_ends_with_it_is_done() -> None:
    """A run whose last message is not an answer has ended too; messages may be a dict or tuples."""
    builder = StateGraph(MessagesState).add_node("note", lambda _: {"messages": [("user", "a note")]})
    graph = builder.add_edge(START, "note").compile()
    told = text_of(watch(graph, {"messages": [("system", "Be brief."), ("user", "Which rooms?")]}))
    assert "done" in told
    assert "Which rooms?" in told
    builder = StateGraph(MessagesState).add_node("say", lambda _: {"messages": [("ai", "The plenary hall.")]})
    told = text_of(watch(builder.add_edge(START, "say").compile(), "Which rooms?"))
    assert told.count("The plenary hall.") == 1

    @entrypoint()
    def shout(text: str) -> str:
        return text.upper()

    assert "GRID" in text_of(watch(shout, "grid"))


async def test_chains_are_watched() -> None:
    """A chain's text is streamed in pieces; its retriever's passages and its session are shown."""
    notes = KeywordRetriever()
    model = FakeListChatModel(responses=["The plenary hall seats 400."])
    chain = {"passages": notes, "question": RunnablePassthrough()} | RunnableLambda(str) | model
    for run in (watch(chain, "How many seats?", thread_id="t"), await awatch(chain, "How many seats?")):
        told = text_of(run)
        for part in (
            "done",
            "How many seats?",
            "✓ KeywordRetriever(query: How many",
            "Rooms of the",
            "seats 400.",
        ):
            assert part in told
        assert run.answer == "The plenary hall seats 400."
    both = RunnableParallel(answer=model, passages=notes)
    told = text_of(watch(both, "How many seats?"))
    assert "Rooms of the summit" in told
    assert "seats 400" in told


class KeywordRetriever(BaseRetriever):
    """Somebody's retriever."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document("Rooms of the summit")]


def test_an_error_is_shown_and_raised() -> None:
    """An error that ends a run is shown in the cell and raised to the caller."""
    model = ScriptedModel(script=by_speaker({"energy": RuntimeError("out of memory")}))
    graph = build_supervisor(model, router="lexical")
    with pytest.raises(Exception, match="out of memory") as raised:
        watch(graph, "What does the power pool do?")
    run = LiveRun("?", "t", error=raised.value)
    assert "The run ended with an error" in text_of(run)


async def test_agents_are_watched_in_their_session() -> None:
    """A supervisor agent answers in its own session, without blocking the event loop."""
    model = ScriptedModel(script=by_speaker(ANSWERS))
    agent = SupervisorAgent(session_id="mine", model=model, router="lexical")
    run = await awatch(agent, QUESTIONS[2])
    assert run.thread_id == "mine"
    assert run.answer == ANSWERS["protocol"]
    assert "Energy" in agent._repr_mimebundle_()["image/svg+xml"]


def test_the_cell_is_updated_and_shows_it_once() -> None:
    """In IPython there is one display, updated in place; ending the cell with the run shows nothing twice."""
    shell = InteractiveShell.instance()
    try:
        with capture_output() as captured:
            run = watch(supervisor(), QUESTIONS[2])
            shell.display_formatter.format(run)
        shown = [output for output in captured.outputs if isinstance(output, RichOutput)]
        assert len({output.transient["display_id"] for output in shown}) == 1
        assert not shown[0].update
        assert all(output.update for output in shown[1:])
        assert len(shown) >= 3
        assert ANSWERS["protocol"][:30] in Parsed(shown[-1].data["text/html"]).text
        assert "running" in Parsed(shown[0].data["text/html"]).text
        assert ANSWERS["protocol"][:30] in shown[-1].data["text/plain"]
        with capture_output() as again:
            shell.display_formatter.format(run)
        assert len(again.outputs) == 1
    finally:
        InteractiveShell.clear_instance()


def test_calls_of_a_graph_and_of_a_chain() -> None:
    """Tools and searches that fail are shown with their error; pieces that can't be added replace each other."""
    chain = event_sources._Chain()
    called: Any = chain.callbacks()
    called.on_tool_start({"name": "add"}, "1", run_id=1)
    called.on_tool_end(AIMessage("2"), run_id=1)
    called.on_tool_start(None, "1", run_id=2, inputs={"a": 1})
    called.on_tool_error(ValueError("no"), run_id=2)
    called.on_retriever_start({}, "q", run_id=3)
    called.on_retriever_error(ValueError("away"), run_id=3)
    texts = [event.text for event in chain.hear({"answer": 1}) if hasattr(event, "status")]
    assert texts == ["2", "no", "away"]
    list(chain.hear({"answer": "x"}))
    assert chain.result == {"answer": "x"}
    graph = event_sources._Graph()
    [token] = graph._value("node", "messages", AIMessage("Hello.", id="1"))
    assert (token.speaker, token.text) == ("node", "Hello.")
