"""``ecowas-lc threads``: list, search, delete, copy, prune and migrate threads."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ecowas_lc.checkpoint.viewing import plain
from ecowas_lc.cli.conversation import checked_new_session, checked_session
from ecowas_lc.cli.screen import (
    MARGIN,
    confirmed,
    counted,
    program,
    remark,
    say,
    shortened,
    show_rows,
    shown_progress,
    wrapped,
)
from ecowas_lc.cli.store import ago, duration, messages_in, not_there, opened_store
from ecowas_lc.cli.terminal import err, one_line, out, show_json
from ecowas_lc.drawing.requests import Request, read_request
from ecowas_lc.errors import ConfigurationError, EcowasError, InvalidInputError, MissingExtraError
from ecowas_lc.settings import duration_seconds
from ecowas_lc.storage.left_out import UNREADABLE, warn_left_out

if TYPE_CHECKING:
    from ecowas_lc.checkpoint import ThreadRow

USER = "user_id"  # in a thread's metadata


def delete_thread(thread: str, *, yes: bool, json: bool) -> None:
    """Delete a thread; the groups' histories of that session are kept.

    Raises:
        EcowasError: There is no such thread.
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
    """Copy a thread with all its checkpoints.

    Raises:
        EcowasError: There is no such thread.
        InvalidInputError: A thread with the target id exists.
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
    """Delete all but the newest checkpoints of the given threads, or of every thread.

    Raises:
        EcowasError: There is no such thread; none was pruned.
        InvalidInputError: Neither threads nor ``every`` is given, or both.
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
    """Show the stored threads, most recently written first."""
    with opened_store() as store:
        rows = store.saver.threads(limit=limit)
    if json:
        show_json([_as_json(row) for row in rows])
        return
    if not rows:
        remark('There are no threads. Start one: ecowas-lc ask "…"')
        return
    show_rows(
        ("thread", "turns", "messages", "step", "active", "expires in"),
        [
            (
                row.id,
                _shown(row.turns),
                _shown(row.messages),
                _shown(row.steps),
                ago(row.last_activity),
                duration(row.ttl),
            )
            for row in rows
        ],
        ("about", [_about(row) for row in rows]),
    )


def list_waiting(limit: int, *, json: bool) -> None:
    """Show the threads that wait for a person's answer, with their requests."""
    with opened_store() as store:
        rows = store.saver.waiting(limit=limit)
    if json:
        show_json([_as_json(row) for row in rows])
        return
    if not rows:
        remark("No thread waits for an answer.")
        return
    for row in rows:
        out().print(Text(shortened(f"{one_line(row.id)}: {_about(row)}", out()), style="bold"))
        out().print(Text(shortened(f"{MARGIN}waiting since {ago(row.last_activity)}", out()), style="dim"))
        for asked in row.waiting:
            for request in read_request(plain(asked.value), "", asked.id):
                for line in _request_lines(request):
                    out().print(wrapped(line, out(), MARGIN * 2, MARGIN), markup=False)


def _request_lines(request: Request) -> Iterator[str]:
    """Yield what waits: the tool or group with its arguments, or the question; and the possible decisions."""
    yield request.tool or request.text
    for name, text in request.arguments:
        yield f"{name}: {' '.join(text.split())}" if name else text
    if request.choices:
        yield f"You can {', '.join(request.choices)}. Run: {program()} threads resume"


def search_threads(
    query: str, *, group: str | None, since: str | None, user: str | None, limit: int, json: bool
) -> None:
    """Show the threads that contain these words, best match first.

    Raises:
        InvalidInputError: ``since`` is not a time.
        MissingExtraError: The extra ``search`` is not installed.
    """
    where = {USER: user} if user else None
    with opened_store() as store:
        rows = store.saver.threads(
            limit=limit, query=query, speaker=group, where=where, since=_moment_of(since) if since else None
        )
    if json:
        show_json([_as_json(row) for row in rows])
        return
    if not rows:
        remark("No thread has these words.")
        return
    for row in rows:
        about = f"{one_line(row.id)}: {counted(row.messages or 0, 'message')}, {ago(row.last_activity)}"
        out().print(Text(shortened(about, out()), style="bold"))
        if row.title:
            out().print(Text(shortened(f"{MARGIN}{one_line(row.title)}", out())))
        if row.excerpt != row.title:
            out().print(wrapped(one_line(row.excerpt), out(), MARGIN * 2, MARGIN), style="dim")


def _about(row: ThreadRow) -> str:
    return "(encrypted)" if row.unreadable else one_line(row.title or "")


