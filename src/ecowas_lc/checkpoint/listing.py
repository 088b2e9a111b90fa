"""Programs that list threads: their title, last use, waiting questions, and the places where words occur."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import CheckpointMetadata
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, SCHEDULED
from langgraph.types import Interrupt

from ecowas_lc._display import Displayed
from ecowas_lc.checkpoint.configs import CheckpointPlace, channel_of
from ecowas_lc.checkpoint.entries import MESSAGES, UNKNOWN, About, about, said_in
from ecowas_lc.checkpoint.format import Found
from ecowas_lc.checkpoint.reading import (
    SWEEPS,
    RowEntry,
    Walk,
    delta_history_op,
    forget_thread_op,
    found_elements,
    next_page,
    read_call,
    walk_threads,
)
from ecowas_lc.checkpoint.thread_words import ThreadWords
from ecowas_lc.checkpoint.writing import SaverContext
from ecowas_lc.errors import DecryptionError, EcowasError, InvalidInputError
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.keys import id_bytes
from ecowas_lc.storage.left_out import UNREADABLE, attempted_op, readable_ids, warn_left_out
from ecowas_lc.storage.ops import Op, command, together

_THREADS_AT_ONCE = 200
_WHOLE_AT_ONCE = 20  # threads that are read with their messages
_NEXT = "branch:to:"  # prefix of langgraph's channels; the name of the next node follows
_OF_LANGGRAPH = ("source", "step", "parents", "writes", "run_id", "thread_id", "checkpoint_ns", "checkpoint_id")
_STAYS_OPEN = (ERROR, INTERRUPT, RESUME, SCHEDULED)  # a task with writes to other channels has ended


@dataclass(frozen=True, slots=True)
class ThreadRow(Displayed):
    """A thread as ``RedisSaver.threads`` lists it.

    Attributes:
        id: The thread's id.
        title: The first question, on one line of at most 100 characters; ``None`` if there is none.
        checkpoint: The id of the latest checkpoint; empty if the thread can't be read.
        last_activity: The time at which that checkpoint was written.
        messages: The number of messages in the channel ``messages``; ``None`` if unknown.
        turns: The number of these that a person wrote.
        steps: The step of the latest checkpoint, counted from -1 as in langgraph; ``None`` if unknown.
        ttl: Seconds until the thread expires; ``None``: never.
        waiting: The requests that wait for a person: langgraph's ``Interrupt`` objects, in the order of their
            tasks.
        next: The nodes that run next; empty if the run has ended.
        metadata: The latest checkpoint's metadata, without langgraph's own keys.
        excerpt: The text around the words of a query; empty without a query.
        unreadable: Why the thread can't be read, for example because it is encrypted with another key; empty if it
            can be read. If not, the fields that need reading are ``None`` or empty.
        cursor: Pass it, or the row, as ``after=`` to list the threads that follow this one.
    """

    id: str
    title: str | None = None
    checkpoint: str = ""
    last_activity: dt.datetime | None = None
    messages: int | None = None
    turns: int | None = None
    steps: int | None = None
    ttl: float | None = None
    waiting: tuple[Interrupt, ...] = ()
    next: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    excerpt: str = ""
    unreadable: str = ""
    cursor: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ThreadFilter:
    """The threads that a list should contain."""

    limit: int | None = 20
    after: tuple[float, bytes] | None = None
    prefix: bytes = b""
    since: float = -math.inf
    waiting: bool | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    query: str | None = None
    speaker: str | None = None

    @property
    def is_picky(self) -> bool:
        """Whether the list may leave out threads of the index."""
        return bool(self.prefix or self.where or self.waiting is not None or self.query is not None)


def wanted_of(
    *,
    limit: int | None,
    after: ThreadRow | str | None,
    prefix: str,
    since: dt.datetime | float | None,
    waiting: bool | None,
    where: Mapping[str, Any] | None,
    query: str | None,
    speaker: str | None,
) -> ThreadFilter:
    """Return the arguments of ``threads``, checked.

    Raises:
        InvalidInputError: An argument can't be used.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InvalidInputError("limit must be a number of threads, 1 or more, or None for all.")
    if not isinstance(prefix, str):
        raise InvalidInputError("prefix must be text: the beginning of the threads' ids.")
    if where is not None and not isinstance(where, Mapping):
        raise InvalidInputError('where must map metadata keys to values: where={"user_id": "ada"}')
    if waiting is not None and type(waiting) is not bool:
        raise InvalidInputError("waiting must be True, False, or None for all threads.")
    if query is not None and (not isinstance(query, str) or not query.strip()):
        raise InvalidInputError("The query is empty. Give it at least one word, or leave it out.")
    if query is not None and after is not None:
        raise InvalidInputError(
            "after can't be combined with query, whose threads are sorted by relevance. Raise limit instead."
        )
    if speaker is not None and query is None:
        raise InvalidInputError("speaker requires a query: threads(query=…, speaker=…)")
    return ThreadFilter(
        limit,
        None if after is None else _place_of(after),
        id_bytes(prefix),
        -math.inf if since is None else _seconds(since),
        waiting,
        dict(where or {}),
        query,
        speaker,
    )


