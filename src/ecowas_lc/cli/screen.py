"""What people see: results on standard output, remarks on standard error, in lines that fit."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ecowas_lc.errors import ConfigurationError, InvalidInputError

MARGIN = "  "
MOST_COLUMNS = 100  # longer lines are hard to read
# a model's text must not steer the terminal
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def out() -> Console:
    """Return the console of standard output, as it is now."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Return the console of standard error, as it is now."""
    return Console(highlight=False, soft_wrap=True, stderr=True)


def say(text: str) -> None:
    """Say how something went, on standard output."""
    console = out()
    console.print(wrapped(clean(text), console), markup=False)


def remark(text: str) -> None:
    """Say something that is no result, on standard error."""
    console = err()
    console.print(Text(wrapped(text, console), style="dim"))


def show_json(value: Any, *, on_one_line: bool = False) -> None:
    """Print one JSON value; on one line where more of them follow."""
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False, indent=None if on_one_line else 2)}\n")
    sys.stdout.flush()


def program() -> str:
    """Return what to type for this command: its name, or its path where the shell would not find it."""
    name = "ecowas-lc"
    script = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None or not script.is_file():
        return name
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


def clean(text: str) -> str:
    """Return ``text`` without characters that steer a terminal."""
    return _CONTROL.sub("", text)


def wrapped(text: str, console: Console, indent: str = "", first: str = "") -> str:
    """Return ``text`` broken into lines that fit the terminal; unbroken where output is no terminal."""
    if not console.is_terminal:
        return f"{first}{text}"
    width = min(console.width, MOST_COLUMNS) - max(len(indent), len(first))
    lines = lines_of(text, width)
    return "\n".join([f"{first}{lines[0]}", *(f"{indent}{line}" if line else "" for line in lines[1:])])


def lines_of(text: str, width: int | None) -> list[str]:
    """Return ``text`` as lines of so many columns at most; a word is never broken, and without a width no line."""
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
    """Print a line, or several, with its label before it."""
    console = console or out()
    body = wrapped(clean(text), console, " " * width, f"{clean(label):<{width - 1}} ")
    console.print(Text.assemble((body[:width], "dim"), body[width:]))


def shortened(text: str, console: Console) -> str:
    """Return ``text`` on one line that fits the terminal."""
    line = Text(text[: len(text) - len(text.lstrip())] + " ".join(clean(text).split()))
    line.truncate(min(console.width, MOST_COLUMNS), overflow="ellipsis")
    return line.plain


def check_target(file: Path, ending: str = "") -> None:
    """Make sure, before anything is done for it, that a file can be written.

    Raises:
        InvalidInputError: it has another ending, or there is no folder for it, or none that may be written to.
    """
    reason = ""
    if ending and file.suffix.lower() != ending:
        reason = f"its name must end in {ending}"
    elif file.is_dir():
        reason = "it is a folder"
    elif not file.parent.is_dir():
        reason = f"there is no folder {file.parent}"
    elif not os.access(file if file.exists() else file.parent, os.W_OK):
        reason = "it may not be written to"
    if reason:
        raise InvalidInputError(f"{file} can't be written: {reason}.")


def counted(number: int, thing: str) -> str:
    """Return ``1 thread`` or ``2 threads``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether the user agrees; ``--yes`` does so beforehand.

    Raises:
        ConfigurationError: nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Nobody can be asked here: say --yes.")
    err().print(f"{question} [y/N] ", markup=False, end="")
    try:
        agreed = input().strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        err().print()
        agreed = False
    if not agreed:
        remark("Nothing was removed.")
    return agreed
