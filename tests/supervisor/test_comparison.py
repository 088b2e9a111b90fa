"""A comparison with langgraph-supervisor under the same scripted model: features and costs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langgraph.errors import GraphRecursionError

from ecowas_lc.errors import ModelError
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import Answer, ScriptedModel, speaker_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is built on features that LangGraph has deprecated
    from langgraph.prebuilt import create_react_agent
    from langgraph_supervisor import create_supervisor

QUESTION = {"messages": [("user", "How much electricity does the West African Power Pool trade?")]}


def theirs(model: ScriptedModel) -> Any:
    """A supervisor over two agents, as its documentation builds it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agents = [
            create_react_agent(model, tools=[], name=name, prompt=f"You are the {name} expert.")
            for name in ("energy", "digital")
        ]
        return create_supervisor(agents, model=model, prompt="You are the supervisor.").compile()


def hopping(messages: list[BaseMessage]) -> Answer:
    """Answers for energy; as a supervisor with hand-offs it hands over once, then answers: a good model."""
    if messages[0].text == "You are the energy expert." or speaker_of(messages) == "energy":
        return "7 TWh."
    if any(message.name == "energy" for message in messages if isinstance(message, AIMessage)):
        return "It is 7 TWh."
    return AIMessage("", tool_calls=[{"name": "transfer_to_energy", "args": {}, "id": "1"}])


def test_one_question_for_one_group() -> None:
    """Two messages and one model call with ours; seven messages and three model calls with theirs."""
    other = ScriptedModel(script=hopping, tools=True)
    left = theirs(other).invoke(QUESTION)["messages"]
    assert (len(left), len(other.calls)) == (7, 3)

    model = ScriptedModel(script=hopping, tools=True)
    result = build_supervisor(model, router="lexical").invoke(QUESTION)
    assert (len(result["messages"]), len(model.calls)) == (2, 1)
    assert result["messages"][-1].text == "7 TWh."


def test_a_model_that_answers_nonsense_still_reaches_the_group() -> None:
    """Ours still asks the group; there, an unusable reply of the supervisor means that no group is asked."""

    def nonsense(messages: list[BaseMessage]) -> Answer:
        return "blah"

    other = ScriptedModel(script=nonsense, tools=True)
    left = theirs(other).invoke(QUESTION)["messages"]
    assert not any(prompt[0].text == "You are the energy expert." for prompt in other.calls)
    assert left[-1].text.strip() == "blah"

    model = ScriptedModel(script=nonsense)
    result = build_supervisor(model, router="lexical").invoke(QUESTION)
    assert result["decision"]["groups"] == ["energy"]
    assert [speaker_of(prompt) for prompt in model.calls] == ["energy"]


def test_a_model_that_hands_over_forever_is_no_loop_here() -> None:
    """Theirs reaches the recursion limit; ours ends after one call, with a named error."""

    def forever(messages: list[BaseMessage]) -> Answer:
        if isinstance(messages[0], SystemMessage) and "expert" in messages[0].text:
            return "7 TWh."
        return AIMessage("", tool_calls=[{"name": "transfer_to_energy", "args": {}, "id": str(len(messages))}])

    other = ScriptedModel(script=forever, tools=True)
    with pytest.raises(GraphRecursionError):
        theirs(other).invoke(QUESTION, {"recursion_limit": 30})
    assert len(other.calls) > 10

    model = ScriptedModel(script=forever, tools=True)
    with pytest.raises(ModelError, match="empty answer"):
        build_supervisor(model, router="lexical").invoke(QUESTION)
    assert len(model.calls) == 1
