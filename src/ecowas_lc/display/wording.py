"""Times, sizes and counts as readable text."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: float | None) -> str:
    """Return a duration in its largest unit; ``None`` means that it does not end."""
    if seconds is None:
        return "never expires"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= 10 or seconds == 0:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 0.95 else f"{seconds * 1000:.0f} ms"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was."""
    if moment is None:
        return "unknown"
    passed = ((now or datetime.now(UTC)) - moment).total_seconds()
    return "just now" if passed < 1 else f"{duration(passed)} ago"


def moment_of(text: object) -> datetime | None:
    """Return the timestamp of a checkpoint, or ``None`` if it is not valid."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(count: float) -> str:
    """Return a number of bytes in its unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def cut(text: object, most: int) -> str:
    """Return text cut to a length, with a mark if something was left out."""
    whole = str(text)
    return whole if len(whole) <= most else f"{whole[: most - 1].rstrip()}…"
