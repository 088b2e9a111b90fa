"""The program that enters items into the indexes that lack them, by scanning all keys once."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ecowas_lc.errors import EcowasError
from ecowas_lc.search.place import Collection, bucket_of_id, place_of
from ecowas_lc.storage.keys import Keys, decode_id, id_bytes
from ecowas_lc.storage.ops import Call, Op, call, command, load_script
from ecowas_lc.storage.scanning import scan_op

_ADOPT = load_script("items_shared", "items_adopt")


def reindex_op(keys: Keys) -> Op[int]:
    """Enter the items of every collection into the indexes; return how many the indexes lacked."""
    pattern = id_bytes(keys.prefix) + b":items:{*}:item:*"
    return (yield from scan_op(pattern, lambda names: _enter_op(keys, names)))


def _enter_op(keys: Keys, names: Iterable[bytes]) -> Op[int]:
    buckets: dict[tuple[str, int], list[bytes]] = {}
    for name in names:
        if (item := _item_of(keys, name)) is not None:
            collection, item_id = item
            buckets.setdefault((collection, bucket_of_id(item_id)), []).append(item_id)
    if not buckets:
        return 0
    calls: list[Call] = []
    for (collection, bucket), ids in buckets.items():
        at = Collection(keys, collection)
        calls.append(call(_ADOPT, (*at.bucket(bucket), *(at.item(item_id) for item_id in ids)), *ids))
    found = sum((yield tuple(calls)))
    now = int(time.time())
    collections = dict.fromkeys(collection for collection, _ in buckets)
    yield tuple(command("ZADD", keys.collections(), "NX", now, id_bytes(name)) for name in collections)
    return found


def _item_of(keys: Keys, name: bytes) -> tuple[str, bytes] | None:
    """Return the collection and the id of an item's key; ``None`` if the key is not an item's."""
    tag, separator, item_id = name.removeprefix(id_bytes(keys.prefix) + b":items:{").partition(b"}:item:")
    try:
        collection = decode_id(tag.rpartition(b":")[0])
        place_of(item_id)
        return (collection, item_id) if separator and Collection(keys, collection).item(item_id) == name else None
    except EcowasError:
        return None
