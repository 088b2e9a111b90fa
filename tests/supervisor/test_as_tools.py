"""The groups without our graph: as tools of LangChain's own agent, with a checkpointer and a history."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.supervisor import twg_tools
from ecowas_lc.twg import TWG, default_groups
from tests.fixtures.scripted_model import Answer, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, Stream


def agent_script(messages: list[BaseMessage]) -> Answer:
    """An agent that asks the energy group once and repeats its answer; a group that answers."""
    if speaker_of(messages) != "supervisor":
        return by_speaker({})(messages)
    if isinstance(messages[-1], ToolMessage):
        return f"They say: {messages[-1].text}"
    call = {"name": "ask_energy", "args": {"question": messages[-1].text}, "id": f"c{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def test_each_group_is_a_tool() -> None:
    """Name, description and argument tell a model the tool's purpose."""
    tools = twg_tools(ScriptedModel(script=by_speaker({})))
    assert [tool.name for tool in tools] == [f"ask_{group.id}" for group in default_groups()]
    assert "Power Pool" in tools[0].description
    assert list(tools[0].args) == ["question"]


def test_create_agent_asks_the_groups(ask: Ask) -> None:
    """The tools work in LangChain's agent, with a checkpointer, over several turns."""
    model = ScriptedModel(script=agent_script, tools=True)
    agent: Any = create_agent(model, tools=twg_tools(model), checkpointer=InMemorySaver())
    for turn in range(2):
        result = ask(agent, f"turn {turn}?")
        assert result["messages"][-1].text == "They say: energy speaks."
    assert len(result["messages"]) == 8
    assert [m.text for m in result["messages"] if isinstance(m, HumanMessage)] == ["turn 0?", "turn 1?"]


def test_what_the_group_says_is_labelled(stream: Stream) -> None:
    """Tokens from within a tool have the group's id, those of the agent have none."""
    model = ScriptedModel(script=agent_script, tools=True)
    agent: Any = create_agent(model, tools=twg_tools(model))
    said: dict[str | None, str] = defaultdict(str)
    for chunk, metadata in stream(agent, "how?", stream_mode="messages"):
        if not isinstance(chunk, ToolMessage):
            said[metadata.get("twg")] += chunk.text
    assert said["energy"].strip() == "energy speaks."
    assert said[None].strip() == "They say: energy speaks."


def test_a_group_that_fails_is_a_tool_error(ask: Ask) -> None:
    """The agent learns why a group can't answer, and continues."""
    failing = ScriptedModel(script=by_speaker({"energy": ConnectionError("x")}))
    agent: Any = create_agent(ScriptedModel(script=agent_script, tools=True), tools=twg_tools(failing))
    result = ask(agent, "how?")
    [told] = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert told.status == "error"
    assert "ollama serve" in told.text


def test_groups_whose_tools_would_have_one_name_are_refused() -> None:
    """Two ids that give the same tool name are an error when the tools are made."""
    groups = [TWG("a b", "A", "You are A."), TWG("a.b", "B", "You are B.")]
    with pytest.raises(InvalidInputError, match="same tool name"):
        twg_tools(ScriptedModel(script=by_speaker({})), groups=groups)


def test_an_empty_question_is_a_tool_error(ask: Ask) -> None:
    """Models sometimes call tools with empty arguments; then no group is asked."""
    model = ScriptedModel(script=by_speaker({}))
    [tool] = twg_tools(model, groups=default_groups()[:1])
    answer = tool.invoke({"name": tool.name, "args": {"question": " "}, "id": "1", "type": "tool_call"})
    assert answer.status == "error"
    assert model.calls == []


def test_own_groups_and_their_tools() -> None:
    """Users' groups become tools under names that models accept."""
    groups = [TWG("eau et forêts", "Eaux", "Tu es le groupe des eaux.", {}, "Les eaux.")]
    [tool] = twg_tools(ScriptedModel(script=lambda messages: messages[0].text), groups=groups)
    assert tool.name == "ask_eau_et_for_ts"
    assert tool.invoke({"question": "où ?"}) == "Tu es le groupe des eaux."


def test_arguments_are_checked() -> None:
    """Mistakes are reported when the tools are built."""
    with pytest.raises(ConfigurationError):
        twg_tools(ScriptedModel(script=by_speaker({})), max_hops=0)
