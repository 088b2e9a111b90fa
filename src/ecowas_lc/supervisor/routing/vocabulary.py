"""Finds weighted terms in a question: words, stems and phrases of all groups and languages in one pass."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.language import guess_language
from ecowas_lc.supervisor.routing.text import accented_words, fold, words

# Words that may stand between the words of a phrase: "pertes sur le réseau" is found by "pertes réseau".
_FILLERS = frozenset(
    words(
        """a an and of for the to in on our their its my your de du des la le les l d et sur en au aux un une nos
        da do das dos na no nas o os as e em para por um uma"""
    )
)
_MOST_FILLERS = 2
_PART = re.compile(r"=?[^\W_]+\*?")
_OTHER_LANGUAGE = 0.55  # "data" is a date in Portuguese; yet technical English is at home in all three


class Term(NamedTuple):
    """A term as a group's data give it, the label it points to, and its language (``""``: any)."""

    text: str
    label: str
    language: str = ""


class Match(NamedTuple):
    """A term found in a question: the words it spans, its text, and how much it weighs for each label."""

    start: int
    end: int
    term: str
    weights: dict[str, float]


@dataclass(slots=True)
class _Node:
    exact: dict[str, _Node] = field(default_factory=dict)
    stems: dict[str, _Node] = field(default_factory=dict)
    term: str = ""
    weights: dict[tuple[str, str], float] = field(default_factory=dict)  # by label and language

    def after(self, word: str, accented: str) -> Iterator[_Node]:
        """Yield the nodes that a word leads to, the most exact first."""
        if word in self.exact:
            yield self.exact[word]
        if accented != word and "=" + accented in self.exact:
            yield self.exact["=" + accented]
        if self.stems:
            for length in range(len(word), 0, -1):
                if word[:length] in self.stems:
                    yield self.stems[word[:length]]


class Vocabulary:
    """Terms with the label each points to; one term may point to several labels.

    A term is a word or a phrase; a word that ends in ``*`` is a stem; a word that starts with ``=`` needs its
    accents (``=maïs`` is not ``mais``); ``^0.5`` behind the term gives a weight other than 1. Else case, accents,
    hyphens and apostrophes make no difference. Where one term lies within another, only the longer one
    counts; of those that span the same words, a less exact one counts only in the languages of the most exact:
    a *banquet* is no *banque*. A term weighs less in a question that is plainly in another language.

    Raises:
        InvalidInputError: a term without a letter, or with a weight that is no positive number.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self._root = _Node()
        self._languages: set[str] = set()
        for term in terms:
            text, weight = parse_term(term.text)
            node = self._root
            for part in _parts(text):
                children = node.stems if part.endswith("*") else node.exact
                node = children.setdefault(part.rstrip("*"), _Node())
            node.term = text
            key = (term.label, term.language)
            node.weights[key] = max(weight, node.weights.get(key, 0.0))
            self._languages.add(term.language)

    def matches(self, question: str) -> list[Match]:
        """Return the terms found in a question, in order, none inside another."""
        folded, accented = words(question), accented_words(question)
        if len(accented) != len(folded):  # letters that fold into several words or none: rare scripts
            accented = folded
        language = guess_language(question)
        found: list[Match] = []
        covered = 0
        for start in range(len(folded)):
            end, nodes = self._longest(folded, accented, start)
            if nodes and end > covered:
                found.append(Match(start, end, nodes[0].term, _weigh(nodes, language)))
                covered = end
        return found

    def _longest(self, folded: Sequence[str], accented: Sequence[str], start: int) -> tuple[int, list[_Node]]:
        """Return where the longest terms from ``start`` on end, and their nodes, the most exact first."""
        longest: tuple[int, list[_Node]] = (start, [])
        stack = [(self._root, start, 0, False)]
        while stack:
            node, position, skipped, behind_filler = stack.pop()
            if node.weights and not behind_filler:  # a term ends with a word of its own
                if position > longest[0]:
                    longest = (position, [node])
                elif position == longest[0]:
                    longest[1].append(node)
            if position == len(folded):
                continue
            word = folded[position]
            if start < position and skipped < _MOST_FILLERS and word in _FILLERS and (node.exact or node.stems):
                stack.append((node, position + 1, skipped + 1, True))
            children = list(node.after(word, accented[position]))
            stack.extend(
                (child, position + 1, skipped, False) for child in reversed(children)
            )  # the last is taken first
        return longest


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
        raise InvalidInputError(f"The weight of {term!r} is no positive number. Write it as in 'tariff*^0.5'.")
    if not _PART.search(text):
        raise InvalidInputError(f"The term {term!r} holds no letter and no digit. Remove it.")
    return text.strip(), weight


def _parts(text: str) -> list[str]:
    """Return a term's words as the tree spells them: folded, but for those that need their accents."""
    return [part if part.startswith("=") else fold(part) for part in _PART.findall(text.lower())]


def _weigh(nodes: Sequence[_Node], language: str | None) -> dict[str, float]:
    """Return what terms that span the same words weigh for each label, in a question in ``language``."""
    languages = {own for _, own in nodes[0].weights}
    weights: dict[str, float] = {}
    for node in nodes:
        fresh: dict[str, float] = {}
        for (label, own), weight in node.weights.items():
            if label in weights or (own and own not in languages):
                continue
            foreign = language is not None and own in ("en", "fr", "pt") and own != language
            fresh[label] = max(fresh.get(label, 0.0), weight * (_OTHER_LANGUAGE if foreign else 1.0))
        weights |= fresh
    return weights
