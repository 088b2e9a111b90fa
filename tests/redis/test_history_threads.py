"""Conversations between a history and a LangGraph thread, both ways."""

from __future__ import annotations

from typing import Annotated, TypedDict
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import InvalidIdError, InvalidInputError
from ecowas_lc.history import (
    RedisChatMessageHistory,
    ahistory_to_thread,
    athread_to_history,
    history_to_thread,
    thread_to_history,
)
from ecowas_lc.history.messages import whole
from ecowas_lc.memory import RedisMemoryService
from tests.fixtures.any_messages import of_each_class

CONVERSATION = [
    HumanMessage("Où en est-on ?", id="1", name="awa"),
    AIMessage("", id="2", tool_calls=[{"name": "f", "args": {"a": [1]}, "id": "c", "type": "tool_call"}]),
    ToolMessage("42", id="3", tool_call_id="c", artifact={"rows": [1]}),
    AIMessage("Là.", id="4", usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}),
]


@pytest.fixture
def history(redis_server, prefix):
    return RedisChatMessageHistory("energy", "s", redis_server.url, prefix=prefix, max_messages=2)


@pytest.fixture(params=[InMemorySaver, RedisSaver], ids=lambda kind: kind.__name__)
def saver(request, redis_server, prefix):
    """LangGraph's own checkpointer and ours."""
    if request.param is InMemorySaver:
        return InMemorySaver()
    return RedisSaver.from_url(redis_server.url, prefix=prefix)


def graph_of(state, checkpointer):
    """A graph whose one node answers with the number of messages it saw."""
    builder = StateGraph(state)
    builder.add_node("answer", lambda state: {"messages": [AIMessage(f"{len(state['messages'])} seen")]})
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=checkpointer)


def at(thread_id="s"):
    return {"configurable": {"thread_id": thread_id}}


def test_a_graph_goes_on_from_a_history(history, saver):
    """All that a history holds is in the thread, equal, and a graph answers the next question from there."""
    graph = graph_of(MessagesState, saver)
    history.add_messages(CONVERSATION)
    assert history_to_thread(history, saver) == 4
    state = graph.get_state(at())
    assert state.values["messages"] == CONVERSATION
    assert state.next == ()
    result = graph.invoke({"messages": [HumanMessage("Et puis ?")]}, at())
    assert result["messages"][-1].content == "5 seen"
    assert result["messages"][:4] == CONVERSATION
    assert len(list(graph.get_state_history(at()))) == 4


def test_a_thread_goes_into_a_history(history, saver):
    """The history contains the thread's messages, equal; the next time, only new ones are added."""
    graph = graph_of(MessagesState, saver)
    graph.invoke({"messages": CONVERSATION}, at())
    assert thread_to_history(saver, history) == 5
    assert history.all_messages() == graph.get_state(at()).values["messages"]
    assert thread_to_history(saver, history) == 0
    graph.invoke({"messages": [HumanMessage("more")]}, at())
    assert thread_to_history(saver, history) == 2
    assert history.all_messages() == graph.get_state(at()).values["messages"]


def test_there_and_back_changes_nothing(history, saver, prefix):
    """Copying back and forth any number of times neither loses nor repeats a message, even dicts without ids."""
    memory = RedisMemoryService(server=history.server, prefix=prefix)
    for text in ("a", "b", "a"):
        memory.append_to_history("energy", "s", {"role": "user", "content": text})
    history.add_messages(CONVERSATION)
    stored = memory.get_conversation_history("energy", "s")
    assert history_to_thread(history, saver) == 7
    assert thread_to_history(saver, history) == 0
    assert history_to_thread(history, saver) == 0
    assert memory.get_conversation_history("energy", "s") == stored
    other = RedisChatMessageHistory("energy", "copy", server=history.server, prefix=prefix)
    assert thread_to_history(saver, other, "s") == 7
    assert other.messages == history.all_messages()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    messages=st.lists(
        st.one_of(*(strategy for cls, strategy in of_each_class.items() if cls is not RemoveMessage)),
        min_size=1,
        max_size=4,
        unique_by=lambda message: message.id or object(),
    )
)
def test_any_message_goes_there_and_back(redis_server, prefix, messages):
    """Whatever its class and fields, a message is the same in the thread, and in a history copied back from it;
    a streamed one is stored whole.
    """
    session = uuid4().hex
    history = RedisChatMessageHistory("energy", session, redis_server.url, prefix=prefix)
    copy = RedisChatMessageHistory("copy", session, redis_server.url, prefix=prefix)
    history.add_messages(messages)
    checkpointer = RedisSaver(server=history.server, prefix=prefix)
    assert history_to_thread(history, checkpointer) == len(messages)
    assert thread_to_history(checkpointer, copy) == len(messages)
    in_thread = checkpointer.get_tuple(at(session)).checkpoint["channel_values"]["messages"]
    for moved in (in_thread, copy.all_messages()):
        expected = [
            one if one.id is not None else one.model_copy(update={"id": stored.id})
            for one, stored in zip(map(whole, messages), moved, strict=True)
        ]
        assert moved == expected
        assert [repr(message) for message in moved] == [repr(message) for message in expected]


