"""Search in a collection by meaning, by words or by both: exact, on any server, reading only what is new.

A process keeps a copy of the vectors or words under each namespace prefix that it has searched. A search sends the
versions of its copy, receives the changes, finds candidates in the copy, and reads these from the server. Items
that were deleted, have expired or do not pass the filter are left out; the vectors in 32 bits rank the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ecowas_lc import forks
from ecowas_lc._extras import install_command
from ecowas_lc.errors import MissingExtraError
from ecowas_lc.search import words
from ecowas_lc.search.items import CHANGES, Header, SearchMode, fetch_op, header_of, ids_op, versions_op
from ecowas_lc.search.place import Collection, Namespace, Range, bucket_of_id, buckets_under, range_of
from ecowas_lc.storage.ops import Op, call, together

if TYPE_CHECKING:
    from ecowas_lc.search.copies import Candidate, VectorCopy, WordCopy

_IDS_AT_ONCE = 50_000
_ROWS_AT_ONCE = 5_000
_FUSION = 60  # the constant of reciprocal rank fusion, as chosen by Cormack, Clarke and Büttcher (2009)
_LEAST_CANDIDATES = 40
_FOUR_TIMES = 4
_ROUNDS_FOR_EXACTNESS = 3
COPIES_BYTES = 256 * 2**20

Read = tuple[Header, dict[str, Any]]
Passing = Callable[[bytes, Sequence[bytes | None]], Read | None]
"""A function that converts an item's row (header, value, …) to a result; ``None``: not a hit."""
Opener = Callable[[bytes, bytes, bytes], bytes]
"""A function that decrypts a part of an item, from its bytes, the item's id and the part's letter."""


class Hit(NamedTuple):
    """One item that was found."""

    score: float
    item_id: bytes
    read: Read


@dataclass(slots=True)
class _Fetched:
    read: Read | None
    version: int
    vectors: bytes | None


