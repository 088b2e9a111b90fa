"""Lists worth sharing, and how one version of a list is told as edits of the version before."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from ecowas_lc.checkpoint.codec.elements import DIGEST_BYTES, Digests, digests_in
from ecowas_lc.checkpoint.codec.messages import SPECS

_KEEP, _NEW = 0, 1
_EDIT = struct.Struct(">BII")
_SAMPLE = 8
# A reference costs 16 bytes in the log and an element about 100 of the server's memory.
_WORTH_SHARING_BYTES = 128

# Least recently used threads are forgotten beyond either bound; that costs bytes on their next step, never data.
_MAX_THREADS = 4096
_MAX_DIGEST_BYTES = 64 * 2**20
_MAX_KNOWN = 1024
_MAX_TEXT_CHARACTERS = 32 * 2**20
_MAX_MESSAGES = 100_000


def is_worth_sharing(value: Any, size_of: Any) -> bool:
    """Whether a list's items are messages, or large enough on average to be stored once each."""
    if type(value) is not list or not value:
        return False
    if type(value[-1]) in SPECS or type(value[0]) in SPECS:
        return True
    step = max(1, len(value) // _SAMPLE)
    sample = value[::step][:_SAMPLE]
    # One large item among many small ones makes none of those worth it.
    total: int = sum(min(size_of(item), 4 * _WORTH_SHARING_BYTES) for item in sample)
    return total >= _WORTH_SHARING_BYTES * len(sample)


def edits(base: bytes, now: bytes) -> tuple[bytes, bytes]:
    """``now`` as edits of ``base`` (both are digests, joined): packed edits, and the digests that are new.

    An edit is its kind (0 keeps items of the base, 1 takes new digests), where from, and how many.
    """
    size = DIGEST_BYTES
    if now.startswith(base):
        kept, added = len(base) // size, (len(now) - len(base)) // size
        packed = _EDIT.pack(_KEEP, 0, kept) if kept else b""
        return packed + (_EDIT.pack(_NEW, 0, added) if added else b""), now[len(base) :]
    places: dict[bytes, int] = {}
    for place, digest in enumerate(digests_in(base)):
        places.setdefault(digest, place)
    runs: list[list[int]] = []  # kind, from, how many
    new: list[bytes] = []
    base_items = len(base) // size
    for digest in digests_in(now):
        if runs and runs[-1][0] == _KEEP:
            # An equal item may stand in several places: the one that goes on with the run is the right one.
            following = runs[-1][1] + runs[-1][2]
            if following < base_items and base[following * size : (following + 1) * size] == digest:
                runs[-1][2] += 1
                continue
        if (held := places.get(digest)) is not None:
            runs.append([_KEEP, held, 1])
        elif runs and runs[-1][0] == _NEW:
            new.append(digest)
            runs[-1][2] += 1
        else:
            runs.append([_NEW, len(new), 1])
            new.append(digest)
    return b"".join(_EDIT.pack(*run) for run in runs), b"".join(new)


SeenList = tuple[bytes, bytes, bytes]  # the field it is stored in, its mark, its digests
NOTHING_SEEN: SeenList = (b"", b"", b"")


@dataclass(slots=True)
class ThreadMemo:
    """What this process has seen of a thread's stored lists and elements: a saving, never relied on."""

    lists: dict[tuple[str, str], SeenList] = field(default_factory=dict)
    known: dict[bytes, None] = field(default_factory=dict)

    def saw(self, digests: Any) -> None:
        """The server has these elements."""
        self.known.update(dict.fromkeys(digests))
        if len(self.known) > _MAX_KNOWN:
            # A list first: other threads write here too, and a dict that changes can't be walked.
            for digest in list(self.known)[:-_MAX_KNOWN]:
                self.known.pop(digest, None)

    def size(self) -> int:
        """Bytes of digests held."""
        return sum(len(digests) for _, _, digests in list(self.lists.values()))


class Memo:
    """The memos of the threads in use, and the digests of the texts in use; bounded, safe from several threads."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, ThreadMemo] = OrderedDict()
        self._lock = threading.Lock()
        self._seen = Digests()
        self._made = 0

    def thread(self, thread_id: str) -> ThreadMemo:
        """The thread's memo."""
        with self._lock:
            memo = self._threads.get(thread_id)
            if memo is None:
                memo = self._threads[thread_id] = ThreadMemo()
                self._made += 1
                self._shrink()
            self._threads.move_to_end(thread_id)
            return memo

    def forget(self, thread_id: str) -> None:
        """The thread was deleted or changed as a whole."""
        with self._lock:
            self._threads.pop(thread_id, None)

    def seen(self) -> Digests:
        """Digests of texts and messages, for serializers whose digests do not depend on the thread."""
        # The texts are the very objects that the state holds, so that only dead ones cost memory; they go all at
        # once, which costs the next step of each thread a few milliseconds.
        seen = self._seen
        if seen.characters > _MAX_TEXT_CHARACTERS or len(seen.messages) > _MAX_MESSAGES:
            seen = self._seen = Digests()
        return seen

    def _shrink(self) -> None:
        while len(self._threads) > _MAX_THREADS:
            self._threads.popitem(last=False)
        if self._made % 64 == 0:
            total = sum(memo.size() for memo in self._threads.values())
            while total > _MAX_DIGEST_BYTES and len(self._threads) > 1:
                total -= self._threads.popitem(last=False)[1].size()
