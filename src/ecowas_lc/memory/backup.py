"""Programs that write histories, session data and agent states as lines of a backup, and restore them.

A line holds a whole history, state or value with its remaining seconds to live;
see :mod:`ecowas_lc.storage.backup_format`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ecowas_lc._connection_settings import LONGEST_TTL
from ecowas_lc.errors import EcowasError
from ecowas_lc.memory.json_values import FOREVER, check_history
from ecowas_lc.memory.session_index import entries, listing
from ecowas_lc.memory.sessions import Sessions
from ecowas_lc.storage.backup_format import (
    ImportReport,
    Lines,
    Outcome,
    Progress,
    line_of,
    owner_of,
    time_of,
)
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.left_out import attempted_op, warn_left_out
from ecowas_lc.storage.ops import Op, command

_NAMES = {"history": ("agent", "session"), "state": ("agent",), "session-data": ("session", "key")}

_CALLED = {"history": "history", "state": "state of the agent", "session-data": "value"}

Unit = tuple[str, ...]
UNITS_AT_ONCE = 16  # histories held in memory at a time


def units_op(sessions: Sessions, agent_id: str | None = None, session_id: str | None = None) -> Op[list[Unit]]:
    """Return the names of the data to export: all of it, or only an agent's or a session's."""
    keys = sessions.keys
    agents = (yield from sessions.agents_op()) if agent_id is None else [agent_id]
    units: list[Unit] = []
    for agent in agents:
        if session_id is None:
            units.append(("state", agent))
        names = yield from sessions.of_agent_op(agent)
        units += [("history", agent, name) for name in names if session_id in (None, name)]
    yield from warn_of_evictions_op(keys, "The export may lack histories and values", "sessions")
    if agent_id is not None:
        return units
    if session_id is None:
        [reply] = yield (listing(keys.sessions()),)
        with_data = sorted(entries(reply))
    else:
        with_data = [session_id]
    for session in with_data:
        [reply] = yield (listing(keys.data_of_session(session)),)
        units += [("session-data", session, name) for name in sorted(entries(reply))]
    return units


def lines_op(sessions: Sessions, units: Sequence[Unit]) -> Op[list[str]]:
    """Return the lines for these units; units that no longer exist, or can't be read, are left out."""
    lines = []
    for kind, *ids in units:
        record = yield from attempted_op(
            _history_op(sessions, *ids) if kind == "history" else _value_op(sessions, kind, ids)
        )
        if isinstance(record, EcowasError):
            warn_left_out(f"The {_CALLED[kind]} {'/'.join(ids)}", record)
        elif record is not None:
            lines.append(line_of(record))
    return lines


def _history_op(sessions: Sessions, agent_id: str, session_id: str) -> Op[dict[str, Any] | None]:
    messages = yield from sessions.conversations.read_op(agent_id, session_id)
    found = yield from sessions.conversations.describe_op([(agent_id, session_id)])
    if not messages or not found:
        return None
    [info] = found
    return {
        "type": "history",
        "agent": agent_id,
        "session": session_id,
        "ttl_seconds": info.ttl_seconds,
        "first_activity": info.first_activity.isoformat() if info.first_activity else None,
        "last_activity": info.last_activity.isoformat() if info.last_activity else None,
        "messages": messages,
    }


def _value_op(sessions: Sessions, kind: str, ids: list[str]) -> Op[dict[str, Any] | None]:
    if kind == "state":
        key, names = sessions.keys.state(*ids), {"agent": ids[0]}
        value = yield from sessions.values.state_op(*ids)
    else:
        key, names = sessions.keys.session_data(*ids), {"session": ids[0], "key": ids[1]}
        value = yield from sessions.values.data_op(*ids)
    [left] = yield (command("PTTL", key),)
    if left == -2:
        return None
    return {"type": kind, **names, "ttl_seconds": None if left == -1 else left / 1000, "value": value}


class Importer:
    """Makes the program that restores each record; skips threads, which a saver restores."""

    def __init__(self, sessions: Sessions, *, overwrite: bool) -> None:
        self._sessions = sessions
        self._overwrite = overwrite
        self._lines = Lines()
        self.report = ImportReport()

    def line_op(self, line: str) -> Op[None]:
        """Restore the contents of one line."""
        record = self._lines.record(line)
        if record is not None:
            yield from self.record_op(record, self._lines)

    def record_op(self, record: dict[str, Any], lines: Lines) -> Op[None]:
        """Restore a record that was read from ``lines``."""
        if owner_of(record) not in ("memory", None):
            self.report = self.report.without(record)
            return
        try:
            outcome = yield from self._restore_op(record)
        except (KeyError, TypeError, ValueError) as error:
            raise lines.corrupt(error) from None
        self.report = self.report.with_one(outcome, " ".join((record["type"], "/".join(self._ids(record)))))

    def finish(self) -> ImportReport:
        """Return the report, after all lines were read."""
        self._lines.check_end()
        return self.report

    def _restore_op(self, record: dict[str, Any]) -> Op[Outcome]:
        ids, lifetime = self._ids(record), _lifetime(record["ttl_seconds"])
        if record["type"] == "history":
            return (yield from self._restore_history_op(record, lifetime))
        values, value, if_absent = self._sessions.values, record["value"], not self._overwrite
        if record["type"] == "state":
            (agent_id,) = ids
            if (yield from values.state_op(agent_id)) == value is not None:
                return "unchanged"
            written = yield from values.put_state_op(agent_id, value, lifetime, only_if_absent=if_absent)
        else:
            session_id, name = ids
            if (yield from values.data_op(session_id, name)) == value is not None:
                return "unchanged"
            written = yield from values.put_data_op(session_id, name, value, lifetime, only_if_absent=if_absent)
        return "written" if written else "kept"

    def _restore_history_op(self, record: dict[str, Any], lifetime: float) -> Op[Outcome]:
        agent_id, session_id = self._ids(record)
        messages = check_history(record["messages"])
        if not messages:
            raise ValueError("the history is empty")
        conversations = self._sessions.conversations
        if (yield from conversations.read_op(agent_id, session_id)) == messages:
            return "unchanged"
        written = yield from conversations.replace_op(
            agent_id,
            session_id,
            messages,
            lifetime=lifetime,
            only_if_absent=not self._overwrite,
            began=time_of(record.get("first_activity")),
            used=time_of(record.get("last_activity")),
        )
        return "written" if written else "kept"

    def _ids(self, record: dict[str, Any]) -> tuple[str, ...]:
        if not isinstance(record["type"], str) or record["type"] not in _NAMES:
            raise ValueError(f"there is no record type {record['type']!r}")
        return tuple(record[name] for name in _NAMES[record["type"]])


def _lifetime(ttl: Any) -> float:
    if ttl is None:
        return FOREVER
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl <= LONGEST_TTL:
        raise ValueError(f"ttl_seconds is {ttl!r}, which is not a number from 0 to {LONGEST_TTL}")
    return max(ttl, 0.001)


def chunks(units: Sequence[Unit], on_progress: Progress | None) -> Iterator[Sequence[Unit]]:
    """Yield the units in groups that may be in memory at the same time."""
    for first in range(0, len(units), UNITS_AT_ONCE):
        yield units[first : first + UNITS_AT_ONCE]
        if on_progress is not None:
            on_progress(min(first + UNITS_AT_ONCE, len(units)), len(units))
