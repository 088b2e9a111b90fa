"""The default router: words and meaning combined, and a model only if it was measured to do better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ecowas_lc._embeddings import offline_installed
from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, checked_question, describe
from ecowas_lc.supervisor.routing.embedding import Embedder, check_embeddings
from ecowas_lc.supervisor.routing.lexical import THRESHOLDS as BY_WORDS
from ecowas_lc.supervisor.routing.lexical import LexicalRouter, WordEvidence, count_terms
from ecowas_lc.supervisor.routing.meaning import (
    RICH_VOCABULARY,
    THRESHOLDS,
    Asking,
    Likeness,
    deciding,
    mix,
    without,
)
from ecowas_lc.supervisor.routing.measurement import groups_digest, load_measurement
from ecowas_lc.supervisor.routing.model import ModelRouter
from ecowas_lc.twg import TWG, default_groups, validate_groups

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ecowas_lc.supervisor.routing.semantic import SemanticRouter

# A decision is unsure if a group is this close to its threshold.
UNSURE_TOGETHER = 0.1
UNSURE_BY_WORDS = 0.45  # includes questions that contain no group's words

# A list of subjects, or a project's acronym, is clear in words but similar to no question: words this certain give
# a group at least this relevance. If words come from outside the subjects, similarity counts only half.
SURE_BY_WORDS, NAMED = 0.9, 0.55
_DOUBT = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The cheap routers' combined decision, and whether they are unsure of it."""

    decision: RouteDecision
    is_unsure: bool


