"""The classes that a value may hold: written only if they could be read back, imported only if named here.

Stored names of classes are ``module:QualifiedName``. The classes of Python, LangChain's messages and langgraph are
in :mod:`ecowas_lc.checkpoint.codec.types` and need no entry.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib
import inspect
import typing
from collections.abc import Collection, Iterable
from typing import Any, Literal

from langgraph.store.base import GetOp
from langgraph.types import Command, Interrupt, Overwrite, PregelTask, StateSnapshot, TimeoutPolicy
from pydantic import BaseModel

from ecowas_lc.errors import ConfigurationError, CorruptDataError, TypeNotAllowedError

Allow = Literal["any"] | Collection[str | type | tuple[str, ...]]

_ALWAYS_ALLOWED: tuple[type, ...] = (
    Command,
    GetOp,
    Interrupt,
    Overwrite,
    PregelTask,
    StateSnapshot,
    TimeoutPolicy,
)
# Imported only when a value holds one, because the import takes as long as that of half the codec.
_ALWAYS_ALLOWED_NAMES = ("langchain_core.documents.base:Document",)
# Objects of these classes hold data outside their fields.
_CONTAINERS = (dict, list, tuple, set, frozenset, str, bytes, int, float)


def type_name(cls: type) -> str:
    """Return ``module:QualifiedName``, as stored."""
    return f"{cls.__module__}:{cls.__qualname__}"


def kind_of(cls: type) -> str | None:
    """Return how objects of this class are serialised; ``None``: they are not."""
    if cls.__module__ == "builtins":
        return None
    if issubclass(cls, enum.Enum):
        return "enum"
    if issubclass(cls, BaseModel):
        return "model"
    if dataclasses.is_dataclass(cls):
        return None if issubclass(cls, _CONTAINERS) else "dataclass"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "namedtuple"
    return None


class Allowlist:
    """The classes that values may hold in addition to Python's and langgraph's.

    ``allow`` takes classes, ``"module.Class"`` or ``"module:Outer.Class"``, langgraph's ``(module, name)`` pairs,
    or ``"any"`` if you trust everyone who can write to your Redis. Classes that an allowed class names in its
    annotations are allowed as well.
    """

    def __init__(self, allow: Allow = ()) -> None:
        self.any = allow == "any"
        self._classes: dict[str, type] = {}
        self._names: set[str] = set(_ALWAYS_ALLOWED_NAMES)
        self._resolved: set[str] = set()
        for cls in _ALWAYS_ALLOWED:
            self._add(cls)
        self.extend(() if isinstance(allow, str) and self.any else allow)

    def extend(self, allow: Iterable[str | type | tuple[str, ...]]) -> None:
        """Also allow these classes."""
        if isinstance(allow, str):
            raise ConfigurationError(f'allow must be "any" or a list: allow=[{allow!r}]')
        for entry in allow:
            if isinstance(entry, type):
                self._add(entry)
            elif isinstance(entry, str):
                self._names.add(_stored_name(entry))
            elif isinstance(entry, tuple) and len(entry) >= 2 and all(isinstance(part, str) for part in entry):
                self._names.add(f"{entry[0]}:{entry[1]}")
            else:
                raise ConfigurationError(f"allow takes classes or 'module.Class', not {entry!r}")

    def extended(self, allow: Iterable[str | type | tuple[str, ...]]) -> Allowlist:
        """Return a copy that also allows these classes."""
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
        """Return the name to store for an object of this class.

        Raises:
            TypeNotAllowedError: It could not be read back; the message gives the line to add.
        """
        name = type_name(cls)
        if self._classes.get(name) is cls:
            return name
        if self.any or name in self._names or self._is_mentioned(name):
            if _locate(name) is not cls:
                raise TypeNotAllowedError(
                    f"A value of type {spelt(name)} can't be stored: reading could not find the class under this "
                    f"name. Move it to the top of a module, or pass the class itself: allow=[{cls.__name__}]"
                )
            self._add(cls)
            return name
        if _locate(name) is cls:
            line = f'Add allow=["{spelt(name)}"] (or the class itself)'
        else:
            line = f"Add the class itself, allow=[{cls.__name__}],"
        raise TypeNotAllowedError(
            f"A value of type {spelt(name)} can't be stored: reading it back must be allowed first. "
            f'{line} to RedisSaver(…), or allow="any" if you trust everybody who can write to this Redis.'
        )

    def find(self, name: str) -> type:
        """Return the class of a stored name; it is imported only if the allowlist names it.

        Raises:
            TypeNotAllowedError: The allowlist does not name it; nothing was imported.
            CorruptDataError: The allowlist names it, but the class does not exist.
        """
        if cls := self._classes.get(name):
            return cls
        if not (self.any or name in self._names):
            if self._is_mentioned(name):
                return self._classes[name]
            raise TypeNotAllowedError(
                f"A stored value names {spelt(name)}, which is not allowed; it was not imported. "
                f'If you trust it, add allow=["{spelt(name)}"] (or the class itself) to RedisSaver(…).'
            )
        found = _locate(name)
        if found is None:
            raise CorruptDataError(f"A stored value is a {spelt(name)}, which no longer exists.")
        if not isinstance(found, type):
            raise TypeNotAllowedError(f"A stored value names {spelt(name)}, which is not a class.")
        self._classes[name] = found
        self._add(found)
        return found

    def _is_mentioned(self, name: str) -> bool:
        # The classes in an allowed class's annotations are known only after it is imported.
        for allowed in self._names - self._resolved:
            self._resolved.add(allowed)
            if isinstance(found := _locate(allowed), type):
                self._add(found)
        return name in self._classes


def spelt(name: str) -> str:
    """Return a stored name in the form of ``allow``: ``module.Class``, with a colon if that would be ambiguous."""
    dotted = name.replace(":", ".")
    return dotted if "." in dotted and _stored_name(dotted) == name else name


def _stored_name(entry: str) -> str:
    if ":" in entry:
        return entry
    module, dot, name = entry.rpartition(".")
    if not dot:
        raise ConfigurationError(f"allow takes 'module.Class', not {entry!r}")
    # A.B.C may be a nested class: capital letters decide which part is a module only if nothing else does.
    parts = module.split(".")
    while len(parts) > 1 and parts[-1][:1].isupper():
        name = f"{parts.pop()}.{name}"
    return f"{'.'.join(parts)}:{name}"


def _locate(name: str) -> Any:
    """Return the object of an allowed name; ``None`` if it does not exist."""
    module, _, qualname = name.partition(":")
    if "[" in qualname:
        return None  # Box[int] has this name only after it was created
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def _mentioned_classes(cls: type) -> Iterable[type]:
    if cls in _ALWAYS_ALLOWED or kind_of(cls) in (None, "enum"):
        return
    pending: list[Any] = [cls]
    opened: set[Any] = set()
    while pending:
        hint = pending.pop()
        if inspect.isclass(hint) and typing.get_origin(hint) is None and kind_of(hint) and hint is not cls:
            yield hint
        elif hint is cls or hasattr(hint, "__total__"):  # a TypedDict, of typing or of typing_extensions
            if hint in opened:
                continue
            opened.add(hint)
            # Annotations may name classes that only a type checker can see; you must allow those explicitly.
            with contextlib.suppress(Exception):
                pending.extend(typing.get_type_hints(hint).values())
        else:
            pending.extend(typing.get_args(hint))
