"""Views of savers, threads, histories, memory services, stores, documents and records, and their overview."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from ecowas_lc.display.blocks import (
    Hues,
    ago,
    code,
    counted,
    cut,
    duration,
    fold,
    heading,
    in_a_row,
    label,
    labels,
    note,
    plain,
    spoken,
    table,
    talk,
    waiting_in,
)
from ecowas_lc.display.conversation_views import branch_of, conversation, request_box, turn_speech, turns_of
from ecowas_lc.display.html_elements import Node, element
from ecowas_lc.drawing.requests import failures_of, read_request, requests_of
from ecowas_lc.drawing.thread_layout import time_of
from ecowas_lc.memory.session_index import counting, entries, listing
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.left_out import readable_ids
from ecowas_lc.storage.ops import Op, command

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple

    from ecowas_lc.checkpoint import RedisSaver, ThreadDifference, ThreadRow
    from ecowas_lc.checkpoint.saved_thread import SavedThread
    from ecowas_lc.documents import Documents
    from ecowas_lc.history import RedisChatMessageHistory
    from ecowas_lc.memory.histories import SessionInfo
    from ecowas_lc.memory.service import MemoryServiceBase
    from ecowas_lc.memory.sessions import Sessions
    from ecowas_lc.store import RedisStore


MOST_THREADS, MOST_SESSIONS, MOST_NAMESPACES = 20, 25, 30
MOST_CHANNELS, MOST_CHANGES = 40, 20
_MOST_HISTORIES = 200
MOST_CHECKPOINTS, MOST_TURNS, MOST_MESSAGES = 120, 20, 30


def saver(shown: RedisSaver) -> list[Node]:
    """Return a saver's threads."""
    server = shown._server
    [count] = server.run(_count_op(shown._keys))
    reading = shown.viewing()
    rows = shown.threads(limit=MOST_THREADS)
    facts = [f"at {server.where}", f"prefix {shown._keys.prefix}", counted(int(count), "thread")]
    more = f"The {len(rows)} that were written to last; saver.thread(id) shows one." if count > len(rows) else ""
    columns = ("Thread", "First question", "Messages", "Active", "State", "Expires in")
    kinds = ("short", "wide", "number", "short", "short", "short")
    return [
        heading(type(shown).__name__, *facts),
        table(columns, [_thread_row(reading, row) for row in rows], kinds)
        if rows
        else note("There are no threads yet. A graph compiled with checkpointer=saver writes one."),
        note(more) if more else None,
    ]


def _count_op(keys: Keys) -> Op[list[Any]]:
    return (yield (command("ZCARD", keys.threads()),))


def _thread_row(reading: Any, row: ThreadRow) -> Sequence[Any]:
    return (
        code(row.id, 60),
        [element("small", f"can't be read: {cut(row.unreadable, 120)}")]
        if row.unreadable
        else cut(row.title or "", 110),
        "" if row.messages is None else f"{row.messages:,}",
        ago(row.last_activity),
        [_state(reading, row)] if not row.unreadable else "",
        "" if row.ttl is None else duration(max(row.ttl, 0)),
    )


def _state(reading: Any, row: ThreadRow) -> Element:
    if not row.waiting and not row.next:
        return label("done", "c1")
    latest = reading.get_tuple({"configurable": {"thread_id": row.id}})  # only the checkpoint names the step
    step = spoken(row.next[0]) if row.next else "a step"
    if row.waiting:
        asked = requests_of(latest, is_over=False)[0] if latest is not None else []
        return waiting_in(spoken(asked[0].node) if asked and asked[0].node else step)
    if latest is not None and (failed := failures_of(latest)):
        return label(f"{spoken(failed[0].node) or step} failed", "bad")
    return label(f"before {step}")


def threads_row(shown: ThreadRow) -> list[Node]:
    """Return a thread's entry in a list, and what it waits for."""
    hues = Hues()
    facts = [f"active {ago(shown.last_activity)}"]
    if shown.messages is not None:
        facts.append(counted(shown.messages, "message"))
    facts.append("never expires" if shown.ttl is None else f"expires in {duration(max(shown.ttl, 0))}")
    found: list[Node] = [heading(f"Thread {cut(shown.id, 80)}", *facts)]
    told = (shown.title, shown.excerpt, shown.unreadable)
    found += [element("p", cut(text, 400)) for text in told if text]
    node = shown.next[0] if len(shown.next) == 1 else ""
    for interrupt in shown.waiting:
        found += [request_box(one, hues) for one in read_request(interrupt.value, node, interrupt.id)]
    return found


