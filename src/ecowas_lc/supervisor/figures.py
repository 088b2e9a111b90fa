"""Keeps figures that nobody gave out of what is said in the groups' names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FIGURE = re.compile(r"\d(?:[\d.,']*\d)?")
_SPACED_FIGURE = re.compile(r"\d[\d.,'\u00a0\u202f ]*\d")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SMALLEST = 2


def figures_in(text: str) -> set[str]:
    """Return the figures of a text as bare digits; single digits don't count."""
    return _digits(_FIGURE.findall(text))


def _digits(figures: Iterable[str]) -> set[str]:
    return {digits for figure in figures if len(digits := re.sub(r"\D", "", figure)) >= _SMALLEST}


class Sources:
    """The texts in which a figure must stand to be believed, with or without signs between its digits."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._figures: set[str] = set()
        for text in texts:
            for pattern in (_FIGURE, _SPACED_FIGURE, re.compile(r"\d+")):
                self._figures |= _digits(pattern.findall(text))

    def support(self, text: str) -> bool:
        """Return whether every figure of ``text`` was given."""
        return figures_in(text) <= self._figures

    def supported(self, text: str) -> tuple[str, list[str]]:
        """Return the sentences of ``text`` whose figures were all given, and the others."""
        kept: list[str] = []
        left_out: list[str] = []
        for line in text.splitlines():
            sentences = sentences_of(line)
            left_out += [sentence for sentence in sentences if not self.support(sentence)]
            rest = " ".join(sentence for sentence in sentences if self.support(sentence))
            if rest or not sentences:
                kept.append(rest)
        return "\n".join(kept).strip(), left_out


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]
