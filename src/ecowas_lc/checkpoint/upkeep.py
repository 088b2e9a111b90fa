"""Programs that tidy threads and copy them: prune, delete by run, copy, expiry; and a delta channel's history."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from ecowas_lc.checkpoint.codec.elements import digests_in
from ecowas_lc.checkpoint.codec.rows import split_row
from ecowas_lc.checkpoint.format import Found, found_in
from ecowas_lc.checkpoint.ops import (
    Context,
    delete_checkpoints_op,
    delete_thread_op,
    put_op,
    put_writes_op,
    read_call,
)
from ecowas_lc.checkpoint.place import Place, channel_of
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.ops import Op, call, command
from ecowas_lc.storage.scripts import load_script

_EXPIRY = load_script("checkpoint_shared", "checkpoint_expiry")
_ADOPT = load_script("checkpoint_shared", "checkpoint_adopt")

_PAGE = 200
_CHUNK = 500
_COPY_SECONDS = 3600  # a copy that was cut off is gone by then


@dataclass(frozen=True, slots=True)
class Outlined:
    """A checkpoint without its larger values: where it is, what it extends, which channels it has values for."""

    place: Place
    parent: str
    metadata: Mapping[str, Any]
    channels: frozenset[str]
    versioned: frozenset[str]

    @property
    def delta_channels(self) -> frozenset[str]:
        """Channels whose value is that of an ancestor plus the writes since."""
        counted = self.metadata.get("counters_since_delta_snapshot") or {}
        return (frozenset(counted) & self.versioned) - self.channels


def outline_op(at: Context, thread_id: str) -> Op[list[Outlined]]:
    """All checkpoints of a thread, without their larger values, newest first."""
    place = Place(thread_id, None)
    out: list[Outlined] = []
    start = "latest"
    while True:
        [[rows, digests, bodies, _]] = yield (
            read_call(at, place, start=start, along="prev", limit=_PAGE, writes=False, values=False),
        )
        elements = at.format.elements(thread_id, digests_in(digests), bodies)
        for found in found_in(thread_id, rows):
            row = split_row(found.row)
            checkpoint, metadata = at.format.envelope(found, elements)
            out.append(
                Outlined(
                    found.place,
                    id_text(row.parent),
                    metadata,
                    frozenset(checkpoint["channel_values"]) | {channel_of(name) for name in row.fields},
                    frozenset(checkpoint["channel_versions"]),
                )
            )
        if len(rows) < _PAGE:
            return out
        start, place = "before", Place(thread_id, None, out[-1].place.checkpoint_id)


def _with_what_they_need(kept: list[Outlined], every: list[Outlined]) -> set[Place]:
    """The places of ``kept`` and of the ancestors that their delta channels are rebuilt from."""
    by_place = {(each.place.namespace, each.place.checkpoint_id): each for each in every}
    places = {each.place for each in kept}
    for each in kept:
        wanted, cursor = set(each.delta_channels), each
        while wanted:
            parent = by_place.get((cursor.place.namespace, cursor.parent))
            if parent is None:
                break
            places.add(parent.place)
            wanted -= parent.channels
            cursor = parent
    return places


def prune_op(at: Context, thread_id: str, strategy: str, keep_last: int) -> Op[None]:
    """Keep the newest checkpoints of each namespace and what they need, or nothing of the thread."""
    if strategy == "delete":
        yield from delete_thread_op(at, thread_id)
        return
    every = yield from outline_op(at, thread_id)
    by_namespace: dict[str | None, list[Outlined]] = {}
    for each in every:
        by_namespace.setdefault(each.place.namespace, []).append(each)
    kept = [each for newest_first in by_namespace.values() for each in newest_first[:keep_last]]
    needed = _with_what_they_need(kept, every)
    yield from delete_checkpoints_op(at, [each.place for each in every if each.place not in needed])


def check_prune(strategy: str, keep_last: int | None) -> int:
    """How many checkpoints of each namespace stay.

    Raises:
        InvalidInputError: an unknown strategy, or a number that is not above 0.
    """
    if strategy not in ("keep_latest", "delete"):
        raise InvalidInputError(f"prune knows the strategies 'keep_latest' and 'delete', not {strategy!r}.")
    if keep_last is None:
        return 1
    if isinstance(keep_last, bool) or not isinstance(keep_last, int) or keep_last < 1:
        raise InvalidInputError("keep_last is a number of checkpoints from 1 on.")
    if strategy == "delete":
        raise InvalidInputError("keep_last contradicts strategy='delete'.")
    return keep_last


def threads_of_run_op(at: Context, run_id: str) -> Op[list[str]]:
    """The threads in which a run wrote checkpoints."""
    [members] = yield (command("ZRANGE", at.keys.run(run_id), 0, -1),)
    return [id_text(member) for member in members]


def delete_runs_of_thread_op(at: Context, thread_id: str, run_ids: Collection[str]) -> Op[None]:
    """Remove the checkpoints that these runs wrote, but for what delta channels of others are rebuilt from."""
    every = yield from outline_op(at, thread_id)
    kept = [each for each in every if each.metadata.get("run_id") not in run_ids]
    needed = _with_what_they_need(kept, every)
    yield from delete_checkpoints_op(at, [each.place for each in every if each.place not in needed])


def forget_runs_op(at: Context, run_ids: Sequence[str]) -> Op[None]:
    """Remove the runs' index entries: after their checkpoints, so that a crash in between can be repeated."""
    yield tuple(command("UNLINK", at.keys.run(run_id)) for run_id in run_ids)


