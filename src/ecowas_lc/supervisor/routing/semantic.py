"""The router by meaning: it compares the question with labelled questions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ecowas_lc import forks
from ecowas_lc.effects import aserve, serve
from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, Thresholds, checked_question, describe
from ecowas_lc.supervisor.routing.embedding import (
    SHIPPED_TURNS,
    Embedder,
    OfflineEmbeddings,
    embed,
    example_vectors,
    name_of,
)
from ecowas_lc.supervisor.routing.kernel import Array, KernelModel, best_threshold
from ecowas_lc.supervisor.routing.lexical import THRESHOLDS as BY_WORDS
from ecowas_lc.supervisor.routing.lexical import LexicalRouter, WordEvidence, parse_term
from ecowas_lc.supervisor.routing.meaning import (
    Asking,
    KindsOf,
    Likeness,
    LikenessOf,
    best_share,
    deciding,
    without,
)
from ecowas_lc.supervisor.routing.turns import KINDS, SUBJECT, learnt_turns
from ecowas_lc.twg import TWG, default_groups, example_questions, validate_groups

THRESHOLDS = Thresholds(first=0.4, further=0.5)

# A group that is only described scores lower than one with examples; measured by describing each of the six.
_DESCRIBED_THRESHOLD = 0.1
_TOWARDS_CENTRE = 0.5
_EVERY_SUBJECT = 4  # only every fourth example represents turns that name a subject, or they would outweigh others

T = TypeVar("T")

log = logging.getLogger(__name__)


class SemanticRouter:
    """A router by sentence embeddings: any LangChain ``Embeddings``, or offline ones (``None``).

    The first question takes longer: the vectors of about 1,200 example questions are read, or computed if they are
    not stored, and a small model is trained on them (0.2 s offline). If the embeddings fail, the lexical router
    decides, and the decision says so.

    Raises:
        MissingExtraError: No embeddings are given and the extra ``semantic`` is not installed.
        InvalidIdError, InvalidInputError: The groups are not usable.
    """

    def __init__(
        self,
        groups: Sequence[TWG] | None = None,
        embeddings: Embedder | None = None,
        *,
        cache_dir: Path | None = None,
    ) -> None:
        self._groups = default_groups() if groups is None else validate_groups(groups)
        self._embedder = OfflineEmbeddings() if embeddings is None else embeddings
        self.embedder_name = name_of(self._embedder)
        self._words = LexicalRouter(self._groups)
        self._cache_dir = cache_dir
        self._trained: _Trained | None = None
        self._training = forks.Lock()

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups whose labelled questions are similar to this one, the most relevant first.

        Raises:
            EmptyQuestionError: The question contains no text.
        """
        question = checked_question(question)
        try:
            return self.run(deciding(question, conversation, self._words, _decide, THRESHOLDS))
        except Exception as error:  # embeddings may raise anything; still route the question
            return self._by_words(question, conversation, error)

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        question = checked_question(question)
        try:
            return await self.arun(deciding(question, conversation, self._words, _decide, THRESHOLDS))
        except Exception as error:  # embeddings may raise anything; still route the question
            return self._by_words(question, conversation, error)

    def run(self, program: Asking[T]) -> T:
        """Run a program, answering its requests; blocks, and raises whatever the embeddings raise."""

        def answer(asked: Any) -> Any:
            trained = self._train()
            if isinstance(asked, KindsOf):
                trained.learn_kinds()
            return trained.answer(asked, self._embedder.embed_query(asked.text))

        return serve(program, answer)

    async def arun(self, program: Asking[T]) -> T:
        """Run a program as :meth:`run` does, without blocking the event loop."""

        async def answer(asked: Any) -> Any:
            trained = self._trained
            if trained is None:
                trained = await asyncio.to_thread(self._train)
            if isinstance(asked, KindsOf) and not trained.knows_kinds:
                await asyncio.to_thread(trained.learn_kinds)
            return trained.answer(asked, await self._embedder.aembed_query(asked.text))

        return await aserve(program, answer)

    def _by_words(self, question: str, conversation: Sequence[PastTurn], error: Exception) -> RouteDecision:
        reason = describe(error)
        log.warning("Embeddings failed, so words decide the route: %s", reason)
        decision = self._words.route(question, conversation=conversation)
        return replace(decision, reason=f"The embeddings failed ({reason}). {decision.reason}")

    def _train(self) -> _Trained:
        with self._training:  # train once, however many threads ask the first question
            if self._trained is not None:
                return self._trained
            if isinstance(self._embedder, OfflineEmbeddings):
                trained = _trained_offline(tuple(self._groups))
            else:
                trained = _Trained(self._groups, self._words, self._embedder, self._cache_dir)
            self._trained = trained
            return trained


