"""Conversion of values to payloads and back: msgpack with extension types, and references for long values.

Five extension types: 1 is a reference (the index of a digest in the blob's list), 2 is an object ``[stored name,
data]``, 3 a message's array, 4 a map with keys that are not text, 5 text that has no UTF-8 form. A dictionary is
always a dictionary: none of its keys has a special meaning. Reading imports and constructs only what the allowlist
names.

Nesting is limited, on writing as on reading. msgpack's own limit restarts inside each extension, and each level
takes space on the C stack, which no ``RecursionError`` protects: without a limit of our own, a few kilobytes of
extensions crash the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ormsgpack
from langgraph.types import Send

from ecowas_lc.checkpoint.codec.allowlist import Allowlist
from ecowas_lc.checkpoint.codec.elements import (
    HELD_BYTES,
    MAX_REFERENCES,
    TEXT,
    VALUE,
    Collector,
    Elements,
    is_sealed,
)
from ecowas_lc.checkpoint.codec.message_arrays import SPECS, Spec, pack_array, unpack_array
from ecowas_lc.checkpoint.codec.types import put_together, take_apart
from ecowas_lc.errors import CorruptDataError, DecryptionError, EcowasError, NotSerializableError

MOST_WRITTEN = 200
"""Maximum nesting of objects that the writer accepts."""
MOST_READ = 500
"""Maximum nesting of objects that the reader accepts: earlier versions wrote as deep as their stack allowed."""
MOST_NESTED = 2048
"""Maximum nesting of arrays, maps and extensions, including the contents of extensions."""
MOST_IN_ONE = 1023
"""msgpack's own limit for the nesting of arrays and maps, outside of extensions."""

