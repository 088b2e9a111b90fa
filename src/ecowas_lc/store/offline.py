"""The offline embedding model for search, as LangChain's ``Embeddings``."""

from __future__ import annotations

import asyncio

from langchain_core.embeddings import Embeddings

from ecowas_lc._embeddings import offline_engine


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
