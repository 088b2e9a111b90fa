"""Values as JSON text, and back: what would not come back the same is refused before it is written."""

from __future__ import annotations

import json
import math
from typing import Any

import pydantic_core
from pydantic_core import PydanticSerializationError

from ecowas_lc.errors import CorruptDataError, NotSerializableError, WrongTypeError

_SEPARATORS = (",", ":")
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=_SEPARATORS).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=_SEPARATORS).encode


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def to_json(value: Any, what: str) -> bytes:
    """``value`` as readable JSON in UTF-8.

    Raises:
        NotSerializableError: ``value`` read back would not equal ``value``; the message names the place in it.
    """
    return texts_to_json(value, what) if _is_all_text(value) else _tried(value, what)


def texts_to_json(texts: dict[str, str], what: str) -> bytes:
    """The same for an object of nothing but texts, as most messages are: where they have UTF-8, they come back."""
    try:
        return pydantic_core.to_json(texts)
    except (UnicodeEncodeError, PydanticSerializationError):
        return _tried(texts, what)


def _tried(value: Any, what: str) -> bytes:
    try:
        try:
            raw = _encode(value).encode()
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8; JSON can escape it
            raw = _encode_ascii(value).encode()
        if _decode(raw.decode()) == value:
            return raw
    except (TypeError, ValueError, RecursionError):
        pass
    raise NotSerializableError(
        f"The {what} can't be stored as JSON so that it comes back the same: {_reason(value, what)}. "
        "Use dicts with text keys, lists, text, finite numbers, booleans and None."
    )


def from_json(raw: bytes, key: bytes, position: int | None = None) -> Any:
    """The value stored in ``raw``.

    Raises:
        CorruptDataError: it is not JSON; the message names the key, and the position where one is given (in its
            list; negative ones count from the end, as in Redis' own commands).
    """
    try:
        return _decode(raw.decode())
    except (ValueError, RecursionError):
        where = "" if position is None else f" at position {position}"
        raise CorruptDataError(
            f"The key {shown(key)} holds{where} what is not JSON. Mend it, or delete the key."
        ) from None


def shown(key: bytes) -> str:
    """A key's name for a message."""
    return key.decode("utf-8", "replace")


def wrong_type(key: bytes, kind: str) -> WrongTypeError:
    """The error for somebody else's data at a key of ours."""
    return WrongTypeError(
        f"The key {shown(key)} holds a {kind} that this package never wrote; it was left as it is. Some other "
        "program uses the same prefix: set ECOWAS_LC_PREFIX, or move that key."
    )


def _is_all_text(value: Any) -> bool:
    if type(value) is not dict:
        return False
    for name, item in value.items():  # noqa: SIM110  # `all` would take longer than the encoding does
        if type(name) is not str or type(item) is not str:
            return False
    return True


def _reason(value: Any, what: str) -> str:
    try:
        return _offender(value, what) or f"the {what} does not equal what was read back"
    except RecursionError:
        return f"the {what} contains itself, or is nested too deeply"


def _offender(value: Any, path: str) -> str | None:
    if value is None or isinstance(value, (bool, str)):
        return None
    if isinstance(value, int):
        try:
            str(value)
        except ValueError:  # Python's limit on digits
            return f"{path} is a number of too many digits"
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}"
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                return f"{path} has the key {name!r}, which is not text"
            if found := _offender(item, f"{path}[{name!r}]"):
                return found
        return None
    if isinstance(value, list):
        return next((found for i, item in enumerate(value) if (found := _offender(item, f"{path}[{i}]"))), None)
    return f"{path} is a {type(value).__name__}"