class HybridRouter:
    """A router that combines what is installed: vocabulary always, embeddings if available, a model if it helps.

    A model is asked only if the other routers are unsure, and only if ``ask_model`` is true or, with ``None``, if
    ``ecowas-lc eval --model`` has measured that it does better on such questions. The router never measures by
    itself, because that would cost model calls that you did not ask for.

    Args:
        groups: The working groups; ``None`` means the summit's six.
        embeddings: Embeddings; ``None`` means the offline ones, if the extra ``semantic`` is installed.
        model: A chat model.
        ask_model: Whether to ask the model; ``None`` means if it was measured to help.
        measurements: The file with measurements; ``None`` means the user's own.

    Raises:
        ConfigurationError: ``model`` is not a chat model, or ``embeddings`` are not embeddings.
        MissingExtraError: Embeddings are given and numpy is not installed.
        InvalidIdError, InvalidInputError: The groups are not usable.
    """

    def __init__(
        self,
        groups: Sequence[TWG] | None = None,
        *,
        embeddings: Embedder | None = None,
        model: BaseChatModel | None = None,
        ask_model: bool | None = None,
        measurements: Path | None = None,
    ) -> None:
        self._groups = default_groups() if groups is None else validate_groups(groups)
        self._words = LexicalRouter(self._groups)
        self._telling_silence = {group.id: min(1, count_terms(group) / RICH_VOCABULARY) for group in self._groups}
        self._meaning = _semantic(self._groups, embeddings)
        self.cheap_router = "words" if self._meaning is None else f"words and {self._meaning.embedder_name}"
        self._model = None if model is None or ask_model is False else ModelRouter(model, self._groups)
        if self._model is not None and ask_model is None:
            measured = load_measurement(
                self._model.model_name, groups_digest(self._groups), self.cheap_router, measurements
            )
            if measured is None or not measured.is_better:
                self._model = None

    @property
    def asks_model(self) -> bool:
        """Whether a model is asked if the other routers are unsure."""
        return self._model is not None

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups that the question concerns, the most relevant first.

        Raises:
            EmptyQuestionError: The question contains no text.
        """
        weighed = self.weigh(question, conversation=conversation)
        if self._model is None or not weighed.is_unsure:
            return weighed.decision
        return _second_opinion(weighed.decision, self._model.route(question, conversation=conversation))

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        weighed = await self.aweigh(question, conversation=conversation)
        if self._model is None or not weighed.is_unsure:
            return weighed.decision
        return _second_opinion(weighed.decision, await self._model.aroute(question, conversation=conversation))

    def weigh(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> Weighed:
        """Return the decision by words and meaning, without asking a model.

        Raises:
            EmptyQuestionError: The question contains no text.
        """
        question = checked_question(question)
        if self._meaning is None:
            return self._by_words(question, conversation)
        try:
            return self._meaning.run(self._program(question, conversation))
        except Exception as error:  # embeddings may raise anything; still route the question
            return self._by_words(question, conversation, error)

    async def aweigh(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> Weighed:
        """Return what :meth:`weigh` returns, without blocking the event loop."""
        question = checked_question(question)
        if self._meaning is None:
            return self._by_words(question, conversation)
        try:
            return await self._meaning.arun(self._program(question, conversation))
        except Exception as error:  # embeddings may raise anything; still route the question
            return self._by_words(question, conversation, error)

    def _by_words(
        self, question: str, conversation: Sequence[PastTurn], error: Exception | None = None
    ) -> Weighed:
        decision = self._words.route(question, conversation=conversation)
        if error is not None:
            problem = describe(error)
            log.warning("Embeddings failed, so words decide the route: %s", problem)
            decision = replace(decision, reason=f"The embeddings failed ({problem}). {decision.reason}")
        return Weighed(decision, BY_WORDS.is_near(decision.scores, UNSURE_BY_WORDS))

    def _program(self, question: str, conversation: Sequence[PastTurn]) -> Asking[Weighed]:
        decision = yield from deciding(question, conversation, self._words, self._together, THRESHOLDS)
        plain = decision.source == "lexical"  # words decided, and embeddings were not asked
        return Weighed(decision, not plain and THRESHOLDS.is_near(decision.scores, UNSURE_TOGETHER))

    def _together(self, evidence: WordEvidence, likeness: Likeness) -> RouteDecision:
        by_words = evidence.relevance()
        by_meaning = without(likeness.relevance, evidence)
        relevance: dict[str, float] = {}
        for group, like in by_meaning.items():
            spoken = 1.0 if evidence.weights[group] else self._telling_silence[group]
            doubt = _DOUBT if evidence.elsewhere >= 1 and not evidence.weights[group] else 1.0
            relevance[group] = mix(by_words[group], doubt * like, likeness.words_share * spoken)
            if by_words[group] >= SURE_BY_WORDS:
                relevance[group] = max(relevance[group], NAMED)
        groups = THRESHOLDS.choose(relevance)
        found = ", ".join(f"{group} {relevance[group]:.2f}" for group in groups) or "no group"
        terms = ", ".join(dict.fromkeys(term for group in groups for term in evidence.terms[group])) or "none"
        return RouteDecision(
            groups,
            "semantic",
            f"Words and meaning point to {found}; words found: {terms}; nearest: {likeness.nearest!r}.",
            scores=relevance,
            words=evidence.found,
            nearest=likeness.nearest,
            question=evidence.focus.text,
            thresholds=THRESHOLDS.as_pair(),
        )


def _semantic(groups: Sequence[TWG], embeddings: Embedder | None) -> SemanticRouter | None:
    if embeddings is not None:
        check_embeddings(embeddings)
        from ecowas_lc.supervisor.routing.semantic import SemanticRouter

        return SemanticRouter(groups, embeddings)
    if not offline_installed():
        return None
    try:
        from ecowas_lc.supervisor.routing.semantic import SemanticRouter

        return SemanticRouter(groups)
    except (ImportError, OSError, RuntimeError) as error:  # installed, but its engine does not load
        log.warning("The offline embeddings can't be used, so words decide the route: %s", describe(error))
        return None


def _second_opinion(own: RouteDecision, asked: RouteDecision) -> RouteDecision:
    if asked.source not in ("model", "repaired"):
        return replace(own, reason=f"{own.reason} They were unsure, but {asked.reason}")
    taken = own.taken_over if own.taken_over and set(own.taken_over.groups) <= set(asked.groups) else None
    return replace(
        own,
        groups=asked.groups,
        source=asked.source,
        reason=f"{asked.reason} Unsure before: {own.reason}",
        taken_over=taken,
    )
