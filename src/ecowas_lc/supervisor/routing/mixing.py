"""The weighting of words against meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecowas_lc.supervisor.routing.decision import Thresholds

if TYPE_CHECKING:
    from ecowas_lc.supervisor.routing.kernel import Array

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
