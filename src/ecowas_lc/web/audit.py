"""The audit: a line for each change and decision, in a stream that is only ever added to."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from ecowas_lc.errors import CorruptDataError
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Op, command

MOST_LINES = 1_000_000
"""Older lines leave the stream, so that it can't fill the server."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what, when, and on what."""

    id: str
    at: float
    who: str
    how: str
    what: str
    session: str = ""
    draft: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what the API and ``--json`` show."""
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
    """Add a line."""
    line = {"at": time.time(), "who": who, "how": how, "what": what}
    line |= {"session": session, "draft": draft, "detail": detail[:500]}
    text = json.dumps({key: value for key, value in line.items() if value})
    yield (command("XADD", keys.audit(), "MAXLEN", "~", MOST_LINES, "*", "l", text),)


def lines_op(keys: Keys, limit: int = 100, before: str | None = None) -> Op[list[AuditLine]]:
    """The lines, newest first, from before the line with an id on."""
    end = "+" if before is None else f"({before}"
    [entries] = yield (command("XREVRANGE", keys.audit(), end, "-", "COUNT", limit),)
    return [_line(entry) for entry in entries]


def _line(entry: Any) -> AuditLine:
    try:
        entry_id, fields = entry
        stored = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        found = json.loads(stored[b"l"])
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
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptDataError("A line of the audit can't be read.") from error
