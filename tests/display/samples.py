"""One object of each kind that shows itself, with something in it: for tests and for the pictures of the docs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from ecowas_lc import (
    TWG,
    Documents,
    GroundedAnswer,
    RedisChatMessageHistory,
    RedisMemoryService,
    RedisSaver,
    RedisStore,
    SessionInfo,
    build_supervisor,
    default_groups,
    draw_graph,
    draw_thread,
    get_router,
    grounded_answer,
    history_factory,
)
from ecowas_lc.agents.events import Routed, Token, ToolCalled, ToolReturned
from ecowas_lc.drawing import ActivityPicture, draw_route, draw_state
from ecowas_lc.notebook import Explorer, LiveRun, checkpoints
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor.evaluation import compare_routers, evaluate
from ecowas_lc.twg import evaluation_dialogues, evaluation_set
from tests.fixtures.scripted_model import ScriptedModel, by_speaker

ANSWERS = {
    "energy": "The regional grid links eleven states.\n\nThree lines are **under construction**:\n\n"
    "- the coastal backbone\n- the northern corridor\n- the line along the river\n\nThe pool trades about 6 % of "
    "what its members consume.",
    "resource_mobilization": "Two funds can pay for it: the development bank's infrastructure window, and a "
    "guarantee facility for private lenders. Both ask for a *bankable* feasibility study.",
    "agriculture": "Irrigation pumps are the largest rural load. Four states set tariffs for farmers apart.",
    "protocol": "The opening ceremony begins at nine. Heads of state are received in the order of their arrival.",
    "digital": "The fibre along the lines carries a third of the region's traffic.",
    "minerals": "Processing lithium needs about 3 MWh a tonne, so the plants wait for the grid.",
}
QUESTIONS = (
    "How can we finance the power grid and its interconnection lines?",
    "And what about tariffs for farmers who pump water?",
    "Who receives the heads of state at the opening ceremony?",
)


@dataclass(frozen=True)
class Samples:
    """The objects by name, and the data they were created with."""

    objects: dict[str, Any]
    saver: RedisSaver
    memory: RedisMemoryService
    graph: Any


SYNTHESIS = {
    "summary": "The grid can be financed in two steps: first studies, then lines with guarantees.",
    "views": {
        "energy": "Three lines are under construction.",
        "resource_mobilization": "Two funds can pay.",
        "agriculture": "Pumps are the largest rural load.",
    },
    "agreements": ["A feasibility study comes first."],
    "conflicts": ["Energy wants the coastal backbone first, the funds the northern corridor."],
    "open_questions": ["Who guarantees the northern corridor?"],
}


@contextmanager
def samples(server: Server, prefix: str, *, router: str = "hybrid", turns: int = 60) -> Iterator[Samples]:
    """Return one object of each kind, stored on a server under a prefix."""
    saver = RedisSaver(server=server, prefix=prefix, default_ttl=86_400)
    memory = RedisMemoryService(server=server, prefix=prefix)
    histories = history_factory(server=server, prefix=prefix, default_ttl=86_400)
    model = ScriptedModel(script=by_speaker({**ANSWERS, "synthesis": SYNTHESIS}), structured=True)
    graph = build_supervisor(model, router="lexical", checkpointer=saver, history_factory=histories)
    config: Any = {"configurable": {"thread_id": "summit-prep"}}
    result: Any = None
    first: Any = None
    for question in QUESTIONS:
        result = graph.invoke({"messages": [("user", question)]}, config)
        first = first or result
    held = build_supervisor(
        model, router="lexical", checkpointer=saver, history_factory=histories, interrupt_before_release=["energy"]
    )
    waiting = held.invoke(
        {"messages": [("user", "Does the power pool cover the coastal states?")]},
        {"configurable": {"thread_id": "for-review"}},
    )
    agent_with_tools(saver)
    broken(saver)
    long_thread(saver, turns=turns)
    docs = dossier(server, prefix)
    store = RedisStore(server=server, prefix=prefix)
    store.put(("users", "amina", "memories"), "diet", {"text": "Eats no fish.", "since": 2024})
    store.put(("users", "kofi", "memories"), "languages", {"text": "Prefers French.", "level": "fluent"})
    store.put(("summit", "rooms"), "plenary", {"seats": 400, "floor": 2})
    decision = get_router(router).route(QUESTIONS[0])
    questions = evaluation_set("dev")
    yield Samples(
        {
            "saver": saver,
            "thread": saver.thread("summit-prep"),
            "thread-waiting": saver.thread("tools"),
            "threads-row": saver.waiting()[0],
            "difference": saver.diff("summit-prep"),
            "history": RedisChatMessageHistory("energy", "summit-prep", server=server, prefix=prefix),
            "memory": memory,
            "decision": decision,
            "group": default_groups()[0],
            "graph": graph,
            "graph-route": draw_graph(graph, first),
            "draw-route": draw_route(decision),
            "draw-state": draw_state(graph, "summit-prep"),
            "draw-activity": ActivityPicture(sessions_of_three_weeks()),
            "draw-thread": draw_thread(saver, "summit-prep"),
            "draw-thread-waiting": draw_thread(saver, "tools"),
            "draw-thread-failed": draw_thread(saver, "broken"),
            "draw-thread-long": draw_thread(saver, "long"),
            "result": first,
            "result-waiting": waiting,
            "store": store,
            "documents": docs,
            "grounded": checked(docs),
            "overview": Explorer(server, prefix),
            "records": checkpoints(saver, "tools"),
            "live": under_way(),
            "report": evaluate(get_router("lexical"), questions),
            "comparison": compare_routers(
                ["lexical"], questions=questions[:40], dialogues=evaluation_dialogues("dev")[:4]
            ),
        },
        saver,
        memory,
        graph,
    )


def agent_with_tools(saver: Any, thread_id: str = "tools") -> Any:
    """Run a graph of the user's own: it calls a tool, and asks before it books another."""

    def assistant(state: MessagesState) -> dict[str, Any]:
        if isinstance(state["messages"][-1], ToolMessage):
            call = {"name": "book_room", "args": {"room": "Plenary", "day": "2026-03-04", "seats": 380}, "id": "2"}
            said = "The plenary hall is free. I would book it."
        else:
            call = {"name": "free_rooms", "args": {"day": "2026-03-04", "at_least": 350}, "id": "1"}
            said = ""
        usage: Any = {"input_tokens": 412, "output_tokens": 38, "total_tokens": 450}
        return {"messages": [AIMessage(said, tool_calls=[call], name="assistant", usage_metadata=usage)]}

    def tools(state: MessagesState) -> dict[str, Any]:
        call = state["messages"][-1].tool_calls[0]  # type: ignore[union-attr]
        if call["name"] == "book_room":
            interrupt(
                {
                    "action_requests": [{"name": "book_room", "args": call["args"]}],
                    "review_configs": [
                        {"action_name": "book_room", "allowed_decisions": ["approve", "edit", "reject"]}
                    ],
                }
            )
        found = '["Plenary (400 seats)", "Atlantic (360 seats)"]'
        return {"messages": [ToolMessage(found, tool_call_id=call["id"], name=call["name"])]}

    builder = StateGraph(MessagesState).add_node(assistant).add_node(tools)
    builder.add_edge(START, "assistant").add_edge("assistant", "tools").add_edge("tools", "assistant")
    graph = builder.compile(checkpointer=saver)
    asked = {"messages": [HumanMessage("Find a room for 350 people on 4 March, and book it.")]}
    graph.invoke(asked, {"configurable": {"thread_id": thread_id}})
    return graph


