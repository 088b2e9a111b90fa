"""``ecowas-lc sessions``: shows, extends and deletes what is stored of each session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ecowas_lc.checkpoint.listing import waiting_in
from ecowas_lc.cli.conversation import SUPERVISOR, checked_session
from ecowas_lc.cli.live_answer import Prose
from ecowas_lc.cli.screen import (
    MARGIN,
    confirmed,
    counted,
    labelled,
    remark,
    say,
    shortened,
    show_rows,
    shown_progress,
)
from ecowas_lc.cli.store import Store, ago, as_json, duration, not_there, opened_store, speaker_of
from ecowas_lc.cli.terminal import err, one_line, out, show_json
from ecowas_lc.errors import DecryptionError, InvalidInputError
from ecowas_lc.settings import duration_seconds
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.left_out import UNREADABLE, warn_left_out
from ecowas_lc.storage.ops import Op, command

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ecowas_lc.memory import SessionInfo

_MOST_NAMED = 5


def list_sessions(
    agent: str | None, limit: int, *, active: str | None = None, search: str | None = None, json: bool
) -> None:
    """Show the stored sessions, most recently active first.

    Raises:
        ConfigurationError: ``active`` is not a duration.
        InvalidInputError: The text to search for is empty.
    """
    within = duration_seconds(active) if active is not None else None
    if search is not None and not search.strip():
        raise InvalidInputError("--search has no text. Pass a word that the session's id or messages contain.")
    with opened_store() as store:
        sessions = _by_session(store.memory.get_session_infos(agent))
        if within is not None:
            since = datetime.now(UTC) - timedelta(seconds=within)
            sessions = {name: found for name, found in sessions.items() if _is_since(_latest(found), since)}
        if search is not None:
            sessions = _containing(store, sessions, search.strip())
        warn = warn_of_evictions_op(Keys(store.settings.prefix), "The list may lack sessions", "sessions")
        store.server.run(warn)
    is_filtered = within is not None or search is not None
    shown = list(sessions.items())[:limit]
    if json:
        show_json([_session_as_json(session, found) for session, found in shown])
        return
    if not shown:
        if is_filtered:
            remark("No session matches. `ecowas-lc sessions list` lists all.")
        elif agent is None:
            remark('There are no sessions. Start one: ecowas-lc ask "…"')
        else:
            remark(f"Agent {one_line(agent)} has no sessions. `ecowas-lc sessions list` lists all.")
        return
    show_rows(
        ("session", "turns", "lasted", "active", "expires in"),
        [
            (
                session,
                str(_turns(found)),
                _lasted(found),
                ago(_latest(found)),
                duration(_soonest(found)),
            )
            for session, found in shown
        ],
        ("agents", [", ".join(sorted(info.agent_id for info in found)) for _, found in shown]),
    )
    if len(sessions) > limit:
        remark(f"{len(sessions) - limit} more. Show them with --limit.")


def show_session(session: str, *, brief: bool, json: bool) -> None:
    """Show a session's conversation and each agent's history.

    Raises:
        EcowasError: There is no such session.
    """
    session = checked_session(session)
    with opened_store() as store:
        unreadable: list[str] = []

        def read(what: str, reading: Callable[[], Any]) -> Any:
            try:
                return reading()
            except UNREADABLE as error:
                unreadable.append(what)
                warn_left_out(what, error)
                return None

        thread = read(f"The thread {session!r}", lambda: store.thread_messages(session))
        histories = {}
        for agent in sorted(store.memory.get_all_agents_for_session(session)):
            messages = read(f"The history of {agent!r}", partial(store.history, agent, session))
            if messages is not None:
                histories[agent] = messages
        data = read("The session's data", lambda: store.memory.get_all_session_data(session)) or {}
    if thread is None and not histories and not data and not unreadable:
        raise not_there("session", session)
    if json:
        show_json(
            {
                "session": session,
                "process": os.getpid(),
                "messages": [as_json(message) for message in thread or []],
                "histories": {agent: [as_json(m) for m in messages] for agent, messages in histories.items()},
                "data": data,
            }
        )
        return
    labelled("Read by", f"process {os.getpid()}", 9)
    _messages(f"Conversation: {counted(len(thread or []), 'message')}", thread or [], brief=brief)
    for agent, messages in histories.items():
        _messages(f"History of {one_line(agent)}: {counted(len(messages), 'message')}", messages, brief=brief)
    if data:
        labelled("Data", ", ".join(map(one_line, sorted(data))), 9)


def extend_session(session: str, ttl: int | None, *, json: bool) -> None:
    """Extend the time to live of a session's histories, data and thread.

    Raises:
        EcowasError: There is no such session.
        InvalidInputError: The time is not a positive whole number of seconds.
    """
    session = checked_session(session)
    if ttl is not None and ttl < 1:
        raise InvalidInputError(f"--ttl {ttl} can't be used. Pass whole seconds, 1 or more.")
    with opened_store() as store:
        agents = store.memory.get_all_agents_for_session(session)
        renewed = [store.memory.extend_ttl(agent, session, ttl) for agent in agents]
        found = _touch(store, session, ttl) or any(renewed)
    if not found:
        raise not_there("session", session)
    seconds = ttl or store.settings.redis_memory_ttl
    if json:
        show_json({"session": session, "ttl_seconds": seconds})
    else:
        say(f"Session {one_line(session)} expires in {duration(seconds)}.")


def clear_session(session: str, *, yes: bool, json: bool) -> None:
    """Delete a session: its histories, its data and its thread.

    Raises:
        EcowasError: There is no such session.
    """
    session = checked_session(session)
    with opened_store() as store:
        store.check_session(session)
        if not confirmed(f"Delete everything in session {one_line(session)}?", yes=yes):
            return
        gone = store.memory.clear_session(session)
        store.saver.delete_thread(session)
    if json:
        show_json({"session": session, "removed": gone})
    else:
        say(f"Session {one_line(session)} deleted.")


def one_way_to_clear(session: str | None, idle: str | None) -> bool:
    """Return whether to clear idle sessions, rather than the named one.

    Raises:
        InvalidInputError: Neither or both are requested.
    """
    if (session is None) == (idle is None):
        raise InvalidInputError("Name the session to clear, or pass --idle with a duration (30d), but not both.")
    return idle is not None


def clear_idle_sessions(idle: str, *, yes: bool, json: bool) -> None:
    """Delete every session that has been idle for a time.

    A session is kept if its thread waits for a decision or cannot be read, if its last activity is unknown, or if
    it becomes active before it is deleted.

    Raises:
        ConfigurationError: ``idle`` is not a duration.
        InvalidInputError: ``idle`` is zero, which would delete every session.
    """
    seconds = duration_seconds(idle)
    if seconds < 1:
        raise InvalidInputError(f"--idle {idle} would clear every session. Pass a second or more, such as 30d.")
    before = datetime.now(UTC) - timedelta(seconds=seconds)
    kept: dict[str, str] = {}
    with opened_store() as store:
        names: list[str] = []
        for session, found in _by_session(store.memory.get_session_infos()).items():
            if any(info.last_activity is None or info.last_activity > before for info in found):
                continue
            if why := _why_kept(store, session, before):
                kept[session] = why
            else:
                names.append(session)
        for session, why in kept.items():
            remark(f"Session {one_line(session)} is kept: {why}.")
        if names and not confirmed(
            f"Delete everything in {counted(len(names), 'session')} idle for {duration(seconds)} or more "
            f"({_some(names)})?",
            yes=yes,
        ):
            return
        cleared: list[str] = []
        with shown_progress() as tell:
            for number, session in enumerate(names, start=1):
                if why := _why_kept(store, session, before):
                    kept[session] = why
                    remark(f"Session {one_line(session)} is kept: {why}.")
                else:
                    store.memory.clear_session(session)
                    store.saver.delete_thread(session)
                    cleared.append(session)
                tell("cleared", number, len(names))
    if json:
        show_json({"cleared": cleared, "kept": kept})
    elif cleared:
        say(f"{counted(len(cleared), 'session')} deleted.")
    else:
        say(
            f"No session has been idle for {duration(seconds)} or more." if not kept else "No session was deleted."
        )


def _why_kept(store: Store, session: str, before: datetime) -> str:
    """Return why an idle session must be kept, or ``""`` if it can be deleted."""
    keys = Keys(store.settings.prefix)
    agents = store.memory.get_all_agents_for_session(session)

    def times_op() -> Op[list[float]]:
        used = [
            command("ZSCORE", keys.companion(keys.history(agent, session)), "used", optional=True)
            for agent in agents
        ]
        *last, written = yield (*used, command("ZSCORE", keys.threads(), id_bytes(session)))
        times = [float(each) / 1000 for each in last if each is not None and not isinstance(each, Exception)]
        return [*times, float(written)] if written is not None else times

    if any(time > before.timestamp() for time in store.server.run(times_op())):
        return "something has happened in it"
    try:
        latest = store.saver.get_tuple({"configurable": {"thread_id": session}})
    except (*UNREADABLE, DecryptionError):
        return "its thread can't be read here, so it may wait for a decision"
    if latest is not None and waiting_in(latest.pending_writes or ()):
        return "its thread waits for a decision"
    return ""


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(map(one_line, names[:_MOST_NAMED]))
    return f"{listed} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else listed


def _by_session(infos: Iterable[SessionInfo]) -> dict[str, list[SessionInfo]]:
    sessions: dict[str, list[SessionInfo]] = {}
    for info in infos:
        sessions.setdefault(info.session_id, []).append(info)
    return sessions


def _containing(store: Store, sessions: dict[str, list[SessionInfo]], text: str) -> dict[str, list[SessionInfo]]:
    """Return the sessions whose id or messages contain a text, ignoring case."""
    by_name = {name for name in sessions if text.casefold() in name.casefold()}
    pairs = [(info.agent_id, name) for name, found in sessions.items() if name not in by_name for info in found]
    said = {session for _, session in store.memory.get_histories_containing(pairs, text)}
    return {name: found for name, found in sessions.items() if name in by_name or name in said}


def _is_since(moment: datetime | None, since: datetime) -> bool:
    return moment is not None and moment >= since


def _turns(infos: Sequence[SessionInfo]) -> int:
    """Return the number of questions: the supervisor's history has all of them; else use the longest history."""
    messages = [info.messages for info in infos if info.agent_id == SUPERVISOR] or [
        info.messages for info in infos
    ]
    return (max(messages) + 1) // 2


