"""Elements: data that a thread stores once and refers to by digest (long texts, and the items of shared lists).

A *blob* is a number of references (2 bytes, big-endian), that many digests (16 bytes each) and a payload in which
a reference is its index. The server follows references without knowing the payload's contents. An element is a
blob whose payload starts with a letter for its kind. Its digest is the beginning of the blob's SHA-256, for which
most processors have instructions. If values are encrypted, it is a keyed BLAKE2b, so that equal texts in two
threads can't be recognised. Only writers compute digests: to a reader they are names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b, sha256
from typing import Any, NamedTuple, Protocol, cast

from ecowas_lc import forks
from ecowas_lc.errors import CorruptDataError

DIGEST_BYTES = 16
MAX_REFERENCES = 65_535
NO_REFERENCES = b"\x00\x00"

TEXT = b"s"  # UTF-8
MESSAGE = b"m"  # a LangChain message, see codec/message_arrays.py
VALUE = b"x"  # any other value, see codec/msgpack.py
# 0xC1 is the only byte that msgpack never writes, and not a kind of element: it marks an encrypted payload.
SEALED = b"\xc1\x01"
PLAIN_TEXT = NO_REFERENCES + TEXT
# Texts and bytes from this size on are kept by the process, sent by one call at a time, and not read again.
HELD_BYTES = 16_384
ElementContent = bytes | str
"""A value that never changes, so that one object serves all who read it."""


class Sealer(Protocol):
    """An object that encrypts payloads; ``None`` in its place leaves them unchanged."""

    def digest_key(self, thread: bytes) -> bytes:
        """Return the key of a thread's digests and marks, at most 64 bytes."""

    def mark_keys(self, thread: bytes) -> list[bytes]:
        """Return the keys that a thread's marks may have been made with."""

    def seal(self, payload: bytes, context: bytes) -> bytes:
        """Return ``payload`` encrypted and bound to ``context``."""

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the payload that :meth:`seal` encrypted in the same context."""


def pack_blob(references: list[bytes], payload: bytes) -> bytes:
    """Return a blob that refers to ``references``."""
    if not references:
        return NO_REFERENCES + payload
    return b"".join((len(references).to_bytes(2, "big"), *references, payload))


def split_blob(blob: bytes, start: int = 0) -> tuple[list[bytes], bytes]:
    """Return a blob's references and payload.

    Raises:
        CorruptDataError: The blob is shorter than its header says.
    """
    body = start + 2
    count = int.from_bytes(blob[start:body], "big")
    if not count and len(blob) >= body:
        return [], blob[body:]
    end = body + DIGEST_BYTES * count
    if len(blob) < end:
        raise CorruptDataError("A stored value is truncated.")
    return [blob[at : at + DIGEST_BYTES] for at in range(body, end, DIGEST_BYTES)], blob[end:]


def is_sealed(payload: bytes) -> bool:
    """Return whether a stored payload is encrypted."""
    return payload.startswith(SEALED)


def digests_in(joined: bytes) -> list[bytes]:
    """Return digests that are stored one after the other."""
    return [joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES)]


class ChangedMeanwhileError(Exception):
    """A value was changed in place while it was being stored, so it must be serialised again."""


_hashing = forks.Lock()  # so that a value is hashed once, though a step's writes and its checkpoint both hold it


class Digests:
    """Digests of recently seen texts, and of messages by their recipes, in this process.

    :class:`~ecowas_lc.checkpoint.client_cache.ClientCache` limits their size.
    """

    __slots__ = ("characters", "large", "messages", "texts")

    def __init__(self) -> None:
        self.characters = 0  # total length of all texts and large bytes, plus bytes in recipes
        self.texts: dict[str, bytes] = {}
        self.large: dict[int, tuple[bytes, bytes]] = {}  # bytes by id, with the object itself, and their digest
        self.messages: dict[Any, bytes] = {}


class _Source:
    """The items of a list, by digest; the table is built when one is first needed."""

    __slots__ = ("_by_digest", "_digests", "_dump", "_items")

    def __init__(self, digests: list[bytes], items: list[Any], dump: Callable[[Any, Collector], bytes]) -> None:
        self._digests = digests
        self._items = items
        self._dump = dump
        self._by_digest: dict[bytes, Any] | None = None

    def remake(self, digest: bytes, into: Collector) -> None:
        if self._by_digest is None:
            self._by_digest = dict(zip(self._digests, self._items, strict=False))
        if digest in self._by_digest:
            self._dump(self._by_digest[digest], into)


class Collector:
    """Collects the elements of one write, each once; simple ones are packed only when they are sent."""

    __slots__ = ("_context", "_sealer", "_sources", "bodies", "key", "seen")

    def __init__(self, context: bytes, sealer: Sealer | None, seen: Digests, key: bytes) -> None:
        # An element's blob, or what it is packed from when it is sent: a text, or a view of bytes.
        self.bodies: dict[bytes, bytes | str | memoryview] = {}
        self.seen = seen
        self.key = key
        self._sources: list[_Source] = []
        self._sealer = sealer
        self._context = context

    def add(self, kind: bytes, references: list[bytes], payload: bytes) -> bytes:
        """Return the digest of this element, which is sent if the server may lack it."""
        blob = pack_blob(references, kind + payload)
        digest: bytes = self._hash(blob).digest()[:DIGEST_BYTES]
        self.bodies[digest] = blob
        return digest

    def _hash(self, data: bytes) -> Any:
        return blake2b(data, digest_size=DIGEST_BYTES, key=self.key) if self.key else sha256(data)

    def add_text(self, text: str) -> bytes | None:
        """Return the digest of a long text, or ``None`` if it has no UTF-8 form (lone surrogates)."""
        digest = self.seen.texts.get(text)
        if digest is None:
            try:
                digest = self.add(TEXT, [], text.encode())
            except UnicodeEncodeError:
                return None
            self.seen.texts[text] = digest
            self.seen.characters += len(text)
        self.bodies[digest] = text
        return digest

    def add_bytes(self, value: bytes) -> bytes:
        """Return the digest of large bytes; an object that was added before is not hashed again."""
        seen = self.seen
        with _hashing:
            known, digest = seen.large.get(id(value), (None, b""))
            if known is not value:
                hashed = self._hash(_head_of_bytes(value))
                hashed.update(value)
                digest = hashed.digest()[:DIGEST_BYTES]
                seen.large[id(value)] = value, digest
                seen.characters += len(value)
        self.bodies[digest] = memoryview(value)
        return digest

    def large(self, digests: Iterable[bytes]) -> dict[bytes, ElementContent]:
        """Return those of these elements that are large texts or large bytes, with their values."""
        out: dict[bytes, ElementContent] = {}
        for digest in digests:
            body = self.bodies.get(digest)
            if isinstance(body, (str, memoryview)) and len(body) >= HELD_BYTES:
                out[digest] = body if isinstance(body, str) else cast("bytes", body.obj)
        return out

    def add_source(self, digests: list[bytes], items: list[Any], dump: Callable[[Any, Collector], bytes]) -> None:
        """Record how to create the elements of a list's items again, in case the server lacks one."""
        self._sources.append(_Source(digests, items, dump))

    def _blob(self, digest: bytes) -> bytes:
        body = self.bodies.get(digest)
        if body is None:
            for source in self._sources:
                source.remake(digest, self)
            body = self.bodies.get(digest)
            if body is None:
                raise ChangedMeanwhileError
        if isinstance(body, memoryview):
            return b"".join((_head_of_bytes(body), body))
        return PLAIN_TEXT + body.encode() if isinstance(body, str) else body

    def weight(self, digest: bytes) -> int:
        """Return the cost of an element's value occurring again in a list; texts cost nothing."""
        body = self.bodies.get(digest)
        return 0 if isinstance(body, str) else weight_of_repeated(body or b"")

    def references(self, digest: bytes) -> list[bytes]:
        """Return the digests that an element refers to."""
        if isinstance(self.bodies.get(digest), (str, memoryview)):
            return []
        return split_blob(self._blob(digest))[0]

    def excerpt(self, digest: bytes) -> Elements:
        """Return an element with those it refers to, as if they had been read."""
        blob = self._blob(digest)
        parts = {each: self._blob(each) for each in split_blob(blob)[0]}
        return Elements(parts | {digest: blob}, self._context, None)

    def stored(self, digest: bytes) -> bytes:
        """Return an element's blob in the form that the server stores."""
        blob = self._blob(digest)
        if self._sealer is None:
            return blob
        references, payload = split_blob(blob)
        return pack_blob(references, self._sealer.seal(payload, b"".join((self._context, digest, *references))))


