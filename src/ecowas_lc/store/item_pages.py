"""Pages of all items under a namespace prefix, in an order that writes don't change."""

from __future__ import annotations

from dataclasses import dataclass

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.search.items import fetch_op, filled_op, header_of, ids_op
from ecowas_lc.search.place import Collection, Namespace, bucket_of_id, place_of, range_of
from ecowas_lc.storage.keys import id_bytes, id_text
from ecowas_lc.storage.ops import Op
from ecowas_lc.store.batches import StoredItem, check_namespace, moment
from ecowas_lc.store.contents import Contents

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of items. Pass ``cursor`` as ``after`` to get the next page; ``None``: this is the last page."""

    items: tuple[StoredItem, ...]
    cursor: str | None


def list_op(
    at: Collection, contents: Contents, namespace_prefix: Namespace, after: str | None, limit: int
) -> Op[ItemPage]:
    """Return a page of at most ``limit`` items: bucket by bucket, each in the order of its ids."""
    check_namespace(namespace_prefix, may_be_empty=True)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST:
        raise InvalidInputError(f"limit must be a whole number from 1 to {_MOST}, not {limit!r}.")
    under = range_of(tuple(namespace_prefix))
    last = _last_of(after)
    items: list[StoredItem] = []
    for bucket in sorted((yield from filled_op(at, tuple(namespace_prefix)))):
        if last is not None and bucket < bucket_of_id(last):
            continue
        begun = last if last is not None and bucket == bucket_of_id(last) else None
        while True:
            wanted = limit - len(items)
            ids = yield from ids_op(at, bucket, under, wanted, begun)
            items += yield from _items_op(at, contents, ids)
            if len(ids) < wanted:
                break
            begun = ids[-1]
            if len(items) >= limit:
                return ItemPage(tuple(items), id_text(begun))
    return ItemPage(tuple(items), None)


def _items_op(at: Collection, contents: Contents, ids: list[bytes]) -> Op[list[StoredItem]]:
    if not ids:
        return []
    rows = yield from fetch_op(at, ids, "hv")
    items = []
    for item_id, row in zip(ids, rows, strict=True):
        if row[0] is None or row[1] is None:
            continue  # it has expired
        namespace, key = place_of(item_id)
        header = header_of(row[0])
        items.append(
            StoredItem(
                namespace=namespace,
                key=key,
                value=contents.decode_value(row[1], item_id),
                created_at=moment(header.created),
                updated_at=moment(header.version),
                version=header.version,
            )
        )
    return items


def _last_of(after: object) -> bytes | None:
    if after is None:
        return None
    if not isinstance(after, str) or "::" not in after:
        raise InvalidInputError("after must be the cursor of the page before.")
    return id_bytes(after)
