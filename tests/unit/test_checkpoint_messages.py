"""Messages: reading without validation equals pydantic's validation, for every class and any change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core import messages as lc
from langchain_core.messages import BaseMessage, HumanMessage

from ecowas_lc.checkpoint.codec.elements import Collector, Digests, Elements
from ecowas_lc.checkpoint.codec.message_arrays import SPECS, pack_array, unpack_array
from ecowas_lc.checkpoint.codec.msgpack import LONG_TEXT
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import CorruptDataError, NotSerializableError

serializer = Serializer()
LONG = "é" * LONG_TEXT

USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
DETAILED = {**USAGE, "input_token_details": {"cache_read": 1}, "output_token_details": {"reasoning": 1}}
CALL = {"name": "f", "args": {"a": [1, {"b": None}]}, "id": "c1", "type": "tool_call"}
BAD_CALL = {"name": "f", "args": "{", "id": None, "error": "x", "type": "invalid_tool_call"}
CHUNK = {"name": "f", "args": '{"a"', "id": "c1", "index": 0, "type": "tool_call_chunk"}
BLOCKS = [{"type": "text", "text": LONG}, {"type": "image_url", "image_url": {"url": "data:x"}}, "bare"]

EXAMPLES: list[BaseMessage] = [
    *(
        cls(content)
        for cls in (lc.HumanMessage, lc.AIMessage, lc.SystemMessage)
        for content in ("", "x", LONG, BLOCKS)
    ),
    *(cls(LONG, id="i", name="n") for cls in (lc.HumanMessageChunk, lc.AIMessageChunk, lc.SystemMessageChunk)),
    lc.HumanMessage("x", additional_kwargs={"a": {"b": [1, True, 1.0]}}, response_metadata={"m": LONG}),
    lc.HumanMessage("x", example=True, my_extra={"a": 1}),
    lc.AIMessage("x", tool_calls=[CALL], invalid_tool_calls=[BAD_CALL], usage_metadata=USAGE, id="run-1"),
    lc.AIMessage(BLOCKS, usage_metadata=DETAILED, response_metadata={"model_name": "m", "done": True}),
    lc.AIMessage("x", usage_metadata={**USAGE, "input_tokens": 0}),
    lc.AIMessageChunk("x", tool_call_chunks=[CHUNK], usage_metadata=USAGE, chunk_position="last"),
    lc.AIMessageChunk("x", response_metadata={"output_version": "v1"}),
    lc.ToolMessage("x", tool_call_id="c1"),
    lc.ToolMessage(BLOCKS, tool_call_id="c1", artifact={"rows": (1, 2)}, status="error", name="f"),
    lc.ToolMessageChunk("x", tool_call_id="c1", artifact=None),
    lc.ChatMessage("x", role="critic"),
    lc.ChatMessageChunk(LONG, role="critic", id="1"),
    lc.FunctionMessage("x", name="f"),
    lc.FunctionMessageChunk(LONG, name="f"),
    lc.RemoveMessage(id="gone"),
    lc.RemoveMessage(id="__remove_all__"),
    lc.HumanMessage("\ud800"),
    lc.HumanMessage("\udfff" * LONG_TEXT, id="\ud800"),
]
IDS = [f"{number}-{type(message).__name__}" for number, message in enumerate(EXAMPLES)]


def as_item(message: BaseMessage) -> BaseMessage:
    """As in a list: the message is an element, its long text another."""
    shared = Collector(b"", None, Digests(), b"")
    digests, _ = serializer.dump_items([message], shared)
    stored = {digest: shared.stored(digest) for digest in list(shared.bodies)}
    [back] = serializer.load_items(digests, Elements(stored, b"", None))
    return back


def as_known_item(message: BaseMessage) -> BaseMessage:
    """As in a list that this process knows: only from the message's recipe."""
    shared = Collector(b"", None, Digests(), b"")
    digests, recipes = serializer.dump_items([message], shared)
    known = Elements({}, b"", None)
    known.recipes = {digest: recipe for recipe, digest in recipes.items()}
    [back] = serializer.load_items(digests, known)
    assert serializer.dump_items([back], shared, recipes)[0] == digests
    return back


def as_value(message: BaseMessage) -> BaseMessage:
    """Through the way of any other value."""
    return serializer.load(serializer.dump({"m": message}))["m"]


def by_validation(message: BaseMessage) -> BaseMessage:
    """The slow path: pydantic's own dump, validated again."""
    return type(message)(**message.model_dump())


def assert_same(back: BaseMessage, message: BaseMessage) -> None:
    assert type(back) is type(message)
    assert back == message
    assert repr(back) == repr(message)  # which distinguishes 1, True and 1.0
    assert list(back.__dict__) == list(message.__dict__)
    assert back.model_dump() == message.model_dump()
    assert back.__pydantic_extra__ == message.__pydantic_extra__
    assert back.__pydantic_private__ == message.__pydantic_private__
    assert copy.deepcopy(back) == message
    assert back.model_copy(update={"content": "z"}).content == "z"