def broken(saver: Any, thread_id: str = "broken") -> None:
    """Run a graph whose second step fails."""

    def look(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Looking it up.", name="look")]}

    def fetch(state: MessagesState) -> dict[str, Any]:
        raise ConnectionError("The catalogue of documents did not answer within 30 s.")

    builder = StateGraph(MessagesState).add_node(look).add_node(fetch)
    graph = builder.add_edge(START, "look").add_edge("look", "fetch").compile(checkpointer=saver)
    with suppress(ConnectionError):
        graph.invoke({"messages": [("user", "What did they decide?")]}, {"configurable": {"thread_id": thread_id}})


def group_of_ones_own() -> TWG:
    """Return a group that is not one of the summit's."""
    return TWG("health", "Health", "You know about health.", {"en": ["vaccin*", "hospital"]})


def long_thread(saver: Any, thread_id: str = "long", turns: int = 60) -> None:
    """Hold a long conversation, with a fork in it."""
    model = ScriptedModel(script=by_speaker(ANSWERS))
    graph = build_supervisor(model, router="lexical", checkpointer=saver)
    config: Any = {"configurable": {"thread_id": thread_id}}
    for number in range(turns):
        asked = QUESTIONS[number % 3] if number % 5 else "Thank you!"
        graph.invoke({"messages": [("user", asked)]}, config)


def sessions_of_three_weeks() -> tuple[SessionInfo, ...]:
    """Return the memory service's data on sessions of the last three weeks."""
    began = datetime(2026, 3, 2, 8, tzinfo=UTC)
    found = []
    for number in range(40):
        first = began + timedelta(hours=(number * 37 % 500))
        last = first + timedelta(hours=number % 7 * 9 + 1)
        agents = [list(ANSWERS)[(number * number + offset) % 6] for offset in range(1 + number % 3)]
        found += [
            SessionInfo(agent, f"session-{number:02}", 2 + (number * 7 + place) % 19, 86_400.0, first, last)
            for place, agent in enumerate(agents)
        ]
    return tuple(found)


def dossier(server: Server, prefix: str) -> Documents:
    """Hold two short documents of a fictional community."""
    docs = Documents.from_server(server, prefix=prefix)
    pool = (
        "Title: Report of the power pool (fictional)\nDate: 14 May 2025\nGroup: energy\n\n"
        "The power pool trades 6.2 TWh a year."
    )
    rooms = "Title: Rooms of the summit (fictional)\nLanguage: en\n\nThe plenary hall seats 400 people."
    with tempfile.TemporaryDirectory() as name:
        for number, text in enumerate((pool, rooms)):
            Path(name, f"paper{number}.txt").write_text(text, encoding="utf-8")
        docs.add(Path(name))
    return docs


def checked(docs: Documents) -> GroundedAnswer:
    """Return an answer of which the documents support one sentence."""
    evidence, found = docs.evidence("How much does the power pool trade?")
    said = "The power pool trades 6.2 TWh a year. It was founded in 1912 by a king."
    return grounded_answer(said, evidence=evidence, sources=found, language="en")


def under_way() -> LiveRun:
    """Return a running run: one group calls a tool, the other speaks."""
    run = LiveRun(QUESTIONS[0], "summit-prep")
    run.take(Routed(("energy", "resource_mobilization"), "lexical", "The question contains words of both."))
    run.take(ToolCalled("energy", "1", "line_costs", {"corridor": "coastal", "kilometres": 310}))
    run.take(ToolReturned("energy", "1", "line_costs", "about 620 million", "success"))
    run.take(Token("energy", "2", "The coastal backbone costs about **620 million**. It links"))
    run.take(Token("resource_mobilization", "3", "Two funds can pay for it: the development bank's"))
    run.seconds = 4.2
    return run