MOST_REPEATED = 2**26  # bytes of values built from elements that were already used
_MOST_TIMES = 16  # or this multiple of the bytes read, if that is more


def _head_of_bytes(value: bytes | memoryview) -> bytes:
    """Return what an element of large bytes begins with: everything in front of the bytes themselves."""
    size = len(value)
    head = b"\xc5" + size.to_bytes(2, "big") if size < 2**16 else b"\xc6" + size.to_bytes(4, "big")
    return NO_REFERENCES + VALUE + head


def weight_of_repeated(payload: bytes | memoryview) -> int:
    """Return the cost of building a value from this payload again."""
    return len(payload) + 256


class Elements:
    """The elements that came with a read, decoded on demand; ``recipes`` are those of list items already known.

    ``held``: large texts and bytes by digest that need not come with a read, because the process has them.
    """

    __slots__ = ("_context", "_met", "_repeated", "_sealer", "_stored", "held", "plain", "recipes", "texts")

    def __init__(self, stored: dict[bytes, bytes], context: bytes, sealer: Sealer | None) -> None:
        self._stored = stored
        self.texts: dict[bytes, str] = {}  # each decoded once, however many references it has
        self._met: set[bytes] = set()
        self._repeated = 0
        self.recipes: dict[bytes, Any] = {}
        self.held: dict[bytes, ElementContent] = {}
        self.plain = stored if sealer is None else None  # read directly if nothing is encrypted
        self._context = context
        self._sealer = sealer

    def __len__(self) -> int:
        """Return the total bytes of all elements."""
        return sum(map(len, self._stored.values()))

    def hold(self, values: Mapping[bytes, ElementContent]) -> None:
        """Use these large values, which did not come with the read."""
        self.held.update(values)
        self.texts.update((digest, value) for digest, value in values.items() if isinstance(value, str))

    def large(self) -> dict[bytes, ElementContent]:
        """Return the large texts and bytes that were used."""
        return self.held | {digest: text for digest, text in self.texts.items() if len(text) >= HELD_BYTES}

    def excerpt(self, *digests: bytes) -> Elements:
        """Return elements with those they refer to."""
        stored = {digest: self._stored.get(digest, b"") for digest in digests}
        parts = {each for blob in stored.values() if blob for each in split_blob(blob)[0]}
        stored |= {each: self._stored.get(each, b"") for each in parts}
        out = Elements(stored, self._context, self._sealer)
        if self.held:
            out.held = {digest: self.held[digest] for digest in stored if digest in self.held}
        return out

    def counted_anew(self) -> Elements:
        """Return the same elements, for a value that is made later than others."""
        again = Elements(self._stored, self._context, self._sealer)
        again.texts, again.recipes, again.held = self.texts, self.recipes, self.held
        return again

    def add(self, more: Elements) -> None:
        """Add the elements of another read of the thread; what that read lacked stays."""
        self._stored.update(
            (digest, blob) for digest, blob in more._stored.items() if blob or digest not in self._stored
        )

    def get(self, digest: bytes) -> tuple[bytes, list[bytes], bytes]:
        """Return an element's kind, references and payload.

        Raises:
            CorruptDataError: It is missing, or it is not an element.
        """
        blob = self._stored.get(digest)
        if not blob:
            value = self.held.get(digest)
            if value is None:
                raise CorruptDataError("A stored value refers to an element that is missing.")
            if isinstance(value, str):
                return TEXT, [], value.encode()
            return VALUE, [], b"".join((_head_of_bytes(value)[3:], value))
        references, payload = split_blob(blob)
        if self._sealer is not None:
            payload = self._sealer.open(payload, b"".join((self._context, digest, *references)))
        return payload[:1], references, payload[1:]

    def weight(self, digest: bytes) -> int:
        """Return the cost of an element's value occurring again in a list; texts cost nothing."""
        blob = self._stored.get(digest) or self.held.get(digest, b"")
        return 0 if isinstance(blob, str) or blob.startswith(PLAIN_TEXT) else weight_of_repeated(blob)

    def reset_counts(self) -> None:
        """Reset the counts for another checkpoint, or its pending writes: each is counted separately."""
        self._met.clear()
        self._repeated = 0

    def count_value(self, digest: bytes, payload: bytes) -> None:
        """Count a value that is about to be built, as each reference to it makes another object.

        Raises:
            CorruptDataError: A few references would take far more memory than the stored data.
        """
        if digest not in self._met:
            self._met.add(digest)
            return
        self.count_repeated(weight_of_repeated(payload))

    def count_repeated(self, weight: int) -> None:
        """Count bytes that are built from elements already used; see ``count_value``."""
        self._repeated += weight
        if self._repeated > MOST_REPEATED and self._repeated > _MOST_TIMES * len(self):
            raise CorruptDataError(
                "A stored checkpoint refers to the same values so often that they would take far more memory than "
                "what is stored."
            )

    def text(self, digest: bytes) -> str:
        """Return a long text."""
        text = self.texts.get(digest)
        if text is None:
            text = self.texts[digest] = self._text(digest)
        return text

    def _text(self, digest: bytes) -> str:
        blob = self._stored.get(digest)
        if self._sealer is None and blob is not None and blob.startswith(PLAIN_TEXT):
            raw = blob[len(PLAIN_TEXT) :]
        else:
            kind, _, raw = self.get(digest)
            if kind != TEXT:
                raise CorruptDataError("A stored value refers to a text, but the element is not text.")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise CorruptDataError("A stored text is not UTF-8.") from None


