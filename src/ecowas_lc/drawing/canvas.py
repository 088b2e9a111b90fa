"""A page of rectangles, lines and texts at given positions, drawn by Graphviz."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from xml.sax.saxutils import escape

from ecowas_lc.drawing.graph_picture import FONT, rendered
from ecowas_lc.drawing.picture import INK, Picture, shown

_POINTS_A_CHARACTER = 0.61
"""The average width of a character as a share of the font size."""


def wide(text: str, size: float = 10) -> float:
    """Return the approximate width of a text, in points."""
    return len(text) * size * _POINTS_A_CHARACTER


class Canvas:
    """A page; positions are in points from its upper left corner."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._count = 0

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str, tooltip: str = "") -> None:
        """Draw a filled rectangle with its upper left corner at a position."""
        about = f', tooltip="{_quoted(tooltip)}"' if tooltip else ""
        self._node(
            x + width / 2,
            y + height / 2,
            f'shape=box, label="", fixedsize=true, width={width / 72:.4f}, height={height / 72:.4f}, '
            f'style=filled, penwidth=0, fillcolor="{fill}", color="{fill}"{about}',
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 10,
        colour: str = INK,
        align: str = "LEFT",
        bold: bool = False,
    ) -> None:
        """Draw a line of text with its left end, right end or middle at a position."""
        inner = escape("".join(sign for sign in text if sign.isprintable()))
        self.markup(x, y, f"<B>{inner}</B>" if bold else inner, wide(text, size) + 8, size, colour, align)

    def markup(
        self,
        x: float,
        y: float,
        markup: str,
        width: float,
        size: float = 10,
        colour: str = INK,
        align: str = "LEFT",
    ) -> None:
        """Draw a line of text that is already Graphviz HTML."""
        middle = {"LEFT": x + width / 2, "RIGHT": x - width / 2, "CENTER": x}[align]
        label = (
            f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"><TR><TD ALIGN="{align}" '
            f'FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{size * 1.4:.0f}"><FONT POINT-SIZE="{size}" '
            f'COLOR="{colour}">{markup}</FONT></TD></TR></TABLE>'
        )
        self._node(middle, y + size * 0.7, f"shape=plaintext, margin=0, label=<{label}>")

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        """Draw a horizontal or vertical line."""
        left, top = min(x1, x2), min(y1, y2)
        self.rectangle(left, top, max(abs(x2 - x1), width), max(abs(y2 - y1), width), colour)

    def svg(self) -> str:
        """Return the page as SVG for notebooks."""
        return shown(rendered(self._dot(72), "svg").decode())

    def png(self) -> bytes:
        """Return the page as PNG."""
        return rendered(self._dot(144), "png")

    def _node(self, x: float, y: float, attributes: str) -> None:
        self._count += 1
        self._lines.append(f'  n{self._count} [pos="{x:.2f},{-y:.2f}", {attributes}];')

    def _dot(self, dpi: int) -> str:
        head = f'  graph [layout=nop, pad=0.1, bgcolor=white, dpi={dpi}]; node [fontname="{FONT}"];'
        return "\n".join(["digraph {", head, *self._lines, "}"])


def _quoted(text: str) -> str:
    plain = "".join(sign for sign in text if sign.isprintable())
    return plain.replace("\\", "/").replace('"', "'")


class CanvasPicture(Picture):
    """A picture whose SVG and PNG are a canvas."""

    @property
    @abstractmethod
    def _canvas(self) -> Canvas:
        """The page."""

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return self._canvas.svg()

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG."""
        return self._canvas.png()
