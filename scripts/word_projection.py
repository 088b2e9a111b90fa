"""Make ``documents/word_projection.npy``: the directions in which the vectors of translations agree.

The vectors of unrelated words are close to each other, and differ most by language and form. Linear discriminant
analysis over the lines of the glossary, whose words mean the same, finds the directions that tell meanings apart.
The first row of the file is the mean vector, and the other rows are the directions.

    python scripts/word_projection.py
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from ecowas_lc._embeddings import offline_engine

DIRECTIONS = 128
SHRINKAGE = 0.2
"""How far the scatter within a meaning is pulled towards a sphere: there are few words for 384 dimensions."""


def meanings() -> list[list[str]]:
    """Return the words of each line of the glossary."""
    text = (files("ecowas_lc.documents") / "glossary.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [[form.strip().lower() for form in line.replace("|", ",").split(",") if form.strip()] for line in lines]


def projection() -> np.ndarray:
    """Return the mean vector and the directions."""
    groups = meanings()
    words = sorted({word for group in groups for word in group})
    vectors = dict(zip(words, np.asarray(offline_engine().queries(words), dtype=np.float64), strict=True))
    means = np.stack([np.mean([vectors[word] for word in group], axis=0) for group in groups])
    apart = np.concatenate(
        [[vectors[word] - mean for word in group] for group, mean in zip(groups, means, strict=True)]
    )
    within = apart.T @ apart / (len(apart) - len(groups))
    size = len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / size * np.eye(size)
    values, axes = np.linalg.eigh(within)
    whitening = axes @ np.diag(values**-0.5) @ axes.T
    centre = np.mean(list(vectors.values()), axis=0)
    white = (means - centre) @ whitening
    _, between = np.linalg.eigh(white.T @ white / len(white))
    directions = whitening @ between[:, ::-1][:, :DIRECTIONS]
    return np.vstack([centre, directions.T]).astype(np.float16)


if __name__ == "__main__":
    np.save(str(files("ecowas_lc.documents") / "word_projection.npy"), projection())
