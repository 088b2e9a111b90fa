"""Conversion of LangChain messages to the published JSON objects and back, without loss.

A message is ``{"role": …, "content": …}`` plus its other fields under their own names. Fields with their default
value are left out, and so is the type if the role determines it. Objects that other programs wrote, for example
with OpenAI's form of tool calls, are read as LangChain itself reads them.
"""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
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
    convert_to_messages,
)

from ecowas_lc.errors import CorruptDataError, NotSerializableError
from ecowas_lc.memory.histories import Entry
from ecowas_lc.memory.json_values import shown, texts_to_json, to_json
from ecowas_lc.storage.keys import id_bytes

_ROLES: dict[type[BaseMessage], str] = {
    HumanMessage: "user",
    AIMessage: "assistant",
    SystemMessage: "system",
    ToolMessage: "tool",
    FunctionMessage: "function",
    RemoveMessage: "remove",
    HumanMessageChunk: "user",
    AIMessageChunk: "assistant",
    SystemMessageChunk: "system",
    ToolMessageChunk: "tool",
    FunctionMessageChunk: "function",
}
_SPEAKERS: tuple[type[BaseMessage], ...] = (ChatMessage, ChatMessageChunk)  # the role is a free field
_CLASSES: tuple[type[BaseMessage], ...] = (*_ROLES, *_SPEAKERS)
_TYPES: dict[str, type[BaseMessage]] = {cls.model_fields["type"].default: cls for cls in _CLASSES}
_IMPLIED: dict[str, type[BaseMessage]] = {
    "user": HumanMessage,
    "human": HumanMessage,
    "assistant": AIMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
    "function": FunctionMessage,
}
_DEFAULTS: dict[type[BaseMessage], dict[str, Any]] = {
    cls: {
        name: field.get_default(call_default_factory=True)
        for name, field in cls.model_fields.items()
        if name not in ("type", "content", "role")
    }
    for cls in _CLASSES
}
_WHOLE: dict[type[BaseMessage], type[BaseMessage]] = {
    cls: next(base for base in cls.__mro__[1:] if base in _CLASSES)  # of AIMessageChunk, AIMessage
    for cls in _CLASSES
    if issubclass(cls, BaseMessageChunk)
}
_EXTRAS = "extras"  # holds extra fields whose names already have a meaning in this format
_TAKEN = frozenset({"role", _EXTRAS})
# LangChain rebuilds these fields on construction, and drops the keys that it does not know.
_REBUILT = ("tool_calls", "invalid_tool_calls", "tool_call_chunks", "usage_metadata")


# Messages of these classes that hold only a text, and perhaps a name and an id, need no trial round trip.
_TEXTS: dict[str, Any] = {"content": "", "name": None, "id": None}
_TEXT_OR_NOTHING = (str, type(None))
_BLANK: dict[type[BaseMessage], dict[str, Any]] = {
    cls: {**_DEFAULTS[cls], "type": cls.model_fields["type"].default, **_TEXTS}
    for cls in (HumanMessage, AIMessage, SystemMessage)
}


def whole(message: BaseMessage) -> BaseMessage:
    """Return the message that a chunk contains; anything else is returned as it is.

    A chain that streams adds the sum of its chunks to the history, which is an ``AIMessageChunk``. What
    LangChain selects by type (``include_types="ai"``, ``end_on="ai"``) would miss it.

    Raises:
        NotSerializableError: LangChain refuses the chunk's values in a message.
    """
    cls = _WHOLE.get(type(message))
    if cls is None:
        return message
    fields = _document(message, whole=False)
    for name in type(message).model_fields.keys() - cls.model_fields.keys():
        fields.pop(name, None)
    try:
        return _ours({**fields, "type": cls.model_fields["type"].default}, fields["role"])
    except (TypeError, ValueError, AttributeError, KeyError):
        raise _refused(message) from None


def to_entry(message: BaseMessage, new_id: str | None = None) -> Entry:
    """Return the message's id and its JSON, with ``new_id`` if given; the message itself stays unchanged.

    Raises what :func:`to_document` raises.
    """
    plain = _plain(message)
    identity = message.id if new_id is None else new_id
    if plain is None:
        body = _stored(message if new_id is None else message.model_copy(update={"id": new_id}))[1]
    else:
        if new_id is not None:
            plain["id"] = new_id
        body = texts_to_json(plain, "message")
    return id_bytes(identity) if isinstance(identity, str) else b"", body


