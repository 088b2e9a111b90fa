"""The location in storage that a config names, and the configs that storage returns."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig

from ecowas_lc.errors import CorruptDataError, InvalidIdError, InvalidInputError
from ecowas_lc.storage.keys import id_bytes, id_text

_MAX_BYTES = 60_000  # the length of an id is stored in 2 bytes


class Extended(str):
    """A checkpoint id, in a config from a saver with fencing, of a checkpoint that others have already extended.

    langgraph passes the object on to ``put``, so that a run which starts from there may fork intentionally. It
    equals the plain id, and looks, pickles and dumps like it.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        # Let a different subclass of str decide whether it equals plain text, as a comparison with str would.
        return str.__eq__(self, other) if type(other) in (str, Extended) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return str.__ne__(self, other) if type(other) in (str, Extended) else NotImplemented

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)

    def __copy__(self) -> Extended:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Extended:
        return self


class CheckpointPlace(NamedTuple):
    """A thread, a namespace in it (``None``: all) and, optionally, a checkpoint."""

    thread_id: str
    namespace: str | None = ""
    checkpoint_id: str | None = None

    @property
    def ns(self) -> bytes:
        """The namespace in its stored form."""
        return encode_part(self.namespace) if self.namespace else b""

    @property
    def id(self) -> bytes:
        """The checkpoint's id in its stored form."""
        return id_bytes(self.checkpoint_id or "")

    def config(self, checkpoint_id: str) -> RunnableConfig:
        """Return the config of a checkpoint of this thread and namespace."""
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.namespace or "",
                "checkpoint_id": checkpoint_id,
            }
        }


def place_of(config: RunnableConfig, *, every_namespace: bool = False) -> CheckpointPlace:
    """Return the place that a config names.

    Raises:
        InvalidIdError: It has no usable thread id, namespace or checkpoint id.
    """
    configurable = (config or {}).get("configurable") or {}
    if "thread_id" not in configurable:
        raise InvalidIdError('The config has no thread id: {"configurable": {"thread_id": "…"}}')
    default = None if every_namespace else ""
    namespace = configurable.get("checkpoint_ns")
    namespace = default if namespace is None else namespace
    return CheckpointPlace(
        thread_id_of(configurable["thread_id"]),
        namespace if namespace is None else checked_id(namespace, "checkpoint namespace"),
        _checkpoint_id_in(configurable),
    )


def checkpoint_id_of(config: RunnableConfig | None) -> str | None:
    """Return the checkpoint id of a config; ``None`` if it has none."""
    return _checkpoint_id_in((config or {}).get("configurable") or {})


def _checkpoint_id_in(configurable: Mapping[str, Any]) -> str | None:
    found = configurable.get("checkpoint_id")
    return checked_id(found, "checkpoint id") if found else None


def thread_id_of(value: Any) -> str:
    """Return a thread id as text; applications also use numbers and UUIDs."""
    if not isinstance(value, (str, bool)) and isinstance(value, (int, uuid.UUID)):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise InvalidIdError("The thread id must be text that is not empty.")
    return value


def encode_part(text: str) -> bytes:
    """Return a namespace or channel name as part of a field's name; NUL, the separator, is escaped."""
    return (_encode_part if len(text) <= 200 else _encode_part.__wrapped__)(text)


@lru_cache(maxsize=4096)
def _encode_part(text: str) -> bytes:
    if "%" in text or "\0" in text:
        text = text.replace("%", "%25").replace("\0", "%00")
    return id_bytes(text)


def decode_part(raw: bytes) -> str:
    """Return the text that :func:`encode_part` encoded."""
    return id_text(raw).replace("%00", "\0").replace("%25", "%")


def encode_version(version: Any) -> bytes:
    """Return a channel version as the end of a field's name.

    Raises:
        InvalidInputError: It is not a number or text.
    """
    if type(version) is int:
        return b"i%d" % version
    if type(version) is float:
        return b"f" + repr(version).encode()
    if type(version) is str:
        return b"s" + id_bytes(version)
    raise InvalidInputError(f"A channel version must be a number or text, not {type(version).__name__}.")


def field_of(ns: bytes, channel: str, version: Any) -> bytes:
    """Return the name of a value's field, without its first letter."""
    name = b"\0".join((ns, encode_part(channel), encode_version(version)))
    if len(name) > _MAX_BYTES:
        raise InvalidIdError(f"The channel name is longer than {_MAX_BYTES} bytes, its namespace included.")
    return name


def channel_of(field: bytes) -> str:
    """Return the channel of a value's field.

    Raises:
        CorruptDataError: It is not the name of such a field.
    """
    parts = field.split(b"\0", 2)
    if len(parts) != 3:
        raise CorruptDataError("A stored checkpoint names a value that has no channel.")
    return decode_part(parts[1])


def checked_id(value: Any, what: str) -> str:
    """Return ``value`` if it is text that fits in a row."""
    if type(value) is str and len(value) <= _MAX_BYTES // 3:  # nearly always
        return value
    if not isinstance(value, str):
        raise InvalidIdError(f"The {what} must be text, not {type(value).__name__}.")
    if len(value) > _MAX_BYTES // 3 and len(id_bytes(value)) > _MAX_BYTES:
        raise InvalidIdError(f"The {what} is longer than {_MAX_BYTES} bytes.")
    return str.__str__(value)
