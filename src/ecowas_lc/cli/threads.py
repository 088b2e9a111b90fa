"""``ecowas-lc threads``: the checkpoints of each conversation."""

from __future__ import annotations

from typing import Any

from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.listing import show_rows
from ecowas_lc.cli.screen import counted, out, remark, shortened, show_json, wrapped
from ecowas_lc.cli.store import Store, ago, duration, messages_in, not_there, opened_store
from ecowas_lc.errors import CorruptDataError, FormatVersionError


def list_threads(limit: int, *, json: bool) -> None:
    """Show the threads that live, most recently written first."""
    from datetime import datetime

    rows: list[dict[str, Any]] = []
    with opened_store() as store:
        for thread_id in store.thread_ids(limit):
            row = _summary(store, thread_id)
            if row is not None:
                rows.append(row)
    if json:
        show_json(rows)
        return
    if not rows:
        remark('No thread lives. Begin one: ecowas-lc ask "…"')
        return
    show_rows(
        ("thread", "messages", "step", "active", "lives for"),
        [
            (
                row["thread"],
                _shown(row["messages"]),
                _shown(row["step"]),
                ago(datetime.fromisoformat(row["last_activity"])) if row["last_activity"] else "?",
                duration(row["ttl_seconds"]),
            )
            for row in rows
        ],
    )
    if unreadable := next((row["unreadable"] for row in rows if "unreadable" in row), None):
        remark(f"? could not be read: {unreadable}")


def _summary(store: Store, thread_id: str) -> dict[str, Any] | None:
    try:
        latest = store.saver.get_tuple({"configurable": {"thread_id": thread_id}})
    except (CorruptDataError, FormatVersionError) as error:  # an encrypted one, for example: the others are shown
        found: dict[str, Any] = dict.fromkeys(("messages", "step", "last_activity"))
        found["unreadable"] = str(error)
    else:
        if latest is None:
            return None
        found = {
            "messages": len(messages_in(latest)),
            "step": latest.metadata.get("step"),
            "last_activity": latest.checkpoint["ts"],
        }
    return {"thread": thread_id, **found, "ttl_seconds": store.saver.ttl(thread_id)}


def _shown(value: object) -> str:
    return "?" if value is None else str(value)


def show_history(thread: str, limit: int, *, json: bool) -> None:
    """Show a thread's checkpoints, newest first.

    Raises:
        EcowasError: there is no such thread.
    """
    thread = checked_session(thread)
    rows: list[dict[str, Any]] = []
    with opened_store() as store:
        for found in store.saver.list({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, limit=limit):
            messages = messages_in(found)
            rows.append(
                {
                    "checkpoint": found.checkpoint["id"],
                    "at": found.checkpoint["ts"],
                    "step": found.metadata.get("step"),
                    "source": found.metadata.get("source"),
                    "messages": len(messages),
                    "last": messages[-1].text if messages else "",
                    "pending": sorted({channel for _, channel, _ in found.pending_writes or ()}),
                }
            )
    if not rows:
        raise not_there("thread", thread)
    if json:
        show_json(rows)
        return
    console = out()
    for row in rows:
        step, source = _shown(row["step"]), _shown(row["source"])
        about = f"{row['checkpoint']}  {source:<6} {counted(row['messages'], 'message')}"
        console.print(wrapped(about, console, " " * 6, f"{step:>4}  "), markup=False)
        if row["last"]:
            console.print(shortened(f"      {row['last']}", console), markup=False, style="dim")
