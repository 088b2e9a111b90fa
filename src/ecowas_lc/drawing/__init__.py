"""Pictures of graphs, made here and shown here: nothing is sent anywhere.

Mermaid and plain text need nothing; SVG and PNG need the extra ``draw`` (Graphviz in pygraphviz's wheels, and a
font).
"""

from __future__ import annotations

from ecowas_lc.drawing.picture import GraphPicture, draw_graph

__all__ = ["GraphPicture", "draw_graph"]
