"""LangChain's own agent on our storage: a plain ``create_agent`` with our checkpointer, and with our history."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from tests.fixtures.scripted_model import Answer, ScriptedModel


@tool
def rainfall(country: str) -> str:
    """Rainfall of the last season, in millimetres."""
    return f"{len(country)}00 mm"


def script(messages: list[BaseMessage]) -> Answer:
    """Calls the tool once for each question, then tells its result and how many questions it has seen."""
    if isinstance(messages[-1], ToolMessage):
        questions = sum(isinstance(message, HumanMessage) for message in messages)
        return f"{messages[-1].text}, question {questions}"
    call = {"name": "rainfall", "args": {"country": messages[-1].text}, "id": f"c{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def agent(checkpointer: Any = None) -> Any:
    return create_agent(ScriptedModel(script=script, tools=True), tools=[rainfall], checkpointer=checkpointer)


async def test_create_agent_goes_on_from_our_checkpoints(server: Any, prefix: str) -> None:
    """A second agent on a second saver, asynchronous where the first was not, knows the earlier turns."""
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