def _seconds(since: dt.datetime | float) -> float:
    if isinstance(since, dt.datetime):
        return since.timestamp()  # a datetime without a time zone is in local time
    if isinstance(since, bool) or not isinstance(since, (int, float)) or not math.isfinite(since):
        raise InvalidInputError("since must be a datetime, or seconds since 1970.")
    return float(since)


def _place_of(after: ThreadRow | str) -> tuple[float, bytes]:
    text = after.cursor if isinstance(after, ThreadRow) else after
    score, colon, member = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        place = float(score), id_bytes(member)
    except ValueError:
        place = math.nan, b""
    if not colon or not member or not math.isfinite(place[0]):
        raise InvalidInputError(f"after must be the last row of the page before, or its cursor, not {after!r}.")
    return place


def rows_walk(ctx: SaverContext, wanted: ThreadFilter, words: ThreadWords) -> Walk[ThreadRow]:
    """Yield the wanted threads, page by page."""
    ctx = ctx._replace(refresh_on_read=False, fencing=False)
    if wanted.query is not None:
        yield from _query_walk(ctx, wanted, words)
        return
    left = wanted.limit
    rows = _plain_walk(ctx, wanted)
    while left != 0 and (page := (yield from next_page(rows))) is not None:
        page = page if left is None else page[:left]
        left = None if left is None else left - len(page)
        yield page
    yield warn_of_evictions_op(ctx.keys, "The list may lack threads", "threads")


def _plain_walk(ctx: SaverContext, wanted: ThreadFilter) -> Walk[ThreadRow]:
    """Yield the wanted threads, page by page, without applying the query or the limit."""
    start = b"+inf" if wanted.after is None else repr(wanted.after[0]).encode()
    above = b"-inf" if wanted.since == -math.inf else repr(math.nextafter(wanted.since, -math.inf)).encode()
    few = wanted.limit is not None and not wanted.is_picky
    size = min(wanted.limit or 0, _THREADS_AT_ONCE) + (wanted.after is not None) if few else _THREADS_AT_ONCE
    sweeps = SWEEPS if wanted.limit is None and wanted.after is None else 1
    threads = walk_threads(ctx, page=size, start=start, above=above, sweeps=sweeps)
    while (page := (yield from next_page(threads))) is not None:
        entries = [entry for entry in page if _is_wanted(entry, wanted)]
        if not entries:
            continue
        read = yield _rows_op(ctx, entries)
        yield [row for row, metadata in read if _matches(row, metadata, wanted)]


def _is_wanted(entry: RowEntry, wanted: ThreadFilter) -> bool:
    member, score = entry
    if wanted.after is not None:
        place = float(score)
        # The server lists threads with equal scores in reverse order.
        if place > wanted.after[0] or (place == wanted.after[0] and member >= wanted.after[1]):
            return False
    return member.startswith(wanted.prefix)


def _matches(row: ThreadRow, metadata: CheckpointMetadata, wanted: ThreadFilter) -> bool:
    if wanted.waiting is not None and bool(row.waiting) is not wanted.waiting:
        return False
    missing = object()
    try:
        return all(metadata.get(key, missing) == value for key, value in wanted.where.items())
    except Exception as error:  # from comparing the caller's value, for example an array
        raise InvalidInputError(f"where can't be compared with what is stored: {error}") from error


