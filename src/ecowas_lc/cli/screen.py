"""Output for people: results on standard output, remarks and progress on standard error, in lines that fit."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ecowas_lc.cli.terminal import clean, err, one_line, out
from ecowas_lc.errors import ConfigurationError, EcowasError, InvalidInputError

MARGIN = "  "
MOST_COLUMNS = 100  # longer lines are hard to read
LONGEST_ID = 200  # characters, for ids created here or shown in tables; others may be longer


def say(text: str) -> None:
    """Print an outcome on standard output."""
    console = out()
    console.print(wrapped(text, console))


def remark(text: str) -> None:
    """Print a remark, which is not a result, on standard error."""
    console = err()
    console.print(Text(wrapped(text, console), style="dim"))


def program() -> str:
    """Return how to call this command: its name, or its path if the shell would not find it."""
    name = "ecowas-lc"
    script = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None or not script.is_file():
        return name
    if script.parent == Path.cwd():
        return f"./{name}"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


def wrapped(text: str, console: Console, indent: str = "", first: str = "") -> str:
    """Return ``text`` wrapped to the terminal's width, or unwrapped if output is not a terminal."""
    text = clean(text)
    if not console.is_terminal:
        return f"{first}{text}"
    width = min(console.width, MOST_COLUMNS) - max(len(indent), len(first))
    lines = lines_of(text, width)
    return "\n".join([f"{first}{lines[0]}", *(f"{indent}{line}" if line else "" for line in lines[1:])])


def lines_of(text: str, width: int | None) -> list[str]:
    """Return ``text`` as lines of at most ``width`` columns without breaking words; unwrapped without a width."""
    if width is None:
        return [text]
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in re.findall(r"\s*\S+", paragraph):
            if line and cell_len(line + word) > width:
                lines.append(line)
                line = word.lstrip()
            else:
                line += word
        lines.append(line)
    return lines


def labelled(label: str, text: str, width: int, console: Console | None = None) -> None:
    """Print one or more lines with a label in front."""
    console = console or out()
    body = wrapped(text, console, " " * width, f"{clean(label):<{width - 1}} ")
    console.print(Text.assemble((body[:width], "dim"), body[width:]))


def shortened(text: str, console: Console) -> str:
    """Return ``text`` on one line that fits the terminal."""
    line = Text(text[: len(text) - len(text.lstrip())] + " ".join(clean(text).split()))
    line.truncate(min(console.width, MOST_COLUMNS), overflow="ellipsis")
    return line.plain


def check_target(file: Path, ending: str = "") -> None:
    """Raise an error unless a file can be written, before any work is done for it.

    Raises:
        InvalidInputError: The file has another extension, or its folder does not exist or is not writable.
    """
    reason, folder = "", (file.resolve() if file.is_symlink() else file).parent
    if ending and file.suffix.lower() != ending:
        reason = f"its name must end in {ending}"
    elif file.is_dir():
        reason = "it is a folder"
    elif not file.exists() and not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif file.exists() and not os.access(file, os.W_OK):
        reason = "you have no permission to write to it"
    elif (not file.exists() or file.is_file()) and not os.access(folder, os.W_OK):
        # The file is replaced by a complete one, so that readers never see a half-written file.
        reason = f"you have no permission to create files in {folder}"
    if reason:
        raise InvalidInputError(f"{file} can't be written: {reason}.")


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Report which file a block could not write, and why.

    Raises:
        EcowasError: The system's error, with the state of the file.
    """
    try:
        yield
    except OSError as error:
        kept = " The file was not changed." if file.is_file() else ""
        raise EcowasError(f"{file} can't be written: {error.strerror or error}.{kept}") from error


def counted(number: int, thing: str) -> str:
    """Return ``1 thread`` or ``2 threads``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask the user to confirm and return whether they agree; ``yes`` skips the question.

    Raises:
        ConfigurationError: Standard input is not a terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{question} Not a terminal, so I can't ask for confirmation. Pass --yes to confirm."
        )
    console = err()
    console.print(wrapped(f"{question} [y/N]", console), end=" ")
    try:
        agreed = input().strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        err().print()
        agreed = False
    if not agreed:
        remark("Nothing was changed.")
    return agreed


_GAP, _INDENT = "  ", "    "
_COMMON = 36  # columns that a generated id takes


def _cell(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= LONGEST_ID else f"{line[: LONGEST_ID - 1]}…"


def show_rows(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: tuple[str, Sequence[str]] = ("", ()),
    console: Console | None = None,
) -> None:
    """Print rows in columns under headings, an id first; ``words`` is a last column: its heading and texts.

    An id that is too long for its column gets a line of its own, and is cut after 200 characters. The words are
    placed at the end of the row and wrapped, or beneath it if that would leave no room for ids. If the output is
    not a terminal, each row is one line.
    """
    console = console or out()
    width = console.width if console.is_terminal else None
    table = [[_cell(cell) for cell in row] for row in (headings, *rows)]
    heading, texts = words[0], [clean(text) for text in words[1]]
    ids, *others = (list(map(cell_len, column)) for column in zip(*table, strict=True))
    taken = sum(len(_GAP) + max(column) for column in others)
    longest = max((cell_len(word) for text in (heading, *texts) for word in text.split()), default=0)
    with_words = taken + len(_GAP) + longest if texts else taken
    beside = width is None or min(max(ids), _COMMON) + with_words <= width
    room = max(ids) if width is None else width - (with_words if beside else taken)
    columns = [max(size for size in ids if size <= max(room, ids[0])), *map(max, others)]
    indent = sum(columns) + len(_GAP) * len(columns) if beside else len(_INDENT)
    space = None if width is None else width - indent

    for number, row in enumerate(table):
        style = "dim" if number == 0 else ""
        if ids[number] > columns[0]:
            console.print(Text(row[0]))
            row[0] = ""
        line = _GAP.join(cell + " " * (size - cell_len(cell)) for cell, size in zip(row, columns, strict=True))
        text = (heading, *texts)[number] if texts else ""
        more = lines_of(text, space)
        if beside:
            line = f"{line}{_GAP}{more.pop(0)}"
        console.print(Text(line.rstrip(), style=style))
        if number or beside:
            for folded in filter(None, more):
                console.print(Text(" " * indent + folded, style="" if beside else "dim"))


TellProgress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


@contextmanager
def shown_progress(*, in_bytes: bool = False) -> Iterator[TellProgress]:
    """Yield a function that reports progress, with one bar for each name."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    console = err()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total or None)
            bar.update(tasks[name], completed=done, total=total or None)

        yield tell
