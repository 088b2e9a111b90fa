"""The serializer: msgpack with an allowlist, exact, and with references to what a thread holds already.

msgpack carries what msgpack has types for. Five extension types carry the rest: 1 is a reference (the index of a
digest in the blob's list), 2 is an object ``[stored name, data]``, 3 a message's array, 4 a map whose keys are not
all text, 5 text that is no UTF-8. A dictionary is always a dictionary: no key in it has a second meaning.
"""

from __future__ import annotations

from typing import Any

import ormsgpack

from ecowas_lc.checkpoint.codec.allowlist import Allow, Allowlist
from ecowas_lc.checkpoint.codec.elements import (
    MAX_REFERENCES,
    MESSAGE,
    PLAIN_TEXT,
    TEXT,
    VALUE,
    Collector,
    Elements,
    pack_blob,
    split_blob,
)
from ecowas_lc.checkpoint.codec.messages import SPECS, Spec, is_simple, pack_array, unpack_array
from ecowas_lc.checkpoint.codec.types import put_together, take_apart
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
_LONG_NAMES = 48
_LARGE = 1024
_FIRST_REFERENCE = ormsgpack.packb(ormsgpack.Ext(_REFERENCE, b"\0\0"))
# Containers are searched for long texts this deep and wide; beyond, they are stored as they are.
_SEARCH_DEPTH, _SEARCH_WIDTH = 5, 64
_MAX_DEPTH = 200
_TOO_DEEP = f"A value is nested more than {_MAX_DEPTH} deep (or holds itself): it can't be stored."
_BIN = (b"\xc4", b"\xc5", b"\xc6")  # what msgpack's bytes begin with; so may other things


_SCALARS = (type(None), bool, int, float, str)


class Serializer:
    """Strict, exact serialisation of graph state.

    ``allow`` names the classes beyond Python's, LangChain's messages and langgraph's types that may be written
    and read; see :class:`~ecowas_lc.checkpoint.codec.allowlist.Allowlist`. It is also a plain langgraph serializer
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
        if shared is not None and len(payload) >= _LARGE:
            return pack_blob([shared.add(VALUE, writer.references, payload)], _FIRST_REFERENCE)
        return pack_blob(writer.references, payload)

    def dump_batch(self, task_id: str, task_path: str, rows: list[list[Any]], shared: Collector | None) -> bytes:
        """A batch of pending writes (index, channel, value) as a blob; large values are elements of their own.

        The channel that a write goes to often has the same value on the next step: it is then stored once.
        """
        writer = _Writer(self.allowed, shared)
        if shared is not None:
            rows = [[*row[:2], writer.large(row[2])] for row in rows]
        return pack_blob(writer.references, writer.pack([task_id, task_path, rows]))

    def dump_row(self, parts: list[Any], names: str, shared: Collector | None = None) -> bytes:
        """A checkpoint's envelope as a blob; ``names``, the same from step to step, become an element."""
        writer = _Writer(self.allowed, shared)
        listed = writer.lift_text(names) if len(names) >= _LONG_NAMES else names
        return pack_blob(writer.references, writer.pack([*parts, listed]))

    def dump_items(self, items: list[Any], shared: Collector) -> list[bytes]:
        """The digests of a list's items, each an element of its own."""
        digests = []
        seen = shared.seen.messages
        for item in items:
            spec = SPECS.get(type(item))
            if spec is not None:
                # Nearly every message of a long thread, on every step: simple, and seen before. All that its
                # element is made of is compared here, so that one that was changed in place is found.
                state = item.__dict__
                content, id_ = state.get("content"), state.get("id")
                if type(content) is str and (id_ is None or type(id_) is str) and is_simple(item, state, spec):
                    digest = seen.get((spec.code, content, id_))
                    if digest is not None:
                        digests.append(digest)
                        continue
            digests.append(self._dump_item(item, shared))
        shared.add_source(digests, items, self._dump_item)
        return digests

    def _dump_item(self, item: Any, shared: Collector) -> bytes:
        spec = SPECS.get(type(item))
        if spec is None:
            return self._dump_value(item, shared)
        array = pack_array(item, spec)
        writer = _Writer(self.allowed, shared)
        payload = writer.pack(writer.lift_array(array))
        digest = shared.add(MESSAGE, writer.references, payload)
        if len(array) == 3 and type(array[1]) is str and (array[2] is None or type(array[2]) is str):
            shared.seen.messages[spec.code, array[1], array[2]] = digest
        return digest

    def _dump_value(self, item: Any, shared: Collector) -> bytes:
        if type(item) is str and (digest := shared.add_text(item)) is not None:
            return digest
        writer = _Writer(self.allowed, shared)
        payload = writer.pack(writer.lift(item))
        return shared.add(VALUE, writer.references, payload)

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """What :meth:`dump` was given."""
        references, payload = split_blob(blob)
        return _Reader(self.allowed, references, elements).unpack(payload)

    def load_items(self, digests: list[bytes], elements: Elements) -> list[Any]:
        """What :meth:`dump_items` was given, made anew at each call."""
        out = []
        plain = elements.plain or {}
        unpack = ormsgpack.unpackb
        for digest in digests:
            blob = plain.get(digest)
            if blob is not None and blob[:2] == b"\x00\x01" and blob[18:19] == MESSAGE:
                text = plain.get(blob[2:18])
                if text is not None and text[:3] == PLAIN_TEXT:
                    try:
                        out.append(unpack_array(unpack(blob[19:]), text[3:].decode()))
                        continue
                    except ValueError:  # extension types, or corrupt: the slow way tells
                        pass
            out.append(self._load_item(digest, elements))
        return out

    def _load_item(self, digest: bytes, elements: Elements) -> Any:
        kind, references, payload = elements.get(digest)
        if kind == MESSAGE:
            array = _Reader(self.allowed, references, elements, is_element=True).unpack(payload)
            # Only a content of nil is the first reference; others are met by their index.
            first = type(array) is list and len(array) > 1 and array[1] is None and references
            return unpack_array(array, elements.text(references[0]) if first else None)
        if kind == TEXT:
            return elements.text(digest)
        if kind == VALUE:
            return _Reader(self.allowed, references, elements, is_element=True).unpack(payload)
        raise CorruptDataError("A stored list refers to an element of an unknown kind.")