def expiry_op(at: Context, thread_id: str, what: str, ttl_ms: int | None) -> Op[float | None]:
    """Pin, unpin, touch or ask; seconds left, ``None`` for never, -1 where there is no such thread."""
    [left] = yield (call(_EXPIRY, (at.keys.thread(thread_id),), what, "" if ttl_ms is None else ttl_ms),)
    if left == -2:
        return -1
    return None if left == -1 else left / 1000


@dataclass(frozen=True, slots=True)
class _Beside(Keys):
    """Keys whose threads are copies in the making, in the slot that they are for."""

    token: str = ""

    def thread(self, thread_id: str) -> bytes:
        return Keys.thread(self, thread_id) + b":copy:" + self.token.encode()


def copy_thread_op(at: Context, source: str, target: str) -> Op[None]:
    """Copy a thread whole: beside the target first, then in its place in one step.

    Raises:
        InvalidInputError: there is a target thread already; it was left as it is.
    """
    if source == target:
        raise InvalidInputError("A thread can't be copied onto itself.")
    beside = _Beside(at.keys.prefix, uuid.uuid4().hex)
    copy = beside.thread(target)
    if at.format.sealer is None:
        # No stored byte names its thread, so the fields are copied as they are.
        [flat] = yield (command("HGETALL", at.keys.thread(source)),)
        pairs = list(flat.items()) if isinstance(flat, dict) else list(zip(flat[::2], flat[1::2], strict=True))
        for start in range(0, len(pairs), _CHUNK):
            words = [part for pair in pairs[start : start + _CHUNK] for part in pair]
            yield (command("HSET", copy, *words), command("EXPIRE", copy, _COPY_SECONDS))
        exists = bool(pairs)
    else:
        exists = yield from _copy_sealed_op(at, source, target, beside, copy)
    if not exists:
        return
    at.format.memo.forget(target)
    member = id_bytes(target)
    _, adopted = yield (
        command("ZADD", at.keys.threads(), time.time(), member),
        call(_ADOPT, (at.keys.thread(target), copy), at.ttl()),
    )
    if not adopted:
        raise InvalidInputError(
            f"There is a thread {target!r} already; it was left as it is. Delete it first, or copy to another id."
        )


def delta_history_op(at: Context, place: Place, channels: Sequence[str]) -> Op[dict[str, DeltaChannelHistory]]:
    """For each channel, the writes since the nearest ancestor that has a value for it, and that value."""
    collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    remaining = set(channels)
    start, cursor, skip = ("at" if place.checkpoint_id else "latest"), place, True
    while remaining:
        [[rows, digests, bodies, _]] = yield (
            read_call(at, cursor, start=start, along="parent", limit=_PAGE, writes=True, values=False),
        )
        elements = at.format.elements(place.thread_id, digests_in(digests), bodies)
        page = found_in(place.thread_id, rows)
        seeded: list[tuple[str, Found]] = []
        for found in page[1:] if skip else page:
            for write in reversed(at.format.pending_writes(found, elements)):
                if write[1] in remaining:
                    collected[write[1]].append(write)
            row = split_row(found.row)
            inline = at.format.envelope(found, elements)[0]["channel_values"]
            held = {channel_of(name) for name in row.fields}
            for channel in sorted(remaining & (held | set(inline))):
                if channel in inline:
                    seeds[channel] = inline[channel]
                else:
                    seeded.append((channel, found))
                remaining.discard(channel)
            if not remaining:
                break
        for channel, found in seeded:
            seeds[channel] = yield from _value_op(at, found.place, channel)
        parent = split_row(page[-1].row).parent if page else b""
        if len(page) < _PAGE or not parent:
            break
        start, cursor, skip = "at", Place(place.thread_id, place.namespace, id_text(parent)), False
    return {channel: _history(channel, collected, seeds) for channel in channels}


def _history(channel: str, collected: dict[str, list[PendingWrite]], seeds: dict[str, Any]) -> DeltaChannelHistory:
    entry: DeltaChannelHistory = {"writes": collected[channel][::-1]}
    if channel in seeds:
        entry["seed"] = seeds[channel]
    return entry


def _value_op(at: Context, place: Place, channel: str) -> Op[Any]:
    [[rows, digests, bodies, _]] = yield (read_call(at, place, start="at", along="", limit=1, writes=False),)
    elements = at.format.elements(place.thread_id, digests_in(digests), bodies)
    [found] = found_in(place.thread_id, rows)
    for name, stored in zip(split_row(found.row).fields, found.values, strict=True):
        if channel_of(name) == channel:
            return at.format.load_value(place, name, stored, elements)
    return None


def _copy_sealed_op(at: Context, source: str, target: str, beside: Keys, copy: bytes) -> Op[bool]:
    # What is encrypted is bound to its thread: it is opened and sealed anew, oldest first.
    every = yield from outline_op(at, source)
    into = replace(at, keys=beside, ttl_ms=None, one_slot=False, indexes=False)
    for outlined in reversed(every):
        [[rows, digests, bodies, _]] = yield (read_call(at, outlined.place, start="at", along="", limit=1),)
        elements = at.format.elements(source, digests_in(digests), bodies)
        for found in found_in(source, rows):
            read = at.format.checkpoint(found, elements)
            place = found.place._replace(thread_id=target)
            versions = read.checkpoint["channel_versions"]
            yield from put_op(
                into, place, read.checkpoint, read.metadata, versions, parent=outlined.parent, fence=b""
            )
            for task_id, task_path, writes in at.format.batches(found, elements):
                yield from put_writes_op(into, place, writes, task_id, task_path)
        yield (command("EXPIRE", copy, _COPY_SECONDS),)
    at.format.memo.forget(target)
    return bool(every)
