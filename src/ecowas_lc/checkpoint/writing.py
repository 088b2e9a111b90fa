"""The checkpointer's programs that write and delete, and the context that all its programs use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

from ecowas_lc.checkpoint.client_cache import NOTHING_SEEN, SeenList, ThreadMemo
from ecowas_lc.checkpoint.codec.elements import (
    HELD_BYTES,
    ChangedMeanwhileError,
    Collector,
    digests_in,
    split_blob,
)
from ecowas_lc.checkpoint.configs import CheckpointPlace, channel_of, decode_part
from ecowas_lc.checkpoint.format import CheckpointDraft, Format, edits
from ecowas_lc.errors import StorageError
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.ops import Arg, Batch, Call, Op, call, command, load_script, pause, settled

_PUT = load_script("checkpoint_thread", "bytes_order", "checkpoint_links", "checkpoint_lists", "checkpoint_put")
_PUT_AND_KEEP = load_script(
    "checkpoint_thread",
    "bytes_order",
    "checkpoint_links",
    "checkpoint_rows",
    "checkpoint_lists",
    "checkpoint_sweep",
    "checkpoint_keep",
    "checkpoint_put",
)
_PUT_WRITES = load_script("checkpoint_thread", "checkpoint_put_writes")
_ELEMENTS = load_script("checkpoint_thread", "checkpoint_elements")
_DELETE_THREAD = load_script("checkpoint_thread", "checkpoint_delete_thread")
_DELETE = load_script(
    "checkpoint_thread",
    "bytes_order",
    "checkpoint_links",
    "checkpoint_rows",
    "checkpoint_lists",
    "checkpoint_sweep",
    "checkpoint_delete",
)

# A server that lost its data needs up to three tries: it reports the loss, then the missing elements, then stores
# them. The fourth is a reserve.
_ATTEMPTS = 4
# How long the index of a run's threads is kept; the threads themselves record their runs for their whole life.
RUN_SECONDS = 2_592_000
_LOSING = "The server keeps losing values that were just sent to it. Set its maxmemory-policy to noeviction."
# How long a removal is remembered: longer than any retry after a lost connection, and longer than most outages.
_RETRIES_MS, _NAMED_MS = 120_000, 3_600_000
_BEGUN_ANEW = 2
# A server accepts at most a million arguments in a command, and is blocked while it reads and stores them.
_ELEMENTS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 32 * 2**20


class SaverContext(NamedTuple):
    """The data that every program of one saver needs."""

    keys: Keys
    format: Format
    ttl_ms: int | None
    refresh_on_read: bool
    one_slot: bool  # a single server: the same script writes the index entries
    indexes: bool = True
    fencing: bool = False
    serde: Any = None  # the serializer as the user sees it
    keep_last: int = 0  # checkpoints of each namespace; 0: all
    ttl_is_least: bool = False  # a longer time to live, or none, is kept

    def ttl(self) -> Arg:
        """Return a write's expiry in milliseconds, with ``>`` in front if it is a minimum; empty for none."""
        if self.ttl_ms is None:
            return ""
        return f">{self.ttl_ms}" if self.ttl_is_least else self.ttl_ms

    def read_ttl(self) -> Arg:
        """Return the expiry that a read sets, in the same form; empty for none."""
        return self.ttl() if self.refresh_on_read else ""


def put_op(
    ctx: SaverContext,
    place: CheckpointPlace,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    *,
    parent: str,
    fence: bytes,
    parent_may_lack: bool = False,
) -> Op[None]:
    """Store a checkpoint: one round trip, unless the server lost data that this process has seen there before.

    ``parent_may_lack``: ancestors of delta channels may be missing, as in a copy of a pruned thread.
    """
    memo = ctx.format.memo.thread(place.thread_id)
    draft = ctx.format.draft(place, parent, checkpoint, metadata, new_versions, memo.absent)
    about = ctx.format.entry(place, checkpoint, new_versions, memo)
    index_keys, indexing, entry = _index_calls(ctx, place.thread_id, metadata.get("run_id"))
    anew: set[bytes] = set()
    lacking: set[bytes] = set()
    mine: list[Future[None]] = []
    try:
        for _ in range(_ATTEMPTS):
            try:
                values, needed, lists = _value_args(draft, memo, anew)
                send, check = yield from _elements_op(ctx, place, memo, draft.elements, needed, lacking, mine)
            except ChangedMeanwhileError:
                memo.lists.clear()  # lists read earlier may have the digests of other data
                draft = ctx.format.draft(place, parent, checkpoint, metadata, new_versions, memo.absent)
                _add_values(ctx, place, draft, checkpoint, anew)
                continue
            required = [name for name in draft.fields if name not in draft.values]
            script = call(
                _PUT_AND_KEEP if ctx.keep_last else _PUT,
                (ctx.keys.thread(place.thread_id), *index_keys),
                ctx.ttl(),
                place.ns,
                place.id,
                draft.row,
                fence,
                id_bytes(parent) if draft.lacking and not parent_may_lack else b"",
                len(draft.values),
                *values,
                len(required),
                *required,
                len(send) // 2,
                *send,
                b"".join(check),
                *entry,
                about,
                ctx.keep_last,
                int(draft.has_delta),
                _note(metadata.get("run_id"), draft.lacking) if ctx.keep_last else b"",
            )
            answer = (yield (*indexing, script))[-1]
            if not answer:
                memo.saw(needed)
                ctx.format.memo.keep(place.thread_id, lists)
                ctx.format.memo.hold(place.thread_id, draft.elements.large(needed))
                return
            fields, digests = answer
            if absent := draft.idle.intersection(fields):
                memo.lacks(absent)
                draft = ctx.format.draft(place, parent, checkpoint, metadata, new_versions, memo.absent)
            anew.update(name for name in fields if name not in absent)
            lacking.update(digests_in(digests))
            _add_values(ctx, place, draft, checkpoint, anew)
        raise StorageError(_LOSING)
    finally:
        if mine:
            ctx.format.memo.release(memo, mine[0])


