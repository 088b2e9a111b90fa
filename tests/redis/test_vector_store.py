"""``RedisVectorStore``: LangChain's own suites, sync and async, and features beyond them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from ecowas_lc import (
    ConfigurationError,
    CorruptDataError,
    EncryptedRedisSerializer,
    InvalidInputError,
    NotSerializableError,
    RedisStore,
    RedisVectorStore,
)
from ecowas_lc.store import RedisRetriever
from ecowas_lc.store.vector_store import _documents as documents_of
from ecowas_lc.testing.stores.running import embed
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import RunningCluster, RunningServer


class Words(Embeddings):
    """Alike as far as they share words of a small vocabulary."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return embed([text])[0]


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, server: RunningServer, prefix: str) -> Iterator[VectorStore]:  # type: ignore[override]
        with RedisVectorStore.from_url(server.url, self.get_embeddings(), prefix=prefix) as store:
            yield store


class TestStandardOnACluster(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, cluster: RunningCluster, prefix: str) -> Iterator[VectorStore]:  # type: ignore[override]
        with RedisVectorStore.from_url(cluster.url, self.get_embeddings(), prefix=prefix) as store:
            yield store


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _filled(self, redis_server: RunningServer, prefix: str) -> Iterator[None]:
        type(self).store = RedisVectorStore.from_url(redis_server.url, Words(), prefix=prefix)
        self.store.add_texts([f"solar {number}" for number in range(6)])
        yield
        self.store.close()

    store: RedisVectorStore

    @property
    def retriever_constructor(self) -> Any:
        return RedisRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "solar"


@pytest.fixture
def store(redis_server: RunningServer, prefix: str) -> Iterator[RedisVectorStore]:
    with RedisVectorStore.from_url(redis_server.url, Words(), prefix=prefix) as store:
        store.add_documents(
            [
                Document("solar power in Mali", metadata={"country": "Mali", "year": 2020}, id="mali"),
                Document(
                    "wind and solar in Cabo Verde", metadata={"country": "Cabo Verde", "year": 2022}, id="cv"
                ),
                Document("gold mines of Ghana", metadata={"country": "Ghana", "year": 2024}, id="ghana"),
                Document("solar solar", metadata={"country": "Mali", "year": 2025}, id="again"),
            ]
        )
        yield store


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_filters(store: RedisVectorStore) -> None:
    """A filter names values of the metadata, with operators, or is a function of a document."""
    for wanted, found in (
        ({"country": "Mali"}, ["mali", "again"]),
        ({"year": {"$gte": 2022}, "country": {"$ne": "Ghana"}}, ["again", "cv"]),
        (lambda document: "Verde" in document.page_content, ["cv"]),
    ):
        assert ids(store.similarity_search("solar", k=4, filter=wanted)) == found  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"\$near"):
        store.similarity_search("solar", filter={"year": {"$near": 1}})


def test_scores_are_cosines(store: RedisVectorStore) -> None:
    """Scores are cosines, relevance scores lie between 0 and 1, and a threshold leaves the rest out."""
    [(best, score), *_] = store.similarity_search_with_score("solar", k=4)
    assert best.id == "mali"
    assert 0.99 < score <= 1.0001
    relevant = store.similarity_search_with_relevance_scores("solar", k=4, score_threshold=0.6)
    assert ids([document for document, _ in relevant]) == ["mali", "again", "cv"]


def test_vectors_are_searched_as_texts_are(store: RedisVectorStore) -> None:
    """Searching by a vector finds the same as searching by its text."""
    vector = Words().embed_query("gold")
    assert ids(store.similarity_search_by_vector(vector, k=1)) == ["ghana"]
    assert ids(asyncio.run(store.asimilarity_search_by_vector(vector, k=1))) == ["ghana"]
    with pytest.raises(InvalidInputError):
        store.similarity_search_by_vector([1.0], k=1)


