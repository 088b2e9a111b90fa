"""Programs that export threads as lines of a backup, and restore them.

The file format is described in :mod:`ecowas_lc.storage.backup_format`. A thread is exported as it is stored, field
by field, without decoding. So it is restored byte for byte, whatever classes its values hold, and encrypted
threads need no key. It is restored under a staging key and moved into place in one step, so that an interruption
leaves either the old thread or the new one. A file is trusted no more than Redis: its values are checked against
the allowlist when they are read.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from ecowas_lc.checkpoint.configs import CheckpointPlace, thread_id_of
from ecowas_lc.checkpoint.reading import Walk, found_elements, has_sealed, next_page, read_call, walk_threads
from ecowas_lc.checkpoint.staging import (
    REMOVALS,
    STORED_FORMATS,
    Field,
    StagingKeys,
    chunks,
    fields_of,
    runs_in,
    staging_calls,
)
from ecowas_lc.checkpoint.writing import RUN_SECONDS, SaverContext
from ecowas_lc.errors import (
    CorruptDataError,
    DecryptionError,
    EcowasError,
    FormatVersionError,
    RedisRefusedError,
    StorageError,
)
from ecowas_lc.storage.backup_format import (
    CONTENTS,
    THREAD,
    THREAD_END,
    ImportReport,
    Lines,
    Outcome,
    Progress,
    header,
    line_of,
    owner_of,
    time_at,
    time_of,
)
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.keys import id_bytes
from ecowas_lc.storage.left_out import attempted_op, readable_ids, warn_left_out
from ecowas_lc.storage.ops import Op, call, command, load_script

_SNAPSHOT = load_script("checkpoint_thread", "checkpoint_snapshot")

_SNAPSHOT_SECONDS = 600  # renewed with each page, so that the snapshot of an aborted export expires soon
_PAGE_BYTES = 2**20
_FEWEST, _MOST = 8, 1024  # fields per page
_THREADS_AT_ONCE = 500


def export_walk(ctx: SaverContext, thread_ids: Sequence[str] | None, on_progress: Progress | None) -> Walk[str]:
    """Yield the lines of these threads, or of all threads, page by page; threads that don't exist are left out."""
    yield [header()]
    total = (yield _count_op(ctx)) if thread_ids is None else len(thread_ids)
    done = 0
    ids = _all(ctx) if thread_ids is None else _these(thread_ids)
    while (some := (yield from next_page(ids))) is not None:
        for thread_id in some:
            yield from _thread_walk(ctx, thread_id)
            done += 1
            if on_progress is not None:
                on_progress(done, max(done, total))
    if thread_ids is None:
        yield warn_of_evictions_op(ctx.keys, "The export may lack threads", "threads")


def _these(thread_ids: Sequence[str]) -> Walk[str]:
    yield list(thread_ids)


def _all(ctx: SaverContext) -> Walk[str]:
    threads = walk_threads(ctx, page=_THREADS_AT_ONCE)
    while (page := (yield from next_page(threads))) is not None:
        yield readable_ids((member for member, _ in page), "threads")


def _count_op(ctx: SaverContext) -> Op[int]:
    [count] = yield (command("ZCARD", ctx.keys.threads()),)
    return int(count)


@dataclass(slots=True)
class _Snapshot:
    """A thread at one moment: in the staging key ``staging``, or in memory (``held``) if that can't be written."""

    record: dict[str, Any]
    staging: bytes
    held: dict[bytes, bytes] | None = None


