"""A graph's nodes and edges as SVG and PNG (by Graphviz), Mermaid and plain characters."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any
from unicodedata import east_asian_width, normalize
from xml.sax.saxutils import escape

from ecowas_lc._extras import install_command
from ecowas_lc.drawing import render
from ecowas_lc.errors import EcowasError, InvalidInputError, MissingExtraError

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


TAKEN, UNTAKEN = "#0072B2", "#8a8a8a"  # told apart by the colour-blind; thickness tells the same
_ASCII_COLUMNS = 79


def mermaid(plan: Plan) -> str:
    """Return the graph in Mermaid's language."""
    ids = {node: f"n{number}" for number, node in enumerate(plan.nodes)}
    lines = ["flowchart LR"]
    for node in plan.nodes:
        label = mermaid_text(plan.label(node))
        lines.append(f'  {ids[node]}(["{label}"])' if node in (START, END) else f'  {ids[node]}["{label}"]')
    lines += [f"  {ids[source]} --> {ids[target]}" for source, target in plan.edges]
    if plan.taken is not None:
        lines.append(f"  classDef taken fill:#d6ebf7,stroke:{TAKEN},stroke-width:3px,color:#000")
        lines.append(f"  classDef untaken fill:#fff,stroke:{UNTAKEN},color:#555")
        for name, members in (
            ("taken", [ids[n] for n in plan.nodes if n in plan.visited]),
            ("untaken", [ids[n] for n in plan.nodes if n not in plan.visited]),
        ):
            if members:
                lines.append(f"  class {','.join(members)} {name}")
        thick = [str(number) for number, edge in enumerate(plan.edges) if edge in plan.taken]
        if thick:
            lines.append(f"  linkStyle {','.join(thick)} stroke:{TAKEN},stroke-width:3px")
    return "\n".join(lines) + "\n"


def ascii_text(plan: Plan) -> str:
    """Return the graph in plain ASCII: each node with those it leads to, ``*`` and ``=>`` on the route."""
    names = {node: _ascii(node.strip("_")) for node in plan.nodes}
    indent = max(map(len, names.values())) + 4
    lines = []
    for node in plan.nodes:
        targets = [target for source, target in plan.edges if source == node]
        taken = [target for target in targets if (node, target) in (plan.taken or ())]
        untaken = [target for target in targets if target not in taken]
        head = f"{'*' if node in plan.visited else ' '} {names[node]}"
        for arrow, some in (("=>", taken), ("->", untaken)):
            if some:
                listed = ", ".join(names[target] for target in some)
                room = max(_ASCII_COLUMNS - indent - 3, 20)
                first, *more = wrap(listed, room, break_long_words=False, break_on_hyphens=False)
                lines.append(f"{head:<{indent}}{arrow} {first}")
                lines += [f"{'':<{indent + 3}}{line}" for line in more]
                head = ""
        if head:
            lines.append(head)
    if plan.taken is not None:
        lines += ["", "* and => mark the route that the run took."]
    return "\n".join(lines) + "\n"


def _ascii(text: str) -> str:
    return normalize("NFKD", text).encode("ascii", "ignore").decode() or "?"


