"""A process's bounded cache of the threads that it has seen. It only saves work; nothing relies on it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ecowas_lc import forks
from ecowas_lc.checkpoint.codec.elements import Digests, ElementContent
from ecowas_lc.checkpoint.codec.recipes import Recipe, weight_of

# Beyond either limit the least recently used threads are evicted. That costs bytes on their next step, never data.
_MAX_THREADS = 4096
_MAX_BYTES = 64 * 2**20
_MAX_LISTS = 64  # per thread: each call of a subgraph has its own namespace
_MAX_KNOWN = 1024
_MAX_HELD = 64  # large values of a thread, whose digests each read of it names
_MAX_HELD_BYTES = 16 * 2**20
_MAX_TEXT_CHARACTERS = 8 * 2**20
_MAX_MESSAGES = 20_000


class SeenList(NamedTuple):
    """A list as the server stores it."""

    name: bytes = b""  # of the field that stores it
    mark: bytes = b""
    digests: bytes = b""
    recipes: Mapping[Recipe, bytes] = MappingProxyType({})  # its items' digests by recipe; may be empty

    def weight(self) -> int:
        """Return the approximate number of bytes of memory it takes."""
        return len(self.digests) + weight_of(self.recipes)


NOTHING_SEEN = SeenList()


def _shared(one: bytes, other: bytes) -> int:
    """Return the length of the common prefix of two texts, in bytes."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(slots=True, eq=False, repr=False)
class ThreadMemo:
    """The stored lists and elements of a thread that this process has seen."""

    lists: dict[tuple[str, str], SeenList] = field(default_factory=dict)
    known: dict[bytes, None] = field(default_factory=dict)
    absent: set[bytes] = field(default_factory=set)  # elements that the server was asked for but lacks
    held: dict[bytes, ElementContent] = field(
        default_factory=dict
    )  # large texts and bytes by digest, most recent last
    sending: dict[bytes, Future[None]] = field(default_factory=dict)  # large elements on their way, until they are
    # What lists of threads say of the thread, and the version of the channel that it was made from.
    entry: tuple[Any, bytes] = (None, b"")
    weights: dict[tuple[str, str], int] = field(default_factory=dict)  # of the lists
    weight: int = 0

    def lists_in(self, namespace: str) -> list[SeenList]:
        """Return the lists of a namespace that can be rebuilt from the known elements."""
        return [seen for (ns, _), seen in list(self.lists.items()) if ns == namespace and seen.recipes]

    def base_of(self, namespace: str, channel: str, digests: bytes | None = None) -> SeenList:
        """Return the list that a channel's new list is stored as edits of: its own, or another namespace's.

        Among several namespaces it is the list with the longest common prefix with ``digests``; without them, the
        latest.
        """
        if (own := self.lists.get((namespace, channel))) is not None:
            return own
        others = [seen for (_, name), seen in list(self.lists.items()) if name == channel]
        if digests is None or not others:
            return others[-1] if others else NOTHING_SEEN
        return max(others, key=lambda seen: _shared(seen.digests, digests))

    def drop(self, key: tuple[str, str]) -> None:
        """Remove a list."""
        self.lists.pop(key, None)
        self.weight -= self.weights.pop(key, 0)

    def lacks(self, names: Iterable[bytes]) -> None:
        """Record that the server does not have these fields."""
        if len(self.absent) > _MAX_LISTS:
            self.absent.clear()
        self.absent.update(names)

    def saw(self, digests: Any) -> None:
        """Record that the server has these elements."""
        for digest in digests:
            if digest in self.known:
                self.known.pop(digest, None)  # reinserted at the end, so that elements in use are evicted last
            self.known[digest] = None
        if len(self.known) > _MAX_KNOWN:
            # Copied to a list first: other threads write here too, and a changing dict can't be iterated.
            for digest in list(self.known)[:-_MAX_KNOWN]:
                self.known.pop(digest, None)


class ClientCache:
    """The memos of recently used threads, and the digests of recently used texts; bounded and thread-safe."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self.forget_parent()
        forks.register(self)

    def forget_parent(self) -> None:
        """Clear the cache: another thread may have been in the middle of a change when this process was forked."""
        self._threads: OrderedDict[str, ThreadMemo] = OrderedDict()
        self._seen = Digests()
        self._weight = 0

    def thread(self, thread_id: str) -> ThreadMemo:
        """Return the thread's memo."""
        memo = self._threads.get(thread_id)
        if memo is not None:
            try:  # noqa: SIM105 - contextlib.suppress would take longer than all else here
                self._threads.move_to_end(thread_id)  # atomic, like the step before, so it takes no lock
            except KeyError:  # evicted in the meantime
                pass
            return memo
        with self._lock:
            memo = self._threads.setdefault(thread_id, ThreadMemo())
            self._shrink()
            return memo

    def keep(self, thread_id: str, lists: Mapping[tuple[str, str], SeenList]) -> None:
        """Record that the server has these lists of a thread."""
        if not lists:
            return
        weights = {key: seen.weight() for key, seen in lists.items()}
        with self._lock:
            memo = self._threads.get(thread_id)
            if memo is None:  # evicted in the meantime
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

    def hold(self, thread_id: str, values: Mapping[bytes, ElementContent]) -> None:
        """Keep large values that the server has, so that no read of the thread brings them again."""
        if not values:
            return
        with self._lock:
            memo = self._threads.get(thread_id)
            if memo is None:
                return
            held, before = memo.held, sum(map(len, memo.held.values()))
            for digest, value in values.items():
                held[digest] = held.pop(digest, value)
            after = sum(map(len, held.values()))
            while held and (after > _MAX_HELD_BYTES or len(held) > _MAX_HELD):
                after -= len(held.pop(next(iter(held))))
            memo.weight += after - before
            self._weight += after - before
            self._shrink()

    def claim(self, memo: ThreadMemo, digests: Sequence[bytes], mine: Future[None]) -> list[Future[None]]:
        """Let the caller send these elements until it calls :meth:`release`, or return whom to wait for first.

        A caller may claim elements again, and never waits for itself.
        """
        with self._lock:
            sending = dict.fromkeys(memo.sending[digest] for digest in digests if digest in memo.sending)
            if others := [other for other in sending if other is not mine]:
                return others
            memo.sending.update(dict.fromkeys(digests, mine))
            return []

    def release(self, memo: ThreadMemo, mine: Future[None]) -> None:
        """End a claim, whether or not the elements were sent; calls that waited for it look again."""
        with self._lock:
            for digest in [digest for digest, other in memo.sending.items() if other is mine]:
                del memo.sending[digest]
        mine.set_result(None)

    def forget(self, thread_id: str) -> None:
        """Remove the memo of a thread that was deleted or replaced as a whole."""
        with self._lock:
            if memo := self._threads.pop(thread_id, None):
                self._weight -= memo.weight

    def seen(self) -> Digests:
        """Return the digests of texts and messages, for serializers whose digests do not depend on the thread."""
        # A step's pending writes are in the next step's list, and a subgraph shares its caller's list, so a few
        # digests are enough. All are evicted at once, which briefly slows the next step of each thread.
        seen = self._seen
        if seen.characters > _MAX_TEXT_CHARACTERS or len(seen.messages) > _MAX_MESSAGES:
            seen = self._seen = Digests()
        return seen

    def _shrink(self) -> None:
        while len(self._threads) > _MAX_THREADS or (self._weight > _MAX_BYTES and len(self._threads) > 1):
            self._weight -= self._threads.popitem(last=False)[1].weight
