"""Lanes of a timeline: a fork runs beside what it left, and no line covers another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecowas_lc.drawing.moments import Moment


@dataclass(frozen=True, slots=True)
class Lanes:
    """Which lane each moment is in (by number, counted from 0), and from which moments forks branch off."""

    of: dict[int, int]
    count: int

    def forks_from(self, moment: Moment, moments: Sequence[Moment]) -> list[Moment]:
        """The moments in other lanes that follow this one."""
        return [m for m in moments if m.parent == moment.number and self.of[m.number] != self.of[moment.number]]


def lanes_of(moments: Sequence[Moment]) -> Lanes:
    """Return the lanes: the first to follow a moment stays in its lane, each other one gets a free lane."""
    branch: dict[int, int] = {}  # a moment's number to the number with which its branch began
    continued: set[int] = set()
    spans: dict[int, tuple[int, int]] = {}  # a branch to the rows that it covers, its connection included
    for moment in moments:
        parent = moment.parent
        if parent is not None and parent not in continued:
            continued.add(parent)
            begun = branch[parent]
        else:
            begun = moment.number
        branch[moment.number] = begun
        first = spans[begun][0] if begun in spans else (parent or moment.number)
        spans[begun] = (first, moment.number)
    taken: list[list[tuple[int, int]]] = []
    lane_of_branch: dict[int, int] = {}
    for begun, (first, last) in spans.items():
        parent = moments[begun - 1].parent
        lowest = lane_of_branch[branch[parent]] + 1 if parent is not None else 0
        lane = next(
            (n for n in range(lowest, len(taken)) if all(last < a or b < first for a, b in taken[n])),
            max(lowest, len(taken)),
        )
        while len(taken) <= lane:
            taken.append([])
        taken[lane].append((first, last))
        lane_of_branch[begun] = lane
    return Lanes({m.number: lane_of_branch[branch[m.number]] for m in moments}, len(taken))
