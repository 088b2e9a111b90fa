"""Programs that store, read and list the items of a collection, as bytes whose meaning they don't know."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ecowas_lc.errors import DimensionMismatchError, FormatVersionError, ItemConflictError
from ecowas_lc.search.place import Collection, Namespace, Range, bucket_of_id, buckets_under, labels_of, range_of
from ecowas_lc.storage.ops import Arg, Batch, Call, Op, call, command, load_script

_PUT = load_script("items_shared", "items_put")
_FETCH = load_script("items_fetch")
_NEWEST = load_script("items_shared", "bytes_order", "items_newest")
_NAMESPACES = load_script("items_shared", "items_namespaces")
_VERSIONS = load_script("items_versions")
CHANGES = load_script("items_shared", "items_changes")

_HEADER = re.compile(rb"1 (\d+) (\d+) (\d+)")
# Limits of items and bytes per command, because a server is blocked while it reads and stores them.
_ITEMS_AT_ONCE = 500
_BYTES_AT_ONCE = 8 * 2**20


class Header(NamedTuple):
    """The metadata of an item. Versions are microseconds since 1970, as ``created`` is."""

    created: int
    version: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Write:
    """One item to store or to delete.

    ``expected``: the version that the item must have; 0: it must not exist. ``created`` and ``left_ms`` (of
    ``ttl_ms``) come from a backup.
    """

    item_id: bytes
    value: bytes = b""
    ttl_ms: int | None = None
    expected: int | None = None
    quantised: bytes = b""
    vectors: bytes = b""
    words: bytes = b""
    deletes: bool = False
    created: int | None = None
    left_ms: int | None = None
    operation: str = field(default_factory=lambda: secrets.token_hex(8))

    def args(self) -> tuple[Arg, ...]:
        """Return the script's arguments for it."""
        guarded = self.expected is not None
        return (
            self.item_id,
            "delete" if self.deletes else "put",
            self._lifetime(),
            self.expected if self.expected is not None else "",
            self.operation if guarded else "",
            self.value,
            self.quantised,
            self.vectors,
            self.words,
            "" if self.created is None else self.created,
        )

    def _lifetime(self) -> Arg:
        if self.ttl_ms is None:
            return ""
        return self.ttl_ms if self.left_ms is None else f"{self.left_ms}/{self.ttl_ms}"

    def size(self) -> int:
        """Return the approximate number of bytes that it sends."""
        return len(self.value) + len(self.vectors) + len(self.quantised) + len(self.words)


def header_of(raw: bytes) -> Header:
    """Return an item's header.

    Raises:
        FormatVersionError: A newer version of this package wrote the item.
    """
    if match := _HEADER.fullmatch(raw):
        return Header(int(match[1]), int(match[2]), int(match[3]))
    raise FormatVersionError(
        f"An item is stored in format {raw[:1].decode('utf-8', 'replace')!r}, which this version of ecowas_lc "
        "does not read. Install a newer ecowas_lc."
    )


def write_op(
    at: Collection, writes: Sequence[Write], dimensions: int | None = None, *, before: Batch = ()
) -> Op[list[int]]:
    """Store and delete items in one flush, and the items of each bucket in one atomic step; return their versions.

    ``before`` is sent first, in the same flush.

    Raises:
        ItemConflictError: An item does not have the expected version; the items of its bucket were not written.
        DimensionMismatchError: The bucket's vectors have other dimensions; its items were not written.
    """
    parts = list(_parts(writes))
    batch: list[Call] = list(before)
    for bucket, part in parts:
        keys = (*at.bucket(bucket), *(at.item(writes[number].item_id) for number in part))
        carries = any(writes[number].vectors for number in part)
        words = [word for number in part for word in writes[number].args()]
        batch.append(call(_PUT, keys, dimensions if carries and dimensions else "", *words))
    versions = [0] * len(writes)
    replies = (yield tuple(batch))[len(before) :]
    for (_, part), reply in zip(parts, replies, strict=True):
        if reply[0] == b"conflict":
            raise _conflict(writes[part[reply[1] - 1]], int(reply[2]))
        if reply[0] == b"dimensions":
            raise DimensionMismatchError(
                f"The vectors have {dimensions} dimensions, and those stored here have {int(reply[1])}. Use the "
                "embedding model that wrote them, or another prefix or collection; nothing was written."
            )
        for number in part:
            versions[number] = int(reply[1])
    return versions


