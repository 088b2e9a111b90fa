"""LangChain's messages as published JSON, without a server: no field is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core import messages as lc
from langchain_core.messages import BaseMessage

from ecowas_lc.errors import NotSerializableError
from ecowas_lc.history import messages
from ecowas_lc.history.messages import from_document, to_document, to_entry, whole
from tests.fixtures.any_messages import any_message, json_values, of_each_class, plain_messages


def assert_same(back: BaseMessage, message: BaseMessage) -> None:
    assert type(back) is type(message)
    assert back == message
    assert repr(back) == repr(message)  # which distinguishes 1, True and 1.0
    assert back.model_dump() == message.model_dump()
    assert back.model_extra == message.model_extra


def there_and_back(message: BaseMessage) -> BaseMessage:
    identity, raw = to_entry(message)
    assert identity == (message.id or "").encode("utf-8", "surrogatepass")
    return from_document(json.loads(raw))


def test_every_class_is_tried() -> None:
    """The strategies of this module include all of LangChain's message classes that can be created."""
    known = {
        cls for name in lc.__all__ if isinstance(cls := getattr(lc, name), type) and issubclass(cls, BaseMessage)
    } - {lc.BaseMessage, lc.BaseMessageChunk}
    assert set(of_each_class) == known
    assert set(messages._DEFAULTS) == known


@pytest.mark.parametrize("cls", of_each_class, ids=lambda cls: cls.__name__)
def test_every_field_of_every_class_survives(cls: type[BaseMessage]) -> None:
    """Whatever its fields hold (images, sound, invalid calls, artifacts, usage), a message is read back
    equal and of its own class.
    """

    @settings(max_examples=40, deadline=None)
    @given(of_each_class[cls])
    def check(message: BaseMessage) -> None:
        assert_same(there_and_back(message), message)

    check()


@pytest.mark.parametrize("cls", of_each_class, ids=lambda cls: cls.__name__)
def test_a_chunk_becomes_the_message_that_it_contains(cls: type[BaseMessage]) -> None:
    """A chunk's message has the same fields, but for those that only a stream needs."""

    @settings(max_examples=20, deadline=None)
    @given(of_each_class[cls])
    def check(message: BaseMessage) -> None:
        found = whole(message)
        if not isinstance(message, lc.BaseMessageChunk):
            assert found is message
            return
        assert not isinstance(found, lc.BaseMessageChunk)
        assert isinstance(message, type(found))
        assert found.model_dump(exclude={"type"}) == message.model_dump(
            exclude={"type", "tool_call_chunks", "chunk_position"}
        )

    check()


@settings(max_examples=200, deadline=None)
@given(plain_messages)
def test_the_short_way_is_the_long_way(message: BaseMessage) -> None:
    """A message of only text is stored without a trial, in the same form as with one."""
    assert messages._plain(message) is not None
    assert list(to_document(message).items()) == list(messages._document(message, whole=False).items())
    assert_same(there_and_back(message), message)


@settings(max_examples=200, deadline=None)
@given(any_message, st.data())
def test_what_is_changed_after_creation_survives_or_is_refused(message: BaseMessage, data: Any) -> None:
    """LangChain checks no assignment, so a field may hold anything: it is read back, or refused, and never
    stored as something else.
    """
    field = data.draw(st.sampled_from([*type(message).model_fields, "extra_field"]))
    setattr(message, field, data.draw(json_values | st.tuples(json_values) | st.just(b"raw")))
    try:
        raw = to_entry(message)[1]
    except NotSerializableError:
        return
    assert_same(from_document(json.loads(raw)), message)


@pytest.mark.parametrize("role", [[], None, 1, {}])
def test_a_role_that_is_no_text_is_refused(role: Any) -> None:
    """A chat message whose role was changed to something other than text is refused like other values."""
    message = lc.ChatMessage(role="guest", content="Hello")
    setattr(message, "role", role)  # noqa: B010
    with pytest.raises(NotSerializableError, match="refuses or changes"):
        to_entry(message)


class Mine(lc.AIMessage):
    """A message class that only this test knows."""


class MyText(str):
    """Text of a subclass of str, such as LangChain's ``message.text``."""


def test_classes_of_others() -> None:
    """A class that reading could not restore is refused by name, with advice; other str subclasses become text."""
    with pytest.raises(NotSerializableError, match=r"Mine can't be stored.*AIMessage"):
        to_entry(Mine("x"))
    message = lc.HumanMessage("x", id="1")
    assert there_and_back(lc.HumanMessage(message.text, id="1")) == message
    assert there_and_back(lc.HumanMessage(MyText("x"), id="1")) == message
