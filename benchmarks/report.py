"""What a part of the benchmarks found: tables and bounds, for the terminal and for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """One table; cells are text already."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", _row(self.columns), _row(["---"] * len(self.columns))]
        lines += [_row(cells) for cells in self.rows]
        return "\n".join(lines + (["", self.note] if self.note else []))

    def show(self, console: Console) -> None:
        console.print(self.title, style="bold", highlight=False)
        table = RichTable(box=box.SIMPLE_HEAD)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for cells in self.rows:
            table.add_row(*cells)
        console.print(table)
        if self.note:
            console.print(f"{self.note}\n", style="dim", highlight=False)


@dataclass(frozen=True)
class Bound:
    """A target, and what was measured; more than ``most`` is too much.

    ``floor`` is what :mod:`benchmarks.floor` took in the same rounds.
    """

    what: str
    most: float
    measured: float
    unit: str = ""
    floor: float | None = None

    @property
    def is_met(self) -> bool:
        return self.measured <= self.most

    def cells(self) -> dict[str, str]:
        return {
            "bound": self.what,
            "must be": f"≤ {self.most:g}{self.unit}",
            "measured": f"{self.measured:.2f}{self.unit}",
            "floor": "–" if self.floor is None else f"{self.floor:.2f}{self.unit}",
            "met": "yes" if self.is_met else "NO",
        }


@dataclass
class Report:
    """What one part found."""

    tables: list[Table] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    """File names, and what each shows."""
    left_out: list[str] = field(default_factory=list)
    """What could not be measured here, and why."""

    def every_table(self) -> list[Table]:
        if not self.bounds:
            return self.tables
        columns = ["bound", "must be", "measured", "floor", "met"]
        if all(bound.floor is None for bound in self.bounds):
            columns.remove("floor")
        rows = [[cells[column] for column in columns] for cells in (bound.cells() for bound in self.bounds)]
        return [*self.tables, Table("Targets", columns, rows)]

    def show(self, console: Console) -> None:
        for table in self.every_table():
            table.show(console)
        for reason in self.left_out:
            console.print(f"Skipped: {reason}", highlight=False)

    def markdown(self, folder: str) -> str:
        parts = [f"![{text}]({folder}/{name})" for name, text in self.pictures.items()]
        parts += [table.markdown() for table in self.every_table()]
        parts += [f"Skipped: {reason}." for reason in self.left_out]
        return "\n\n".join(parts)

    def as_json(self) -> Mapping[str, Any]:
        return {**asdict(self), "met": [bound.is_met for bound in self.bounds]}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figure(value: float) -> str:
    """A number with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float) -> str:
    """A ratio."""
    return f"{ratio:.2f} ×"


def against(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of one round each, of the rounds in which both took part."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=False))