class SearchIndex:
    """The index of one collection as this process sees it. Use it from any thread or event loop.

    Args:
        at: The collection.
        dimensions: The dimensions of its vectors; ``None`` if it has none, or if they are set before the first
            search.
        vectors: The format of vectors in copies, ``"int8"`` or ``"float32"``. Both give exact results; the first
            takes a quarter of the memory, and reads a few more candidates.
        opener: Decrypts parts that may be encrypted.
        copies_bytes: The approximate memory limit of the copies; the most recently used ones are kept.

    Raises:
        MissingExtraError: Numpy or the stemmer is not installed.
    """

    def __init__(
        self,
        at: Collection,
        dimensions: int | None,
        *,
        has_words: bool,
        vectors: Literal["int8", "float32"] = "int8",
        opener: Opener,
        copies_bytes: int = COPIES_BYTES,
    ) -> None:
        check_numpy()
        if has_words:
            words.check_installed()
        self._at = at
        self.dimensions = dimensions
        self._exact = vectors == "float32"
        self._open = opener
        self._copies: OrderedDict[tuple[str, Namespace], VectorCopy | WordCopy] = OrderedDict()
        self._copies_bytes = copies_bytes
        self._lock = forks.Lock()
        forks.register(self)

    def forget_parent(self) -> None:
        """Drop the copies that another thread was changing when this process was forked."""
        whole = ((key, copy) for key, copy in self._copies.items() if not copy.lock.locked())
        self._copies = OrderedDict(whole)

    def nbytes(self) -> int:
        """Return the approximate memory use of the copies in bytes."""
        with self._lock:
            return sum(copy.nbytes() for copy in self._copies.values())

    def search_op(
        self,
        under: Namespace,
        query: str,
        vector: Sequence[float] | None,
        mode: SearchMode,
        wanted: int,
        passing: Passing,
    ) -> Op[list[Hit]]:
        """Return the ``wanted`` best hits under a namespace prefix, best first: two flushes if nothing is new."""
        copies = [self._copy(kind, under) for kind in _kinds_of(mode)]
        yield from together([self._update_op(copy, under) for copy in copies])
        asked = self._questions(copies, query, vector)
        fetched: dict[bytes, _Fetched] = {}
        most = max(_FOUR_TIMES * wanted, _LEAST_CANDIDATES)
        rounds = 0
        while True:
            lists = []
            for copy, question in zip(copies, asked, strict=True):
                with copy.lock:
                    lists.append((copy, copy.best(question, most)))
            yield from self._fetch_op(lists, fetched, passing)
            for copy, found in lists:
                self._forget_lost(copy, found, fetched)
            hits, is_certain = self._rank(lists, asked, fetched, wanted)
            exhausted = all(len(found) < most for _, found in lists)
            rounds += 1
            if exhausted or (len(hits) >= wanted and (is_certain or rounds >= _ROUNDS_FOR_EXACTNESS)):
                self._shrink()
                return hits[:wanted]
            most *= _FOUR_TIMES

    def _questions(
        self, copies: list[VectorCopy | WordCopy], query: str, vector: Sequence[float] | None
    ) -> list[Any]:
        from ecowas_lc.search.copies import VectorCopy, unit

        questions: list[Any] = []
        for copy in copies:
            if isinstance(copy, VectorCopy):
                assert vector is not None
                questions.append(unit(vector))  # type: ignore[arg-type]
            else:
                questions.append(words.query_of(query))
        return questions

    def _copy(self, kind: str, under: Namespace) -> VectorCopy | WordCopy:
        from ecowas_lc.search.copies import VectorCopy, WordCopy

        with self._lock:
            copy = self._copies.get((kind, under))
            if copy is None:
                if kind == "words":
                    copy = WordCopy()
                else:
                    assert self.dimensions is not None
                    copy = VectorCopy(self.dimensions, exact=self._exact)
                self._copies[kind, under] = copy
            self._copies.move_to_end((kind, under))
            return copy

    def _shrink(self) -> None:
        with self._lock:
            total = sum(copy.nbytes() for copy in self._copies.values())
            while total > self._copies_bytes and len(self._copies) > 1:
                _, copy = self._copies.popitem(last=False)
                total -= copy.nbytes()

    # --- updating a copy ---

    def _update_op(self, copy: VectorCopy | WordCopy, under: Namespace) -> Op[None]:
        buckets = list(buckets_under(under))
        if len(buckets) > 1:
            versions = yield from versions_op(self._at, buckets)
            either = {**copy.known, **versions}  # a bucket may be gone
            buckets = [bucket for bucket in either if copy.known.get(bucket) != versions.get(bucket)]
            if not buckets:
                return
        reach = range_of(under)
        known = [copy.known.get(bucket, b"") for bucket in buckets]
        replies = yield tuple(
            call(CHANGES, self._at.bucket(bucket), *reach, since, _IDS_AT_ONCE)
            for bucket, since in zip(buckets, known, strict=True)
        )
        news: list[bytes] = []
        gone_ids: list[tuple[bytes, int]] = []
        listed: dict[int, tuple[set[bytes] | None, int]] = {}
        reached: dict[int, bytes] = {}
        for bucket, reply in zip(buckets, replies, strict=True):
            if not reply:
                self._drop_bucket(copy, bucket)
                continue
            reached[bucket] = reply[0]
            if len(reply) == 1:
                continue
            if reply[1] == b"changes":
                news += reply[2][::2]
                gone_ids += [(reply[3][i], int(float(reply[3][i + 1]))) for i in range(0, len(reply[3]), 2)]
                continue
            ids = yield from self._all_ids_op(bucket, reply[2], reach)
            news += ids
            # A new copy can't have items that are missing from the list.
            listed[bucket] = (set(ids) if copy.slots else None, int(reply[0]))
        with copy.lock:
            for item_id, version in gone_ids:
                copy.remove(item_id, version)
        for start in range(0, len(news), _ROWS_AT_ONCE):
            yield from self._take_op(copy, news[start : start + _ROWS_AT_ONCE])
        with copy.lock:
            if any(ids_there is not None for ids_there, _ in listed.values()):
                for item_id in copy.ids():
                    ids_there, version = listed.get(bucket_of_id(item_id), (None, 0))
                    if ids_there is not None and item_id not in ids_there:
                        copy.remove(item_id, version)
            for bucket, version_text in reached.items():
                if int(version_text) >= int(copy.known.get(bucket, b"0")) or bucket in listed:
                    copy.known[bucket] = version_text

    def _all_ids_op(self, bucket: int, page: list[bytes], reach: Range) -> Op[list[bytes]]:
        ids = list(page)
        while len(page) == _IDS_AT_ONCE:
            page = yield from ids_op(self._at, bucket, reach, _IDS_AT_ONCE, page[-1])
            ids += page
        return ids

    def _take_op(self, copy: VectorCopy | WordCopy, ids: list[bytes]) -> Op[None]:
        part = copy.field.encode()
        rows = yield from fetch_op(self._at, ids, "h" + copy.field)
        news: list[tuple[bytes, int, bytes]] = []
        unindexed: list[tuple[bytes, int]] = []
        for item_id, row in zip(ids, rows, strict=True):
            if row[0] is None:
                continue  # deleted since: not a hit, and the next search receives the change
            version = header_of(row[0]).version
            if row[1] is None:
                unindexed.append((item_id, version))
            else:
                news.append((item_id, version, self._open(row[1], item_id, part)))
        with copy.lock:
            for item_id, version in unindexed:
                copy.remove(item_id, version)
            copy.put(news)

    def _drop_bucket(self, copy: VectorCopy | WordCopy, bucket: int) -> None:
        with copy.lock:
            if copy.known.pop(bucket, None) is not None:
                for item_id in copy.ids():
                    if bucket_of_id(item_id) == bucket:
                        copy.remove(item_id, copy.version_of(item_id))

    def _forget_lost(
        self, copy: VectorCopy | WordCopy, found: list[Candidate], fetched: dict[bytes, _Fetched]
    ) -> None:
        """Remove items from a copy that the server no longer has.

        If the server went back in time, the copy is read again.
        """
        with copy.lock:
            for candidate in found:
                there = fetched[candidate.item_id]
                if there.version == 0:
                    copy.remove(candidate.item_id, candidate.version)
                elif there.version < candidate.version:
                    copy.remove(candidate.item_id, candidate.version)
                    copy.known.pop(bucket_of_id(candidate.item_id), None)

    # --- from candidates to hits ---

    def _fetch_op(
        self, lists: list[tuple[Any, list[Candidate]]], fetched: dict[bytes, _Fetched], passing: Passing
    ) -> Op[None]:
        ids = list(
            dict.fromkeys(each.item_id for _, found in lists for each in found if each.item_id not in fetched)
        )
        if not ids:
            return
        with_vectors = any(copy.field == "q" for copy, _ in lists)
        rows = yield from fetch_op(self._at, ids, "hvf" if with_vectors else "hv")
        for item_id, row in zip(ids, rows, strict=True):
            read = passing(item_id, row)
            version = header_of(row[0]).version if row[0] is not None else 0
            vectors = row[2] if with_vectors and read else None
            fetched[item_id] = _Fetched(read, version, vectors and self._open(vectors, item_id, b"f"))

    def _rank(
        self,
        lists: list[tuple[Any, list[Candidate]]],
        asked: list[Any],
        fetched: dict[bytes, _Fetched],
        wanted: int,
    ) -> tuple[list[Hit], bool]:
        """Return the hits so far, and whether no unread item could be among the best."""
        ranked: list[list[tuple[float, bytes]]] = []
        is_certain = True
        for (copy, found), question in zip(lists, asked, strict=True):
            scored = self._scored(copy, found, question, fetched)
            ranked.append(scored)
            if len(scored) >= wanted and copy.error() and found[-1].score + copy.error() > scored[wanted - 1][0]:
                is_certain = False
        if len(ranked) == 1:
            best = ranked[0]
        else:
            fused: dict[bytes, float] = {}
            for scored in ranked:
                for rank, (_, item_id) in enumerate(scored, start=1):
                    fused[item_id] = fused.get(item_id, 0.0) + 1 / (_FUSION + rank)
            best = sorted(((score, item_id) for item_id, score in fused.items()), key=_order)
        hits = []
        for score, item_id in best:
            read = fetched[item_id].read
            assert read is not None
            hits.append(Hit(score, item_id, read))
        return hits, is_certain

    def _scored(
        self, copy: Any, found: list[Candidate], question: Any, fetched: dict[bytes, _Fetched]
    ) -> list[tuple[float, bytes]]:
        from ecowas_lc.search.copies import similarity

        scored: list[tuple[float, bytes]] = []
        for candidate in found:
            there = fetched[candidate.item_id]
            if there.read is None:
                continue
            score = candidate.score
            if copy.field == "q":
                if there.vectors is None:
                    continue  # it was stored again, and is no longer indexed
                score = similarity(there.vectors, question)
            scored.append((score, candidate.item_id))
        scored.sort(key=_order)
        return scored


def check_numpy() -> None:
    """Import the modules that need numpy now, as a process forked during an import would wait for it forever.

    Raises:
        MissingExtraError: Numpy is not installed.
    """
    try:
        import numpy  # noqa: F401, ICN001
    except ImportError:
        raise MissingExtraError(f"Search needs numpy. Run: {install_command('search')}") from None
    import ecowas_lc.search.copies  # noqa: F401


def _order(scored: tuple[float, bytes]) -> tuple[float, bytes]:
    return -scored[0], scored[1]


def _kinds_of(mode: SearchMode) -> list[str]:
    return {"meaning": ["meaning"], "words": ["words"], "both": ["meaning", "words"]}[mode]
