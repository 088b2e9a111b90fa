"""The one place that writes to standard output and standard error: nothing written here can steer a terminal.

Ids, models' answers, names in a backup and errors that quote them may hold anything. Text loses its control
characters (C0 and C1, and with them every escape sequence) and what reorders letters (Unicode's bidirectional
overrides); JSON has them escaped, so that it means the same.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_STEERING = "\x7f-\x9f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f{_STEERING}]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # which no terminal's encoding has
_IN_JSON = re.compile(f"[{_STEERING}\ud800-\udfff]")  # JSON escapes C0 anyway
_LINES = {ord("\n"): "␊", ord("\t"): "␉"}


def clean(text: str) -> str:
    """Return ``text`` without characters that steer a terminal or that it can't be sent."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


def one_line(text: str) -> str:
    """Return an id, or another name, as it stands in a line of text: it can't begin a line of its own."""
    return clean(text.translate(_LINES))


def json_text(text: str) -> str:
    """Return JSON that means the same as ``text``, without characters that steer a terminal."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class CleanConsole(Console):
    """A console that cleans its output where it is rendered, including tables and progress bars."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is to be written, cleaned; rich's own control codes pass."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=clean(segment.text))

    def out(self, *objects: Any, **options: Any) -> None:
        """Write text as it is, but for what steers the terminal."""
        super().out(*(clean(str(each)) for each in objects), **options)


def out(**options: Any) -> CleanConsole:
    """Return the console of standard output, as it is now.

    Text is shown as it is: in rich's markup, what stands in brackets would vanish, ``[y/N]`` and ids with them.
    """
    return CleanConsole(highlight=False, soft_wrap=True, emoji=False, markup=False, **options)


def err() -> CleanConsole:
    """Return the console of standard error, as it is now."""
    return out(stderr=True)


def write(text: str) -> None:
    """Write text to standard output, its lines as they are."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def write_error(text: str) -> None:
    """Write text to standard error, its lines as they are."""
    sys.stderr.write(clean(text))
    sys.stderr.flush()


def show_json(value: Any, *, on_one_line: bool = False) -> None:
    """Print one JSON value; on one line where more of them follow."""
    text = json.dumps(value, ensure_ascii=False, indent=None if on_one_line else 2)
    sys.stdout.write(f"{json_text(text)}\n")
    sys.stdout.flush()


def write_record(line: str) -> None:
    """Write a line of a backup to standard output: byte for byte, except on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(f"{json_text(line)}\n")
    else:
        sys.stdout.buffer.write(f"{line}\n".encode())
