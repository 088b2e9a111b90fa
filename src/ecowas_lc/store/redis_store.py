"""``RedisStore``: langgraph's long-term memory on plain Redis or Valkey, sync and async in one object."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, cast

from langgraph.store.base import (
    NOT_PROVIDED,
    BaseStore,
    NotProvided,
    Result,
    SearchItem,
    TTLConfig,
)
from langgraph.store.base import Op as StoreOp

from ecowas_lc._display import Displayed
from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.search.items import Mode, Write, fetch_op, newest_op, write_op
from ecowas_lc.search.place import Collection, Namespace, id_of
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.backup_format import ImportReport, Progress, checked_lines, header, one_by_one
from ecowas_lc.storage.connected import Connected
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.ops import Op, command
from ecowas_lc.storage.server import Server
from ecowas_lc.store.backup import Export, ItemImporter
from ecowas_lc.store.batches import GuardedPut, Plan, RankedSearch, check_namespace, milliseconds_of, plan_of
from ecowas_lc.store.indexing import Indexing, RedisIndexConfig, first_vector
from ecowas_lc.store.listing import ItemPage, list_op
from ecowas_lc.store.values import Contents

if TYPE_CHECKING:
    from ecowas_lc.checkpoint import EncryptedRedisSerializer

_PAGE = 500
_ANNOUNCED_SECONDS = 3600


class StoreOptions(TypedDict, total=False):
    """The options of a store, by name; see :class:`~ecowas_lc.RedisStore`."""

    prefix: str
    index: RedisIndexConfig | None
    ttl: TTLConfig | None
    encryption: EncryptedRedisSerializer | None
    collection: str


class RedisStore(Connected, Displayed, BaseStore):
    """Long-term memory for langgraph on Redis or Valkey >= 6.2, without modules: items that all threads share.

    Make one with :meth:`from_url` or :meth:`from_settings`, or pass redis-py clients. One object serves sync
    code from any thread and async code from any event loop. ``get``, ``put`` and ``delete`` are one round trip
    each.

    With ``index``, ``search(query=…)`` finds items by meaning, by words or by both, exactly. The process keeps
    what it has read of the index and asks only for what is new; a hit is always an item that the server still has.

    Args:
        client: ``redis.Redis`` or ``redis.RedisCluster``. Without ``async_client``, async methods run it in
            threads.
        async_client: ``redis.asyncio.Redis`` or ``RedisCluster``.
        prefix: what every key begins with.
        index: langgraph's ``IndexConfig`` (``dims``, ``embed``, ``fields``), and ``words``, ``mode`` and
            ``vectors`` of :class:`~ecowas_lc.store.RedisIndexConfig`. ``{}`` uses the offline embeddings of the
            extra ``semantic``. ``None``: queries don't rank.
        ttl: langgraph's ``TTLConfig``: ``default_ttl`` in minutes, and ``refresh_on_read``. Redis expires
            items, so nothing sweeps, and expired items are always left out.
        encryption: the serializer that :class:`~ecowas_lc.RedisSaver` encrypts with. Values, vectors and words are
            then encrypted and bound to their item; namespaces, keys, times and sizes stay readable.
        collection: the name of this store's items under the prefix; stores of different names share nothing.

    Raises:
        RedisUnavailableError, RedisRefusedError: the server can't be reached, or refuses (from any method).
        InvalidNamespaceError: a namespace has an empty label, or one with a period.
        NotSerializableError: a value is not a JSON object that comes back the same, such as one with NaN in it.
        DimensionMismatchError: vectors do not have the dimensions of the index, or of what is stored.
        CorruptDataError, FormatVersionError, WrongTypeError: what is stored is not an item of this version.
    """

    supports_ttl = True

    def __init__(
        self,
        client: Any = None,
        *,
        async_client: Any = None,
        prefix: str = "ecowas",
        index: RedisIndexConfig | None = None,
        ttl: TTLConfig | None = None,
        encryption: EncryptedRedisSerializer | None = None,
        collection: str = "store",
        server: Server | None = None,
    ) -> None:
        super().__init__()
        self._server = server or Server.from_clients(client, async_client)
        self._at = Collection(Keys(prefix), collection, not self._server.is_cluster)
        self._contents = Contents(self._at, sealer_of(encryption))
        self.ttl_config = _checked_ttl(ttl)
        self._indexing = None if index is None else Indexing(index, self._at, self._contents)
        self.index_config = index
        self._announced_at = -math.inf
        self.embeddings = self._indexing.embeddings if self._indexing else None

    @classmethod
    def from_url(cls, url: str, *, credential_provider: Any = None, **options: Unpack[StoreOptions]) -> Self:
        """Return a store for a URL: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``redis+cluster://``.

        Each new connection asks ``credential_provider``, redis-py's ``CredentialProvider``, for its login.
        ``options`` are the constructor's. Connections open on first use.
        """
        return cls(server=Server.from_url(url, credential_provider=credential_provider), **options)

    @classmethod
    def from_conn_string(
        cls, conn_string: str, *, credential_provider: Any = None, **options: Unpack[StoreOptions]
    ) -> Self:
        """Return what :meth:`from_url` returns, under the name that other stores use."""
        return cls.from_url(conn_string, credential_provider=credential_provider, **options)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        credential_provider: Any = None,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """Return a store for the server of the settings: ``REDIS_URL``, ``REDIS_HOST``, or the embedded server.

        ``options`` are the constructor's; the prefix is the settings' unless you pass one.
        """
        settings = settings or get_settings()
        options.setdefault("prefix", settings.prefix)
        return cls(server=Server.from_settings(settings, credential_provider=credential_provider), **options)

    def setup(self) -> None:
        """Do nothing: there is nothing to set up. Other stores need this call."""

    async def asetup(self) -> None:
        """Do nothing: see :meth:`setup`."""

    # --- langgraph's contract; its other methods are made of these ---

    def batch(self, ops: Iterable[StoreOp]) -> list[Result]:
        """Run operations, in one flush unless there is a search among them: reads first, then writes."""
        plan = self._plan(ops)
        embeddings = self.embeddings
        vectors: Any = embeddings.embed_documents(plan.texts) if embeddings and plan.texts else []
        queries: Any = [embeddings.embed_query(query) for query in plan.queries] if embeddings else []
        return self._server.run(self._batch_op(plan, vectors, queries))

    async def abatch(self, ops: Iterable[StoreOp]) -> list[Result]:
        """Run operations as :meth:`batch` does, without blocking the event loop."""
        plan = self._plan(ops)
        embeddings = self.embeddings
        vectors: Any = await embeddings.aembed_documents(plan.texts) if embeddings and plan.texts else []
        queries: Any = [await embeddings.aembed_query(query) for query in plan.queries] if embeddings else []
        return await self._server.arun(self._batch_op(plan, vectors, queries))

    def put(
        self,
        namespace: Namespace,
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
        if_version: int | None = None,
    ) -> None:
        """Store an item or replace it.

        Args:
            namespace: where it belongs, such as ``("memories", "ama")``.
            key: its name in the namespace.
            value: a dict that JSON can hold.
            index: which paths of ``value`` to index instead of the index configuration's; ``False``: none.
            ttl: minutes to live; ``None``: no end. Default: the store's ``default_ttl``.
            if_version: store it only if the item has this version (``item.version``); 0: only if there is none.

        Raises:
            ItemConflictError: the item has another version than ``if_version``.
        """
        if if_version is None:
            super().put(namespace, key, value, index, ttl=ttl)
        else:
            self.batch([self._guarded(namespace, key, value, index, ttl, if_version)])

    async def aput(
        self,
        namespace: Namespace,
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
        if_version: int | None = None,
    ) -> None:
        """Store an item or replace it, without blocking the event loop; see :meth:`put`."""
        if if_version is None:
            await super().aput(namespace, key, value, index, ttl=ttl)
        else:
            await self.abatch([self._guarded(namespace, key, value, index, ttl, if_version)])

    def search(
        self,
        namespace_prefix: Namespace,
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,  # noqa: A002
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
        mode: Mode | None = None,
    ) -> list[SearchItem]:
        """Return the items under a namespace prefix that fit best, or without a query those changed last.

        Args:
            namespace_prefix: ``()`` searches everything.
            query: what to look for; ignored by a store without an index.
            filter: values by key, or operators: ``{"kind": "report", "score": {"$gte": 3}}``.
            limit: how many items at most.
            offset: how many to leave out first.
            refresh_ttl: whether what is found lives its whole time again. Default: the store's
                ``refresh_on_read``.
            mode: ``"meaning"``, ``"words"`` or ``"both"``. Default: the index configuration's.
        """
        op = self._ranked(namespace_prefix, filter, limit, offset, query, refresh_ttl, mode)
        return cast("list[SearchItem]", self.batch([op])[0])

    async def asearch(
        self,
        namespace_prefix: Namespace,
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,  # noqa: A002
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
        mode: Mode | None = None,
    ) -> list[SearchItem]:
        """Return what :meth:`search` returns, without blocking the event loop."""
        op = self._ranked(namespace_prefix, filter, limit, offset, query, refresh_ttl, mode)
        return cast("list[SearchItem]", (await self.abatch([op]))[0])

    # --- beyond the contract ---

    def list_items(
        self, namespace_prefix: Namespace = (), *, after: str | None = None, limit: int = 100
    ) -> ItemPage:
        """Return a page of the items under a namespace prefix, in a fixed order.

        Unlike pages of ``search``, these repeat nothing and leave nothing out while others write.

        Args:
            namespace_prefix: ``()`` lists everything.
            after: the ``cursor`` of the page before.
            limit: how many items at most.
        """
        return self._server.run(list_op(self._at, self._contents, namespace_prefix, after, limit))

    async def alist_items(
        self, namespace_prefix: Namespace = (), *, after: str | None = None, limit: int = 100
    ) -> ItemPage:
        """Return what :meth:`list_items` returns, without blocking the event loop."""
        return await self._server.arun(list_op(self._at, self._contents, namespace_prefix, after, limit))

    def clear(self, namespace_prefix: Namespace) -> int:
        """Delete every item under a namespace prefix; returns how many there were. ``()`` deletes everything."""
        return self._server.run(self._clear_op(namespace_prefix))

    async def aclear(self, namespace_prefix: Namespace) -> int:
        """Delete what :meth:`clear` deletes, without blocking the event loop."""
        return await self._server.arun(self._clear_op(namespace_prefix))

    def index_bytes(self) -> int:
        """Return about how much memory this process's copies of the index take, in bytes."""
        return self._indexing.index.nbytes() if self._indexing else 0

    def export_jsonl(
        self, namespace_prefix: Namespace = (), *, on_progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the items under a namespace prefix as lines of JSON without newlines, as they are stored.

        Nothing is decrypted, so encrypted items are exported without their key, and their index comes along.
        ``on_progress`` is called with how many parts are done, and of how many.
        """
        yield header()
        for page in Export(self._at, namespace_prefix, on_progress).pages():
            yield from self._server.run(page)

    async def aexport_jsonl(
        self, namespace_prefix: Namespace = (), *, on_progress: Progress | None = None
    ) -> AsyncIterator[str]:
        """Yield what :meth:`export_jsonl` yields, without blocking the event loop."""
        yield header()
        for page in Export(self._at, namespace_prefix, on_progress).pages():
            for line in await self._server.arun(page):
                yield line

    def import_jsonl(self, lines: Iterable[str], *, overwrite: bool = False) -> ImportReport:
        """Restore the items that :meth:`export_jsonl` gave, into the collections that they came from.

        Times to live count from now. An item that exists with another value is left as it is, and named in the
        report, unless ``overwrite``. Importing again changes nothing. Threads and histories are passed over.

        Raises:
            CorruptDataError: a line that can't be read, by its number; the items before it are imported.
            FormatVersionError: a newer version of this package wrote the lines.
        """
        importer = ItemImporter(self._at, overwrite=overwrite)
        for line in checked_lines(lines):
            if line.strip():
                self._server.run(importer.line_op(line))
        return importer.finish()

    async def aimport_jsonl(
        self, lines: Iterable[str] | AsyncIterable[str], *, overwrite: bool = False
    ) -> ImportReport:
        """Restore what :meth:`import_jsonl` restores, also from async iterables; see there."""
        importer = ItemImporter(self._at, overwrite=overwrite)
        async for line in one_by_one(lines):
            if line.strip():
                await self._server.arun(importer.line_op(line))
        return importer.finish()

    # --- arguments made programs ---

    def _plan(self, ops: Iterable[StoreOp]) -> Plan:
        plan = plan_of(ops, self._at, self._contents, self._indexing)
        if plan.puts and time.monotonic() > self._announced_at + _ANNOUNCED_SECONDS:
            self._announced_at = time.monotonic()
            # So that a backup and a count find the collection; in the flush of the first write of an hour.
            entry = ("ZADD", self._at.keys.collections(), int(time.time()), id_bytes(self._at.name))
            plan.beside = (command(*entry),)
        return plan

    def _batch_op(self, plan: Plan, vectors: Any, queries: Any) -> Op[list[Result]]:
        indexing = self._indexing
        if indexing is None or not indexing.embeds:
            return plan.op({}, {})
        return plan.op(indexing.checked(plan.texts, vectors), indexing.checked(plan.queries, queries))

    def _guarded(
        self, namespace: Namespace, key: str, value: Any, index: Any, ttl: Any, if_version: int
    ) -> GuardedPut:
        check_namespace(namespace)
        minutes = (self.ttl_config or {}).get("default_ttl") if isinstance(ttl, NotProvided) else ttl
        op = GuardedPut(namespace, str(key), value, index, minutes)
        op.if_version = if_version
        return op

    def _ranked(
        self,
        namespace_prefix: Namespace,
        wanted: dict[str, Any] | None,
        limit: int,
        offset: int,
        query: str | None,
        refresh_ttl: bool | None,
        mode: Mode | None,
    ) -> RankedSearch:
        if query is not None and not isinstance(query, str):
            raise InvalidInputError(f"A query must be text, not {type(query).__name__}.")
        if refresh_ttl is None:
            refresh_ttl = (self.ttl_config or {}).get("refresh_on_read", True)
        op = RankedSearch(namespace_prefix, wanted, limit, offset, query, refresh_ttl)
        op.mode = mode
        return op

    def _clear_op(self, namespace_prefix: Namespace) -> Op[int]:
        check_namespace(namespace_prefix, may_be_empty=True)
        cleared = 0
        while page := (yield from newest_op(self._at, tuple(namespace_prefix), _PAGE)):
            yield from write_op(self._at, [Write(each.item_id, deletes=True) for each in page])
            cleared += len(page)
        return cleared

    def _vectors_op(self, namespace: Namespace, keys: Sequence[str]) -> Op[list[list[float] | None]]:
        """The first vector of each item; ``None`` where it has none."""
        ids = [id_of(namespace, key) for key in keys]
        rows = yield from fetch_op(self._at, ids, "hf")
        indexing = self._indexing
        if indexing is None or indexing.dimensions is None:
            return [None for _ in ids]
        return [
            None
            if row[1] is None
            else first_vector(self._contents.open(row[1], item_id, b"f"), indexing.dimensions)
            for item_id, row in zip(ids, rows, strict=True)
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.where}, prefix={self._at.keys.prefix!r})"


def sealer_of(encryption: Any) -> Any:
    """What encrypts, of the serializer that the user passed.

    Raises:
        ConfigurationError: it is something else.
    """
    if encryption is None:
        return None
    from ecowas_lc.checkpoint import EncryptedRedisSerializer

    if not isinstance(encryption, EncryptedRedisSerializer):
        raise ConfigurationError(
            f"encryption must be an EncryptedRedisSerializer, not {type(encryption).__name__}: "
            "RedisStore(…, encryption=EncryptedRedisSerializer(key))"
        )
    return encryption.sealer


def _checked_ttl(ttl: Any) -> TTLConfig | None:
    if ttl is None:
        return None
    if not isinstance(ttl, Mapping):
        raise ConfigurationError(f'ttl must be a TTLConfig such as {{"default_ttl": 60}}, not {ttl!r}.')
    known = TTLConfig.__annotations__.keys()
    if unknown := sorted(ttl.keys() - known):
        raise ConfigurationError(f"ttl has no option {unknown[0]!r}. Use {', '.join(sorted(known))}.")
    milliseconds_of(ttl.get("default_ttl"), "default_ttl")
    return cast("TTLConfig", dict(ttl))