def _note(run_id: Any, lacking: Iterable[bytes]) -> bytes:
    """Return what pruning needs to know about a checkpoint: its run, and the delta channels without a value."""
    parts = (id_bytes(run_id) if isinstance(run_id, str) else b"", *lacking)
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _add_values(
    ctx: SaverContext, place: CheckpointPlace, draft: CheckpointDraft, checkpoint: Checkpoint, names: set[bytes]
) -> None:
    """Make the draft also send values that are not new but that the server lacks."""
    for name in names - draft.values.keys():
        channel = channel_of(name)
        value = checkpoint["channel_values"][channel]
        draft.values[name] = ctx.format.value(place, name, channel, value, draft.elements)


def _value_args(
    draft: CheckpointDraft, memo: ThreadMemo, anew: set[bytes]
) -> tuple[list[Arg], list[bytes], dict[tuple[str, str], SeenList]]:
    """Return the script's arguments for the values, the digests they need, and the lists the server then has."""
    args: list[Arg] = []
    needed = list(draft.row_references)
    lists: dict[tuple[str, str], SeenList] = {}
    for name, value in draft.values.items():
        if isinstance(value, bytes):
            args += name, b"p", value
            needed += split_blob(value)[0]
            continue
        key = (decode_part(name.split(b"\0", 1)[0]), value.channel)
        base = NOTHING_SEEN if name in anew else memo.base_of(*key, value.digests)
        packed, new = edits(base.digests, value.digests)
        args += name, b"l", value.wrapper, value.mark, base.name, base.mark, packed, new
        needed += digests_in(new)
        lists[key] = SeenList(name, value.mark, value.digests, value.recipes)
    return args, needed, lists


def _elements_to_send(
    elements: Collector, needed: list[bytes], memo: ThreadMemo, lacking: set[bytes]
) -> tuple[list[Arg], list[bytes]]:
    """Return the elements to send, digest and body in turn, and the digests that the server must already have.

    An element that the server has is not without those it refers to. If it lacks one, it may lack those too: they
    join ``lacking``.
    """
    send: list[Arg] = []
    check: list[bytes] = []
    pending = list(dict.fromkeys(needed))
    met = set(pending)
    while pending:
        digest = pending.pop()
        if digest in memo.known and digest not in lacking:
            check.append(digest)
            continue
        send += digest, elements.stored(digest)
        for inner in elements.references(digest):
            if digest in lacking:
                lacking.add(inner)
            if inner not in met:
                met.add(inner)
                pending.append(inner)
    return send, check


def _elements_op(
    ctx: SaverContext,
    place: CheckpointPlace,
    memo: ThreadMemo,
    elements: Collector,
    needed: list[bytes],
    lacking: set[bytes],
    mine: list[Future[None]],
) -> Op[tuple[list[Arg], list[bytes]]]:
    """Return what :func:`_elements_to_send` does, once the elements go into one command with the rest.

    A large element that another call is sending is not sent again. A step's writes and its checkpoint are stored
    at the same time, and often hold the same value. The second call waits for the first and then refers to the
    element; if the first failed, the second sends it. ``mine`` receives what other calls wait for, if this one
    sends a large element.
    """
    send, check = _elements_to_send(elements, needed, memo, lacking)
    bodies: list[Any] = send[1::2]
    if not bodies:
        return send, check
    if max(map(len, bodies)) >= HELD_BYTES and not lacking:
        large: Any = [digest for digest, body in zip(send[::2], bodies, strict=True) if len(body) >= HELD_BYTES]
        if not mine:  # a future takes as long to make as a small call to encode: only large elements need it
            mine.append(Future())
        for other in (others := ctx.format.memo.claim(memo, large, mine[0])):
            yield pause(other)
        if others:
            ctx.format.memo.claim(memo, large, mine[0])
        if not memo.known.keys().isdisjoint(large):  # the other call has sent them in the meantime
            send, check = _elements_to_send(elements, needed, memo, lacking)
            bodies = send[1::2]
    if len(bodies) > _ELEMENTS_AT_ONCE or sum(map(len, bodies)) > _BYTES_AT_ONCE:
        check += yield from _send_ahead_op(ctx, place, send)
    return send, check


