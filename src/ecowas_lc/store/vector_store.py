"""``RedisVectorStore``: LangChain's vector store on plain Redis or Valkey, with the index of ``RedisStore``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from langgraph.store.base import GetOp, PutOp, Result, TTLConfig
from langgraph.store.base import Op as StoreOp
from pydantic import model_validator

from ecowas_lc.errors import ConfigurationError, CorruptDataError, InvalidInputError
from ecowas_lc.search.index import check_numpy
from ecowas_lc.search.items import SearchMode
from ecowas_lc.search.place import Namespace
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.connected import Connected
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server
from ecowas_lc.store.batches import RankedSearch, milliseconds_of
from ecowas_lc.store.filters import check_filter, passes
from ecowas_lc.store.redis_store import RedisStore

if TYPE_CHECKING:
    from ecowas_lc.checkpoint import EncryptedRedisSerializer

Filter = Mapping[str, Any] | Callable[[Document], bool] | None
"""The documents to search: metadata values, with the operators of ``RedisStore``, or a function of a document."""

_TEXT, _METADATA = "text", "metadata"


class VectorStoreOptions(TypedDict, total=False):
    """Options of a vector store, by name; see :class:`~ecowas_lc.RedisVectorStore`."""

    prefix: str
    collection: str
    namespace: Namespace
    mode: SearchMode
    vectors: Literal["int8", "float32"]
    ttl: TTLConfig | None
    encryption: EncryptedRedisSerializer | None


class RedisRetriever(VectorStoreRetriever):
    """A retriever on a :class:`~ecowas_lc.RedisVectorStore`; returns ``k`` documents each time, if set."""

    k: int | None = None

    @model_validator(mode="after")
    def _k_is_a_search_option(self) -> Self:
        if self.k is not None:
            self.search_kwargs = {**self.search_kwargs, "k": self.k}
        return self


class RedisVectorStore(Connected, VectorStore):
    """Documents on Redis or Valkey >= 6.2, without modules; exact search by meaning, by words or by both.

    Create one with :meth:`from_url` or :meth:`from_settings`, or pass redis-py clients. One object serves sync
    code from any thread and async code from any event loop. The process keeps the parts of the index that it has
    read and fetches only what is new.

    Args:
        embedding: LangChain embeddings. ``None``: the offline embeddings of the extra ``semantic``.
        client: ``redis.Redis`` or ``redis.RedisCluster``.
        async_client: ``redis.asyncio.Redis`` or ``RedisCluster``.
        prefix: The prefix of every key.
        collection: The name of these documents under the prefix. All vectors of a collection have the same length.
        namespace: The namespace of the documents in the collection, such as ``("tenant", "togo")``. Searches find
            the documents in and below it.
        mode: What a query is compared by, unless a search sets its own: ``"meaning"``, ``"words"`` or ``"both"``.
        vectors: How the process keeps vectors, ``"int8"`` or ``"float32"``; both give exact results.
        ttl: langgraph's ``TTLConfig``, in minutes; documents don't expire unless you set it.
        encryption: The serializer that :class:`~ecowas_lc.RedisSaver` encrypts with.
        server: The ``.server`` of another object, to share its connections.

    Raises:
        RedisUnavailableError, RedisRefusedError: The server can't be reached, or refuses (from any method).
        NotSerializableError: A document's metadata can't be stored as JSON.
        DimensionMismatchError: The length of a vector differs from the stored vectors'.
    """

    _CLIENT_AT = 1

    def __init__(
        self,
        embedding: Embeddings | None = None,
        client: Any = None,
        *,
        async_client: Any = None,
        prefix: str = "ecowas",
        collection: str = "documents",
        namespace: Namespace = ("documents", "all"),
        mode: SearchMode = "meaning",
        vectors: Literal["int8", "float32"] = "int8",
        ttl: TTLConfig | None = None,
        encryption: EncryptedRedisSerializer | None = None,
        server: Server | None = None,
    ) -> None:
        if embedding is not None and not isinstance(embedding, Embeddings):
            raise ConfigurationError(
                f"embedding must be LangChain Embeddings, not {type(embedding).__name__}; clients come after it."
            )
        check_numpy()
        index: Any = {"fields": [_TEXT], "mode": mode, "vectors": vectors}
        if embedding is not None:
            index["embed"] = embedding
        self._store = RedisStore(
            client,
            async_client=async_client,
            prefix=prefix,
            index=index,
            ttl=ttl,
            encryption=encryption,
            collection=collection,
            server=server,
        )
        self._server = self._store._server
        self._namespace = tuple(namespace)

    @classmethod
    def from_url(
        cls,
        url: str,
        embedding: Embeddings | None = None,
        *,
        credential_provider: Any = None,
        **options: Unpack[VectorStoreOptions],
    ) -> Self:
        """Return a vector store for a URL.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``.
            embedding: LangChain embeddings. ``None``: the offline embeddings of the extra ``semantic``.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments.

        Returns:
            The vector store. It connects on first use.

        Raises:
            ConfigurationError: The URL or an option can't be used.
        """
        return cls(embedding, server=Server.from_url(url, credential_provider=credential_provider), **options)

    @classmethod
    def from_settings(
        cls,
        embedding: Embeddings | None = None,
        settings: Settings | None = None,
        *,
        credential_provider: Any = None,
        **options: Unpack[VectorStoreOptions],
    ) -> Self:
        """Return a vector store for the server of the settings.

        Args:
            embedding: LangChain embeddings. ``None``: the offline embeddings of the extra ``semantic``.
            settings: The settings to use; default: those of the process.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments; the prefix is taken from the settings unless you pass one.

        Raises:
            ConfigurationError: The settings or an option can't be used.
        """
        settings = settings or get_settings()
        options.setdefault("prefix", settings.prefix)
        server = Server.from_settings(settings, credential_provider=credential_provider)
        return cls(embedding, server=server, **options)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        url: str | None = None,
        **options: Any,
    ) -> Self:
        """Return a vector store that contains these texts.

        Args:
            texts: The texts to store.
            embedding: LangChain embeddings.
            metadatas: A dict for each text.
            ids: An id for each text; by default new ids are made.
            url: The server's URL; default: the server of the settings.
            **options: The constructor's arguments.
        """
        store = cls.from_url(url, embedding, **options) if url else cls.from_settings(embedding, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        url: str | None = None,
        **options: Any,
    ) -> Self:
        """Return a vector store that contains these texts, without blocking; see :meth:`from_texts`."""
        store = cls.from_url(url, embedding, **options) if url else cls.from_settings(embedding, **options)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings | None:
        """The embeddings in use."""
        return self._store.embeddings

    # --- storing ---

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        ttl: float | None = None,
        **_: Any,
    ) -> list[str]:
        """Store texts. A text whose id is already stored replaces the stored one.

        Args:
            texts: The texts to store.
            metadatas: A dict for each text.
            ids: An id for each text; by default new ids are made.
            ttl: Time to live in minutes. Default: the store's ``default_ttl``.

        Returns:
            The ids of the texts.
        """
        puts = self._puts(list(texts), metadatas, ids, ttl)
        self._store.batch(puts)
        return [op.key for op in puts]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        ttl: float | None = None,
        **_: Any,
    ) -> list[str]:
        """Store texts as :meth:`add_texts` does, without blocking the event loop."""
        puts = self._puts(list(texts), metadatas, ids, ttl)
        await self._store.abatch(puts)
        return [op.key for op in puts]

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Delete documents. Ids that don't exist are not an error.

        Args:
            ids: The ids of the documents; ``None`` deletes all documents.

        Returns:
            ``True``.
        """
        if ids is None:
            self._store.clear(self._namespace)
        else:
            self._store.batch(self._deletions(ids))
        return True

    async def adelete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Delete documents as :meth:`delete` does, without blocking the event loop."""
        if ids is None:
            await self._store.aclear(self._namespace)
        else:
            await self._store.abatch(self._deletions(ids))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in the same order; ids that don't exist are left out.

        Args:
            ids: The ids of the documents.
        """
        return _documents(self._store.batch(self._reads(ids)))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, without blocking the event loop; see :meth:`get_by_ids`."""
        return _documents(await self._store.abatch(self._reads(ids)))

    # --- searching ---

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002
        mode: SearchMode | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return the ``k`` documents that match a query best, best match first.

        Args:
            query: The text to search for.
            k: The maximum number of documents.
            filter: Metadata values, with the operators of ``RedisStore``, or a function of a document.
            mode: ``"meaning"``, ``"words"`` or ``"both"``. Default: the vector store's.
        """
        _refuse(unknown)
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter, mode=mode)]

    async def asimilarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002
        mode: SearchMode | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """Return the documents that match a query best, without blocking; see :meth:`similarity_search`."""
        _refuse(unknown)
        found = await self.asimilarity_search_with_score(query, k, filter=filter, mode=mode)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002
        mode: SearchMode | None = None,
        **unknown: Any,
    ) -> list[tuple[Document, float]]:
        """Return the ``k`` documents that match a query best, with their scores.

        Args:
            query: The text to search for.
            k: The maximum number of documents.
            filter: Metadata values, with the operators of ``RedisStore``, or a function of a document.
            mode: ``"meaning"``, ``"words"`` or ``"both"``. Default: the vector store's.

        Returns:
            Pairs of document and score, best match first. By meaning, the score is the cosine of query and
            document.
        """
        _refuse(unknown)
        return _scored(self._store.batch([self._search(query, None, k, filter, mode)]))

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002
        mode: SearchMode | None = None,
        **unknown: Any,
    ) -> list[tuple[Document, float]]:
        """Return documents with scores, without blocking; see :meth:`similarity_search_with_score`."""
        _refuse(unknown)
        return _scored(await self._store.abatch([self._search(query, None, k, filter, mode)]))

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002
        **unknown: Any,
    ) -> list[Document]:
        """Return the ``k`` documents nearest to a vector, nearest first.

        Args:
            embedding: The vector, with the length of the stored vectors.
            k: The maximum number of documents.
            filter: Metadata values, with the operators of ``RedisStore``, or a function of a document.
        """
        _refuse(unknown)
        found = _scored(self._store.batch([self._search("", embedding, k, filter, "meaning")]))
        return [document for document, _ in found]

    async def asimilarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002
        **unknown: Any,
    ) -> list[Document]:
        """Return the documents nearest to a vector, without blocking; see :meth:`similarity_search_by_vector`."""
        _refuse(unknown)
        found = _scored(await self._store.abatch([self._search("", embedding, k, filter, "meaning")]))
        return [document for document, _ in found]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter = None,  # noqa: A002
        **unknown: Any,
    ) -> list[Document]:
        """Return ``k`` documents that match a query and differ from each other.

        Args:
            query: The text to search for.
            k: The maximum number of documents.
            fetch_k: The number of best matches to choose from.
            lambda_mult: The weight of the match, 0 to 1: with 1 only the match counts, with 0 only the
                differences.
            filter: Metadata values, with the operators of ``RedisStore``, or a function of a document.
        """
        _refuse(unknown)
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter=filter)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter = None,  # noqa: A002
        **unknown: Any,
    ) -> list[Document]:
        """Return documents that match and differ, without blocking; see :meth:`max_marginal_relevance_search`."""
        _refuse(unknown)
        vector = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter=filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter = None,  # noqa: A002
        **unknown: Any,
    ) -> list[Document]:
        """Return ``k`` documents that are near a vector and differ from each other.

        Args:
            embedding: The vector, with the length of the stored vectors.
            k: The maximum number of documents.
            fetch_k: The number of nearest documents to choose from.
            lambda_mult: The weight of the nearness, 0 to 1: with 1 only the nearness counts, with 0 only the
                differences.
            filter: Metadata values, with the operators of ``RedisStore``, or a function of a document.
        """
        _refuse(unknown)
        found = _documents(self._store.batch([self._search("", embedding, fetch_k, filter, "meaning")])[0])
        vectors = self._server.run(self._vectors_op(found))
        return _chosen(found, vectors, embedding, k, lambda_mult)

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter = None,  # noqa: A002
        **unknown: Any,
    ) -> list[Document]:
        """Return documents near a vector that differ, without blocking the event loop.

        See :meth:`max_marginal_relevance_search_by_vector`.
        """
        _refuse(unknown)
        found = _documents(
            (await self._store.abatch([self._search("", embedding, fetch_k, filter, "meaning")]))[0]
        )
        vectors = await self._server.arun(self._vectors_op(found))
        return _chosen(found, vectors, embedding, k, lambda_mult)

    def as_retriever(self, **options: Any) -> RedisRetriever:
        """Return a retriever on this vector store.

        Args:
            **options: LangChain's: ``search_type`` (``"similarity"``, ``"mmr"``, ``"similarity_score_threshold"``)
                and ``search_kwargs`` (``k``, ``filter``, ``mode``, …); ``k=3`` is short for ``search_kwargs={"k":
                3}``.
        """
        return RedisRetriever(vectorstore=self, **options)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(1.0, max(0.0, cosine))

    # --- operations built from checked arguments ---

    @property
    def _embedding(self) -> Embeddings:
        assert self._store.embeddings is not None
        return self._store.embeddings

    def _puts(
        self, texts: list[str], metadatas: list[dict[str, Any]] | None, ids: list[str] | None, ttl: float | None
    ) -> list[PutOp]:
        for what, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise InvalidInputError(
                    f"There are {len(texts)} texts and {len(given)} {what}: pass one for each."
                )
        milliseconds_of(ttl)
        minutes = (self._store.ttl_config or {}).get("default_ttl") if ttl is None else ttl
        puts = []
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise InvalidInputError(f"Each text must be a string, not {type(text).__name__}.")
            key = ids[number] if ids and ids[number] is not None else str(uuid.uuid4())
            value = {_TEXT: text, _METADATA: (metadatas[number] if metadatas else None) or {}}
            puts.append(PutOp(self._namespace, key, value, None, minutes))
        return puts

    def _deletions(self, ids: Sequence[str]) -> list[StoreOp]:
        return [PutOp(self._namespace, key, None) for key in _checked_ids(ids)]

    def _reads(self, ids: Sequence[str]) -> list[StoreOp]:
        refresh = (self._store.ttl_config or {}).get("refresh_on_read", True)
        return [GetOp(self._namespace, key, refresh) for key in _checked_ids(ids)]

    def _search(
        self, query: str, vector: list[float] | None, k: int, wanted: Filter, mode: SearchMode | None
    ) -> RankedSearch:
        if not isinstance(query, str):
            raise InvalidInputError(f"A query must be a string, not {type(query).__name__}.")
        refresh = (self._store.ttl_config or {}).get("refresh_on_read", True)
        op = RankedSearch(self._namespace, None, k, 0, query, refresh)
        op.mode, op.vector, op.passes = mode, vector, _passing(wanted)
        return op

    def _vectors_op(self, found: list[Document]) -> Op[list[list[float] | None]]:
        return self._store._vectors_op(self._namespace, [document.id or "" for document in found])


