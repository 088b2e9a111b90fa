"""SVG and PNG, by the Graphviz inside pygraphviz's wheels and a font inside matplotlib's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import wrap
from xml.sax.saxutils import escape

from ecowas_lc.drawing import render
from ecowas_lc.drawing.plan import END, START, Plan
from ecowas_lc.drawing.text import TAKEN, UNTAKEN, cells
from ecowas_lc.errors import EcowasError, MissingExtraError

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
            "SVG and PNG need Graphviz. Run: pip install 'ecowas-lc[draw]'. Mermaid and ASCII need nothing."
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
