"""Scanning all keys of a prefix. Only ``reindex`` does this, to rebuild the indexes that avoid scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ecowas_lc.storage.ops import EVERY_NODE, Op, command

_KEYS_AT_ONCE = 500


def scan_op(pattern: bytes, enter: Callable[[list[bytes]], Op[int]]) -> Op[int]:
    """Run ``enter`` on the keys that match ``pattern``, by page on each primary; return the sum of its results."""
    [cursors] = yield (command("SCAN", 0, "MATCH", pattern, "COUNT", _KEYS_AT_ONCE, node=EVERY_NODE),)
    total = 0
    for node, reply in cursors.items():
        cursor, names = _page(reply)
        while True:
            if names:
                total += yield from enter(names)
            if cursor == 0:
                break
            [answer] = yield (command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_AT_ONCE, node=node),)
            cursor, names = _page(answer[node])
    return total


def _page(reply: Any) -> tuple[int, list[bytes]]:
    cursor, names = reply
    return int(cursor), names
