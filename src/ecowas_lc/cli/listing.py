"""Rows in columns, whatever the width: an id is never broken, and what does not fit stands beneath it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ecowas_lc.cli.screen import clean, lines_of, out

_GAP, _INDENT = "  ", "    "
_COMMON = 36  # columns: what an id takes that a program made up


def show_rows(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: tuple[str, Sequence[str]] = ("", ()),
    console: Console | None = None,
) -> None:
    """Print rows, an id first, in columns under their headings; ``words`` is one more, its heading and its texts.

    An id that is too long for its column has a line of its own. Words stand at the end, broken where they must
    be, or beneath their row where that would leave no room for ids. Without a terminal each row is one line.
    """
    console = console or out()
    width = console.width if console.is_terminal else None
    table = [[clean(cell) for cell in row] for row in (headings, *rows)]
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
