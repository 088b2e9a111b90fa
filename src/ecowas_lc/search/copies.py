"""A process's copies of a collection: the vectors and words of the items under one namespace prefix.

A copy finds likely hits. Each search updates it, and it is never authoritative: a hit is an item that the server
still has. Changes may arrive out of order, from several threads; an item's version determines which is newer.
"""

from __future__ import annotations

import contextlib
import importlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ecowas_lc import forks
from ecowas_lc.errors import CorruptDataError, DimensionMismatchError

_BLOCK_ROWS = 4096
_CONVERTED_ROWS = 512  # this many vectors in 32 bits fit in a processor's cache
_FIRST_ROWS = 64
_SCALE = np.dtype("<f4")
_SIGMAS = 6  # standard deviations of the error of 8 bits


simsimd: Any = None  # multiplies whole numbers of 8 bits, in a third of numpy's time
with contextlib.suppress(ImportError):
    simsimd = importlib.import_module("simsimd")


class Candidate(NamedTuple):
    """An item that a copy found: its score, its id, and the version that the copy has."""

    score: float
    item_id: bytes
    version: int


class Copy(Protocol):
    """The methods of a copy that :mod:`ecowas_lc.search.index` needs."""

    known: dict[int, bytes]
    lock: forks.Lock
    field: str

    def put(self, rows: Sequence[tuple[bytes, int, bytes]]) -> None:
        """Add items: id, version and row."""
        ...

    def remove(self, item_id: bytes, version: int) -> None:
        """Remove an item, unless a newer version of it is known."""
        ...

    def ids(self) -> list[bytes]:
        """Return the ids of all items."""
        ...

    def nbytes(self) -> int:
        """Return its approximate memory use in bytes."""
        ...


