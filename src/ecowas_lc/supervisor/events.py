"""What happens in a turn besides what is said, for listeners of ``stream_mode="custom"``.

Each event is a dict with a ``type``: ``tool_call`` and ``tool_result`` (``group``, ``id``, ``name``, and ``args``,
or ``text`` and ``status``), ``waiting`` (``group``, ``draft``: an answer waits for a reviewer), ``final``
(``message_id``, ``speaker``: which message is the turn's answer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.config import get_stream_writer

Tell = Callable[[dict[str, Any]], None]


def teller() -> Tell:
    """Return what tells this run's listeners of an event; outside of a run nobody listens."""
    try:
        return get_stream_writer()
    except RuntimeError:
        return to_nobody


def to_nobody(_: dict[str, Any]) -> None:
    """Tell nobody."""
