"""Programs that maintain threads: copy, prune, delete by run, change the expiry."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from ecowas_lc.checkpoint.codec.elements import is_sealed, split_blob, split_row
from ecowas_lc.checkpoint.configs import CheckpointPlace
from ecowas_lc.checkpoint.reading import (
    Outlined,
    Walk,
    found_elements,
    next_page,
    outline_op,
    read_call,
    walk_threads,
    with_what_they_need,
)
from ecowas_lc.checkpoint.staging import (
    REMOVALS,
    STAGING_SECONDS,
    STORED_FORMATS,
    StagingKeys,
    chunks,
    fields_of,
    runs_in,
    staging_calls,
)
from ecowas_lc.checkpoint.writing import (
    RUN_SECONDS,
    SaverContext,
    delete_checkpoints_op,
    delete_thread_op,
    put_op,
    put_writes_op,
)
from ecowas_lc.errors import DecryptionError, FormatVersionError, InvalidInputError, StorageError, WrongTypeError
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.ops import Op, call, command, load_script

_ADOPT = load_script("checkpoint_thread", "checkpoint_adopt")
_SNAPSHOT = load_script("checkpoint_thread", "checkpoint_snapshot")


def copy_thread_op(ctx: SaverContext, source: str, target: str) -> Op[None]:
    """Copy a whole thread.

    Raises:
        InvalidInputError: The target thread already exists; it was not changed.
    """
    if source == target:
        raise InvalidInputError("A thread can't be copied onto itself.")
    [known] = yield (command("HMGET", ctx.keys.thread(target), "format", "N"),)
    if None not in known:
        raise _taken(target)
    staging = StagingKeys.of(ctx.keys)
    copy = staging.thread(target)
    runs = yield from (_copy_op if ctx.format.sealer is None else _copy_sealed_op)(ctx, source, target, staging)
    if runs is None:
        return
    ctx.format.memo.forget(target)
    now, member = time.time(), id_bytes(target)
    # Write the indexes first, and separately, since they may be refused: a superfluous entry is harmless, but a
    # missing one would hide a thread.
    yield (
        command("ZADD", ctx.keys.threads(), now, member),
        *(command("ZADD", ctx.keys.run(run_id), now, member) for run_id in runs),
        *(command("EXPIRE", ctx.keys.run(run_id), RUN_SECONDS) for run_id in runs),
    )
    [adopted] = yield (call(_ADOPT, (ctx.keys.thread(target), copy), ctx.ttl()),)
    if not adopted:
        raise _taken(target)
    if adopted < 0:
        raise StorageError(
            f"The copy of the thread {source!r} disappeared while it was made: it took longer than an hour, or "
            "the server evicted or lost it. Nothing was changed: copy it again."
        )


def _taken(target: str) -> InvalidInputError:
    return InvalidInputError(
        f"The thread {target!r} already exists and was not changed. Delete it first, or copy to another id."
    )


def _copy_op(ctx: SaverContext, source: str, target: str, staging: Keys) -> Op[list[str] | None]:
    # No stored byte names its thread, so the fields are copied unchanged.
    # One command reads them all, so that another program's change comes either before the copy or after it.
    copy = staging.thread(target)
    [reply] = yield (command("HGETALL", ctx.keys.thread(source)),)
    fields = fields_of(reply)
    if fields and (found := fields.get(b"format")) not in STORED_FORMATS:
        if found is None:
            raise WrongTypeError(f"What is stored in the place of the thread {source!r} is not a thread.")
        raise FormatVersionError(f"The thread {source!r} is stored in a newer format. Upgrade ecowas_lc.")
    if b"N" not in fields:
        return None
    if _is_sealed(fields):
        raise DecryptionError(
            f"The thread {source!r} is encrypted and bound to its id. A saver with its key can copy it: "
            "serde=EncryptedRedisSerializer(…)"
        )
    fields.pop(REMOVALS, None)
    for some in chunks(fields.items()):
        yield staging_calls(copy, some)
    return runs_in(fields)


def _is_sealed(fields: dict[bytes, bytes]) -> bool:
    namespace = fields[b"N"]
    row = fields.get(b"c%b\0%b" % (namespace, fields.get(b"L" + namespace, b"")))
    return row is not None and is_sealed(split_blob(split_row(row).blob)[1])


def _copy_sealed_op(ctx: SaverContext, source: str, target: str, staging: Keys) -> Op[list[str] | None]:
    # Encrypted data is bound to its thread, so it is decrypted and encrypted again, oldest first. That takes many
    # calls, so it is read from a snapshot: others may write to the thread in the meantime, or delete it.
    snapshot = ctx._replace(keys=StagingKeys.of(ctx.keys), refresh_on_read=False)
    [answer] = yield (call(_SNAPSHOT, (ctx.keys.thread(source), snapshot.keys.thread(source)), STAGING_SECONDS),)
    if not answer:
        return None
    every = yield from outline_op(snapshot, source)
    into = ctx._replace(
        keys=staging,
        ttl_ms=STAGING_SECONDS * 1000,
        ttl_is_least=False,
        one_slot=False,
        indexes=False,
        keep_last=0,
    )
    for outlined in reversed(every):
        [answer] = yield (read_call(snapshot, outlined.place, start="at", along="", limit=1),)
        page, elements = found_elements(ctx, source, answer)
        for found in page:
            read = ctx.format.checkpoint(found, elements)
            place = CheckpointPlace(target, found.place.namespace, found.place.checkpoint_id)
            versions = read.checkpoint["channel_versions"]
            yield from put_op(
                into,
                place,
                read.checkpoint,
                read.metadata,
                versions,
                parent=outlined.parent,
                fence=b"",
                parent_may_lack=True,
            )
            for task_id, task_path, writes in ctx.format.batches(found, elements):
                yield from put_writes_op(into, place, writes, task_id, task_path)
    yield (command("UNLINK", snapshot.keys.thread(source)),)
    runs = (each.metadata.get("run_id") for each in every)
    return list(dict.fromkeys(run_id for run_id in runs if isinstance(run_id, str) and run_id))


_EXPIRY = load_script("checkpoint_thread", "checkpoint_expiry")

_WALK_PAGE = 500


def prune_op(ctx: SaverContext, thread_id: str, strategy: str, keep_last: int) -> Op[None]:
    """Keep the newest checkpoints of each namespace and the data that they need, or delete the thread."""
    if strategy == "delete":
        yield from delete_thread_op(ctx, thread_id)
        return
    every = yield from outline_op(ctx, thread_id)
    by_namespace: dict[str | None, list[Outlined]] = {}
    for each in every:
        by_namespace.setdefault(each.place.namespace, []).append(each)
    kept = [each for newest_first in by_namespace.values() for each in newest_first[:keep_last]]
    yield from _delete_all_but_op(ctx, thread_id, kept, every)


def check_prune(strategy: str, keep_last: int | None) -> int:
    """Return the number of checkpoints to keep per namespace.

    Raises:
        InvalidInputError: An unknown strategy, or a number that is not above 0.
    """
    if strategy not in ("keep_latest", "delete"):
        raise InvalidInputError(f"prune supports the strategies 'keep_latest' and 'delete', not {strategy!r}.")
    if keep_last is None:
        return 1
    if isinstance(keep_last, bool) or not isinstance(keep_last, int) or keep_last < 1:
        raise InvalidInputError("keep_last must be a number of checkpoints, 1 or more.")
    if strategy == "delete":
        raise InvalidInputError("keep_last can't be combined with strategy='delete'. Leave one of them out.")
    return keep_last


def _delete_all_but_op(ctx: SaverContext, thread_id: str, kept: list[Outlined], every: list[Outlined]) -> Op[None]:
    needed = with_what_they_need(kept, every)
    doomed = [each for each in every if each.place not in needed]
    left = {each.metadata.get("run_id") for each in every if each.place in needed}
    gone = {run_id for each in doomed if isinstance(run_id := each.metadata.get("run_id"), str) and run_id}
    yield from delete_checkpoints_op(ctx, thread_id, [each.place for each in doomed], gone - left)


def delete_for_runs_walk(ctx: SaverContext, run_ids: Sequence[str]) -> Walk[None]:
    """Remove the checkpoints that these runs wrote, unless delta channels of others are rebuilt from them."""
    threads: set[str] = set()
    unknown: list[str] = []
    # An index that was evicted and then rebuilt by later writes names only some of its threads.
    are_lost = yield warn_of_evictions_op(ctx.keys, "Removing runs may have left checkpoints behind", "threads")
    for run_id in run_ids:
        indexed = yield _threads_of_run_op(ctx, run_id)
        threads.update(indexed)
        if not indexed or are_lost:
            unknown.append(run_id)
    if unknown:
        # The runs' indexes have expired, or the runs never wrote here. The threads record their runs: search them.
        walk = walk_threads(ctx, page=_WALK_PAGE)
        while (page := (yield from next_page(walk))) is not None:
            ids = [id_text(member) for member, _ in page]
            threads.update((yield _threads_with_runs_op(ctx, ids, unknown)))
    for thread_id in sorted(threads):
        yield _delete_runs_of_thread_op(ctx, thread_id, run_ids)
    if run_ids:
        yield _forget_runs_op(ctx, run_ids)


def _threads_of_run_op(ctx: SaverContext, run_id: str) -> Op[list[str]]:
    [members] = yield (command("ZRANGE", ctx.keys.run(run_id), 0, -1),)
    return [id_text(member) for member in members]


def _threads_with_runs_op(ctx: SaverContext, thread_ids: list[str], run_ids: list[str]) -> Op[list[str]]:
    fields = [b"r" + id_bytes(run_id) for run_id in run_ids]
    answers = yield tuple(command("HMGET", ctx.keys.thread(thread_id), *fields) for thread_id in thread_ids)
    return [
        thread_id
        for thread_id, held in zip(thread_ids, answers, strict=True)
        if any(each is not None for each in held)
    ]


def _delete_runs_of_thread_op(ctx: SaverContext, thread_id: str, run_ids: Collection[str]) -> Op[None]:
    every = yield from outline_op(ctx, thread_id)
    kept = [each for each in every if each.metadata.get("run_id") not in run_ids]
    yield from _delete_all_but_op(ctx, thread_id, kept, every)


def _forget_runs_op(ctx: SaverContext, run_ids: Sequence[str]) -> Op[None]:
    # Delete the index after the checkpoints, so that the call can be repeated after a crash in between.
    yield tuple(command("UNLINK", ctx.keys.run(run_id)) for run_id in run_ids)


def expiry_op(ctx: SaverContext, thread_id: str, what: str) -> Op[float | None]:
    """Pin, unpin, touch or query a thread; return the seconds left, ``None`` for never, -1 if it is missing."""
    [left] = yield (call(_EXPIRY, (ctx.keys.thread(thread_id),), what, ctx.ttl()),)
    if left == -2:
        return -1
    return None if left == -1 else left / 1000
