"""Programs that read: a checkpoint, a thread's checkpoints page by page, the index of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple

from ecowas_lc.checkpoint.codec.elements import Elements, digests_in, is_sealed, split_blob
from ecowas_lc.checkpoint.codec.rows import split_row
from ecowas_lc.checkpoint.format import Found, found_in
from ecowas_lc.checkpoint.memo import SeenList
from ecowas_lc.checkpoint.ops import Context
from ecowas_lc.checkpoint.place import FORK, Place
from ecowas_lc.storage.keys import id_bytes, id_text
from ecowas_lc.storage.ops import Call, Op, call, command
from ecowas_lc.storage.scripts import load_script

_READ = load_script(
    "checkpoint_thread", "checkpoint_links", "checkpoint_rows", "checkpoint_lists", "checkpoint_read"
)
_THREADS = load_script("checkpoint_threads")
_FORGET = load_script("checkpoint_forget")

# A thread in the index of threads, and when it was last written to, as the server says it.
Entry = tuple[bytes, bytes]


def read_call(
    at: Context,
    place: Place,
    *,
    start: str,
    along: str,
    limit: int,
    writes: bool = True,
    values: bool = True,
    known: Iterable[SeenList] = (),
) -> Call:
    """A call that reads checkpoints: see the script ``checkpoint_read``; of ``known`` lists only what is new."""
    return call(
        _READ,
        (at.keys.thread(place.thread_id),),
        at.read_ttl(),
        place.ns,
        int(place.namespace is None),
        start,
        place.id,
        along,
        limit,
        int(writes),
        int(values),
        *(word for seen in known for word in (seen.name, seen.mark)),
    )


def found_elements(at: Context, thread_id: str, answer: Any) -> tuple[list[Found], Elements]:
    """The checkpoints of the read script's answer, and the elements that came with them."""
    rows, digests, bodies = answer
    return found_in(thread_id, rows), at.format.elements(thread_id, digests_in(digests), bodies)


def has_sealed(page: list[Found]) -> bool:
    """Whether one of these checkpoints is encrypted, which needs no key to tell."""
    return any(is_sealed(split_blob(split_row(found.row).blob)[1]) for found in page)


def _tuple_of(at: Context, found: Found, elements: Elements) -> CheckpointTuple:
    read = at.format.checkpoint(found, elements)
    if at.fencing and not found.is_latest:
        read.config["configurable"][FORK] = found.place.checkpoint_id
    return read


def get_tuple_op(at: Context, place: Place) -> Op[CheckpointTuple | None]:
    """A checkpoint, or a thread's latest: one round trip."""
    start = "at" if place.checkpoint_id else "latest"
    memo = at.format.memo.thread(place.thread_id)
    known = {seen.mark: seen for seen in memo.lists_in(place.namespace or "")}
    [answer] = yield (read_call(at, place, start=start, along="", limit=1, known=known.values()),)
    page, elements = found_elements(at, place.thread_id, answer)
    if not page:
        return None
    [found] = page
    for seen in known.values():
        elements.recipes.update({digest: recipe for recipe, digest in seen.recipes.items()})
    at.format.expand(found, known)
    read = _tuple_of(at, found, elements)
    memo.saw(at.format.references(found))
    at.format.memo.keep(place.thread_id, at.format.lists_of(found, elements, read, known))
    return read


def list_page_op(
    at: Context,
    place: Place,
    *,
    before: str | None,
    limit: int,
    wanted: Callable[[CheckpointMetadata], bool] | None,
) -> Op[tuple[list[CheckpointTuple], str | None]]:
    """Up to about ``limit`` checkpoints older than ``before``, newest first, and where the next page begins.

    Without a metadata filter one round trip; with one, a second for the checkpoints that pass it.
    """
    start, along = "latest", "prev"
    if place.checkpoint_id:
        start, along = "at", ""
        if before is not None and not id_bytes(place.checkpoint_id) < id_bytes(before):
            return [], None
    elif before is not None:
        start, place = "before", Place(place.thread_id, place.namespace, before)
    whole = wanted is None
    [answer] = yield (read_call(at, place, start=start, along=along, limit=limit, writes=whole, values=whole),)
    page, elements = found_elements(at, place.thread_id, answer)
    following = page[-1].place.checkpoint_id if len(page) >= limit and along else None
    if wanted is None:
        return [_tuple_of(at, found, elements) for found in page], following
    chosen = [found.place for found in page if wanted(at.format.envelope(found, elements)[1])]
    if not chosen:
        return [], following
    answers = yield tuple(read_call(at, each, start="at", along="", limit=1) for each in chosen)
    tuples = []
    for answer in answers:
        page, elements = found_elements(at, place.thread_id, answer)
        tuples += [_tuple_of(at, found, elements) for found in page]
    return tuples, following


def threads_page_op(at: Context, *, start: bytes, above: bytes, count: int) -> Op[list[Entry]]:
    """Threads last written to at ``start`` or before, and after ``above``, latest first."""
    [flat] = yield (call(_THREADS, (at.keys.threads(),), start, above, count),)
    return list(zip(flat[::2], flat[1::2], strict=True))


def forget_thread_op(at: Context, entry: Entry) -> Op[None]:
    """Forget the index entry of a thread that has expired, unless it has come back."""
    member, score = entry
    [there] = yield (command("EXISTS", at.keys.thread(id_text(member))),)
    if not there:
        yield (call(_FORGET, (at.keys.threads(),), member, score),)
