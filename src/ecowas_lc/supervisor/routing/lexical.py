"""The router that needs nothing: it finds each group's own words in the question."""

from __future__ import annotations

from collections.abc import Sequence

from ecowas_lc.supervisor.routing.decision import RouteDecision, checked_question
from ecowas_lc.supervisor.routing.text import words
from ecowas_lc.supervisor.routing.vocabulary import Vocabulary
from ecowas_lc.twg import TWG, default_groups, validate_groups

LEAST_SCORE = 0.7
LEAST_SHARE = 0.4


class LexicalRouter:
    """Routes by vocabulary alone: deterministic, without a model, well under a millisecond a question.

    Raises:
        InvalidIdError, InvalidInputError: the groups or their terms can't be used.
    """

    def __init__(self, groups: Sequence[TWG] | None = None) -> None:
        self._groups = default_groups() if groups is None else validate_groups(groups)
        self._vocabulary = Vocabulary(
            (term, group.id) for group in self._groups for terms in group.terms.values() for term in terms
        )

    def route(self, question: str) -> RouteDecision:
        """Return the groups whose words the question holds, the strongest first.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        scores, evidence = self._score(checked_question(question))
        best = max(scores.values())
        least = max(LEAST_SCORE, LEAST_SHARE * best)
        chosen = sorted((g for g in scores if scores[g] >= least), key=lambda g: -scores[g])
        if not chosen:
            return RouteDecision((), "lexical", "No group's words are in the question.")
        found = "; ".join(f"{g}: {', '.join(evidence[g])}" for g in chosen)
        return RouteDecision(tuple(chosen), "lexical", f"Words found for {found}.")

    async def aroute(self, question: str) -> RouteDecision:
        """Return what :meth:`route` returns; it is quick enough not to leave the event loop."""
        return self.route(question)

    def _score(self, question: str) -> tuple[dict[str, float], dict[str, list[str]]]:
        scores = {group.id: 0.0 for group in self._groups}
        evidence: dict[str, list[str]] = {group.id: [] for group in self._groups}
        for match in self._vocabulary.matches(words(question)):
            for label, weight in match.weights.items():
                if match.term not in evidence[label]:
                    scores[label] += weight
                    evidence[label].append(match.term)
        return scores, evidence