def _seconds(infos: Sequence[SessionInfo]) -> float | None:
    """Return the seconds from a session's first message to its last, or ``None`` if unknown."""
    first = min((info.first_activity for info in infos if info.first_activity), default=None)
    latest = _latest(infos)
    return (latest - first).total_seconds() if first is not None and latest is not None else None


def _lasted(infos: Sequence[SessionInfo]) -> str:
    seconds = _seconds(infos)
    return "?" if seconds is None else duration(seconds)


def reindex(*, json: bool) -> None:
    """Add histories and store items that are missing from the indexes, by scanning the server."""
    from ecowas_lc.store.reindex import reindex_op

    with opened_store() as store, err().status("Scanning the server …"):
        found = store.memory.reindex()
        items = store.server.run(reindex_op(Keys(store.settings.prefix)))
    if json:
        show_json({"found": found, "items": items})
    else:
        histories = "1 history" if found == 1 else f"{found} histories"
        say(f"{histories} added to the indexes." if found else "Every history was indexed already.")
        if items:
            say(f"{counted(items, 'item')} of stores added to the indexes.")


def _touch(store: Store, session: str, ttl: int | None) -> bool:
    from ecowas_lc.checkpoint import RedisSaver

    saver = RedisSaver(
        server=store.server,
        prefix=store.settings.prefix,
        ttl=ttl,
        default_ttl=store.settings.redis_memory_ttl,
    )
    return saver.touch(session)


