"""Daily figures: the number of questions by group, language, outcome and duration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ecowas_lc.errors import CorruptDataError
from ecowas_lc.storage.keys import Keys, id_text
from ecowas_lc.storage.left_out import warn_left_out
from ecowas_lc.storage.ops import Op, command

KEPT_DAYS = 400
_TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300)
"""Upper bounds of the duration buckets, in seconds."""
_DURATIONS = frozenset({*map(str, _TIMES), "more"})
_PLAIN = ("sessions", "questions", "declined", "milliseconds")
_NESTED = {"group": "groups", "language": "languages", "ended": "ended", "time": "durations"}
_GREATEST = 2**63 - 1
_SPOILT = ("WRONGTYPE", "hash value is not an integer", "increment or decrement would overflow")


def today() -> str:
    """Return today's date in UTC."""
    return datetime.now(UTC).date().isoformat()


def count_op(keys: Keys, counted: dict[str, int]) -> Op[None]:
    """Add to today's figures. A field whose stored value is not a counter is skipped."""
    key = keys.analytics(today())
    calls = [command("HINCRBY", key, field, number, optional=True) for field, number in counted.items()]
    for reply in (yield (*calls, command("EXPIRE", key, KEPT_DAYS * 86400))):
        if isinstance(reply, Exception) and not str(reply).startswith(_SPOILT):
            raise reply


def bucket_of(seconds: float) -> str:
    """Return the field that counts a duration."""
    return next((f"time:{bound}" for bound in _TIMES if seconds <= bound), "time:more")


def figures_op(keys: Keys, days: int) -> Op[list[dict[str, Any]]]:
    """Return the figures of the last ``days`` days, oldest first; unreadable days are skipped with a warning."""
    now = datetime.now(UTC).date()
    names = [(now - timedelta(days=back)).isoformat() for back in range(days - 1, -1, -1)]
    replies = yield tuple(command("HGETALL", keys.analytics(name), optional=True) for name in names)
    found = []
    for name, reply in zip(names, replies, strict=True):
        try:
            found.append(_figures(name, reply))
        except CorruptDataError as error:
            warn_left_out(f"The figures of {name}", error)
    return found


def _figures(day: str, stored: Any) -> dict[str, Any]:
    """Return the figures of a day.

    Raises:
        CorruptDataError: The stored value does not hold figures.
    """
    if isinstance(stored, Exception):
        if not str(stored).startswith(_SPOILT):
            raise stored
        raise CorruptDataError("Another program's data stands where the figures of this day should.")
    pairs = stored if isinstance(stored, dict) else dict(zip(stored[::2], stored[1::2], strict=True))
    found: dict[str, Any] = {"day": day, **dict.fromkeys(_PLAIN, 0), **{plural: {} for plural in _NESTED.values()}}
    for raw, number in pairs.items():
        kind, _, name = id_text(raw).partition(":")
        if kind in _NESTED and name and (kind != "time" or name in _DURATIONS):
            found[_NESTED[kind]][name] = _count(number)
        elif kind in _PLAIN and not name:
            found[kind] = _count(number)
        else:
            raise CorruptDataError("Among the figures of this day is one that this version does not count.")
    return found


def _count(stored: bytes) -> int:
    if not stored.isdigit() or len(stored) > 19 or int(stored) > _GREATEST:
        raise CorruptDataError("One of the figures of this day is not a number.")
    return int(stored)
