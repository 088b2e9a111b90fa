"""Findings of doctor: a fact, its severity, and the command that fixes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "note", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One fact. ``broken`` keeps the product from working; a ``warning`` may cause trouble later."""

    area: str
    what: str
    state: Severity
    text: str
    fix: str = ""


def ok(area: str, what: str, text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(area, what, "ok", text)


def note(area: str, what: str, text: str, fix: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(area, what, "note", text, fix)


def warning(area: str, what: str, text: str, fix: str = "") -> Finding:
    """Return a finding that will cost data or quality later."""
    return Finding(area, what, "warning", text, fix)


def broken(area: str, what: str, text: str, fix: str = "") -> Finding:
    """Return a finding about something that does not work."""
    return Finding(area, what, "broken", text, fix)