@pytest.mark.parametrize("way", [as_item, as_known_item, as_value])
@pytest.mark.parametrize("message", EXAMPLES, ids=IDS)
def test_comes_back_as_it_was(message: BaseMessage, way: Any) -> None:
    """Every message class is read back equal, field by field, as an item of a list and inside another value."""
    assert_same(way(message), message)


@pytest.mark.parametrize("message", EXAMPLES, ids=IDS)
def test_the_direct_way_is_the_way_of_validation(message: BaseMessage) -> None:
    """A message built directly equals one validated from its dump, including the fields that are set."""
    slow = by_validation(message)
    for back in (as_item(message), as_known_item(message)):
        assert_same(back, slow)
        assert back.model_fields_set == slow.model_fields_set
        assert back.model_dump(exclude_unset=True) == slow.model_dump(exclude_unset=True)


def test_every_class_has_a_code() -> None:
    """Each message class of langchain-core that can be created has its place in the format."""
    known = {
        cls for name in lc.__all__ if isinstance(cls := getattr(lc, name), type) and issubclass(cls, BaseMessage)
    } - {lc.BaseMessage, lc.BaseMessageChunk}
    assert known == set(SPECS)
    assert [spec.code for spec in SPECS.values()] == list(range(len(SPECS)))
    assert {type(message) for message in EXAMPLES} == known


CHANGES: dict[str, Any] = {
    "content": lambda m: setattr(m, "content", "changed " * 50),
    "content to blocks": lambda m: setattr(m, "content", [{"type": "text", "text": "a"}]),
    "content inside": lambda m: m.content[0].__setitem__("text", "b") if isinstance(m.content, list) else None,
    "kwargs": lambda m: m.additional_kwargs.__setitem__("a", {"b": 1}),
    "kwargs inside": lambda m: m.additional_kwargs.setdefault("a", {}).__setitem__("c", True),
    "kwargs 1": lambda m: m.additional_kwargs.__setitem__("n", 1),
    "kwargs True": lambda m: m.additional_kwargs.__setitem__("n", True),
    "kwargs 1.0": lambda m: m.additional_kwargs.__setitem__("n", 1.0),
    "kwargs bytes": lambda m: m.additional_kwargs.__setitem__("n", b"x"),
    "kwargs bytearray": lambda m: m.additional_kwargs.__setitem__("n", bytearray(b"x")),
    "metadata": lambda m: m.response_metadata.__setitem__("x", (1, 2)),
    "name": lambda m: setattr(m, "name", "somebody"),
    "id": lambda m: setattr(m, "id", "another"),
    "extra": lambda m: setattr(m, "note", {"a": 1}),
}


@pytest.mark.parametrize("message", EXAMPLES, ids=IDS)
def test_changed_in_place_again_and_again(message: BaseMessage) -> None:
    """A message that is changed in place, at any depth, is stored in its current form, every time."""
    message = copy.deepcopy(message)
    shared = Collector(b"", None, Digests(), b"")
    seen = set()
    known: dict[Any, bytes] = {}
    for change in CHANGES.values():
        change(message)
        [digest], recipes = serializer.dump_items([message], shared, known)
        known |= recipes
        stored = {each: shared.stored(each) for each in list(shared.bodies)}
        [back] = serializer.load_items([digest], Elements(stored, b"", None))
        assert_same(back, message)
        assert_same(as_known_item(message), message)
        seen.add(digest)
    assert len(seen) >= len(CHANGES) - 1


def test_calls_changed_in_place() -> None:
    """Tool calls changed in place, down to a number's type, are seen."""
    message = lc.AIMessage("", tool_calls=[copy.deepcopy(CALL)], id="1")
    shared = Collector(b"", None, Digests(), b"")
    digests = []
    for value in (1, True, 1.0, "1", None, {"deep": [1]}, {"deep": [True]}):
        message.tool_calls[0]["args"]["a"] = value
        digests += serializer.dump_items([message], shared)[0]
        assert repr(as_item(message)) == repr(message)
    message.tool_calls.append(message.tool_calls[0])
    digests += serializer.dump_items([message], shared)[0]
    assert len(set(digests)) == len(digests)


