"""What routers ask of embeddings, and how a decision is made from the answer: one program for all who have any."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ecowas_lc.supervisor.routing.conversation import followed, is_plain, read_turn, resolve, weighed_kinds
from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, Thresholds
from ecowas_lc.supervisor.routing.focus import MOST_ASKED

if TYPE_CHECKING:
    from ecowas_lc.supervisor.routing.lexical import Evidence, LexicalRouter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How relevant each group is to a text, from 0 to 1, and the known sentence that is most like it.

    ``words_share`` is how much words should count beside, these embeddings being as good as they are. ``kinds``
    says what the text would do as a turn of a conversation, if that was asked for.
    """

    relevance: dict[str, float]
    nearest: str
    words_share: float
    kinds: dict[str, float]


@dataclass(frozen=True, slots=True)
class LikenessOf:
    """Asks how relevant each group is to a text; it costs one embedding."""

    text: str


@dataclass(frozen=True, slots=True)
class KindsOf:
    """Asks the same, and what the text does as a turn of a conversation; it costs one embedding."""

    text: str


Asking = Generator[LikenessOf | KindsOf, Likeness, T]
"""A program that asks for what embeddings say and returns what it makes of it."""

Decide = Callable[["Evidence", Likeness], RouteDecision]
"""Makes a decision for a question that stands on its own words."""


def deciding(
    question: str,
    conversation: Sequence[PastTurn],
    words: LexicalRouter,
    decide: Decide,
    thresholds: Thresholds,
) -> Asking[RouteDecision]:
    """Decide on a question, after a conversation if there is one.

    A question costs one embedding, a turn of a conversation at most two, and none where words leave no doubt.
    """
    if not conversation:
        evidence = words.evidence(question)
        return decide(evidence, (yield LikenessOf(evidence.focus.question or question[:MOST_ASKED])))
    turn = read_turn(question, words)
    if is_plain(turn):
        return words.route(question, conversation=conversation)
    likeness = yield KindsOf(turn.rest)
    opening = None if turn.opening is None else (yield KindsOf(turn.opening)).kinds
    decision = decide(turn.evidence, likeness)
    kinds = weighed_kinds(turn, likeness.kinds)
    resolved = resolve(turn, decision.scores, kinds, conversation, words, thresholds, opening=opening)
    return followed(decision, resolved)


def without(relevance: Mapping[str, float], evidence: Evidence) -> dict[str, float]:
    """Return the relevance of groups without those that the text says it is not about."""
    if not evidence.focus.asked:
        return dict(relevance)
    return {group: 0.0 if group in evidence.set_aside else relevance[group] for group in relevance}
