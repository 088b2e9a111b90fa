"""The program that rebuilds the indexes of threads by scanning all keys once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

from ecowas_lc.checkpoint.staging import runs_in
from ecowas_lc.checkpoint.writing import RUN_SECONDS, SaverContext
from ecowas_lc.errors import CorruptDataError, InvalidIdError
from ecowas_lc.storage.evictions import evicted_op, made_whole_op
from ecowas_lc.storage.keys import Keys, decode_id, id_bytes
from ecowas_lc.storage.left_out import warn_left_out
from ecowas_lc.storage.ops import Call, Op, command
from ecowas_lc.storage.scanning import scan_op

_FROM_1582_TO_1970_SECONDS = 12_219_292_800


def reindex_op(ctx: SaverContext) -> Op[int]:
    """Add every thread to the indexes of threads and runs; return how many threads the index lacked."""
    evicted = yield from evicted_op()
    pattern = id_bytes(ctx.keys.prefix) + b":checkpoint:{*}"
    added = yield from scan_op(pattern, lambda names: _enter_op(ctx, names))
    yield from made_whole_op(ctx.keys, "threads", evicted)
    return added


def _enter_op(ctx: SaverContext, names: Iterable[bytes]) -> Op[int]:
    named = [(name, thread_id) for name in names if (thread_id := _thread_of(ctx.keys, name)) is not None]
    if not named:
        return 0
    replies = yield tuple(
        words
        for name, thread_id in named
        for words in (
            command("HMGET", name, "format", "N", optional=True),
            command("HKEYS", name, optional=True),
            command("ZSCORE", ctx.keys.threads(), id_bytes(thread_id)),
        )
    )
    rows = zip(named, replies[::3], replies[1::3], replies[2::3], strict=True)
    added, now = 0, time.time()
    calls: list[Call] = []
    for (_, thread_id), about, fields, score in rows:
        if isinstance(about, Exception) or isinstance(fields, Exception):
            warn_left_out(f"The thread {thread_id!r}", about if isinstance(about, Exception) else fields)
            continue
        if None in about:  # not one of our threads, or one without checkpoints
            continue
        added += score is None
        latest = max((_time_of(field) for field in fields if field.startswith(b"c")), default=0.0)
        member = id_bytes(thread_id)
        calls.append(command("ZADD", ctx.keys.threads(), "NX", min(latest or now, now), member))
        for run_id in runs_in(fields):
            run = ctx.keys.run(run_id)
            calls += command("ZADD", run, "NX", now, member), command("EXPIRE", run, RUN_SECONDS)
    if calls:
        yield tuple(calls)
    return added


def _thread_of(keys: Keys, name: bytes) -> str | None:
    """Return the thread of a key; ``None`` if the key is not a thread but, for example, a staging copy."""
    raw = name.removeprefix(id_bytes(keys.prefix) + b":checkpoint:{").removesuffix(b"}")
    try:
        thread_id = decode_id(raw)
        return thread_id if keys.thread(thread_id) == name else None
    except (CorruptDataError, InvalidIdError):
        return None


def _time_of(field: bytes) -> float:
    """Return the time of a checkpoint from its id, as seconds since 1970; 0 if the id does not contain it."""
    try:
        made = uuid.UUID(field.rpartition(b"\0")[2].decode("ascii"))
    except ValueError:
        return 0.0
    if made.version != 6:
        return 0.0
    ticks = (made.int >> 80) << 12 | (made.int >> 64) & 0xFFF
    return max(0.0, ticks / 10**7 - _FROM_1582_TO_1970_SECONDS)