def to_document(message: BaseMessage) -> dict[str, Any]:
    """Return the JSON object of ``message``.

    Raises:
        NotSerializableError: The message could not be read back the same: its class is not one of LangChain's, or
            it contains a value that JSON can't represent.
    """
    return _stored(message)[0]


def _stored(message: BaseMessage) -> tuple[dict[str, Any], bytes]:
    cls = type(message)
    if cls not in _DEFAULTS:
        raise NotSerializableError(
            f"A {cls.__module__}.{cls.__qualname__} can't be stored: only LangChain's own message classes can be "
            "read back. Convert it, for instance to langchain_core.messages.AIMessage."
        )
    if (plain := _plain(message)) is not None:
        return plain, texts_to_json(plain, "message")
    for whole in (False, True) if isinstance(getattr(message, "role", ""), str) else ():
        document = _document(message, whole=whole)
        raw = to_json(document, "message")
        if from_document(document) == message:
            return document, raw
    raise _refused(message)


def _refused(message: BaseMessage) -> NotSerializableError:
    return NotSerializableError(
        f"This {type(message).__name__} can't be stored: it holds values that LangChain itself refuses or changes "
        "when it creates one. Create it again from valid values."
    )


def _plain(message: BaseMessage) -> dict[str, str] | None:
    fields = message.__dict__
    blank = _BLANK.get(type(message))
    if blank is None or {**fields, **_TEXTS} != blank or message.__pydantic_extra__:
        return None
    content, name, id_ = fields["content"], fields["name"], fields["id"]
    document = {"role": _ROLES[type(message)], "content": content}
    if name is not None:
        document["name"] = name
    if id_ is not None:
        document["id"] = id_
    is_text = type(content) is str and type(name) in _TEXT_OR_NOTHING and type(id_) in _TEXT_OR_NOTHING
    return document if is_text else None


def from_document(document: dict[str, Any], key: bytes = b"", position: int = 0) -> BaseMessage:
    """Return the message of the JSON object ``document``.

    Raises:
        CorruptDataError: It has no role or no content; the error names ``key`` and ``position``.
    """
    role = document.get("role")
    if not isinstance(role, str) or "content" not in document:
        raise CorruptDataError(
            f"The key {shown(key)} holds at position {position} something that is not a message: a role or a "
            "content is missing. Fix it, or restore the history from a backup."
        )
    try:
        return _ours(document, role)
    except (TypeError, ValueError, AttributeError, KeyError):
        return _other(document, role)


def _document(message: BaseMessage, *, whole: bool) -> dict[str, Any]:
    cls = type(message)
    role = _ROLES.get(cls) or message.role  # type: ignore[attr-defined]
    document: dict[str, Any] = {"role": role, "content": message.content}
    if _IMPLIED.get(role) is not cls:
        document["type"] = message.type
    for name, default in _DEFAULTS[cls].items():
        value = getattr(message, name)
        if whole or value != default:
            document[name] = value
    extras = message.model_extra or {}
    if _TAKEN.isdisjoint(extras):
        document.update(extras)
    else:
        document[_EXTRAS] = extras
    return document


def _ours(document: dict[str, Any], role: str) -> BaseMessage:
    fields = dict(document)
    del fields["role"]
    kind = fields.get("type")
    cls = _TYPES.get(kind) if isinstance(kind, str) else None
    if cls is not None and _ROLES.get(cls, role) == role:
        del fields["type"]
    else:
        cls = _IMPLIED[role]
    if cls in _SPEAKERS:
        fields["role"] = role
    extras = fields.pop(_EXTRAS, None)
    message = cls(**fields)
    for name in _REBUILT:
        if name in fields and getattr(message, name) != fields[name]:
            setattr(message, name, fields[name])
    for name, value in (extras or {}).items():
        setattr(message, name, value)
    return message


def _other(document: dict[str, Any], role: str) -> BaseMessage:
    try:
        return convert_to_messages([document])[0]
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError):
        content = document["content"]
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return ChatMessage(role=role, content=text)