def _as_json(row: ThreadRow) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "thread": row.id,
        "title": row.title,
        "checkpoint": row.checkpoint or None,
        "turns": row.turns,
        "messages": row.messages,
        "step": row.steps,
        "last_activity": row.last_activity and row.last_activity.isoformat(),
        "ttl_seconds": row.ttl,
        "waiting": [{"id": asked.id, "value": plain(asked.value)} for asked in row.waiting],
        "next": list(row.next),
        "metadata": plain(dict(row.metadata)),
    }
    if row.excerpt:
        shown["excerpt"] = row.excerpt
    if row.unreadable:
        shown["unreadable"] = row.unreadable
    return shown


def _moment_of(text: str) -> datetime:
    """Return the time that ``--since`` names: a date, a date and time, or an age such as ``90m`` or ``7d``."""
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.now(UTC) - timedelta(seconds=duration_seconds(text))
    except (ConfigurationError, OverflowError):
        raise InvalidInputError(
            f"--since takes a date (2026-05-01), a time (2026-05-01T12:00) or how long ago (90m, 12h, 7d), "
            f"not {text!r}."
        ) from None


def reindex(*, json: bool) -> None:
    """Add threads that are missing from the index, by scanning the server once."""
    with opened_store() as store, err().status("Scanning the server …"):
        found = store.saver.reindex()
    if json:
        show_json({"found": found})
    else:
        say(
            f"Added {counted(found, 'thread')} to the index."
            if found
            else "Every thread was already in the index."
        )


def _shown(value: object) -> str:
    return "?" if value is None else str(value)


def show_history(thread: str, limit: int, *, json: bool) -> None:
    """Show a thread's checkpoints, newest first.

    Raises:
        EcowasError: There is no such thread.
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


_SQLITE = "sqlite:///"
_POSTGRES = ("postgres://", "postgresql://")
_REDIS = ("redis://", "rediss://")


def migrate(source: str, threads: Sequence[str], allow: Sequence[str], *, json: bool) -> None:
    """Copy threads from another checkpointer to the settings' server, and report how many checkpoints match.

    Raises:
        InvalidInputError: The source cannot be opened.
        MissingExtraError: The library that reads it is not installed.
        EcowasError: Some threads were not copied.
    """
    from ecowas_lc.checkpoint import RedisSaver, migrate_threads

    with opened_store() as store, _opened(source) as old:
        target = RedisSaver(
            server=store.server,
            prefix=store.settings.prefix,
            default_ttl=store.settings.redis_memory_ttl,
            allow=list(allow),
        )
        with shown_progress() as tell:
            report = migrate_threads(
                old, target, list(threads) or None, on_progress=lambda done, total: tell("checked", done, total)
            )
    if json:
        show_json(asdict(report))
    else:
        say(
            f"{counted(report.threads, 'thread')}: {report.matched} of {counted(report.checkpoints, 'checkpoint')}"
            f" {'matches' if report.matched == 1 else 'match'}, {report.written} of them written now."
        )
        for thread, why in report.failed.items():
            remark(f"{one_line(thread)}: {why}")
    if not report.is_complete:
        raise EcowasError(
            f"{counted(len(report.failed), 'thread')} could not be migrated. Fix the cause and repeat the "
            "command: it continues where it stopped."
        )


def _class(module: str, name: str, packages: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        raise _missing(packages) from None


@contextmanager
def _opened(source: str) -> Iterator[Any]:
    """Yield the checkpointer at an address: a SQLite file, PostgreSQL or langgraph-checkpoint-redis."""
    if source.startswith(_POSTGRES):
        saver = _class(
            "langgraph.checkpoint.postgres", "PostgresSaver", "langgraph-checkpoint-postgres psycopg[binary]"
        )
        address = source
    elif source.startswith(_REDIS):
        saver = _class("langgraph.checkpoint.redis", "RedisSaver", "langgraph-checkpoint-redis")
        address = source
    else:
        saver = _class("langgraph.checkpoint.sqlite", "SqliteSaver", "langgraph-checkpoint-sqlite")
        address = source.removeprefix(_SQLITE)
        if not Path(address).is_file():
            raise InvalidInputError(
                f"There is no file {address!r}. Name a SQLite file, postgresql://… or the redis://… of "
                "langgraph-checkpoint-redis."
            )
    try:
        with saver.from_conn_string(address) as opened:
            if source.startswith(_REDIS):
                opened.setup()
            yield opened
    except EcowasError:
        raise
    except Exception as error:  # each library has its own error classes
        raise InvalidInputError(
            f"The source can't be read ({type(error).__name__}): {_without_login(error, source)}"
        ) from None


def _without_login(error: Exception, source: str) -> str:
    """Return an error's message, without a login that it may repeat."""
    from ecowas_lc._secret import safe_url

    return " ".join(str(error).replace(source, safe_url(source)).split())[:300]


def _missing(packages: str) -> MissingExtraError:
    return MissingExtraError(f"Reading this source needs another library. Run: pip install {packages}")
