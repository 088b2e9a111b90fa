"""A single agent: its persona, its memory, and the input it refuses."""

from __future__ import annotations

import inspect

import pytest
from langchain_core.messages import AIMessage, HumanMessage

import ecowas_lc
from ecowas_lc import BaseAgent, RedisAgent, SupervisorAgent
from ecowas_lc.errors import (
    ContextOverflowError,
    EmptyQuestionError,
    InvalidIdError,
    InvalidInputError,
    ModelError,
)
from ecowas_lc.twg import default_groups
from tests.agents.conftest import Call, dialogue, model, numbered, texts
from tests.fixtures.scripted_model import ScriptedModel


def test_constructors_are_as_promised() -> None:
    """Names, order and defaults of the published arguments."""
    of_an_agent = "keep_history=False, max_history=10, session_id=None, use_redis=False, memory_ttl=None"
    of_a_supervisor = "keep_history=True, session_id=None, use_redis=False, memory_ttl=None, auto_register=True"
    promised = {
        BaseAgent: f"agent_id, {of_an_agent}",
        RedisAgent: "agent_id, session_id, keep_history=True, max_history=10, use_redis=True, memory_ttl=None",
        SupervisorAgent: of_a_supervisor,
        ecowas_lc.create_supervisor: of_a_supervisor,
    }
    for made, arguments in promised.items():
        parameters = inspect.signature(made).parameters.values()
        positional = [
            p.name if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in parameters
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        assert ", ".join(positional) == arguments


@pytest.mark.parametrize("group", default_groups(), ids=lambda group: group.id)
def test_there_is_an_agent_for_each_group(group: ecowas_lc.TWG) -> None:
    """``create_<group>_agent`` speaks with the group's prompt, and remembers."""
    scripted = model()
    agent = getattr(ecowas_lc, f"create_{group.id}_agent")(session_id="s", model=scripted)
    assert agent.chat("What do you do?") == f"{group.id} speaks."
    assert scripted.calls[-1][0].text == group.prompt
    assert (agent.agent_id, agent.name, agent.session_id) == (group.id, group.name, "s")
    assert len(agent.history) == 2


def test_an_agent_may_be_anybody() -> None:
    """An id that no group has is an assistant's; ``prompt`` says who it is."""
    scripted = numbered()
    BaseAgent("clerk", model=scripted).chat("Who are you?")
    assert scripted.calls[-1][0].text.startswith("You are clerk")
    BaseAgent("clerk", model=scripted, prompt="You count seats.").chat("Who are you?")
    assert scripted.calls[-1][0].text == "You count seats."


def test_without_history_each_question_stands_for_itself(call: Call) -> None:
    """By default an agent remembers nothing."""
    scripted = numbered()
    agent = BaseAgent("energy", model=scripted)
    assert call(agent, "chat", "one?") == "Answer to: one?"
    call(agent, "chat", "two?")
    assert [message.text for message in scripted.calls[-1][1:]] == ["two?"]
    assert call(agent, "history") == []


def test_history_is_what_was_said(call: Call) -> None:
    """The history holds role and content, oldest first, and the model receives it."""
    scripted = numbered()
    agent = BaseAgent("energy", keep_history=True, model=scripted)
    call(agent, "chat", "one?")
    call(agent, "chat", " two? ")
    assert call(agent, "history") == [
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "Answer to: one?"},
        {"role": "user", "content": "two?"},
        {"role": "assistant", "content": "Answer to: two?"},
    ]
    assert [type(message) for message in scripted.calls[-1][1:]] == [HumanMessage, AIMessage, HumanMessage]
    call(agent, "reset_history")
    assert call(agent, "history") == []
    call(agent, "chat", "three?")
    assert texts(agent.history) == dialogue("three?")


def test_the_newest_messages_are_kept() -> None:
    """``max_history`` counts messages, and two agents without Redis share nothing."""
    agent = BaseAgent("energy", keep_history=True, max_history=4, session_id="s", model=numbered())
    for question in ("one?", "two?", "three?"):
        agent.chat(question)
    assert texts(agent.history) == dialogue("two?", "three?")
    assert BaseAgent("energy", keep_history=True, session_id="s", model=numbered()).history == []


