"""The default router: words and meaning together, and a model only where it has proved to know better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecowas_lc._embeddings import offline_installed
from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, checked_question, describe
from ecowas_lc.supervisor.routing.embedding import Embedder, check_embeddings
from ecowas_lc.supervisor.routing.lexical import THRESHOLDS as BY_WORDS
from ecowas_lc.supervisor.routing.lexical import LexicalRouter, count_terms
from ecowas_lc.supervisor.routing.measurement import groups_digest, load_measurement
from ecowas_lc.supervisor.routing.mixing import RICH_VOCABULARY, THRESHOLDS, mix
from ecowas_lc.supervisor.routing.model import ModelRouter
from ecowas_lc.twg import TWG, default_groups, validate_groups

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ecowas_lc.supervisor.routing.semantic import Likeness, SemanticRouter

# How near to its threshold a group may be before the decision counts as unsure.
UNSURE_TOGETHER = 0.1
UNSURE_BY_WORDS = 0.45  # takes in the question in which no group's words are found

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the cheap routers say together, and whether they are unsure of it."""

    decision: RouteDecision
    is_unsure: bool


class HybridRouter:
    """Combines what is installed: vocabulary always, embeddings where there are any, a model where it helps.

    Embeddings are those given, else the offline ones if the extra ``semantic`` is installed. The model is asked
    only when the others are unsure, and only if ``ask_model`` is true or, at ``None``, if ``ecowas-lc eval
    --model`` has measured that it does better than they do on such questions. No measuring happens here:
    routing must not cost what nobody asked for.

    Raises:
        ConfigurationError: ``model`` is no chat model, or ``embeddings`` are none.
        MissingExtraError: embeddings were given and numpy is not installed.
        InvalidIdError, InvalidInputError: the groups can't be used.
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
        self.beside = "words" if self._meaning is None else f"words and {self._meaning.embedder_name}"
        self._model = None if model is None or ask_model is False else ModelRouter(model, self._groups)
        if self._model is not None and ask_model is None:
            measured = load_measurement(
                self._model.model_name, groups_digest(self._groups), self.beside, measurements
            )
            if measured is None or not measured.is_better:
                self._model = None

    @property
    def asks_model(self) -> bool:
        """Whether a model is asked where the other routers are unsure."""
        return self._model is not None

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups that the question concerns, the most relevant first.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        weighed = self.weigh(question)
        if self._model is None or not weighed.is_unsure:
            return weighed.decision
        return _second_opinion(weighed.decision, self._model.route(question))

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        weighed = await self.aweigh(question)
        if self._model is None or not weighed.is_unsure:
            return weighed.decision
        return _second_opinion(weighed.decision, await self._model.aroute(question))

    def weigh(self, question: str) -> Weighed:
        """Return what words and meaning say of a question, without asking a model.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        question = checked_question(question)
        if self._meaning is None:
            return self._by_words(question)
        try:
            likeness = self._meaning.likeness(question)
        except Exception as error:  # embeddings are anybody's code, and a question must find its way without
            return self._by_words(question, error)
        return self._together(question, likeness)

    async def aweigh(self, question: str) -> Weighed:
        """Return what :meth:`weigh` returns, without blocking the event loop."""
        question = checked_question(question)
        if self._meaning is None:
            return self._by_words(question)
        try:
            likeness = await self._meaning.alikeness(question)
        except Exception as error:  # as above
            return self._by_words(question, error)
        return self._together(question, likeness)

    def _by_words(self, question: str, error: Exception | None = None) -> Weighed:
        decision = self._words.route(question)
        if error is not None:
            problem = describe(error)
            log.warning("The embeddings failed, the words decide: %s", problem)
            decision = RouteDecision(
                decision.groups, decision.source, f"The embeddings failed ({problem}). {decision.reason}"
            )
        relevance = self._words.evidence(question).relevance()
        return Weighed(decision, BY_WORDS.is_near(relevance, UNSURE_BY_WORDS))

    def _together(self, question: str, likeness: Likeness) -> Weighed:
        evidence = self._words.evidence(question)
        by_words = evidence.relevance()
        relevance: dict[str, float] = {}
        for group, like in likeness.relevance.items():
            spoken = 1.0 if evidence.weights[group] else self._telling_silence[group]
            relevance[group] = mix(by_words[group], like, likeness.words_share * spoken)
        groups = THRESHOLDS.choose(relevance)
        found = ", ".join(f"{group} {relevance[group]:.2f}" for group in groups) or "no group"
        terms = ", ".join(dict.fromkeys(term for group in groups for term in evidence.terms[group])) or "none"
        reason = f"Words and meaning point to {found}; words found: {terms}; nearest: {likeness.nearest!r}."
        decision = RouteDecision(groups, "semantic", reason)
        return Weighed(decision, THRESHOLDS.is_near(relevance, UNSURE_TOGETHER))


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
    except (ImportError, OSError, RuntimeError) as error:  # installed, yet its engine does not load here
        log.warning("The offline embeddings can't be used, the words decide: %s", describe(error))
        return None


def _second_opinion(own: RouteDecision, asked: RouteDecision) -> RouteDecision:
    if asked.source not in ("model", "repaired"):
        return RouteDecision(own.groups, own.source, f"{own.reason} They were unsure, but {asked.reason}")
    return RouteDecision(asked.groups, asked.source, f"{asked.reason} Unsure before: {own.reason}")
