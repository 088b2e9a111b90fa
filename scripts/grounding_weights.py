"""Fit the weights in ``ecowas_lc.documents.weights`` on questions whose answers are known.

Each set is a folder with ``docs/`` and ``q.jsonl`` (the format of ``ecowas-lc eval --grounding``). Prints the two
tables of weights, with and without the extra ``semantic``, and what each set would reach with weights that were
fitted on the others.

    python scripts/grounding_weights.py FOLDER FOLDER=3…

``FOLDER=3`` weighs a set three times, as the sets of direct questions were for the weights in use.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecowas_lc.documents import Documents, evidence
from ecowas_lc.documents.question import read_question
from ecowas_lc.documents.sources import Corpus, Source
from ecowas_lc.settings import Settings
from ecowas_lc.supervisor.evaluation.grounding_report import load_grounding

MEANING = ("similarity", "above_mean", "below_best")
AT_MOST = dict.fromkeys(
    (
        "absent_same",
        "absent_loose",
        "worst",
        "worst_same",
        "worst_loose",
        "worst_loose_same",
        "worst_by_words",
        "worst_by_words_same",
        "other_subject",
        "no_head",
        "not_counted",
        "head_absent",
        "counts_other",
        "no_rank",
        "uncounted",
        "lacks",
        "lacks_same",
        "lacks_known",
        "lacks_elsewhere",
        "lacks_itself",
        "lacks_verb",
        "who_lacks_verb",
        "time_lacks_verb",
        "another_in_place",
        "name_only",
    ),
    0.0,
) | {"other_names": -5.0}
"""What must not count in favour of a sentence, however few examples say otherwise."""
AT_LEAST = dict.fromkeys(("gives", "label", "kind", "rank"), 0.0)
ANSWERS, WITHOUT_ANSWER = 2.0, 0.5
"""How much a sentence that answers weighs, and one of a question whose answer was taken out of the documents."""


def plain(text: str) -> str:
    """Return a text as support is looked for in it."""
    return re.sub(r"[\s|:;,.]+", " ", text.replace("*", "")).strip().casefold()


@dataclass
class Asked:
    """A question, its importance, and its candidates with whether they answer."""

    answerable: bool
    importance: float
    candidates: list[tuple[dict[str, float], bool]]


def examples(folder: Path, *, by_meaning: bool) -> list[Asked]:
    """Return the questions of a set, those with an answer also without the sentences that give it."""
    documents = Documents.from_settings(Settings(prefix=f"weights-{folder.name}"))
    documents.clear()
    documents.add(folder / "docs")
    rows = []
    for asked in load_grounding(folder / "q.jsonl"):
        found = documents.search(asked.q)

        def answers(source: Source, sentence: Any, support: Any = asked.support) -> bool:
            return any(
                source.document.name == name and plain(quote) in plain(sentence.text) for name, quote in support
            )

        without = [
            replace(
                one,
                passage=replace(
                    one.passage,
                    sentences=tuple(each for each in one.passage.sentences if not answers(one, each)),
                ),
            )
            for one in found
        ]
        for sources in (found, without) if asked.answerable else (found,):
            corpus = Corpus(sources)
            question = read_question(asked.q, known_names=corpus.names)
            candidates = evidence._candidates(question, evidence.current_sources(question, sources), corpus)
            if candidates and by_meaning:
                evidence._compare_by_meaning(question, candidates)
            rows.append(
                Asked(
                    asked.answerable and sources is found,
                    1.0 if sources is found else WITHOUT_ANSWER,
                    [(one.features(), answers(one.source, one.sentence)) for one in candidates if one.gives],
                )
            )
    documents.clear()
    return rows


def fitted(rows: list[Asked], names: list[str], ridge: float = 0.3) -> Any:
    """Return the weights of a logistic regression, the bias last."""
    every = [(features, right, row.importance) for row in rows for features, right in row.candidates]
    x = np.array([[features[name] for name in names] + [1.0] for features, _, _ in every])
    y = np.array([float(right) for _, right, _ in every])
    importance = np.where(y > 0, ANSWERS, np.array([weight for _, _, weight in every]))
    penalty = np.eye(x.shape[1]) * ridge
    penalty[-1, -1] = 0.001
    weights = np.zeros(x.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (importance * (p - y)) + penalty @ weights
        hessian = (x * (importance * p * (1 - p))[:, None]).T @ x + penalty
        weights = weights - 0.7 * np.linalg.solve(hessian, gradient)
        for index, name in enumerate(names):
            weights[index] = np.clip(weights[index], AT_LEAST.get(name, -99), AT_MOST.get(name, 99))
    return weights


def reached(rows: list[Asked], names: list[str], weights: Any, enough: float) -> str:
    """Return how many questions were answered rightly of those that can be, and declined of the others."""
    counts = {True: [0, 0], False: [0, 0]}
    for row in rows:
        if row.importance < 1:
            continue
        scored = [
            (float(np.array([features[name] for name in names] + [1.0]) @ weights), right)
            for features, right in row.candidates
        ]
        score, right = max(scored, default=(-99.0, False))
        counts[row.answerable][0] += (score >= enough and right) if row.answerable else score < enough
        counts[row.answerable][1] += 1
    return "answered {}/{}, ".format(*counts[True]) + "declined {}/{}".format(*counts[False])


if __name__ == "__main__":
    for label, by_meaning in (("_WEIGHTS", True), ("_WEIGHTS_BY_WORDS", False)):
        sets, times = {}, {}
        for argument in sys.argv[1:]:
            folder, _, number = argument.partition("=")
            sets[folder] = examples(Path(folder), by_meaning=by_meaning)
            times[folder] = int(number or 1)
        every = [row for folder, rows in sets.items() for row in rows * times[folder]]
        chosen = next(list(row.candidates[0][0]) for row in every if row.candidates)
        if not by_meaning:
            chosen = [name for name in chosen if name not in MEANING and "by_words" not in name]
        print(f"{label} = {{")
        for name, weight in zip([*chosen, "bias"], fitted(every, chosen), strict=True):
            print(f'    "{name}": {weight:.2f},')
        print("}")
        for folder, rows in sets.items():
            others = [row for other, its in sets.items() if other != folder for row in its * times[other]]
            print(f"# {label} {folder}: {reached(rows, chosen, fitted(others, chosen), evidence._ENOUGH)}")
