"""Pictures of graphs and threads, created and displayed locally: nothing is sent over the network.

Mermaid and plain text require nothing; SVG and PNG require the extra ``draw`` (Graphviz from pygraphviz's wheels,
and a font).
"""

from __future__ import annotations

from ecowas_lc.drawing.activity_picture import ActivityPicture, draw_activity
from ecowas_lc.drawing.graph_picture import GraphPicture, draw_graph
from ecowas_lc.drawing.requests import Failure, Request
from ecowas_lc.drawing.route_picture import RoutePicture, draw_route
from ecowas_lc.drawing.state_picture import StatePicture, draw_state
from ecowas_lc.drawing.thread_layout import Moment
from ecowas_lc.drawing.thread_picture import ThreadPicture, adraw_thread, draw_thread

__all__ = [
    "ActivityPicture",
    "Failure",
    "GraphPicture",
    "Moment",
    "Request",
    "RoutePicture",
    "StatePicture",
    "ThreadPicture",
    "adraw_thread",
    "draw_activity",
    "draw_graph",
    "draw_route",
    "draw_state",
    "draw_thread",
]
