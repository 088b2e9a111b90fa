"""LangChain's own agent on our storage: a plain ``create_agent`` with our checkpointer, and with our history."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.types import Command

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.store import RedisStore
from tests.fixtures.scripted_model import Answer, ScriptedModel
from tests.fixtures.servers import RunningServer


@tool
def rainfall(country: str) -> str:
    """Rainfall of the last season, in millimetres."""
    return f"{len(country)}00 mm"


def script(messages: list[BaseMessage]) -> Answer:
    """Calls the tool once for each question, then repeats its result and the number of questions so far."""
    if isinstance(messages[-1], ToolMessage):
        questions = sum(isinstance(message, HumanMessage) for message in messages)
        return f"{messages[-1].text}, question {questions}"
    call = {"name": "rainfall", "args": {"country": messages[-1].text}, "id": f"c{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def agent(checkpointer: Any = None) -> Any:
    return create_agent(ScriptedModel(script=script, tools=True), tools=[rainfall], checkpointer=checkpointer)


async def test_create_agent_goes_on_from_our_checkpoints(server: Any, prefix: str) -> None:
    """A second agent on a second saver, async if the first was sync, knows the earlier turns."""
    config = {"configurable": {"thread_id": "farm"}}
    with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        agent(saver).invoke({"messages": [HumanMessage("Mali")]}, config)
    async with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        result = await agent(saver).ainvoke({"messages": [HumanMessage("Niger")]}, config)
    assert [message.text for message in result["messages"]] == [
        "Mali",
        "",
        "400 mm",
        "400 mm, question 1",
        "Niger",
        "",
        "500 mm",
        "500 mm, question 2",
    ]
    assert result["messages"][1].tool_calls[0]["args"] == {"country": "Mali"}


# People use it all the same, which is why it is tested.
@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
def test_create_agent_with_our_history(server: Any, prefix: str) -> None:
    """Without a checkpointer, ``RunnableWithMessageHistory`` and our history carry a conversation on."""

    def history(session_id: str) -> RedisChatMessageHistory:
        return RedisChatMessageHistory("agent", session_id, url=server.url, prefix=prefix)

    def ask(messages: list[BaseMessage]) -> list[BaseMessage]:
        return agent().invoke({"messages": messages})["messages"][len(messages) :]

    chain: Any = RunnableWithMessageHistory(RunnableLambda(ask), history)
    config = {"configurable": {"session_id": "farm"}}
    chain.invoke([HumanMessage("Mali")], config)
    assert chain.invoke([HumanMessage("Niger")], config)[-1].text == "500 mm, question 2"
    assert [message.text for message in history("farm").messages][-4:] == [
        "Niger",
        "",
        "500 mm",
        "500 mm, question 2",
    ]


@tool
def remember(fact: str, runtime: ToolRuntime) -> str:
    """Keep a fact for later."""
    assert runtime.store is not None
    runtime.store.put(("memories", "ama"), "fact", {"text": fact})
    return "kept"


@tool
async def recall(query: str, runtime: ToolRuntime) -> str:
    """Look for a fact that was kept."""
    assert runtime.store is not None
    return ", ".join(
        item.value["text"] for item in await runtime.store.asearch(("memories",), query=query, limit=1)
    )


def memory_script(messages: list[BaseMessage]) -> Answer:
    """Calls the tool that the first word of the question names, then repeats its result."""
    if isinstance(messages[-1], ToolMessage):
        return messages[-1].text
    name, _, rest = messages[-1].text.partition(" ")
    argument = {"remember": "fact", "recall": "query"}[name]
    return AIMessage("", tool_calls=[{"name": name, "args": {argument: rest}, "id": f"c{len(messages)}"}])


async def test_create_agent_remembers_across_threads(server: RunningServer, prefix: str) -> None:
    """What a tool stores in one thread, a tool finds by its words in another thread and process."""
    options: Any = {"prefix": prefix, "index": {"embed": None, "fields": ["text"]}}

    def agent_on(saver: RedisSaver, store: RedisStore) -> Any:
        model = ScriptedModel(script=memory_script, tools=True)
        return create_agent(model, tools=[remember, recall], checkpointer=saver, store=store)

    with (
        RedisSaver.from_url(server.url, prefix=prefix) as saver,
        RedisStore.from_url(server.url, **options) as store,
    ):
        config: Any = {"configurable": {"thread_id": "one"}}
        agent_on(saver, store).invoke({"messages": [HumanMessage("remember Tariffs rise in March.")]}, config)
    async with (
        RedisSaver.from_url(server.url, prefix=prefix) as saver,
        RedisStore.from_url(server.url, **options) as store,
    ):
        config = {"configurable": {"thread_id": "two"}}
        result = await agent_on(saver, store).ainvoke({"messages": [HumanMessage("recall the tariff")]}, config)
    assert result["messages"][-1].text == "Tariffs rise in March."


def careful_script(messages: list[BaseMessage]) -> Answer:
    """Stores each question as a fact, which a person must approve; summarises if asked to."""
    if messages[-1].text.startswith("Summarise"):
        return "Earlier: facts were kept."
    if isinstance(messages[-1], ToolMessage):
        return f"Done: {messages[-1].text}"
    return AIMessage(
        "", tool_calls=[{"name": "remember", "args": {"fact": messages[-1].text}, "id": f"c{len(messages)}"}]
    )


def careful_agent(saver: RedisSaver, store: RedisStore) -> Any:
    """Everything at once: saver, store, approval, tools, summarising."""
    model = ScriptedModel(script=careful_script, tools=True)
    return create_agent(
        model,
        tools=[remember],
        middleware=[
            SummarizationMiddleware(
                model, trigger=("messages", 6), keep=("messages", 2), summary_prompt="Summarise: {messages}"
            ),
            HumanInTheLoopMiddleware(interrupt_on={"remember": True}),
        ],
        checkpointer=saver,
        store=store,
    )


async def test_everything_at_once(server: RunningServer, prefix: str) -> None:
    """An agent streams, waits for a person, continues in another process, stores facts and trims its history."""
    config: Any = {"configurable": {"thread_id": "t"}, "metadata": {"user_id": "ama"}}
    summaries = 0
    for number in range(4):
        with (
            RedisSaver.from_url(server.url, prefix=prefix) as saver,
            RedisStore.from_url(server.url, prefix=prefix) as store,
        ):
            agent = careful_agent(saver, store)
            agent.invoke({"messages": [HumanMessage(f"Fact {number}.")]}, config)
            [row] = saver.waiting(where={"user_id": "ama"})
            [asked] = row.waiting
            assert asked.value["action_requests"][0]["args"] == {"fact": f"Fact {number}."}
        async with (
            RedisSaver.from_url(server.url, prefix=prefix) as saver,
            RedisStore.from_url(server.url, prefix=prefix) as store,
        ):
            agent = careful_agent(saver, store)
            resumed = Command(resume={"decisions": [{"type": "approve"}]})
            heard = [
                message.text
                async for message, about in agent.astream(resumed, config, stream_mode="messages")
                if isinstance(message, AIMessageChunk) and about.get("lc_source") != "summarization"
            ]
            assert "".join(heard) == "Done: kept"
            assert (await store.aget(("memories", "ama"), "fact")).value == {"text": f"Fact {number}."}  # type: ignore[union-attr]
            assert await saver.awaiting() == []
            messages = (await agent.aget_state(config)).values["messages"]
            summaries += any(m.additional_kwargs.get("lc_source") == "summarization" for m in messages)
            assert len(messages) <= 8
            [row] = await saver.athreads()
            assert row.title
    assert summaries
