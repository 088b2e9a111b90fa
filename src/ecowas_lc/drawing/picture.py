"""A picture of a graph, in whatever form is asked for."""

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
    """Return a picture of a compiled graph that shows itself in notebooks; no network is used.

    ``route`` marks what a run went through: the run's result (with ``decision`` and ``reports``), a decision
    alone, or the names of nodes step by step, where a step may hold several. ``labels`` maps nodes to what they
    are called in the picture; groups have their names, and whatever node has a ``title`` in its metadata. With
    ``subgraphs``, graphs that are nodes of this one are drawn in a frame of their own. A node's docstring is its
    tooltip.

    Raises:
        InvalidInputError: no graph, no route, or a route through nodes that the graph does not have.
    """
    return GraphPicture(plan_of(graph, labels or {}, route, subgraphs=subgraphs))


@dataclass(frozen=True)
class GraphPicture(Picture):
    """A picture of a graph: ``mermaid`` and ``ascii`` always, ``svg`` and ``png`` with the extra ``draw``.

    ``svg`` and ``png`` raise :class:`MissingExtraError` without it.
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
        """The graph in Mermaid's language, which GitHub and many others draw."""
        return mermaid(self.plan)

    @cached_property
    def ascii(self) -> str:
        """The graph in plain characters."""
        return ascii_text(self.plan)