class _Slots:
    """The items of a copy, each in a numbered slot."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}  # this copy's version of each bucket
        self.lock = forks.Lock()
        self.slots: dict[bytes, int] = {}
        self._ids: list[bytes | None] = []
        self._versions = array("q")
        self._free: list[int] = []
        self._id_bytes = 0

    def __len__(self) -> int:
        return len(self.slots)

    def ids(self) -> list[bytes]:
        return list(self.slots)

    def version_of(self, item_id: bytes) -> int:
        slot = self.slots.get(item_id)
        return -1 if slot is None else self._versions[slot]

    def _take_slot(self, item_id: bytes, version: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._ids[slot] = item_id
            self._versions[slot] = version
        else:
            slot = len(self._ids)
            self._ids.append(item_id)
            self._versions.append(version)
        self.slots[item_id] = slot
        self._id_bytes += len(item_id) + 150  # including Python's overhead
        return slot

    def _drop_slot(self, item_id: bytes, version: int) -> int | None:
        slot = self.slots.get(item_id)
        if slot is None or self._versions[slot] > version:
            return None
        del self.slots[item_id]
        self._ids[slot] = None
        self._id_bytes -= len(item_id) + 150
        return slot

    def _candidate(self, slot: int, score: float) -> Candidate | None:
        item_id = self._ids[slot]
        return None if item_id is None else Candidate(score, item_id, self._versions[slot])


class VectorCopy(_Slots):
    """Vectors of items, in 8 bits or 32; an item with several texts has several."""

    def __init__(self, dimensions: int, *, exact: bool) -> None:
        super().__init__()
        self.field = "f" if exact else "q"
        self.dimensions = dimensions
        self.exact = exact
        self._blocks: list[NDArray[Any]] = []
        self._scales: list[NDArray[np.float32]] = []
        self._owners: list[NDArray[np.int32]] = []  # the slot of a row; -1: none
        self._used: list[int] = []
        self._free_rows: list[tuple[int, int]] = []
        self._several: dict[int, int] = {}  # slots with more than one row
        self._row_of = array("q")  # a slot's only row, as block * _BLOCK_ROWS + place
        self._largest_scale = 0.0

    @property
    def rows(self) -> int:
        """The number of rows in use, including those of deleted items."""
        return sum(self._used)

    def put(self, rows: Sequence[tuple[bytes, int, bytes]]) -> None:
        """Add items: id, version and stored row."""
        news = [row for row in rows if row[1] > self.version_of(row[0])]
        if not news:
            return
        one = self.dimensions * (4 if self.exact else 1) + (0 if self.exact else 4)
        for item_id, version, row in news:
            if len(row) % one or (self.exact and len(row) % 4):
                raise DimensionMismatchError(
                    f"The vectors stored here do not have {self.dimensions} dimensions, as this store's do. Use "
                    "the embedding model that wrote them, or another prefix or collection."
                )
            self.remove(item_id, version)
        slots = [self._take_slot(item_id, version) for item_id, version, _ in news]
        counts = [len(row) // one for _, _, row in news]
        owners = np.repeat(np.asarray(slots, dtype=np.int32), counts)
        raw = b"".join(row for _, _, row in news)
        if self.exact:
            vectors: NDArray[Any] = np.frombuffer(raw, dtype="<f4").reshape(-1, self.dimensions)
            scales = np.ones(len(owners), dtype=np.float32)
        else:
            packed = np.frombuffer(raw, dtype=[("scale", "<f4"), ("values", "i1", (self.dimensions,))])
            vectors, scales = packed["values"], packed["scale"].astype(np.float32)
        # Vectors have length 1, so no number or scale may exceed 1.
        largest = vectors if self.exact else scales
        if not bool((np.abs(largest) <= 1.001).all()):  # also false for NaN
            raise CorruptDataError(
                "A stored vector is not in the storage format. Delete the item, or put it again."
            )
        while len(self._row_of) < len(self._ids):
            self._row_of.append(-1)
        for slot, count in zip(slots, counts, strict=True):
            if count > 1:
                self._several[slot] = count
        self._append(vectors, scales, owners)

    def _append(self, vectors: NDArray[Any], scales: NDArray[np.float32], owners: NDArray[np.int32]) -> None:
        if len(scales):
            self._largest_scale = max(self._largest_scale, float(scales.max()))
        start = 0
        while start < len(owners) and self._free_rows:
            block, place = self._free_rows.pop()
            self._set(block, place, vectors[start], scales[start], int(owners[start]))
            start += 1
        while start < len(owners):
            block, room = self._room(len(owners) - start)
            place = self._used[block]
            count = min(room, len(owners) - start)
            stop = start + count
            self._blocks[block][place : place + count] = vectors[start:stop]
            self._scales[block][place : place + count] = scales[start:stop]
            self._owners[block][place : place + count] = owners[start:stop]
            self._used[block] = place + count
            first = block * _BLOCK_ROWS + place
            for offset, owner in enumerate(owners[start:stop].tolist()):
                self._row_of[owner] = first + offset
            start = stop

    def _set(self, block: int, place: int, vector: Any, scale: Any, owner: int) -> None:
        self._blocks[block][place] = vector
        self._scales[block][place] = scale
        self._owners[block][place] = owner
        self._row_of[owner] = block * _BLOCK_ROWS + place

    def _room(self, wanted: int) -> tuple[int, int]:
        last = len(self._blocks) - 1
        if last >= 0 and self._used[last] < len(self._owners[last]):
            return last, len(self._owners[last]) - self._used[last]
        held = len(self._owners[last]) if last >= 0 else 0
        if last >= 0 and held < _BLOCK_ROWS:  # a small collection starts with a small block that grows
            size = min(_BLOCK_ROWS, max(2 * held, held + wanted))
            self._blocks[last] = _grown(self._blocks[last], size)
            self._scales[last] = _grown(self._scales[last], size)
            self._owners[last] = _grown(self._owners[last], size)
            return last, size - held
        size = min(_BLOCK_ROWS, max(_FIRST_ROWS, wanted)) if last < 0 else _BLOCK_ROWS
        self._blocks.append(np.zeros((size, self.dimensions), dtype=np.float32 if self.exact else np.int8))
        self._scales.append(np.zeros(size, dtype=np.float32))
        self._owners.append(np.full(size, -1, dtype=np.int32))
        self._used.append(0)
        return last + 1, size

    def remove(self, item_id: bytes, version: int) -> None:
        """Remove an item, unless a newer version of it is known."""
        slot = self._drop_slot(item_id, version)
        if slot is None:
            return
        if self._several.pop(slot, 0):
            for block, owners in enumerate(self._owners):
                for place in np.flatnonzero(owners == slot).tolist():
                    owners[place] = -1
                    self._free_rows.append((block, place))
        elif slot < len(self._row_of) and self._row_of[slot] >= 0:
            block, place = divmod(self._row_of[slot], _BLOCK_ROWS)
            if self._owners[block][place] == slot:
                self._owners[block][place] = -1
                self._free_rows.append((block, place))
        self._row_of[slot] = -1
        self._free.append(slot)

    def best(self, query: NDArray[np.float32], most: int) -> list[Candidate]:
        """Return the ``most`` items with the nearest vectors, best first; an item's nearest vector counts."""
        rows = self.rows
        if not rows or most <= 0:
            return []
        scores = np.empty(rows, dtype=np.float32)
        start = 0
        for block, scales, owners, used in zip(self._blocks, self._scales, self._owners, self._used, strict=True):
            part = scores[start : start + used]
            if self.exact:
                products(block[:used], query, part)
            else:
                products_of_8_bits(block[:used], query, part)
                part *= scales[:used]
            part[owners[:used] < 0] = -np.inf
            start += used
        owners = np.concatenate([owners[:used] for owners, used in zip(self._owners, self._used, strict=True)])
        return self._ranked(scores, owners, most)

    def _ranked(self, scores: NDArray[np.float32], owners: NDArray[np.int32], most: int) -> list[Candidate]:
        wanted = most
        while True:
            if wanted < len(scores):
                top = np.argpartition(scores, len(scores) - wanted)[len(scores) - wanted :]
            else:
                top = np.arange(len(scores))
            top = top[np.argsort(-scores[top], kind="stable")]
            found: dict[int, float] = {}
            for row in top.tolist():
                owner = int(owners[row])
                if owner >= 0:
                    found.setdefault(owner, float(scores[row]))
            if len(found) >= most or wanted >= len(scores):
                break
            wanted *= 2  # the rows found included several of one item
        candidates = (self._candidate(slot, score) for slot, score in list(found.items())[:most])
        return [candidate for candidate in candidates if candidate]

    def error(self) -> float:
        """Return the maximum error of a score; 0 if vectors are kept in 32 bits."""
        return 0.0 if self.exact else _SIGMAS * self._largest_scale / 12**0.5

    def nbytes(self) -> int:
        """Return its approximate memory use in bytes."""
        arrays: Iterable[NDArray[Any]] = [*self._blocks, *self._scales, *self._owners]
        return sum(each.nbytes for each in arrays) + self._id_bytes + 16 * len(self._ids)