_Read = tuple[ThreadRow, CheckpointMetadata]


def _rows_op(ctx: SaverContext, entries: Sequence[RowEntry]) -> Op[list[_Read]]:
    """Return the rows of these threads: one flush, plus one for threads whose entry is of another checkpoint."""
    ids = {member: thread_id for member, _ in entries for thread_id in readable_ids([member], "threads")}
    named = [(ids[entry[0]], entry) for entry in entries if entry[0] in ids]
    replies = yield tuple(
        each
        for thread_id, _ in named
        for each in (
            read_call(ctx, CheckpointPlace(thread_id), start="latest", along="", limit=1, values=False)._replace(
                optional=True
            ),
            command("HGET", ctx.keys.thread(thread_id), "T", optional=True),
            command("PTTL", ctx.keys.thread(thread_id)),
        )
    )
    read: dict[str, _Read] = {}
    stale: list[str] = []
    gone: list[RowEntry] = []
    for number, (thread_id, entry) in enumerate(named):
        answer, raw, left = replies[3 * number : 3 * number + 3]
        if left == -2:
            gone.append(entry)
            continue
        failed = next((each for each in (answer, raw) if isinstance(each, Exception)), None)
        if failed is not None:
            warn_left_out(f"The thread {thread_id!r}", failed)
            continue
        row = _bare_row(thread_id, entry, left)
        try:
            found = _row(ctx, row, answer, raw)
        except DecryptionError as error:  # the data is intact, only the key is missing
            read[thread_id] = replace(row, unreadable=str(error)), {}
        except UNREADABLE as error:
            warn_left_out(f"The thread {thread_id!r}", error)
        else:
            if found is not None:
                read[thread_id], is_whole = found
                if not is_whole:
                    stale.append(thread_id)
    abouts = yield from _abouts_op(ctx, stale)
    for thread_id, known in abouts.items():
        row, metadata = read[thread_id]
        read[thread_id] = replace(row, **known._asdict()), metadata
    yield from together([forget_thread_op(ctx, entry) for entry in gone])
    return [read[thread_id] for thread_id, _ in named if thread_id in read]


def _bare_row(thread_id: str, entry: RowEntry, left: int) -> ThreadRow:
    seconds = float(entry[1])
    return ThreadRow(
        thread_id,
        last_activity=dt.datetime.fromtimestamp(seconds, dt.UTC),
        ttl=None if left == -1 else left / 1000,
        cursor=f"{seconds!r}:{thread_id}",
    )


def _row(ctx: SaverContext, row: ThreadRow, answer: Any, raw: bytes | None) -> tuple[_Read, bool] | None:
    """Return the row of one thread, its metadata, and whether its entry belongs to this checkpoint."""
    page, elements = found_elements(ctx, row.id, answer)
    if not page:  # only its subgraphs have checkpoints, or it has only pending writes
        return None
    [found] = page
    checkpoint, metadata = ctx.format.envelope(found, elements)
    known = ctx.format.load_entry(found.place, raw)
    step = metadata.get("step")
    channels = [*checkpoint["channel_values"], *_channels(found)]
    row = replace(
        row,
        checkpoint=found.place.checkpoint_id or "",
        steps=step if type(step) is int else None,
        waiting=waiting_in(ctx.format.pending_writes(found, elements)),
        next=tuple(channel.removeprefix(_NEXT) for channel in channels if channel.startswith(_NEXT)),
        metadata={key: value for key, value in metadata.items() if key not in _OF_LANGGRAPH},
        **(known or UNKNOWN)._asdict(),
    )
    has_messages = MESSAGES in checkpoint["channel_versions"]
    return (row, metadata), known is not None and (known.messages is not None or not has_messages)


def _channels(found: Found) -> Iterable[str]:
    return (channel_of(name) for name in found.parts.fields)


def waiting_in(pending: Iterable[tuple[str, str, Any]]) -> tuple[Interrupt, ...]:
    """Return the requests that wait for a person among the pending writes of a thread's latest checkpoint."""
    asked: dict[str, list[Interrupt]] = {}
    ended: set[str] = set()
    for task, channel, value in pending:
        if channel == INTERRUPT:
            values = value if isinstance(value, (list, tuple)) else [value]
            asked[task] = [each for each in values if isinstance(each, Interrupt)]
        elif channel not in _STAYS_OPEN:
            ended.add(task)
    return tuple(each for task, found in asked.items() if task not in ended for each in found)


