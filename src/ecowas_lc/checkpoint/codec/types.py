"""Which types a value may hold, how each is taken apart, and how it is put together again.

Reading constructs what is named here or in the allowlist, and nothing else: a stored name is looked up, never
imported for being there. Names are ``module:QualifiedName`` for classes and short words for what Python and
langgraph bring along.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import importlib
import inspect
import ipaddress
import pathlib
import re
import sys
import typing
import uuid
import zoneinfo
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.messages.base import TextAccessor
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import GetOp, Item
from langgraph.types import (
    Command,
    Interrupt,
    Overwrite,
    PregelTask,
    Send,
    StateSnapshot,
    TimeoutPolicy,
)
from pydantic import BaseModel, SecretStr, ValidationError

from ecowas_lc.errors import ConfigurationError, CorruptDataError, TypeNotAllowedError

Allow = Literal["any"] | Collection[str | type | tuple[str, ...]]

TakeApart = Callable[[Any], Any]
PutTogether = Callable[[Any], Any]


def _send(parts: list[Any]) -> Send:
    return Send(parts[0], parts[1], timeout=parts[2]) if len(parts) == 3 else Send(*parts)


def _send_parts(send: Send) -> list[Any]:
    timeout = getattr(send, "timeout", None)
    return [send.node, send.arg] if timeout is None else [send.node, send.arg, timeout]


def _default_dict(parts: list[Any]) -> Any:
    factory, pairs = parts
    return collections.defaultdict(_FACTORIES[factory], pairs)


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
    return [name, list(value.items())]


# The stored names of builtin types, which are part of the format.
_BUILTIN: dict[type, tuple[str, TakeApart, PutTogether]] = {
    tuple: ("tuple", list, tuple),
    set: ("set", list, set),
    frozenset: ("frozenset", list, frozenset),
    bytearray: ("bytearray", bytes, bytearray),
    complex: ("complex", lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    collections.deque: (
        "deque",
        lambda value: [list(value), value.maxlen],
        lambda parts: collections.deque(parts[0], parts[1]),
    ),
    collections.OrderedDict: ("ordereddict", lambda value: list(value.items()), collections.OrderedDict),
    collections.Counter: (
        "counter",
        lambda value: list(value.items()),
        lambda pairs: collections.Counter(dict(pairs)),
    ),
    collections.defaultdict: ("defaultdict", _default_dict_parts, _default_dict),
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
    zoneinfo.ZoneInfo: ("zoneinfo", lambda value: value.key, zoneinfo.ZoneInfo),
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
        lambda item: {
            "value": item.value,
            "key": item.key,
            "namespace": item.namespace,
            "created_at": item.created_at,
            "updated_at": item.updated_at,
        },
        lambda fields: Item(**fields),
    ),
}
_BUILTIN_BY_NAME = {name: build for name, _, build in _BUILTIN.values()}
# What `message.text` is; it is text, and comes back as text.
_AS_TEXT: tuple[type, ...] = (TextAccessor,)
_ALWAYS_ALLOWED: tuple[type, ...] = (
    Document,
    Command,
    GetOp,
    Interrupt,
    Overwrite,
    PregelTask,
    StateSnapshot,
    TimeoutPolicy,
)


def type_name(cls: type) -> str:
    """``module:QualifiedName``, as stored and as messages give it."""
    return f"{cls.__module__}:{cls.__qualname__}"


class Allowlist:
    """The classes that values may hold beyond Python's own and langgraph's.

    ``allow`` takes classes, ``"module.Class"`` or ``"module:Outer.Class"``, langgraph's ``(module, name)``
    pairs, or ``"any"`` for those who trust everybody who can write to their Redis. The classes that an allowed
    one names in its annotations are allowed with it.
    """

    def __init__(self, allow: Allow = ()) -> None:
        self.any = allow == "any"
        self._classes: dict[str, type] = {}
        self._names: set[str] = set()
        for cls in _ALWAYS_ALLOWED:
            self._add(cls)
        self.extend(() if isinstance(allow, str) and self.any else allow)

    def extend(self, allow: Iterable[str | type | tuple[str, ...]]) -> None:
        """Allow these too."""
        if isinstance(allow, str):
            raise ConfigurationError(f'allow must be "any" or a list: allow=[{allow!r}]')
        for entry in allow:
            if isinstance(entry, type):
                self._add(entry)
            elif isinstance(entry, str):
                self._names.add(_dotted(entry))
            elif isinstance(entry, tuple) and len(entry) >= 2 and all(isinstance(part, str) for part in entry):
                self._names.add(f"{entry[0]}:{entry[1]}")
            else:
                raise ConfigurationError(f"allow takes classes or 'module.Class', not {entry!r}")

    def extended(self, allow: Iterable[str | type | tuple[str, ...]]) -> Allowlist:
        """A copy that allows these too."""
        copy = Allowlist("any" if self.any else ())
        copy._classes |= self._classes
        copy._names |= self._names
        copy.extend(allow)
        return copy

    def _add(self, cls: type) -> None:
        name = type_name(cls)
        if self._classes.get(name) is cls:
            return
        self._classes[name] = cls
        for mentioned in _mentioned_classes(cls):
            self._add(mentioned)

    def check(self, cls: type) -> str:
        """The name to store for an object of this class.

        Raises:
            TypeNotAllowedError: it could not be read back; the message gives the line to add.
        """
        name = type_name(cls)
        if self._classes.get(name) is cls:
            return name
        if name in self._names or self.any:
            if "<locals>" in name:
                raise TypeNotAllowedError(
                    f"{name} is defined inside a function, where reading can't find it. "
                    f"Move it to a module, or pass the class itself: allow=[{cls.__name__}]"
                )
            return name
        raise TypeNotAllowedError(
            f"A value of type {name.replace(':', '.')} can't be stored: reading it back must be allowed first. "
            f'Add allow=["{name.replace(":", ".")}"] (or the class itself) to RedisSaver(…), '
            'or allow="any" if you trust everybody who can write to this Redis.'
        )

    def find(self, name: str) -> type:
        """The class of a stored name, imported only where the allowlist names it.

        Raises:
            TypeNotAllowedError: the allowlist does not name it; nothing was imported.
            CorruptDataError: it does, and there is no such class.
        """
        if cls := self._classes.get(name):
            return cls
        if not (self.any or name in self._names):
            raise TypeNotAllowedError(
                f"A stored value names {name.replace(':', '.')}, which is not allowed; it was not imported. "
                f'If you trust it, add allow=["{name.replace(":", ".")}"] to RedisSaver(…).'
            )
        module, _, qualname = name.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise CorruptDataError(
                f"A stored value is a {name.replace(':', '.')}, which is no longer there."
            ) from error
        if not isinstance(found, type):
            raise TypeNotAllowedError(f"A stored value names {name.replace(':', '.')}, which is not a class.")
        self._add(found)
        return found


def _dotted(entry: str) -> str:
    if ":" in entry:
        return entry
    module, dot, name = entry.rpartition(".")
    if not dot:
        raise ConfigurationError(f"allow takes 'module.Class', not {entry!r}")
    # A.B.C may be a class in a class: what is a module is decided by capital letters only if nothing else says so.
    parts = module.split(".")
    while len(parts) > 1 and parts[-1][:1].isupper():
        name = f"{parts.pop()}.{name}"
    return f"{'.'.join(parts)}:{name}"


def _mentioned_classes(cls: type) -> Iterable[type]:
    if not (issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")):
        return
    if cls in _ALWAYS_ALLOWED:
        return
    try:
        pending = list(typing.get_type_hints(cls).values())
    except Exception:  # annotations may name what only a type checker sees; those classes are then asked for
        return
    while pending:
        hint = pending.pop()
        pending.extend(typing.get_args(hint))
        if inspect.isclass(hint) and typing.get_origin(hint) is None and _kind(hint):
            yield hint


def _kind(cls: type) -> str | None:
    if cls.__module__ == "builtins":
        return None
    if issubclass(cls, enum.Enum):
        return "enum"
    if issubclass(cls, BaseModel):
        return "model"
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "namedtuple"
    return None


def take_apart(value: Any, allowed: Allowlist) -> tuple[str, Any] | str:
    """``(stored name, data)`` for a value that msgpack has no type for; text for what is text.

    Raises:
        TypeNotAllowedError: it could not be read back.
    """
    cls = type(value)
    if builtin := _BUILTIN.get(cls):
        return builtin[0], builtin[1](value)
    if isinstance(value, _AS_TEXT):
        return str.__str__(value)
    if isinstance(value, int) and cls is int:
        return "int", str(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _take_array_apart(value)
    kind = _kind(cls)
    if kind is None:
        raise TypeNotAllowedError(
            f"A value of type {type_name(cls).replace(':', '.')} can't be stored. Put what it holds into the "
            "state as plain data, a dataclass, a pydantic model, an enum or a named tuple."
        )
    name = allowed.check(cls)
    if kind == "enum":
        return name, value.value
    if kind == "namedtuple":
        return name, list(value)
    if kind == "dataclass":
        return name, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return name, [dict(value.__dict__), value.__pydantic_extra__ or {}, sorted(value.__pydantic_fields_set__)]


def put_together(name: Any, data: Any, allowed: Allowlist) -> Any:
    """The value that :func:`take_apart` took apart.

    Raises:
        TypeNotAllowedError: its class is not allowed; nothing was imported.
        CorruptDataError: the data does not make one.
    """
    if type(name) is not str:
        raise CorruptDataError("A stored object has no type name.")
    try:
        if build := _BUILTIN_BY_NAME.get(name):
            return build(data)
        if name == "int":
            return int(data)
        if name == "ndarray":
            return _put_array_together(data)
        if ":" not in name:
            raise CorruptDataError(f"A stored object is a {name!r}, which this version does not know.")
        cls = allowed.find(name)
        kind = _kind(cls)
        if kind == "enum":
            return cls(data)
        if kind == "namedtuple":
            return cls(*data)
        if kind == "dataclass":
            return _put_dataclass_together(cls, data)
        if kind == "model":
            return _put_model_together(cls, *data)
    except (TypeNotAllowedError, CorruptDataError):
        raise
    except Exception as error:
        raise CorruptDataError(f"A stored {name.replace(':', '.')} can't be put together again.") from error
    raise TypeNotAllowedError(f"A stored value is a {name.replace(':', '.')}, which can't be read back.")


def _put_dataclass_together(cls: type, data: dict[str, Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    made = cls(**{name: value for name, value in data.items() if name in fields and fields[name].init})
    for name, field in fields.items():
        if not field.init and name in data:
            object.__setattr__(made, name, data[name])
    return made


def _put_model_together(cls: Any, state: dict[str, Any], extra: dict[str, Any], fields_set: list[str]) -> Any:
    known = cls.model_fields
    given = {name: value for name, value in state.items() if name in known}
    try:
        # By validation first, so that what a newer class expects is filled in and checked.
        made = cls.model_validate(
            {known[name].validation_alias or known[name].alias or name: given[name] for name in given} | extra
        )
        if made.__dict__ == state:
            object.__setattr__(made, "__pydantic_fields_set__", set(fields_set))
            return made
    except (ValidationError, TypeError):
        pass
    # The state that was written is not one that validation makes: it was changed after it was made. It is what
    # the graph saw, so it is what comes back.
    return cls.model_construct(_fields_set=set(fields_set), **given, **extra)


def _take_array_apart(value: Any) -> tuple[str, Any]:
    import numpy as np

    if value.dtype.hasobject:
        raise TypeNotAllowedError("A numpy array of Python objects can't be stored. Use a list.")
    array = np.asarray(value)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    scalar = not isinstance(value, np.ndarray)
    return "ndarray", [array.dtype.str, list(array.shape), order, array.tobytes(order=order), scalar]  # type: ignore[arg-type]


def _put_array_together(data: Any) -> Any:
    import numpy as np

    dtype, shape, order, raw, scalar = data
    parsed = np.dtype(dtype)
    if parsed.hasobject:
        raise CorruptDataError("A stored array claims to hold Python objects.")
    array = np.frombuffer(raw, dtype=parsed).reshape(shape, order=order).copy(order=order)
    return array[()] if scalar else array
