"""A graph as a picture: SVG and PNG (by Graphviz), Mermaid and plain text."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import Any
from unicodedata import east_asian_width, normalize
from xml.sax.saxutils import escape

from ecowas_lc._extras import install_command
from ecowas_lc.drawing import picture, render
from ecowas_lc.drawing.picture import TAKEN, UNTAKEN, Picture, shown
from ecowas_lc.errors import EcowasError, InvalidInputError, MissingExtraError

_CHAIN_ID = re.compile("[0-9a-f]{32}")
START, END = "__start__", "__end__"
Edge = tuple[str, str]


@dataclass(frozen=True)
class GraphPlan:
    """A graph to draw: node ids in order, labels, edges, and the part that a run took (``None``: no run).

    ``conditional`` holds the edges that a run may take or not, ``about`` describes nodes. Nodes of a subgraph are
    prefixed with its name and a colon.
    """

    nodes: tuple[str, ...]
    labels: Mapping[str, str]
    edges: tuple[Edge, ...]
    taken: frozenset[Edge] | None = None
    conditional: frozenset[Edge] = frozenset()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def visited(self) -> frozenset[str]:
        """The nodes that the run visited."""
        return frozenset(node for edge in self.taken or () for node in edge)

    def label(self, node: str) -> str:
        """Return a node's label in the picture."""
        own = node.rpartition(":")[2]
        return self.labels.get(node) or {START: "start", END: "end"}.get(own, own.replace("_", " "))

    def subgraphs(self) -> dict[str, list[str]]:
        """Return the nodes of each subgraph by its path; those outside subgraphs are under ``""``."""
        found: dict[str, list[str]] = {}
        for node in self.nodes:
            found.setdefault(node.rpartition(":")[0], []).append(node)
        return found


def plan_of(graph: Any, labels: Mapping[str, str], route: Any, *, subgraphs: bool = False) -> GraphPlan:
    """Return the plan of a compiled graph or a chain, or of the result of its ``get_graph()``.

    Raises:
        InvalidInputError: The object is not a graph, or the route names a node that the graph does not have.
    """
    drawable = graph
    if hasattr(graph, "get_graph"):
        drawable = graph.get_graph(xray=True) if subgraphs else graph.get_graph()
    if not hasattr(drawable, "nodes") or not hasattr(drawable, "edges"):
        raise InvalidInputError(f"{graph!r} is not a graph. Pass a compiled graph, such as build_supervisor(…).")
    if hasattr(drawable, "reid") and any(map(_CHAIN_ID.fullmatch, map(str, drawable.nodes))):
        drawable = drawable.reid()  # the parts of a chain have random ids; this names them by what they are
    nodes = tuple(map(str, drawable.nodes))
    titles = {str(id_): (node.metadata or {}).get("title") for id_, node in drawable.nodes.items()}
    names = {id_: str(title) for id_, title in titles.items() if title} | dict(labels)
    edges = tuple(dict.fromkeys((str(edge.source), str(edge.target)) for edge in drawable.edges))
    sure = {(str(edge.source), str(edge.target)) for edge in drawable.edges if not edge.conditional}
    taken = None if route is None else frozenset(_edges_of(route, nodes, edges))
    about = {str(id_): text for id_, node in drawable.nodes.items() if (text := _about(node.data))}
    return GraphPlan(nodes, names, edges, taken, frozenset(edges) - sure, about)


_LONGEST_TOOLTIP, _WRAPPED_AT_MOST = 400, 20


def _about(data: Any) -> str:
    """Return the beginning of a node's docstring, unwrapping LangChain's wrappers around its function."""
    left: list[Any] = [data]
    for _ in range(_WRAPPED_AT_MOST):
        if not left:
            break
        one = left.pop(0)
        inner = [each for name in ("func", "afunc", "bound") if (each := getattr(one, name, None)) is not None]
        is_own = not str(getattr(one, "__module__", "")).startswith(("langchain_core.", "langgraph."))
        if not inner and inspect.isroutine(one) and is_own and (text := inspect.getdoc(one)):
            return shortened(text.partition("\n\n")[0], _LONGEST_TOOLTIP)
        left += inner
    return ""


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
    """Return the edges from a node to the next step, passing through skipped nodes or on to a later step."""
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
    """Return the nodes that ran, step by step, from any supported description of a route."""
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
    """Return the steps of a supervisor's run from its result or from its decision."""
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


_ASCII_COLUMNS = 79


