"""``ecowas-lc threads``: the checkpoints of each conversation."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.screen import clean, confirmed, out, remark, shortened, show_json
from ecowas_lc.cli.store import ago, duration, not_there, opened_store


def list_threads(limit: int, *, json: bool) -> None:
    """Show the threads that live, most recently written first."""
    from datetime import datetime

    rows: list[dict[str, Any]] = []
    with opened_store() as store:
        for thread_id in store.thread_ids(limit):
            latest = store.saver.get_tuple({"configurable": {"thread_id": thread_id}})
            if latest is None:
                continue
            values = latest.checkpoint["channel_values"]
            rows.append(
                {
                    "thread": thread_id,
                    "messages": len(values.get("messages", [])),
                    "step": latest.metadata.get("step"),
                    "last_activity": latest.checkpoint["ts"],
                    "ttl_seconds": store.saver.ttl(thread_id),
                }
            )
    if json:
        show_json(rows)
        return
    if not rows:
        remark('No thread lives. Begin one: ecowas-lc ask "…"')
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("thread", "messages", "step", "active", "lives for"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            clean(row["thread"]),
            str(row["messages"]),
            str(row["step"]),
            ago(datetime.fromisoformat(row["last_activity"])),
            duration(row["ttl_seconds"]),
        )
    out().print(table)


def show_history(thread: str, limit: int, *, json: bool) -> None:
    """Show a thread's checkpoints, newest first.

    Raises:
        EcowasError: there is no such thread.
    """
    thread = checked_session(thread)
    rows: list[dict[str, Any]] = []
    with opened_store() as store:
        for found in store.saver.list({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, limit=limit):
            messages = found.checkpoint["channel_values"].get("messages", [])
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
        head = f"{row['step']:>4}  {row['checkpoint']}  {row['source']:<6} {row['messages']:>3} messages"
        console.print(head, markup=False)
        if row["last"]:
            console.print(shortened(f"      {row['last']}", console), markup=False, style="dim")


def delete_thread(thread: str, *, yes: bool, json: bool) -> None:
    """Remove a thread; the groups' histories of that session stay.

    Raises:
        EcowasError: there is no such thread.
    """
    thread = checked_session(thread)
    with opened_store() as store:
        if store.thread_messages(thread) is None:
            raise not_there("thread", thread)
        if not confirmed(f"Remove thread {thread} and all its checkpoints?", yes=yes):
            return
        store.saver.delete_thread(thread)
    if json:
        show_json({"thread": thread, "deleted": True})
    else:
        out().print(f"Thread {thread} is gone.", markup=False)
