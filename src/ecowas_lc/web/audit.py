"""The audit log: one line for each change and decision, in an append-only stream."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from ecowas_lc.errors import CorruptDataError
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.left_out import warn_left_out
from ecowas_lc.storage.ops import Op, command

MOST_LINES = 1_000_000
"""Older lines are dropped, so that the stream can't fill the server."""
_AT_ONCE = 1000
_LAST_SECOND = 253_402_300_800  # the year 9999


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the audit log: the user, the action, the time and the object."""

    id: str
    at: float
    who: str
    how: str
    what: str
    session: str = ""
    draft: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the line's fields as the API and ``--json`` print them."""
        told = {"session": self.session, "draft": self.draft, "detail": self.detail}
        return {
            "id": self.id,
            "at": self.at,
            "who": self.who,
            "how": self.how,
            "what": self.what,
            **{key: value for key, value in told.items() if value},
        }


def note_op(
    keys: Keys, who: str, how: str, what: str, *, session: str = "", draft: str = "", detail: str = ""
) -> Op[None]:
    """Add a line to the audit log."""
    line = {"at": time.time(), "who": who, "how": how, "what": what}
    line |= {"session": session, "draft": draft, "detail": detail[:500]}
    text = json.dumps({key: value for key, value in line.items() if value})
    yield (command("XADD", keys.audit(), "MAXLEN", "~", MOST_LINES, "*", "l", text),)


def lines_op(keys: Keys, limit: int = 100, before: str | None = None) -> Op[list[AuditLine]]:
    """Return lines, newest first, or only those before a line's id. Unreadable lines are skipped."""
    found: list[AuditLine] = []
    end, wanted = "+" if before is None else f"({before}", limit
    while len(found) < limit:
        [entries] = yield (command("XREVRANGE", keys.audit(), end, "-", "COUNT", wanted),)
        for entry in entries:
            try:
                found.append(_line(entry))
            except CorruptDataError as error:
                warn_left_out(f"The line {entry[0].decode()}", error)
        if len(entries) < wanted:
            break
        end, wanted = f"({entries[-1][0].decode()}", _AT_ONCE  # read more, to replace the skipped lines
    return found[:limit]


def _line(entry: Any) -> AuditLine:
    try:
        entry_id, fields = entry
        stored = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        found = json.loads(stored[b"l"])
        if not 0 <= float(found["at"]) < _LAST_SECOND:  # false for NaN too
            raise ValueError("no time")
        return AuditLine(
            entry_id.decode(),
            float(found["at"]),
            str(found["who"]),
            str(found["how"]),
            str(found["what"]),
            str(found.get("session", "")),
            str(found.get("draft", "")),
            str(found.get("detail", "")),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CorruptDataError("A line of the audit can't be read.") from error
