"""Programs that write a store's items as lines of a backup, and restore them.

A line holds an item exactly as it is stored, its rows of the index, and its remaining seconds to live. So nothing
is embedded again, and encrypted items need no key. See :mod:`ecowas_lc.storage.backup_format`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

from ecowas_lc._connection_settings import LONGEST_TTL
from ecowas_lc.memory.json_values import to_json
from ecowas_lc.search.items import Write, count_op, fetch_op, filled_op, header_of, ids_op, write_op
from ecowas_lc.search.place import Collection, Namespace, id_of, place_of, range_of
from ecowas_lc.storage.backup_format import ITEM, ImportReport, Lines, Outcome, Progress, line_of
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.ops import Op, command
from ecowas_lc.store.batches import check_namespace

_ITEMS_AT_ONCE = 200
_FIELDS = "hvqfw"
_PARTS = {"quantised": "q", "vectors": "f", "words": "w"}


def collections_op(keys: Keys) -> Op[list[str]]:
    """Return the names of the collections that any process has written to."""
    [names] = yield (command("ZRANGE", keys.collections(), 0, -1),)
    return sorted(id_text(name) for name in names)


def count_items_op(keys: Keys, *, one_slot: bool) -> Op[int]:
    """Return the number of items in all collections."""
    total = 0
    for name in (yield from collections_op(keys)):
        total += yield from count_op(Collection(keys, name, one_slot))
    return total


class Export:
    """Walks a collection's items in the order of their ids, so that it misses no item that exists throughout."""

    def __init__(self, at: Collection, namespace_prefix: Namespace, on_progress: Progress | None) -> None:
        check_namespace(namespace_prefix, may_be_empty=True)
        self._at = at
        self._prefix = tuple(namespace_prefix)
        self._on_progress = on_progress

    def pages(self) -> Iterator[Op[list[str]]]:
        """Yield programs to run one after the other; each returns some lines.

        The object's state shows when the export is complete.
        """
        buckets: list[int] = []

        def begin_op() -> Op[list[str]]:
            buckets.extend((yield from filled_op(self._at, self._prefix)))
            return []

        yield begin_op()
        for number, bucket in enumerate(buckets, start=1):
            self._after: bytes | None = None
            self._ended = False
            while not self._ended:
                yield self._page_op(bucket)
            if self._on_progress is not None:
                self._on_progress(number, len(buckets))

    def _page_op(self, bucket: int) -> Op[list[str]]:
        ids = yield from ids_op(self._at, bucket, range_of(self._prefix), _ITEMS_AT_ONCE, self._after)
        self._ended = len(ids) < _ITEMS_AT_ONCE
        if not ids:
            return []
        self._after = ids[-1]
        rows = yield from fetch_op(self._at, ids, _FIELDS)
        left = yield tuple(command("PTTL", self._at.item(item_id)) for item_id in ids)
        return [
            line_of(self._record(item_id, row, milliseconds))
            for item_id, row, milliseconds in zip(ids, rows, left, strict=True)
            if row[0] is not None and row[1] is not None and milliseconds != -2
        ]

    def _record(self, item_id: bytes, row: list[Any], left: int) -> dict[str, Any]:
        namespace, key = place_of(item_id)
        header = header_of(row[0])
        record: dict[str, Any] = {
            "type": ITEM,
            "collection": self._at.name,
            "namespace": list(namespace),
            "key": key,
            "created": header.created,
            "ttl_seconds": left / 1000 if left >= 0 else None,
            "ttl_milliseconds": header.ttl_ms or None,
        }
        try:
            record["value"] = json.loads(row[1])
        except ValueError:
            record["sealed"] = _text(row[1])
        for number, name in enumerate(_PARTS, start=2):
            if row[number] is not None:
                record[name] = _text(row[number])
        return record


class ItemImporter:
    """Makes the program that restores each item; skips all other records of a backup."""

    def __init__(self, at: Collection, *, overwrite: bool) -> None:
        self._at = at
        self._overwrite = overwrite
        self._lines = Lines()
        self.report = ImportReport()

    def line_op(self, line: str) -> Op[None]:
        """Restore the item of one line."""
        record = self._lines.record(line)
        if record is not None:
            yield from self.record_op(record, self._lines)

    def record_op(self, record: dict[str, Any], lines: Lines) -> Op[None]:
        """Restore a record that was read from ``lines``."""
        if record.get("type") != ITEM:
            self.report = self.report.without(record)
            return
        try:
            at = Collection(self._at.keys, record["collection"], self._at.one_slot)
            write = _write_of(record)
            outcome = yield from self._restore_op(at, write)
        except (KeyError, TypeError, ValueError) as error:
            raise lines.corrupt(error) from None
        name = "/".join([*record["namespace"], record["key"]])
        self.report = self.report.with_one(outcome, f"item {record['collection']}: {name}")

    def finish(self) -> ImportReport:
        """Return the report, after all lines have been read."""
        self._lines.check_end()
        return self.report

    def _restore_op(self, at: Collection, write: Write) -> Op[Outcome]:
        [row] = yield from fetch_op(at, [write.item_id], _FIELDS)
        if row[0] is not None:
            parts = [part or b"" for part in row[1:]]
            if _same(parts[0], write.value) and parts[1:] == [write.quantised, write.vectors, write.words]:
                return "unchanged"
            if not self._overwrite:
                return "kept"
        before = (command("ZADD", at.keys.collections(), 0, id_bytes(at.name)),)
        yield from write_op(at, [write], _dimensions_of(write), before=before)
        return "written"


def _write_of(record: dict[str, Any]) -> Write:
    namespace, key = record["namespace"], record["key"]
    if not isinstance(namespace, list) or not isinstance(key, str):
        raise ValueError("an item needs a namespace and a key")
    check_namespace(namespace)
    created = record["created"]
    if type(created) is not int or not 0 < created < 10**16:
        raise ValueError("created is no time")
    left, whole = record["ttl_seconds"], record["ttl_milliseconds"]
    for ttl in (left, whole):
        if ttl is not None and (type(ttl) not in (int, float) or not 0 <= ttl <= 1000 * LONGEST_TTL):
            raise ValueError("a time to live is not a number")
    if "sealed" in record:
        value = _bytes(record["sealed"])
    elif isinstance(record["value"], dict):
        value = to_json(record["value"], "value")
    else:
        raise ValueError("the value is not a JSON object")
    parts: Any = {name: _bytes(record[name]) for name in _PARTS if name in record}
    ttl_ms = None if whole is None else max(1, round(whole))
    left_ms = None if left is None or ttl_ms is None else min(ttl_ms, max(1, round(1000 * left)))
    return Write(id_of(tuple(namespace), key), value, ttl_ms, created=created, left_ms=left_ms, **parts)


def _same(stored: bytes, given: bytes) -> bool:
    if stored == given:
        return True
    try:
        return bool(json.loads(stored) == json.loads(given))
    except ValueError:
        return False


def _dimensions_of(write: Write) -> int | None:
    """Return the length of an item's vectors; ``None`` if it has none, or if they are encrypted."""
    exact, quantised = len(write.vectors), len(write.quantised)
    count, rest = divmod(4 * quantised - exact, 16)
    if not exact or rest or count < 1 or exact % (4 * count):
        return None
    return exact // (4 * count)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("a part is not base64") from None
