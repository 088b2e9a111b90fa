"""What happens in a turn besides what is said, for listeners of ``stream_mode="custom"``.

Each event is a dict with a ``type``: ``tool_call`` and ``tool_result`` (``group``, ``id``, ``name``, and ``args``,
or ``text`` and ``status``), ``waiting`` (``group``, ``draft``: an answer waits for a reviewer), ``final``
(``message_id``, ``speaker``: which message is the turn's answer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_config, get_stream_writer

Tell = Callable[[dict[str, Any]], None]


def teller() -> Tell:
    """Return what tells this run's listeners of an event; outside of a run nobody listens.

    Wherever it is called, also in a graph within this one, the event is one of the run's own.
    """
    try:
        write, here = get_stream_writer(), get_config()
    except RuntimeError:
        return to_nobody

    def tell(event: dict[str, Any]) -> None:
        token = var_child_runnable_config.set(here)  # langgraph tells by it from which graph an event is
        try:
            write(event)
        finally:
            var_child_runnable_config.reset(token)

    return tell


def to_nobody(_: dict[str, Any]) -> None:
    """Tell nobody."""