def difference(shown: ThreadDifference) -> list[Node]:
    """Return what changed between two checkpoints, channel by channel."""
    found: list[Node] = [heading(f"What changed in {cut(shown.thread, 60)}")]
    found += [_end(which, item) for which, item in (("From", shown.before), ("To", shown.after))]
    changes = {name: one for name, one in shown.channels.items() if not name.startswith("branch:")}
    if "decision" in shown.after.checkpoint["channel_values"]:  # a thread of the supervisor
        changes.pop("synced", None)  # a digest of the messages in the histories, which says nothing to a reader
    if not changes:
        found.append(note("No value changed."))
    for name, change in list(changes.items())[:MOST_CHANNELS]:
        if change.removed is not None or change.added is not None:
            removed, added = list(change.removed or ()), list(change.added or ())
        else:
            removed = [] if change.change == "new" else [change.before]
            added = [] if change.change == "gone" else [change.after]
        found.append(element("p", element("strong", name), " ", label(change.change), classes="part"))
        found += [element("del", "− ", plain(one, 600)) for one in removed[:MOST_CHANGES]]
        found += [element("ins", "+ ", plain(one, 600)) for one in added[:MOST_CHANGES]]
        more = max(0, len(removed) - MOST_CHANGES) + max(0, len(added) - MOST_CHANGES)
        if more:
            found.append(note(f"{more:,} more items"))
    return found


def _end(which: str, item: CheckpointTuple) -> Element:
    """Return one end of a difference: ends on two branches may have the same step, so it names the checkpoint."""
    step = f"step {item.metadata.get('step')}, {ago(time_of(item))}"
    values = item.checkpoint["channel_values"].get("messages")
    last = f", after “{cut(plain(values[-1]), 60)}”" if isinstance(values, list) and values else ""
    return element("p", f"{which} ", code(item.checkpoint["id"]), " ", element("small", f"{step}{last}"))


def thread(shown: SavedThread) -> list[Node]:
    """Return a thread as a conversation."""
    from ecowas_lc.checkpoint.viewing import viewed

    reading = viewed(shown.saver)
    place: Any = {"configurable": {"thread_id": shown.id, "checkpoint_ns": ""}}
    newest_first = list(reading.list(place, limit=MOST_CHECKPOINTS))
    if not newest_first:
        return [
            heading(f"Thread {cut(shown.id, 80)}"),
            note("There is no such thread: it expired, or was never written."),
        ]
    branch = branch_of(newest_first)
    turns = turns_of(branch, shown.channel)
    left = reading.ttl(shown.id)
    latest = newest_first[0]
    every = latest.checkpoint["channel_values"].get(shown.channel)
    facts: list[str] = [f"active {ago(time_of(latest))}"]
    facts.append("never expires" if left is None else f"expires in {duration(max(left, 0))}")
    if isinstance(every, list):
        facts.insert(0, counted(len(every), "message"))
    elsewhere = len(newest_first) - len(branch)
    if elsewhere:
        facts.append(f"{counted(elsewhere, 'checkpoint')} on other branches")
    is_cut = branch[0].parent_config is not None
    if is_cut and len(turns) > 1:
        turns = turns[1:]  # the first turn's beginning was not read
    dropped = max(0, len(turns) - MOST_TURNS)
    hues = Hues()
    whole = talk()
    for turn in turns[dropped:]:
        for one in turn_speech(turn, hues):
            whole.append(one)
    told = is_cut or dropped
    earlier = note(
        f"The last {counted(min(len(turns), MOST_TURNS), 'turn')} of this thread. "
        "draw_thread(saver, id, limit=None) draws all."
    )
    return [heading(f"Thread {cut(shown.id, 80)}", *facts), earlier if told else None, whole]


def history(shown: RedisChatMessageHistory) -> list[Node]:
    """Return the end of a history."""
    info = shown.info()
    title = f"History of {cut(spoken(shown.agent_id), 60)}"
    session = f"session {cut(shown.session_id, 60)}"
    if info is None:
        return [heading(title, session), note("There are no messages yet.")]
    messages = shown.latest(MOST_MESSAGES)
    facts = [session, counted(info.messages, "message"), f"active {ago(info.last_activity)}"]
    facts.append("never expires" if info.ttl_seconds is None else f"expires in {duration(info.ttl_seconds)}")
    more = info.messages - len(messages)
    return [
        heading(title, *facts),
        note(f"The last {len(messages)}; {more:,} earlier ones are not shown.") if more > 0 else None,
        conversation(messages, Hues()),
    ]


