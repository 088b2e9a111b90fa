"""The router that needs nothing: it finds each group's own words in the question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from ecowas_lc._language import guess_language
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, Thresholds, checked_question
from ecowas_lc.supervisor.routing.text import accented_words, fold, words
from ecowas_lc.twg import TWG, default_groups, example_questions, general_cues, validate_groups

THRESHOLDS = Thresholds(first=0.5, further=0.6)

# Logistic regression on the example questions, one model for all groups so that it holds for anybody's own: what
# counts is the weight of a group's words, of its strongest rival's, and of the words that speak against any group:
# general ones (greetings, the summit at large) and those from elsewhere (poems, football).
# ``python -m ecowas_lc.supervisor.routing.build`` prints them afresh.
OWN, RIVAL, GENERAL, ELSEWHERE, BIAS = 10.09, -2.50, -3.06, -6.37, -2.73

_GENERAL, _ELSEWHERE, _NEUTRAL = "|general", "|elsewhere", "|neutral"  # no group's id may hold a bar


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the words of a question say: weights per group, the terms behind them, and the words against."""

    weights: Mapping[str, float]
    terms: Mapping[str, tuple[str, ...]]
    general: float
    elsewhere: float

    def relevance(self) -> dict[str, float]:
        """Return for each group, between 0 and 1, how sure the words are that the question concerns it."""
        return {group: logistic(*self.features(group)) for group in self.weights}

    def features(self, group: str) -> tuple[float, float, float, float]:
        """Return the group's own weight, its strongest rival's and the two against, each from 0 to 1."""
        rival = max((weight for other, weight in self.weights.items() if other != group), default=0.0)
        return (
            _saturate(self.weights[group]),
            _saturate(rival),
            _saturate(self.general),
            _saturate(self.elsewhere),
        )


class LexicalRouter:
    """Routes by vocabulary alone: deterministic, without a model, well under a millisecond a question.

    Raises:
        InvalidIdError, InvalidInputError: the groups or their terms can't be used.
    """

    def __init__(self, groups: Sequence[TWG] | None = None) -> None:
        self._groups = default_groups() if groups is None else validate_groups(groups)
        self._vocabulary = Vocabulary([*_own_terms(self._groups), *_terms_against(self._groups)])

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups whose words the question holds, the strongest first.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        evidence = self.evidence(checked_question(question))
        groups = THRESHOLDS.choose(evidence.relevance())
        if groups:
            found = "; ".join(f"{group} ({', '.join(evidence.terms[group])})" for group in groups)
            return RouteDecision(groups, "lexical", f"The question holds words of {found}.")
        if any(evidence.weights.values()):
            return RouteDecision((), "lexical", "The question's words point to no group clearly enough.")
        if evidence.general or evidence.elsewhere:
            return RouteDecision((), "lexical", "The question's words are general ones.")
        return RouteDecision((), "lexical", "No group's words are in the question.")

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns; it is quick enough not to leave the event loop."""
        return self.route(question)

    def evidence(self, question: str) -> Evidence:
        """Return what the words of a question say about each group."""
        weights = dict.fromkeys((*(group.id for group in self._groups), _GENERAL, _ELSEWHERE, _NEUTRAL), 0.0)
        terms: dict[str, list[str]] = {group.id: [] for group in self._groups}
        seen: set[tuple[str, str]] = set()
        for match in self._vocabulary.matches(question):
            for label, weight in match.weights.items():
                if (label, match.term) in seen:
                    continue
                seen.add((label, match.term))
                weights[label] += weight
                if label in terms:
                    terms[label].append(match.term)
        return Evidence(
            weights={group: weights[group] for group in terms},
            terms={group: tuple(found) for group, found in terms.items()},
            general=weights[_GENERAL],
            elsewhere=weights[_ELSEWHERE],
        )


def logistic(own: float, rival: float, general: float, elsewhere: float) -> float:
    """Return the relevance that these features of a group amount to."""
    return 1 / (1 + math.exp(-(OWN * own + RIVAL * rival + GENERAL * general + ELSEWHERE * elsewhere + BIAS)))


def _saturate(weight: float) -> float:
    return 1 - math.exp(-weight)


def _own_terms(groups: Sequence[TWG]) -> Iterator[Term]:
    for group in groups:
        for language, terms in group.terms.items():
            for term in terms:
                yield Term(term, group.id, language)
        for term in described_terms(group):
            yield Term(term, group.id)


def _terms_against(groups: Sequence[TWG]) -> Iterator[Term]:
    """Yield the general cues, but for those that one of the groups calls its own."""
    claimed = {tuple(words(parse_term(term.text)[0])) for term in _own_terms(groups)}
    labels = {"neutral": _NEUTRAL, "elsewhere": _ELSEWHERE}
    for kind, terms in general_cues().items():
        for term in terms:
            if kind == "neutral" or tuple(words(parse_term(term)[0])) not in claimed:
                yield Term(term, labels.get(kind, _GENERAL))


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


FEW_TERMS = 30
"""A group with fewer terms is also found by the words of its description."""

_WEIGHT = 0.8
_SHORTEST = 4
_MOST_FREQUENT = 4  # in about 2,000 questions; "regional" or "access" say nothing about any one group


def count_terms(group: TWG) -> int:
    """Return how many terms a group has in all languages."""
    return sum(map(len, group.terms.values()))


def described_terms(group: TWG) -> Iterator[str]:
    """Yield the telling words of a group's name and description, as terms for a vocabulary."""
    if count_terms(group) >= FEW_TERMS:
        return
    frequency = _word_frequency()
    for word in dict.fromkeys(words(f"{group.name} {group.description}")):
        if len(word) >= _SHORTEST and frequency[word] <= _MOST_FREQUENT:
            stem = f"{word[:-1]}*" if word.endswith("s") and len(word) > _SHORTEST else word
            yield f"{stem}^{_WEIGHT}"


@cache
def _word_frequency() -> Counter[str]:
    return Counter(word for example in example_questions() for word in set(words(example.question)))
