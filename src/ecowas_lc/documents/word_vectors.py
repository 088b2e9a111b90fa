"""Vectors of words and sentences by the offline model, cached for later questions.

A word is embedded on its own, as a question is. The words of a passage are needed repeatedly, so their vectors are
cached, up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ecowas_lc import forks
from ecowas_lc._embeddings import offline_engine

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


def likeness_by_vector(first: str, second: str) -> float:
    """Return the cosine of two words' vectors; about 0.84 for unrelated words."""
    one, two = vectors_of((first, second))
    return float(one @ two)


def similarities_to(question: str, texts: Sequence[str]) -> list[float]:
    """Return the cosines of a question's vector and the vector of each text."""
    [asked] = vectors_of([question])
    return [float(asked @ vector) for vector in vectors_of(texts, as_question=False)]