def test_marginal_relevance(store: RedisVectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """MMR selects the best first, then prefers different texts to repetitions, and skips what has expired."""
    assert ids(store.max_marginal_relevance_search("solar wind", k=2, lambda_mult=1.0)) == ["cv", "mali"]
    diverse = ids(store.max_marginal_relevance_search("solar wind", k=2, lambda_mult=0.1))
    assert diverse == ["cv", "ghana"]
    assert ids(asyncio.run(store.amax_marginal_relevance_search("solar wind", k=2, lambda_mult=0.1))) == diverse
    assert store.max_marginal_relevance_search("solar", k=2, filter={"country": "nowhere"}) == []
    assert store.max_marginal_relevance_search("solar", fetch_k=0) == []

    def then_one_expires(hits: Any) -> list[Document]:
        found = documents_of(hits)
        store.delete(["cv"])
        return found

    monkeypatch.setattr("ecowas_lc.store.vector_store._documents", then_one_expires)
    assert ids(store.max_marginal_relevance_search("solar wind", k=2, lambda_mult=1.0)) == ["mali", "again"]


def test_hybrid_search(store: RedisVectorStore) -> None:
    """``mode`` searches by words or both; words find what embeddings miss."""
    assert ids(store.similarity_search("Verde", k=1, mode="words")) == ["cv"]
    assert ids(store.similarity_search("gold Ghana mines", k=1, mode="both")) == ["ghana"]
    retriever = store.as_retriever(search_kwargs={"mode": "words", "k": 2})
    assert ids(retriever.invoke("mine")) == ["ghana"]
    assert ids(store.as_retriever(k=1).invoke("gold")) == ["ghana"]
    assert len(store.as_retriever(search_type="mmr", k=3).invoke("solar")) == 3


def test_a_misspelt_option_is_named(store: RedisVectorStore) -> None:
    """An option that a search does not have is refused, not ignored."""
    with pytest.raises(InvalidInputError, match="filtre"):
        store.similarity_search("solar", filtre={"country": "Mali"})


def test_ids(store: RedisVectorStore) -> None:
    """An id identifies one document: adding it again replaces it; without ids new ones are generated."""
    assert store.add_texts(["rice in Benin"], ids=["mali"]) == ["mali"]
    assert store.get_by_ids(["mali", "nobody"])[0].page_content == "rice in Benin"
    assert ids(store.similarity_search("rice", k=1)) == ["mali"]
    made = store.add_texts(["cattle", "cable"])
    assert len(set(made)) == 2
    with pytest.raises(InvalidInputError, match="ids"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(NotSerializableError):
        store.add_texts(["a"], [{"x": object()}])
    assert store.delete(["mali"])
    assert store.delete(["mali"])
    assert store.delete()
    assert store.similarity_search("rice") == []


def test_langchains_indexing_api(store: RedisVectorStore) -> None:
    """``langchain_core.indexing.index`` adds, skips and cleans up."""
    manager = InMemoryRecordManager(namespace="test")
    manager.create_schema()
    documents = [Document(f"lithium {n}", metadata={"source": "a"}) for n in range(3)]
    options: Any = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(documents, manager, store, **options)["num_added"] == 3
    done = index(documents[:2], manager, store, **options)
    assert (done["num_skipped"], done["num_deleted"]) == (2, 1)


async def test_from_texts(redis_server: RunningServer, prefix: str) -> None:
    """``from_texts`` makes a store with texts in it; another one on the same collection finds them."""
    one = RedisVectorStore.from_texts(
        ["gold", "rice"], Words(), ids=["g", "r"], url=redis_server.url, prefix=prefix
    )
    two = await RedisVectorStore.afrom_texts(["visa"], Words(), ids=["v"], url=redis_server.url, prefix=prefix)
    assert ids(one.similarity_search("visa", k=1)) == ["v"]
    assert ids(await two.asimilarity_search("gold", k=1)) == ["g"]
    one.close()
    await two.aclose()


def test_namespaces_of_one_collection(redis_server: RunningServer, prefix: str) -> None:
    """Tenants that share a collection find their own documents, and a store above them finds all."""
    url, shared = redis_server.url, {"prefix": prefix}
    tenants = [RedisVectorStore.from_url(url, Words(), **shared, namespace=("t", name)) for name in ("a", "b")]  # type: ignore[arg-type]
    for number, tenant in enumerate(tenants):
        tenant.add_texts([f"gold {number}"], ids=[f"d{number}"])
        assert ids(tenant.similarity_search("gold")) == [f"d{number}"]
    with RedisVectorStore.from_url(url, Words(), prefix=prefix, namespace=("t",)) as above:
        assert len(above.similarity_search("gold")) == 2
    for tenant in tenants:
        tenant.close()


def test_encrypted_documents(redis_server: RunningServer, prefix: str) -> None:
    """With encryption neither texts nor metadata are readable on the server."""
    encryption = EncryptedRedisSerializer(b"k" * 32)
    with RedisVectorStore.from_url(redis_server.url, Words(), prefix=prefix, encryption=encryption) as store:
        store.add_texts(["gold of Siguiri"], [{"mine": "Siguiri"}])
        assert store.similarity_search("gold", filter={"mine": "Siguiri"})
    with redis_server.client() as raw:
        for key in raw.keys(f"{prefix}:*:item:*"):
            assert not any(b"Siguiri" in value for value in raw.hgetall(key).values())


def test_two_flushes(redis_server: RunningServer, prefix: str) -> None:
    """A search is two flushes, adding and reading by id one."""
    with (
        running_proxy(redis_server.port) as proxy,
        RedisVectorStore.from_url(proxy.url, Words(), prefix=prefix) as store,
    ):
        store.add_texts(["gold"], ids=["1"])
        store.similarity_search("gold")
        store.get_by_ids(["1"])
        for call, flushes in (
            (lambda: store.similarity_search("gold"), 2),
            (lambda: store.max_marginal_relevance_search("gold"), 3),
            (lambda: store.get_by_ids(["1"]), 1),
            (lambda: store.add_texts(["rice"], ids=["2"]), 1),
        ):
            proxy.reset_counts()
            call()
            assert proxy.round_trips == flushes


async def test_deleting_everything(store: RedisVectorStore) -> None:
    """Without ids, both forms of ``delete`` empty the namespace; ids are a list, not one string."""
    store.add_texts(["one", "two"], ids=["1", "2"])
    with pytest.raises(InvalidInputError, match="list of strings"):
        store.delete("1")  # type: ignore[arg-type]
    assert await store.adelete() is True
    assert store.get_by_ids(["1", "2"]) == []


def test_bad_input(redis_server: RunningServer, prefix: str) -> None:
    """An invalid embedding, a foreign document or a non-text is a named error."""
    with pytest.raises(ConfigurationError, match="Embeddings"):
        RedisVectorStore.from_url(redis_server.url, "text-embedding")  # type: ignore[arg-type]
    with RedisVectorStore.from_url(redis_server.url, Words(), prefix=prefix) as store:
        with pytest.raises(InvalidInputError):
            store.add_texts([3])  # type: ignore[list-item]
        with pytest.raises(InvalidInputError):
            store.similarity_search(3)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError):
            store.similarity_search("gold", k=-1)
        with RedisStore.from_url(redis_server.url, prefix=prefix, collection="documents") as other:
            other.put(("documents", "all"), "x", {"no": "document"})
        with pytest.raises(CorruptDataError, match="document"):
            store.get_by_ids(["x"])