def _send_ahead_op(ctx: SaverContext, place: CheckpointPlace, send: list[Arg]) -> Op[list[bytes]]:
    """Send elements before the command that refers to them, as far as one command would be too large."""
    ahead: list[bytes] = []
    while len(send) > 2 * _ELEMENTS_AT_ONCE or sum(map(len, send[1::2])) > _BYTES_AT_ONCE:  # type: ignore[arg-type]
        part: list[Any] = []
        size = 0
        while send and len(part) < 2 * _ELEMENTS_AT_ONCE and size < _BYTES_AT_ONCE:
            part += send.pop(), send.pop()
            size += len(part[-2])
        part.reverse()
        yield (call(_ELEMENTS, (ctx.keys.thread(place.thread_id),), *part),)
        ahead += part[::2]
    return ahead


def put_writes_op(
    ctx: SaverContext, place: CheckpointPlace, writes: Any, task_id: str, task_path: str
) -> Op[None]:
    """Store pending writes: one round trip."""
    batch, elements, references = ctx.format.batch(place, writes, task_id, task_path)
    memo = ctx.format.memo.thread(place.thread_id)
    lacking: set[bytes] = set()
    mine: list[Future[None]] = []
    try:
        for _ in range(_ATTEMPTS):
            send, check = yield from _elements_op(ctx, place, memo, elements, references, lacking, mine)
            [answer] = yield (
                call(
                    _PUT_WRITES,
                    (ctx.keys.thread(place.thread_id),),
                    ctx.ttl(),
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
                ctx.format.memo.hold(place.thread_id, elements.large(references))
                return
            lacking.update(digests_in(answer))
        raise StorageError(_LOSING)
    finally:
        if mine:
            ctx.format.memo.release(memo, mine[0])


def delete_thread_op(ctx: SaverContext, thread_id: str, operation: str | None = None) -> Op[None]:
    """Remove a thread of any size: two commands in one flush.

    A removal that is repeated with the same ``operation`` within an hour keeps data that others have started since
    then. A removal without a name gets one that is remembered for as long as its own retries take. An empty
    ``operation`` leaves no trace.
    """
    ctx.format.memo.forget(thread_id)
    named = (os.urandom(9).hex(), _RETRIES_MS) if operation is None else (operation, _NAMED_MS)
    answer, _ = yield (
        call(_DELETE_THREAD, (ctx.keys.thread(thread_id),), *named),
        command("ZREM", ctx.keys.threads(), id_bytes(thread_id)),
    )
    if answer == _BEGUN_ANEW:  # the repeated removal has removed its index entry
        yield (command("ZADD", ctx.keys.threads(), time.time(), id_bytes(thread_id)),)


def delete_checkpoints_op(
    ctx: SaverContext, thread_id: str, doomed: list[CheckpointPlace], run_ids: Iterable[str]
) -> Op[None]:
    """Remove checkpoints of one thread and the data that only they used: one round trip.

    ``run_ids``: runs that have no other checkpoint here.
    """
    if not doomed:
        yield (settled(ctx.keys.thread(thread_id)),)
        return
    ctx.format.memo.forget(thread_id)
    names = [part for place in doomed for part in (place.ns, place.id)]
    runs = [id_bytes(run_id) for run_id in run_ids]
    [left] = yield (call(_DELETE, (ctx.keys.thread(thread_id),), len(doomed), *names, *runs),)
    if not left:
        yield (command("ZREM", ctx.keys.threads(), id_bytes(thread_id)),)


def _index_calls(
    ctx: SaverContext, thread_id: str, run_id: Any
) -> tuple[tuple[bytes, ...], Batch, tuple[Arg, ...]]:
    """Return index keys for the script (single server) or separate calls (cluster), and the entries they store."""
    # Write the index first: a superfluous entry is harmless and pruned on read; a missing one would hide a thread.
    run = run_id if isinstance(run_id, str) else ""
    keys = [ctx.keys.threads()] if ctx.indexes else []
    if ctx.indexes and run:
        keys.append(ctx.keys.run(run))
    member, now = id_bytes(thread_id), time.time()
    entry = (id_bytes(run), member, now)
    if ctx.one_slot:
        return tuple(keys), (), entry
    calls: list[Call] = [command("ZADD", key, now, member) for key in keys]
    calls += [command("EXPIRE", key, RUN_SECONDS) for key in keys[1:]]
    return (), tuple(calls), entry
