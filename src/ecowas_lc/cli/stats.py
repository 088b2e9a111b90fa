"""``ecowas-lc stats``: shows how much the server holds, once or repeatedly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ecowas_lc.cli.screen import wrapped
from ecowas_lc.cli.store import Store, opened_store
from ecowas_lc.cli.terminal import out, show_json
from ecowas_lc.embedded.data_dir import find_place
from ecowas_lc.errors import StorageError

_LABELS = {
    "used_memory": "memory used",
    "total_keys": "keys",
    "nodes": "nodes",
    "agents": "agents",
    "sessions": "sessions",
    "histories": "histories",
    "threads": "threads",
    "items": "items of stores",
}


def show_stats(*, watch: bool, every: float, json: bool) -> None:
    """Show the figures once, or every ``every`` seconds until Ctrl-C."""
    with opened_store() as store:
        if not watch:
            figures = _figures(store)
            if json:
                show_json(figures)
            else:
                out().print(_table(figures, {}))
            return
        if json or not out().is_terminal:
            for figures in _again_and_again(store, every):
                show_json(figures, on_one_line=True)
        else:
            first: dict[str, Any] = {}
            with Live(console=out(), auto_refresh=False) as live:
                for figures in _again_and_again(store, every):
                    first = first if "threads" in first else figures
                    live.update(_screen(figures, first, every), refresh=True)


def _figures(store: Store) -> dict[str, Any]:
    from ecowas_lc.storage.keys import Keys
    from ecowas_lc.store.backup import count_items_op

    counting = count_items_op(Keys(store.settings.prefix), one_slot=not store.server.is_cluster)
    return {**_server_of(store), **store.memory.get_memory_stats(), "items": store.server.run(counting)}


def _server_of(store: Store) -> dict[str, str]:
    """Return which server this is, including the location of the embedded one, which is chosen automatically."""
    found = {"server": store.server.where, "prefix": store.settings.prefix}
    if store.server.is_embedded:
        place = find_place(store.settings)
        found |= {"socket": str(place.socket), "data_dir": str(place.data_dir)}
    return found


def _again_and_again(store: Store, every: float) -> Iterator[dict[str, Any]]:
    """Yield the figures, or that the server is unavailable; a restarted server is found again."""
    while True:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            yield {"at": now, **_figures(store)}
        except StorageError as error:
            yield {"at": now, **_server_of(store), "error": str(error)}
        time.sleep(every)


def _screen(figures: dict[str, Any], first: dict[str, Any], every: float) -> Group:
    moment = str(figures["at"])[11:19]
    footer = Text(f"\n{moment}, every {every:g} s; Ctrl-C stops. In brackets: change since start.", style="dim")
    if "error" in figures:
        fault = wrapped(figures["error"], out())
        return Group(_place(figures), Text(f"\n{fault}", style="red"), footer)
    return Group(_table(figures, first), footer)


def _table(figures: dict[str, Any], first: dict[str, Any]) -> Group:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    for name, label in _LABELS.items():
        if name == "nodes" and figures[name] == 1:
            continue
        value = figures[name]
        table.add_row(label, "unknown" if value is None else str(value), _since(value, first.get(name)))
    return Group(_place(figures), table)


def _place(figures: dict[str, Any]) -> Text:
    place = Text(f"{figures['server']}, prefix {figures['prefix']}", no_wrap=True, overflow="ignore")
    if "socket" in figures:
        place.append(f"\nsocket {figures['socket']}\ndata in {figures['data_dir']}", style="dim")
    return place


def _since(value: Any, before: Any) -> str:
    if not (isinstance(value, int) and isinstance(before, int)) or value == before:
        return ""
    return f"({value - before:+d})"
