"""A batch of langgraph's store operations as one program: checked first, then sent in few flushes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)
from langgraph.store.base import Op as StoreOp

from ecowas_lc._connection_settings import LONGEST_TTL
from ecowas_lc.errors import CorruptDataError, InvalidIdError, InvalidInputError
from ecowas_lc.search.items import (
    Header,
    Newest,
    SearchMode,
    Write,
    fetch_op,
    header_of,
    namespaces_op,
    newest_op,
    write_op,
)
from ecowas_lc.search.place import DECIDING_LABELS, Collection, Namespace, id_of, place_of
from ecowas_lc.storage.ops import Batch, Op, together
from ecowas_lc.store.contents import Contents
from ecowas_lc.store.filters import check_filter, passes
from ecowas_lc.store.indexing import Indexing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_TTL_MINUTES = LONGEST_TTL / 60
_PAGE = 200

_Passes = Callable[[dict[str, Any]], bool]
_Found = tuple[float | None, bytes, Header, dict[str, Any]]  # score, id, header and value


class StoredItem(Item):
    """An item with its ``version``, to pass to ``put(…, if_version=item.version)``."""

    __slots__ = ("version",)

    def __init__(self, *, version: int, **fields: Any) -> None:
        super().__init__(**fields)
        self.version = version


class FoundItem(SearchItem):
    """A search result with its ``version``, to pass to ``put(…, if_version=item.version)``."""

    __slots__ = ("version",)

    def __init__(self, *, version: int, **fields: Any) -> None:
        super().__init__(**fields)
        self.version = version


class GuardedPut(PutOp):
    """A ``PutOp`` that writes only if the item has this version; 0: only if the item does not exist."""

    if_version: int | None = None


class RankedSearch(SearchOp):
    """A ``SearchOp`` with a mode of comparison and, optionally, the query's vector.

    ``passes`` is a filter as a function, applied if there is no filter of langgraph's.
    """

    mode: SearchMode | None = None
    vector: Sequence[float] | None = None
    passes: Callable[[dict[str, Any]], bool] | None = None


@dataclass(slots=True)
class BatchPlan:
    """Checked operations. Embed ``texts`` and ``queries`` before you call :meth:`op`."""

    at: Collection
    contents: Contents
    indexing: Indexing | None
    ops: list[StoreOp] = field(default_factory=list)
    puts: dict[bytes, tuple[PutOp, Write]] = field(default_factory=dict)
    fields: dict[bytes, list[str]] = field(default_factory=dict)  # the texts of items to index
    before: Batch = ()  # calls to send with the writes

    @property
    def texts(self) -> list[str]:
        """The texts of items that are indexed, without duplicates."""
        return list(dict.fromkeys(text for texts in self.fields.values() for text in texts))

    @property
    def queries(self) -> list[str]:
        """The queries that need a vector in a store with embeddings, without duplicates."""
        indexing = self.indexing
        assert indexing is not None
        asked = (op for op in self.ops if isinstance(op, SearchOp) and op.query and vector_of(op) is None)
        return list(dict.fromkeys(op.query or "" for op in asked if indexing.mode_of(op) != "words"))

    def op(
        self, vectors: Mapping[str, Sequence[float]], query_vectors: Mapping[str, Sequence[float]]
    ) -> Op[list[Result]]:
        """Run the operations. Reads see the state before the batch; the last of several writes to a key counts."""
        writes = self._writes(vectors)
        results: list[Result] = [None] * len(self.ops)
        reads: list[Op[Any]] = []
        homes: list[list[int]] = []
        one_flush = True
        for refresh in (False, True):
            gets = [
                n for n, op in enumerate(self.ops) if isinstance(op, GetOp) and bool(op.refresh_ttl) is refresh
            ]
            if gets:
                reads.append(self._get_op(gets, refresh=refresh))
                homes.append(gets)
        for number, op in enumerate(self.ops):
            if isinstance(op, SearchOp):
                reads.append(self._search_op(op, query_vectors))
                one_flush = False
            elif isinstance(op, ListNamespacesOp):
                one_flush = one_flush and len(_literal_prefix(op)) >= DECIDING_LABELS
                reads.append(self._list_op(op))
            else:
                continue
            homes.append([number])
        dimensions = self.indexing.dimensions if self.indexing else None
        writing = write_op(self.at, writes, dimensions, before=self.before)
        if writes and one_flush:
            answers = (yield from together([*reads, writing]))[:-1]
        else:
            answers = yield from together(reads)
            if writes:
                yield from writing
        for home, answer in zip(homes, answers, strict=True):
            if isinstance(self.ops[home[0]], GetOp):
                for number, item in zip(home, answer, strict=True):
                    results[number] = item
            else:
                results[home[0]] = answer
        return results

    def _writes(self, vectors: Mapping[str, Sequence[float]]) -> list[Write]:
        if self.indexing is None:
            return [write for _, write in self.puts.values()]
        return [
            self.indexing.with_rows(write, self.fields[item_id], vectors, self.contents)
            if item_id in self.fields
            else write
            for item_id, (_, write) in self.puts.items()
        ]

    def _get_op(self, gets: list[int], *, refresh: bool) -> Op[list[StoredItem | None]]:
        ids = [
            id_of(op.namespace, op.key) for op in (self.ops[number] for number in gets) if isinstance(op, GetOp)
        ]
        rows = yield from fetch_op(self.at, ids, "hv", refresh=refresh)
        items: list[StoredItem | None] = []
        for number, item_id, row in zip(gets, ids, rows, strict=True):
            op = self.ops[number]
            assert isinstance(op, GetOp)
            items.append(self._item(StoredItem, item_id, op.namespace, op.key, row))
        return items

    def _item(self, kind: Any, item_id: bytes, namespace: Namespace, key: str, row: Any, **more: Any) -> Any:
        if row[0] is None:
            return None
        header, value = self.read(item_id, row)
        return kind(
            namespace=namespace,
            key=key,
            value=value,
            created_at=moment(header.created),
            updated_at=moment(header.version),
            version=header.version,
            **more,
        )

    def read(self, item_id: bytes, row: Sequence[bytes | None]) -> tuple[Header, dict[str, Any]]:
        """Return the header and the value of an item's row that begins with these two fields."""
        head, value = row[0], row[1]
        if head is None or value is None:
            raise CorruptDataError("A stored item has no value. Delete the item, or put it again.")
        return header_of(head), self.contents.decode_value(value, item_id)

    def _list_op(self, op: ListNamespacesOp) -> Op[list[Namespace]]:
        found = yield from namespaces_op(self.at, _literal_prefix(op))
        conditions = op.match_conditions or ()
        matching = [
            namespace for namespace in found if all(_fits(condition, namespace) for condition in conditions)
        ]
        if op.max_depth is not None:
            matching = sorted({namespace[: op.max_depth] for namespace in matching})
        return matching[op.offset : op.offset + op.limit]

    def _search_op(self, op: SearchOp, query_vectors: Mapping[str, Sequence[float]]) -> Op[list[SearchItem]]:
        if op.limit == 0:
            return []
        wanted = self._wanted(op)
        vector = vector_of(op)
        if self.indexing is not None and (op.query or vector is not None):
            hits = yield from self.indexing.search_op(
                op.namespace_prefix,
                op.query or "",
                query_vectors.get(op.query or "") if vector is None else vector,
                self.indexing.mode_of(op),
                op.offset + op.limit,
                lambda item_id, row: self._passing(item_id, row, wanted),
            )
            found: list[_Found] = [(hit.score, hit.item_id, *hit.read) for hit in hits[op.offset :]]
        else:
            found = yield from self._newest_op(op, wanted)
        if op.refresh_ttl and (renewed := [item_id for _, item_id, header, _ in found if header.ttl_ms]):
            yield from fetch_op(self.at, renewed, "h", refresh=True)
        items: list[SearchItem] = []
        for score, item_id, header, value in found:
            namespace, key = place_of(item_id)
            items.append(
                FoundItem(
                    namespace=namespace,
                    key=key,
                    value=value,
                    created_at=moment(header.created),
                    updated_at=moment(header.version),
                    score=score,
                    version=header.version,
                )
            )
        return items

    def _wanted(self, op: SearchOp) -> _Passes | None:
        wanted = check_filter(op.filter)
        return (lambda value: passes(value, wanted)) if wanted else getattr(op, "passes", None)

    def _passing(
        self, item_id: bytes, row: Sequence[bytes | None], wanted: _Passes | None
    ) -> tuple[Header, dict[str, Any]] | None:
        if row[0] is None:
            return None
        header, value = self.read(item_id, row)
        return (header, value) if wanted is None or wanted(value) else None

    def _newest_op(self, op: SearchOp, wanted: _Passes | None) -> Op[list[_Found]]:
        found: list[_Found] = []
        upto = op.offset + op.limit
        after: Newest | None = None
        most = min(upto, 10_000) if not wanted else min(max(upto, _PAGE), 10_000)
        while len(found) < upto:
            page = yield from newest_op(self.at, tuple(op.namespace_prefix), most, after)
            if not page:
                break
            rows = yield from fetch_op(self.at, [each.item_id for each in page], "hv")
            for each, row in zip(page, rows, strict=True):
                if read := self._passing(each.item_id, row, wanted):
                    found.append((None, each.item_id, *read))
            if len(page) < most:
                break
            after = page[-1]
        return found[op.offset : upto]


