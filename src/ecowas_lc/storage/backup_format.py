"""The file of a backup: JSON Lines, the first of which names the format and its version.

Each further line has a ``type``. Histories, agent states and session data are a line each
(:mod:`ecowas_lc.memory.backup`), a thread is several (:mod:`ecowas_lc.checkpoint.backup`). Further first lines are
allowed, so that files may be joined. Times to live count from the restoring: an old backup is worth having.
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

Progress = Callable[[int, int], None]  # how many are done, and of how many
Outcome = Literal["written", "unchanged", "kept"]


@dataclass(frozen=True, slots=True)
class RecordKind:
    """A kind of record: which part of the package restores it, and how it is called in messages."""

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
"""What a backup counts, by the ``type`` of its records."""


def owner_of(record: dict[str, Any]) -> str | None:
    """Return which part of the package restores a record; ``None`` if its type is unknown."""
    kind = record.get("type")
    if kind in (CONTENTS, THREAD_END):
        return "threads"
    return KINDS[kind].owner if isinstance(kind, str) and kind in KINDS else None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did: what it wrote, what was there already, and what it left because it differs."""

    written: int = 0
    unchanged: int = 0
    kept: tuple[str, ...] = ()
    """What exists on the server with other contents and was left, as ``history agent/session`` and the like."""
    passed_over: int = 0
    """Records of a kind that somebody else restores: the saver, the store or the memory service."""

    def with_one(self, outcome: Outcome, name: str) -> ImportReport:
        """The report with one more record in it."""
        match outcome:
            case "written":
                return replace(self, written=self.written + 1)
            case "unchanged":
                return replace(self, unchanged=self.unchanged + 1)
            case "kept":
                return replace(self, kept=(*self.kept, name))

    def without(self, record: dict[str, Any]) -> ImportReport:
        """The report with a record passed over."""
        return replace(self, passed_over=self.passed_over + (record.get("type") not in (CONTENTS, THREAD_END)))

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(
            self.written + other.written,
            self.unchanged + other.unchanged,
            self.kept + other.kept,
            self.passed_over + other.passed_over,
        )


def header() -> str:
    """The first line."""
    return line_of({"format": FORMAT, "version": VERSION, "created": datetime.now(UTC).isoformat()})


def line_of(record: dict[str, Any]) -> str:
    """A record as a line, readable where it can be."""
    try:
        line = json.dumps(record, ensure_ascii=False)
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(record)
    return line


def time_of(text: str | None) -> datetime | None:
    """A moment of a record."""
    return None if text is None else datetime.fromisoformat(text)


def time_at(seconds: float) -> datetime | None:
    """The moment so many seconds after 1970; ``None`` where no calendar has it, as only others store it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class Lines:
    """Reads lines one by one: numbers them, checks those that name the format, says which is wrong and why."""

    def __init__(self) -> None:
        self._number = 0

    def record(self, line: str) -> dict[str, Any] | None:
        """What a line holds; ``None`` where it names the format.

        Raises:
            CorruptDataError: it is not a JSON object, or the first line does not name the format.
            FormatVersionError: a newer version of this package wrote it.
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
        """The error for the line that was read last."""
        said = f"it has no {reason}" if isinstance(reason, KeyError) else str(reason).removesuffix(".")
        done = "What stands before it has been imported; mend the line and import again."
        if self._number == 1:
            done = "Give what an export wrote, from its first line on."
        return CorruptDataError(f"Line {self._number} can't be imported: {said}. {done}")

    def check_end(self) -> None:
        """Every line was read.

        Raises:
            CorruptDataError: there was none.
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
"""Characters of a line read from a file: an export's lines are a few MiB, unless a single value is larger."""


def bounded_lines(file: Any, longest: int = LONGEST_LINE) -> Iterator[Any]:
    """The lines of an open file, none of which is read further than ``longest``: it may have no end.

    Raises:
        InvalidInputError: a line is longer.
    """
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise InvalidInputError(
                f"Line {number} is longer than {longest:,} characters and can't be imported. An export has such a "
                "line only where a single value or history is that large: then raise the limit with "
                "--longest-line, or give the lines one by one."
            )
        yield line


def checked_lines(lines: Iterable[str]) -> Iterable[str]:
    """``lines`` where they are lines; those of an open file are read up to ``LONGEST_LINE``.

    Raises:
        InvalidInputError: they are one text, of which each character would be a line, or nothing to go through.
    """
    _check_lines(lines)
    return bounded_lines(lines) if hasattr(lines, "readline") else lines


def _check_lines(lines: Any) -> None:
    if isinstance(lines, (str, bytes)) or not isinstance(lines, (Iterable, AsyncIterable)):
        raise InvalidInputError(
            f"Lines are imported one by one: give an open file or a list of them, not a {type(lines).__name__}."
        )


async def one_by_one(lines: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    """Lines of either kind of iterable."""
    _check_lines(lines)
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in checked_lines(lines):
            yield line
