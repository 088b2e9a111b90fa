"""Kernel ridge regression: a sentence's relevance to each group, learnt from labelled sentences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecowas_lc import forks

Array = NDArray[np.float64]

# Measured with multilingual-e5-small by leaving examples out; halving or doubling either changes little.
SHARPNESS = 1.5
RIDGE = 0.1

_CANDIDATES = np.arange(0.2, 0.625, 0.025)

# numpy multiplies matrices with OpenBLAS, whose internal lock stays locked in a child that is forked meanwhile. So
# training delays forks, and scoring uses einsum, which does without OpenBLAS.
_training = forks.ForkBarrier()


class KernelModel:
    """Scores of groups for sentence vectors: about 1 for a group that is concerned, and 0 for one that is not.

    ``vectors`` holds one known sentence per row, and ``labels`` a 1 for each of its groups. ``centre`` is
    subtracted from all vectors, because sentence models place all sentences in the same region of their space.
    Training solves one linear system (about 0.1 s for 1,200 sentences). ``left_out`` holds the scores of each
    known sentence by a model trained on all the others.
    """

    def __init__(self, vectors: Array, labels: Array, centre: Array) -> None:
        self._centre = centre
        self._known = _directions(vectors - centre)
        self._mean = labels.mean(axis=0)
        with _training:
            inverse = np.linalg.inv(_kernel(self._known @ self._known.T) + RIDGE * np.eye(len(labels)))
            self._weights: Array = inverse @ (labels - self._mean)
        self.left_out: Array = labels - self._weights / np.diag(inverse)[:, None]

    def scores(self, vector: Array) -> tuple[Array, int]:
        """Return the score of each group, and the index of the nearest known sentence."""
        direction = _directions(vector[None] - self._centre)[0]
        similar = _kernel(np.einsum("ij,j->i", self._known, direction))
        return np.einsum("i,ij->j", similar, self._weights) + self._mean, int(similar.argmax())


def best_threshold(scores: Array, truth: Array, further: float) -> float:
    """Return the minimum score that best separates the relevant groups from the others; see :func:`quality`."""
    if not scores.size:
        return float(_CANDIDATES[0])
    found: dict[float, float] = {}
    for least in _CANDIDATES.tolist():
        found[least] = quality(scores, truth, least, further)
    return max(found, key=found.__getitem__)


def quality(scores: Array, truth: Array, least: float, further: float) -> float:
    """Return how well scores of known sentences (rows) predict their groups (columns), from 0 to 2.

    It is the sum of micro-F1 and the share of sentences whose groups are all correct, if a sentence's best group
    needs the score ``least``, and any other group ``further`` times that score.
    """
    concerned = truth > 0.5
    leads = scores == scores.max(axis=1, keepdims=True)
    found = scores >= np.where(leads, least, further * least)
    hits = int((found & concerned).sum())
    micro_f1 = 2 * hits / max(int(found.sum() + concerned.sum()), 1)
    exact = int((found == concerned).all(axis=1).sum())
    return micro_f1 + exact / len(concerned)


def _kernel(cosines: Array) -> Array:
    result: Array = np.exp(SHARPNESS * (cosines - 1))
    return result


def _directions(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Array = vectors / np.where(lengths == 0, 1, lengths)
    return result
