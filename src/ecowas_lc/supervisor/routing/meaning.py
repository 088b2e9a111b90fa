"""What routers ask of embeddings, how words and meaning are weighed, and how the answer becomes a decision."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ecowas_lc.supervisor.routing.decision import PastTurn, RouteDecision, Thresholds
from ecowas_lc.supervisor.routing.focus import MOST_ASKED
from ecowas_lc.supervisor.routing.in_conversation import followed, is_plain, read_turn, resolve, weighed_kinds

if TYPE_CHECKING:
    from ecowas_lc.supervisor.routing.kernel import Array
    from ecowas_lc.supervisor.routing.lexical import LexicalRouter, WordEvidence


THRESHOLDS = Thresholds(first=0.35, further=0.5)

RICH_VOCABULARY = 150
"""Number of terms of a rich vocabulary. With fewer, the absence of a group's words says less against the group."""

_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def mix(words: float, meaning: float, share: float) -> float:
    """Return a group's relevance by words and meaning, where words have this share."""
    return share * words + (1 - share) * meaning


def best_share(words: Array, meaning: Array, truth: Array) -> float:
    """Return the share for words that does best on known sentences, the smallest of equals.

    Rows are sentences and columns groups; ``meaning`` holds the embeddings' scores of each sentence when it is
    left out of training. Good embeddings get the maximum of 0.7; poor ones must not spoil the result of the words.
    """
    from ecowas_lc.supervisor.routing.kernel import quality

    if not truth.size:
        return _SHARES[0]
    ratio = THRESHOLDS.further / THRESHOLDS.first
    scores = {
        share: quality(share * words + (1 - share) * meaning, truth, THRESHOLDS.first, ratio) for share in _SHARES
    }
    return max(scores, key=scores.__getitem__)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Likeness:
    """The relevance of each group to a text, from 0 to 1, and the most similar known sentence.

    ``words_share`` is the weight that words should have, given the quality of these embeddings. ``kinds`` is what
    the text does as a turn of a conversation, if that was requested.
    """

    relevance: dict[str, float]
    nearest: str
    words_share: float
    kinds: dict[str, float]


@dataclass(frozen=True, slots=True)
class LikenessOf:
    """Requests the relevance of each group to a text; costs one embedding."""

    text: str


@dataclass(frozen=True, slots=True)
class KindsOf:
    """Requests the relevance of each group, and what the text does as a turn; costs one embedding."""

    text: str


Asking = Generator[LikenessOf | KindsOf, Likeness, T]
"""A program that requests what embeddings say and returns a result."""

Decide = Callable[["WordEvidence", Likeness], RouteDecision]
"""Makes a decision for a question that is understood without a conversation."""


def deciding(
    question: str,
    conversation: Sequence[PastTurn],
    words: LexicalRouter,
    decide: Decide,
    thresholds: Thresholds,
) -> Asking[RouteDecision]:
    """Decide on a question, taking the conversation into account if there is one.

    A question costs one embedding, a turn of a conversation at most two, and none if words are decisive.
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


def without(relevance: Mapping[str, float], evidence: WordEvidence) -> dict[str, float]:
    """Return the relevance of groups without those that the text excludes."""
    if not evidence.focus.asked:
        return dict(relevance)
    return {group: 0.0 if group in evidence.set_aside else relevance[group] for group in relevance}
