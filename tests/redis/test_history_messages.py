"""What a chat history keeps of LangChain's messages, and how dicts and messages read through each other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)

from ecowas_lc.errors import CorruptDataError, InvalidInputError, NotSerializableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from tests.fixtures.any_messages import any_message, json_values

USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "input_token_details": {"cache_read": 1}}
CALLS = [{"name": "lookup", "args": {"pays": ["Bénin", None, 1.5]}, "id": "c1", "type": "tool_call"}]

MESSAGES = [
    HumanMessage("Où ?", name="awa"),
    HumanMessage([{"type": "text", "text": "voici"}, {"type": "image", "base64": "aGk=", "mime_type": "i/j"}]),
    HumanMessage("x", example=True),
    AIMessage(
        "réponse",
        id="run-1",
        tool_calls=CALLS,
        invalid_tool_calls=[{"name": "f", "args": "{", "id": "c2", "error": "bad", "type": "invalid_tool_call"}],
        usage_metadata=USAGE,
        response_metadata={"model": "smollm2", "total_duration": 12, "logprobs": None},
        additional_kwargs={"reasoning_content": "hm", "nested": {"a": [1]}},
    ),
    AIMessage([{"type": "reasoning", "reasoning": "…"}, {"type": "text", "text": "x"}, "plain"]),
    AIMessage(content_blocks=[{"type": "text", "text": "x"}], response_metadata={"output_version": "v1"}),
    AIMessage("", additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}),
    SystemMessage("règles", additional_kwargs={"__openai_role__": "developer"}),
    ToolMessage("42", tool_call_id="c1", name="lookup", status="error", artifact={"rows": [[1, "é"], []]}),
    ToolMessage([{"type": "text", "text": "a"}], tool_call_id="c2", artifact=[1, 2.5, None]),
    FunctionMessage("1", name="f"),
    ChatMessage("ahoy", role="captain"),
    ChatMessage("as a user", role="user"),
    RemoveMessage(id="gone"),
    HumanMessageChunk("chu"),
    AIMessageChunk(
        "nk",
        tool_call_chunks=[{"name": "f", "args": '{"a', "id": "1", "index": 0, "type": "tool_call_chunk"}],
        chunk_position="last",
        usage_metadata=USAGE,
    ),
    SystemMessageChunk("s"),
    ToolMessageChunk("t", tool_call_id="1"),
    FunctionMessageChunk("f", name="f"),
    ChatMessageChunk("c", role="r"),
    HumanMessage("extra fields", mood="glad", role="captain", extras={"a": 1}),
    HumanMessage(""),
    AIMessage([]),
]


@pytest.fixture
def history(server, prefix):
    return RedisChatMessageHistory("energy", "s", server.url, prefix=prefix)


@pytest.fixture
def memory(history, prefix):
    return RedisMemoryService(server=history.server, prefix=prefix)


def test_every_field_of_every_type_survives(history):
    """Each message comes back equal, of the same class, with every field that it had."""
    history.add_messages(MESSAGES)
    found = history.messages
    assert [type(message) for message in found] == [type(message) for message in MESSAGES]
    for message, original in zip(found, MESSAGES, strict=True):
        assert message == original
        assert message.model_dump() == original.model_dump()


def test_what_a_message_was_given_after_its_creation_survives(history):
    """Fields that LangChain would rebuild or drop on creation come back as they were set."""
    message = AIMessage(
        "", additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}
    )
    message.tool_calls = []
    call = AIMessage("", tool_calls=CALLS)
    call.tool_calls[0]["extras"] = {"signature": "abc"}
    history.add_messages([message, call])
    assert history.messages == [message, call]
    assert history.messages[1].tool_calls[0]["extras"] == {"signature": "abc"}


def test_what_is_stored_is_readable(history, memory, server):
    """A message is one JSON object with its role and content first; defaults take no room."""
    history.add_messages([HumanMessage("été", id="1"), ToolMessage("42", tool_call_id="c", id="2")])
    with server.client() as raw:
        lines = raw.lrange(history.key, 0, -1)
    assert lines[0].decode() == '{"role":"user","content":"été","id":"1"}'
    assert memory.get_conversation_history("energy", "s") == [
        {"role": "user", "content": "été", "id": "1"},
        {"role": "tool", "content": "42", "id": "2", "tool_call_id": "c"},
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(any_message, min_size=1, max_size=4, unique_by=lambda m: m.id or object()))
def test_any_message_survives(redis_server, prefix, messages):
    """Whatever text and JSON a message holds, it comes back equal."""
    history = RedisChatMessageHistory("a", "s", redis_server.url, prefix=prefix)
    history.clear()
    history.add_messages(messages)
    assert history.messages == messages


ids = st.text(st.characters(), min_size=1, max_size=8) | st.sampled_from(
    ["a:b", "*", "{a}", "%3A", "\n", ":", "A", "a"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ids, ids), min_size=2, max_size=4, unique=True), value=json_values)
def test_any_ids_are_kept_apart(redis_server, prefix, pairs, value):
    """Whatever text the ids are, no two pairs share a history, and listings give the ids as they were."""
    memory = RedisMemoryService(url=redis_server.url, prefix=prefix)
    for number, (agent, session) in enumerate(pairs):
        memory.save_conversation_history(agent, session, [{"role": "user", "content": number, "value": value}])
        memory.save_agent_state(agent, value)
        memory.set_session_data(session, agent, value)
    for number, (agent, session) in enumerate(pairs):
        assert memory.get_conversation_history(agent, session)[0] == {
            "role": "user",
            "content": number,
            "value": value,
        }
        assert set(memory.get_all_sessions_for_agent(agent)) == {s for a, s in pairs if a == agent}
        assert memory.get_agent_state(agent) == value
        assert memory.get_all_session_data(session) == {a: value for a, s in pairs if s == session}
    assert memory.get_all_agents() == sorted({agent for agent, _ in pairs})
    for agent, _ in pairs:
        memory.clear_all_agent_data(agent)
    for _, session in pairs:
        memory.clear_session(session)
    with redis_server.client() as raw:
        assert list(raw.scan_iter(f"{prefix}:*")) == []


@pytest.mark.parametrize(
    "document",
    [
        {"role": "user", "content": "hello", "timestamp": 5},
        {"role": "assistant", "content": None},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "1"},
        {"role": "tool", "content": "42"},
        {"role": "developer", "content": "rules"},
        {"role": "captain", "content": "ahoy"},
        {"role": "user", "content": "x", "type": "message", "id": 5},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": {"odd": 1}},
    ],
)
def test_dicts_read_as_messages(history, memory, document):
    """What the memory service saved, OpenAI's shape included, reads as messages with the same role and text."""
    memory.append_to_history("energy", "s", document)
    [message] = history.messages
    classes = {"user": HumanMessage, "assistant": AIMessage, "tool": ToolMessage, "developer": SystemMessage}
    if isinstance(document["content"], dict) or ("tool_call_id" not in document and document["role"] == "tool"):
        assert isinstance(message, ChatMessage)
    else:
        assert isinstance(message, classes.get(document["role"], ChatMessage))
    if isinstance(document["content"], str):
        assert message.content == document["content"]
    if "tool_calls" in document:
        assert message.tool_calls[0]["args"] == {"a": 1}
    assert memory.get_conversation_history("energy", "s") == [document]