def _checked_ids(ids: object) -> list[str]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InvalidInputError("ids must be a list of strings.")
    return list(ids)


def _passing(wanted: Filter) -> Callable[[dict[str, Any]], bool] | None:
    if wanted is None:
        return None
    if callable(wanted):
        function = wanted
        return lambda value: bool(function(_document(None, value)))
    checked = check_filter(wanted)
    return lambda value: passes(value.get(_METADATA) or {}, checked)


def _document(key: str | None, value: Mapping[str, Any]) -> Document:
    text, metadata = value.get(_TEXT), value.get(_METADATA)
    if not isinstance(text, str) or not isinstance(metadata, dict):
        raise CorruptDataError("A stored document has no text or metadata. Delete it, or add it again.")
    return Document(id=key, page_content=text, metadata=metadata)


def _documents(items: Any) -> list[Document]:
    return [_document(item.key, item.value) for item in items if item is not None]


def _scored(results: list[Result]) -> list[tuple[Document, float]]:
    found: Any = results[0]
    return [(_document(item.key, item.value), item.score) for item in found]


def _chosen(
    found: list[Document], vectors: list[list[float] | None], wanted: list[float], k: int, lambda_mult: float
) -> list[Document]:
    import numpy as np
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

    there = [(document, vector) for document, vector in zip(found, vectors, strict=True) if vector is not None]
    if not there or k < 1:
        return []
    rows = [vector for _, vector in there]
    chosen = maximal_marginal_relevance(np.asarray(wanted, dtype=np.float32), rows, lambda_mult, k)
    return [there[number][0] for number in chosen]


def _refuse(unknown: dict[str, Any]) -> None:
    if unknown:
        raise InvalidInputError(f"A search has no option {next(iter(unknown))!r}. Use filter or mode.")
