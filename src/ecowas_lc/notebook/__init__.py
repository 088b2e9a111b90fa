"""One import for notebooks: explore a server, watch runs, draw, and make tables.

    from ecowas_lc.notebook import explore, watch

    here = explore()                      # the settings' server: its threads and sessions
    here.threads["summit"]                # a conversation; Tab completes the id
    watch(graph, "Who pays for the grid?")

Objects display themselves if they are the last line of a cell.
"""

from __future__ import annotations

from ecowas_lc.display.live import LiveRun, awatch, watch
from ecowas_lc.drawing import draw_activity, draw_graph, draw_route, draw_state, draw_thread
from ecowas_lc.notebook.available_model import chat_model
from ecowas_lc.notebook.explorer import Explorer, explore
from ecowas_lc.notebook.records import (
    Records,
    checkpoints,
    confusion,
    messages,
    scores,
    sessions,
    steps,
    threads,
)

__all__ = [
    "Explorer",
    "LiveRun",
    "Records",
    "awatch",
    "chat_model",
    "checkpoints",
    "confusion",
    "draw_activity",
    "draw_graph",
    "draw_route",
    "draw_state",
    "draw_thread",
    "explore",
    "messages",
    "scores",
    "sessions",
    "steps",
    "threads",
    "watch",
]