class Mine(AIMessage):
    """A message class that nobody else knows."""


@pytest.mark.parametrize(
    "message",
    [
        ToolMessage("x", tool_call_id="1", artifact=(1, 2)),
        ToolMessage("x", tool_call_id="1", artifact=object()),
        AIMessage("x", response_metadata={"logprob": float("nan")}),
        HumanMessage("x", additional_kwargs={1: 2}),
        HumanMessage("x", additional_kwargs={"raw": b"bytes"}),
        Mine("x"),
    ],
)
def test_what_would_not_come_back_is_refused(history, message):
    """A message that could not be read back the same is a named error, and nothing is written, not even its
    neighbours."""
    with pytest.raises(NotSerializableError) as caught:
        history.add_messages([HumanMessage("fine"), message])
    assert isinstance(caught.value, TypeError)
    assert history.messages == []


def test_only_messages_are_added(history):
    """Anything but a LangChain message is a named error."""
    for bad in ("text", {"role": "user", "content": "x"}, None):
        with pytest.raises(InvalidInputError):
            history.add_messages([bad])
    history.add_messages([])
    assert history.messages == []


def test_a_message_that_is_none_is_named(history, server):
    """A JSON object that is no message is a ``CorruptDataError`` naming key and position."""
    with server.client() as raw:
        raw.rpush(history.key, json.dumps({"role": "user", "content": "x"}), json.dumps({"text": "x"}))
    with pytest.raises(CorruptDataError, match="position 1"):
        _ = history.messages


