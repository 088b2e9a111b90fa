"""The default router: words and meaning together, and a model only where it has proved to know better."""

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
from ecowas_lc.supervisor.routing.lexical import Evidence, LexicalRouter, count_terms
from ecowas_lc.supervisor.routing.meaning import Asking, Likeness, deciding, without
from ecowas_lc.supervisor.routing.measurement import groups_digest, load_measurement
from ecowas_lc.supervisor.routing.mixing import RICH_VOCABULARY, THRESHOLDS, mix
from ecowas_lc.supervisor.routing.model import ModelRouter
from ecowas_lc.twg import TWG, default_groups, validate_groups

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ecowas_lc.supervisor.routing.semantic import SemanticRouter

# How near to its threshold a group may be before the decision counts as unsure.
UNSURE_TOGETHER = 0.1
UNSURE_BY_WORDS = 0.45  # takes in the question in which no group's words are found

# A list of subjects, or a project's acronym, is plain in words and like no question: words this sure make a group
# at least this relevant. Where words come from elsewhere, likeness alone counts for half.
SURE_BY_WORDS, NAMED = 0.9, 0.55
_DOUBT = 0.5

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
        """Return what words and meaning say of a question, without asking a model.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        question = checked_question(question)
        if self._meaning is None:
            return self._by_words(question, conversation)
        try:
            return self._meaning.run(self._program(question, conversation))
        except Exception as error:  # embeddings are anybody's code, and a question must find its way without
            return self._by_words(question, conversation, error)

    async def aweigh(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> Weighed:
        """Return what :meth:`weigh` returns, without blocking the event loop."""
        question = checked_question(question)
        if self._meaning is None:
            return self._by_words(question, conversation)
        try:
            return await self._meaning.arun(self._program(question, conversation))
        except Exception as error:  # as above
            return self._by_words(question, conversation, error)

    def _by_words(
        self, question: str, conversation: Sequence[PastTurn], error: Exception | None = None
    ) -> Weighed:
        decision = self._words.route(question, conversation=conversation)
        if error is not None:
            problem = describe(error)
            log.warning("The embeddings failed, the words decide: %s", problem)
            decision = replace(decision, reason=f"The embeddings failed ({problem}). {decision.reason}")
        return Weighed(decision, BY_WORDS.is_near(decision.scores, UNSURE_BY_WORDS))

    def _program(self, question: str, conversation: Sequence[PastTurn]) -> Asking[Weighed]:
        decision = yield from deciding(question, conversation, self._words, self._together, THRESHOLDS)
        plain = decision.source == "lexical"  # words left no doubt, and nothing else was asked
        return Weighed(decision, not plain and THRESHOLDS.is_near(decision.scores, UNSURE_TOGETHER))

    def _together(self, evidence: Evidence, likeness: Likeness) -> RouteDecision:
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
    except (ImportError, OSError, RuntimeError) as error:  # installed, yet its engine does not load here
        log.warning("The offline embeddings can't be used, the words decide: %s", describe(error))
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