def test_a_thread_that_goes_on_gets_what_is_new(history, saver):
    """Messages are appended to a thread's own, and its other channels are unchanged."""

    class State(MessagesState):
        topic: str

    graph = graph_of(State, saver)
    graph.invoke({"messages": [HumanMessage("first", id="0")], "topic": "energy"}, at("t"))
    history.add_messages(CONVERSATION)
    assert history_to_thread(history, saver, "t") == 4
    values = graph.get_state(at("t")).values
    assert values["messages"][0].id == "0"
    assert values["messages"][-4:] == CONVERSATION
    assert values["topic"] == "energy"
    assert graph.invoke({"messages": []}, at("t"))["messages"][-1].content == "6 seen"


def fold(state, writes):
    """A reducer of whole batches."""
    for write in writes:
        state = add_messages(state, write)
    return state


class DeltaState(TypedDict):
    """Messages stored as each step's writes, with an occasional snapshot."""

    messages: Annotated[list, DeltaChannel(fold, snapshot_frequency=3)]


def test_threads_that_keep_their_messages_as_deltas(history, saver):
    """A ``DeltaChannel`` spreads its messages over the thread's writes: they are found there all the same."""

    graph = graph_of(DeltaState, saver)
    for number in range(5):
        graph.invoke({"messages": [HumanMessage("q", id=f"q{number}")]}, at())
        thread_to_history(saver, history)
        assert history.all_messages() == graph.get_state(at()).values["messages"]
    history.add_messages(CONVERSATION)
    assert history_to_thread(history, saver) == 4
    assert graph.get_state(at()).values["messages"] == history.all_messages()
    assert graph.invoke({"messages": [HumanMessage("?")]}, at())["messages"][-1].content == "15 seen"


def test_instructions_to_remove_stay_behind(history, saver):
    """``RemoveMessage`` in a history is not a message of the conversation."""
    history.add_messages([*CONVERSATION, RemoveMessage(id="gone")])
    assert history_to_thread(history, saver) == 4


def test_other_channels_are_named(history, saver):
    """You can choose another channel; one without messages is a named error, and so is an empty thread id."""

    class State(TypedDict):
        transcript: Annotated[list, add_messages]
        messages: str

    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"transcript": [AIMessage("x", id="x")], "messages": "text"})
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=saver)
    graph.invoke({"transcript": CONVERSATION}, at())
    with pytest.raises(InvalidInputError, match="messages"):
        thread_to_history(saver, history)
    assert thread_to_history(saver, history, channel="transcript") == 5
    with pytest.raises(InvalidIdError):
        thread_to_history(saver, history, "")
    assert thread_to_history(saver, history, "no such thread") == 0


@pytest.mark.parametrize("state", [MessagesState, DeltaState])
async def test_async_both_ways(history, saver, state):
    """The async functions do the same, also if the thread keeps its messages as deltas."""
    graph = graph_of(state, saver)
    await history.aadd_messages(CONVERSATION)
    assert await ahistory_to_thread(history, saver) == 4
    before = await saver.aget_tuple(at())
    assert await ahistory_to_thread(history, saver) == 0
    assert (await saver.aget_tuple(at())).config == before.config
    await graph.ainvoke({"messages": [HumanMessage("?")]}, at())
    assert await athread_to_history(saver, history) == 2
    assert await history.aall_messages() == (await graph.aget_state(at())).values["messages"]
