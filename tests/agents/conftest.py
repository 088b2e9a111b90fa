"""Agents with a scripted model, on servers that live or die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ecowas_lc import RedisAgent, RedisMemoryService, SupervisorAgent
from tests.fixtures.scripted_model import Answer, FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer, running_server

Call = Callable[..., Any]


def model(**answers: Answer | Callable[..., Answer]) -> ScriptedModel:
    """Everybody says who speaks; or, by name, something else."""
    return ScriptedModel(script=by_speaker(answers))


def numbered() -> ScriptedModel:
    """Each answer repeats its question, so that exchanges can be distinguished."""
    return ScriptedModel(script=lambda messages: f"Answer to: {messages[-1].text}")


def texts(history: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in history]


def dialogue(*questions: str) -> list[str]:
    """The transcript of a :func:`numbered` agent that was asked these questions, each once and in this order."""
    return [text for question in questions for text in (question, f"Answer to: {question}")]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Call an agent's method, or its awaitable twin: every rule that holds for one holds for both."""

    def run(agent: Any, name: str, *arguments: Any) -> Any:
        if request.param == "sync":
            if name == "history":
                return agent.history
            result = getattr(agent, name)(*arguments)
            return list(result) if name == "stream" else result

        async def awaited() -> Any:
            if name == "stream":
                return [text async for text in agent.astream(*arguments)]
            return await getattr(agent, f"a{'get_history' if name == 'history' else name}")(*arguments)

        return asyncio.run(awaited())

    return run


@pytest.fixture
def memory(redis_server: RunningServer, prefix: str) -> Iterator[RedisMemoryService]:
    """A memory service on a shared server, with a separate prefix."""
    with RedisMemoryService(url=redis_server.url, prefix=prefix) as service:
        yield service


@pytest.fixture
def mortal() -> Iterator[RunningServer]:
    """A separate server that writes everything to disk before it replies."""
    with running_server("redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def redis_agent(memory: RedisMemoryService, agent_id: str = "energy", **options: Any) -> RedisAgent:
    return RedisAgent(agent_id, "s", **{"model": numbered(), "memory": memory, **options})


def supervisor(memory: RedisMemoryService | None = None, **options: Any) -> SupervisorAgent:
    chosen = {"session_id": "s", "use_redis": memory is not None, "memory": memory, "router": FixedRouter()}
    return SupervisorAgent(**{"model": model(), **chosen, **options})
