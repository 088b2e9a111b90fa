"""Programs that restore threads from the lines of a backup.

A thread is written beside its place and put there in one step, so that whatever breaks off leaves the old thread
or the new one. Nothing of it is decoded: what a file holds is no more trusted than what Redis holds, and is
checked against the allowlist where it is read.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field, replace
from typing import Any

from ecowas_lc.checkpoint.backup import add_to_digest, new_digest
from ecowas_lc.checkpoint.beside import STORED_FORMAT, Beside, Field, beside_calls, runs_in
from ecowas_lc.checkpoint.ops import RUN_SECONDS, Context
from ecowas_lc.checkpoint.place import Place, thread_id_of
from ecowas_lc.checkpoint.reading import found_elements, has_sealed, read_call
from ecowas_lc.errors import CorruptDataError, DecryptionError, FormatVersionError, StorageError
from ecowas_lc.storage.keys import id_bytes
from ecowas_lc.storage.lines import CONTENTS, OF_MEMORY, OF_THREADS, THREAD, ImportReport, Lines, Outcome, time_of
from ecowas_lc.storage.ops import Op, call, command
from ecowas_lc.storage.scripts import load_script

_RESTORE = load_script("checkpoint_thread", "checkpoint_restore")

_LONGEST_SECONDS = 10**10


@dataclass(slots=True)
class _Pending:
    """A thread that has begun and not ended."""

    thread_id: str
    prefix: str
    fields: int
    ttl_ms: int | None
    written_at: float
    beside: Beside
    was_there: bool
    writes: bool  # beside its place
    is_same: bool  # as what is in its place, as far as it has been read
    digest: Any = field(default_factory=new_digest)


class ThreadImporter:
    """Gives the program that restores what each line holds; what belongs to the memory service is passed over."""

    def __init__(self, at: Context, *, overwrite: bool) -> None:
        self._at = at
        self._overwrite = overwrite
        self._lines = Lines()
        self._pending: _Pending | None = None
        self.report = ImportReport()

    def line_op(self, line: str) -> Op[None]:
        """Restore what one line holds."""
        record = self._lines.record(line)
        if record is not None:
            yield from self.record_op(record, self._lines)
        elif self._pending is not None:
            raise self._broken_off()

    def record_op(self, record: dict[str, Any], lines: Lines) -> Op[None]:
        """Restore a record that was read from ``lines``."""
        kind, pending = record.get("type"), self._pending
        if pending is not None and kind not in OF_THREADS[1:]:
            raise self._broken_off()
        try:
            if kind == THREAD:
                self._pending = yield from self._begin_op(record)
            elif kind in OF_MEMORY:
                self.report = self.report.without(record)
            elif kind not in OF_THREADS:
                raise ValueError(f"nothing is known of the type {kind!r}")
            elif pending is None:
                raise ValueError("it goes on with a thread that has not begun")
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
        """Whether a thread has begun and not ended."""
        return self._pending is not None

    def check_end(self) -> None:
        """Every line was read.

        Raises:
            CorruptDataError: the last thread has no end.
        """
        if self._pending is not None:
            raise self._broken_off()

    def finish(self) -> ImportReport:
        """The report, once every line was read.

        Raises:
            CorruptDataError: there was none, or the last thread has no end.
        """
        self.check_end()
        self._lines.check_end()
        return self.report

    def _broken_off(self) -> CorruptDataError:
        assert self._pending is not None
        return CorruptDataError(
            f"The thread {self._pending.thread_id!r} breaks off in the middle: the file has been cut short. That "
            "thread was not imported; what stands before it was."
        )

    def _begin_op(self, record: dict[str, Any]) -> Op[_Pending]:
        thread_id = thread_id_of(record["thread"])
        if record["storage_format"] != STORED_FORMAT.decode():
            raise FormatVersionError(
                f"The thread {thread_id!r} was exported in storage format {record['storage_format']!r}; this "
                f"version of ecowas_lc stores {STORED_FORMAT.decode()!r}. Upgrade it: pip install -U ecowas-lc"
            )
        ttl, moment = record["ttl_seconds"], time_of(record.get("last_activity"))
        if ttl is not None and not 0 <= float(ttl) <= _LONGEST_SECONDS:
            raise ValueError(f"ttl_seconds is {ttl}")
        [was_there] = yield (command("HEXISTS", self._at.keys.thread(thread_id), "N"),)
        return _Pending(
            thread_id,
            str(record["prefix"]),
            int(record["fields"]),
            None if ttl is None else max(1, round(1000 * ttl)),
            moment.timestamp() if moment is not None else time.time(),
            Beside.of(self._at.keys),
            was_there=bool(was_there),
            writes=self._overwrite or not was_there,
            is_same=bool(was_there),
        )

    def _contents_op(self, pending: _Pending, fields: list[Field]) -> Op[None]:
        add_to_digest(pending.digest, fields)
        if pending.is_same:
            names = [name for name, _ in fields]
            [held] = yield (command("HMGET", self._at.keys.thread(pending.thread_id), *names),)
            pending.is_same = held == [value for _, value in fields]
        if pending.writes and fields:
            member = id_bytes(pending.thread_id)
            runs = [self._at.keys.run(run_id) for run_id in runs_in(name for name, _ in fields)]
            # The indexes first: an entry too many is harmless, one too few would hide a thread.
            yield (
                *(command("ZADD", run, pending.written_at, member) for run in runs),
                *(command("EXPIRE", run, RUN_SECONDS) for run in runs),
                *beside_calls(pending.beside.thread(pending.thread_id), fields),
            )

    def _end_op(self, pending: _Pending, digest: Any) -> Op[Outcome]:
        key, beside = self._at.keys.thread(pending.thread_id), pending.beside.thread(pending.thread_id)
        if pending.digest.hexdigest() != digest:
            raise ValueError(f"the thread {pending.thread_id!r} has been damaged, and was not imported")
        if pending.is_same:
            [count] = yield (command("HLEN", key),)
            pending.is_same = count == pending.fields
        if pending.is_same or not pending.writes:
            if pending.writes:
                yield (command("UNLINK", beside),)
            return "unchanged" if pending.is_same else "kept"
        yield from self._check_sealed_op(pending)
        self._at.format.memo.forget(pending.thread_id)
        [_, restored] = yield (
            command("ZADD", self._at.keys.threads(), pending.written_at, id_bytes(pending.thread_id)),
            call(
                _RESTORE,
                (key, beside),
                pending.fields,
                "" if pending.ttl_ms is None else pending.ttl_ms,
                int(self._overwrite),
            ),
        )
        if restored < 0:
            raise ValueError(f"the thread {pending.thread_id!r} is not whole, and was not imported")
        return "written" if restored else "kept"

    def _check_sealed_op(self, pending: _Pending) -> Op[None]:
        """Refuse an encrypted thread of another prefix: it could never be opened here."""
        if pending.prefix == self._at.keys.prefix:
            return
        place = Place(pending.thread_id, None)
        aside = replace(self._at, keys=pending.beside, refresh_on_read=False)
        [answer] = yield (read_call(aside, place, start="latest", along="", limit=1, writes=False, values=False),)
        if has_sealed(found_elements(aside, pending.thread_id, answer)[0]):
            raise DecryptionError(
                f"The thread {pending.thread_id!r} is encrypted for the prefix {pending.prefix!r} and opens "
                "there alone. Import it with that prefix; what stands before it has been imported."
            )


def _fields(pairs: Any) -> list[Field]:
    return [(_bytes(name), _bytes(value)) for name, value in pairs]


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