class _Trained:
    """The model behind a router's groups, and the scale that makes the minimum relevance the same for all."""

    def __init__(
        self, groups: Sequence[TWG], words: LexicalRouter, embedder: Embedder, cache_dir: Path | None
    ) -> None:
        lesson = prepare(groups, words)
        questions = [example.question for example in example_questions()]
        everything = example_vectors(embedder, questions, cache_dir=cache_dir)
        centre = everything.mean(axis=0)
        self._ids = tuple(group.id for group in groups)
        self._sentences = [questions[row] for row in lesson.rows]
        blocks: list[Array] = [everything[list(lesson.rows)]]
        labels = [[float(group in concerned) for group in self._ids] for concerned in lesson.labels]
        for group, sentences in lesson.described.items():
            own = embed(embedder, sentences)
            blocks.append(own + _TOWARDS_CENTRE * (centre - own.mean(axis=0)))
            labels.extend([float(group == other) for other in self._ids] for _ in sentences)
            self._sentences.extend(sentences)
        truth = np.asarray(labels)
        self._model = KernelModel(np.concatenate(blocks), truth, centre)
        known = [column for column, group in enumerate(self._ids) if group not in lesson.described]
        rows = len(lesson.rows)
        further = THRESHOLDS.further / THRESHOLDS.first
        left_out, truth = self._model.left_out[:rows, known], truth[:rows, known]
        threshold = best_threshold(left_out, truth, further)
        self._scale = THRESHOLDS.first / np.array(
            [_DESCRIBED_THRESHOLD if group in lesson.described else threshold for group in self._ids]
        )

        by_words = np.array([_by_words(words, self._sentences[row], self._ids) for row in range(rows)])[:, known]
        meaning = np.clip(left_out * THRESHOLDS.first / threshold, 0, 1)
        self._words_share = best_share(by_words, meaning, truth)

        self._learning = (embedder, everything, centre, cache_dir)
        self._kinds: KernelModel | None = None
        self._lock = forks.Lock()

    @property
    def knows_kinds(self) -> bool:
        """Whether :meth:`learn_kinds` has finished."""
        return self._kinds is not None

    def learn_kinds(self) -> None:
        """Learn the kinds of turns in a conversation; only conversations wait for this."""
        with self._lock:
            if self._kinds is not None:
                return
            embedder, examples, centre, cache_dir = self._learning
            turns = learnt_turns()
            texts = [turn.text for turn in turns]
            vectors = example_vectors(embedder, texts, cache_dir=cache_dir, shipped=SHIPPED_TURNS)
            asked = [row for row, example in enumerate(example_questions()) if example.groups][::_EVERY_SUBJECT]
            kinds = [turn.kind for turn in turns] + [SUBJECT] * len(asked)
            truth = np.array([[float(kind == other) for other in KINDS] for kind in kinds])
            self._kinds = KernelModel(np.concatenate([vectors, examples[asked]]), truth, centre)

    def answer(self, asked: LikenessOf | KindsOf, vector: Sequence[float]) -> Likeness:
        """Return the likeness of a text with this vector."""
        read = np.asarray(vector, dtype=np.float64)
        scores, nearest = self._model.scores(read)
        relevance = np.clip(scores * self._scale, 0, 1)
        kinds: dict[str, float] = {}
        if isinstance(asked, KindsOf) and self._kinds is not None:
            chances = np.clip(self._kinds.scores(read)[0], 0, 1)
            kinds = dict(zip(KINDS, (chances / max(float(chances.sum()), 1e-9)).tolist(), strict=True))
        return Likeness(
            relevance=dict(zip(self._ids, relevance.tolist(), strict=True)),
            nearest=self._sentences[nearest],
            words_share=self._words_share,
            kinds=kinds,
        )


