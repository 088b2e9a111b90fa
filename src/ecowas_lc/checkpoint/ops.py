"""The checkpointer's programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple

from ecowas_lc.checkpoint.codec.elements import ChangedMeanwhileError, Collector, digests_in, split_blob
from ecowas_lc.checkpoint.format import Draft, Format, found_in
from ecowas_lc.checkpoint.lists import ThreadMemo, edits
from ecowas_lc.checkpoint.place import Place, channel_of, decode_part
from ecowas_lc.errors import StorageError
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.ops import Arg, Batch, Call, Op, call, command
from ecowas_lc.storage.scripts import load_script

_PUT = load_script("checkpoint_shared", "checkpoint_put")
_PUT_WRITES = load_script("checkpoint_shared", "checkpoint_put_writes")
_READ = load_script("checkpoint_shared", "checkpoint_read")
_DELETE = load_script("checkpoint_shared", "checkpoint_delete")

# A server that lost everything says so, then says which elements it lacks, then has them: three, and one to spare.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Context:
    """What every program of one saver needs."""

    keys: Keys
    format: Format
    ttl_ms: int | None
    refresh_on_read: bool
    one_slot: bool  # a single server: index entries travel in the same script
    indexes: bool = True
    serde: Any = None  # the serializer as the user sees it

    def ttl(self) -> Arg:
        """A write's expiry in milliseconds; empty for none."""
        return "" if self.ttl_ms is None else self.ttl_ms

    def read_ttl(self) -> Arg:
        """A read's."""
        return self.ttl() if self.refresh_on_read else ""


def put_op(
    at: Context,
    place: Place,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    *,
    parent: str,
    fence: bytes,
) -> Op[None]:
    """Store a checkpoint: one round trip, unless the server lost what this process has seen there before."""
    draft = at.format.draft(place, parent, checkpoint, metadata, new_versions)
    memo = at.format.memo.thread(place.thread_id)
    index_keys, beside, entry = _index_calls(at, place.thread_id, metadata.get("run_id"))
    anew: set[bytes] = set()
    lacking: set[bytes] = set()
    for _ in range(_ATTEMPTS):
        try:
            values, needed, lists = _value_args(draft, memo, anew)
            send, check = _elements_to_send(draft.elements, needed, memo, lacking)
        except ChangedMeanwhileError:
            draft = at.format.draft(place, parent, checkpoint, metadata, new_versions)
            continue
        required = [name for name in draft.fields if name not in draft.values]
        script = call(
            _PUT,
            (at.keys.thread(place.thread_id), *index_keys),
            at.ttl(),
            place.ns,
            place.id,
            draft.row,
            fence,
            len(draft.values),
            *values,
            len(required),
            *required,
            len(send) // 2,
            *send,
            b"".join(check),
            *entry,
        )
        answer = (yield (*beside, script))[-1]
        if not answer:
            memo.saw(needed)
            memo.lists.update(lists)
            return
        fields, digests = answer
        anew.update(fields)
        lacking.update(digests_in(digests))
        for name in fields:
            if name not in draft.values:
                channel = channel_of(name)
                value = checkpoint["channel_values"][channel]
                draft.values[name] = at.format.value(place, name, channel, value, draft.elements)
    raise StorageError("The server keeps losing what was just sent to it. Check its maxmemory-policy: noeviction.")


def _value_args(
    draft: Draft, memo: ThreadMemo, anew: set[bytes]
) -> tuple[list[Arg], list[bytes], dict[tuple[str, str], tuple[bytes, bytes]]]:
    """The script's arguments for the values, the digests they need, and the lists as the server then has them."""
    args: list[Arg] = []
    needed = list(draft.row_references)
    lists: dict[tuple[str, str], tuple[bytes, bytes]] = {}
    for name, value in draft.values.items():
        if isinstance(value, bytes):
            args += name, b"p", value
            needed += split_blob(value)[0]
            continue
        key = (decode_part(name.split(b"\0", 1)[0]), value.channel)
        base_name, base = (b"", b"") if name in anew else memo.lists.get(key, (b"", b""))
        packed, new = edits(base, value.digests) if base else edits(b"", value.digests)
        args += name, b"l", value.wrapper, base_name, packed, new
        needed += digests_in(new)
        lists[key] = (name, value.digests)
    return args, needed, lists


def _elements_to_send(
    elements: Collector, needed: list[bytes], memo: ThreadMemo, lacking: set[bytes]
) -> tuple[list[Arg], list[bytes]]:
    """Elements to send, as digest and body in turn, and the digests that the server must have already."""
    send: list[Arg] = []
    check: list[bytes] = []
    pending = list(dict.fromkeys(needed))
    met = set(pending)
    while pending:
        digest = pending.pop()
        if digest in memo.known and digest not in lacking:
            check.append(digest)
        else:
            body = elements.stored(digest)
            send += digest, body
        for inner in elements.references(digest):
            if inner not in met:
                met.add(inner)
                pending.append(inner)
    return send, check


