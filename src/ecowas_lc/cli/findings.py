"""What doctor finds: one fact each, how bad it is, and the command that fixes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One fact. ``broken`` keeps the product from working; a ``warning`` will cost something one day."""

    area: str
    what: str
    state: State
    text: str
    mend: str = ""


def ok(area: str, what: str, text: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(area, what, "ok", text)


def note(area: str, what: str, text: str, mend: str = "") -> Finding:
    """Return something worth knowing."""
    return Finding(area, what, "note", text, mend)


def warning(area: str, what: str, text: str, mend: str = "") -> Finding:
    """Return something that will cost data or quality one day."""
    return Finding(area, what, "warning", text, mend)


def broken(area: str, what: str, text: str, mend: str = "") -> Finding:
    """Return something that does not work."""
    return Finding(area, what, "broken", text, mend)
