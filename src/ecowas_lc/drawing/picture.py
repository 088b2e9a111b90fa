"""A picture of a graph, in several formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ecowas_lc.drawing.base import Picture
from ecowas_lc.drawing.graph_formats import Plan, ascii_text, drawn, mermaid, plan_of
from ecowas_lc.drawing.theme import shown


def draw_graph(
    graph: Any, route: Any = None, *, labels: Mapping[str, str] | None = None, subgraphs: bool = False
) -> GraphPicture:
    """Return a picture of a compiled graph, which notebooks display; no network is used.

    A node's docstring becomes its tooltip.

    Args:
        graph: A compiled LangGraph graph.
        route: The route of a run to highlight: the run's result (with ``decision`` and ``reports``), a decision,
            or the names of nodes step by step, where a step may hold several.
        labels: Labels of nodes. By default, groups show their names, and other nodes the ``title`` in their
            metadata, if any.
        subgraphs: Whether to draw graphs that are nodes of this one, each in a frame.

    Returns:
        The picture.

    Raises:
        InvalidInputError: ``graph`` is not a graph, ``route`` is not a route, or it names nodes that the graph
            does not have.
    """
    return GraphPicture(plan_of(graph, labels or {}, route, subgraphs=subgraphs))


@dataclass(frozen=True)
class GraphPicture(Picture):
    """A picture of a graph: ``mermaid`` and ``ascii`` always work, ``svg`` and ``png`` require the extra ``draw``.

    Without the extra, ``svg`` and ``png`` raise :class:`MissingExtraError`.
    """

    plan: Plan

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return shown(drawn(self.plan, "svg").decode())

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG."""
        return drawn(self.plan, "png")

    @cached_property
    def mermaid(self) -> str:
        """The graph in Mermaid's language, which GitHub and many other tools render."""
        return mermaid(self.plan)

    @cached_property
    def ascii(self) -> str:
        """The graph as plain text."""
        return ascii_text(self.plan)
