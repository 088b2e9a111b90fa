"""A router's accuracy on labelled questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from ecowas_lc._display import Displayed
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing import RouteDecision, Router
from ecowas_lc.twg import LabelledQuestion

NO_GROUP = "(none)"
"""The label for "no group" in a confusion table."""


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One group's figures: how many questions concern it, and how they and other questions were routed."""

    n: int
    precision: float
    recall: float
    f1: float
    added: int
    missed: int


@dataclass(frozen=True, slots=True)
class LanguageScore:
    """One language's figures."""

    n: int
    micro_f1: float
    exact_set: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A question that was not sent to exactly its groups."""

    question: LabelledQuestion
    decision: RouteDecision


@dataclass(frozen=True, slots=True)
class RouterReport(Displayed):
    """A router's figures over ``n`` questions.

    ``micro_f1`` counts every correct, added and missed group equally; ``exact_set`` is the share of questions sent
    to exactly their groups. ``ms_per_question`` is the median time of a decision in milliseconds, after a first
    decision that loads what the router needs. ``sources`` counts what made the decisions.
    ``confusion[expected][chosen]`` counts groups; if a question has more or fewer groups than were chosen, the
    surplus is paired with :data:`NO_GROUP`.
    """

    n: int
    micro_f1: float
    exact_set: float
    ms_per_question: float
    by_group: dict[str, GroupScore]
    by_language: dict[str, LanguageScore]
    sources: dict[str, int]
    confusion: dict[str, dict[str, int]]
    mistakes: tuple[Mistake, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures ready for JSON, rounded to four places, without the mistakes."""
        return {
            "n": self.n,
            "micro_f1": round(self.micro_f1, 4),
            "exact_set": round(self.exact_set, 4),
            "ms_per_question": round(self.ms_per_question, 4),
            "by_group": {
                group: {
                    "n": score.n,
                    "precision": round(score.precision, 4),
                    "recall": round(score.recall, 4),
                    "f1": round(score.f1, 4),
                    "added": score.added,
                    "missed": score.missed,
                }
                for group, score in self.by_group.items()
            },
            "by_language": {
                language: {
                    "n": score.n,
                    "micro_f1": round(score.micro_f1, 4),
                    "exact_set": round(score.exact_set, 4),
                }
                for language, score in self.by_language.items()
            },
            "sources": dict(self.sources),
        }


def evaluate(
    router: Router,
    questions: Iterable[LabelledQuestion],
    *,
    on_question: Callable[[int, int], None] | None = None,
) -> RouterReport:
    """Route every question and return the figures.

    ``on_question(done, total)`` is called after each question.

    Raises:
        InvalidInputError: There is no question.
    """
    asked = tuple(questions)
    if not asked:
        raise InvalidInputError("There is no question to evaluate on. Pass at least one.")
    router.route(asked[0].question)
    outcomes: list[Mistake] = []
    seconds: list[float] = []
    for done, question in enumerate(asked, start=1):
        started = perf_counter()
        decision = router.route(question.question)
        seconds.append(perf_counter() - started)
        outcomes.append(Mistake(question, decision))
        if on_question is not None:
            on_question(done, len(asked))
    labels = _labels(outcomes)
    languages = dict.fromkeys(question.language for question in asked)
    return RouterReport(
        n=len(asked),
        micro_f1=_micro_f1(outcomes),
        exact_set=_exact_set(outcomes),
        ms_per_question=1000 * median(seconds),
        by_group={label: _group_score(label, outcomes) for label in labels},
        by_language={language: _language_score(language, outcomes) for language in languages},
        sources=dict(Counter(outcome.decision.source for outcome in outcomes)),
        confusion=_confusion(labels, outcomes),
        mistakes=tuple(outcome for outcome in outcomes if not _is_exact(outcome)),
    )


def _labels(outcomes: Sequence[Mistake]) -> tuple[str, ...]:
    expected = dict.fromkeys(group for outcome in outcomes for group in outcome.question.groups)
    return tuple(expected | dict.fromkeys(group for outcome in outcomes for group in outcome.decision.groups))


def _is_exact(outcome: Mistake) -> bool:
    return set(outcome.question.groups) == set(outcome.decision.groups)


def _exact_set(outcomes: Sequence[Mistake]) -> float:
    return sum(map(_is_exact, outcomes)) / len(outcomes)


def _micro_f1(outcomes: Sequence[Mistake]) -> float:
    right = sum(len({*outcome.question.groups} & {*outcome.decision.groups}) for outcome in outcomes)
    named = sum(len({*outcome.question.groups}) + len({*outcome.decision.groups}) for outcome in outcomes)
    return 2 * right / named if named else 1.0


def _group_score(group: str, outcomes: Sequence[Mistake]) -> GroupScore:
    expected = sum(group in outcome.question.groups for outcome in outcomes)
    chosen = sum(group in outcome.decision.groups for outcome in outcomes)
    right = sum(group in outcome.question.groups and group in outcome.decision.groups for outcome in outcomes)
    return GroupScore(
        n=expected,
        precision=right / chosen if chosen else 1.0,
        recall=right / expected if expected else 1.0,
        f1=2 * right / (expected + chosen),
        added=chosen - right,
        missed=expected - right,
    )


def _language_score(language: str, outcomes: Sequence[Mistake]) -> LanguageScore:
    own = [outcome for outcome in outcomes if outcome.question.language == language]
    return LanguageScore(n=len(own), micro_f1=_micro_f1(own), exact_set=_exact_set(own))


def _confusion(labels: Sequence[str], outcomes: Sequence[Mistake]) -> dict[str, dict[str, int]]:
    names = (*labels, NO_GROUP)
    table = {expected: dict.fromkeys(names, 0) for expected in names}
    for outcome in outcomes:
        expected, chosen = set(outcome.question.groups), set(outcome.decision.groups)
        for group in expected & chosen:
            table[group][group] += 1
        missed, added = sorted(expected - chosen), sorted(chosen - expected)
        for group in missed:
            for other in added or [NO_GROUP]:
                table[group][other] += 1
        if not missed:
            for other in added:
                table[NO_GROUP][other] += 1
        if not expected and not chosen:
            table[NO_GROUP][NO_GROUP] += 1
    return table