def _holds_buffers(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return any(_holds_buffers(inner) for inner in value)
    if kind is dict:
        return any(_holds_buffers(inner) for inner in value.values())
    return kind is bytearray or kind is memoryview


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
            packed: bytes = ormsgpack.packb(value, default=self._default, option=_OPTIONS)
            # msgpack makes bytes of bytearrays, unasked: rare enough to be looked for only where there are bytes.
            if any(mark in packed for mark in _BIN) and _holds_buffers(value):
                packed = ormsgpack.packb(self._rewrite(value, 0), default=self._default, option=_OPTIONS)
            return packed
        except NotSerializableError:
            raise
        except TypeError as error:
            if self._failure is not None:
                raise self._failure from None
            # Lone surrogates, keys that are not text: rare enough to be found only when msgpack refuses them.
            try:
                rewritten = self._rewrite(value, 0)
                return ormsgpack.packb(rewritten, default=self._default, option=_OPTIONS)
            except NotSerializableError:
                raise
            except TypeError:
                if self._failure is not None:
                    raise self._failure from None
                raise NotSerializableError(f"A value can't be stored: {error}") from error

    def _default(self, value: Any) -> Any:
        try:
            spec = SPECS.get(type(value))
            if spec is not None:
                return self._message(value, spec)
            parts = take_apart(value, self._allowed)
            if isinstance(parts, str):
                return parts
            return ormsgpack.Ext(_OBJECT, self.pack([parts[0], self.lift(parts[1])]))
        except EcowasError as error:
            # ormsgpack replaces what a hook raises with an error of its own.
            self._failure = error
            raise TypeError from error
        except RecursionError as error:
            self._failure = NotSerializableError(_TOO_DEEP)
            raise TypeError from error

    def lift(self, value: Any, depth: int = 0) -> Any:
        """``value`` with its long texts replaced by references, so far as they are worth looking for."""
        # Another thread may change it meanwhile: langgraph stores a step while the next one runs.
        kind = type(value)
        if kind is str:
            return self.lift_text(value) if len(value) >= LONG_TEXT else value
        if kind is dict and depth <= _SEARCH_DEPTH and len(value) <= _SEARCH_WIDTH:
            return {key: self.lift(inner, depth + 1) for key, inner in list(value.items())}
        if kind is list and depth <= _SEARCH_DEPTH and (len(value) <= _SEARCH_WIDTH or type(value[-1]) in SPECS):
            return [self.lift(inner, depth + 1) for inner in value]
        if spec := SPECS.get(kind):
            return self._message(value, spec)
        return value

    def _message(self, value: Any, spec: Spec) -> Any:
        return ormsgpack.Ext(_MESSAGE, self.pack([self.lift(field) for field in pack_array(value, spec)]))

    def large(self, value: Any) -> Any:
        """``value`` lifted, or a reference to it where it is large even so."""
        lifted = self.lift(value)
        if self._shared is None or type(value) in _SCALARS:
            return lifted
        inner = _Writer(self._allowed, self._shared)
        payload = inner.pack(inner.lift(value))
        if len(payload) < _LARGE or len(self.references) >= MAX_REFERENCES:
            return lifted
        return self._refer(self._shared.add(VALUE, inner.references, payload))

    def lift_array(self, array: list[Any]) -> list[Any]:
        """A message's array whose long content is the blob's first reference, told by nil instead of an index."""
        head: list[Any] = [array[0], array[1]]
        content = array[1]
        if self._shared is not None and type(content) is str and len(content) >= LONG_TEXT:
            digest = self._shared.add_text(content)
            if digest is not None:
                self.references.append(digest)
                head[1] = None
        if head[1] is not None:
            head[1] = self.lift(content)
        return head + [self.lift(field) for field in array[2:]]

    def lift_text(self, text: str) -> Any:
        """A reference to a long text, where one can be made."""
        if self._shared is None or len(self.references) >= MAX_REFERENCES:
            return text
        digest = self._shared.add_text(text)
        if digest is None:
            return text
        return self._refer(digest)

    def _refer(self, digest: bytes) -> Any:
        self.references.append(digest)
        return ormsgpack.Ext(_REFERENCE, (len(self.references) - 1).to_bytes(2, "big"))

    def _rewrite(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise NotSerializableError(_TOO_DEEP)
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
        if kind is bytearray:
            return ormsgpack.Ext(_OBJECT, self.pack(list(take_apart(value, self._allowed))))
        if kind is memoryview:
            raise NotSerializableError("A memoryview can't be stored. Use bytes(…).")
        return value


class _Reader:
    """Unpacks one blob."""

    __slots__ = ("_allowed", "_elements", "_failure", "_is_element", "_references")

    def __init__(
        self, allowed: Allowlist, references: list[bytes], elements: Elements | None, is_element: bool = False
    ) -> None:
        self._allowed = allowed
        self._references = references
        self._elements = elements
        self._is_element = is_element
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

    def _reference(self, data: bytes) -> Any:
        index = int.from_bytes(data, "big")
        if self._elements is None or index >= len(self._references):
            raise CorruptDataError("A stored value refers to an element that it does not list.")
        digest = self._references[index]
        kind, references, payload = self._elements.get(digest)
        if kind == TEXT:
            return self._elements.text(digest)
        if kind != VALUE or self._is_element:
            # Elements are written with references to texts alone: chains of values could unfold without end.
            raise CorruptDataError("A stored value refers to an element of the wrong kind.")
        return _Reader(self._allowed, references, self._elements, is_element=True).unpack(payload)


class GivenSerializer:
    """A langgraph serializer that the user chose, used as it is: its values are opaque, so nothing is shared."""

    shares = False

    def __init__(self, serde: Any) -> None:
        self.serde = serde

    def dump(self, value: Any, shared: Collector | None = None) -> bytes:
        """``value`` as a blob that holds the serializer's type and bytes."""
        kind, data = self.serde.dumps_typed(value)
        return pack_blob([], ormsgpack.packb([kind, bytes(data)]))

    def dump_row(self, parts: list[Any], names: str, shared: Collector | None = None) -> bytes:
        """A checkpoint's envelope as a blob."""
        return self.dump([*parts, names])

    def dump_batch(self, task_id: str, task_path: str, rows: list[list[Any]], shared: Collector | None) -> bytes:
        """A batch of pending writes as a blob."""
        return self.dump([task_id, task_path, rows])

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """What :meth:`dump` was given."""
        try:
            kind, data = ormsgpack.unpackb(split_blob(blob)[1])
        except (ValueError, TypeError) as error:
            raise CorruptDataError("A stored value was not written with this serializer.") from error
        try:
            return self.serde.loads_typed((kind, data))
        except EcowasError:
            raise
        except Exception as error:
            raise CorruptDataError(
                f"A stored value can't be read with {type(self.serde).__name__}: {error}. "
                "Give the saver the serde, and the key, that it was written with."
            ) from error
