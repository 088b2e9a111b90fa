"""Events of a turn other than its messages, for listeners of ``stream_mode="custom"``.

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
    """Return the function that sends an event to this run's listeners; outside a run, it does nothing.

    Even when called in a graph nested in this one, the event belongs to the outer run.
    """
    try:
        write, here = get_stream_writer(), get_config()
    except RuntimeError:
        return to_nobody

    def tell(event: dict[str, Any]) -> None:
        token = var_child_runnable_config.set(here)  # langgraph reads from it which graph sent an event
        try:
            write(event)
        finally:
            var_child_runnable_config.reset(token)

    return tell


def to_nobody(_: dict[str, Any]) -> None:
    """Ignore the event."""
