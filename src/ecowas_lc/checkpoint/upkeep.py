"""Programs that tidy threads: prune, delete by run, expiry."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ecowas_lc.checkpoint.ops import Context, delete_checkpoints_op, delete_thread_op
from ecowas_lc.checkpoint.outline import Outlined, outline_op, with_what_they_need
from ecowas_lc.checkpoint.walk import Walk, next_page, walk_threads
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.keys import id_bytes, id_text
from ecowas_lc.storage.ops import Op, call, command
from ecowas_lc.storage.scripts import load_script

_EXPIRY = load_script("checkpoint_thread", "checkpoint_expiry")

_WALK_PAGE = 500


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
    yield from _delete_all_but_op(at, thread_id, kept, every)


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


def _delete_all_but_op(at: Context, thread_id: str, kept: list[Outlined], every: list[Outlined]) -> Op[None]:
    needed = with_what_they_need(kept, every)
    doomed = [each for each in every if each.place not in needed]
    left = {each.metadata.get("run_id") for each in every if each.place in needed}
    gone = {run_id for each in doomed if isinstance(run_id := each.metadata.get("run_id"), str) and run_id}
    yield from delete_checkpoints_op(at, thread_id, [each.place for each in doomed], gone - left)


def delete_for_runs_walk(at: Context, run_ids: Sequence[str]) -> Walk[None]:
    """Remove the checkpoints that these runs wrote, but for what delta channels of others are rebuilt from."""
    threads: set[str] = set()
    unknown: list[str] = []
    for run_id in run_ids:
        indexed = yield _threads_of_run_op(at, run_id)
        threads.update(indexed)
        if not indexed:
            unknown.append(run_id)
    if unknown:
        # Their indexes have expired, or they never wrote here: the threads themselves know.
        walk = walk_threads(at, page=_WALK_PAGE)
        while (page := (yield from next_page(walk))) is not None:
            ids = [id_text(member) for member, _ in page]
            threads.update((yield _threads_with_runs_op(at, ids, unknown)))
    for thread_id in sorted(threads):
        yield _delete_runs_of_thread_op(at, thread_id, run_ids)
    if run_ids:
        yield _forget_runs_op(at, run_ids)


def _threads_of_run_op(at: Context, run_id: str) -> Op[list[str]]:
    [members] = yield (command("ZRANGE", at.keys.run(run_id), 0, -1),)
    return [id_text(member) for member in members]


def _threads_with_runs_op(at: Context, thread_ids: list[str], run_ids: list[str]) -> Op[list[str]]:
    fields = [b"r" + id_bytes(run_id) for run_id in run_ids]
    answers = yield tuple(command("HMGET", at.keys.thread(thread_id), *fields) for thread_id in thread_ids)
    return [
        thread_id
        for thread_id, held in zip(thread_ids, answers, strict=True)
        if any(each is not None for each in held)
    ]


def _delete_runs_of_thread_op(at: Context, thread_id: str, run_ids: Collection[str]) -> Op[None]:
    every = yield from outline_op(at, thread_id)
    kept = [each for each in every if each.metadata.get("run_id") not in run_ids]
    yield from _delete_all_but_op(at, thread_id, kept, every)


def _forget_runs_op(at: Context, run_ids: Sequence[str]) -> Op[None]:
    # After their checkpoints, so that a crash in between can be repeated.
    yield tuple(command("UNLINK", at.keys.run(run_id)) for run_id in run_ids)


def expiry_op(at: Context, thread_id: str, what: str) -> Op[float | None]:
    """Pin, unpin, touch or ask; seconds left, ``None`` for never, -1 where there is no such thread."""
    [left] = yield (call(_EXPIRY, (at.keys.thread(thread_id),), what, at.ttl()),)
    if left == -2:
        return -1
    return None if left == -1 else left / 1000
