"""LangChain messages as the published JSON objects, and back, with nothing lost.

A message is ``{"role": …, "content": …}`` and whatever else it carries by its own field names. Fields at their
defaults are left out, and so is the type wherever the role says it. What other programs wrote there, such as
OpenAI's shape of tool calls, reads as LangChain itself reads it.
"""

from __future__ import annotations

import json
from typing import Any

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
_SPEAKERS: tuple[type[BaseMessage], ...] = (ChatMessage, ChatMessageChunk)  # their role is theirs to choose
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
_EXTRAS = "extras"  # holds the extra fields of a message where one's name has a meaning of its own here
_TAKEN = frozenset({"role", _EXTRAS})
# LangChain rebuilds these on construction, and drops what it does not know.
_REBUILT = ("tool_calls", "invalid_tool_calls", "tool_call_chunks", "usage_metadata")


# A message of these that holds nothing but a text, and perhaps a name and an id, need not be tried to come back.
_TEXTS: dict[str, Any] = {"content": "", "name": None, "id": None}
_TEXT_OR_NOTHING = (str, type(None))
_BLANK: dict[type[BaseMessage], dict[str, Any]] = {
    cls: {**_DEFAULTS[cls], "type": cls.model_fields["type"].default, **_TEXTS}
    for cls in (HumanMessage, AIMessage, SystemMessage)
}


def to_entry(message: BaseMessage) -> Entry:
    """The message's id and the JSON that stands for it. Errors: see :func:`to_document`."""
    plain = _plain(message)
    body = _stored(message)[1] if plain is None else texts_to_json(plain, "message")
    identity = message.id
    return id_bytes(identity) if isinstance(identity, str) else b"", body


def to_document(message: BaseMessage) -> dict[str, Any]:
    """The JSON object that stands for ``message``.

    Raises:
        NotSerializableError: the message could not be read back the same: its class is not LangChain's own, or it
            holds what JSON does not.
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
    raise NotSerializableError(
        f"This {cls.__name__} can't be stored: it holds what LangChain itself refuses or changes when it makes "
        "one. Create it anew from valid values."
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
    """The message that ``document`` stands for.

    Raises:
        CorruptDataError: it has no role or no content; the message names ``key`` and ``position``.
    """
    role = document.get("role")
    if not isinstance(role, str) or "content" not in document:
        raise CorruptDataError(
            f"The key {shown(key)} holds at position {position} what is not a message: a role or a content is "
            "missing. Fix it, or restore the history from a backup."
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
