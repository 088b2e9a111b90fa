"""``ecowas-lc sessions``: what is kept of each session, and for how long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ecowas_lc.cli.conversation import checked_session
from ecowas_lc.cli.live_answer import Prose
from ecowas_lc.cli.screen import MARGIN, confirmed, counted, labelled, remark, say, shortened, show_rows
from ecowas_lc.cli.store import Store, ago, as_json, duration, not_there, opened_store, speaker_of
from ecowas_lc.cli.terminal import err, one_line, out, show_json
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.left_out import UNREADABLE, warn_left_out

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ecowas_lc.memory import SessionInfo


def list_sessions(agent: str | None, limit: int, *, json: bool) -> None:
    """Show the sessions that live, most recently active first."""
    with opened_store() as store:
        infos = store.memory.get_session_infos(agent)
        warn = warn_of_evictions_op(Keys(store.settings.prefix), "The list may lack sessions", "sessions")
        store.server.run(warn)
    sessions: dict[str, list[SessionInfo]] = {}
    for info in infos:
        sessions.setdefault(info.session_id, []).append(info)
    shown = list(sessions.items())[:limit]
    if json:
        show_json([_session_as_json(session, found) for session, found in shown])
        return
    if not shown:
        if agent is None:
            remark('There are no sessions. Start one: ecowas-lc ask "…"')
        else:
            remark(f"Agent {one_line(agent)} has no sessions. `ecowas-lc sessions list` lists all.")
        return
    show_rows(
        ("session", "messages", "active", "lives for"),
        [
            (session, str(sum(info.messages for info in found)), ago(_latest(found)), duration(_soonest(found)))
            for session, found in shown
        ],
        ("agents", [", ".join(sorted(info.agent_id for info in found)) for _, found in shown]),
    )
    if len(sessions) > limit:
        remark(f"{len(sessions) - limit} more. Show them with --limit.")


def show_session(session: str, *, brief: bool, json: bool) -> None:
    """Show a session's conversation and each agent's history.

    Raises:
        EcowasError: there is no such session.
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
    """Let a session live longer: its histories, its data and its thread.

    Raises:
        EcowasError: there is no such session.
        InvalidInputError: the time is not a whole number from 1 on.
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
    """Remove a session: its histories, its data and its thread.

    Raises:
        EcowasError: there is no such session.
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


def reindex(*, json: bool) -> None:
    """Find histories that no index knows, by scanning the server once."""
    with opened_store() as store, err().status("Scanning the server …"):
        found = store.memory.reindex()
    if json:
        show_json({"found": found})
    else:
        histories = "1 history" if found == 1 else f"{found} histories"
        say(f"{histories} added to the indexes." if found else "Every history was indexed already.")


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
        "last_activity": latest.isoformat() if latest else None,
        "ttl_seconds": _soonest(infos),
    }


def _latest(infos: Iterable[SessionInfo]) -> datetime | None:
    return max((info.last_activity for info in infos if info.last_activity), default=None)


def _soonest(infos: Iterable[SessionInfo]) -> float | None:
    return min((info.ttl_seconds for info in infos if info.ttl_seconds is not None), default=None)
