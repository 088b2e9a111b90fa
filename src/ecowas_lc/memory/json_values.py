"""Conversion of values to JSON text and back, and checks of arguments before anything is sent.

A value that would not be the same after a round trip is refused before it is written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pydantic_core
from pydantic_core import PydanticSerializationError

from ecowas_lc._connection_settings import LONGEST_TTL
from ecowas_lc.errors import CorruptDataError, InvalidInputError, NotSerializableError, WrongTypeError

FOREVER = float("inf")


def check_ttl(ttl: object, what: str = "ttl") -> int:
    """Return ``ttl`` if it is a valid time to live in seconds.

    Raises:
        InvalidInputError: It is not a whole number of at least 1; the message calls it ``what``.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int):
        raise InvalidInputError(f"{what} must be a whole number of seconds, not {type(ttl).__name__}.")
    if not 1 <= ttl <= LONGEST_TTL:
        raise InvalidInputError(f"{what} must be from 1 to {LONGEST_TTL} seconds, not {ttl}.")
    return ttl


def lifetime_seconds(ttl: int | None, default_ttl: int | None) -> float:
    """Return ``ttl``, or the default if it is ``None``; ``FOREVER`` if both are ``None``."""
    return lifetime_and_rule(ttl, default_ttl)[0]


def lifetime_and_rule(ttl: int | None, default_ttl: int | None) -> tuple[float, str]:
    """Return the results of :func:`lifetime_seconds` and :func:`expiry_rule`."""
    if ttl is not None:
        seconds = check_ttl(ttl)
        return seconds, f"={seconds * 1000}"
    return (FOREVER, ">") if default_ttl is None else (default_ttl, f">{default_ttl * 1000}")


def lifetime_of(left: int) -> float:
    """Return seconds from the ``PTTL`` reply for an existing key."""
    return FOREVER if left == -1 else left / 1000


def expiry_rule(ttl: int | None, default_ttl: int | None) -> str:
    """Return the scripts' argument: exactly ``ttl`` seconds, or the longer of the default and the rest."""
    return lifetime_and_rule(ttl, default_ttl)[1]


def check_count(count: object, what: str) -> int:
    """Return ``count`` if it is a whole number of at least 1.

    Raises:
        InvalidInputError: It is not; the message calls it ``what``.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidInputError(f"{what} must be a whole number, 1 or more, not {count!r}.")
    return count


def check_message(message: object) -> dict[str, Any]:
    """Return ``message`` if it is a dict with a role and a content.

    Raises:
        InvalidInputError: It is not.
    """
    if not isinstance(message, dict):
        raise InvalidInputError(
            f'A message must be a dict like {{"role": "user", "content": "…"}}, not {type(message).__name__}. '
            "For LangChain messages use RedisChatMessageHistory."
        )
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise InvalidInputError('A message needs a "role" that is text, such as "user" or "assistant".')
    if "content" not in message:
        raise InvalidInputError('A message needs a "content".')
    return message


def check_history(history: object) -> list[dict[str, Any]]:
    """Return ``history`` as a list of messages.

    Raises:
        InvalidInputError: It is not a list of messages.
    """
    if isinstance(history, (str, bytes, dict)) or not isinstance(history, Iterable):
        raise InvalidInputError(f"The history must be a list of messages, not {type(history).__name__}.")
    return [check_message(message) for message in history]


_SEPARATORS = (",", ":")
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=_SEPARATORS).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=_SEPARATORS).encode


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def to_json(value: Any, what: str) -> bytes:
    """Return ``value`` as readable JSON in UTF-8.

    Raises:
        NotSerializableError: The value read back would not equal ``value``; the message names the location in it.
    """
    return texts_to_json(value, what) if _is_all_text(value) else _tried(value, what)


def texts_to_json(texts: dict[str, str], what: str) -> bytes:
    """Return an object that contains only texts as JSON, with the same guarantee as :func:`to_json`.

    Most messages are such objects. If all texts have a UTF-8 form, they need no check by reading them back.
    """
    try:
        return pydantic_core.to_json(texts)
    except (UnicodeEncodeError, PydanticSerializationError):
        return _tried(texts, what)


def _tried(value: Any, what: str) -> bytes:
    try:
        try:
            raw = _encode(value).encode()
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form; JSON can escape it
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
    """Return the value stored in ``raw``.

    Raises:
        CorruptDataError: It is not JSON; the message names the key and, if given, the position in its list
            (negative positions count from the end, as in Redis' own commands).
    """
    try:
        return _decode(raw.decode())
    except (ValueError, RecursionError):
        where = "" if position is None else f" at position {position}"
        raise CorruptDataError(
            f"The key {shown(key)} holds{where} something that is not JSON. Fix it, or restore it from a backup."
        ) from None


def shown(key: bytes) -> str:
    """Return a key's name for a message."""
    return key.decode("utf-8", "replace")


def wrong_type(key: bytes, kind: str) -> WrongTypeError:
    """Return the error for a key of ours that holds another program's data."""
    return WrongTypeError(
        f"The key {shown(key)} holds a {kind} that this package never wrote; it was not changed. Another "
        "program uses the same prefix: set ECOWAS_LC_PREFIX, or move that key."
    )


def _is_all_text(value: Any) -> bool:
    if type(value) is not dict:
        return False
    for name, item in value.items():  # noqa: SIM110  # `all` would take longer than the encoding
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
        except ValueError:  # Python's limit on the digits of an integer
            return f"{path} is a number with too many digits"
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
