"""Embeddings that only count words, for testing the logic around embeddings."""

from __future__ import annotations

import zlib

from langchain_core.embeddings import Embeddings

from ecowas_lc.supervisor.routing.text import words

SIZE = 256


class BagOfWords(Embeddings):
    """Assigns each word a position in a vector; ``embedded`` counts the texts it received."""

    def __init__(self, model: str = "bag-of-words", shift: int = 0) -> None:
        self.model = model
        self.shift = shift
        self.embedded = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += len(texts)
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def _vector(self, text: str) -> list[float]:
        vector = [0.01] * SIZE
        for word in words(text):
            vector[(zlib.crc32(word.encode()) + self.shift) % SIZE] += 1.0
        return vector


class BrokenEmbeddings(Embeddings):
    """Raises at every call, as a client does whose server is gone."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise ConnectionError("nobody answers at http://localhost:11434")

    def embed_query(self, text: str) -> list[float]:
        raise ConnectionError("nobody answers at http://localhost:11434")
