"""What is to be drawn: nodes, edges, and which of both a run went through."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecowas_lc.errors import InvalidInputError

START, END = "__start__", "__end__"
Edge = tuple[str, str]


@dataclass(frozen=True)
class Plan:
    """A graph to draw: node ids in their order, labels, edges, and the part that a run took (``None``: no run)."""

    nodes: tuple[str, ...]
    labels: Mapping[str, str]
    edges: tuple[Edge, ...]
    taken: frozenset[Edge] | None = None

    @property
    def visited(self) -> frozenset[str]:
        """The nodes that the run went through."""
        return frozenset(node for edge in self.taken or () for node in edge)

    def label(self, node: str) -> str:
        """What a node is called in the picture."""
        return self.labels.get(node) or {START: "start", END: "end"}.get(node, node.replace("_", " "))


def plan_of(graph: Any, labels: Mapping[str, str], route: Any) -> Plan:
    """Return the plan of a compiled graph, or of what its ``get_graph()`` gives.

    Raises:
        InvalidInputError: it is no graph, or the route names a node that it does not have.
    """
    drawable = graph.get_graph() if hasattr(graph, "get_graph") else graph
    if not hasattr(drawable, "nodes") or not hasattr(drawable, "edges"):
        raise InvalidInputError(f"{graph!r} is not a graph. Pass a compiled graph, such as build_supervisor(…).")
    nodes = tuple(map(str, drawable.nodes))
    titles = {str(id_): (node.metadata or {}).get("title") for id_, node in drawable.nodes.items()}
    names = {id_: str(title) for id_, title in titles.items() if title} | dict(labels)
    edges = tuple(dict.fromkeys((str(edge.source), str(edge.target)) for edge in drawable.edges))
    taken = None if route is None else frozenset(_edges_of(route, nodes, edges))
    return Plan(nodes, names, edges, taken)


def _edges_of(route: Any, nodes: Sequence[str], edges: Collection[Edge]) -> Iterable[Edge]:
    steps = _steps_of(route)
    unknown = sorted({node for step in steps for node in step}.difference(nodes))
    if unknown:
        raise InvalidInputError(f"The route names {', '.join(map(repr, unknown))}; the graph has no such node.")
    steps = [step for step in ({START}, *steps, {END}) if step]
    for number, step in enumerate(steps):
        for source in step:
            yield from _way(source, steps[number + 1 :], nodes, set(edges))


def _way(source: str, later: Sequence[set[str]], nodes: Sequence[str], edges: Collection[Edge]) -> set[Edge]:
    """Return the edges from a node to the next step; over a node that the steps leave out, or to a later step."""
    for step in later:
        direct = {(source, target) for target in step}.intersection(edges)
        if direct:
            return direct
        between = [node for node in nodes if (source, node) in edges]
        detours = {
            ((source, node), (node, target)) for node in between for target in step if (node, target) in edges
        }
        if detours:
            return {edge for detour in detours for edge in detour}
    return set()


def _steps_of(route: Any) -> list[set[str]]:
    """Return the nodes that ran, step by step, from whatever tells it."""
    if isinstance(route, Mapping):
        return _steps_of_run(route)
    groups = getattr(route, "groups", None)  # a RouteDecision
    if groups is not None:
        return _steps_of_run({"decision": {"groups": groups}})
    if isinstance(route, str) or not isinstance(route, Sequence):
        raise InvalidInputError(
            f"{route!r} is not a route. Pass what a run returned, a decision, or the names of nodes step by step."
        )
    return [{step} if isinstance(step, str) else set(step) for step in route]


def _steps_of_run(run: Mapping[str, Any]) -> list[set[str]]:
    """Return the steps of a supervisor's run from its result or from its decision alone."""
    decision = run.get("decision", run)
    if not isinstance(decision, Mapping) or "groups" not in decision:
        raise InvalidInputError("The route holds no decision. Pass what the supervisor graph returned.")
    groups = set(decision["groups"])
    if not groups:
        return [{"route"}, {"supervisor"}, {"record"}]
    reports = run.get("reports") or {}
    released = any("released" in report for report in reports.values())
    answers = sum(report.get("status") == "answered" for report in reports.values()) if reports else len(groups)
    steps = [{"route"}, groups]
    if released:
        steps.append({"release"})
    if len(groups) > 1:
        steps.append({"gather"})
        if answers > 1:
            steps.append({"synthesise"})
    return [*steps, {"record"}]
