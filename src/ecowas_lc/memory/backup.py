"""Sessions, session data and agent states as JSON Lines, and back: programs for backup and restore.

The first line says the format and its version; each further one is a whole history, state or value with the
seconds that it had left. Times to live count from the restoring, so that an old backup is worth having.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ecowas_lc.errors import CorruptDataError, FormatVersionError
from ecowas_lc.memory.arguments import FOREVER, check_history
from ecowas_lc.memory.index import entries, listing
from ecowas_lc.memory.sessions import Sessions
from ecowas_lc.storage.ops import Op, command

FORMAT = "ecowas-lc"
VERSION = 1

_NAMES = {"history": ("agent", "session"), "state": ("agent",), "session-data": ("session", "key")}

Unit = tuple[str, ...]
UNITS_AT_ONCE = 16  # histories held in memory at a time


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did: what it wrote, what was there already, and what it left because it differs."""

    written: int = 0
    unchanged: int = 0
    kept: tuple[str, ...] = ()
    """What exists on the server with other contents and was left, as ``history agent/session`` and the like."""


def header() -> str:
    """The first line."""
    return _line({"format": FORMAT, "version": VERSION, "created": datetime.now(UTC).isoformat()})


def units_op(sessions: Sessions, agent_id: str | None = None, session_id: str | None = None) -> Op[list[Unit]]:
    """What there is to export, by name: all of it, or only an agent's or a session's."""
    keys = sessions.keys
    agents = (yield from sessions.agents_op()) if agent_id is None else [agent_id]
    units: list[Unit] = []
    for agent in agents:
        if session_id is None:
            units.append(("state", agent))
        names = yield from sessions.of_agent_op(agent)
        units += [("history", agent, name) for name in names if session_id in (None, name)]
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
    """The lines for these units; those that have gone meanwhile are left out."""
    lines = []
    for kind, *ids in units:
        record = (
            (yield from _history_op(sessions, *ids))
            if kind == "history"
            else (yield from _value_op(sessions, kind, ids))
        )
        if record is not None:
            lines.append(_line(record))
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
    """Reads lines one by one and gives the program that restores each."""

    def __init__(self, sessions: Sessions, *, overwrite: bool) -> None:
        self._sessions = sessions
        self._overwrite = overwrite
        self._number = 0
        self.report = ImportReport()

    def line_op(self, line: str) -> Op[None]:
        """Restore what one line holds."""
        self._number += 1
        record = self._record(line)
        if self._number == 1:
            self._check_header(record)
            return
        try:
            outcome = yield from self._restore_op(record)
        except (KeyError, TypeError, ValueError) as error:
            raise self._corrupt(f"{type(error).__name__}: {error}") from None
        name = " ".join((record["type"], "/".join(self._ids(record))))
        if outcome == "written":
            self.report = replace(self.report, written=self.report.written + 1)
        elif outcome == "unchanged":
            self.report = replace(self.report, unchanged=self.report.unchanged + 1)
        else:
            self.report = replace(self.report, kept=(*self.report.kept, name))

    def finish(self) -> ImportReport:
        """The report, once every line was read."""
        if self._number == 0:
            raise CorruptDataError("There is nothing to import: not even the first line, which names the format.")
        return self.report

    def _restore_op(self, record: dict[str, Any]) -> Op[str]:
        ttl = record["ttl_seconds"]
        lifetime = FOREVER if ttl is None else max(float(ttl), 0.001)
        if record["type"] == "history":
            return (yield from self._restore_history_op(record, lifetime))
        values, value, if_absent = self._sessions.values, record["value"], not self._overwrite
        if record["type"] == "state":
            (agent_id,) = self._ids(record)
            if (yield from values.state_op(agent_id)) == value is not None:
                return "unchanged"
            written = yield from values.put_state_op(agent_id, value, lifetime, only_if_absent=if_absent)
        else:
            session_id, name = self._ids(record)
            if (yield from values.data_op(session_id, name)) == value is not None:
                return "unchanged"
            written = yield from values.put_data_op(session_id, name, value, lifetime, only_if_absent=if_absent)
        return "written" if written else "kept"

    def _restore_history_op(self, record: dict[str, Any], lifetime: float) -> Op[str]:
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
            began=_time(record.get("first_activity")),
            used=_time(record.get("last_activity")),
        )
        return "written" if written else "kept"

    def _ids(self, record: dict[str, Any]) -> tuple[str, ...]:
        if record["type"] not in _NAMES:
            raise ValueError(f"nothing is known of the type {record['type']!r}")
        return tuple(record[name] for name in _NAMES[record["type"]])

    def _record(self, line: str) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            raise self._corrupt("it is not JSON") from None
        if not isinstance(record, dict):
            raise self._corrupt("it is not a JSON object")
        return record

    def _check_header(self, record: dict[str, Any]) -> None:
        version = record.get("version")
        if record.get("format") != FORMAT or not isinstance(version, int):
            raise self._corrupt('the first line must name the format: {"format": "ecowas-lc", "version": 1}')
        if version > VERSION:
            raise FormatVersionError(
                f"This export has version {version}; this package reads up to {VERSION}. Upgrade it: "
                "pip install -U ecowas-lc"
            )

    def _corrupt(self, reason: str) -> CorruptDataError:
        return CorruptDataError(
            f"Line {self._number} can't be imported: {reason}. What stands before it has been imported; mend the "
            "line and import again."
        )


def chunks(units: Sequence[Unit]) -> Iterator[Sequence[Unit]]:
    """The units, so many at a time as are held in memory."""
    return (units[first : first + UNITS_AT_ONCE] for first in range(0, len(units), UNITS_AT_ONCE))


def _line(record: dict[str, Any]) -> str:
    try:
        line = json.dumps(record, ensure_ascii=False)
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(record)
    return line


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
