"""Python's and langgraph's own types that msgpack has none for: how each is taken apart and put together.

The names are part of the storage format: never change one, only add.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item
from langgraph.types import Send
from pydantic import SecretStr
from pydantic_core import TzInfo

from ecowas_lc.errors import CorruptDataError, TypeNotAllowedError

TakeApart = Callable[[Any], Any]
PutTogether = Callable[[Any], Any]


def _pairs(value: Any) -> list[list[Any]]:
    return [[key, inner] for key, inner in value.items()]


def _integer_bytes(value: int) -> bytes:
    # Not its digits: Python refuses to read more than 4,300 of them.
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _checked_bytes(data: Any) -> bytes:
    if type(data) is not bytes:  # bytearray(10**12) would be that many
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
    # What pydantic gives the datetimes that it parses.
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
    re.Pattern: ("pattern", lambda value: [value.pattern, value.flags], lambda parts: re.compile(*parts)),
    SecretStr: ("secret", SecretStr.get_secret_value, SecretStr),
    _DeltaSnapshot: ("delta", lambda value: value.value, _DeltaSnapshot),
    Send: ("send", _send_parts, _send),
    Item: (
        "item",
        lambda item: {name: getattr(item, name) for name in _ITEM_FIELDS},
        lambda fields: Item(**fields),
    ),
}
BUILTIN_BY_NAME = {name: build for name, _, build in BUILTIN.values()}
