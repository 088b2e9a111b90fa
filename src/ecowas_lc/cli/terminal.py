"""The only module that writes to standard output and standard error, so that no text can control the terminal.

It also reads piped input.

Ids, models' answers, names in a backup and errors that quote them may contain anything. Text is stripped of its
control characters (C0 and C1, and with them every escape sequence) and of characters that reorder text (Unicode's
bidirectional overrides). In JSON, they are escaped, so that its meaning is unchanged.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ecowas_lc.errors import InvalidInputError

_STEERING = "\x7f-\x9f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f{_STEERING}]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # which no terminal encoding can represent
_IN_JSON = re.compile(f"[{_STEERING}\ud800-\udfff]")  # JSON escapes C0 itself
_LINES = {ord("\n"): "␊", ord("\t"): "␉"}


def clean(text: str) -> str:
    """Return ``text`` without characters that control a terminal or cannot be encoded for it."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


def one_line(text: str) -> str:
    """Return an id or another name in a form that cannot start a line of its own."""
    return clean(text.translate(_LINES))


def json_text(text: str) -> str:
    """Return equivalent JSON without characters that control a terminal."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class CleanConsole(Console):
    """A console that cleans its output when it is rendered, including tables and progress bars."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the cleaned output; rich's own control codes are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=clean(segment.text))

    def out(self, *objects: Any, **options: Any) -> None:
        """Write text unchanged, except for characters that control the terminal."""
        super().out(*(clean(str(each)) for each in objects), **options)


def out(**options: Any) -> CleanConsole:
    """Return the console of the current standard output.

    Markup is off, because rich would remove text in brackets, such as ``[y/N]`` and parts of ids.
    """
    return CleanConsole(highlight=False, soft_wrap=True, emoji=False, markup=False, **options)


def err() -> CleanConsole:
    """Return the console of the current standard error."""
    return out(stderr=True)


def write(text: str) -> None:
    """Write text to standard output, keeping its lines."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def write_error(text: str) -> None:
    """Write text to standard error, keeping its lines."""
    sys.stderr.write(clean(text))
    sys.stderr.flush()


def show_json(value: Any, *, on_one_line: bool = False) -> None:
    """Print one JSON value; on one line if several follow each other."""
    text = json.dumps(value, ensure_ascii=False, indent=None if on_one_line else 2)
    sys.stdout.write(f"{json_text(text)}\n")
    sys.stdout.flush()


def write_record(line: str) -> None:
    """Write a line of a backup to standard output, byte for byte unless it is a terminal."""
    # While rich shows progress it replaces stdout, and rich 14.3 then denies that it is a terminal.
    if getattr(sys.stdout, "rich_proxied_file", sys.stdout).isatty():
        sys.stdout.write(f"{json_text(line)}\n")
    else:
        sys.stdout.buffer.write(f"{line}\n".encode())


_LONGEST_LINE = 4_000_000


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input, without line endings.

    Raises:
        InvalidInputError: A line is not UTF-8, or longer than 4 MB; nothing of it is passed on.
    """
    source = getattr(sys.stdin, "buffer", sys.stdin)
    number = 0
    while line := source.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise InvalidInputError(f"Line {number} of the input is longer than 4 MB. Shorten it.")
        try:
            text = line if isinstance(line, str) else line.decode("utf-8-sig" if number == 1 else "utf-8")
            text.encode()
        except UnicodeError:
            raise InvalidInputError(
                f"Line {number} of the input is not UTF-8. Convert it first: iconv -f latin1 -t utf-8 FILE"
            ) from None
        yield text.rstrip("\r\n")


def piped_text() -> str:
    """Return all of standard input.

    Raises:
        InvalidInputError: Standard input is a terminal, or not UTF-8.
    """
    if sys.stdin.isatty():
        raise InvalidInputError('There is no question. Write: ecowas-lc ask "…", or pipe it in: … | ecowas-lc ask')
    return "\n".join(piped_lines())