def cells(text: str) -> int:
    """Return how many letters wide text is; Chinese, Japanese and Korean ones count twice."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(text: str, most: int, end: str = "…") -> str:
    """Return text on one line, cut at a blank, or where there is none in a word, if it is longer than ``most``."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    kept = text[: most - len(end)]
    at_a_blank = kept.rpartition(" ")[0]
    return (at_a_blank if len(at_a_blank) > most // 2 else kept).rstrip() + end


def mermaid_text(text: str) -> str:
    """Return text as Mermaid takes it between quotes."""
    return re.sub(r"[^\w .,:()/+-]", lambda match: f"#{ord(match[0])};", text)


FONT = "DejaVu Sans,Verdana,sans-serif"  # the first is here; where an SVG is looked at, any of them may be
_LABEL_COLUMNS = 20
_SECONDS = 60.0
_FONT_CONFIGURATION = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>{dirs}</fontconfig>
"""
# Letters that our font does not have are drawn with fonts of the machine, if it has any with them.
_MACHINE_FONTS = (
    '<dir prefix="xdg">fonts</dir><dir>/usr/share/fonts</dir><dir>/usr/local/share/fonts</dir>'
    '<dir>/Library/Fonts</dir><dir>/System/Library/Fonts</dir><cachedir prefix="xdg">fontconfig</cachedir>'
    # coloured emoji are bitmaps of one size, as large as five lines
    "<selectfont><rejectfont><glob>*Emoji*</glob><glob>*emoji*</glob></rejectfont></selectfont>"
)
_ELSEWHERE = re.compile("[^\0-\u07ff\u1e00-\u1fff\u2000-\u2bff\u2d30-\u2d7f\ufb00-\ufeff]")


def drawn(plan: Plan, form: str) -> bytes:
    """Return the picture as ``svg`` or ``png``.

    Raises:
        MissingExtraError: the extra ``draw`` is not installed.
    """
    return rendered(dot(plan), form)


def dot(plan: Plan) -> str:
    """Return the graph in Graphviz's language."""
    marked = plan.taken is not None
    lines = [
        "digraph {",
        "  graph [rankdir=LR, nodesep=0.22, ranksep=0.55, pad=0.25, bgcolor=white, dpi=110];",
        f'  node [shape=box, style="rounded,filled", fontname="{FONT}", fontsize=12, margin="0.16,0.08"];',
        "  edge [arrowsize=0.7];",
    ]
    for node in plan.nodes:
        on_route = node in plan.visited
        style = {
            "label": _label(plan.label(node)),
            "fillcolor": "#d6ebf7" if on_route else "#ffffff" if marked else "#f2f6f9",
            "color": TAKEN if on_route else UNTAKEN if marked else "#404040",
            "fontcolor": "#000000" if on_route or not marked else "#555555",
            "penwidth": "2.4" if on_route else "1",
        }
        if node in (START, END):
            style["shape"] = "ellipse"
        lines.append(f"  {_quoted(node)} [{_attributes(style)}];")
    for edge in plan.edges:
        on_route = plan.taken is not None and edge in plan.taken
        style = {
            "color": TAKEN if on_route else "#b0b0b0" if marked else "#606060",
            "penwidth": "2.6" if on_route else "1",
            "weight": "4" if on_route else "1",
        }
        lines.append(f"  {_quoted(edge[0])} -> {_quoted(edge[1])} [{_attributes(style)}];")
    return "\n".join([*lines, "}"])


def rendered(source: str, form: str) -> bytes:
    """Return what Graphviz makes of ``source``.

    It runs in a process of its own: it says things on standard error that are nobody's business, and needs an
    environment that names the font.

    Raises:
        MissingExtraError: the extra ``draw`` is not installed.
        EcowasError: Graphviz failed.
    """
    fonts = _fonts()
    if importlib.util.find_spec("pygraphviz") is None or fonts is None:
        raise MissingExtraError(
            f"SVG and PNG need Graphviz. Run: {install_command('draw')}. Mermaid and ASCII need nothing."
        )
    with tempfile.TemporaryDirectory(prefix="ecowas-lc-draw-") as folder:
        configuration = Path(folder, "fonts.conf")
        dirs = f"<dir>{escape(str(fonts))}</dir>"
        dirs += _MACHINE_FONTS if _ELSEWHERE.search(source) else f"<cachedir>{escape(folder)}</cachedir>"
        configuration.write_text(_FONT_CONFIGURATION.format(dirs=dirs), encoding="utf-8")
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", render.__file__, form],
            input=source.encode(),
            capture_output=True,
            check=False,
            env={**os.environ, "FONTCONFIG_FILE": str(configuration)},
            timeout=_SECONDS,
        )
    if done.returncode != 0 or not done.stdout:
        raise EcowasError(f"Graphviz could not draw the graph: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


def _label(name: str) -> str:
    return "\n".join(wrap(name, max(_LABEL_COLUMNS * len(name) // cells(name), 1)))


def _fonts() -> Path | None:
    """Return the folder of matplotlib's fonts, without importing it: many machines have none of their own."""
    spec = importlib.util.find_spec("matplotlib")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    fonts = (Path(folder, "mpl-data", "fonts", "ttf") for folder in folders)
    return next((folder for folder in fonts if (folder / "DejaVuSans.ttf").is_file()), None)


def _attributes(style: dict[str, str]) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in style.items())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
