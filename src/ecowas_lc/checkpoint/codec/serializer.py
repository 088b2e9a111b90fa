"""The serializer: msgpack with an allowlist, exact, and with references to what a thread holds already.

msgpack carries what msgpack has types for. Two extension types carry the rest: 1 is a reference (the index of a
digest in the blob's list), 2 is an object ``[stored name, data]``, 3 a message's array, 4 a map whose keys are not
all text. A dictionary is always a dictionary: no key in it has a second meaning.
"""

from __future__ import annotations

from typing import Any

import ormsgpack
from langchain_core.messages import BaseMessage

from ecowas_lc.checkpoint.codec.elements import (
    MAX_REFERENCES,
    MESSAGE,
    TEXT,
    VALUE,
    Collector,
    Elements,
    pack_blob,
    split_blob,
)
from ecowas_lc.checkpoint.codec.messages import SPECS, pack_array, unpack_array
from ecowas_lc.checkpoint.codec.types import Allow, Allowlist, put_together, take_apart
from ecowas_lc.errors import CorruptDataError, EcowasError, NotSerializableError

_REFERENCE, _OBJECT, _MESSAGE, _MAP, _SURROGATES = 1, 2, 3, 4, 5

_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
# Shorter texts cost less in place than as an element of their own (a hash entry is about 90 bytes).
LONG_TEXT = 160
# Containers are searched for long texts this deep and wide; beyond, they are stored as they are.
_SEARCH_DEPTH, _SEARCH_WIDTH = 5, 64
_MAX_DEPTH = 200


