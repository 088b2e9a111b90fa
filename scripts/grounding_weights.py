"""Fit the weights of ``ecowas_lc.documents.evidence`` on questions whose answers are known.

Each set is a folder with ``docs/`` and ``q.jsonl`` (the format of ``ecowas-lc eval --grounding``). Prints the two
tables of weights, and what each set would reach with weights that were fitted on the others.

    python scripts/grounding_weights.py FOLDER FOLDER…
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ecowas_lc.documents import Documents, evidence
from ecowas_lc.documents.question import read_question
from ecowas_lc.settings import Settings
from ecowas_lc.supervisor.evaluation.grounding_report import load_grounding

MEANING = ("similarity", "above_mean", "below_best")
# What must not count in favour of a sentence, however few examples say otherwise.
AT_MOST = {"absent": -0.5, "absent_heavy": -0.5, "absent_same": -2.0, "worst_same": 0.0}
ANSWERS = 4.0
"""How much one sentence that answers weighs against one that does not."""


def plain(text: str) -> str:
    """Return a text as support is looked for in it."""
    return re.sub(r"[\s|:;]+", " ", text).strip().casefold()


def examples(folder: Path) -> list[tuple[bool, list[tuple[dict[str, float], bool]]]]:
    """Return each question of a set: whether it can be answered, and its candidates with whether they answer."""
    documents = Documents.from_settings(Settings(prefix=f"weights-{folder.name}"))
    documents.clear()
    documents.add(folder / "docs")
    rows = []
    for asked in load_grounding(folder / "q.jsonl"):
        sources = documents.search(asked.q)
        corpus = evidence.Corpus(sources)
        question = read_question(asked.q, known_names=corpus.names)
        current = [
            one for one in sources if not one.superseded or evidence._is_of_its_time(question, one.document)
        ]
        candidates = evidence._candidates(question, current, corpus)
        if candidates:
            evidence._compare_by_meaning(question, candidates)
        rows.append(
            (
                asked.answerable,
                [
                    (
                        one.features(),
                        any(
                            one.source.document.name == name and plain(quote) in plain(one.sentence.text)
                            for name, quote in asked.support
                        ),
                    )
                    for one in candidates
                ],
            )
        )
    documents.clear()
    return rows


def fitted(rows: list[Any], names: list[str], ridge: float = 0.3) -> Any:
    """Return the weights of a logistic regression, the bias last."""
    candidates = [(features, right) for _, found in rows for features, right in found]
    x = np.array([[features[name] for name in names] + [1.0] for features, _ in candidates])
    y = np.array([float(right) for _, right in candidates])
    importance = np.where(y > 0, ANSWERS, 1.0)
    penalty = np.eye(x.shape[1]) * ridge
    weights = np.zeros(x.shape[1])
    fixed = {names.index(name): most for name, most in AT_MOST.items()}
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (importance * (p - y)) + penalty @ weights
        hessian = (x * (importance * p * (1 - p))[:, None]).T @ x + penalty
        weights = weights - 0.7 * np.linalg.solve(hessian, gradient)
        for index, most in fixed.items():
            weights[index] = min(weights[index], most)
    return weights


def reached(rows: list[Any], names: list[str], weights: Any, enough: float) -> tuple[int, int, int, int]:
    """Return how many questions were answered rightly of those that can be, and declined of the others."""
    answered = can_be = declined = others = 0
    for answerable, found in rows:
        scored = [
            (
                float(np.array([features[name] for name in names] + [1.0]) @ weights)
                - evidence._OTHER_NAMES * features["other_names"],
                right,
            )
            for features, right in found
            if features["gives"] > 0
        ]
        best = max(scored, default=(-99.0, False))
        if answerable:
            can_be += 1
            answered += best[0] >= enough and best[1]
        else:
            others += 1
            declined += best[0] < enough
    return answered, can_be, declined, others


if __name__ == "__main__":
    sets = {folder: examples(Path(folder)) for folder in sys.argv[1:]}
    every = [row for rows in sets.values() for row in rows]
    names = [name for _, found in every for features, _ in found[:1] for name in features][:200]
    names = list(dict.fromkeys(names))
    for label, chosen in (("_WEIGHTS", names), ("_WEIGHTS_BY_WORDS", [n for n in names if n not in MEANING])):
        weights = fitted(every, chosen)
        print(f"{label} = {{")
        for name, weight in zip([*chosen, "bias"], weights, strict=True):
            print(f'    "{name}": {weight:.2f},')
        print("}")
        for enough in (-1.0, -0.6, -0.3, 0.0, 0.3):
            for folder, rows in sets.items():
                others = [row for other, its in sets.items() if other != folder for row in its]
                print(f"# {label} {enough} {folder}:", *reached(rows, chosen, fitted(others, chosen), enough))
