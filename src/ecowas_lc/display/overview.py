"""An overview of a server's data, and records as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ecowas_lc.display import storage_views
from ecowas_lc.display.blocks import fold, heading, note, plain, table
from ecowas_lc.display.elements import Node
from ecowas_lc.display.wording import counted

_MOST_RECORDS, _SHORT = 25, 22
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def explorer(shown: Any) -> list[Node]:
    """Return the threads and sessions of a server, and how to look at them more closely."""
    return [
        *storage_views.saver(shown.saver),
        *storage_views.memory(shown.memory),
        fold("Long-term memory", *storage_views.store(shown.store)),
        fold("Documents", *storage_views.documents(shown.documents)),
        note("Look closer: threads[id], history(agent, session), timeline(id), state(id), activity()."),
    ]


def records(shown: Any) -> list[Node]:
    """Return the first records as a table, without empty columns."""
    some = shown[:_MOST_RECORDS]
    names = list(dict.fromkeys(name for record in some for name in record))
    names = [name for name in names if any(record.get(name) not in (None, "") for record in some)]
    rows: list[Sequence[Any]] = [[_cell(record.get(name)) for name in names] for record in some]
    more = len(shown) - len(rows)
    return [
        heading("Records", counted(len(shown), "record"), ".to_pandas() makes a DataFrame"),
        table(names, rows, [_kind([record.get(name) for record in some]) for name in names])
        if rows
        else note("There are none."),
        note(f"{more:,} more") if more > 0 else None,
    ]


def _kind(values: Sequence[Any]) -> str:
    if all(isinstance(value, (int, float, type(None))) for value in values):
        return "number"
    return "short" if all(len(_cell(value)) <= _SHORT for value in values) else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, str) and _UUID.fullmatch(value):
        return f"{value[:8]}…{value[-4:]}"
    return f"{value:,}" if type(value) is int else plain(value, 80)
