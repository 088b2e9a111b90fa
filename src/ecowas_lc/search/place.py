"""The location of an item: its namespace and key as one id, its bucket, and that bucket's keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from ecowas_lc.errors import ConfigurationError, CorruptDataError
from ecowas_lc.storage.keys import Keys, decode_id, encode_id, id_bytes

Namespace = tuple[str, ...]

# A namespace's first labels determine its bucket, so that a tenant's items stay together. The number of buckets is
# part of the storage format: each is one slot of a cluster, and a search over all of them asks each once.
BUCKETS = 256
DECIDING_LABELS = 2


class Range(NamedTuple):
    """The ids, or namespaces, that begin with a prefix; its bounds are those of ``ZRANGE … BYLEX``."""

    prefix: bytes
    first: bytes
    last: bytes


def space_of(namespace: Sequence[str]) -> bytes:
    """Return a namespace in the form that its items' ids begin with: each label encoded and followed by ``:``."""
    return b"".join([encode_id(label, "namespace label") + b":" for label in namespace])


def id_of(namespace: Namespace, key: str) -> bytes:
    """Return an item's id: ``a:b::key``. No label is empty, so ``::`` ends the namespace."""
    return space_of(namespace) + b":" + (encode_id(key, "key") if key else b"")


def place_of(item_id: bytes) -> tuple[Namespace, str]:
    """Return the namespace and key of an id.

    Raises:
        CorruptDataError: It is not an item's id.
    """
    space, separator, key = item_id.partition(b"::")
    if not separator:
        raise CorruptDataError(
            f"An index of the store names {item_id[:60]!r}, which is not an item. Another program uses this "
            "prefix: set ECOWAS_LC_PREFIX, or remove what it wrote."
        )
    return labels_of(space + b":"), decode_id(key)


def labels_of(space: bytes) -> Namespace:
    """Return the labels that :func:`space_of` encoded."""
    return tuple(decode_id(label) for label in space.split(b":")[:-1])


def range_of(namespace_prefix: Sequence[str]) -> Range:
    """Return the range of all items under a namespace prefix; an empty prefix means all items."""
    space = space_of(namespace_prefix)
    return Range(space, b"[" + space, b"(" + space[:-1] + b";") if space else Range(b"", b"-", b"+")


def bucket_of(namespace: Namespace) -> int:
    """Return the number of the bucket that holds a namespace."""
    return _bucket_of(namespace[:DECIDING_LABELS])


def buckets_under(namespace_prefix: Namespace) -> range:
    """Return the numbers of the buckets that may have items under a namespace prefix."""
    if len(namespace_prefix) < DECIDING_LABELS:
        return range(BUCKETS)
    bucket = bucket_of(namespace_prefix)
    return range(bucket, bucket + 1)


@lru_cache(maxsize=4096)
def _bucket_of(deciding: Namespace) -> int:
    return crc32(space_of(deciding)) % BUCKETS


def bucket_of_id(item_id: bytes) -> int:
    """Return the number of the bucket that holds an id."""
    labels = item_id.partition(b"::")[0].split(b":")[:DECIDING_LABELS]
    return crc32(b"".join([label + b":" for label in labels])) % BUCKETS


@dataclass(frozen=True, slots=True)
class Collection:
    """The keys of one collection of items, of a store or a vector store."""

    keys: Keys
    name: str = "store"
    one_slot: bool = True  # a single server: one command may name keys of several buckets

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigurationError(f"A collection's name must be text that is not empty, not {self.name!r}.")

    def bucket(self, number: int) -> tuple[bytes, ...]:
        """Return the six keys of a bucket: head, ids, log, gone, expiry, namespaces."""
        return _bucket_keys(self.keys.prefix, self.name, number)

    def item(self, item_id: bytes) -> bytes:
        """Return the key of an item's hash."""
        return _tag(self.keys.prefix, self.name, bucket_of_id(item_id)) + b":item:" + item_id


@lru_cache(maxsize=4096)
def _tag(prefix: str, name: str, number: int) -> bytes:
    return b"%b:items:{%b:%d}" % (id_bytes(prefix), encode_id(name, "collection"), number)


@lru_cache(maxsize=4096)
def _bucket_keys(prefix: str, name: str, number: int) -> tuple[bytes, ...]:
    tag = _tag(prefix, name, number)
    return (tag, *(tag + b":" + part for part in (b"ids", b"log", b"gone", b"expiry", b"namespaces")))
