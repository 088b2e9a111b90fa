"""The file format of a backup: JSON Lines, with the format and its version in the first line.

Each further line has a ``type``. Histories, agent states and session data take a line each
(:mod:`ecowas_lc.memory.backup`), and a thread takes several (:mod:`ecowas_lc.checkpoint.backup`). Further first
lines are allowed, so that files can be concatenated. Times to live count from the import, so that old backups stay
useful.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from ecowas_lc.errors import CorruptDataError, FormatVersionError, InvalidInputError

T = TypeVar("T")

FORMAT = "ecowas-lc"
VERSION = 1

Progress = Callable[[int, int], None]  # the number done, and the total
Outcome = Literal["written", "unchanged", "kept"]


@dataclass(frozen=True, slots=True)
class RecordKind:
    """A kind of record: the part of the package that restores it, and its name in messages."""

    owner: Literal["memory", "threads", "store"]
    one: str
    many: str


# The lines of one thread, in this order.
THREAD, CONTENTS, THREAD_END = "thread", "thread-contents", "thread-end"
ITEM = "item"

KINDS = {
    "history": RecordKind("memory", "history", "histories"),
    "state": RecordKind("memory", "agent's state", "agents' states"),
    "session-data": RecordKind("memory", "value of a session", "values of sessions"),
    THREAD: RecordKind("threads", "thread", "threads"),
    ITEM: RecordKind("store", "item of a store", "items of stores"),
}
"""The kinds of records that a backup counts, by ``type``."""


def owner_of(record: dict[str, Any]) -> str | None:
    """Return the part of the package that restores a record; ``None`` if its type is unknown."""
    kind = record.get("type")
    if kind in (CONTENTS, THREAD_END):
        return "threads"
    return KINDS[kind].owner if isinstance(kind, str) and kind in KINDS else None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import: what it wrote, what already existed, and what it kept because it differs."""

    written: int = 0
    unchanged: int = 0
    kept: tuple[str, ...] = ()
    """Records that exist on the server with other contents and were kept, such as ``history agent/session``."""
    passed_over: int = 0
    """Records of a kind that another importer restores: the saver's, the store's or the memory service's."""

    def with_one(self, outcome: Outcome, name: str) -> ImportReport:
        """Return the report with one more record."""
        match outcome:
            case "written":
                return replace(self, written=self.written + 1)
            case "unchanged":
                return replace(self, unchanged=self.unchanged + 1)
            case "kept":
                return replace(self, kept=(*self.kept, name))

    def without(self, record: dict[str, Any]) -> ImportReport:
        """Return the report with one more skipped record."""
        return replace(self, passed_over=self.passed_over + (record.get("type") not in (CONTENTS, THREAD_END)))

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(
            self.written + other.written,
            self.unchanged + other.unchanged,
            self.kept + other.kept,
            self.passed_over + other.passed_over,
        )


def header() -> str:
    """Return the first line."""
    return line_of({"format": FORMAT, "version": VERSION, "created": datetime.now(UTC).isoformat()})


def line_of(record: dict[str, Any]) -> str:
    """Return a record as a line, in readable form if possible."""
    try:
        line = json.dumps(record, ensure_ascii=False)
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(record)
    return line


def time_of(text: str | None) -> datetime | None:
    """Return a time from a record."""
    return None if text is None else datetime.fromisoformat(text)


def time_at(seconds: float) -> datetime | None:
    """Return the time at this many seconds after 1970; ``None`` if the calendar can't represent it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class Lines:
    """Reads lines one by one: numbers them, checks format lines, and reports which line is wrong and why."""

    def __init__(self) -> None:
        self._number = 0

    def record(self, line: str) -> dict[str, Any] | None:
        """Return the record of a line; ``None`` for a line that names the format.

        Raises:
            CorruptDataError: The line is not a JSON object, or the first line does not name the format.
            FormatVersionError: A newer version of this package wrote it.
        """
        self._number += 1
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise self.corrupt("it is not JSON") from None
        if not isinstance(record, dict):
            raise self.corrupt("it is not a JSON object")
        if self._number > 1 and "format" not in record:
            return record
        self._check_header(record)
        return None

    def corrupt(self, reason: str | Exception) -> CorruptDataError:
        """Return the error for the line that was read last."""
        said = f"it has no {reason}" if isinstance(reason, KeyError) else str(reason).removesuffix(".")
        done = "Everything before it has been imported; fix the line and import again."
        if self._number == 1:
            done = "Pass a whole export, starting with its first line."
        return CorruptDataError(f"Line {self._number} can't be imported: {said}. {done}")

    def check_end(self) -> None:
        """Check, after all lines were read, that there were any.

        Raises:
            CorruptDataError: There were no lines.
        """
        if self._number == 0:
            raise CorruptDataError("There is nothing to import: not even the first line, which names the format.")

    def _check_header(self, record: dict[str, Any]) -> None:
        version = record.get("version")
        if record.get("format") != FORMAT or type(version) is not int:
            raise self.corrupt('it does not name the format: {"format": "ecowas-lc", "version": 1}')
        if version > VERSION:
            raise FormatVersionError(
                f"This export has version {version}; this package reads up to {VERSION}. Install a "
                "newer ecowas_lc."
            )


LONGEST_LINE = 64 * 2**20
"""Maximum characters of a line in a file: an export's lines have a few MiB, unless a single value is larger."""


def bounded_lines(file: Any, longest: int = LONGEST_LINE) -> Iterator[Any]:
    """Yield the lines of an open file, reading at most ``longest`` characters of each, as a line may never end.

    Raises:
        InvalidInputError: A line is longer.
    """
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise InvalidInputError(
                f"Line {number} is longer than {longest:,} characters. Earlier lines may have been imported, and "
                "importing them again is safe. If a single value or history really is that large, raise "
                "--longest-line, or pass an iterable of lines in Python."
            )
        yield line


def checked_lines(lines: Iterable[str]) -> Iterable[str]:
    """Return ``lines`` if they are an iterable of lines; lines of an open file are read up to ``LONGEST_LINE``.

    Raises:
        InvalidInputError: ``lines`` is a single string, which would yield characters, or is not iterable.
    """
    _check_lines(lines)
    return bounded_lines(lines) if hasattr(lines, "readline") else lines


def _check_lines(lines: Any) -> None:
    if isinstance(lines, (str, bytes)) or not isinstance(lines, (Iterable, AsyncIterable)):
        raise InvalidInputError(
            f"Lines are imported one by one: pass an open file or a list of them, not a {type(lines).__name__}."
        )


async def one_by_one(lines: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    """Yield the lines of an iterable or an async iterable."""
    _check_lines(lines)
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in checked_lines(lines):
            yield line