def _messages(title: str, messages: Sequence[BaseMessage], *, brief: bool) -> None:
    console = out()
    console.print(Text(f"\n{title}", style="bold"))
    for message in messages:
        speaker = one_line(speaker_of(message))
        if brief:
            text = shortened(f"{MARGIN}{speaker}: {message.text}", console)
            console.print(Text.assemble((text[: len(speaker) + 3], "dim"), text[len(speaker) + 3 :]))
        else:
            console.print(Text(f"{MARGIN}{speaker}:", style="dim"))
            prose = Prose(console)
            prose.write(message.text)
            prose.end()


def _session_as_json(session: str, infos: Sequence[SessionInfo]) -> dict[str, Any]:
    latest = _latest(infos)
    return {
        "session": session,
        "agents": {info.agent_id: info.messages for info in infos},
        "turns": _turns(infos),
        "duration_seconds": _seconds(infos),
        "last_activity": latest.isoformat() if latest else None,
        "ttl_seconds": _soonest(infos),
    }


def _latest(infos: Iterable[SessionInfo]) -> datetime | None:
    return max((info.last_activity for info in infos if info.last_activity), default=None)


def _soonest(infos: Iterable[SessionInfo]) -> float | None:
    return min((info.ttl_seconds for info in infos if info.ttl_seconds is not None), default=None)
