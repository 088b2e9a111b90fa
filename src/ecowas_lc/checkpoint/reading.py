"""Programs that read: a checkpoint, a thread's checkpoints by page, the index of threads, delta channels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple, DeltaChannelHistory, PendingWrite

from ecowas_lc.checkpoint.client_cache import SeenList
from ecowas_lc.checkpoint.codec.elements import Elements, digests_in, is_sealed, split_blob
from ecowas_lc.checkpoint.configs import CheckpointPlace, Extended, channel_of, checkpoint_id_of, place_of
from ecowas_lc.checkpoint.format import Found, Neighbours, found_in
from ecowas_lc.checkpoint.writing import SaverContext
from ecowas_lc.errors import EcowasError, InvalidInputError
from ecowas_lc.storage.keys import id_bytes, id_text
from ecowas_lc.storage.left_out import attempted_op, readable_ids, warn_left_out
from ecowas_lc.storage.ops import Call, Op, call, command, load_script

_READ = load_script(
    "checkpoint_thread",
    "bytes_order",
    "checkpoint_links",
    "checkpoint_rows",
    "checkpoint_lists",
    "checkpoint_read",
)
_THREADS = load_script("checkpoint_threads")
_FORGET = load_script("checkpoint_forget")

# A thread in the index of threads, and the time of its last write in the server's form.
RowEntry = tuple[bytes, bytes]


def read_call(
    ctx: SaverContext,
    place: CheckpointPlace,
    *,
    start: str,
    along: str,
    limit: int,
    writes: bool = True,
    values: bool = True,
    known: Iterable[SeenList] = (),
    held: Iterable[bytes] = (),
) -> Call:
    """Return a call of the script ``checkpoint_read``.

    Only the new part of the ``known`` lists is read, and no element with a digest in ``held``.
    """
    return call(
        _READ,
        (ctx.keys.thread(place.thread_id),),
        ctx.read_ttl(),
        place.ns,
        int(place.namespace is None),
        start,
        place.id,
        along,
        limit,
        int(writes),
        int(values),
        b"".join(held),
        *(word for seen in known for word in (seen.name, seen.mark)),
    )


def found_elements(ctx: SaverContext, thread_id: str, answer: Any) -> tuple[list[Found], Elements]:
    """Return the checkpoints in the read script's answer, and the elements that came with them."""
    rows, digests, bodies, _ = answer
    return found_in(thread_id, rows), ctx.format.elements(thread_id, digests_in(digests), bodies)


def _is_last(answer: Any) -> bool:
    """Return whether the read script's answer is complete; a page may end before its limit if it is large."""
    return not answer[3]


def has_sealed(page: list[Found]) -> bool:
    """Return whether one of these checkpoints is encrypted; this needs no key."""
    return any(is_sealed(split_blob(found.parts.blob)[1]) for found in page)


def _tuple_of(
    ctx: SaverContext, found: Found, elements: Elements, neighbours: Neighbours | None = None
) -> CheckpointTuple:
    read = ctx.format.checkpoint(found, elements, neighbours)
    if ctx.fencing and not found.is_latest:
        read.config["configurable"]["checkpoint_id"] = Extended(found.place.checkpoint_id)
    return read


def get_tuple_op(ctx: SaverContext, place: CheckpointPlace) -> Op[CheckpointTuple | None]:
    """Return a checkpoint, or the latest of a thread: one round trip."""
    start = "at" if place.checkpoint_id else "latest"
    memo = ctx.format.memo.thread(place.thread_id)
    known = {seen.mark: seen for seen in memo.lists_in(place.namespace or "")}
    held = memo.held.copy()
    [answer] = yield (read_call(ctx, place, start=start, along="", limit=1, known=known.values(), held=held),)
    page, elements = found_elements(ctx, place.thread_id, answer)
    elements.hold(held)
    if not page:
        return None
    [found] = page
    for seen in known.values():
        elements.recipes.update({digest: recipe for recipe, digest in seen.recipes.items()})
    ctx.format.expand(found, known)
    read = _tuple_of(ctx, found, elements)
    memo.saw(ctx.format.references(found))
    ctx.format.memo.keep(place.thread_id, ctx.format.lists_of(found, elements, read, known))
    ctx.format.memo.hold(place.thread_id, elements.large())
    return read