def _abouts_op(ctx: SaverContext, thread_ids: Sequence[str]) -> Op[dict[str, About]]:
    """Return the titles and lengths of threads that another version wrote last, by reading their messages."""
    known: dict[str, About] = {}
    for first in range(0, len(thread_ids), _WHOLE_AT_ONCE):
        some = thread_ids[first : first + _WHOLE_AT_ONCE]
        values = yield from _values_op(ctx, some)
        known |= {thread_id: about(found) for thread_id, found in values.items()}
    return known


def _values_op(ctx: SaverContext, thread_ids: Sequence[str]) -> Op[dict[str, Mapping[str, Any]]]:
    """Return the channel values of threads' latest checkpoints; threads that can't be read are left out."""
    replies = yield tuple(
        read_call(ctx, CheckpointPlace(thread_id), start="latest", along="", limit=1, writes=False)._replace(
            optional=True
        )
        for thread_id in thread_ids
    )
    read: dict[str, Mapping[str, Any]] = {}
    for thread_id, answer in zip(thread_ids, replies, strict=True):
        if isinstance(answer, Exception):
            continue
        values = yield from attempted_op(_values_of_op(ctx, thread_id, answer))
        if isinstance(values, EcowasError):
            warn_left_out(f"The messages of the thread {thread_id!r}", values)
        elif values is not None:
            read[thread_id] = values
    return read


def _values_of_op(ctx: SaverContext, thread_id: str, answer: Any) -> Op[Mapping[str, Any] | None]:
    page, elements = found_elements(ctx, thread_id, answer)
    if not page:
        return None
    try:
        read = ctx.format.checkpoint(page[0], elements)
    except DecryptionError:
        return None
    values = read.checkpoint["channel_values"]
    if MESSAGES in values or MESSAGES not in read.checkpoint["channel_versions"]:
        return values
    from langgraph.graph.message import add_messages

    # A delta channel without a value here: take its nearest ancestor's value and apply the writes since then.
    history = (yield from delta_history_op(ctx, page[0].place, [MESSAGES]))[MESSAGES]
    seed = getattr(history.get("seed"), "value", history.get("seed"))
    messages = list(seed) if isinstance(seed, list) else []
    for _, _, value in history["writes"]:
        added: Any = [
            each for each in (value if isinstance(value, list) else [value]) if isinstance(each, BaseMessage)
        ]
        try:
            messages = add_messages(messages, added)  # type: ignore[assignment]
        except ValueError:  # a write removes a message that does not exist
            return values
    return {**values, MESSAGES: messages}


# --- words ---


def _query_walk(ctx: SaverContext, wanted: ThreadFilter, words: ThreadWords) -> Generator[Any, Any, None]:
    assert wanted.query is not None
    words.check_installed()
    rows: dict[str, ThreadRow] = {}
    threads = _plain_walk(ctx, wanted)
    while (page := (yield from next_page(threads))) is not None:
        readable = [row for row in page if not row.unreadable]
        rows |= {row.id: row for row in readable}
        unread = [row for row in readable if not words.has(row.id, row.checkpoint)]
        for first in range(0, len(unread), _WHOLE_AT_ONCE):
            some = unread[first : first + _WHOLE_AT_ONCE]
            values = yield _values_op(ctx, [row.id for row in some])
            words.put([(row.id, row.checkpoint, said_in(values.get(row.id, {}))) for row in some])
    hits = [rows[thread_id] for thread_id in words.best(wanted.query, rows, wanted.speaker)]
    yield warn_of_evictions_op(ctx.keys, "The search may lack threads", "threads")
    for first in range(0, len(hits[: wanted.limit]), _WHOLE_AT_ONCE):
        some = hits[: wanted.limit][first : first + _WHOLE_AT_ONCE]
        values = yield _values_op(ctx, [row.id for row in some])
        # Threads that were deleted or changed since they were read are not hits.
        texts = {row.id: words.excerpt(wanted.query, said_in(values.get(row.id, {}))) for row in some}
        yield [replace(row, excerpt=texts[row.id]) for row in some if texts[row.id]]
    words.shrink()
