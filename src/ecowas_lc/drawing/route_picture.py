"""A picture of a routing decision: the question with its relevant words, and a bar for each group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from xml.sax.saxutils import escape

from ecowas_lc.drawing.canvas import Canvas, CanvasPicture
from ecowas_lc.drawing.graph_picture import mermaid_text, shortened
from ecowas_lc.drawing.picture import GRID, HUES, INK, QUIET, SOFT, TAKEN
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing.decision import RouteDecision

_NAMES, _BARS, _ROW = 150.0, 360.0, 21.0
_COLUMNS, _ASCII_BAR = 84, 30


def draw_route(decision: RouteDecision) -> RoutePicture:
    """Return a picture that explains a routing decision, for notebooks and reports.

    It marks the relevant words in the question, shows a bar for each group with the score that it needs, and names
    the most similar labelled question.

    Args:
        decision: A router's decision.

    Returns:
        The picture.

    Raises:
        InvalidInputError: ``decision`` is not a router's decision.
    """
    if not isinstance(decision, RouteDecision):
        raise InvalidInputError(f"{decision!r} is not a decision. Pass what router.route(question) returned.")
    return RoutePicture(decision)


@dataclass(frozen=True)
class RoutePicture(CanvasPicture):
    """A picture of a routing decision."""

    decision: RouteDecision

    @cached_property
    def _canvas(self) -> Canvas:
        decision, canvas = self.decision, Canvas()
        y = 4.0
        for line in self._question():
            canvas.markup(4, y, line, 660, 12)
            y += 18
        y += 8
        for name in self._ranked():
            score, least = decision.scores.get(name), self._least(name)
            asked = name in decision.groups
            canvas.text(4, y, shortened(_spoken(name), 22), size=10.5, bold=asked, colour=INK if asked else QUIET)
            if score is not None:
                about = f"{name}: {score:.2f}" + (f", needs {least:.2f}" if least is not None else "")
                canvas.rectangle(_NAMES, y + 2, _BARS, 11, SOFT, about)
                canvas.rectangle(_NAMES, y + 2, max(_BARS * min(score, 1), 1), 11, TAKEN if asked else GRID, about)
                canvas.text(_NAMES + _BARS + 44, y, f"{score:.2f}", align="RIGHT", size=10.5)
            if least is not None:
                canvas.line(_NAMES + _BARS * least, y, _NAMES + _BARS * least, y + 15, INK, 1.6)
            if asked:
                canvas.text(_NAMES + _BARS + 54, y, "asked", size=10.5, bold=True, colour=TAKEN)
            y += _ROW
        told = []
        if decision.thresholds is not None and decision.scores:
            told.append("The line marks the score that a group needs.")
        if decision.nearest:
            told.append(f"Most like the labelled question “{shortened(decision.nearest, 90)}”.")
        if decision.taken_over is not None:
            told.append(f"Continues “{shortened(decision.taken_over.question, 90)}”.")
        if not decision.scores:
            told.append(shortened(decision.reason, 110))
        for number, line in enumerate(told):
            canvas.text(4, y + 4 + 15 * number, line, size=9.5, colour=QUIET)
        return canvas

    @cached_property
    def mermaid(self) -> str:
        """The picture in Mermaid's language."""
        lines = ["flowchart LR", f'  q["{mermaid_text(shortened(self.decision.question or "question", 80))}"]']
        for number, name in enumerate(self._ranked()):
            score = self.decision.scores.get(name)
            label = mermaid_text(_spoken(name)) + (f"<br/>{score:.2f}" if score is not None else "")
            arrow = "==>" if name in self.decision.groups else "-.->"
            lines.append(f'  q {arrow} g{number}["{label}"]')
        return "\n".join(lines) + "\n"

    @cached_property
    def ascii(self) -> str:
        """The picture as plain text."""
        lines = []
        for name in self._ranked():
            score, least = self.decision.scores.get(name, 0.0), self._least(name)
            bar = list(f"{'#' * round(score * _ASCII_BAR):<{_ASCII_BAR + 1}}")
            if least is not None:
                bar[min(round(least * _ASCII_BAR), _ASCII_BAR)] = "|"
            mark = "*" if name in self.decision.groups else " "
            lines.append(f"{mark} {_spoken(name)[:24]:<24} {''.join(bar)} {score:.2f}")
        return "\n".join([*lines, "", "* is asked; | marks what a group needs."]) + "\n"

    def _ranked(self) -> list[str]:
        scores = self.decision.scores
        return list(dict.fromkeys([*self.decision.groups, *sorted(scores, key=lambda name: -scores[name])]))

    def _least(self, name: str) -> float | None:
        thresholds, scores = self.decision.thresholds, self.decision.scores
        if thresholds is None or not scores:
            return None
        return thresholds[0] if name == max(scores, key=lambda one: scores[one]) else thresholds[1]

    def _question(self) -> Iterator[str]:
        """Yield the question line by line as Graphviz HTML, with the relevant words in their group's colour."""
        question = self.decision.question
        ranked = self._ranked()
        line, length = "", 0
        for match in re.finditer(r"\S+", question[:600]):
            word = match.group()
            if length + len(word) > _COLUMNS and line:
                yield line
                line, length = "", 0
            groups = [
                one.group for one in self.decision.words if one.start < match.end() and one.end > match.start()
            ]
            shown_word = escape("".join(sign for sign in word if sign.isprintable()))
            if groups:
                hue = HUES[ranked.index(groups[0]) % len(HUES) if groups[0] in ranked else 0]
                shown_word = f'<FONT COLOR="{hue}"><B><U>{shown_word}</U></B></FONT>' if shown_word else ""
            line += (" " if line else "") + shown_word
            length += len(word) + 1
        if line:
            yield line


def _spoken(name: str) -> str:
    return name.replace("_", " ")
