"""``ecowas-lc threads``: list, delete, copy and prune threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ecowas_lc.cli.conversation import checked_new_session, checked_session
from ecowas_lc.cli.screen import confirmed, counted, remark, say, shortened, show_rows, shown_progress, wrapped
from ecowas_lc.cli.store import Store, ago, duration, messages_in, not_there, opened_store
from ecowas_lc.cli.terminal import err, one_line, out, show_json
from ecowas_lc.errors import DecryptionError, InvalidInputError
from ecowas_lc.storage.left_out import UNREADABLE, warn_left_out


def delete_thread(thread: str, *, yes: bool, json: bool) -> None:
    """Remove a thread; the groups' histories of that session stay.

    Raises:
        EcowasError: there is no such thread.
    """
    thread = checked_session(thread)
    with opened_store() as store:
        store.check_thread(thread)
        if not confirmed(f"Delete thread {one_line(thread)} and all its checkpoints?", yes=yes):
            return
        store.saver.delete_thread(thread)
    if json:
        show_json({"thread": thread, "deleted": True})
    else:
        say(f"Thread {one_line(thread)} deleted.")


def copy_thread(thread: str, target: str, *, json: bool) -> None:
    """Copy a thread whole.

    Raises:
        EcowasError: there is no such thread.
        InvalidInputError: the target's id is taken.
    """
    thread, target = checked_session(thread), checked_new_session(target)
    with opened_store() as store:
        store.check_thread(thread)
        store.saver.copy_thread(thread, target)
    if json:
        show_json({"thread": thread, "copy": target})
    else:
        say(f"Thread {one_line(target)} is a copy of {one_line(thread)}.")


def prune_threads(threads: Sequence[str], *, every: bool, keep: int, yes: bool, json: bool) -> None:
    """Remove all but the newest checkpoints of threads, or of every one.

    Raises:
        EcowasError: there is no such thread; none was pruned.
        InvalidInputError: neither threads nor ``every``, or both.
    """
    names = [checked_session(thread) for thread in dict.fromkeys(threads)]
    if bool(names) == every:
        raise InvalidInputError("Name the threads to prune, or pass --all, but not both.")
    with opened_store() as store:
        for thread in names:
            store.check_thread(thread)
        names = names or store.thread_ids()
        of = "each thread" if every else ", ".join(map(one_line, names))
        if names and not confirmed(
            f"Delete all checkpoints of {of} except the newest{'' if keep == 1 else f' {keep}'}?", yes=yes
        ):
            return
        pruned = list(names)
        with shown_progress() as tell:
            for number, thread in enumerate(names, start=1):
                try:
                    store.saver.prune([thread], keep_last=keep)
                except UNREADABLE as error:
                    warn_left_out(f"The thread {thread!r}", error)
                    pruned.remove(thread)
                tell("pruned", number, len(names))
    if json:
        show_json({"threads": pruned, "kept": keep})
    else:
        stays = "newest checkpoint is kept" if keep == 1 else f"newest {keep} checkpoints are kept"
        say(f"{counted(len(pruned), 'thread')} pruned. In each namespace, the {stays}.")


def list_threads(limit: int, *, json: bool) -> None:
    """Show the threads that live, most recently written first."""
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
        remark('There are no threads. Start one: ecowas-lc ask "…"')
        return
    show_rows(
        ("thread", "turns", "messages", "step", "active", "lives for"),
        [
            (
                row["thread"],
                _shown(row["turns"]),
                _shown(row["messages"]),
                _shown(row["step"]),
                _active(row["last_activity"]),
                duration(row["ttl_seconds"]),
            )
            for row in rows
        ],
    )
    if unreadable := next((row["unreadable"] for row in rows if "unreadable" in row), None):
        remark(f"? could not be read: {unreadable}")


def _summary(store: Store, thread_id: str) -> dict[str, Any] | None:
    ttl_seconds: float | None = None
    try:
        latest = store.saver.get_tuple({"configurable": {"thread_id": thread_id}})
        ttl_seconds = store.saver.ttl(thread_id)
    except DecryptionError as error:  # an encrypted one can't be read here, and nothing is wrong with it
        found: dict[str, Any] = dict.fromkeys(("turns", "messages", "step", "last_activity"))
        found["unreadable"] = str(error)
        ttl_seconds = store.saver.ttl(thread_id)
    except UNREADABLE as error:
        warn_left_out(f"The thread {thread_id!r}", error)
        return None
    else:
        if latest is None:
            return None
        messages = messages_in(latest)
        found = {
            "turns": sum(message.type == "human" for message in messages),
            "messages": len(messages),
            "step": latest.metadata.get("step"),
            "last_activity": latest.checkpoint["ts"],
        }
    return {"thread": thread_id, **found, "ttl_seconds": ttl_seconds}


def _active(moment: object) -> str:
    """Return how long ago a time of a checkpoint was; other programs may have stored something else there."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(str(moment))
    except ValueError:
        return "?"
    return ago(found if found.tzinfo else found.replace(tzinfo=UTC))


def reindex(*, json: bool) -> None:
    """Find threads that the index lacks, by scanning the server once."""
    with opened_store() as store, err().status("Scanning the server …"):
        found = store.saver.reindex()
    if json:
        show_json({"found": found})
    else:
        say(f"{counted(found, 'thread')} found that no list knew." if found else "Every thread was known already.")


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
        console.print(wrapped(about, console, " " * 6, f"{step:>4}  "))
        if row["last"]:
            console.print(shortened(f"      {row['last']}", console), style="dim")
