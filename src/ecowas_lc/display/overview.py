"""An overview of what a server holds, and records as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ecowas_lc.display import storage_views
from ecowas_lc.display.blocks import fold, heading, note, plain, table
from ecowas_lc.display.elements import Node
from ecowas_lc.display.wording import counted

_MOST_RECORDS = 25


def explorer(shown: Any) -> list[Node]:
    """Return the threads and sessions of a server, and how to look closer."""
    return [
        *storage_views.saver(shown.saver),
        *storage_views.memory(shown.memory),
        fold("Long-term memory", *storage_views.store(shown.store)),
        fold("Documents", *storage_views.documents(shown.documents)),
        note("Look closer: threads[id], history(agent, session), timeline(id), state(id), activity()."),
    ]


def records(shown: Any) -> list[Node]:
    """Return the first of the records as a table."""
    names = list(dict.fromkeys(name for record in shown[:_MOST_RECORDS] for name in record))
    rows: list[Sequence[Any]] = [[_cell(record.get(name)) for name in names] for record in shown[:_MOST_RECORDS]]
    numbers = [
        all(isinstance(record.get(name), (int, float, type(None))) for record in shown[:_MOST_RECORDS])
        for name in names
    ]
    more = len(shown) - len(rows)
    return [
        heading("Records", counted(len(shown), "record"), ".to_pandas() makes a DataFrame"),
        table(names, rows, ["number" if each else "" for each in numbers]) if rows else note("There are none."),
        note(f"{more:,} more") if more > 0 else None,
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if type(value) is int else plain(value, 80)
