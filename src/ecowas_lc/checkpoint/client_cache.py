"""What a process remembers of the threads it has met: a saving, never relied on, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ecowas_lc import forks
from ecowas_lc.checkpoint.codec.elements import Digests
from ecowas_lc.checkpoint.codec.recipes import Recipe, weight_of

# Least recently used threads are forgotten beyond either bound; that costs bytes on their next step, never data.
_MAX_THREADS = 4096
_MAX_BYTES = 64 * 2**20
_MAX_LISTS = 64  # of a thread: each call of a subgraph has a namespace of its own
_MAX_KNOWN = 1024
_MAX_TEXT_CHARACTERS = 8 * 2**20
_MAX_MESSAGES = 20_000


class SeenList(NamedTuple):
    """A list as the server has it."""

    name: bytes = b""  # of the field that it is stored in
    mark: bytes = b""
    digests: bytes = b""
    recipes: Mapping[Recipe, bytes] = MappingProxyType({})  # its items' digests, by what they are made of; or none

    def weight(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.digests) + weight_of(self.recipes)


NOTHING_SEEN = SeenList()


def _shared(one: bytes, other: bytes) -> int:
    """Return how many bytes two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(slots=True)
class ThreadMemo:
    """What this process has seen of a thread's stored lists and elements."""

    lists: dict[tuple[str, str], SeenList] = field(default_factory=dict)
    known: dict[bytes, None] = field(default_factory=dict)
    absent: set[bytes] = field(default_factory=set)  # that the server was asked for in vain
    weights: dict[tuple[str, str], int] = field(default_factory=dict)  # of the lists
    weight: int = 0

    def lists_in(self, namespace: str) -> list[SeenList]:
        """The lists of a namespace that can be made again from what is known of them."""
        return [seen for (ns, _), seen in list(self.lists.items()) if ns == namespace and seen.recipes]

    def base_of(self, namespace: str, channel: str, digests: bytes | None = None) -> SeenList:
        """The list that a channel's new one is stored as edits of: its own, or one of another namespace.

        Of several namespaces' it is the one that ``digests`` go on from the longest, or without them the latest.
        """
        if (own := self.lists.get((namespace, channel))) is not None:
            return own
        others = [seen for (_, name), seen in list(self.lists.items()) if name == channel]
        if digests is None or not others:
            return others[-1] if others else NOTHING_SEEN
        return max(others, key=lambda seen: _shared(seen.digests, digests))

    def drop(self, key: tuple[str, str]) -> None:
        """Forget a list."""
        self.lists.pop(key, None)
        self.weight -= self.weights.pop(key, 0)

    def lacks(self, names: Iterable[bytes]) -> None:
        """The server has no such fields."""
        if len(self.absent) > _MAX_LISTS:
            self.absent.clear()
        self.absent.update(names)

    def saw(self, digests: Any) -> None:
        """The server has these elements."""
        for digest in digests:
            if digest in self.known:
                self.known.pop(digest, None)  # so that what is in use is the last to go
            self.known[digest] = None
        if len(self.known) > _MAX_KNOWN:
            # A list first: other threads write here too, and a dict that changes can't be walked.
            for digest in list(self.known)[:-_MAX_KNOWN]:
                self.known.pop(digest, None)


class Memo:
    """The memos of the threads in use, and the digests of the texts in use; bounded, safe from several threads."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self.forget_parent()
        forks.register(self)

    def forget_parent(self) -> None:
        """Know nothing: another thread may have been in the middle of a change when this process was forked."""
        self._threads: OrderedDict[str, ThreadMemo] = OrderedDict()
        self._seen = Digests()
        self._weight = 0

    def thread(self, thread_id: str) -> ThreadMemo:
        """The thread's memo."""
        with self._lock:
            memo = self._threads.get(thread_id)
            if memo is None:
                memo = self._threads[thread_id] = ThreadMemo()
                self._shrink()
            self._threads.move_to_end(thread_id)
            return memo

    def keep(self, thread_id: str, lists: Mapping[tuple[str, str], SeenList]) -> None:
        """The server has these lists of a thread."""
        if not lists:
            return
        weights = {key: seen.weight() for key, seen in lists.items()}
        with self._lock:
            memo = self._threads.get(thread_id)
            if memo is None:  # forgotten meanwhile
                return
            before = memo.weight
            for key, seen in lists.items():
                memo.drop(key)
                memo.lists[key], memo.weights[key] = seen, weights[key]
                memo.weight += weights[key]
            while len(memo.lists) > _MAX_LISTS:
                memo.drop(next(iter(memo.lists)))
            self._weight += memo.weight - before
            self._shrink()

    def forget(self, thread_id: str) -> None:
        """The thread was deleted or changed as a whole."""
        with self._lock:
            if memo := self._threads.pop(thread_id, None):
                self._weight -= memo.weight

    def seen(self) -> Digests:
        """Digests of texts and messages, for serializers whose digests do not depend on the thread."""
        # What pends on one step is in the list of the next, and a subgraph's list is its caller's: few are enough.
        # They go all at once, which costs the next step of each thread a moment.
        seen = self._seen
        if seen.characters > _MAX_TEXT_CHARACTERS or len(seen.messages) > _MAX_MESSAGES:
            seen = self._seen = Digests()
        return seen

    def _shrink(self) -> None:
        while len(self._threads) > _MAX_THREADS or (self._weight > _MAX_BYTES and len(self._threads) > 1):
            self._weight -= self._threads.popitem(last=False)[1].weight