def test_a_stream_is_the_answer_in_pieces(call: Call) -> None:
    """The parts joined are what ``chat`` returns, and the answer is stored once the stream has ended."""
    agent = BaseAgent("energy", keep_history=True, model=model(energy=lambda _: "\n Two words. \n"))
    assert call(agent, "stream", "a?") == ["Two", " words."]
    assert texts(agent.history) == ["a?", "Two words."]


@pytest.mark.parametrize(("said", "marked"), [("Two words", "Two words […]"), ("Two\n\n", "Two\n\n[…]")])
def test_an_answer_that_was_cut_off_says_so(call: Call, said: str, marked: str) -> None:
    """As with a supervisor, a mark ends an answer that was cut off, in the stream and in the history."""
    for reason, heard in (("length", marked), ("stop", said.strip())):
        scripted = ScriptedModel(script=lambda _: said, done_reason=reason)
        agent = BaseAgent("energy", keep_history=True, model=scripted)
        assert "".join(call(agent, "stream", "a?")) == heard
        assert call(agent, "chat", "b?") == heard
        assert texts(call(agent, "history")) == ["a?", heard, "b?", heard]
    with pytest.raises(ModelError, match=r"empty answer.*before it wrote any text.*num_predict"):
        call(BaseAgent("energy", model=ScriptedModel(script=lambda _: " ", done_reason="length")), "chat", "a?")


def test_a_stream_that_is_broken_off_is_not_remembered() -> None:
    """The answer of a stream that you end early is not stored."""
    agent = BaseAgent("energy", keep_history=True, model=model(energy=lambda _: "one two three"))
    heard = agent.stream("a?")
    assert next(heard) == "one"
    heard.close()
    assert agent.history == []


def test_a_question_that_could_not_be_answered_leaves_no_trace(call: Call) -> None:
    """A model's failure reaches the caller, and the next question continues from the state before it."""
    failing = model(energy=lambda messages: ModelError("broken") if messages[-1].text == "bad?" else "Fine.")
    agent = BaseAgent("energy", keep_history=True, model=failing)
    call(agent, "chat", "good?")
    with pytest.raises(ModelError, match="broken"):
        call(agent, "chat", "bad?")
    assert texts(call(agent, "history")) == ["good?", "Fine."]
    with pytest.raises(ModelError, match="empty answer"):
        BaseAgent("energy", model=model(energy="  ")).chat("a?")


@pytest.mark.parametrize("prompt", ["", " \n", None, 5])
def test_an_empty_prompt_is_refused_at_once(prompt: object) -> None:
    """Invalid input is refused before a stream is even read."""
    agent = BaseAgent("energy", model=model())
    for ask in (agent.chat, agent.stream, agent.astream):
        with pytest.raises(EmptyQuestionError):
            ask(prompt)  # type: ignore[arg-type]


def test_bad_arguments_are_named() -> None:
    """Each error says what to do."""
    for arguments in ({"agent_id": ""}, {"agent_id": 5}, {"agent_id": "energy", "session_id": ""}):
        with pytest.raises(InvalidIdError):
            BaseAgent(**arguments, model=model())
    for options in ({"max_history": 0}, {"memory_ttl": 0}, {"memory_ttl": 1.5}, {"prompt": " "}):
        [name] = options
        with pytest.raises(InvalidInputError, match=name):
            BaseAgent("energy", model=model(), **options)


def test_a_question_too_long_for_the_model_is_named() -> None:
    """A prompt that is too long is refused rather than silently cut."""
    with pytest.raises(ContextOverflowError, match="does not fit"):
        BaseAgent("energy", model=model()).chat("word " * 20_000)


def test_an_agent_says_who_it_is(call: Call) -> None:
    """The info lists the agent's arguments and what is known of its session."""
    agent = BaseAgent("energy", keep_history=True, session_id="s", model=model())
    info = call(agent, "get_agent_info")
    assert info == {
        "agent_id": "energy",
        "name": "Energy & Infrastructure",
        "model": "ScriptedModel",
        "session_id": "s",
        "keep_history": True,
        "max_history": 10,
        "use_redis": False,
        "memory_ttl": None,
        "history_length": 0,
        "backend": "memory",
        "ttl": None,
        "first_activity": None,
        "last_activity": None,
    }
    agent.chat("a?")
    info = call(agent, "get_session_info")
    assert (info["history_length"], info["ttl"]) == (2, None)
    assert info["first_activity"] <= info["last_activity"]
