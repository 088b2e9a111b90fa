"""Vectors of words and sentences by the offline model, cached for later questions.

A word is embedded on its own, as a question is. The words of a passage are needed repeatedly, so their vectors are
cached, up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import as_file, files
from typing import Any

from ecowas_lc import forks
from ecowas_lc._embeddings import MOST_AT_ONCE, offline_engine

# Cosines that one pair of unrelated words in a hundred, or in a thousand, reaches.
_UNRELATED, _SAME = 0.28, 0.48
_SAME_AT_MOST = 0.85
_MOST_KEPT = 20_000
"""Maximum number of cached vectors, 1.5 kB each; the oldest are dropped first."""
_kept: dict[tuple[str, bool], Any] = {}
_lock = forks.Lock()


def vectors_of(texts: Iterable[str], *, as_question: bool = True) -> list[Any]:
    """Return the normalised vector of each text; new texts are embedded together."""
    import numpy as np

    wanted = list(texts)
    new = [text for text in dict.fromkeys(wanted) if (text, as_question) not in _kept]
    found: dict[str, Any] = {}
    if new:
        engine = offline_engine()
        embedded = engine.queries(new) if as_question else engine.passages(new)
        found = {text: np.asarray(vector, dtype=np.float32) for text, vector in zip(new, embedded, strict=True)}
    with _lock:
        result = [found[text] if text in found else _kept[text, as_question] for text in wanted]
        _kept.update({(text, as_question): vector for text, vector in found.items()})
        for oldest in list(_kept)[: max(0, len(_kept) - _MOST_KEPT)]:
            del _kept[oldest]
    return result


def likenesses_by_vector(words: Sequence[str], others: Sequence[str]) -> Any:
    """Return the confidence that words (rows) mean the same as others (columns), from 0 to below 1."""
    import numpy as np

    if not words or not others:
        return np.zeros((len(words), len(others)))
    # Without OpenBLAS, whose lock stays locked in a child that is forked meanwhile.
    cosines = np.einsum("ik,jk->ij", _projected(words), _projected(others))
    return _SAME_AT_MOST * np.clip((cosines - _UNRELATED) / (_SAME - _UNRELATED), 0.0, 1.0)


def _projected(words: Sequence[str]) -> Any:
    """Return the words' vectors in the directions in which translations agree, with length 1."""
    import numpy as np

    centre, directions = _projection()
    vectors = np.asarray(vectors_of(word.lower() for word in words)) - centre
    projected = np.einsum("ij,kj->ik", vectors, directions)
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)


@cache
def _projection() -> tuple[Any, Any]:
    """Return the mean vector and the directions of ``scripts/word_projection.py``."""
    import numpy as np

    with as_file(files("ecowas_lc.documents") / "word_projection.npy") as path:
        rows = np.load(path).astype(np.float32)
    return rows[0], rows[1:]


def similarities_to(question: str, texts: Sequence[str]) -> list[float]:
    """Return the cosines of a question's vector and the vector of each text; a long question counts by its end."""
    [asked] = vectors_of([question[-MOST_AT_ONCE:]])
    return [float(asked @ vector) for vector in vectors_of(texts, as_question=False)]