def _thread_walk(ctx: SaverContext, thread_id: str) -> Walk[str]:
    snapshot = yield attempted_op(_snapshot_op(ctx, thread_id))
    if isinstance(snapshot, EcowasError):
        warn_left_out(f"The thread {thread_id!r}", snapshot)
        return
    if snapshot is None:
        return
    yield [line_of(snapshot.record)]
    digest = new_digest()
    if snapshot.held is not None:
        yield from _lines(snapshot.held.items(), digest)
    else:
        cursor, count = b"0", _FEWEST
        while True:
            cursor, some = yield _page_op(snapshot.staging, cursor, count)
            yield from _lines(some.items(), digest)
            if int(cursor) == 0:
                break
            size = sum(map(len, some.values()))
            count = max(_FEWEST, count // 2) if size > _PAGE_BYTES else min(_MOST, count * 2)
        if not (yield _drop_op(snapshot.staging)):
            raise StorageError(
                f"The export of the thread {thread_id!r} took too long: the snapshot, which the server keeps "
                "for ten minutes after each page, has expired. Export it again."
            )
    yield [line_of({"type": THREAD_END, "thread": thread_id, "digest": digest.hexdigest()})]


def _snapshot_op(ctx: SaverContext, thread_id: str) -> Op[_Snapshot | None]:
    staging, key = StagingKeys.of(ctx.keys).thread(thread_id), ctx.keys.thread(thread_id)
    [score] = yield (command("ZSCORE", ctx.keys.threads(), id_bytes(thread_id)),)
    held = None
    try:
        [answer] = yield (call(_SNAPSHOT, (key, staging), _SNAPSHOT_SECONDS),)
        if not answer:
            return None
        count, left = answer
        [stored_format] = yield (command("HGET", staging, "format"),)
    except RedisRefusedError:
        # The server is full or a replica, or this user may only read: keep the whole thread in memory.
        reply, left = yield (command("HGETALL", key), command("PTTL", key))
        held = fields_of(reply)
        held.pop(REMOVALS, None)
        count, stored_format = len(held), held.get(b"format", b"")
        if b"N" not in held:
            return None
    used = None if score is None else time_at(float(score))
    record = {
        "type": THREAD,
        "thread": thread_id,
        "prefix": ctx.keys.prefix,
        "storage_format": stored_format.decode("ascii", "replace"),
        "fields": count,
        "ttl_seconds": None if left < 0 else left / 1000,
        "last_activity": None if used is None else used.isoformat(),
    }
    return _Snapshot(record, staging, held)


def _page_op(key: bytes, cursor: bytes, count: int) -> Op[tuple[bytes, dict[bytes, bytes]]]:
    [answer, _] = yield (command("HSCAN", key, cursor, "COUNT", count), command("EXPIRE", key, _SNAPSHOT_SECONDS))
    following, reply = answer
    return following, fields_of(reply)


def _drop_op(key: bytes) -> Op[bool]:
    [there] = yield (command("UNLINK", key),)
    return bool(there)


def _lines(fields: Any, digest: Any) -> Iterator[list[str]]:
    for some in chunks(fields, _PAGE_BYTES):
        add_to_digest(digest, some)
        pairs = [[base64.b64encode(part).decode() for part in pair] for pair in some]
        yield [line_of({"type": CONTENTS, "fields": pairs})]


def new_digest() -> Any:
    """Return a digest of a thread's fields in the order of the file. It detects damage, not forgery."""
    return blake2b(digest_size=16)


def add_to_digest(digest: Any, fields: Sequence[Field]) -> None:
    """Add these fields to the digest."""
    for part in (part for pair in fields for part in pair):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


_RESTORE = load_script(
    "checkpoint_thread",
    "bytes_order",
    "checkpoint_links",
    "checkpoint_rows",
    "checkpoint_lists",
    "checkpoint_restore",
)

_LONGEST_SECONDS = 10**10


@dataclass(slots=True)
class _OpenThread:
    """A thread whose first line was read but not yet its last."""

    thread_id: str
    prefix: str
    fields: int
    ttl_ms: int | None
    written_at: float
    staging: StagingKeys
    was_there: bool
    writes: bool  # to the staging key
    is_same: bool  # as the existing thread, as far as it has been read
    digest: Any = field(default_factory=new_digest)


class ThreadImporter:
    """Makes the program that restores each line; skips the records of the memory service."""

    def __init__(self, ctx: SaverContext, *, overwrite: bool) -> None:
        self._at = ctx
        self._overwrite = overwrite
        self._lines = Lines()
        self._pending: _OpenThread | None = None
        self.report = ImportReport()

    def line_op(self, line: str) -> Op[None]:
        """Restore the contents of one line."""
        record = self._lines.record(line)
        if record is not None:
            yield from self.record_op(record, self._lines)
        elif self._pending is not None:
            raise self._broken_off()

    def record_op(self, record: dict[str, Any], lines: Lines) -> Op[None]:
        """Restore a record that was read from ``lines``."""
        kind, pending = record.get("type"), self._pending
        owner = owner_of(record)
        if pending is not None and (owner != "threads" or kind == THREAD):
            raise self._broken_off()
        try:
            if kind == THREAD:
                self._pending = yield from self._begin_op(record)
            elif owner not in ("threads", None):
                self.report = self.report.without(record)
            elif owner is None:
                raise ValueError(f"there is no record type {kind!r}")
            elif pending is None:
                raise ValueError("it continues a thread that has not started")
            elif kind == CONTENTS:
                yield from self._contents_op(pending, _fields(record["fields"]))
            else:
                outcome = yield from self._end_op(pending, record["digest"])
                self._pending = None
                self.report = self.report.with_one(outcome, f"thread {pending.thread_id}")
        except StorageError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise lines.corrupt(error) from None

    @property
    def is_busy(self) -> bool:
        """Whether a thread was begun but not completed."""
        return self._pending is not None

    def check_end(self) -> None:
        """Check, after all lines were read, that the last thread is complete.

        Raises:
            CorruptDataError: The end of the last thread is missing.
        """
        if self._pending is not None:
            raise self._broken_off()

    def finish(self) -> ImportReport:
        """Return the report, after all lines were read.

        Raises:
            CorruptDataError: There were no lines, or the end of the last thread is missing.
        """
        self.check_end()
        self._lines.check_end()
        return self.report

    def _broken_off(self) -> CorruptDataError:
        assert self._pending is not None
        return CorruptDataError(
            f"The thread {self._pending.thread_id!r} is incomplete: the file has been truncated. That thread "
            "was not imported; everything before it was."
        )

    def _begin_op(self, record: dict[str, Any]) -> Op[_OpenThread]:
        thread_id = thread_id_of(record["thread"])
        formats = [known.decode() for known in STORED_FORMATS]
        if record["storage_format"] not in formats:
            raise FormatVersionError(
                f"The thread {thread_id!r} was exported in storage format {record['storage_format']!r}; this "
                f"version of ecowas_lc reads {' and '.join(formats)}. Upgrade ecowas_lc."
            )
        ttl, moment = record["ttl_seconds"], time_of(record.get("last_activity"))
        if ttl is not None and not 0 <= float(ttl) <= _LONGEST_SECONDS:
            raise ValueError(f"ttl_seconds is {ttl}")
        [was_there] = yield (command("HEXISTS", self._at.keys.thread(thread_id), "N"),)
        return _OpenThread(
            thread_id,
            str(record["prefix"]),
            int(record["fields"]),
            None if ttl is None else max(1, round(1000 * ttl)),
            moment.timestamp() if moment is not None else time.time(),
            StagingKeys.of(self._at.keys),
            was_there=bool(was_there),
            writes=self._overwrite or not was_there,
            is_same=bool(was_there),
        )

    def _contents_op(self, pending: _OpenThread, fields: list[Field]) -> Op[None]:
        add_to_digest(pending.digest, fields)
        if pending.is_same:
            names = [name for name, _ in fields]
            [held] = yield (command("HMGET", self._at.keys.thread(pending.thread_id), *names),)
            pending.is_same = held == [value for _, value in fields]
        if pending.writes and fields:
            member = id_bytes(pending.thread_id)
            runs = [self._at.keys.run(run_id) for run_id in runs_in(name for name, _ in fields)]
            # Write the indexes first: a superfluous entry is harmless, a missing one would hide a thread.
            yield (
                *(command("ZADD", run, pending.written_at, member) for run in runs),
                *(command("EXPIRE", run, RUN_SECONDS) for run in runs),
                *staging_calls(pending.staging.thread(pending.thread_id), fields),
            )

    def _end_op(self, pending: _OpenThread, digest: Any) -> Op[Outcome]:
        key, staging = self._at.keys.thread(pending.thread_id), pending.staging.thread(pending.thread_id)
        if pending.digest.hexdigest() != digest:
            raise ValueError(f"the thread {pending.thread_id!r} is damaged and was not imported")
        if pending.is_same:
            count, has_removals = yield (command("HLEN", key), command("HEXISTS", key, REMOVALS))
            pending.is_same = count - has_removals == pending.fields
        if pending.is_same or not pending.writes:
            if pending.writes:
                yield (command("UNLINK", staging),)
            return "unchanged" if pending.is_same else "kept"
        yield from self._check_sealed_op(pending)
        self._at.format.memo.forget(pending.thread_id)
        # Sent separately, since it may be refused: a superfluous entry is harmless.
        yield (command("ZADD", self._at.keys.threads(), pending.written_at, id_bytes(pending.thread_id)),)
        try:
            [restored] = yield (
                call(
                    _RESTORE,
                    (key, staging),
                    pending.fields,
                    "" if pending.ttl_ms is None else pending.ttl_ms,
                    int(self._overwrite),
                ),
            )
        except CorruptDataError:
            raise _unsound(pending) from None
        if restored < 0:
            raise ValueError(f"the thread {pending.thread_id!r} is incomplete and was not imported")
        return "written" if restored else "kept"

    def _check_sealed_op(self, pending: _OpenThread) -> Op[None]:
        """Refuse an encrypted thread of another prefix, because it could never be decrypted here."""
        if pending.prefix == self._at.keys.prefix:
            return
        place = CheckpointPlace(pending.thread_id, None)
        aside = self._at._replace(keys=pending.staging, refresh_on_read=False)
        try:
            [answer] = yield (
                read_call(aside, place, start="latest", along="", limit=1, writes=False, values=False),
            )
        except CorruptDataError:
            yield (command("UNLINK", pending.staging.thread(pending.thread_id)),)
            raise _unsound(pending) from None
        if has_sealed(found_elements(aside, pending.thread_id, answer)[0]):
            raise DecryptionError(
                f"The thread {pending.thread_id!r} is encrypted for the prefix {pending.prefix!r} and can "
                "be decrypted only there. Import it with that prefix; everything before it has been imported."
            )


def _unsound(pending: _OpenThread) -> ValueError:
    return ValueError(
        f"the thread {pending.thread_id!r} is not in the storage format, or claims more than any thread holds, "
        "and was not imported"
    )


def _fields(pairs: Any) -> list[Field]:
    return [(_bytes(name), _bytes(value)) for name, value in pairs]


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
