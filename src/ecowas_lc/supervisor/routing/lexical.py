"""The router that needs nothing: it finds each group's own words in the question."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ecowas_lc.supervisor.routing.decision import RouteDecision, Thresholds, checked_question
from ecowas_lc.supervisor.routing.descriptions import described_terms
from ecowas_lc.supervisor.routing.text import words
from ecowas_lc.supervisor.routing.vocabulary import Term, Vocabulary, parse_term
from ecowas_lc.twg import TWG, default_groups, general_cues, validate_groups

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

    def route(self, question: str) -> RouteDecision:
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

    async def aroute(self, question: str) -> RouteDecision:
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