def _tuples_of(
    ctx: SaverContext, page: list[Found], elements: Elements, neighbours: Neighbours
) -> list[CheckpointTuple]:
    for found in page:
        ctx.format.expand(found, neighbours.lists)
    neighbours.turn_to(page, elements)
    return [_tuple_of(ctx, found, elements, neighbours) for found in page]


def list_page_op(
    ctx: SaverContext,
    place: CheckpointPlace,
    neighbours: Neighbours,
    *,
    before: str | None,
    limit: int,
    wanted: Callable[[CheckpointMetadata], bool] | None,
) -> Op[tuple[list[CheckpointTuple], str | None]]:
    """Return about ``limit`` checkpoints older than ``before``, newest first, and the start of the next page.

    Takes one round trip; with a metadata filter, a second one for the checkpoints that pass it.
    Data that ``neighbours``, the checkpoints of earlier pages, already hold is not read again.
    """
    start, along = "latest", "prev"
    if place.checkpoint_id:
        start, along = "at", ""
        if before is not None and not id_bytes(place.checkpoint_id) < id_bytes(before):
            return [], None
    elif before is not None:
        start, place = "before", CheckpointPlace(place.thread_id, place.namespace, before)
    whole = wanted is None
    alone = limit == 1 and neighbours.elements is None
    known = list(neighbours.lists.values())
    first = read_call(
        ctx, place, start=start, along=along, limit=limit, writes=whole, values=whole, known=known if whole else ()
    )
    [answer] = yield (first,)
    page, elements = found_elements(ctx, place.thread_id, answer)
    following = page[-1].place.checkpoint_id if page and along and not _is_last(answer) else None
    if wanted is None and alone:
        return [_tuple_of(ctx, found, elements) for found in page], following
    if wanted is None:
        return _tuples_of(ctx, page, elements, neighbours), following
    chosen = [found.place for found in page if wanted(ctx.format.envelope(found, elements)[1])]
    if not chosen:
        return [], following
    answers = yield tuple(read_call(ctx, each, start="at", along="", limit=1, known=known) for each in chosen)
    page, elements = [], ctx.format.elements(place.thread_id, [], [])
    for answer in answers:
        more, their_elements = found_elements(ctx, place.thread_id, answer)
        page += more
        elements.add(their_elements)
    return _tuples_of(ctx, page, elements, neighbours), following


def threads_page_op(ctx: SaverContext, *, start: bytes, above: bytes, count: int) -> Op[list[RowEntry]]:
    """Return the threads last written to at ``start`` or before, and after ``above``, latest first."""
    [flat] = yield (call(_THREADS, (ctx.keys.threads(),), start, above, count),)
    return list(zip(flat[::2], flat[1::2], strict=True))


def forget_thread_op(ctx: SaverContext, entry: RowEntry) -> Op[None]:
    """Remove the index entry of a thread that has expired, unless the thread exists again."""
    member, score = entry
    [there] = yield (command("EXISTS", ctx.keys.thread(id_text(member))),)
    if not there:
        yield (call(_FORGET, (ctx.keys.threads(),), member, score),)


_LISTED_AT_ONCE = 20
SWEEPS = 3  # a fixed number, as new threads may be created faster than they are read
T = TypeVar("T")

# A generator that yields programs and pages. Its caller runs each program it yields, sends the result back, and
# passes each list on as a page.
Walk = Generator["Op[Any] | list[T]", Any, None]


def next_page(walk: Walk[T]) -> Generator[Op[Any], Any, list[T] | None]:
    """Yield the programs that a walk needs until its next page, then return the page; ``None`` at the end."""
    answer: Any = None
    while True:
        try:
            step = walk.send(answer)
        except StopIteration:
            return None
        if isinstance(step, list):
            return step
        answer = yield step


def page_op(walk: Walk[T]) -> Op[list[T] | None]:
    """Return the walk's next page, as one program; ``None`` at the end."""
    pages = next_page(walk)
    answer: Any = None
    while True:
        try:
            step = pages.send(answer)
        except StopIteration as end:
            return cast("list[T] | None", end.value)
        answer = yield from step