def test_messages_get_ids_and_are_stored_once(history):
    """A message without an id gets one; adding the same message again, also among others, stores nothing new."""
    first, second = HumanMessage("a"), AIMessage("b")
    history.add_messages([first, second, first])
    assert first.id
    assert second.id
    history.add_messages([first])
    history.add_messages([second, HumanMessage("c", id="c")])
    history.add_messages([HumanMessage("another text", id="c")])
    assert [m.content for m in history.messages] == ["a", "b", "c"]
    history.clear()
    history.add_messages([first])
    assert history.messages == [first]


def test_a_trimmed_message_is_not_stored_again(server, prefix):
    """The ids of messages that a trim removed are remembered, not for ever but for long, and cost little."""
    history = RedisChatMessageHistory("energy", "s", server.url, prefix=prefix, max_history=5)
    messages = [HumanMessage(str(number)) for number in range(1000)]
    history.add_messages(messages)
    assert history.messages == messages[-5:]
    history.add_messages(messages[-100:])
    assert history.messages == messages[-5:]
    with server.client() as raw:
        [companion] = raw.scan_iter(f"{prefix}:history-meta:*")
        assert raw.zcard(companion) < 300
        for number in range(300):
            raw.zadd(companion, {f"o{number}": -number - 1})
        raw.zincrby(companion, -1000, "used")  # they are looked for once a second
        memory = RedisMemoryService(server=history.server, prefix=prefix)
        memory.append_to_history("energy", "s", {"role": "user", "content": "x"})
        assert raw.zcount(companion, "-inf", "(0") == 1, "operations of long ago are forgotten"


def test_ids_are_forgotten_in_the_order_they_came(redis_server, prefix):
    """Added one by one, each trimming, the ids of the last hundreds are known and those long before are not."""
    history = RedisChatMessageHistory("energy", "s", redis_server.url, prefix=prefix, max_history=5)
    messages = [HumanMessage(str(number), id=str(number)) for number in range(700)]
    for message in messages:
        history.add_message(message)
    with redis_server.client() as raw:
        [companion] = raw.scan_iter(f"{prefix}:history-meta:*")
        assert raw.zcard(companion) < 5 + 256 + 32 + 5
    for message in messages[-250:]:
        history.add_message(message)
    assert history.messages == messages[-5:]
    history.add_message(messages[0])
    assert history.messages == [*messages[-4:], messages[0]]


def test_importing_is_silent():
    """Importing and using the history warns of nothing, though LangChain deprecated its base class."""
    code = (
        "from ecowas_lc.history import RedisChatMessageHistory, history_factory\n"
        "from langchain_core.chat_history import BaseChatMessageHistory\n"
        "h = RedisChatMessageHistory('a', 's', 'redis://127.0.0.1:1')\n"
        "assert isinstance(h, BaseChatMessageHistory)\n"
        "import sys; assert 'langgraph.graph' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, timeout=60)


def test_messages_are_langchains(history):
    """What comes back is LangChain's own message, ready for a model."""
    history.add_user_message("hello")
    history.add_ai_message("hi")
    assert all(isinstance(message, BaseMessage) for message in history.messages)
    assert str(history) == "Human: hello\nAI: hi"
