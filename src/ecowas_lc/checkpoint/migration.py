"""Copying threads from one langgraph checkpointer to another; each checkpoint is read back and compared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from ecowas_lc.checkpoint.viewing import plain_key
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import (
    ConfigurationError,
    EcowasError,
    InvalidInputError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
)
from ecowas_lc.storage.backup_format import Progress

Saver = BaseCheckpointSaver[Any]

_LOST = (RedisRefusedError, RedisTimeoutError, RedisUnavailableError)  # these concern the whole server


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """The result of :func:`migrate_threads`.

    Attributes:
        threads: The number of threads in the source, or that you named.
        checkpoints: The number of their checkpoints, including those of subgraphs.
        written: The number of checkpoints written by this run.
        matched: The number of checkpoints that are equal in source and target; each was read back and compared.
        failed: The reason for each thread that could not be copied; the rest of such a thread was not written.
    """

    threads: int
    checkpoints: int
    written: int
    matched: int
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all checkpoints match."""
        return not self.failed and self.matched == self.checkpoints


class _Ref(NamedTuple):
    thread: str
    namespace: str
    checkpoint: str

    @property
    def config(self) -> Any:
        return {
            "configurable": {
                "thread_id": self.thread,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": self.checkpoint,
            }
        }


def migrate_threads(
    source: Saver,
    target: Saver,
    threads: Sequence[str] | None = None,
    *,
    on_progress: Progress | None = None,
) -> MigrationReport:
    """Copy threads from any langgraph checkpointer, with their forks, subgraphs and pending writes.

    Each checkpoint is read back from the target and compared. Checkpoints that already exist and match are
    skipped, so you can repeat a run that was interrupted. The source is only read. Don't write to these threads
    during the migration.

    Args:
        source: The checkpointer to copy from: any ``BaseCheckpointSaver``.
        target: The checkpointer to copy to, usually a :class:`~ecowas_lc.RedisSaver`. It must allow the classes
            that the state holds, and keep all checkpoints.
        threads: The threads' ids; default: all that the source lists.
        on_progress: Called with the number of checkpoints done and their total.

    Returns:
        A report, with the number of checkpoints that match.

    Raises:
        ConfigurationError: The target keeps only some checkpoints.
        InvalidInputError: ``threads`` is a single string.
        StorageError: A server can't be reached; repeat the call to continue.
    """
    return run(_migrating(source, target, threads, on_progress), {})


async def amigrate_threads(
    source: Saver,
    target: Saver,
    threads: Sequence[str] | None = None,
    *,
    on_progress: Progress | None = None,
) -> MigrationReport:
    """Copy threads as :func:`migrate_threads` does, without blocking the event loop.

    A saver without asynchronous methods, such as ``SqliteSaver``, runs in threads.
    """
    return await arun(_migrating(source, target, threads, on_progress), {})


def _migrating(
    source: Saver, target: Saver, threads: Sequence[str] | None, on_progress: Progress | None
) -> Program[MigrationReport]:
    if isinstance(threads, str):
        raise InvalidInputError("threads must be a list of thread ids, not a string.")
    if getattr(target, "_keep_last", 0):
        raise ConfigurationError("The target keeps only the newest checkpoints. Use a saver without keep_last.")
    failed: dict[str, str] = {}
    refs: dict[str, list[_Ref]] = {}
    named: list[str | None] = [None] if threads is None else list(dict.fromkeys(threads))
    for thread in named:
        for ref in (yield from _listed(source, thread)):
            refs.setdefault(ref.thread, []).append(ref)
        if thread is not None and thread not in refs:
            failed[thread] = "The source has no such thread."
    total = sum(map(len, refs.values()))
    done = written = matched = 0
    # The most recently used thread comes last, so that the target lists the threads in the same order.
    for thread, newest_first in reversed(refs.items()):
        for ref in reversed(newest_first):
            done += 1
            if thread not in failed:
                try:
                    wrote = yield from _copied(source, target, ref)
                except _FailedError as error:
                    failed[thread] = str(error)
                else:
                    matched += 1
                    written += wrote
            if on_progress is not None:
                on_progress(done, total)
    count = len(refs) if threads is None else len(named)
    return MigrationReport(count, total, written, matched, failed)


def _listed(source: Saver, thread: str | None) -> Program[list[_Ref]]:
    config: Any = None if thread is None else {"configurable": {"thread_id": thread}}

    async def listed() -> list[_Ref]:
        return [_ref(found) async for found in source.alist(config)]

    refs: list[_Ref] = yield _asked(source, "list", lambda: [_ref(found) for found in source.list(config)], listed)
    return refs