def walk_threads(
    ctx: SaverContext,
    page: int = _LISTED_AT_ONCE,
    *,
    start: bytes = b"+inf",
    above: bytes = b"-inf",
    sweeps: int = SWEEPS,
) -> Walk[RowEntry]:
    """Yield every thread of the index, page by page, most recently written first.

    A thread that is written to during the walk moves to the front of the index, so a further sweep finds it, and
    it comes at the end. A walk with one sweep, or one that does not start at the front, leaves such threads out.
    """
    met: set[bytes] = set()
    for _ in range(sweeps):
        begin, newest, at_start, any_fresh = start, b"", 0, False
        while True:
            entries = yield threads_page_op(ctx, start=begin, above=above, count=page + at_start)
            newest = newest or (entries[0][1] if entries else b"")
            fresh = [entry for entry in entries if entry[0] not in met]
            met.update(member for member, _ in fresh)
            if fresh:
                any_fresh = True
                yield fresh
            if len(entries) < page + at_start:
                break
            begin = entries[-1][1]
            # Threads with the last page's lowest score come again on the next page, which has room for them.
            at_start = sum(1 for _, score in entries if score == begin)
        if not any_fresh:
            return
        above = newest


class Query:
    """The arguments of one call of ``list``."""

    def __init__(
        self,
        ctx: SaverContext,
        config: RunnableConfig | None,
        wanted: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        self._at = ctx
        self._place = place_of(config, every_namespace=True) if config is not None else None
        self._wanted = dict(wanted or {})
        self._before = checkpoint_id_of(before)
        self._left = limit

    def walk(self) -> Walk[CheckpointTuple]:
        """Yield the checkpoints, page by page."""
        if self._place is not None:
            yield from self._thread(self._place)
            return
        threads = walk_threads(self._at)
        while self._wants_more() and (page := (yield from next_page(threads))) is not None:
            for entry in page:
                found = True
                for thread_id in readable_ids([entry[0]], "threads"):
                    found = yield from self._thread(CheckpointPlace(thread_id, None))
                if not found:
                    yield forget_thread_op(self._at, entry)
                if not self._wants_more():
                    return

    def _wants_more(self) -> bool:
        return self._left is None or self._left > 0

    def _thread(self, place: CheckpointPlace) -> Generator[Op[Any] | list[CheckpointTuple], Any, bool]:
        """Yield one thread's checkpoints; return whether it had any among those examined."""
        found = False
        before = self._before
        neighbours = Neighbours()
        while self._wants_more():
            size = _LISTED_AT_ONCE if self._left is None or self._wanted else min(_LISTED_AT_ONCE, self._left)
            wanted = self._matches if self._wanted else None
            read = list_page_op(self._at, place, neighbours, before=before, limit=size, wanted=wanted)
            answer = yield read if self._place is not None else attempted_op(read)
            if isinstance(answer, EcowasError):  # a bad thread must not hide the others
                warn_left_out(f"The thread {place.thread_id!r}", answer)
                return True
            tuples, before = answer
            found = found or bool(tuples) or before is not None
            if self._left is not None:
                tuples = tuples[: self._left]
                self._left -= len(tuples)
            yield tuples
            if before is None:
                return found
        return True

    def _matches(self, metadata: CheckpointMetadata) -> bool:
        try:
            return all(metadata.get(key) == value for key, value in self._wanted.items())
        except Exception as error:  # from comparing the caller's value, for example an array
            raise InvalidInputError(f"The filter can't be compared with what is stored: {error}") from error


_READ_AT_ONCE = 200


def delta_history_op(
    ctx: SaverContext, place: CheckpointPlace, channels: Sequence[str]
) -> Op[dict[str, DeltaChannelHistory]]:
    """Return, for each channel, the nearest ancestor's value and all writes since then."""
    collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    remaining = set(channels)
    met: set[CheckpointPlace] = set()
    start, cursor = ("at" if place.checkpoint_id else "latest"), place
    is_target = True  # writes pending on the checkpoint itself come after its value
    while remaining:
        [answer] = yield (
            read_call(ctx, cursor, start=start, along="parent", limit=_READ_AT_ONCE, writes=True, values=False),
        )
        page, elements = found_elements(ctx, place.thread_id, answer)
        seeded: list[tuple[str, Found]] = []
        for found in page:
            if found.place in met:
                break
            met.add(found.place)
            if is_target:
                is_target = False
                continue
            for write in reversed(ctx.format.pending_writes(found, elements)):
                if write[1] in remaining:
                    collected[write[1]].append(write)
            inline = ctx.format.envelope(found, elements)[0]["channel_values"]
            held = {channel_of(name) for name in found.parts.fields}
            for channel in sorted(remaining & (held | set(inline))):
                if channel in inline:
                    seeds[channel] = inline[channel]
                else:
                    seeded.append((channel, found))
                remaining.discard(channel)
            if not remaining:
                break
        for channel, found in seeded:
            yield from _seed_op(ctx, found.place, channel, seeds)
        parent = id_text(page[-1].parts.parent) if page else ""
        start, cursor = "at", CheckpointPlace(place.thread_id, place.namespace, parent)
        if _is_last(answer) or not parent or cursor in met:
            break
    return {channel: _history(channel, collected, seeds) for channel in channels}


def _history(channel: str, collected: dict[str, list[PendingWrite]], seeds: dict[str, Any]) -> DeltaChannelHistory:
    entry: DeltaChannelHistory = {"writes": collected[channel][::-1]}
    if channel in seeds:
        entry["seed"] = seeds[channel]
    return entry


def _seed_op(ctx: SaverContext, place: CheckpointPlace, channel: str, seeds: dict[str, Any]) -> Op[None]:
    [answer] = yield (read_call(ctx, place, start="at", along="", limit=1, writes=False),)
    page, elements = found_elements(ctx, place.thread_id, answer)
    for found in page:
        for name, stored in zip(found.parts.fields, found.values, strict=True):
            if channel_of(name) == channel:
                seeds[channel] = ctx.format.load_value(place, name, stored, elements)


class Outlined(NamedTuple):
    """A checkpoint without its larger values: its place, its parent, and the channels it has values for."""

    place: CheckpointPlace
    parent: str
    metadata: Mapping[str, Any]
    channels: frozenset[str]
    versioned: frozenset[str]

    @property
    def counted(self) -> frozenset[str]:
        """Delta channels whose updates langgraph counts, except those with a snapshot here."""
        return frozenset(self.metadata.get("counters_since_delta_snapshot") or ())


def outline_op(ctx: SaverContext, thread_id: str) -> Op[list[Outlined]]:
    """Return all checkpoints of a thread without their larger values, newest first."""
    place = CheckpointPlace(thread_id, None)
    out: list[Outlined] = []
    start = "latest"
    while True:
        [answer] = yield (
            read_call(ctx, place, start=start, along="prev", limit=_READ_AT_ONCE, writes=False, values=False),
        )
        page, elements = found_elements(ctx, thread_id, answer)
        for found in page:
            row = found.parts
            checkpoint, metadata = ctx.format.envelope(found, elements)
            out.append(
                Outlined(
                    found.place,
                    id_text(row.parent),
                    metadata,
                    frozenset(checkpoint["channel_values"]) | {channel_of(name) for name in row.fields},
                    frozenset(checkpoint["channel_versions"]),
                )
            )
        if _is_last(answer):
            return out
        start, place = "before", CheckpointPlace(thread_id, None, out[-1].place.checkpoint_id)


def with_what_they_need(kept: Iterable[Outlined], every: list[Outlined]) -> set[CheckpointPlace]:
    """Return the places of ``kept`` and of the ancestors that their delta channels are rebuilt from.

    A delta channel's value is that of the nearest ancestor that has one, plus the writes since then.
    """
    by_place = {(each.place.namespace, each.place.checkpoint_id): each for each in every}
    delta: dict[str | None, set[str]] = {}
    for each in every:
        delta.setdefault(each.place.namespace, set()).update(each.counted)
    places = set()
    for each in kept:
        wanted = (delta[each.place.namespace] & each.versioned) - each.channels
        cursor, met = each, {each.place}
        while wanted:
            parent = by_place.get((cursor.place.namespace, cursor.parent))
            if parent is None or parent.place in met:
                break
            met.add(parent.place)
            wanted -= parent.channels
            cursor = parent
        places |= met
    return places
