"""LangChain's agent on Ollama with a guarded model: long conversations are summarised, not cut."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.exceptions import ContextOverflowError as LangChainsError
from langchain_core.messages import HumanMessage
from langchain_ollama import ChatOllama
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc import ContextOverflowError, GuardedChatOllama, GuardedContextMiddleware
from ecowas_lc.local_model import LocalModel
from tests.fixtures.ollama_stub import serving_stub

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]

WINDOW = 256
LONG = "The working group on energy reviewed the progress of the regional power pool. " * 5
# Nothing closes ChatOllama's connections.
CLOSED: dict[str, Any] = {"limits": httpx.Limits(max_keepalive_connections=0)}
CONFIG: Any = {"configurable": {"thread_id": "t"}}


def guarded(model: LocalModel, **options: Any) -> GuardedChatOllama:
    settings = {"num_ctx": WINDOW, "num_predict": 8, "temperature": 0, "client_kwargs": CLOSED} | options
    return GuardedChatOllama(base_url=model.base_url, model=model.model, **settings)


def test_a_long_conversation_is_summarised(awkward_model: LocalModel) -> None:
    """If a conversation outgrows the model's window, LangChain's middleware summarises it, turn after turn."""
    model = guarded(awkward_model)
    shortening = SummarizationMiddleware(
        model, trigger=("fraction", 0.6), keep=("messages", 1), summary_prompt="Summarise: {messages}"
    )
    agent = create_agent(model, middleware=[shortening], checkpointer=InMemorySaver())
    summaries = []
    for turn in range(6):
        asked = HumanMessage(f"{turn}: {LONG[:240]}")
        messages = agent.invoke({"messages": [asked]}, CONFIG)["messages"]
        summaries += [m for m in messages if m.additional_kwargs.get("lc_source") == "summarization"]
        assert messages[-1].type == "ai"
        assert messages[-1].usage_metadata["input_tokens"] < WINDOW
        assert messages[-2].text == asked.text
    assert summaries
    without = create_agent(model, checkpointer=InMemorySaver())
    long: Any = {"messages": [HumanMessage(f"{turn}: {LONG[:240]}") for turn in range(6)]}
    with pytest.raises(LangChainsError):
        without.invoke(long, CONFIG)


def test_the_profile_says_what_fits(awkward_model: LocalModel) -> None:
    """The profile states the model's window, from ``num_ctx`` or its server."""
    assert guarded(awkward_model).profile == {"max_input_tokens": WINDOW - 8, "max_output_tokens": 8}
    unknown = guarded(awkward_model, num_ctx=None, num_predict=None)
    assert unknown.profile is None
    told = unknown.with_profile()
    assert told.profile is not None
    assert 0 < told.profile["max_input_tokens"] < unknown.context()
    assert told.profile["max_input_tokens"] + told.profile["max_output_tokens"] == unknown.context()


async def test_the_profile_in_async_code(awkward_model: LocalModel) -> None:
    """The async method returns the same without blocking the event loop."""
    unknown = guarded(awkward_model, num_ctx=None)
    assert (await unknown.awith_profile()).profile == unknown.with_profile().profile


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_the_middleware_guards_a_plain_model(how: str) -> None:
    """A plain ``ChatOllama`` in an agent gets the guard: a prompt that does not fit is refused, not cut."""

    async def ask(agent: Any, text: str) -> Any:
        given = {"messages": [HumanMessage(text)]}
        return agent.invoke(given) if how == "sync" else await agent.ainvoke(given)

    with serving_stub() as stub:
        plain = ChatOllama(base_url=stub.url, model="tiny", num_ctx=WINDOW, client_kwargs=CLOSED)
        agent = create_agent(plain, middleware=[GuardedContextMiddleware()])
        assert (await ask(agent, "Hello"))["messages"][-1].type == "ai"
        [sent] = stub.bodies("/api/chat")
        assert sent["options"]["num_ctx"] == WINDOW
        assert sent["truncate"] is False
        with pytest.raises(ContextOverflowError):
            await ask(agent, LONG * 20)
        assert len(stub.bodies("/api/chat")) == 1
