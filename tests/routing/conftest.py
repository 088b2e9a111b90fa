"""Fixtures of the routing tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ecowas_lc.supervisor.routing.embedding import OfflineEmbeddings


@pytest.fixture(scope="session", autouse=True)
def _each_sentence_is_embedded_once() -> Iterator[None]:
    """Several tests ask the same questions, and a sentence takes the real engine 16 ms."""
    vectors: dict[str, list[float]] = {}
    embed = OfflineEmbeddings.embed_documents

    def remembering(self: OfflineEmbeddings, texts: list[str]) -> list[list[float]]:
        new = [text for text in dict.fromkeys(texts) if text not in vectors]
        vectors.update(zip(new, embed(self, new), strict=True))
        return [vectors[text] for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OfflineEmbeddings, "embed_documents", remembering)
        yield
