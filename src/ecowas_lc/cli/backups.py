"""``ecowas-lc sessions|threads export|import``: writes stored data as JSON Lines, and restores it."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ecowas_lc._output_file import output_file
from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.screen import TellProgress, check_target, counted, naming, remark, say, shown_progress
from ecowas_lc.cli.store import Store, opened_store
from ecowas_lc.cli.terminal import one_line, show_json, write_record
from ecowas_lc.errors import CorruptDataError, FormatVersionError, InvalidInputError

if TYPE_CHECKING:
    from ecowas_lc.memory import ImportReport

_MOST_NAMED = 10
_GZIP = b"\x1f\x8b"


def export_sessions(sessions: Sequence[str], output: Path | None, *, json: bool) -> None:
    """Write sessions with their threads, or everything that is stored.

    Raises:
        EcowasError: There is no such session; nothing is written.
        InvalidInputError: The file cannot be written.
    """
    names = _checked(sessions)

    def lines(store: Store, tell: TellProgress) -> Iterator[str]:
        if not names:
            yield from store.memory.export_jsonl(on_progress=partial(tell, "histories and values"))
            yield from store.saver.export_jsonl(on_progress=partial(tell, "threads"))
            for items in store.item_stores():
                yield from items.export_jsonl(on_progress=partial(tell, "parts of a store"))
            return
        for session in names:
            store.check_session(session)
        for number, session in enumerate(names, start=1):
            yield from store.memory.export_jsonl(session_id=session)
            tell("sessions", number, len(names))
        yield from store.saver.export_jsonl(names, on_progress=partial(tell, "threads"))

    _export(lines, output, json=json)


def export_threads(threads: Sequence[str], output: Path | None, *, json: bool) -> None:
    """Write threads, or all threads.

    Raises:
        EcowasError: There is no such thread; nothing is written.
        InvalidInputError: The file cannot be written.
    """
    names = _checked(threads)

    def lines(store: Store, tell: TellProgress) -> Iterator[str]:
        for thread in names:
            store.check_thread(thread)
        yield from store.saver.export_jsonl(names or None, on_progress=partial(tell, "threads"))

    _export(lines, output, json=json)


def import_file(name: str, *, overwrite: bool, threads_alone: bool, longest_line: int, json: bool) -> None:
    """Restore an export, or only its threads; ``longest_line`` is in MiB.

    Raises:
        InvalidInputError: The file or a line of it is not readable; the lines before it are restored.
    """
    try:
        with (
            opened_store() as store,
            shown_progress(in_bytes=True) as tell,
            _lines_of(name, tell, longest_line * 2**20) as lines,
        ):
            if threads_alone:
                report = store.saver.import_jsonl(lines, overwrite=overwrite)
            else:
                report = _import_everything(store, lines, overwrite=overwrite)
    except (CorruptDataError, FormatVersionError) as error:
        raise InvalidInputError(str(error)) from error
    if json:
        show_json(asdict(report))
        return
    say(f"{report.written} written, {report.unchanged} unchanged.")
    if report.kept:
        more = f" and {len(report.kept) - _MOST_NAMED} more" if len(report.kept) > _MOST_NAMED else ""
        named = ", ".join(map(one_line, report.kept[:_MOST_NAMED]))
        remark(f"Not overwritten, because it differs: {named}{more}. Pass --overwrite to restore it.")
    if report.passed_over:
        remark(f"{counted(report.passed_over, 'record')} skipped. `ecowas-lc sessions import` restores all.")


def _import_everything(store: Store, lines: Iterable[str], *, overwrite: bool) -> ImportReport:
    from ecowas_lc.checkpoint.saver import importer_of
    from ecowas_lc.memory.backup import Importer
    from ecowas_lc.memory.service import MemoryPrograms
    from ecowas_lc.search.place import Collection
    from ecowas_lc.storage.backup_format import Lines, owner_of
    from ecowas_lc.storage.keys import Keys
    from ecowas_lc.store.backup import ItemImporter

    programs = MemoryPrograms(store.server, store.settings.prefix, store.settings.redis_memory_ttl)
    others = Importer(programs.sessions, overwrite=overwrite)
    threads = importer_of(store.saver, overwrite=overwrite)
    items = ItemImporter(
        Collection(Keys(store.settings.prefix), one_slot=not store.server.is_cluster), overwrite=overwrite
    )
    restoring: dict[str | None, Any] = {"threads": threads, "store": items}
    read = Lines()
    for line in lines:
        record = read.record(line)
        if record is None:
            continue
        owner = "threads" if threads.is_busy else owner_of(record)
        store.server.run(restoring.get(owner, others).record_op(record, read))
    read.check_end()
    threads.check_end()
    return others.report + threads.report + items.report


def _export(lines: Callable[[Store, TellProgress], Iterator[str]], output: Path | None, *, json: bool) -> None:
    if output is None and json:
        raise InvalidInputError(
            "--json prints a report, so it needs --output too. The export itself is JSON Lines."
        )
    from ecowas_lc.storage.backup_format import KINDS

    counts: dict[str, int] = {}
    with opened_store() as store, shown_progress() as tell, _written(output) as write:
        for line in lines(store, tell):
            write(line)
            kind = next((kind for kind in KINDS if line.startswith(f'{{"type": "{kind}"')), "")
            counts[kind] = counts.get(kind, 0) + 1
    found = {kind: counts.get(kind, 0) for kind in KINDS}
    if json:
        assert output is not None
        show_json({"file": str(output.resolve()), **{kind.replace("-", "_"): n for kind, n in found.items()}})
        return
    said = ", ".join(f"{n} {KINDS[kind].many if n > 1 else KINDS[kind].one}" for kind, n in found.items() if n)
    to = f" to {output}" if output is not None else ""
    remark(f"Exported {said or 'nothing: nothing is stored'}{to}.")


def _checked(names: Sequence[str]) -> list[str]:
    return [checked_session(name) for name in dict.fromkeys(names)]


@contextmanager
def _written(output: Path | None) -> Iterator[Callable[[str], object]]:
    """Yield a function that writes a line.

    The file appears only when the export is complete; until then, an existing file is unchanged. Only its owner
    may read it.
    """
    if output is None:
        yield write_record
        sys.stdout.flush()
        return
    check_target(output)
    with naming(output), output_file(output, private=True) as file, _packed(file, output) as packed:
        yield lambda line: packed.write(f"{line}\n".encode())


def _packed(file: IO[bytes], output: Path) -> AbstractContextManager[IO[bytes]]:
    return gzip.GzipFile(fileobj=file, mode="wb") if output.suffix == ".gz" else nullcontext(file)  # type: ignore[return-value]


@contextmanager
def _lines_of(name: str, tell: TellProgress, longest: int) -> Iterator[Iterator[str]]:
    """Yield the lines of a file or of standard input, and report how much has been read."""
    from ecowas_lc.storage.backup_format import bounded_lines

    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as raw:
            size = 0 if name == "-" else os.fstat(raw.fileno()).st_size
            is_packed = raw.peek(2)[:2] == _GZIP  # type: ignore[union-attr]
            # Compressed or not, a line may be endless, so no more than the limit is read.
            lines: Iterable[bytes] = bounded_lines(gzip.GzipFile(fileobj=raw) if is_packed else raw, longest)
            yield _decoded(lines, name, lambda: tell("imported", raw.tell(), size) if size else None)
    except OSError as error:
        raise InvalidInputError(f"{name} can't be read: {error.strerror or error}.") from error


def _decoded(lines: Iterable[bytes], name: str, read: Callable[[], None]) -> Iterator[str]:
    try:
        for line in lines:
            read()
            if line.strip():
                yield line.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name} can't be read: it is not UTF-8.") from error
    except (EOFError, zlib.error) as error:
        raise InvalidInputError(f"{name} can't be read to the end: it is truncated or damaged.") from error
