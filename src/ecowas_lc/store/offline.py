"""The offline embedding model for search, as LangChain's ``Embeddings``."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from ecowas_lc._embeddings import OfflineEngine, check_offline, offline_engine, offline_installed

if TYPE_CHECKING:
    from ecowas_lc.store.indexing import RedisIndexConfig


class OfflineSearchEmbeddings(Embeddings):
    """The offline model for search, which compares questions with passages; 384 dimensions.

    Raises:
        MissingExtraError: The extra ``semantic`` is not installed.
    """

    def __init__(self) -> None:
        check_offline()  # the model itself loads with the first text, because loading takes half a second

    @property
    def _engine(self) -> OfflineEngine:
        return offline_engine()

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


def offline_index() -> RedisIndexConfig | None:
    """Return the index configuration for a store without one; ``None`` if the extras are not installed."""
    return {} if offline_installed() and find_spec("snowballstemmer") else None