def plan_of(ops: Iterable[StoreOp], at: Collection, contents: Contents, indexing: Indexing | None) -> BatchPlan:
    """Check every operation, so that an invalid one is refused before anything is sent.

    Raises:
        InvalidNamespaceError: A namespace has a label that is empty, not text, or contains a period.
        InvalidInputError: Another part of an operation can't be used.
    """
    plan = BatchPlan(at, contents, indexing)
    for op in ops:
        plan.ops.append(op)
        if isinstance(op, GetOp):
            _check_labels(op.namespace)
            _check_key(op.key)
        elif isinstance(op, PutOp):
            _add_put(plan, op)
        elif isinstance(op, SearchOp):
            _check_labels(op.namespace_prefix)
            _check_count(op.limit, "limit")
            _check_count(op.offset, "offset")
            check_filter(op.filter)
            if indexing is not None:
                indexing.mode_of(op)
        elif isinstance(op, ListNamespacesOp):
            _check_listing(op)
        else:
            raise InvalidInputError(f"A store has no operation of type {type(op).__name__}.")
    return plan


def vector_of(op: SearchOp) -> Sequence[float] | None:
    """Return the vector that a search carries instead of a text."""
    return op.vector if isinstance(op, RankedSearch) else None


def moment(microseconds: int) -> datetime:
    """Return the time that is this many microseconds after 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _add_put(plan: BatchPlan, op: PutOp) -> None:
    _check_labels(op.namespace)
    if not op.namespace:
        raise InvalidNamespaceError("Namespace cannot be empty.")
    _check_key(op.key)
    expected = op.if_version if isinstance(op, GuardedPut) else None
    if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int) or expected < 0):
        raise InvalidInputError(
            f"if_version must be an item's version, or 0 if the item must not exist, not {expected!r}."
        )
    item_id = id_of(op.namespace, op.key)
    plan.fields.pop(item_id, None)
    plan.puts.pop(item_id, None)
    if op.value is None:
        plan.puts[item_id] = (op, Write(item_id, deletes=True, expected=expected))
        return
    value = plan.contents.encode_value(op.value, item_id)
    if plan.indexing is not None and (texts := plan.indexing.texts_of(op.value, op.index)):
        plan.fields[item_id] = texts
    plan.puts[item_id] = (op, Write(item_id, value, milliseconds_of(op.ttl), expected))


def milliseconds_of(minutes: object, what: str = "ttl") -> int | None:
    """Return a time to live in milliseconds, from minutes.

    Raises:
        InvalidInputError: It is not a number of minutes above 0; the message calls it ``what``.
    """
    if minutes is None:
        return None
    if (
        isinstance(minutes, bool)
        or not isinstance(minutes, (int, float))
        or not math.isfinite(minutes)
        or not 0 < minutes <= _LONGEST_TTL_MINUTES
    ):
        raise InvalidInputError(f"{what} must be a number of minutes above 0, or None, not {minutes!r}.")
    return max(1, round(minutes * 60_000))


def check_namespace(namespace: object, *, may_be_empty: bool = False) -> None:
    """Check a namespace by langgraph's rules.

    Raises:
        InvalidNamespaceError: It is empty, its first label is ``"langgraph"``, or a label is empty, not text, or
            contains a period.
    """
    _check_labels(namespace)
    assert isinstance(namespace, (tuple, list))
    if not namespace and not may_be_empty:
        raise InvalidNamespaceError("Namespace cannot be empty.")
    if namespace and namespace[0] == "langgraph":
        raise InvalidNamespaceError(f'Root label for namespace cannot be "langgraph". Got: {namespace!r}')


def _check_labels(namespace: object) -> None:
    if not isinstance(namespace, (tuple, list)):
        raise InvalidNamespaceError(f"A namespace must be a tuple of strings, not {type(namespace).__name__}.")
    for label in namespace:
        if not isinstance(label, str):
            raise InvalidNamespaceError(f"Namespace labels must be strings, not {type(label).__name__}.")
        if not label:
            raise InvalidNamespaceError(f"Namespace labels cannot be empty strings. Got {namespace!r}.")
        if "." in label or "\0" in label:
            raise InvalidNamespaceError(f"Namespace labels cannot contain periods or NUL bytes. Got {label!r}.")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise InvalidIdError(f"An item's key must be text, not {type(key).__name__}.")


def _check_count(count: object, what: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InvalidInputError(f"{what} must be a whole number, 0 or more, not {count!r}.")


def _check_listing(op: ListNamespacesOp) -> None:
    _check_count(op.limit, "limit")
    _check_count(op.offset, "offset")
    if op.max_depth is not None:
        _check_count(op.max_depth, "max_depth")
    for condition in op.match_conditions or ():
        _check_labels(condition.path)
        if condition.match_type not in ("prefix", "suffix"):
            raise InvalidInputError(
                f"A namespace is matched by its prefix or its suffix, not by {condition.match_type!r}."
            )


def _literal_prefix(op: ListNamespacesOp) -> Namespace:
    """Return the longest prefix without a wildcard that every match shares."""
    longest: Namespace = ()
    for condition in op.match_conditions or ():
        if condition.match_type == "prefix":
            path = tuple(condition.path)
            literal = path[: path.index("*")] if "*" in path else path
            longest = max(longest, literal, key=len)
    return longest


def _fits(condition: MatchCondition, namespace: Namespace) -> bool:
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True))