def test_what_was_read_is_nobody_elses() -> None:
    """Two reads of a message share nothing that can be changed."""
    shared = Collector(b"", None, Digests(), b"")
    digests, _ = serializer.dump_items([lc.AIMessage("x"), lc.AIMessage("x")], shared)
    elements = Elements({digest: shared.stored(digest) for digest in shared.bodies}, b"", None)
    first, second = serializer.load_items(digests, elements)
    [third] = serializer.load_items(digests[:1], elements)
    first.tool_calls.append(dict(CALL))
    first.additional_kwargs["a"] = 1
    first.response_metadata["a"] = 1
    assert second == third == lc.AIMessage("x")
    told = lc.AIMessage(BLOCKS, tool_calls=[CALL], response_metadata={"a": {"b": [1]}})
    [digest], recipes = serializer.dump_items([told], shared)
    elements.recipes = dict(zip([digest], recipes, strict=True))
    first, second = serializer.load_items([digest] * 2, elements)
    first.tool_calls[0]["args"]["a"] = 1
    first.response_metadata["a"]["b"].append(2)
    first.content[0]["text"] = "changed"
    first.model_fields_set.clear()
    assert second == told
    assert second.model_fields_set == told.model_fields_set | set(told.__dict__)


def test_changed_to_what_validation_refuses() -> None:
    """A message changed in place to something invalid is still state."""
    message = lc.AIMessage("x", tool_calls=[CALL])
    message.content = 5  # type: ignore[assignment]
    message.tool_calls = "nonsense"  # type: ignore[assignment]
    message.id = 7  # type: ignore[assignment]
    for way in (as_item, as_value):
        assert way(message).__dict__ == message.__dict__


def test_an_id_that_messages_cannot_be_told_apart_by() -> None:
    """An id that can't be looked up, which breaks langgraph's reducers, is refused when it is written."""
    message = lc.AIMessage("x")
    message.id = ["list"]  # type: ignore[assignment]
    for way in (as_item, as_value):
        with pytest.raises(NotSerializableError, match="id must be text"):
            way(message)


def test_a_message_made_without_its_fields() -> None:
    """A message built without validation is refused by name if it lacks a required field."""
    empty = lc.HumanMessage("x", additional_kwargs={"a": LONG})
    empty.content = None  # type: ignore[assignment]
    lacking = lc.HumanMessage("x", id="1")
    lacking.__dict__["nickname"] = lacking.__dict__.pop("name")
    unusable = (lc.ToolMessage.model_construct(content="x"), lc.HumanMessage.model_construct(), empty, lacking)
    for message in unusable:
        for way in (as_item, as_value):
            with pytest.raises(NotSerializableError, match="can't be stored"):
                way(message)


def test_fields_of_another_langchain() -> None:
    """A field that this langchain-core has not got is an extra one, so that no other code stumbles over it."""
    renamed = lc.HumanMessage("x")
    renamed.type = "person"  # type: ignore[assignment]
    assert as_item(renamed).type == as_value(renamed).type == "person"
    array = pack_array(lc.HumanMessage("x", note=1), SPECS[lc.HumanMessage])
    array[-2]["of_tomorrow"] = [1]
    back = unpack_array(array, None)
    assert back == lc.HumanMessage("x", note=1, of_tomorrow=[1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CONTENT = (
    st.text()
    | st.just(LONG)
    | st.lists(st.text() | st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}))
)
MESSAGES = st.one_of(
    st.builds(
        lc.HumanMessage,
        content=CONTENT,
        id=st.none() | st.text(),
        name=st.none() | st.text(),
        additional_kwargs=st.dictionaries(st.text(), JSON, max_size=2),
    ),
    st.builds(
        lc.AIMessage,
        content=CONTENT,
        id=st.none() | st.text(),
        tool_calls=st.lists(
            st.builds(
                lambda name, args: {**CALL, "name": name, "args": args},
                st.text(),
                st.dictionaries(st.text(), JSON),
            ),
            max_size=2,
        ),
        usage_metadata=st.none() | st.just(USAGE) | st.just(DETAILED),
        response_metadata=st.dictionaries(st.text(), JSON, max_size=2),
    ),
    st.builds(
        lc.ToolMessage,
        content=CONTENT,
        tool_call_id=st.text(),
        artifact=JSON,
        status=st.sampled_from(["success", "error"]),
    ),
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MESSAGES)
def test_any_message(message: BaseMessage) -> None:
    """Whatever a message contains, both paths return it."""
    assert_same(as_item(message), message)
    assert_same(as_value(message), message)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(JSON, max_size=12), st.text() | st.none())
def test_arrays_that_are_no_messages(array: list[Any], content: str | None) -> None:
    """An array that makes no message is a named error."""
    for code in (*range(len(SPECS)), -1, True, None):
        try:
            assert isinstance(unpack_array([code, *array], content), BaseMessage)
        except CorruptDataError:
            continue


def test_subclasses_are_classes_of_their_own() -> None:
    """A subclass of a message is not mistaken for its parent: it must be allowed, and keeps its class."""
    with pytest.raises(NotSerializableError, match="Marked"):
        serializer.dump([Marked("x")])
    strict = Serializer([Marked])
    [back] = strict.load(strict.dump([Marked("x", mark=3)]))
    assert type(back) is Marked
    assert back == Marked("x", mark=3)


class Marked(HumanMessage):
    mark: int = 0