_SAME = 0xFFFF


class CheckpointRow(NamedTuple):
    """The parts of a checkpoint's row: the ids it links to, the fields of its larger values, its blob."""

    parent: bytes
    fields: tuple[bytes, ...]
    blob: bytes
    header: bytes  # parent and fields as stored; encryption binds them to the blob


def pack_row(parent: bytes, fields: list[bytes]) -> bytes:
    """Return the header of a row: the parent's id and the names of its value fields. The blob follows it."""
    parts = [len(parent).to_bytes(2, "big"), parent, len(fields).to_bytes(2, "big")]
    for name in fields:
        parts += len(name).to_bytes(2, "big"), name
    return b"".join(parts)


def split_row(row: bytes) -> CheckpointRow:
    """Split a stored row: the server's link to the previous checkpoint, then :func:`pack_row`, then the blob.

    Raises:
        CorruptDataError: The row is shorter than its header says.
    """
    link = int.from_bytes(row[:2], "big")
    start = at = 2 if link == _SAME else 2 + link
    size = int.from_bytes(row[at : at + 2], "big")
    parent = row[at + 2 : at + 2 + size]
    at += 2 + size
    count = int.from_bytes(row[at : at + 2], "big")
    at += 2
    fields = []
    for _ in range(count):
        size = int.from_bytes(row[at : at + 2], "big")
        fields.append(row[at + 2 : at + 2 + size])
        at += 2 + size
        if at > len(row):
            break
    if at > len(row) or len(row) < 6:
        raise CorruptDataError("A stored checkpoint is truncated.")
    return CheckpointRow(parent, tuple(fields), row[at:], row[start:at])


def seal_blob(blob: bytes, sealer: Sealer | None, context: bytes) -> bytes:
    """Return ``blob`` with its payload encrypted; its references stay readable and are bound to the payload."""
    if sealer is None:
        return blob
    references, payload = split_blob(blob)
    return pack_blob(references, sealer.seal(payload, context + b"".join(references)))


def open_blob(blob: bytes, sealer: Sealer | None, context: bytes) -> bytes:
    """Return the blob that :func:`seal_blob` encrypted in the same context."""
    if sealer is None:
        return blob
    references, payload = split_blob(blob)
    return pack_blob(references, sealer.open(payload, context + b"".join(references)))