def _asked(
    saver: Saver, method: str, blocking: Callable[[], Any], awaiting: Callable[[], Awaitable[Any]]
) -> Doing:
    """Return an effect that calls a saver; in async code, a saver without async methods runs in a thread."""

    def called(_: Any = None) -> Any:
        try:
            return blocking()
        except NotImplementedError:
            raise ConfigurationError(
                f"{type(saver).__name__} has no method {method} for synchronous code. Use amigrate_threads."
            ) from None

    async def awaited(_: Any) -> Any:
        try:
            return await awaiting()
        except NotImplementedError:
            return await asyncio.to_thread(called)

    return Doing(called, awaited)


def _ref(found: CheckpointTuple) -> _Ref:
    place = found.config["configurable"]
    return _Ref(str(place["thread_id"]), place.get("checkpoint_ns") or "", str(found.checkpoint["id"]))


class _FailedError(Exception):
    """A checkpoint that can't be copied."""


def _copied(source: Saver, target: Saver, ref: _Ref) -> Program[bool]:
    """Copy a checkpoint and return whether it had to be written."""
    there = yield from _read(source, ref, "be read from the source")
    if there is None:
        raise _FailedError(f"The checkpoint {ref.checkpoint} is no longer in the source.")
    here = yield from _read(target, ref, "be read from the target")
    if here is not None and _is_same(here, there):
        return False
    if here is not None and not _is_same(here, there, with_writes=False):
        raise _FailedError(f"The target has another checkpoint with the id {ref.checkpoint}; it was not changed.")
    try:
        if here is None:
            yield _putting(target, ref, there)
        for number, (task, writes) in enumerate(_tasks(there)):
            # Savers return the order of tasks, but not the task paths that determine it.
            yield _putting_writes(target, ref, writes, task, f"{number:06}")
    except EcowasError as error:
        if isinstance(error, _LOST):
            raise
        raise _FailedError(f"The checkpoint {ref.checkpoint} can't be written: {error}") from None
    stored = yield from _read(target, ref, "be read back")
    if stored is None or not _is_same(stored, there):
        raise _FailedError(f"The checkpoint {ref.checkpoint} reads back differently from the target.")
    return True


def _read(saver: Saver, ref: _Ref, what: str) -> Program[CheckpointTuple | None]:
    try:
        found: CheckpointTuple | None = yield _asked(
            saver, "get_tuple", lambda: saver.get_tuple(ref.config), lambda: saver.aget_tuple(ref.config)
        )
    except EcowasError as error:
        if isinstance(error, _LOST):
            raise
        raise _FailedError(f"The checkpoint {ref.checkpoint} can't {what}: {error}") from None
    return found


def _putting(target: Saver, ref: _Ref, there: CheckpointTuple) -> Doing:
    place = {"thread_id": ref.thread, "checkpoint_ns": ref.namespace}
    if there.parent_config is not None:
        place["checkpoint_id"] = there.parent_config["configurable"]["checkpoint_id"]
    config: Any = {"configurable": place}
    versions = there.checkpoint["channel_versions"]
    return _asked(
        target,
        "put",
        lambda: target.put(config, there.checkpoint, there.metadata, versions),
        lambda: target.aput(config, there.checkpoint, there.metadata, versions),
    )


def _putting_writes(target: Saver, ref: _Ref, writes: list[tuple[str, Any]], task: str, path: str) -> Doing:
    return _asked(
        target,
        "put_writes",
        lambda: target.put_writes(ref.config, writes, task, path),
        lambda: target.aput_writes(ref.config, writes, task, path),
    )


def _tasks(found: CheckpointTuple) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in found.pending_writes or ():
        by_task.setdefault(task, []).append((channel, value))
    for writes in by_task.values():
        # A task has one write at most to a channel such as __interrupt__; savers differ in the order of these.
        writes.sort(key=lambda write: WRITES_IDX_MAP.get(write[0], 0))
    return iter(by_task.items())


def _is_same(one: CheckpointTuple, other: CheckpointTuple, *, with_writes: bool = True) -> bool:
    def parts(found: CheckpointTuple) -> list[Any]:
        checkpoint: Any = found.checkpoint
        names = ("v", "id", "ts", "channel_values", "channel_versions", "versions_seen")
        parent = (found.parent_config or {}).get("configurable", {}).get("checkpoint_id")
        return [*(checkpoint.get(name) for name in names), dict(found.metadata), parent]

    if not _equal(parts(one), parts(other)):
        return False
    return not with_writes or _equal(
        [(task, writes) for task, writes in _tasks(one)], [(task, writes) for task, writes in _tasks(other)]
    )


def _equal(one: Any, other: Any) -> bool:
    try:
        are_equal = bool(one == other)
    except Exception:  # for example of an array, whose == has no truth value
        are_equal = False
    return are_equal or plain_key(one) == plain_key(other)
