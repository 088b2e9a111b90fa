"""The indexes of histories, states and session data, which make scans of the server unnecessary.

An index lists data that may exist. It is written before the data, so that a crash leaves at most a stray name. A
listing checks the data of each name, and removes stray names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from ecowas_lc.errors import CorruptDataError
from ecowas_lc.memory.json_values import FOREVER
from ecowas_lc.storage.keys import id_bytes, id_text
from ecowas_lc.storage.left_out import readable_ids
from ecowas_lc.storage.ops import ScriptCall, call, load_script
from ecowas_lc.storage.server import Server

TOUCH = load_script("memory_index_shared", "memory_index_touch")
LIST = load_script("memory_index_shared", "memory_index_list")
FORGET = load_script("memory_index_forget")

_CLOCKS_DIFFER_SECONDS = 1.0  # between the nodes of a cluster
_MOST_REMEMBERED = 10_000


def touch(index: bytes, ttl_seconds: float, *names: str) -> ScriptCall:
    """Return the call that adds or renews names in an index for ``ttl_seconds`` (``FOREVER``: no end)."""
    # Until the name is next added, its data may be renewed, and so live longer than this by the same amount.
    generous = ttl_seconds + _fresh_seconds(ttl_seconds) + _CLOCKS_DIFFER_SECONDS
    milliseconds: str | int = "" if ttl_seconds == FOREVER else int(generous * 1000)
    return call(TOUCH, (index,), milliseconds, *(id_bytes(name) for name in names))


def listing(index: bytes) -> ScriptCall:
    """Return the call that lists an index; :func:`entries` reads its reply."""
    return call(LIST, (index,))


def counting(index: bytes) -> ScriptCall:
    """Return the call that counts an index."""
    return call(LIST, (index,), "count")


def entries(reply: list[Any]) -> dict[str, bytes]:
    """Return each name in the reply to :func:`listing`, with its score as text."""
    try:
        return {id_text(name): score for name, score in zip(reply[::2], reply[1::2], strict=True)}
    except CorruptDataError:  # one name is not ours: list the others
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return {id_: score for name, score in pairs for id_ in readable_ids([name], "sessions")}


def forget(index: bytes, strays: Iterable[tuple[str, bytes]]) -> ScriptCall:
    """Return the call that removes names from an index, except those renewed since they were listed."""
    return call(FORGET, (index,), *(word for name, score in strays for word in (id_bytes(name), score)))


class RecentlyIndexed:
    """The histories that this process has just added to the indexes, so that appends need not repeat it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[float, float]] = {}  # the end of validity, and the time to live

    def covers(self, history: bytes, ttl_seconds: float) -> bool:
        """Return whether the indexes have this history, for long enough."""
        known = self._known.get(history)
        return known is not None and ttl_seconds <= known[1] and self._clock() < known[0]

    def remember(self, history: bytes, ttl_seconds: float) -> None:
        """Record that the indexes have this history."""
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[history] = (self._clock() + _fresh_seconds(ttl_seconds), ttl_seconds)

    def forget(self, history: bytes) -> None:
        """Record that the indexes may not have this history any more."""
        self._known.pop(history, None)


def _fresh_seconds(ttl_seconds: float) -> float:
    return min(60.0, ttl_seconds / 10)


_by_server: WeakKeyDictionary[Server, RecentlyIndexed] = WeakKeyDictionary()


def recently_indexed(server: Server) -> RecentlyIndexed:
    """Return the process's record of a server's indexes, shared by all objects that write through the server."""
    return _by_server.setdefault(server, RecentlyIndexed())
