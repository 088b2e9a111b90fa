"""Ways of running a graph: every rule holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.graph.state import CompiledStateGraph

Graph = CompiledStateGraph[Any, Any, Any, Any]
Ask = Callable[..., dict[str, Any]]
Stream = Callable[..., list[Any]]


def in_thread(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}}


def asked(question: str) -> dict[str, Any]:
    return {"messages": [("user", question)]}


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Run a graph to its end: ``ask(graph, question or input, thread)`` returns the output."""

    def run(graph: Graph, given: Any, thread: str = "t", **options: Any) -> dict[str, Any]:
        given = asked(given) if isinstance(given, str) else given
        if request.param == "sync":
            return graph.invoke(given, in_thread(thread), **options)
        return asyncio.run(graph.ainvoke(given, in_thread(thread), **options))

    run.kind = request.param  # type: ignore[attr-defined]
    return run


@pytest.fixture(params=["sync", "async"])
def stream(request: pytest.FixtureRequest) -> Stream:
    """Stream a graph to its end; returns the list of chunks."""

    def run(graph: Graph, given: Any, thread: str = "t", **options: Any) -> list[Any]:
        given = asked(given) if isinstance(given, str) else given
        if request.param == "sync":
            return list(graph.stream(given, in_thread(thread), **options))

        async def collect() -> list[Any]:
            return [part async for part in graph.astream(given, in_thread(thread), **options)]

        return asyncio.run(collect())

    return run
