"""``ecowas-lc graph``: draws the supervisor graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecowas_lc.cli.conversation import checked_groups
from ecowas_lc.cli.screen import check_target, naming
from ecowas_lc.cli.terminal import out, show_json, write


def show_graph(output: Path | None, form: str, route: Sequence[str], *, as_json: bool) -> None:
    """Print the graph or write its picture, marking the route through these groups."""
    from ecowas_lc.drawing import draw_graph
    from ecowas_lc.supervisor import build_supervisor

    if output is not None:
        check_target(output)
    groups = checked_groups(route)
    graph = build_supervisor(router="lexical")
    picture = draw_graph(graph, {"decision": {"groups": list(groups)}} if groups else None)
    if output is not None:
        with naming(output):
            written = str(picture.save(output).resolve())
    if as_json:
        drawn = graph.get_graph()
        edges = [{"from": e.source, "to": e.target, "conditional": e.conditional} for e in drawn.edges]
        show_json(
            {
                "nodes": list(drawn.nodes),
                "edges": edges,
                "route": list(groups),
                "file": written if output is not None else None,
            }
        )
    elif output is not None:
        out().print(written)
    else:
        write({"ascii": lambda: picture.ascii, "mermaid": lambda: picture.mermaid}[form]())