# The number of bytes between a head of this type and its contents, such as those of the length.
_FIXED = {0xC0: 0, 0xC1: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_SHORT_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def nests_too_deep(payload: bytes, opened: frozenset[int]) -> bool:
    """Return whether a payload nests deeper than ``MOST_NESTED``; ``opened``: extension codes with msgpack.

    It reads the heads one by one without recursion. A truncated payload ends early.
    """
    at, size = 0, len(payload)
    left: list[int] = []  # the number of items left in each open container
    while at < size:
        head = payload[at]
        at += 1
        items = 0
        if head < 0x80 or head >= 0xE0:
            pass
        elif head < 0xA0:
            items = 2 * (head & 15) if head < 0x90 else head & 15
        elif head < 0xC0:
            at += head & 31
        elif head in _FIXED:
            at += _FIXED[head]
        elif head in _BYTES:
            width = _BYTES[head]
            at += width + int.from_bytes(payload[at : at + width], "big")
        elif head in _CONTAINERS:
            width, each = _CONTAINERS[head]
            items = each * int.from_bytes(payload[at : at + width], "big")
            at += width
        else:
            if head in _EXTENSIONS:
                width = _EXTENSIONS[head]
                length = int.from_bytes(payload[at : at + width], "big")
                at += width
            else:
                length = _SHORT_EXTENSIONS[head]
            code = payload[at] if at < size else 0
            at += 1
            if code in opened and length:
                items = 1
            else:
                at += length
        if items:
            left.append(items)
            if len(left) > MOST_NESTED:
                return True
            continue
        while left:
            left[-1] -= 1
            if left[-1]:
                break
            left.pop()
    return False


REFERENCE, OBJECT, MESSAGE_ARRAY, MAP, SURROGATES = 1, 2, 3, 4, 5
_HOLD_MSGPACK = frozenset({OBJECT, MESSAGE_ARRAY, MAP})

OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
# Shorter texts cost less in place than as a separate element (a hash entry takes about 90 bytes).
LONG_TEXT = 160
LARGE = 1024  # bytes from which a value becomes a separate element
FIRST_REFERENCE = ormsgpack.packb(ormsgpack.Ext(REFERENCE, b"\0\0"))
# The depth and width to which containers are searched for long texts; texts beyond that are stored in place.
_SEARCH_DEPTH, _SEARCH_WIDTH = 5, 64
_TOO_DEEP = f"A value can't be stored: it is nested more than {MOST_WRITTEN} levels deep, or contains itself."
_DEEPER = "A stored value is damaged: it is nested more deeply than any that this package writes."
_FEW_LEVELS = 8  # of extensions: msgpack's own limit of 254 in each keeps these well within MOST_NESTED
_SCALARS = (type(None), bool, int, float, str)
_UNCHANGED = frozenset((type(None), bool, int, float))  # by lift(), which is not called for them


class BlobWriter:
    """Packs one blob; ``references`` are the digests that it refers to."""

    __slots__ = ("_allowed", "_deepest", "_failure", "_level", "_shared", "references")

    def __init__(self, allowed: Allowlist, shared: Collector | None) -> None:
        self.references: list[bytes] = []
        self._allowed = allowed
        self._shared = shared
        self._failure: EcowasError | None = None
        self._level = self._deepest = 0  # of extensions

    def pack(self, value: Any) -> bytes:
        """Return a lifted value's payload.

        Raises:
            NotSerializableError: It holds data that could not be read back the same.
        """
        try:
            packed = self._packed(value)
        except RecursionError as error:
            raise NotSerializableError(_TOO_DEEP) from error
        if self._deepest > _FEW_LEVELS and nests_too_deep(packed, _HOLD_MSGPACK):
            raise NotSerializableError(_TOO_DEEP)
        return packed

    def _extension(self, code: int, make: Callable[[], Any]) -> Any:
        """Return the result of ``make``, packed one level deeper."""
        self._level += 1
        self._deepest = max(self._deepest, self._level)
        try:
            if self._level > MOST_WRITTEN:
                raise NotSerializableError(_TOO_DEEP)
            return ormsgpack.Ext(code, self._packed(make()))
        finally:
            self._level -= 1

    def _packed(self, value: Any) -> bytes:
        try:
            packed: bytes = ormsgpack.packb(value, default=self._default, option=OPTIONS)
            # msgpack silently converts bytearrays to bytes. They are rare: look for them only if there are bytes.
            if may_hold_buffers(packed, value):
                packed = ormsgpack.packb(self._rewrite(value, 0), default=self._default, option=OPTIONS)
            return packed
        except NotSerializableError:
            raise
        except TypeError as error:
            if self._failure is not None:
                raise self._failure from None
            # Lone surrogates and keys that are not text are rare: they are handled only if msgpack refuses them.
            try:
                rewritten = self._rewrite(value, 0)
                return ormsgpack.packb(rewritten, default=self._default, option=OPTIONS)
            except NotSerializableError:
                raise
            except TypeError:
                raise self._failure or NotSerializableError(f"A value can't be stored: {error}") from None

    def _default(self, value: Any) -> Any:
        try:
            spec = SPECS.get(type(value))
            if spec is not None:
                return self._message(value, spec)
            return self._object(value)
        except EcowasError as error:
            # ormsgpack replaces a hook's exception with its own error.
            self._failure = error
            raise TypeError from error
        except RecursionError as error:
            self._failure = NotSerializableError(_TOO_DEEP)
            raise TypeError from error

    def _object(self, value: Any) -> Any:
        parts = take_apart(value, self._allowed)
        if isinstance(parts, str):
            return parts
        return self._extension(OBJECT, lambda: [parts[0], self.lift(parts[1])])

    def lift(self, value: Any, depth: int = 0) -> Any:
        """Return ``value`` with its long texts replaced by references, within the limits of the search."""
        # Another thread may change it in the meantime: langgraph stores a step while the next one runs.
        kind = type(value)
        if kind is str:
            return self.lift_text(value) if len(value) >= LONG_TEXT else value
        if kind is dict and depth <= _SEARCH_DEPTH and len(value) <= _SEARCH_WIDTH:
            return {
                key: inner if type(inner) in _UNCHANGED else self.lift(inner, depth + 1)
                for key, inner in list(value.items())
            }
        if kind is list and depth <= _SEARCH_DEPTH and (len(value) <= _SEARCH_WIDTH or type(value[-1]) in SPECS):
            return [inner if type(inner) in _UNCHANGED else self.lift(inner, depth + 1) for inner in value]
        if spec := SPECS.get(kind):
            return self._message(value, spec)
        # Each task of a fan-out is one of these. msgpack would ask for its parts each time it packs the value.
        return self._object(value) if kind is Send else value

    def _message(self, value: Any, spec: Spec) -> Any:
        return self._extension(
            MESSAGE_ARRAY,
            lambda: [
                field if type(field) in _UNCHANGED else self.lift(field) for field in pack_array(value, spec)
            ],
        )

    def large(self, value: Any) -> Any:
        """Return ``value`` lifted, or a reference to it if it is still large."""
        if self._shared is not None and is_large_bytes(value) and len(self.references) < MAX_REFERENCES:
            return self._refer(self._shared.add_bytes(value))
        if self._shared is None or type(value) in _SCALARS:
            return self.lift(value)
        inner = BlobWriter(self._allowed, self._shared)
        lifted = inner.lift(value)
        payload = inner.pack(lifted)
        if len(payload) >= LARGE and len(self.references) < MAX_REFERENCES:
            return self._refer(self._shared.add(VALUE, inner.references, payload))
        if self.references:
            return self.lift(value)  # again, because its references have other numbers here
        self.references, self._deepest = inner.references, max(self._deepest, inner._deepest)
        return lifted

    def lift_array(self, array: list[Any]) -> list[Any]:
        """Return a message's array; long content becomes the blob's first reference, and nil in the array."""
        head: list[Any] = [array[0], array[1]]
        content = array[1]
        if self._shared is not None and type(content) is str and len(content) >= LONG_TEXT:
            digest = self._shared.add_text(content)
            if digest is not None:
                self.references.append(digest)
                head[1] = None
        if head[1] is not None:
            head[1] = self.lift(content)
        return head + [field if type(field) in _UNCHANGED else self.lift(field) for field in array[2:]]

    def lift_text(self, text: str) -> Any:
        """Return a reference to a long text if possible, else the text."""
        if self._shared is None or len(self.references) >= MAX_REFERENCES:
            return text
        digest = self._shared.add_text(text)
        if digest is None:
            return text
        return self._refer(digest)

    def _refer(self, digest: bytes) -> Any:
        self.references.append(digest)
        return ormsgpack.Ext(REFERENCE, (len(self.references) - 1).to_bytes(2, "big"))

    def _rewrite(self, value: Any, depth: int) -> Any:
        if depth > MOST_WRITTEN:
            raise NotSerializableError(_TOO_DEEP)
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else ormsgpack.Ext(SURROGATES, value.encode("utf-8", "surrogatepass"))
        if kind is list:
            return [self._rewrite(inner, depth + 1) for inner in value]
        if kind is dict:
            if all(type(key) is str and _is_text(key) for key in value):
                return {key: self._rewrite(inner, depth + 1) for key, inner in value.items()}
            pairs = list(value.items())
            return self._extension(
                MAP, lambda: [[self._rewrite(part, depth + 1) for part in pair] for pair in pairs]
            )
        if kind is bytearray:
            return self._extension(OBJECT, lambda: list(take_apart(value, self._allowed)))
        if kind is memoryview:
            raise NotSerializableError("A memoryview can't be stored. Use bytes(…).")
        return value


def is_large_bytes(value: Any) -> bool:
    """Return whether ``value`` is bytes that become an element of their own, packed without a copy."""
    return type(value) is bytes and LARGE <= len(value) < 2**32


def may_hold_buffers(packed: bytes, value: Any) -> bool:
    """Return whether ``value`` may hold bytearrays, which msgpack converts to bytes."""
    # The first bytes of msgpack's binary type, which other data may also start with.
    return (b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed) and _holds_buffers(value)


def _holds_buffers(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind is bytearray or kind is memoryview
    for inner in value:  # inline, because nearly all are scalars, and a call for each would cost the most
        kind = type(inner)
        if (kind is list or kind is dict or kind is tuple) and _holds_buffers(inner):
            return True
        if kind is bytearray or kind is memoryview:
            return True
    return False


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class BlobReader:
    """Unpacks one blob."""

    __slots__ = (
        "_allowed", "_elements", "_failure", "_is_element", "_level", "_nested", "_references", "_whole",
    )  # fmt: skip

    def __init__(
        self, allowed: Allowlist, references: list[bytes], elements: Elements | None, is_element: bool = False
    ) -> None:
        self._allowed = allowed
        self._references = references
        self._elements = elements
        self._is_element = is_element
        self._failure: BaseException | None = None
        self._level = 0  # of extensions
        self._nested = 0  # the maximum nesting in them
        self._whole: bytes | None = None  # the payload, until its nesting was checked

    def unpack(self, payload: bytes) -> Any:
        """Return a payload's value.

        Raises:
            CorruptDataError: It does not follow the storage format.
            TypeNotAllowedError: It names a class that is not allowed; nothing was imported.
        """
        self._whole, self._nested = payload, min(len(payload), MOST_IN_ONE)
        return self._unpacked(payload)

    def _unpacked(self, payload: bytes) -> Any:
        try:
            return ormsgpack.unpackb(payload, ext_hook=self._hook)
        except Exception as error:
            if self._failure is not None:
                raise self._failure from None
            if is_sealed(payload):
                raise DecryptionError(
                    "A stored value is encrypted: read it with serde=EncryptedRedisSerializer(…) and its key."
                ) from error
            raise CorruptDataError("A stored value is not in the storage format.") from error

    def _check_depth(self) -> None:
        if self._nested > MOST_NESTED and self._whole is not None:
            # By its length it may be too deep. This is rare, so check the whole payload, once.
            if nests_too_deep(self._whole, _HOLD_MSGPACK):
                raise CorruptDataError(_DEEPER)
            self._whole = None
        if self._level > MOST_READ:
            raise CorruptDataError(_DEEPER)

    def _hook(self, code: int, data: bytes) -> Any:
        # Merged with _unpacked to save stack: earlier versions wrote as deep as Python's stack allowed.
        nested = self._nested
        try:
            if code == REFERENCE:
                return self._reference(data)
            if code == SURROGATES:
                return data.decode("utf-8", "surrogatepass")
            if code not in _HOLD_MSGPACK:
                raise CorruptDataError(
                    f"A stored value has an extension type {code} that this version does not know."
                )
            self._level += 1
            self._nested = nested + 1 + min(len(data), MOST_IN_ONE)
            self._check_depth()
            inner = self._unpacked(data)
            self._level -= 1
            self._nested = nested
            if code == MESSAGE_ARRAY:
                return unpack_array(inner, None)
            if code == MAP:
                return dict(inner)
            return put_together(inner[0], inner[1], self._allowed)
        except EcowasError as error:
            self._failure = error
            raise
        except Exception as error:
            self._failure = CorruptDataError("A stored value is not in the storage format.")
            raise self._failure from error
        except BaseException as error:  # Ctrl-C, which msgpack would replace with its own error
            self._failure = error
            raise

    def _reference(self, data: bytes) -> Any:
        index = int.from_bytes(data, "big")
        if self._elements is None or index >= len(self._references):
            raise CorruptDataError("A stored value refers to an element that it does not list.")
        digest = self._references[index]
        held = self._elements.held.get(digest)
        if type(held) is bytes and not self._is_element:
            return held
        kind, references, payload = self._elements.get(digest)
        if kind == TEXT:
            return self._elements.text(digest)
        if kind != VALUE or self._is_element:
            # Written elements refer only to texts. Chains of values could expand without end, so they are refused.
            raise CorruptDataError("A stored value refers to an element of the wrong kind.")
        self._elements.count_value(digest, payload)
        value = BlobReader(self._allowed, references, self._elements, is_element=True).unpack(payload)
        if type(value) is bytes and len(value) >= HELD_BYTES:
            self._elements.held[digest] = value
        return value
