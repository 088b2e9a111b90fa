"""Decomposition of objects for msgpack, and exact reconstruction.

Reading constructs only Python's and langgraph's types listed here, and the classes that the allowlist names. No
``__init__``, ``__post_init__`` or validator runs: the graph gets back exactly the data it stored, even if it was
changed in place. The stored names are part of the storage format: never change one, only add.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import functools
import ipaddress
import pathlib
import re
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from langchain_core.messages.base import TextAccessor
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item, SearchItem
from langgraph.types import Send
from pydantic import SecretStr
from pydantic_core import PydanticUndefined, TzInfo

from ecowas_lc.checkpoint.codec.allowlist import Allowlist, kind_of, spelt, type_name
from ecowas_lc.checkpoint.configs import Extended
from ecowas_lc.errors import CorruptDataError, TypeNotAllowedError

TakeApart = Callable[[Any], Any]
PutTogether = Callable[[Any], Any]


def _pairs(value: Any) -> list[list[Any]]:
    return [[key, inner] for key, inner in value.items()]


def _integer_bytes(value: int) -> bytes:
    # Stored as bytes, not digits, because Python refuses to parse more than 4,300 digits.
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _checked_bytes(data: Any) -> bytes:
    if type(data) is not bytes:  # bytearray(10**12) would allocate that many bytes
        raise CorruptDataError("A stored bytearray or number does not hold bytes.")
    return data


_FACTORIES: dict[str | None, Any] = {None: None, "dict": dict, "float": float, "int": int, "list": list}
_FACTORIES |= {"set": set, "str": str, "bool": bool, "tuple": tuple}


def _default_dict_parts(value: collections.defaultdict[Any, Any]) -> list[Any]:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if _FACTORIES.get(name) is not factory:
        raise TypeNotAllowedError(
            f"A defaultdict whose factory is {factory!r} can't be stored: use a builtin type as its factory, "
            "or a plain dict."
        )
    return [name, _pairs(value)]


def _zone_key(zone: zoneinfo.ZoneInfo) -> str:
    if not zone.key:
        raise TypeNotAllowedError(
            "A ZoneInfo without a key can't be stored: name the zone, ZoneInfo('Africa/Abidjan')."
        )
    return zone.key


def _send(parts: list[Any]) -> Send:
    return Send(parts[0], parts[1], timeout=parts[2]) if len(parts) == 3 else Send(*parts)


def _send_parts(send: Send) -> list[Any]:
    timeout = getattr(send, "timeout", None)
    return [send.node, send.arg] if timeout is None else [send.node, send.arg, timeout]


def _quiet(flags: int) -> int:
    # Compiling with this flag prints to standard output.
    return flags & ~re.DEBUG.value


def _pattern(parts: list[Any]) -> re.Pattern[Any]:
    pattern, flags = parts
    return re.compile(pattern, _quiet(flags))


_ITEM_FIELDS = ("value", "key", "namespace", "created_at", "updated_at")

BUILTIN: dict[type, tuple[str, TakeApart, PutTogether]] = {
    int: ("int", _integer_bytes, lambda raw: int.from_bytes(_checked_bytes(raw), "big", signed=True)),
    tuple: ("tuple", list, tuple),
    set: ("set", list, set),
    frozenset: ("frozenset", list, frozenset),
    bytearray: ("bytearray", bytes, lambda raw: bytearray(_checked_bytes(raw))),
    complex: ("complex", lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    collections.deque: (
        "deque",
        lambda value: [list(value), value.maxlen],
        lambda parts: collections.deque(parts[0], parts[1]),
    ),
    collections.OrderedDict: ("ordereddict", _pairs, collections.OrderedDict),
    collections.Counter: ("counter", _pairs, lambda pairs: collections.Counter(dict(pairs))),
    collections.defaultdict: (
        "defaultdict",
        _default_dict_parts,
        lambda parts: collections.defaultdict(_FACTORIES[parts[0]], parts[1]),
    ),
    dt.datetime: (
        "datetime",
        lambda value: [value.replace(tzinfo=None).isoformat(), value.tzinfo, value.fold],
        lambda parts: dt.datetime.fromisoformat(parts[0]).replace(tzinfo=parts[1], fold=parts[2]),
    ),
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    dt.time: (
        "time",
        lambda value: [value.replace(tzinfo=None).isoformat(), value.tzinfo, value.fold],
        lambda parts: dt.time.fromisoformat(parts[0]).replace(tzinfo=parts[1], fold=parts[2]),
    ),
    dt.timedelta: (
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: dt.timedelta(*parts),
    ),
    dt.timezone: (
        "timezone",
        lambda value: list(value.__getinitargs__()),
        lambda parts: dt.timezone(*parts),
    ),
    # The time zone class of datetimes that pydantic parses.
    TzInfo: ("tzinfo", lambda value: round(value.utcoffset(None).total_seconds()), TzInfo),
    zoneinfo.ZoneInfo: ("zoneinfo", _zone_key, zoneinfo.ZoneInfo),
    uuid.UUID: ("uuid", lambda value: value.bytes, lambda raw: uuid.UUID(bytes=raw)),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    ipaddress.IPv4Address: ("ipv4", str, ipaddress.IPv4Address),
    ipaddress.IPv4Interface: ("ipv4interface", str, ipaddress.IPv4Interface),
    ipaddress.IPv4Network: ("ipv4network", str, ipaddress.IPv4Network),
    ipaddress.IPv6Address: ("ipv6", str, ipaddress.IPv6Address),
    ipaddress.IPv6Interface: ("ipv6interface", str, ipaddress.IPv6Interface),
    ipaddress.IPv6Network: ("ipv6network", str, ipaddress.IPv6Network),
    type(pathlib.Path()): ("path", str, pathlib.Path),
    re.Pattern: ("pattern", lambda value: [value.pattern, _quiet(value.flags)], _pattern),
    SecretStr: ("secret", SecretStr.get_secret_value, SecretStr),
    _DeltaSnapshot: ("delta", lambda value: value.value, _DeltaSnapshot),
    Send: ("send", _send_parts, _send),
    Item: (
        "item",
        lambda item: {name: getattr(item, name) for name in _ITEM_FIELDS},
        lambda fields: Item(**fields),
    ),
    SearchItem: (
        "searchitem",
        lambda item: {name: getattr(item, name) for name in (*_ITEM_FIELDS, "score")},
        lambda fields: SearchItem(**fields),
    ),
}
BUILTIN_BY_NAME = {name: build for name, _, build in BUILTIN.values()}


# The class of `message.text`, and of a checkpoint's id in a config: both are stored and restored as plain text.
_AS_TEXT: tuple[type, ...] = (TextAccessor, Extended)


def take_apart(value: Any, allowed: Allowlist) -> tuple[str, Any] | str:
    """Return ``(stored name, data)`` for a value that msgpack has no type for; for subclasses of text, the text.

    Raises:
        TypeNotAllowedError: It could not be read back.
    """
    cls = type(value)
    if builtin := BUILTIN.get(cls):
        return builtin[0], builtin[1](value)
    if isinstance(value, _AS_TEXT):
        return str.__str__(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _take_array_apart(value)
    kind = kind_of(cls)
    if kind is None:
        raise TypeNotAllowedError(
            f"A value of type {spelt(type_name(cls))} can't be stored. Put what it holds into the "
            "state as plain data, a dataclass, a pydantic model, an enum or a named tuple."
        )
    name = allowed.check(cls)
    if kind == "enum":
        if cls(value.value) is not value:
            raise TypeNotAllowedError(f"{value!r} can't be stored: looking it up by its value does not return it.")
        return name, value.value
    if kind == "namedtuple":
        return name, list(value)
    if kind == "dataclass":
        return name, _dataclass_parts(value, cls)
    return name, _model_parts(value, cls)


def put_together(name: Any, data: Any, allowed: Allowlist) -> Any:
    """Return the value that :func:`take_apart` decomposed.

    Raises:
        TypeNotAllowedError: Its class is not allowed; nothing was imported.
        CorruptDataError: The data does not fit the class.
    """
    if type(name) is not str:
        raise CorruptDataError("A stored object has no type name.")
    try:
        if build := BUILTIN_BY_NAME.get(name):
            return build(data)
        if name == "ndarray":
            return _put_array_together(data)
        if ":" not in name:
            raise CorruptDataError(f"A stored object is a {name!r}, which this version does not know.")
        cls: Any = allowed.find(name)
        kind = kind_of(cls)
        if kind == "enum":
            return cls(data)
        if kind == "namedtuple":
            return cls._make(data)
        if kind == "dataclass":
            return _put_dataclass_together(cls, *(data if type(data) is list else (data,)))
        if kind == "model":
            return _put_model_together(cls, *data)
    except (TypeNotAllowedError, CorruptDataError):
        raise
    except Exception as error:
        raise CorruptDataError(f"A stored {spelt(name)} can't be rebuilt.") from error
    raise TypeNotAllowedError(f"A stored value is a {spelt(name)}, which can't be read back.")


def _dataclass_parts(value: Any, cls: type) -> Any:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    others = {
        name: held
        for name, held in getattr(value, "__dict__", {}).items()
        if name not in fields and not isinstance(getattr(cls, name, None), functools.cached_property)
    }
    return [fields, others] if others else fields


def _put_dataclass_together(cls: Any, stored: dict[str, Any], others: dict[str, Any] | None = None) -> Any:
    made = cls.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.name in stored:
            held = stored[field.name]
        elif field.default is not dataclasses.MISSING:
            held = field.default
        elif field.default_factory is not dataclasses.MISSING:
            held = field.default_factory()
        else:
            raise _lacks(cls, field.name)
        object.__setattr__(made, field.name, held)
    for name, held in (others or {}).items():
        object.__setattr__(made, name, held)
    return made


def _model_parts(value: Any, cls: Any) -> list[Any]:
    state = value.__dict__
    fields = {name: state[name] for name in cls.model_fields if name in state}
    parts = [fields, value.__pydantic_extra__ or {}, sorted(value.__pydantic_fields_set__)]
    return [*parts, dict(value.__pydantic_private__)] if value.__pydantic_private__ else parts


def _put_model_together(
    cls: Any,
    stored: dict[str, Any],
    extra: dict[str, Any],
    fields_set: list[str],
    private: dict[str, Any] | None = None,
) -> Any:
    made = cls.__new__(cls)
    state: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if name in stored:
            state[name] = stored[name]
        elif field.is_required():
            raise _lacks(cls, name)
        else:
            state[name] = field.get_default(call_default_factory=True)
    own: dict[str, Any] | None = None
    if attributes := cls.__private_attributes__:
        kept = private or {}
        own = {name: kept[name] if name in kept else each.get_default() for name, each in attributes.items()}
        own = {name: held for name, held in own.items() if held is not PydanticUndefined}
    put = object.__setattr__
    put(made, "__dict__", state)
    put(made, "__pydantic_fields_set__", set(fields_set))
    if not cls.__pydantic_root_model__:  # root models have no extra fields
        put(made, "__pydantic_extra__", extra if cls.model_config.get("extra") == "allow" else None)
    if own is not None or not cls.__pydantic_root_model__:
        put(made, "__pydantic_private__", own)
    return made


def _lacks(cls: type, field: str) -> CorruptDataError:
    return CorruptDataError(
        f"A stored {spelt(type_name(cls))} has no {field!r}, which the class now requires. "
        "Give that field a default."
    )


def _take_array_apart(value: Any) -> tuple[str, Any]:
    import numpy as np

    scalar = not isinstance(value, np.ndarray)
    if value.dtype.hasobject or np.dtype(value.dtype.str) != value.dtype:
        raise TypeNotAllowedError(
            f"A numpy array of {value.dtype} can't be stored: numbers, text and times can. Use a list, or several."
        )
    if not scalar and type(value) is not np.ndarray:
        raise TypeNotAllowedError(
            f"A numpy {type(value).__name__} can't be stored: only plain arrays can. Use numpy.asarray(…)."
        )
    array = np.asarray(value)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return "ndarray", [array.dtype.str, list(array.shape), order, array.tobytes(order=order), scalar]  # type: ignore[arg-type]


def _put_array_together(data: Any) -> Any:
    import numpy as np

    dtype, shape, order, raw, scalar = data
    parsed = np.dtype(dtype)
    if parsed.hasobject:
        raise CorruptDataError("A stored array claims to hold Python objects.")
    array = np.frombuffer(raw, dtype=parsed).reshape(shape, order=order).copy(order=order)
    return array[()] if scalar else array