def memory(shown: MemoryServiceBase) -> list[Node]:
    """Return a memory service's sessions."""
    server, programs = shown.server, shown._programs
    infos, sessions = server.run(_sessions_op(programs.sessions, MOST_SESSIONS))
    hues = Hues()
    by_session: dict[str, list[Any]] = {}
    for info in infos:
        by_session.setdefault(info.session_id, []).append(info)
    rows = []
    for session, ones in list(by_session.items())[:MOST_SESSIONS]:
        began = [one.first_activity for one in ones if one.first_activity]
        last = [one.last_activity for one in ones if one.last_activity]
        lives = [one.ttl_seconds for one in ones]
        ranked = sorted(ones, key=lambda one: -one.messages)
        counts = [label(f"{spoken(one.agent_id)} {one.messages:,}", hues(one.agent_id)) for one in ranked]
        rows.append(
            (
                code(session, 60),
                [in_a_row(*counts)],
                f"{sum(one.messages for one in ones):,}",
                ago(min(began)) if began else "",
                ago(max(last)) if last else "",
                "never" if None in lives else duration(max(one for one in lives if one is not None)),
            )
        )
    facts = [f"at {server.where}", f"prefix {shown.prefix}", counted(sessions, "session")]
    columns = ("Session", "Agents and their messages", "Messages", "Began", "Active", "Expires in")
    return [
        heading(type(shown).__name__, *facts),
        table(columns, rows, ("short", "wide", "number", "short", "short", "short"))
        if rows
        else note("There are no sessions yet."),
        note(f"{MOST_SESSIONS} of {sessions:,} sessions: those that expire last.")
        if sessions > MOST_SESSIONS
        else None,
    ]


def _sessions_op(sessions: Sessions, limit: int) -> Op[tuple[list[SessionInfo], int]]:
    """Return the infos of histories of the sessions with the longest time to live, and how many there are."""
    keys = sessions.keys
    members, count = yield (command("ZREVRANGE", keys.sessions(), 0, limit - 1), counting(keys.sessions()))
    ids = readable_ids(members, "sessions")
    agents = (yield tuple(listing(keys.agents_of_session(one)) for one in ids)) if ids else []
    pairs = [(agent, one) for one, reply in zip(ids, agents, strict=True) for agent in entries(reply)]
    found = (yield from sessions.conversations.describe_op(pairs[:_MOST_HISTORIES], each=True)) if pairs else []
    latest = sorted(found, key=lambda info: -info.last_activity.timestamp() if info.last_activity else 0.0)
    return latest, int(count)


def store(shown: RedisStore) -> list[Node]:
    """Return a store's namespaces, with one item of each."""
    namespaces = shown.list_namespaces(limit=MOST_NAMESPACES + 1)
    rows: list[Sequence[Any]] = []
    for namespace in namespaces[:MOST_NAMESPACES]:
        found = shown.search(namespace, limit=2)
        own = [item for item in found if tuple(item.namespace) == tuple(namespace)] or found
        newest = own[0] if own else None
        rows.append(
            (
                [code(" / ".join(map(str, namespace)), 90)],
                [code(newest.key, 60), " ", plain(newest.value, 160)] if newest is not None else "",
                ago(newest.updated_at) if newest is not None else "",
            )
        )
    return [
        heading(type(shown).__name__, cut(repr(shown), 160)),
        table(("Namespace", "One of its items", "Updated"), rows, ("", "wide", "short"))
        if rows
        else note("There are no items yet."),
        note(f"The first {MOST_NAMESPACES} namespaces.") if len(namespaces) > MOST_NAMESPACES else None,
    ]


def documents(shown: Documents) -> list[Node]:
    """Return the documents that answers are based on."""
    found = shown.all()
    hues = Hues()
    rows = []
    for one in found[:50]:
        groups = labels(one.groups, hues, "every group")
        rows.append(
            (
                code(one.id, 40),
                cut(one.title, 120),
                one.date.isoformat() if one.date else "",
                one.language,
                [groups],
            )
        )
    return [
        heading("Documents", counted(len(found), "document")),
        table(("Id", "Title", "Date", "Language", "Groups"), rows, ("short", "wide", "short", "short"))
        if rows
        else note("There are no documents yet. documents.add(path) adds some."),
        note(f"The first 50 of {len(found):,}.") if len(found) > 50 else None,
    ]


__all__ = ["difference", "documents", "history", "memory", "saver", "store", "thread", "threads_row"]


_MOST_RECORDS, _SHORT = 25, 22
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def explorer(shown: Any) -> list[Node]:
    """Return the threads and sessions of a server, and how to look at them more closely."""
    return [
        *saver(shown.saver),
        *memory(shown.memory),
        fold("Long-term memory", *store(shown.store)),
        fold("Documents", *documents(shown.documents)),
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