def _grown(old: NDArray[Any], rows: int) -> NDArray[Any]:
    new = np.zeros((rows, *old.shape[1:]), dtype=old.dtype)
    new[: len(old)] = old
    if old.ndim == 1 and old.dtype == np.int32:
        new[len(old) :] = -1
    return new


_TAIL_TERMS = 100_000  # unsorted terms, above which they are merged with the sorted ones


class WordCopy(_Slots):
    """Words of items as postings: for each term, the items that contain it and how often. Ranked by BM25."""

    K1, B = 1.2, 0.75

    def __init__(self) -> None:
        super().__init__()
        self.field = "w"
        self._lengths = array("f")
        self._terms: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)  # sorted, without duplicates
        self._starts: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        self._docs: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._times: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
        self._tail: list[tuple[int, NDArray[np.uint64], NDArray[np.uint8]]] = []
        self._tail_arrays: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None
        self._tail_size = 0

    def put(self, rows: Sequence[tuple[bytes, int, bytes]]) -> None:
        """Add items: id, version and stored row."""
        for item_id, version, row in rows:
            if version <= self.version_of(item_id):
                continue
            count, rest = divmod(len(row) - 4, 9)
            if rest or count < 0:
                raise CorruptDataError(
                    "An item's words are not in the storage format. Delete it, or put it again."
                )
            self.remove(item_id, version)
            slot = self._take_slot(item_id, version)
            while len(self._lengths) <= slot:
                self._lengths.append(0.0)
            self._lengths[slot] = float(int.from_bytes(row[:4], "little"))
            terms = np.frombuffer(row, dtype="<u8", count=count, offset=4)
            self._tail.append((slot, terms, np.frombuffer(row, dtype=np.uint8, offset=4 + 8 * count)))
            self._tail_size += count
        self._tail_arrays = None
        if self._tail_size > _TAIL_TERMS and self._tail_size > len(self._docs) // 4:
            self._merge()

    def remove(self, item_id: bytes, version: int) -> None:
        """Remove an item, unless a newer version of it is known."""
        # The slot is not reused before the postings are merged, as they still refer to it.
        self._drop_slot(item_id, version)

    def best(self, query: Sequence[tuple[int, ...]], most: int) -> list[Candidate]:
        """Return the ``most`` items with the highest BM25, best first; of a word's terms the best one counts."""
        if not self.slots or not query or most <= 0:
            return []
        lengths = np.frombuffer(self._lengths, dtype=np.float32)
        alive = np.zeros(len(lengths), dtype=bool)
        alive[np.fromiter(self.slots.values(), dtype=np.int64, count=len(self.slots))] = True
        count = len(self.slots)
        average = float(lengths[alive].mean()) or 1.0
        norms = self.K1 * (1 - self.B + self.B * lengths / average)
        total = np.zeros(len(lengths), dtype=np.float32)
        for variants in query:
            word = np.zeros(len(lengths), dtype=np.float32)
            for term in variants:
                docs, times = self._postings(term)
                here = alive[docs]
                docs, times = docs[here], times[here]
                if len(docs):
                    rarity = float(np.log(1 + (count - len(docs) + 0.5) / (len(docs) + 0.5)))
                    weights = rarity * times * (self.K1 + 1) / (times + norms[docs])
                    word[docs] = np.maximum(word[docs], weights.astype(np.float32))
            total += word
        matching = np.flatnonzero(total)
        if len(matching) > most:
            matching = matching[np.argpartition(-total[matching], most)[:most]]
        order = matching[np.argsort(-total[matching], kind="stable")]
        candidates = (self._candidate(slot, float(total[slot])) for slot in order.tolist())
        return [candidate for candidate in candidates if candidate]

    def _postings(self, term: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        key = np.uint64(term)
        place = int(np.searchsorted(self._terms, key))
        docs, times = [self._docs[:0]], [self._times[:0]]
        if place < len(self._terms) and self._terms[place] == key:
            start, stop = int(self._starts[place]), int(self._starts[place + 1])
            docs.append(self._docs[start:stop])
            times.append(self._times[start:stop])
        if self._tail:
            tail_terms, tail_docs, tail_times = self._tails()
            here = tail_terms == key
            docs.append(tail_docs[here])
            times.append(tail_times[here])
        return np.concatenate(docs), np.concatenate(times).astype(np.float32)

    def _tails(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if self._tail_arrays is None:
            counts = [len(terms) for _, terms, _ in self._tail]
            slots = np.asarray([slot for slot, _, _ in self._tail], dtype=np.int32)
            self._tail_arrays = (
                np.concatenate([terms for _, terms, _ in self._tail]),
                np.repeat(slots, counts),
                np.concatenate([times for _, _, times in self._tail]),
            )
        return self._tail_arrays

    def _merge(self) -> None:
        tail_terms, tail_docs, tail_times = self._tails()
        terms = np.concatenate([np.repeat(self._terms, np.diff(self._starts)), tail_terms])
        docs = np.concatenate([self._docs, tail_docs])
        times = np.concatenate([self._times, tail_times])
        alive = np.zeros(len(self._lengths), dtype=bool)
        alive[np.fromiter(self.slots.values(), dtype=np.int64, count=len(self.slots))] = True
        kept = np.flatnonzero(alive[docs])
        order = kept[np.argsort(terms[kept], kind="stable")]
        self._terms, first = np.unique(terms[order], return_index=True)
        self._starts = np.append(first, len(order)).astype(np.int64)
        self._docs, self._times = docs[order], times[order]
        self._tail, self._tail_arrays, self._tail_size = [], None, 0
        self._free = [slot for slot, item_id in enumerate(self._ids) if item_id is None]

    def error(self) -> float:
        """Return the maximum error of a score."""
        return 0.0

    def nbytes(self) -> int:
        """Return its approximate memory use in bytes."""
        postings = len(self._docs) * 5 + len(self._terms) * 16 + self._tail_size * 22
        return postings + self._id_bytes + 12 * len(self._ids)


def products(rows: NDArray[np.float32], query: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Store the product of each row and the query in ``out``, computed in this thread.

    ``np.dot`` would share a block among all processors and wait for each of them: up to 20 ms on a busy machine.
    It also uses OpenBLAS, whose lock stays locked in a child that is forked while another thread multiplies.
    """
    if hasattr(np, "vecdot"):  # since numpy 2
        np.vecdot(rows, query, out=out)
    else:
        np.einsum("ij,j->i", rows, query, out=out)


def products_of_8_bits(rows: NDArray[np.int8], query: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Store the product of each row of whole numbers and the query in ``out``, computed in this thread."""
    if simsimd is None:
        buffer = np.empty((_CONVERTED_ROWS, rows.shape[1]), dtype=np.float32)
        for first in range(0, len(rows), _CONVERTED_ROWS):
            part = rows[first : first + _CONVERTED_ROWS]
            np.copyto(buffer[: len(part)], part, casting="unsafe")
            products(buffer[: len(part)], query, out[first : first + len(part)])
        return
    # The query as two rows of 8 bits: the second has what the first leaves over, so the sum has 16 bits.
    coarse, coarse_scale = _in_8_bits(query)
    fine, fine_scale = _in_8_bits(query - coarse_scale * coarse)
    sums = np.asarray(simsimd.cdist(rows, np.stack([coarse, fine]), metric="dot"))
    np.add(sums[:, 0] * coarse_scale, sums[:, 1] * fine_scale, out=out, casting="same_kind")


def _in_8_bits(vector: NDArray[np.float32]) -> tuple[NDArray[np.int8], np.float32]:
    """Return a vector's whole numbers, and the scale by which they are multiplied."""
    scale = np.float32(np.abs(vector).max() / 127) or np.float32(1)
    return np.rint(vector / scale).astype(np.int8), scale


def unit(vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Return the vectors scaled to length 1; a vector of zeros stays unchanged."""
    array_ = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(array_, axis=-1, keepdims=True)
    norms[norms == 0] = 1
    normalised: NDArray[np.float32] = (array_ / norms).astype(np.float32)
    return normalised


def rows_of(vectors: Sequence[Sequence[float]]) -> tuple[bytes, bytes]:
    """Return the rows of an item with these vectors: in 8 bits, each with its scale, and in 32 bits."""
    units = unit(vectors)
    scales = (np.abs(units).max(axis=1) / 127).astype(_SCALE)
    scales[scales == 0] = 1
    quantised = np.rint(units / scales[:, None]).astype(np.int8)
    packed = b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, quantised, strict=True))
    return packed, units.astype("<f4").tobytes()


def similarity(row: bytes, query: NDArray[np.float32]) -> float:
    """Return the cosine of a query and the nearest of a stored row's vectors.

    Raises:
        CorruptDataError: It is not a row of vectors with the query's dimensions.
    """
    if row and len(row) % (4 * len(query)) == 0:
        vectors = np.frombuffer(row, dtype="<f4").reshape(-1, len(query))
        cosines = np.empty(len(vectors), np.float32)
        products(vectors, query, out=cosines)
        nearest = float(cosines.max())
        if np.isfinite(nearest):
            return nearest
    raise CorruptDataError("A stored vector is not in the storage format. Delete the item, or put it again.")
