"""The supervisor with a real, very small model through ``ChatOllama``: the protocol, never the model's text."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_ollama import ChatOllama
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from ecowas_lc.errors import ModelNotFoundError
from ecowas_lc.llm import LLMService, effective_context, make_chat_model
from ecowas_lc.local_model import LocalModel
from ecowas_lc.supervisor import build_supervisor, twg_tools
from tests.fixtures.scripted_model import FixedRouter
from tests.supervisor.conftest import Graph, asked, in_thread

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


@pytest.fixture
def model(local_model: LocalModel) -> ChatOllama:
    return make_chat_model(
        base_url=local_model.base_url, model=local_model.model, temperature=0, num_predict=48, timeout=120
    )


def supervisor(model: ChatOllama, **options: Any) -> Graph:
    return build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), **options)


def test_a_question_for_one_group(model: ChatOllama) -> None:
    """The answer is streamed token by token under the group's label, and the thread stores the same text."""
    graph = supervisor(model)
    parts = list(graph.stream(asked("energy: what is a power pool?"), in_thread("t"), stream_mode="messages"))
    assert {metadata["twg"] for _, metadata in parts} == {"energy"}
    assert len(parts) > 5
    final = graph.get_state(in_thread("t")).values["messages"][-1]
    assert "".join(chunk.text for chunk, _ in parts).strip() == final.text


async def test_a_question_for_two_groups(local_model: LocalModel) -> None:
    """Both groups answer at once, the synthesis names both, and its streamed text is the stored one."""
    model = make_chat_model(base_url=local_model.base_url, model=local_model.model, temperature=0, num_predict=200)
    graph = supervisor(model)
    said: dict[tuple[str, str], str] = {}
    async for chunk, metadata in graph.astream(
        asked("energy+minerals: how can smelters be powered?"), in_thread("t"), stream_mode="messages"
    ):
        key = metadata["langgraph_node"], chunk.id
        said[key] = said.get(key, "") + chunk.text
    state = (await graph.aget_state(in_thread("t"))).values
    final = state["messages"][-1]
    assert len(state["messages"]) == 2
    for name in ("Energy & Infrastructure", "Critical Minerals & Industrialization"):
        assert name in final.text
    assert said[("synthesise", final.id)] == final.text
    assert set(state["synthesis"]["views"]) == {"energy", "minerals"}
    assert {node for node, _ in said} == {"energy", "minerals", "synthesise"}


def test_one_graph_through_several_event_loops(model: ChatOllama) -> None:
    """``asyncio.run`` after ``asyncio.run``, and blocking calls in between, on one graph and one thread."""
    graph = supervisor(model)
    for _ in range(2):
        asyncio.run(graph.ainvoke(asked("hello"), in_thread("t")))
        graph.invoke(asked("hello again"), in_thread("t"))
    assert len(graph.get_state(in_thread("t")).values["messages"]) == 8


def test_a_held_answer_is_released_by_another_graph(model: ChatOllama) -> None:
    """The reviewer's process asks no model and needs no model server."""
    saver = InMemorySaver()
    first = build_supervisor(
        model, router=FixedRouter(), checkpointer=saver, interrupt_before_release=["protocol"]
    )
    first.invoke(asked("protocol: who sits where?"), in_thread("t"))
    elsewhere = make_chat_model(base_url="http://127.0.0.1:9", model="nobody")
    second = build_supervisor(
        elsewhere, router=FixedRouter(), checkpointer=saver, interrupt_before_release=["protocol"]
    )
    result = second.invoke(Command(resume={"action": "edit", "text": "By precedence."}), in_thread("t"))
    assert result["messages"][-1].text == "By precedence."


def test_tools_of_a_model_that_calls_none(model: ChatOllama) -> None:
    """If the model calls none of its tools, the group still answers."""

    def tariff(country: str) -> str:
        """Look up a country's electricity tariff."""
        return f"{country}: 0.13 USD/kWh"

    graph = supervisor(model, tools={"energy": [tariff]})
    result = graph.invoke(asked("energy: what does power cost in Ghana?"), in_thread("t"))
    assert result["reports"]["energy"]["status"] == "answered"
    assert result["reports"]["energy"]["tools"] in ("used", "unused", "unavailable")


def test_the_context_that_the_server_allots_is_found(model: ChatOllama) -> None:
    """The window is the one that the server reports, and no answer is cut off silently."""
    context = effective_context(model)
    assert context is not None
    assert 1024 <= context <= 131072


def test_a_model_that_is_not_there(local_model: LocalModel) -> None:
    """The error has the command that gets it, from the graph and from the service."""
    missing = make_chat_model(base_url=local_model.base_url, model="llama9:1b")
    with pytest.raises(ModelNotFoundError, match="ollama pull llama9:1b"):
        supervisor(missing).invoke(asked("energy: a?"), in_thread("t"))


def test_the_service(local_model: LocalModel) -> None:
    """Chat, streams, limits, health: on the real server."""
    llm = LLMService(local_model.base_url, local_model.model, temperature=0.0, timeout=120)
    assert llm.health_check() is True
    assert local_model.model in llm.list_models()
    assert llm.chat("Say hello.", max_tokens=8)
    assert asyncio.run(llm.achat_with_history([{"role": "user", "content": "Say hello."}], max_tokens=8))
    assert len(list(llm.stream("Count to five.", max_tokens=12))) > 1


def test_groups_as_tools(model: ChatOllama) -> None:
    """A group asked as a tool answers."""
    [energy, *_] = twg_tools(model)
    assert energy.invoke({"question": "What is a power pool?"})
