"""Rebuild the data that the routers ship: run ``python -m ecowas_lc.supervisor.routing.build`` after editing it.

It writes the vectors of the example questions and prints the newly fitted constants of the lexical router.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from ecowas_lc.supervisor.routing.embedding import SHIPPED, SHIPPED_TURNS, OfflineEmbeddings, embed, write_vectors
from ecowas_lc.supervisor.routing.kernel import Array
from ecowas_lc.supervisor.routing.lexical import LexicalRouter
from ecowas_lc.supervisor.routing.turns import GROUP, KINDS, SUBJECT, WEIGHTS, learnt_turns
from ecowas_lc.twg import example_questions

_PENALTY = 1e-4  # per example, on the squared weights

_EVERY = 3  # only every third example question represents turns that name a subject, or they would outweigh others
_LEAST_OFTEN, _LEAST_WEIGHT = 2, 0.3
_TURN_PENALTY, _STEPS, _PACE = 0.1, 300, 4.0


def build_vectors() -> Path:  # pragma: no cover - it embeds 1,700 texts; a test compares the digest of its result
    """Compute and write the shipped vectors; return their folder."""
    shipped = {
        SHIPPED: [example.question for example in example_questions()],
        SHIPPED_TURNS: [turn.text for turn in learnt_turns()],
    }
    for file, texts in shipped.items():
        path = Path(str(file))
        write_vectors(path, embed(OfflineEmbeddings(), texts), texts)
        path.chmod(0o644)  # temporary files are private to their owner, but this one is installed
    return path.parent


def fit_turns() -> Path:  # pragma: no cover - it takes 12 seconds; make routing-data runs it
    """Fit the model that classifies turns by their words, write it, and return its file."""
    router = LexicalRouter()
    rows = [(turn.text, turn.kind) for turn in learnt_turns()]
    asked = [example.question for example in example_questions() if example.groups]
    rows += [(question, SUBJECT) for question in asked[::_EVERY] if GROUP in router.turn_features(question)]
    seen = [router.turn_features(text) for text, _ in rows]
    often = Counter(feature for one in seen for feature in one)
    columns = {feature: place for place, feature in enumerate(f for f, n in often.items() if n >= _LEAST_OFTEN)}
    shown = np.zeros((len(rows), len(columns) + 1))
    for row, one in enumerate(seen):
        shown[row, [columns[feature] for feature in one if feature in columns] + [-1]] = 1
    shown /= np.sqrt(shown.sum(axis=1, keepdims=True))
    truth = np.array([[float(kind == other) for other in KINDS] for _, kind in rows])
    weights = _softmax_regression(shown, truth, _TURN_PENALTY)
    kept = {
        feature: np.round(10 * weights[column]).astype(int).tolist()
        for feature, column in sorted(columns.items())
        if np.abs(weights[column]).max() >= _LEAST_WEIGHT
    }
    path = Path(str(WEIGHTS))
    bias = np.round(10 * weights[-1]).astype(int).tolist()
    path.write_text(json.dumps({"bias": bias, "weights": kept}, separators=(",", ":")), encoding="utf-8")
    return path


def _softmax_regression(
    shown: Array, truth: Array, penalty: float
) -> Array:  # pragma: no cover - part of fit_turns
    """Return the weights of a multinomial logistic regression, by Nesterov's method."""
    weights = ahead = np.zeros((shown.shape[1], truth.shape[1]))
    for step in range(_STEPS):
        scores = shown @ ahead
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        slope = shown.T @ (chances - truth) / len(shown) + penalty / len(shown) * ahead
        new = ahead - _PACE * slope
        ahead = new + step / (step + 3) * (new - weights)
        weights = new
    return weights


def fit_lexical_constants() -> tuple[float, ...]:
    """Fit ``OWN``, ``RIVAL``, ``GENERAL``, ``ELSEWHERE`` and ``BIAS`` to the example questions and return them."""
    router = LexicalRouter()
    rows: list[tuple[float, ...]] = []
    truth: list[float] = []
    for example in example_questions():
        evidence = router.evidence(example.question)
        for group in evidence.weights:
            rows.append((*evidence.features(group), 1.0))
            truth.append(float(group in example.groups))
    features, labels = np.array(rows), np.array(truth)
    ridge = np.diag([_PENALTY * len(rows)] * 4 + [0.0])
    weights = np.zeros(5)
    for _ in range(50):  # Newton's method; the problem is convex and small
        chance = 1 / (1 + np.exp(-(features @ weights)))
        slope = features.T @ (chance - labels) + ridge @ weights
        curve = (features * (chance * (1 - chance))[:, None]).T @ features + ridge
        weights -= np.linalg.solve(curve, slope)
    return tuple(weights.tolist())


if __name__ == "__main__":
    constants = ", ".join(f"{value:.2f}" for value in fit_lexical_constants())
    sys.stdout.write(f"Wrote {fit_turns()} and {build_vectors()}\n")
    sys.stdout.write(f"OWN, RIVAL, GENERAL, ELSEWHERE, BIAS = {constants}\n")
