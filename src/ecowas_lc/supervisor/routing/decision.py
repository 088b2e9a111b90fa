"""A router's decision, and the protocol that makes any object a router."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from ecowas_lc._display import Displayed
from ecowas_lc.errors import EmptyQuestionError

DecisionSource = Literal["model", "repaired", "semantic", "lexical"]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier question of the conversation and the groups that it went to; empty if the supervisor answered."""

    question: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundWord:
    """A word or phrase of the question that points to a group, as written: ``question[start:end]``."""

    text: str
    start: int
    end: int
    group: str


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a follow-up continues: the groups, and the earlier turn from which they were taken.

    ``turn`` counts from 0, the oldest turn of the conversation.
    """

    groups: tuple[str, ...]
    turn: int
    question: str


@dataclass(frozen=True, slots=True)
class RouteDecision(Displayed):
    """The groups that a question concerns, the most relevant first; empty if the supervisor answers itself.

    The evidence is filled in as far as the router has it.

    Attributes:
        groups: The groups' ids.
        source: What made the decision, such as a router's name (``"repaired"``: the model, on its second attempt).
        reason: Why, in one English sentence.
        scores: The relevance of each group by the question's own words, from 0 to 1.
        words: The words that point to a group.
        nearest: The labelled question most similar to this one.
        taken_over: What comes from an earlier turn.
        question: The question.
        thresholds: The relevance required of the most relevant group, and of any further one.
    """

    groups: tuple[str, ...]
    source: str
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    words: tuple[FoundWord, ...] = ()
    nearest: str | None = None
    taken_over: TakenOver | None = None
    question: str = field(default="", compare=False, repr=False)
    thresholds: tuple[float, float] | None = field(default=None, compare=False, repr=False)


@runtime_checkable
class Router(Protocol):
    """An object that finds the groups that a question concerns, with a blocking and an async method.

    A router that also takes the keyword argument ``conversation`` is a :class:`ConversationRouter`;
    :func:`with_conversation` turns any router into one.
    """

    def route(self, question: str) -> RouteDecision:
        """Return the groups that a question concerns.

        Args:
            question: The question.

        Returns:
            The decision.

        Raises:
            EmptyQuestionError: The question contains no text.
        """
        ...

    async def aroute(self, question: str) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        ...


@runtime_checkable
class ConversationRouter(Protocol):
    """A router that also takes the turns before the question, the oldest first."""

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups that a question concerns, given the conversation before it.

        Args:
            question: The question.
            conversation: The earlier turns, oldest first.

        Returns:
            The decision.

        Raises:
            EmptyQuestionError: The question contains no text.
        """
        ...

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        ...


def with_conversation(router: Router) -> ConversationRouter:
    """Return a router that takes a conversation: the router itself if it does, else a wrapper that ignores it.

    A ``config`` that the router's methods take, as LangChain passes it to runnables, still reaches them.
    """
    if _takes(router.route, "conversation") and _takes(router.aroute, "conversation"):
        conversing: Any = router  # as its signature shows
        taking: ConversationRouter = conversing
        return taking
    return _QuestionOnly(router)


class _QuestionOnly:
    """Wraps a router of which one or both methods take only the question."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def route(self, question: str, config: Any = None, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        route: Callable[..., RouteDecision] = self._router.route
        return route(question, **_taken(route, config=config, conversation=conversation))

    async def aroute(
        self, question: str, config: Any = None, *, conversation: Sequence[PastTurn] = ()
    ) -> RouteDecision:
        aroute: Callable[..., Any] = self._router.aroute
        decision: RouteDecision = await aroute(
            question, **_taken(aroute, config=config, conversation=conversation)
        )
        return decision


def _takes(method: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(method).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _taken(method: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    parameters = inspect.signature(method).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


def checked_question(question: str) -> str:
    """Return the question without surrounding white space.

    Raises:
        EmptyQuestionError: The question is not text, or is blank.
    """
    if not isinstance(question, str) or not question.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    return question.strip()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The relevance, from 0 to 1, required of the most relevant group and of any further one.

    Further groups need more certainty: most questions concern one group, whatever else they mention.
    """

    first: float
    further: float

    def as_pair(self) -> tuple[float, float]:
        """Return both thresholds, the first group's first."""
        return self.first, self.further

    def choose(self, relevance: Mapping[str, float]) -> tuple[str, ...]:
        """Return the groups that are relevant enough, the most relevant first."""
        ranked = sorted(relevance, key=relevance.__getitem__, reverse=True)
        return tuple(group for group in ranked if relevance[group] >= self._least(group, ranked))

    def is_near(self, relevance: Mapping[str, float], distance: float) -> bool:
        """Return whether a group is so close to its threshold that the choice could easily have been different."""
        ranked = sorted(relevance, key=relevance.__getitem__, reverse=True)
        return any(abs(relevance[group] - self._least(group, ranked)) < distance for group in ranked)

    def _least(self, group: str, ranked: Sequence[str]) -> float:
        return self.first if group == ranked[0] else self.further


def describe(error: BaseException) -> str:
    """Return an error's class and the first line of its message, short enough for a reason."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