def _by_words(words: LexicalRouter, sentence: str, groups: Sequence[str]) -> list[float]:
    relevance = words.evidence(sentence).relevance()
    return [relevance[group] for group in groups]


@lru_cache(maxsize=4)
def _trained_offline(groups: tuple[TWG, ...]) -> _Trained:
    """Return the trained model for these groups, shared because the offline embeddings never change."""
    return _Trained(groups, LexicalRouter(groups), OfflineEmbeddings(), None)


def _decide(evidence: WordEvidence, likeness: Likeness) -> RouteDecision:
    relevance = without(likeness.relevance, evidence)
    groups = THRESHOLDS.choose(relevance)
    if groups:
        found = ", ".join(f"{group} {relevance[group]:.2f}" for group in groups)
        reason = f"Similar to questions for {found}; nearest: {likeness.nearest!r}."
    else:
        reason = f"No group's questions are similar; nearest: {likeness.nearest!r}."
    return RouteDecision(
        groups,
        "semantic",
        reason,
        scores=relevance,
        words=evidence.found,
        nearest=likeness.nearest,
        question=evidence.focus.text,
        thresholds=THRESHOLDS.as_pair(),
    )


_MOST_TERMS = 24
_LEAST_WEIGHT = 0.7

# A bare term lies far from any question in the vector space; these phrases move it to where questions lie.
_ASKED = ("What should be done about {}?", "How does {} work?")


@dataclass(frozen=True, slots=True)
class Lesson:
    """The example questions that count for a set of groups, and substitutes for groups without examples.

    ``rows`` are positions in :func:`ecowas_lc.twg.example_questions` and ``labels`` the groups of each;
    ``described`` maps each group without examples to sentences made of its name, description and terms.
    """

    rows: tuple[int, ...]
    labels: tuple[tuple[str, ...], ...]
    described: dict[str, tuple[str, ...]]


def prepare(groups: Sequence[TWG], words: LexicalRouter) -> Lesson:
    """Return the training material for these groups.

    Examples apply to the summit's own groups as long as their descriptions are unchanged. Examples of groups that
    are missing here are left out, since another group may cover their field. An example that contains a described
    group's own words also counts for that group.
    """
    ours = {group.id: group.description for group in default_groups()}
    known = {group.id for group in groups if ours.get(group.id) == group.description}
    described = {group.id: tuple(_sentences(group)) for group in groups if group.id not in known}
    rows: list[int] = []
    labels: list[tuple[str, ...]] = []
    for row, example in enumerate(example_questions()):
        if not known.issuperset(example.groups):
            continue
        own: tuple[str, ...] = ()
        if described:
            relevance = words.evidence(example.question).relevance()
            own = tuple(group for group in described if relevance[group] >= BY_WORDS.first)
        rows.append(row)
        labels.append(example.groups + own)
    return Lesson(tuple(rows), tuple(labels), described)


def _sentences(group: TWG) -> Iterator[str]:
    yield group.name
    if group.description.strip():
        yield group.description
    subjects = [part.strip(" .") for part in group.description.replace(":", ",").replace(";", ",").split(",")]
    for subject in dict.fromkeys([*filter(None, subjects), *_terms(group)]):
        for question in _ASKED:
            yield question.format(subject)


def _terms(group: TWG) -> list[str]:
    """Return the group's clearest terms, alternating between the languages."""
    by_language = [
        [
            text.replace("*", "").replace("=", "")
            for text, weight in map(parse_term, terms)
            if weight >= _LEAST_WEIGHT
        ]
        for terms in group.terms.values()
    ]
    turns = chain.from_iterable(zip_longest(*by_language))
    return list(islice((term for term in turns if term), _MOST_TERMS))
