"""Reports on routers as text tables, and their confusions as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecowas_lc._extras import install_command
from ecowas_lc._output_file import output_file
from ecowas_lc.errors import InvalidInputError, MissingExtraError
from ecowas_lc.supervisor.evaluation.dialogues import MOVES, DialogueReport
from ecowas_lc.supervisor.evaluation.report import NO_GROUP, RouterReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def format_table(reports: Mapping[str, RouterReport]) -> str:
    """Return the figures per router, language and group as text; scores are shares from 0 to 1."""
    groups = dict.fromkeys(group for report in reports.values() for group in report.by_group)
    languages = dict.fromkeys(language for report in reports.values() for language in report.by_language)
    rows = [["", *reports]]
    rows.append(["questions", *(str(report.n) for report in reports.values())])
    rows.append(["micro-F1", *(f"{report.micro_f1:.3f}" for report in reports.values())])
    rows.append(["exact set", *(f"{report.exact_set:.3f}" for report in reports.values())])
    rows.append(["ms a question", *(f"{report.ms_per_question:.2f}" for report in reports.values())])
    for language in languages:
        scores = [report.by_language[language] for report in reports.values()]
        rows.append(
            [
                f"{language or 'no language'} (F1 / exact)",
                *(f"{s.micro_f1:.3f} / {s.exact_set:.3f}" for s in scores),
            ]
        )
    for group in groups:
        cells = [report.by_group.get(group) for report in reports.values()]
        rows.append(
            [
                f"{group} (F1, +added -missed)",
                *(f"{cell.f1:.3f} +{cell.added} -{cell.missed}" if cell else "" for cell in cells),
            ]
        )
    return _aligned(rows)


def format_dialogues(reports: Mapping[str, DialogueReport]) -> str:
    """Return the figures on dialogues per router and language as text, including changes of subject."""
    languages = dict.fromkeys(language for report in reports.values() for language in report.by_language)
    rows = [["", *reports]]
    rows.append(["turns", *(str(report.n) for report in reports.values())])
    rows.append(["exact set", *(f"{report.exact_set:.3f}" for report in reports.values())])
    rows.append(["exact set in context", *(f"{report.exact_in_context:.3f}" for report in reports.values())])
    rows.append(["micro-F1", *(f"{report.micro_f1:.3f}" for report in reports.values())])
    for language in languages:
        scores = [report.by_language[language] for report in reports.values()]
        rows.append(
            [
                f"{language or 'no language'} (exact / in context)",
                *(f"{score.exact_set:.3f} / {score.exact_in_context:.3f}" for score in scores),
            ]
        )
    parts = [_aligned(rows)]
    for name, report in reports.items():
        table = [[f"{name}: expected, chosen", *MOVES]]
        table += [[expected, *(str(report.moves[expected][chosen]) for chosen in MOVES)] for expected in MOVES]
        parts.append(_aligned(table))
    return "\n\n".join(parts)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


_COLOURS = "Blues"  # one hue from light to dark: readable with any colour blindness and in grey
_CELL_INCHES = 0.62


def draw_confusion(reports: Mapping[str, RouterReport], path: str | Path) -> Path:
    """Draw one confusion table per router, side by side, as a PNG file, and return its path.

    A row is the group that a question concerns, and a column the group chosen for it. Colours are shares of the
    row; numbers are counts.

    Raises:
        InvalidInputError: There is no report.
        MissingExtraError: The extra ``eval`` is not installed.
        OSError: The file cannot be written; an existing file is left unchanged.
    """
    if not reports:
        raise InvalidInputError("There is no report to draw. Evaluate at least one router first.")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            f"Drawing needs matplotlib. Run: {install_command('eval')}, or go without the picture."
        ) from None
    widest = max(len(report.confusion) for report in reports.values())
    side = 2.3 + _CELL_INCHES * widest
    columns = 2 if len(reports) == 4 else min(len(reports), 3)
    rows = -(-len(reports) // columns)
    figure = Figure(figsize=(side * columns + 0.4, (side + 0.3) * rows), layout="constrained", dpi=130)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(reports) :]:
        axis.set_axis_off()
    for axis, (name, report) in zip(axes.flat, reports.items(), strict=False):
        _draw(axis, name, report)
    target = Path(path)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.15)
    with output_file(target) as file:
        file.write(drawn.getvalue())
    return target


def _draw(axis: Axes, name: str, report: RouterReport) -> None:
    names = list(report.confusion)
    counts = [[report.confusion[expected][chosen] for chosen in names] for expected in names]
    shares = [[count / (sum(row) or 1) for count in row] for row in counts]
    axis.imshow(shares, cmap=_COLOURS, vmin=-0.03, vmax=1.1)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if count:
                colour = "white" if shares[y][x] > 0.5 else "black"
                weight = "bold" if x == y else "normal"
                axis.text(x, y, str(count), ha="center", va="center", color=colour, weight=weight, fontsize=11)
    labels = [label.replace("_", "\n") if label != NO_GROUP else "no group" for label in names]
    style: dict[str, Any] = {"fontsize": 10}
    axis.set_xticks(range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor", **style)
    axis.set_yticks(range(len(names)), labels, **style)
    axis.set_xticks([x - 0.5 for x in range(1, len(names))], minor=True)
    axis.set_yticks([y - 0.5 for y in range(1, len(names))], minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("chosen", fontsize=10)
    axis.set_ylabel("expected", fontsize=10)
    axis.set_title(
        f"{name}: micro-F1 {report.micro_f1:.2f}, exact {report.exact_set:.0%} of {report.n}", fontsize=12, pad=10
    )
