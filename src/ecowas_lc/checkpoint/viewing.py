"""Reading stored values for people to look at, also objects of classes that are not allowed; imports nothing."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from ecowas_lc.checkpoint.codec.allowlist import Allowlist, spelt
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import CorruptDataError, TypeNotAllowedError


@dataclasses.dataclass(frozen=True)
class OpaqueValue:
    """The stored contents of an object whose class is not allowed or no longer exists.

    Attributes:
        name: The class, in the form that ``allow`` accepts.
        data: The object's contents: for most classes a mapping of fields.
    """

    name: str
    data: Any


class _Viewing(Allowlist):
    """An allowlist that knows the classes of another list, and an opaque class for every other name."""

    def __init__(self, known: Allowlist) -> None:
        super().__init__()
        self.any = known.any
        self._classes, self._names = dict(known._classes), set(known._names)

    def find(self, name: str) -> type:
        try:
            return super().find(name)
        except (TypeNotAllowedError, CorruptDataError):
            # The reader creates such objects by calling `_make` with the stored value, whatever it is.
            make = classmethod(lambda cls, data: OpaqueValue(spelt(name), data))
            return type("OpaqueValue", (tuple,), {"_fields": (), "_make": make})


def viewing(serializer: Serializer) -> Serializer:
    """Return a serializer that reads every value; objects of classes it does not allow become OpaqueValue."""
    clone = serializer.with_allowed(())
    clone.allowed = _Viewing(clone.allowed)
    return clone


def viewed(saver: Any) -> Any:
    """Return a saver that reads every value (see ``RedisSaver.viewing``); another library's saver unchanged."""
    view = getattr(saver, "viewing", None)
    return view() if callable(view) else saver


def plain(value: Any) -> Any:
    """Return a value in a form that JSON can represent, for people and programs to look at."""
    match value:
        case None | bool() | int():
            return value if type(value) in (bool, int, type(None)) else repr(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case enum.Enum():
            return plain(value.value)
        case str():
            return str(value)
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case BaseMessage():
            return _message(value)
        case OpaqueValue():
            return {"class": value.name, "data": plain(value.data)}
        case BaseModel():
            return {"class": type(value).__name__, **{name: plain(item) for name, item in value.__dict__.items()}}
        case bytes() | bytearray():
            return {"bytes": len(value)}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name, None)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    return str(value)


def plain_key(value: Any) -> str:
    """Return a text that two values share if a person would call them equal."""
    return json.dumps(plain(value), sort_keys=True)


def _message(message: BaseMessage) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": message.type, "name": message.name, "id": message.id, "text": message.text}
    if calls := getattr(message, "tool_calls", None):
        shown["tool_calls"] = plain(calls)
    return {key: value for key, value in shown.items() if value is not None}
