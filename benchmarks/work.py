"""The same work for every saver: a chat graph of three supersteps a turn (the start and two nodes)."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

QUESTION_CHARACTERS, ANSWER_CHARACTERS = 200, 1200


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]
    note: str


def text(length: int) -> str:
    return "".join(random.choices(string.ascii_lowercase + " ", k=length))


def question() -> dict[str, Any]:
    return {"messages": [HumanMessage(text(QUESTION_CHARACTERS))]}


def route(state: State) -> dict[str, Any]:
    return {"note": "r"}


def answer(state: State) -> dict[str, Any]:
    return {"messages": [AIMessage(text(ANSWER_CHARACTERS))]}


async def aroute(state: State) -> dict[str, Any]:
    return route(state)


async def aanswer(state: State) -> dict[str, Any]:
    return answer(state)


def build(saver: Any, asynchronous: bool = False) -> Any:
    """The graph; with ``asynchronous`` its nodes are coroutines, which langgraph runs without threads."""
    builder = StateGraph(State)
    builder.add_node("route", aroute if asynchronous else route)
    builder.add_node("answer", aanswer if asynchronous else answer)
    builder.add_edge(START, "route")
    builder.add_edge("route", "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


def config(thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}


def run_turns(graph: Any, thread_id: str, turns: int) -> float:
    """Measure the seconds that a number of turns take."""
    begun = time.perf_counter()
    for _ in range(turns):
        graph.invoke(question(), config(thread_id))
    return time.perf_counter() - begun


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
