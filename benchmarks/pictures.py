"""Pictures of the figures: one colour and one mark for each contender, told apart with any colour vision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from benchmarks.contenders import FLOOR, HOTKV, MEMORY, MODULES, OURS, PLAIN, POSTGRES, SQLITE, VALKEY

WIDTH_PIXELS, DPI = 1200, 120

# Okabe and Ito's colours; marks and hatches say the same again.
STYLES = {
    OURS: ("#0072B2", "o", ""),
    MEMORY: ("#4D4D4D", "s", "///"),
    SQLITE: ("#E69F00", "^", "..."),
    POSTGRES: ("#009E73", "D", "\\\\\\"),
    VALKEY: ("#D55E00", "v", "xxx"),
    MODULES: ("#CC79A7", "P", "+++"),
    PLAIN: ("#56B4E9", "X", "ooo"),
    HOTKV: ("#F0E442", "*", "---"),
    FLOOR: ("#000000", "<", "|||"),
}
_OTHERS = (("#56B4E9", "X", "ooo"), ("#F0E442", "*", "---"), ("#000000", "<", "|||"))

# For curves that are no contenders: colours and marks.
NEUTRAL = tuple(
    zip(
        ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#8C6D00", "#7F7F7F"),
        "os^DvPX*<",
        strict=True,
    )
)


def style(name: str) -> tuple[str, str, str]:
    """Colour, mark and hatch; the same in every picture."""
    return STYLES.get(name) or _OTHERS[sum(map(ord, name)) % len(_OTHERS)]


def figure(rows: int, columns: int, height_pixels: int) -> tuple[Figure, list[Axes]]:
    """A figure of the usual width, and its axes."""
    out = Figure(figsize=(WIDTH_PIXELS / DPI, height_pixels / DPI), dpi=DPI, layout="constrained")
    return out, list(out.subplots(rows, columns, squeeze=False).flat)


def save(out: Figure, path: Path) -> None:
    """Write a PNG of few colours: a third of the bytes, and looks the same."""
    drawn = BytesIO()
    out.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


def tidy(axis: Axes, title: str, across: str, up: str = "") -> None:
    axis.set_title(title, loc="left", fontsize=12)
    axis.set_xlabel(across, fontsize=11)
    axis.set_ylabel(up, fontsize=11)
    axis.tick_params(labelsize=10.5)
    axis.grid(visible=True, color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def lines(axis: Axes, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], every: int = 1) -> None:
    """One curve for each name; ours is broad and lies below, so that it is seen where another covers it."""
    for name, (across, up) in curves.items():
        colour, mark, _ = style(name)
        width, layer, size = (4.5, 2.0, 8) if name == OURS else (1.6, 2.5, 5)
        axis.plot(
            across,
            up,
            color=colour,
            marker=mark,
            markevery=every,
            markersize=size,
            linewidth=width,
            zorder=layer,
            label=name,
        )


def logarithmic(axis: Axes, across: Sequence[float], up: bool = True) -> None:
    """Logarithmic scales with plain numbers on them: what was measured across, 1, 2 and 5 upward."""
    axis.set_xscale("log")
    axis.set_xticks(across, [f"{value:,g}" for value in across])
    axis.xaxis.set_minor_locator(NullLocator())
    if up:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.yaxis.set_minor_locator(NullLocator())


def legend(out: Figure, axis: Axes) -> None:
    """One legend under all axes."""
    handles, labels = axis.get_legend_handles_labels()
    out.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3), fontsize=11, frameon=False)


def bars(path: Path, title: str, groups: Mapping[str, Mapping[str, float]], at: float = 1.0) -> None:
    """Groups of bars, one for each name, with their figures on them and a line at ``at``."""
    names: list[str] = list(dict.fromkeys(name for group in groups.values() for name in group))
    out, [axis] = figure(1, 1, 520)
    place, ticks = 0.0, []
    for group in groups.values():
        first = place
        for name in names:
            if name in group:
                colour, _, hatch = style(name)
                options: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
                drawn = axis.bar(place, group[name], width=0.86, **options)
                box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
                axis.bar_label(drawn, fmt="%.2f", fontsize=10.5, padding=2, bbox=box)
                drawn.set_label(name)
                place += 1
        ticks.append((first + place - 1) / 2)
        place += 0.8
    axis.axhline(at, color="#4D4D4D", linewidth=1, linestyle="--", zorder=0.5)
    axis.set_xticks(ticks, list(groups))
    tidy(axis, title, "")
    axis.grid(visible=False, axis="x")
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    out.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=11, frameon=False
    )
    save(out, path)