def mermaid(plan: GraphPlan) -> str:
    """Return the graph in Mermaid's language."""
    ids = {node: f"n{number}" for number, node in enumerate(plan.nodes)}
    lines = ["flowchart LR"]
    for node in plan.nodes:
        label = mermaid_text(plan.label(node))
        lines.append(f'  {ids[node]}(["{label}"])' if node in (START, END) else f'  {ids[node]}["{label}"]')
    lines += [
        f"  {ids[edge[0]]} {'-.->' if edge in plan.conditional else '-->'} {ids[edge[1]]}" for edge in plan.edges
    ]
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


def ascii_text(plan: GraphPlan) -> str:
    """Return the graph in plain ASCII: each node with its successors; ``*`` and ``=>`` mark the route."""
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
    """Return the width of text in character cells; Chinese, Japanese and Korean characters take two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(text: str, most: int, end: str = "…") -> str:
    """Return text on one line, cut to ``most`` characters at a space if possible."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    kept = text[: most - len(end)]
    at_a_blank = kept.rpartition(" ")[0]
    return (at_a_blank if len(at_a_blank) > most // 2 else kept).rstrip() + end


def mermaid_text(text: str) -> str:
    """Return text escaped for Mermaid's quoted strings."""
    return re.sub(r"[^\w .,:()/+-]", lambda match: f"#{ord(match[0])};", text)


FONT = "DejaVu Sans,Verdana,sans-serif"  # the first font ships with us; viewers of an SVG may have any of them
_LABEL_COLUMNS, _LONGEST_WORD = 16, 22
_PARALLEL, _HUMP = re.compile("(?<=^Parallel)<([^<>]*)>"), re.compile("(?<=[a-z])(?=[A-Z])")
_SECONDS = 60.0
_FONT_CONFIGURATION = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>{dirs}</fontconfig>
"""
# Characters missing in our font are drawn with the machine's fonts, if it has suitable ones.
_MACHINE_FONTS = (
    '<dir prefix="xdg">fonts</dir><dir>/usr/share/fonts</dir><dir>/usr/local/share/fonts</dir>'
    '<dir>/Library/Fonts</dir><dir>/System/Library/Fonts</dir><cachedir prefix="xdg">fontconfig</cachedir>'
    # coloured emoji are bitmaps of a fixed size, as tall as five lines
    "<selectfont><rejectfont><glob>*Emoji*</glob><glob>*emoji*</glob></rejectfont></selectfont>"
)
# Characters that Graphviz or XML does not allow, and those that change the direction of the text after them.
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
_ELSEWHERE = re.compile("[^\0-\u07ff\u1e00-\u1fff\u2000-\u2bff\u2d30-\u2d7f\ufb00-\ufeff]")


def drawn(plan: GraphPlan, form: str) -> bytes:
    """Return the picture as ``svg`` or ``png``.

    Raises:
        MissingExtraError: The extra ``draw`` is not installed.
    """
    return rendered(dot(plan, dpi=72 if form == "svg" else 144), form)


_MOST_RANKS = 9  # from left to right; deeper graphs are drawn from top to bottom


def dot(plan: GraphPlan, *, dpi: int) -> str:
    """Return the graph in Graphviz's language."""
    marked = plan.taken is not None
    direction = "LR" if _depth(plan) <= _MOST_RANKS else "TB"
    spaces = 'nodesep=0.14, ranksep="0.3"' if direction == "LR" else "nodesep=0.2, ranksep=0.32"
    lines = [
        "digraph {",
        f"  graph [rankdir={direction}, {spaces}, pad=0.1, bgcolor=white, dpi={dpi}, compound=true,",
        f'    fontname="{FONT}", fontsize=9, labelloc=b, labeljust=l, label=<{_legend(plan)}>];',
        f'  node [shape=box, style="rounded,filled", fontname="{FONT}", fontsize=11, margin="0.11,0.06",'
        " height=0.36, width=0.5];",
        "  edge [arrowsize=0.6];",
    ]
    lines += _nodes(plan)
    for edge in plan.edges:
        on_route = plan.taken is not None and edge in plan.taken
        style = {
            "color": TAKEN if on_route else "#b0b0b0" if marked else picture.LINE,
            "penwidth": "2.6" if on_route else "1",
            "weight": "4" if on_route else "1",
            "style": "dashed" if edge in plan.conditional and not on_route else "solid",
        }
        lines.append(f"  {_quoted(edge[0])} -> {_quoted(edge[1])} [{_attributes(style)}];")
    return "\n".join([*lines, "}"])


def _nodes(plan: GraphPlan) -> list[str]:
    """Return the lines for the nodes, with those of a subgraph in a named frame."""
    marked = plan.taken is not None
    lines: list[str] = []
    for number, (path, nodes) in enumerate(plan.subgraphs().items()):
        if path:
            style = {"label": plan.label(path), "style": "rounded,dashed", "color": UNTAKEN, "fontsize": "10"}
            style |= {"labelloc": "t", "fontcolor": picture.QUIET, "margin": "8", "bgcolor": "none"}
            lines.append(f"  subgraph cluster_{number} {{ graph [{_attributes(style)}];")
        for node in nodes:
            on_route = node in plan.visited
            style = {
                "label": _label(plan.label(node)),
                "fillcolor": picture.TAKEN_FILL if on_route else picture.PAPER if marked else picture.SOFT,
                "color": TAKEN if on_route else UNTAKEN if marked else "#404040",
                "fontcolor": picture.INK if on_route or not marked else picture.FAINT,
                "penwidth": "2.4" if on_route else "1",
            }
            if about := plan.about.get(node):
                style["tooltip"] = about
            if node.rpartition(":")[2] in (START, END):
                style |= {"shape": "box", "style": "rounded,filled", "margin": "0.14,0.02", "height": "0.28"}
                style |= {"fillcolor": style["color"], "fontcolor": picture.PAPER}
            lines.append(f"  {_quoted(node)} [{_attributes(style)}];")
        if path:
            lines.append("  }")
    return lines


def _legend(plan: GraphPlan) -> str:
    parts = []
    if plan.taken is not None:
        parts.append(f'<FONT COLOR="{TAKEN}"><B>━━▸</B></FONT> the path of this run')
    if plan.conditional:
        parts.append(f'<FONT COLOR="{picture.LINE}">╌╌▸</FONT> conditional: a step decides')
        if len(plan.conditional) < len(plan.edges):
            parts.append(f'<FONT COLOR="{picture.LINE}">──▸</FONT> always next')
    if not parts:
        return " "
    return f'<FONT COLOR="{picture.QUIET}">{"     ".join(parts)}</FONT>'


def _depth(plan: GraphPlan) -> int:
    """Return the number of steps from the first node to the furthest one."""
    depth = dict.fromkeys(plan.nodes[:1], 0)
    layer = set(depth)
    while layer:
        layer = {target for source, target in plan.edges if source in layer and target not in depth}
        depth |= dict.fromkeys(layer, max(depth.values(), default=0) + 1)
    return max(depth.values(), default=0) + 1


def rendered(source: str, form: str) -> bytes:
    """Run Graphviz on ``source`` and return the picture.

    It runs in a process of its own, because it prints irrelevant messages on standard error and needs an
    environment that names the font.

    Raises:
        MissingExtraError: The extra ``draw`` is not installed.
        EcowasError: Graphviz failed.
    """
    source = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", source)
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
    if _PARALLEL.search(name):  # a name that LangChain gave a part of a chain
        name = _PARALLEL.sub(r" (\1) ", name).replace(",", ", ")
    name = " ".join(_HUMP.sub(" ", word) if len(word) > _LONGEST_WORD else word for word in name.split())
    columns = max(_LABEL_COLUMNS * len(name) // cells(name), 1)
    fits = max(map(len, name.split()), default=0) <= _LONGEST_WORD * columns // _LABEL_COLUMNS
    return "\n".join(wrap(name, columns, break_long_words=not fits, break_on_hyphens=True))


def _fonts() -> Path | None:
    """Return the folder of matplotlib's fonts without importing it; many machines have no fonts of their own."""
    spec = importlib.util.find_spec("matplotlib")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    fonts = (Path(folder, "mpl-data", "fonts", "ttf") for folder in folders)
    return next((folder for folder in fonts if (folder / "DejaVuSans.ttf").is_file()), None)


def _attributes(style: dict[str, str]) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in style.items())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def draw_graph(
    graph: Any, route: Any = None, *, labels: Mapping[str, str] | None = None, subgraphs: bool = False
) -> GraphPicture:
    """Return a picture of a compiled graph or a chain, which notebooks display; no network is used.

    A node's docstring becomes its tooltip.

    Args:
        graph: A compiled LangGraph graph, or a LangChain runnable, such as a chain.
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

    plan: GraphPlan

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
