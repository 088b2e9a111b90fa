"""Rebuilds what the routers ship: ``python -m ecowas_lc.supervisor.routing.build`` after editing the data.

It writes the vectors of the example questions and prints the lexical router's constants, fitted afresh.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ecowas_lc.supervisor.routing.embedding import SHIPPED, OfflineEmbeddings, embed, write_vectors
from ecowas_lc.supervisor.routing.lexical import LexicalRouter
from ecowas_lc.twg import example_questions

_PENALTY = 1e-4  # per example, on the squared weights


def build_vectors() -> Path:
    """Compute and write the shipped vectors; return their file."""
    texts = [example.question for example in example_questions()]
    path = Path(str(SHIPPED))
    write_vectors(path, embed(OfflineEmbeddings(), texts), texts)
    path.chmod(0o644)  # a temporary file is for its owner alone; this one is installed
    return path


def fit_lexical_constants() -> tuple[float, ...]:
    """Return ``OWN``, ``RIVAL``, ``GENERAL``, ``ELSEWHERE`` and ``BIAS`` as the example questions have them."""
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
    sys.stdout.write(f"Wrote {build_vectors()}\nOWN, RIVAL, GENERAL, ELSEWHERE, BIAS = {constants}\n")
