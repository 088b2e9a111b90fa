"""What a router answers, and what makes any object a router."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from ecowas_lc._display import Displayed
from ecowas_lc.errors import EmptyQuestionError

Source = Literal["model", "repaired", "semantic", "lexical"]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier question of the conversation and the groups it went to; none if the supervisor answered."""

    question: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundWord:
    """A word or phrase of the question that counts for a group, as it stands there: ``question[start:end]``."""

    text: str
    start: int
    end: int
    group: str


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a follow-up goes on with: the groups, and the earlier turn they were taken from.

    ``turn`` counts from 0, the oldest turn of the conversation.
    """

    groups: tuple[str, ...]
    turn: int
    question: str


@dataclass(frozen=True, slots=True)
class RouteDecision(Displayed):
    """The groups a question concerns, most relevant first; none when the supervisor answers itself.

    ``source`` says what decided (``"repaired"``: the model, at its second try) and ``reason`` says why, in
    one English sentence. The evidence behind it, as far as the router has any: ``scores`` says how relevant each
    group is by the question's own words, from 0 to 1; ``words`` which of them count for a group; ``nearest`` the
    labelled question that is most like it; ``taken_over`` what comes from an earlier turn. ``question`` is what
    was asked, and ``thresholds`` how relevant the most relevant group has to be, and any further one.
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
    """Anything that finds the groups a question concerns, in both a blocking and an awaitable way.

    A router that takes the keyword argument ``conversation`` as well is a :class:`ConversationRouter`;
    :func:`with_conversation` makes one of any router.
    """

    def route(self, question: str) -> RouteDecision:
        """Return the groups that ``question`` concerns.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        ...

    async def aroute(self, question: str) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        ...


@runtime_checkable
class ConversationRouter(Protocol):
    """A router that also takes the turns before the question, the oldest first."""

    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return the groups that ``question`` concerns, after this conversation.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        ...

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        ...


def with_conversation(router: Router) -> ConversationRouter:
    """Return a router that takes a conversation: the router itself if it does, else one that leaves it out.

    A ``config`` that the router's methods take, as LangChain's runnables pass it, still reaches them.
    """
    if _takes(router.route, "conversation") and _takes(router.aroute, "conversation"):
        conversing: Any = router  # as its signature shows
        taking: ConversationRouter = conversing
        return taking
    return _QuestionOnly(router)


class _QuestionOnly:
    """Stands for a router of which one method or both take nothing but the question."""

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
    """Return the question without blanks around it.

    Raises:
        EmptyQuestionError: it is not text, or holds nothing else.
    """
    if not isinstance(question, str) or not question.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    return question.strip()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How relevant a group must be, from 0 to 1: the most relevant one, and any further one.

    A further group has to be the surer: most questions concern one group, whatever else they mention.
    """

    first: float
    further: float

    def as_pair(self) -> tuple[float, float]:
        """Return both, the first one first."""
        return self.first, self.further

    def choose(self, relevance: Mapping[str, float]) -> tuple[str, ...]:
        """Return the groups that are relevant enough, the most relevant first."""
        ranked = sorted(relevance, key=relevance.__getitem__, reverse=True)
        return tuple(group for group in ranked if relevance[group] >= self._least(group, ranked))

    def is_near(self, relevance: Mapping[str, float], distance: float) -> bool:
        """Return whether a group is so near to its threshold that the choice could as well be another."""
        ranked = sorted(relevance, key=relevance.__getitem__, reverse=True)
        return any(abs(relevance[group] - self._least(group, ranked)) < distance for group in ranked)

    def _least(self, group: str, ranked: Sequence[str]) -> float:
        return self.first if group == ranked[0] else self.further


def describe(error: BaseException) -> str:
    """Return an error's kind and the first line of its message, short enough for a reason."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
