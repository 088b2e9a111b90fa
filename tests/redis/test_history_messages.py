"""A chat history stores all of LangChain's messages; dicts and messages can be read as each other."""

from __future__ import annotations

import json
import os
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
    filter_messages,
    message_chunk_to_message,
)

from ecowas_lc.errors import CorruptDataError, InvalidInputError, NotSerializableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.history.messages import whole
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.memory.histories import APPEND
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import call
from tests.fixtures.any_messages import any_message, json_values
from tests.fixtures.leftovers import left_over

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
    HumanMessage("extra fields", mood="glad", role="captain", extras={"a": 1}),
    HumanMessage(""),
    AIMessage([]),
]


CHUNK = {"name": "f", "args": '{"a', "id": "1", "index": 0, "type": "tool_call_chunk"}
CHUNKS = [
    HumanMessageChunk("chu", name="awa"),
    AIMessageChunk("nk", tool_call_chunks=[CHUNK], chunk_position="last", usage_metadata=USAGE, id="run-2"),
    AIMessageChunk("", tool_call_chunks=[{**CHUNK, "args": '{"a": 1}'}], response_metadata={"model": "smollm2"}),
    AIMessageChunk([{"type": "text", "text": "a", "index": 0}], additional_kwargs={"reasoning_content": "hm"}),
    SystemMessageChunk("s"),
    ToolMessageChunk("t", tool_call_id="1", artifact=[1], status="error"),
    FunctionMessageChunk("f", name="f"),
    ChatMessageChunk("c", role="user"),
]


@pytest.fixture
def history(server, prefix):
    return RedisChatMessageHistory("energy", "s", server.url, prefix=prefix)


@pytest.fixture
def memory(history, prefix):
    return RedisMemoryService(server=history.server, prefix=prefix)


def with_id_of(message, stored):
    """A message with the id that it got when it was stored, unless it had one."""
    return message if message.id is not None else message.model_copy(update={"id": stored.id})


def test_every_field_of_every_type_survives(history):
    """Each message is read back equal, of the same class, with every field that it had."""
    history.add_messages(MESSAGES)
    found = history.messages
    assert [type(message) for message in found] == [type(message) for message in MESSAGES]
    for message, original in zip(found, MESSAGES, strict=True):
        expected = with_id_of(original, message)
        assert message == expected
        assert message.model_dump() == expected.model_dump()


@pytest.mark.parametrize("way", ["add", "replace"])
def test_a_streamed_message_is_stored_whole(history, way):
    """The sum of a stream's chunks is stored as the message that they make up, which selects by type find."""
    if way == "add":
        history.add_messages(CHUNKS)
    else:
        history.replace_messages(CHUNKS)
    found = history.messages
    assert found == [with_id_of(*pair) for pair in zip(map(message_chunk_to_message, CHUNKS), found, strict=True)]
    assert found[2].tool_calls == [{"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}]
    assert len(filter_messages(found, include_types=["ai"])) == 3
    broken = AIMessageChunk("x")
    broken.usage_metadata = 3
    with pytest.raises(NotSerializableError, match="Create it again"):
        history.add_messages([broken])


def test_what_a_message_was_given_after_its_creation_survives(history):
    """Fields that LangChain would rebuild or drop on creation are read back as they were set."""
    message = AIMessage(
        "", additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}
    )
    message.tool_calls = []
    call = AIMessage("", tool_calls=CALLS)
    call.tool_calls[0]["extras"] = {"signature": "abc"}
    history.add_messages([message, call])
    found = history.messages
    assert found == [with_id_of(*pair) for pair in zip([message, call], found, strict=True)]
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
    """Whatever text and JSON a message contains, it is read back equal; a chunk is read back whole."""
    history = RedisChatMessageHistory("a", "s", redis_server.url, prefix=prefix)
    history.clear()
    history.add_messages(messages)
    found = history.messages
    assert found == [with_id_of(*pair) for pair in zip(map(whole, messages), found, strict=True)]


ids = st.text(st.characters(), min_size=1, max_size=8) | st.sampled_from(
    ["a:b", "*", "{a}", "%3A", "\n", ":", "A", "a"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ids, ids), min_size=2, max_size=4, unique=True), value=json_values)
def test_any_ids_are_kept_apart(redis_server, prefix, pairs, value):
    """Whatever the ids, no two pairs share a history, and listings return the ids unchanged."""
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
        assert left_over(raw, prefix) == []


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
    """Data of the memory service, also in OpenAI's shape, reads as messages with the same role and text."""
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
    """A message class that only this test knows."""


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


def test_messages_are_stored_once_by_their_id(history):
    """Adding a message with an id again, also among others, stores nothing new; after a removal it does."""
    first, second = HumanMessage("a", id="1"), AIMessage("b", id="2")
    history.add_messages([first, second, first])
    history.add_messages([first])
    history.add_messages([second, HumanMessage("c", id="c")])
    history.add_messages([HumanMessage("another text", id="c")])
    assert [m.content for m in history.messages] == ["a", "b", "c"]
    history.clear()
    history.add_messages([first])
    assert history.messages == [first]


