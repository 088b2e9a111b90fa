"""Charts and the timeline's graph, drawn as SVG on the server. The style sheet's classes set the colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ecowas_lc.drawing.thread_layout import Lanes, Moment

_WIDTH, _HEIGHT = 640, 200
_LEFT, _BOTTOM, _TOP = 40, 30, 12
_LANE, _MIDDLE = 22, 24
_LANES = 5  # lanes with a colour of their own; further lanes reuse the colours


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its parts from bottom to top, and the class that colours a bar with a single part."""

    label: str
    parts: tuple[float, ...]
    css: str = ""

    @property
    def total(self) -> float:
        """The height of the whole bar."""
        return sum(self.parts)


def columns(bars: Sequence[Bar], *, title: str, parts: Sequence[str] = ("bar", "bar declined")) -> Markup:
    """Return a vertical bar chart with an axis, for counts by day or by duration.

    Args:
        bars: The bars, from left to right.
        title: The chart's name for screen readers. The page shows the numbers in a table.
        parts: The classes of a bar's parts, from bottom to top.
    """
    top, ticks = _scale(max((bar.total for bar in bars), default=0))
    room = (_WIDTH - _LEFT) / max(len(bars), 1)
    width = min(room * 0.72, 46)
    drawn = [_opened(title, _HEIGHT)]
    plot = _HEIGHT - _BOTTOM - _TOP
    for tick in ticks:
        y = _HEIGHT - _BOTTOM - plot * tick / top
        drawn.append(
            Markup(
                '<line class="axis" x1="{x}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text x="{label}" y="{text:.1f}" text-anchor="end">{tick:g}</text>'
            ).format(x=_LEFT, end=_WIDTH, y=y, label=_LEFT - 6, text=y + 4, tick=tick)
        )
    every = max(1, -(-len(bars) // 8))
    for place, bar in enumerate(bars):
        x = _LEFT + room * place + (room - width) / 2
        base = float(_HEIGHT - _BOTTOM)
        for part, css in zip(bar.parts, parts, strict=False):
            height = plot * part / top
            base -= height
            if part:
                drawn.append(
                    Markup(
                        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>'
                    ).format(css, x, base, width, height)
                )
        if place % every == 0:
            drawn.append(
                Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                    x + width / 2, _HEIGHT - 6, bar.label
                )
            )
    return Markup("").join([*drawn, Markup("</svg>")])


def rows(bars: Sequence[Bar], *, title: str, figures: Sequence[str]) -> Markup:
    """Return a horizontal bar chart with a label above each bar, for counts by group or language.

    Args:
        bars: The bars, from top to bottom.
        title: The chart's name for screen readers.
        figures: The text at the end of each bar.
    """
    top = max((bar.total for bar in bars), default=0) or 1
    drawn = [_opened(title, 44 * len(bars) or 1, width=420, css="chart rows")]
    for place, (bar, figure) in enumerate(zip(bars, figures, strict=True)):
        y = 44 * place
        drawn.append(
            Markup(
                '<text x="0" y="{name}">{label}</text><text class="figure" x="420" y="{name}" text-anchor="end">'
                '{figure}</text><g class="{css}"><rect class="group" x="0" y="{bar}" width="{width:.1f}" '
                'height="12" rx="3"/></g>'
            ).format(
                name=y + 14,
                label=bar.label,
                figure=figure,
                css=bar.css,
                bar=y + 20,
                width=max(420 * bar.total / top, 2 if bar.total else 0),
            )
        )
    return Markup("").join([*drawn, Markup("</svg>")])


def rails(moment: Moment, moments: Sequence[Moment], lanes: Lanes) -> Markup:
    """Return the part of a timeline's graph that belongs to one moment. The newest moment is at the top.

    The lines run through the whole height, so that the parts of a list join to form one graph. A waiting moment is
    drawn as a diamond.
    """
    lane = lanes.of[moment.number]
    width = _LANE * lanes.count + 6
    x = _x(lane)
    drawn: list[str] = []
    for other in moments:
        if other.parent is None:
            continue
        column = _x(lanes.of[other.number])
        css = f"lane-{lanes.of[other.number] % _LANES}"
        if other.number == moment.number:
            drawn.append(_line(css, column, _MIDDLE, "100%"))
        elif other.parent < moment.number < other.number:
            drawn.append(_line(css, column, 0, "100%"))
        elif other.parent == moment.number:
            if lanes.of[other.number] == lane:
                drawn.append(_line(css, column, 0, _MIDDLE))
            else:  # a fork: the line leaves the neighbouring lane and goes up into this one
                curve = f"M{x} {_MIDDLE} C{column} {_MIDDLE} {column} {_MIDDLE - 4} {column} 0"
                drawn.append(f'<path class="{css}" d="{curve}"/>')
    if moment.is_cut:
        drawn.append(f'<line class="lane-4" stroke-dasharray="2 4" x1="{x}" x2="{x}" y1="{_MIDDLE}" y2="100%"/>')
    if moment.waiting:
        drawn.append(
            f'<rect class="waits" x="{x - 6}" y="{_MIDDLE - 6}" width="12" height="12" '
            f'transform="rotate(45 {x} {_MIDDLE})"/>'
        )
    else:
        newest = " now" if moment.number == len(moments) else ""
        drawn.append(f'<circle class="lane-{lane % _LANES}{newest}" cx="{x}" cy="{_MIDDLE}" r="6"/>')
    return Markup('<svg class="rails" width="{}" aria-hidden="true" focusable="false">{}</svg>').format(
        width,
        Markup("".join(drawn)),  # noqa: S704 - numbers and names of ours only
    )


def _x(lane: int) -> float:
    return lane * _LANE + _LANE / 2 + 3


def _line(css: str, x: float, top: float, bottom: float | str) -> str:
    return f'<line class="{css}" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'


def _opened(title: str, height: float, width: float = _WIDTH, css: str = "chart") -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        css, width, height, title
    )


def _scale(most: float) -> tuple[float, list[float]]:
    """Return the maximum of an axis and the values of its labels."""
    if most <= 0:
        return 1.0, [0.0, 1.0]
    step = 1.0
    for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000):
        step = float(factor)
        if most / step <= 4:
            break
    count = -(-most // step)
    return count * step, [step * place for place in range(int(count) + 1)]
