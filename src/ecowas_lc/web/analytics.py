"""What was asked, counted by day: questions, groups, languages, how they ended, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from ecowas_lc.storage.keys import Keys, id_text
from ecowas_lc.storage.ops import Op, command

KEPT_DAYS = 400
_TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300)
"""Upper bounds of the durations that are told apart, in seconds."""


def today() -> str:
    """Return today's date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def count_op(keys: Keys, counted: dict[str, int]) -> Op[None]:
    """Add to today's figures."""
    key = keys.analytics(today())
    calls = [command("HINCRBY", key, field, number) for field, number in counted.items()]
    yield (*calls, command("EXPIRE", key, KEPT_DAYS * 86400))


def bucket_of(seconds: float) -> str:
    """Return the field in which a duration is counted."""
    return next((f"time:{bound}" for bound in _TIMES if seconds <= bound), "time:more")


def figures_op(keys: Keys, days: int) -> Op[list[dict[str, Any]]]:
    """The figures of the last days, the oldest first."""
    now = datetime.now(UTC).date()
    names = [(now - timedelta(days=back)).isoformat() for back in range(days - 1, -1, -1)]
    replies = yield tuple(command("HGETALL", keys.analytics(name)) for name in names)
    return [_figures(name, reply) for name, reply in zip(names, replies, strict=True)]


def _figures(day: str, stored: Any) -> dict[str, Any]:
    pairs = stored if isinstance(stored, dict) else dict(zip(stored[::2], stored[1::2], strict=True))
    found: dict[str, Any] = {"day": day, "sessions": 0, "questions": 0, "declined": 0, "milliseconds": 0}
    nested: dict[str, dict[str, int]] = defaultdict(dict)
    for raw, number in pairs.items():
        kind, _, name = id_text(raw).partition(":")
        if name:
            nested[kind][name] = int(number)
        else:
            found[kind] = int(number)
    names = {"group": "groups", "language": "languages", "ended": "ended", "time": "durations"}
    return {**found, **{plural: nested.get(kind, {}) for kind, plural in names.items()}}