def fetch_op(
    at: Collection, ids: Sequence[bytes], fields: str, *, refresh: bool = False
) -> Op[list[list[bytes | None]]]:
    """Return the fields of items, named by one letter each; the first is ``None`` if the item does not exist."""
    by_bucket: dict[int, list[int]] = {}
    for number, item_id in enumerate(ids):
        by_bucket.setdefault(bucket_of_id(item_id), []).append(number)
    parts = [
        (bucket, numbers[start : start + _ITEMS_AT_ONCE])
        for bucket, numbers in by_bucket.items()
        for start in range(0, len(numbers), _ITEMS_AT_ONCE)
    ]
    batch: list[Call] = []
    for bucket, part in parts:
        items = tuple(at.item(ids[number]) for number in part)
        if refresh:
            batch.append(call(_FETCH, (at.bucket(bucket)[4], *items), fields, *(ids[number] for number in part)))
        else:
            batch.append(call(_FETCH, items, fields))
    rows: list[Any] = [None] * len(ids)
    if batch:
        for (_, part), reply in zip(parts, (yield tuple(batch)), strict=True):
            for number, row in zip(part, reply, strict=True):
                rows[number] = row
    return rows


class Newest(NamedTuple):
    """An id and its version."""

    version: int
    item_id: bytes


def newest_op(
    at: Collection, namespace_prefix: Namespace, most: int, after: Newest | None = None
) -> Op[list[Newest]]:
    """Return the ids under a namespace prefix, latest change first; ``after``: the end of the previous page."""
    under = range_of(namespace_prefix)
    buckets = yield from filled_op(at, namespace_prefix)
    if not buckets:
        return []
    cursor = (after.version, after.item_id) if after else ("", "")
    replies = yield tuple(call(_NEWEST, at.bucket(bucket), *under, most, *cursor) for bucket in buckets)
    found = [Newest(int(reply[i + 1]), reply[i]) for reply in replies for i in range(0, len(reply), 2)]
    found.sort(reverse=True)
    return found[:most]


def namespaces_op(at: Collection, namespace_prefix: Namespace) -> Op[list[Namespace]]:
    """Return every namespace under a prefix that has items, in order."""
    under = range_of(namespace_prefix)
    buckets = yield from filled_op(at, namespace_prefix)
    if not buckets:
        return []
    replies = yield tuple(call(_NAMESPACES, at.bucket(bucket), under.first, under.last) for bucket in buckets)
    return sorted(labels_of(space) for reply in replies for space in reply)


def ids_op(at: Collection, bucket: int, under: Range, most: int, after: bytes | None = None) -> Op[list[bytes]]:
    """Return a page of a bucket's ids in a range, in their order; ``after``: the end of the previous page."""
    first = under.first if after is None else b"(" + after
    [reply] = yield (call(CHANGES, at.bucket(bucket), b"", first, under.last, b"", most),)
    return reply[2] if reply else []


def filled_op(at: Collection, namespace_prefix: Namespace) -> Op[list[int]]:
    """Return the buckets that may have items under a namespace prefix."""
    buckets = buckets_under(namespace_prefix)
    if len(buckets) == 1:
        return list(buckets)
    return list((yield from versions_op(at, buckets)))


def count_op(at: Collection) -> Op[int]:
    """Return the number of items in a collection, including those that have expired since its last change."""
    buckets = yield from filled_op(at, ())
    if not buckets:
        return 0
    return sum((yield tuple(command("ZCARD", at.bucket(bucket)[1]) for bucket in buckets)))


def versions_op(at: Collection, buckets: Sequence[int]) -> Op[dict[int, bytes]]:
    """Return the versions of those buckets that have items: one command, or on a cluster one for each."""
    heads = tuple(at.bucket(bucket)[0] for bucket in buckets)
    if at.one_slot:
        [versions] = yield (call(_VERSIONS, heads),)
    else:
        versions = yield tuple(command("HGET", head, "version") for head in heads)
    return {bucket: version for bucket, version in zip(buckets, versions, strict=True) if version}


def _parts(writes: Sequence[Write]) -> Iterable[tuple[int, list[int]]]:
    by_bucket: dict[int, list[int]] = {}
    for number, write in enumerate(writes):
        by_bucket.setdefault(bucket_of_id(write.item_id), []).append(number)
    for bucket, numbers in by_bucket.items():
        part: list[int] = []
        size = 0
        for number in numbers:
            if part and (len(part) == _ITEMS_AT_ONCE or size + writes[number].size() > _BYTES_AT_ONCE):
                yield bucket, part
                part, size = [], 0
            part.append(number)
            size += writes[number].size()
        yield bucket, part


def _conflict(write: Write, version: int) -> ItemConflictError:
    found = f"version {version}" if version else "no item"
    expected = f"version {write.expected}" if write.expected else "no item"
    return ItemConflictError(
        f"Another writer has changed the item: expected {expected}, found {found}. Nothing was written. "
        "Read it again and retry."
    )


SearchMode = Literal["meaning", "words", "both"]