class Serializer:
    """Strict, exact serialisation of graph state.

    ``allow`` names the classes beyond Python's, LangChain's messages and langgraph's types that may be written
    and read; see :class:`~ecowas_lc.checkpoint.codec.types.Allowlist`. It is also a plain langgraph serializer
    (``dumps_typed``, ``loads_typed``) and can be given to other savers.
    """

    shares = True  # equal items and long texts of a thread are stored once

    def __init__(self, allow: Allow = ()) -> None:
        self.allowed = Allowlist(allow)

    def with_allowed(self, allow: Any) -> Serializer:
        """A serializer that allows these classes too."""
        clone = Serializer()
        clone.allowed = self.allowed.extended(allow)
        return clone

    # langgraph calls this through BaseCheckpointSaver.with_allowlist in its strict mode.
    with_msgpack_allowlist = with_allowed

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """``("ecowas", bytes)``, complete in itself."""
        return "ecowas", self.dump(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """What :meth:`dumps_typed` was given.

        Raises:
            CorruptDataError: these are not its bytes.
            TypeNotAllowedError: a class in them is not allowed; nothing was imported.
        """
        if data[0] != "ecowas":
            raise CorruptDataError(f"This value was written by another serializer ({data[0]!r}).")
        return self.load(data[1])

    def dump(self, value: Any, shared: Collector | None = None) -> bytes:
        """``value`` as a blob; with ``shared``, its long texts become elements.

        Raises:
            NotSerializableError: it holds something that could not be read back the same.
        """
        writer = _Writer(self.allowed, shared)
        payload = writer.pack(writer.lift(value))
        return pack_blob(writer.references, payload)

    def dump_item(self, item: Any, shared: Collector) -> bytes:
        """The digest of a list's item, an element of its own."""
        spec = SPECS.get(type(item))
        if spec is not None:
            array = pack_array(item, spec)
            content = array[1]
            if len(array) == 3 and type(content) is str:
                # Nearly every message of a long thread, on every step: no writer is made for it.
                digest = shared.add_text(content) if len(content) >= LONG_TEXT else None
                if digest is not None:
                    array[1] = None
                try:
                    payload = ormsgpack.packb(array, option=_OPTIONS)
                except TypeError:
                    pass
                else:
                    return shared.add(MESSAGE, [] if digest is None else [digest], payload)
            writer = _Writer(self.allowed, shared)
            payload = writer.pack(writer.lift_message(item, spec))
            return shared.add(MESSAGE, writer.references, payload)
        if type(item) is str and (digest := shared.add_text(item)) is not None:
            return digest
        writer = _Writer(self.allowed, shared)
        payload = writer.pack(writer.lift(item))
        return shared.add(VALUE, writer.references, payload)

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """What :meth:`dump` was given."""
        references, payload = split_blob(blob)
        return _Reader(self.allowed, references, elements).unpack(payload)

    def load_item(self, digest: bytes, elements: Elements) -> Any:
        """What :meth:`dump_item` was given, made anew at each call."""
        kind, references, payload = elements.get(digest)
        if kind == MESSAGE:
            try:
                array = ormsgpack.unpackb(payload)
            except ValueError:  # it has extension types, as few messages have
                array = _Reader(self.allowed, references, elements).unpack(payload)
            return unpack_array(array, elements.text(references[0]) if references else None)
        if kind == TEXT:
            return elements.text(digest)
        if kind == VALUE:
            return _Reader(self.allowed, references, elements).unpack(payload)
        raise CorruptDataError("A stored list refers to an element of an unknown kind.")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Writer:
    """Packs one blob; ``references`` are the digests that it refers to."""

    __slots__ = ("_allowed", "_failure", "_shared", "references")

    def __init__(self, allowed: Allowlist, shared: Collector | None) -> None:
        self.references: list[bytes] = []
        self._allowed = allowed
        self._shared = shared
        self._failure: EcowasError | None = None

    def pack(self, value: Any) -> bytes:
        try:
            return ormsgpack.packb(value, default=self._default, option=_OPTIONS)
        except TypeError as error:
            if self._failure is not None:
                raise self._failure from None
            # Lone surrogates, keys that are not text: rare enough to be found only when msgpack refuses them.
            try:
                rewritten = self._rewrite(value, 0)
                return ormsgpack.packb(rewritten, default=self._default, option=_OPTIONS)
            except TypeError:
                if self._failure is not None:
                    raise self._failure from None
                raise NotSerializableError(f"A value can't be stored: {error}") from error

    def _default(self, value: Any) -> Any:
        try:
            spec = SPECS.get(type(value))
            if spec is not None:
                return ormsgpack.Ext(_MESSAGE, self.pack(pack_array(value, spec)))
            parts = take_apart(value, self._allowed)
            if isinstance(parts, str):
                return parts
            return ormsgpack.Ext(_OBJECT, self.pack(list(parts)))
        except EcowasError as error:
            # ormsgpack replaces what a hook raises with an error of its own.
            self._failure = error
            raise TypeError from error

    def lift(self, value: Any, depth: int = 0) -> Any:
        """``value`` with its long texts replaced by references, so far as they are worth looking for."""
        kind = type(value)
        if kind is str:
            return self._lift_text(value) if len(value) >= LONG_TEXT else value
        if kind is bytearray:
            return ormsgpack.Ext(_OBJECT, self.pack(["bytearray", bytes(value)]))
        if kind is dict and depth <= _SEARCH_DEPTH and len(value) <= _SEARCH_WIDTH:
            return {key: self.lift(inner, depth + 1) for key, inner in value.items()}
        if kind is list and depth <= _SEARCH_DEPTH and len(value) <= _SEARCH_WIDTH:
            return [self.lift(inner, depth + 1) for inner in value]
        if spec := SPECS.get(kind):
            return ormsgpack.Ext(_MESSAGE, self.pack(self.lift_message(value, spec, first=False)))
        return value

    def lift_message(self, message: BaseMessage, spec: Any, first: bool = True) -> list[Any]:
        """A message's array; ``first``: its content may be the blob's first reference, without an index."""
        array = pack_array(message, spec)
        content = array[1]
        if first and self._shared is not None and type(content) is str and len(content) >= LONG_TEXT:
            digest = self._shared.add_text(content)
            if digest is not None:
                self.references.append(digest)
                array[1] = None
        array[1:] = [self.lift(field) for field in array[1:]]
        return array

    def _lift_text(self, text: str) -> Any:
        if self._shared is None or len(self.references) >= MAX_REFERENCES:
            return text
        digest = self._shared.add_text(text)
        if digest is None:
            return text
        self.references.append(digest)
        return ormsgpack.Ext(_REFERENCE, (len(self.references) - 1).to_bytes(2, "big"))

    def _rewrite(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise NotSerializableError(f"A value is nested more than {_MAX_DEPTH} deep (or holds itself).")
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else ormsgpack.Ext(_SURROGATES, value.encode("utf-8", "surrogatepass"))
        if kind is list:
            return [self._rewrite(inner, depth + 1) for inner in value]
        if kind is dict:
            if all(type(key) is str and _is_text(key) for key in value):
                return {key: self._rewrite(inner, depth + 1) for key, inner in value.items()}
            pairs = [
                [self._rewrite(key, depth + 1), self._rewrite(inner, depth + 1)] for key, inner in value.items()
            ]
            return ormsgpack.Ext(_MAP, self.pack(pairs))
        return value


class _Reader:
    """Unpacks one blob."""

    __slots__ = ("_allowed", "_elements", "_failure", "_references")

    def __init__(self, allowed: Allowlist, references: list[bytes], elements: Elements | None) -> None:
        self._allowed = allowed
        self._references = references
        self._elements = elements
        self._failure: EcowasError | None = None

    def unpack(self, payload: bytes) -> Any:
        try:
            return ormsgpack.unpackb(payload, ext_hook=self._hook)
        except EcowasError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            if self._failure is not None:
                raise self._failure from None
            raise CorruptDataError("A stored value is not in the storage format.") from error

    def _hook(self, code: int, data: bytes) -> Any:
        try:
            if code == _REFERENCE:
                return self._reference(data)
            if code == _SURROGATES:
                return data.decode("utf-8", "surrogatepass")
            inner = self.unpack(data)
            if code == _MESSAGE:
                return unpack_array(inner, None)
            if code == _MAP:
                return dict(inner)
            if code == _OBJECT:
                return put_together(inner[0], inner[1], self._allowed)
        except EcowasError as error:
            self._failure = error
            raise
        except (ValueError, TypeError, IndexError) as error:
            self._failure = CorruptDataError("A stored value is not in the storage format.")
            raise self._failure from error
        raise CorruptDataError(f"A stored value has an extension type {code} that this version does not know.")

    def _reference(self, data: bytes) -> str:
        index = int.from_bytes(data, "big")
        if self._elements is None or index >= len(self._references):
            raise CorruptDataError("A stored value refers to an element that it does not list.")
        return self._elements.text(self._references[index])


class GivenSerializer:
    """A langgraph serializer that the user chose, used as it is: its values are opaque, so nothing is shared."""

    shares = False

    def __init__(self, serde: Any) -> None:
        self.serde = serde

    def dump(self, value: Any, shared: Collector | None = None) -> bytes:
        """``value`` as a blob that holds the serializer's type and bytes."""
        kind, data = self.serde.dumps_typed(value)
        return pack_blob([], ormsgpack.packb([kind, bytes(data)]))

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """What :meth:`dump` was given."""
        try:
            kind, data = ormsgpack.unpackb(split_blob(blob)[1])
        except (ValueError, TypeError) as error:
            raise CorruptDataError("A stored value was not written with this serializer.") from error
        return self.serde.loads_typed((kind, data))
