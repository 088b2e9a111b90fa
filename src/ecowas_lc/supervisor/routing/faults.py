"""How a router words what went wrong in somebody else's code."""

from __future__ import annotations


def describe(error: BaseException) -> str:
    """Return an error's kind and the first line of its message, short enough for a reason."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