def put_writes_op(at: Context, place: Place, writes: Any, task_id: str, task_path: str) -> Op[None]:
    """Store pending writes: one round trip."""
    batch, elements, references = at.format.batch(place, writes, task_id, task_path)
    memo = at.format.memo.thread(place.thread_id)
    lacking: set[bytes] = set()
    for _ in range(_ATTEMPTS):
        send, check = _elements_to_send(elements, references, memo, lacking)
        [answer] = yield (
            call(
                _PUT_WRITES,
                (at.keys.thread(place.thread_id),),
                at.ttl(),
                place.ns,
                place.id,
                batch,
                len(send) // 2,
                *send,
                b"".join(check),
            ),
        )
        if not answer:
            memo.saw(references)
            return
        lacking.update(digests_in(answer))
    raise StorageError("The server keeps losing what was just sent to it. Check its maxmemory-policy: noeviction.")


def read_call(
    at: Context,
    place: Place,
    *,
    start: str,
    along: str,
    limit: int,
    writes: bool = True,
    values: bool = True,
    elements: bool = True,
) -> Call:
    """A call that reads checkpoints: see the script ``checkpoint_read``."""
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
        int(elements),
    )


def get_tuple_op(at: Context, place: Place, forks: set[Place] | None = None) -> Op[CheckpointTuple | None]:
    """A checkpoint, or a thread's latest: one round trip.

    Where ``forks`` is given, an older checkpoint that was asked for by its id is entered in it: what extends that
    one forks on purpose.
    """
    start = "at" if place.checkpoint_id else "latest"
    [[rows, digests, bodies, latest]] = yield (read_call(at, place, start=start, along="", limit=1),)
    if not rows:
        return None
    [found] = found_in(place.thread_id, rows)
    if forks is not None and place.checkpoint_id and latest != found.place.id:
        forks.add(found.place)
    elements = at.format.elements(place.thread_id, digests_in(digests), bodies)
    memo = at.format.memo.thread(place.thread_id)
    for name, channel, held in at.format.list_values(found):
        memo.lists[place.namespace or "", channel] = (name, held)
    memo.saw(at.format.references(found))
    return at.format.checkpoint(found, elements)


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
    read = read_call(at, place, start=start, along=along, limit=limit, writes=whole, values=whole)
    [[rows, digests, bodies, _]] = yield (read,)
    elements = at.format.elements(place.thread_id, digests_in(digests), bodies)
    page = found_in(place.thread_id, rows)
    following = page[-1].place.checkpoint_id if len(page) >= limit and along else None
    if wanted is None:
        return [at.format.checkpoint(found, elements) for found in page], following
    chosen = [found.place for found in page if wanted(at.format.envelope(found, elements)[1])]
    if not chosen:
        return [], following
    answers = yield tuple(read_call(at, each, start="at", along="", limit=1) for each in chosen)
    tuples = []
    for rows, digests, bodies, _ in answers:
        for found in found_in(place.thread_id, rows):
            elements = at.format.elements(place.thread_id, digests_in(digests), bodies)
            tuples.append(at.format.checkpoint(found, elements))
    return tuples, following


def threads_page_op(at: Context, *, start: int, count: int) -> Op[list[str]]:
    """A page of the index of threads, most recently written first."""
    [members] = yield (command("ZREVRANGE", at.keys.threads(), start, start + count - 1),)
    return [id_text(member) for member in members]


def drop_index_entries_op(at: Context, thread_ids: Sequence[str]) -> Op[None]:
    """Forget index entries of threads that have expired, unless they have come back."""
    alive = yield tuple(command("EXISTS", at.keys.thread(thread_id)) for thread_id in thread_ids)
    gone = [id_bytes(thread_id) for thread_id, there in zip(thread_ids, alive, strict=True) if not there]
    if gone:
        yield (command("ZREM", at.keys.threads(), *gone),)


def delete_thread_op(at: Context, thread_id: str) -> Op[None]:
    """Remove a thread: two commands in one flush, whatever its size."""
    at.format.memo.forget(thread_id)
    yield (
        command("UNLINK", at.keys.thread(thread_id)),
        command("ZREM", at.keys.threads(), id_bytes(thread_id)),
    )


def delete_checkpoints_op(at: Context, doomed: list[Place]) -> Op[None]:
    """Remove checkpoints of one thread, and what only they used: one round trip."""
    if not doomed:
        return
    thread_id = doomed[0].thread_id
    at.format.memo.forget(thread_id)
    names = [part for place in doomed for part in (place.ns, place.id)]
    [left] = yield (call(_DELETE, (at.keys.thread(thread_id),), len(doomed), *names),)
    if not left:
        yield (command("ZREM", at.keys.threads(), id_bytes(thread_id)),)


def _index_calls(at: Context, thread_id: str, run_id: Any) -> tuple[tuple[bytes, ...], Batch, tuple[Arg, Arg]]:
    """Index keys for the script (a single server), or calls to send beside it (a cluster), and what they hold."""
    # The index first: an entry too many is harmless and pruned on read; one too few would hide a thread.
    keys = [at.keys.threads()] if at.indexes else []
    if at.indexes and isinstance(run_id, str) and run_id:
        keys.append(at.keys.run(run_id))
    member, now = id_bytes(thread_id), time.time()
    if at.one_slot:
        return tuple(keys), (), (member, now)
    calls: list[Call] = [command("ZADD", key, now, member) for key in keys]
    if len(keys) > 1 and at.ttl_ms is not None:
        calls.append(command("PEXPIRE", keys[1], at.ttl_ms))
    return (), tuple(calls), (member, now)
