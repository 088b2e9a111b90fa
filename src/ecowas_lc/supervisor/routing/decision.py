"""What a router answers, and what makes any object a router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ecowas_lc.errors import EmptyQuestionError

Source = Literal["model", "repaired", "semantic", "lexical"]


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """The groups a question concerns, most relevant first; none when the supervisor answers itself.

    ``source`` says what decided (``"repaired"``: the model, at its second try) and ``reason`` says why, in
    one English sentence.
    """

    groups: tuple[str, ...]
    source: str
    reason: str


@runtime_checkable
class Router(Protocol):
    """Anything that finds the groups a question concerns, in both a blocking and an awaitable way."""

    def route(self, question: str) -> RouteDecision:
        """Return the groups that ``question`` concerns.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        ...

    async def aroute(self, question: str) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        ...


def checked_question(question: str) -> str:
    """Return the question without blanks around it.

    Raises:
        EmptyQuestionError: it is not text, or holds nothing else.
    """
    if not isinstance(question, str) or not question.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    return question.strip()


def chosen_groups(relevance: Mapping[str, float], least: float) -> tuple[str, ...]:
    """Return the groups that are relevant enough, the most relevant first."""
    relevant = [group for group, value in relevance.items() if value >= least]
    return tuple(sorted(relevant, key=relevance.__getitem__, reverse=True))
