"""Agents from end to end: a real, very small model behind ``ChatOllama``, and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ecowas_lc import RedisAgent, SupervisorAgent, create_energy_agent
from ecowas_lc.errors import ModelNotFoundError
from ecowas_lc.local_model import LocalModel
from ecowas_lc.settings import load_settings
from tests.agents.conftest import texts
from tests.fixtures.scripted_model import FixedRouter
from tests.fixtures.servers import RunningServer

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


@pytest.fixture
def local_model(any_local_model: LocalModel) -> LocalModel:
    """The local model in each of its manners, or a real Ollama."""
    return any_local_model


def test_an_agent_from_the_settings_alone(
    local_model: LocalModel, redis_server: RunningServer, prefix: str
) -> None:
    """Server, model and prefix come from the settings; sync and async, one event loop after the other."""
    settings = load_settings(
        redis_url=redis_server.url,
        prefix=prefix,
        ollama_base_url=local_model.base_url,
        ollama_model=local_model.model,
    )
    agent = RedisAgent("energy", "s", settings=settings)
    answers = [asyncio.run(agent.achat("In five words: what is a power pool?")), agent.chat("And a grid?")]
    assert texts(RedisAgent("energy", "s", settings=settings).history)[1::2] == answers
    with pytest.raises(ModelNotFoundError, match="ollama pull llama9:1b"):
        create_energy_agent(settings=settings, model="llama9:1b").chat("a?")


def test_an_answer_without_room_to_end(
    chat_ollama: Callable[..., Any], redis_server: RunningServer, prefix: str
) -> None:
    """It ends with a mark, in the stream and in the history."""
    settings = load_settings(redis_url=redis_server.url, prefix=prefix)
    agent = RedisAgent("energy", "s", settings=settings, model=chat_ollama(num_predict=4))
    answer = agent.chat("What is a power pool?")
    assert answer.endswith("[…]")
    assert answer != "[…]"
    assert RedisAgent("energy", "s", settings=settings).history[1]["content"] == answer


def test_a_supervisor_through_an_outage(
    chat_ollama: Callable[..., Any], mortal: RunningServer, prefix: str
) -> None:
    """A streamed answer, an outage, another process's supervisor: one conversation."""
    settings = load_settings(redis_url=mortal.url, prefix=prefix)
    made: dict[str, Any] = {"session_id": "s", "use_redis": True, "settings": settings, "router": FixedRouter()}
    agent = SupervisorAgent(model=chat_ollama(), **made)
    pieces = list(agent.stream("energy: what is a power pool?"))
    assert len(pieces) > 3
    mortal.kill()
    agent.smart_chat("energy: and what is a grid?")
    assert agent.get_session_info()["backend"] == "memory"
    told = agent.history
    assert told[1]["content"] == "".join(pieces)
    mortal.start()
    again = SupervisorAgent(model=chat_ollama(), **made)
    again.smart_chat("hello")
    assert again.history[:4] == told
    assert len(again.history) == 6
