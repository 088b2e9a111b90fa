"""Objects taken apart for msgpack, and put together again with exactly what they held.

Reading constructs what :mod:`~ecowas_lc.checkpoint.codec.builtin` or the allowlist names and nothing else. No
``__init__``, ``__post_init__`` or validator runs: what the graph saw is what comes back, changed in place or not.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

from langchain_core.messages.base import TextAccessor
from pydantic_core import PydanticUndefined

from ecowas_lc.checkpoint.codec.allowlist import Allowlist, kind_of, spelt, type_name
from ecowas_lc.checkpoint.codec.builtin import BUILTIN, BUILTIN_BY_NAME
from ecowas_lc.errors import CorruptDataError, TypeNotAllowedError

# What `message.text` is; it is text, and comes back as text.
_AS_TEXT: tuple[type, ...] = (TextAccessor,)


def take_apart(value: Any, allowed: Allowlist) -> tuple[str, Any] | str:
    """``(stored name, data)`` for a value that msgpack has no type for; text for what is text.

    Raises:
        TypeNotAllowedError: it could not be read back.
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
            raise TypeNotAllowedError(f"{value!r} can't be stored: its value does not find it again.")
        return name, value.value
    if kind == "namedtuple":
        return name, list(value)
    if kind == "dataclass":
        return name, _dataclass_parts(value, cls)
    return name, _model_parts(value, cls)


def put_together(name: Any, data: Any, allowed: Allowlist) -> Any:
    """The value that :func:`take_apart` took apart.

    Raises:
        TypeNotAllowedError: its class is not allowed; nothing was imported.
        CorruptDataError: the data does not make one.
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
        raise CorruptDataError(f"A stored {spelt(name)} can't be put together again.") from error
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
    if not cls.__pydantic_root_model__:  # those have no room for either
        put(made, "__pydantic_extra__", extra if cls.model_config.get("extra") == "allow" else None)
    if own is not None or not cls.__pydantic_root_model__:
        put(made, "__pydantic_private__", own)
    return made


def _lacks(cls: type, field: str) -> CorruptDataError:
    return CorruptDataError(
        f"A stored {spelt(type_name(cls))} has no {field!r}, which the class has come to require. "
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
