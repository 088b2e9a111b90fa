"""Finds weighted terms in a question: words, stems and phrases of all groups and languages in one pass."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing.text import fold, words

# Words that may stand between the words of a phrase: "pertes sur le réseau" is found by "pertes réseau".
_FILLERS = frozenset(
    words(
        "a an and of for the to in on our their its my your de du des la le les l d et sur en au aux un une nos "
        "da do das dos na no nas o os as e em para por um uma"
    )
)
_MOST_FILLERS = 2
_PART = re.compile(r"[^\W_]+\*?")


class Match(NamedTuple):
    """A term found in a question: the words it spans, its text, and the weight it has for each label."""

    start: int
    end: int
    term: str
    weights: dict[str, float]


@dataclass(slots=True)
class _Node:
    exact: dict[str, _Node] = field(default_factory=dict)
    stems: dict[str, _Node] = field(default_factory=dict)
    term: str = ""
    weights: dict[str, float] = field(default_factory=dict)

    def after(self, word: str) -> Iterator[_Node]:
        """Yield the nodes that ``word`` leads to, the more exact ones first."""
        if word in self.exact:
            yield self.exact[word]
        if self.stems:
            for length in range(len(word), 0, -1):
                if word[:length] in self.stems:
                    yield self.stems[word[:length]]


class Vocabulary:
    """Terms with the label each points to; one term may point to several labels.

    A term is a word or a phrase; a word that ends in ``*`` is a stem; ``^0.5`` behind the term gives a weight
    other than 1. Case, accents, hyphens and apostrophes make no difference. Where one term lies within
    another, only the longer one counts.

    Raises:
        InvalidInputError: a term without a letter, or with a weight that is no positive number.
    """

    def __init__(self, terms: Iterable[tuple[str, str]]) -> None:
        self._root = _Node()
        for term, label in terms:
            text, weight = parse_term(term)
            node = self._root
            for part in _PART.findall(fold(text)):
                children = node.stems if part.endswith("*") else node.exact
                node = children.setdefault(part.rstrip("*"), _Node())
            node.term = text
            node.weights[label] = max(weight, node.weights.get(label, 0.0))

    def matches(self, question: Sequence[str]) -> list[Match]:
        """Return the terms found among a question's folded words, in order, none inside another."""
        found: list[Match] = []
        covered = 0
        for start in range(len(question)):
            longest = self._longest(question, start)
            if longest is not None and longest.end > covered:
                found.append(longest)
                covered = longest.end
        return found

    def _longest(self, question: Sequence[str], start: int) -> Match | None:
        best: Match | None = None
        stack = [(self._root, start, 0)]
        while stack:
            node, position, skipped = stack.pop()
            if node.weights and (best is None or position > best.end):
                best = Match(start, position, node.term, node.weights)
            if position == len(question):
                continue
            word = question[position]
            inside = position > start
            if inside and skipped < _MOST_FILLERS and word in _FILLERS and (node.exact or node.stems):
                stack.append((node, position + 1, skipped + 1))
            stack.extend((child, position + 1, skipped) for child in node.after(word))
        return best


def parse_term(term: str) -> tuple[str, float]:
    """Split a term into its text and its weight.

    Raises:
        InvalidInputError: the term holds no letter or digit, or its weight is no positive number.
    """
    text, caret, number = term.partition("^")
    try:
        weight = float(number) if caret else 1.0
    except ValueError:
        weight = 0.0
    if not weight > 0 or math.isinf(weight):
        raise InvalidInputError(
            f"The weight of {term!r} is no positive number. Write it as in 'tariff*^0.5'."
        )
    if not _PART.search(text):
        raise InvalidInputError(f"The term {term!r} holds no letter and no digit. Remove it.")
    return text.strip(), weight