def test_a_message_without_an_id_is_another_each_time(history):
    """One object added three times is three messages with three ids; the object is unchanged."""
    message = HumanMessage("yes")
    history.add_messages([message, message])
    history.add_messages([message])
    assert message.id is None
    assert [m.content for m in history.messages] == ["yes"] * 3
    assert len({m.id for m in history.messages}) == 3


async def test_a_message_without_an_id_is_another_each_time_async(history):
    """The async methods keep the same promise."""
    message = HumanMessage("yes")
    await history.aadd_messages([message])
    await history.aadd_messages([message])
    assert message.id is None
    assert len({m.id for m in await history.aget_messages()}) == 2


def numbered(first, last):
    return [HumanMessage(str(number), id=str(number)) for number in range(first, last)]


def companion_of(raw, prefix):
    [companion] = raw.scan_iter(f"{prefix}:history-meta:*")
    return companion


def let_pass(raw, companion, milliseconds):
    """Make everything in a companion so much older, as if that time had passed."""
    for member, score in raw.zrange(companion, 0, -1, withscores=True):
        if member[:1] == b"t" or member in (b"began", b"used"):
            raw.zincrby(companion, -milliseconds, member)
        elif score < 0:
            raw.zincrby(companion, milliseconds, member)


@pytest.mark.parametrize("at_once", [1, 40, 1000])
def test_ids_are_remembered_by_time_after_a_trim(server, prefix, at_once):
    """A message that was trimmed away, however many came after it, is not stored again within two minutes."""
    history = RedisChatMessageHistory("energy", "s", server.url, prefix=prefix, max_history=5)
    messages = numbered(0, 1000)
    for first in range(0, 1000, at_once):
        history.add_messages(messages[first : first + at_once])
    for again in (messages[:3], messages[500:503], messages[-100:]):
        history.add_messages(again)
    assert history.messages == messages[-5:]


def test_ids_are_forgotten_once_their_time_is_over(server, prefix):
    """Of a trimmed history the last hundreds of ids are kept, and of those before them the ones of two minutes."""
    history = RedisChatMessageHistory("energy", "s", server.url, prefix=prefix, max_history=5)
    messages = numbered(0, 3000)
    history.add_messages(messages[:1000])
    with server.client() as raw:
        companion = companion_of(raw, prefix)
        assert raw.zcard(companion) > 1000
        let_pass(raw, companion, 110_000)
        history.add_messages(messages[1000:1100])
        assert raw.zcard(companion) > 1100, "not yet"
        let_pass(raw, companion, 11_000)
        history.add_messages(messages[1100:1140])
        assert raw.zcard(companion) < 5 + 256 + 40 + 10, "the first thousand are of two minutes ago"
        history.add_messages(messages[1000:1140])
        assert history.messages == messages[1135:1140]
        history.add_messages(messages[:1])
        assert history.messages == [*messages[1136:1140], messages[0]]
        for first in range(1140, 3000, 20):
            let_pass(raw, companion, 4_000)
            history.add_messages(messages[first : first + 20])
        assert raw.zcard(companion) < 5 + 256 + 32 * 20 + 150
        assert raw.zcount(companion, 3_000_000_000_000, "+inf") < 130, "one mark a second, of two minutes"


def test_operations_are_remembered_by_time(server, prefix):
    """A repeated append is recognised within two minutes, whatever came in between, and later forgotten."""
    history = RedisChatMessageHistory("energy", "s", server.url, prefix=prefix)
    place = Keys(prefix).history("energy", "s")
    keys = (place, Keys(prefix).companion(place))
    once = call(APPEND, keys, "> 0 first  0", b"", b'{"role":"user","content":"once"}')

    def again():
        def op():
            return (yield (once,))

        history.server.run(op())

    again()
    memory = RedisMemoryService(server=history.server, prefix=prefix)

    def noise():
        for _ in range(50):
            yield tuple(
                call(APPEND, keys, f"> 0 noise{os.urandom(8).hex()}  0", b"", b'{"role":"user","content":"noise"}')
                for _ in range(100)
            )

    history.server.run(noise())
    with server.client() as raw:
        let_pass(raw, companion_of(raw, prefix), 60_000)
        again()
        assert len(memory.get_conversation_history("energy", "s")) == 5001
        let_pass(raw, companion_of(raw, prefix), 61_000)
        memory.append_to_history("energy", "s", {"role": "user", "content": "x"})
        assert raw.zcount(companion_of(raw, prefix), "-inf", "(0") == 1, "operations of long ago are forgotten"


def test_importing_is_silent():
    """Importing and using the history triggers no warning, though LangChain deprecated its base class."""
    code = (
        "from ecowas_lc.history import RedisChatMessageHistory, history_factory\n"
        "from langchain_core.chat_history import BaseChatMessageHistory\n"
        "h = RedisChatMessageHistory('a', 's', 'redis://127.0.0.1:1')\n"
        "assert isinstance(h, BaseChatMessageHistory)\n"
        "import sys; assert 'langgraph.graph' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, timeout=60)


def test_messages_are_langchains(history):
    """The messages returned are LangChain's own, ready for a model."""
    history.add_user_message("hello")
    history.add_ai_message("hi")
    assert all(isinstance(message, BaseMessage) for message in history.messages)
    assert str(history) == "Human: hello\nAI: hi"
