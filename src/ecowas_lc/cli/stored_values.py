"""Stored values as the command shows them, also those of classes that are not allowed: nothing is imported."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from ecowas_lc.checkpoint.viewing import Unimported


def plain(value: Any) -> Any:
    """A value as JSON can hold it, for people and programs to look at."""
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
        case Unimported():
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


def _message(message: BaseMessage) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": message.type, "name": message.name, "id": message.id, "text": message.text}
    if calls := getattr(message, "tool_calls", None):
        shown["tool_calls"] = plain(calls)
    return {key: value for key, value in shown.items() if value is not None}
