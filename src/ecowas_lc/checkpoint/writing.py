"""The checkpointer's programs that write and delete, and the context that all its programs use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class SaverContext:
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
    at: SaverContext,
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
    memo = at.format.memo.thread(place.thread_id)
    draft = at.format.draft(place, parent, checkpoint, metadata, new_versions, memo.absent)
    about = at.format.entry(place, checkpoint)
    index_keys, beside, entry = _index_calls(at, place.thread_id, metadata.get("run_id"))
    anew: set[bytes] = set()
    lacking: set[bytes] = set()
    mine: Future[None] = Future()
    try:
        for _ in range(_ATTEMPTS):
            try:
                values, needed, lists = _value_args(draft, memo, anew)
                send, check = yield from _claimed_op(at, memo, draft.elements, needed, lacking, mine)
            except ChangedMeanwhileError:
                memo.lists.clear()  # lists read earlier may have the digests of other data
                draft = at.format.draft(place, parent, checkpoint, metadata, new_versions, memo.absent)
                _add_values(at, place, draft, checkpoint, anew)
                continue
            check += yield from _send_ahead_op(at, place, send)
            required = [name for name in draft.fields if name not in draft.values]
            script = call(
                _PUT_AND_KEEP if at.keep_last else _PUT,
                (at.keys.thread(place.thread_id), *index_keys),
                at.ttl(),
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
                at.keep_last,
                int(draft.has_delta),
                _note(metadata.get("run_id"), draft.lacking) if at.keep_last else b"",
            )
            answer = (yield (*beside, script))[-1]
            if not answer:
                memo.saw(needed)
                at.format.memo.keep(place.thread_id, lists)
                at.format.memo.hold(place.thread_id, draft.elements.large(needed))
                return
            fields, digests = answer
            if absent := draft.idle.intersection(fields):
                memo.lacks(absent)
                draft = at.format.draft(place, parent, checkpoint, metadata, new_versions, memo.absent)
            anew.update(name for name in fields if name not in absent)
            lacking.update(digests_in(digests))
            _add_values(at, place, draft, checkpoint, anew)
        raise StorageError(_LOSING)
    finally:
        at.format.memo.release(memo, mine)


def _note(run_id: Any, lacking: Iterable[bytes]) -> bytes:
    """Return what pruning must know of a checkpoint: its run, and the delta channels without a value."""
    parts = (id_bytes(run_id) if isinstance(run_id, str) else b"", *lacking)
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _add_values(
    at: SaverContext, place: CheckpointPlace, draft: CheckpointDraft, checkpoint: Checkpoint, names: set[bytes]
) -> None:
    """Make the draft also send values that are not new but that the server lacks."""
    for name in names - draft.values.keys():
        channel = channel_of(name)
        value = checkpoint["channel_values"][channel]
        draft.values[name] = at.format.value(place, name, channel, value, draft.elements)


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
    """Return the elements to send, digest and body in turn, and the digests that the server must already have."""
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


def _claimed_op(
    at: SaverContext,
    memo: ThreadMemo,
    elements: Collector,
    needed: list[bytes],
    lacking: set[bytes],
    mine: Future[None],
) -> Op[tuple[list[Arg], list[bytes]]]:
    """Return what :func:`_elements_to_send` does; a large element that another call is sending is not sent again.

    A step's writes and its checkpoint are stored at the same time, and often hold the same value. The second call
    waits for the first and then refers to the element; if the first failed, the second sends it.
    """
    send, check = _elements_to_send(elements, needed, memo, lacking)
    bodies: Any = zip(send[::2], send[1::2], strict=True)
    large: Any = [digest for digest, body in bodies if len(body) >= HELD_BYTES]
    if not large or lacking:
        return send, check
    for other in (others := at.format.memo.claim(memo, large, mine)):
        yield pause(other)
    if others:
        at.format.memo.claim(memo, large, mine)
    if not memo.known.keys().isdisjoint(large):  # the other call has sent them in the meantime
        send, check = _elements_to_send(elements, needed, memo, lacking)
    return send, check


def _send_ahead_op(at: SaverContext, place: CheckpointPlace, send: list[Arg]) -> Op[list[bytes]]:
    """Send elements before the command that refers to them, if one command would be too large."""
    ahead: list[bytes] = []
    while len(send) > 2 * _ELEMENTS_AT_ONCE or sum(map(len, send[1::2])) > _BYTES_AT_ONCE:  # type: ignore[arg-type]
        part: list[Any] = []
        size = 0
        while send and len(part) < 2 * _ELEMENTS_AT_ONCE and size < _BYTES_AT_ONCE:
            part += send.pop(), send.pop()
            size += len(part[-2])
        part.reverse()
        yield (call(_ELEMENTS, (at.keys.thread(place.thread_id),), *part),)
        ahead += part[::2]
    return ahead


def put_writes_op(at: SaverContext, place: CheckpointPlace, writes: Any, task_id: str, task_path: str) -> Op[None]:
    """Store pending writes: one round trip."""
    batch, elements, references = at.format.batch(place, writes, task_id, task_path)
    memo = at.format.memo.thread(place.thread_id)
    lacking: set[bytes] = set()
    mine: Future[None] = Future()
    try:
        for _ in range(_ATTEMPTS):
            send, check = yield from _claimed_op(at, memo, elements, references, lacking, mine)
            check += yield from _send_ahead_op(at, place, send)
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
                at.format.memo.hold(place.thread_id, elements.large(references))
                return
            lacking.update(digests_in(answer))
        raise StorageError(_LOSING)
    finally:
        at.format.memo.release(memo, mine)


def delete_thread_op(at: SaverContext, thread_id: str, operation: str | None = None) -> Op[None]:
    """Remove a thread of any size: two commands in one flush.

    A removal that is repeated with the same ``operation`` within an hour keeps data that others have started since
    then. A removal without a name gets one that is remembered for as long as its own retries take. An empty
    ``operation`` leaves no trace.
    """
    at.format.memo.forget(thread_id)
    named = (os.urandom(9).hex(), _RETRIES_MS) if operation is None else (operation, _NAMED_MS)
    answer, _ = yield (
        call(_DELETE_THREAD, (at.keys.thread(thread_id),), *named),
        command("ZREM", at.keys.threads(), id_bytes(thread_id)),
    )
    if answer == _BEGUN_ANEW:  # the repeated removal has removed its index entry
        yield (command("ZADD", at.keys.threads(), time.time(), id_bytes(thread_id)),)


def delete_checkpoints_op(
    at: SaverContext, thread_id: str, doomed: list[CheckpointPlace], run_ids: Iterable[str]
) -> Op[None]:
    """Remove checkpoints of one thread and the data that only they used: one round trip.

    ``run_ids``: runs that have no other checkpoint here.
    """
    if not doomed:
        yield (settled(at.keys.thread(thread_id)),)
        return
    at.format.memo.forget(thread_id)
    names = [part for place in doomed for part in (place.ns, place.id)]
    runs = [id_bytes(run_id) for run_id in run_ids]
    [left] = yield (call(_DELETE, (at.keys.thread(thread_id),), len(doomed), *names, *runs),)
    if not left:
        yield (command("ZREM", at.keys.threads(), id_bytes(thread_id)),)


def _index_calls(
    at: SaverContext, thread_id: str, run_id: Any
) -> tuple[tuple[bytes, ...], Batch, tuple[Arg, ...]]:
    """Return index keys for the script (single server) or separate calls (cluster), and the entries they store."""
    # Write the index first: a superfluous entry is harmless and pruned on read; a missing one would hide a thread.
    run = run_id if isinstance(run_id, str) else ""
    keys = [at.keys.threads()] if at.indexes else []
    if at.indexes and run:
        keys.append(at.keys.run(run))
    member, now = id_bytes(thread_id), time.time()
    entry = (id_bytes(run), member, now)
    if at.one_slot:
        return tuple(keys), (), entry
    calls: list[Call] = [command("ZADD", key, now, member) for key in keys]
    calls += [command("EXPIRE", key, RUN_SECONDS) for key in keys[1:]]
    return (), tuple(calls), entry
