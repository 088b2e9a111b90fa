"""``RedisStore``: langgraph's long-term memory on plain Redis or Valkey, sync and async in one object."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from ecowas_lc.search.items import SearchMode, Write, fetch_op, filled_op, header_of, ids_op, newest_op, write_op
from ecowas_lc.search.place import Collection, Namespace, bucket_of_id, id_of, place_of, range_of
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.backup_format import ImportReport, Progress, checked_lines, header, one_by_one
from ecowas_lc.storage.connected import Connected
from ecowas_lc.storage.keys import Keys, id_bytes, id_text
from ecowas_lc.storage.ops import Op, command
from ecowas_lc.storage.server import Server
from ecowas_lc.store.backup import Export, ItemImporter
from ecowas_lc.store.batches import (
    BatchPlan,
    GuardedPut,
    RankedSearch,
    StoredItem,
    check_namespace,
    milliseconds_of,
    moment,
    plan_of,
)
from ecowas_lc.store.contents import Contents
from ecowas_lc.store.indexing import Indexing, RedisIndexConfig, first_vector
from ecowas_lc.store.reindex import reindex_op

if TYPE_CHECKING:
    from ecowas_lc.checkpoint import EncryptedRedisSerializer


_MOST = 10_000


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of items. Pass ``cursor`` as ``after`` to get the next page; ``None``: this is the last page."""

    items: tuple[StoredItem, ...]
    cursor: str | None


def list_op(
    at: Collection, contents: Contents, namespace_prefix: Namespace, after: str | None, limit: int
) -> Op[ItemPage]:
    """Return a page of at most ``limit`` items: bucket by bucket, each in the order of its ids."""
    check_namespace(namespace_prefix, may_be_empty=True)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST:
        raise InvalidInputError(f"limit must be a whole number from 1 to {_MOST}, not {limit!r}.")
    under = range_of(tuple(namespace_prefix))
    last = _last_of(after)
    items: list[StoredItem] = []
    for bucket in sorted((yield from filled_op(at, tuple(namespace_prefix)))):
        if last is not None and bucket < bucket_of_id(last):
            continue
        begun = last if last is not None and bucket == bucket_of_id(last) else None
        while True:
            wanted = limit - len(items)
            ids = yield from ids_op(at, bucket, under, wanted, begun)
            items += yield from _items_op(at, contents, ids)
            if len(ids) < wanted:
                break
            begun = ids[-1]
            if len(items) >= limit:
                return ItemPage(tuple(items), id_text(begun))
    return ItemPage(tuple(items), None)


def _items_op(at: Collection, contents: Contents, ids: list[bytes]) -> Op[list[StoredItem]]:
    if not ids:
        return []
    rows = yield from fetch_op(at, ids, "hv")
    items = []
    for item_id, row in zip(ids, rows, strict=True):
        if row[0] is None or row[1] is None:
            continue  # it has expired
        namespace, key = place_of(item_id)
        header = header_of(row[0])
        items.append(
            StoredItem(
                namespace=namespace,
                key=key,
                value=contents.decode_value(row[1], item_id),
                created_at=moment(header.created),
                updated_at=moment(header.version),
                version=header.version,
            )
        )
    return items


def _last_of(after: object) -> bytes | None:
    if after is None:
        return None
    if not isinstance(after, str) or "::" not in after:
        raise InvalidInputError("after must be the cursor of the page before.")
    return id_bytes(after)


_PAGE = 500
_ANNOUNCED_SECONDS = 3600


class StoreOptions(TypedDict, total=False):
    """Options of a store, by name; see :class:`~ecowas_lc.RedisStore`."""

    prefix: str
    index: RedisIndexConfig | None
    ttl: TTLConfig | None
    encryption: EncryptedRedisSerializer | None
    collection: str


class RedisStore(Connected, Displayed, BaseStore):
    """Long-term memory for langgraph on Redis or Valkey >= 6.2, without modules: items that all threads share.

    Create a store with :meth:`from_url` or :meth:`from_settings`, or pass redis-py clients. One object serves sync
    code from any thread and async code from any event loop. ``get``, ``put`` and ``delete`` take one round trip
    each.

    With ``index``, ``search(query=…)`` finds items by meaning, by words or by both, and the results are exact. The
    process keeps the parts of the index that it has read and fetches only what is new. A result is always an item
    that the server still has.

    Args:
        client: ``redis.Redis`` or ``redis.RedisCluster``. Without ``async_client``, async methods run it in
            threads.
        async_client: ``redis.asyncio.Redis`` or ``RedisCluster``.
        prefix: The prefix of every key.
        index: langgraph's ``IndexConfig`` (``dims``, ``embed``, ``fields``), plus ``words``, ``mode`` and
            ``vectors`` of :class:`~ecowas_lc.store.RedisIndexConfig`. ``{}`` uses the offline embeddings of the
            extra ``semantic``. ``None``: queries do not rank the results.
        ttl: langgraph's ``TTLConfig``: ``default_ttl`` in minutes, and ``refresh_on_read``. Redis expires the
            items, so no sweeper runs, and expired items are never returned.
        encryption: The serializer that :class:`~ecowas_lc.RedisSaver` encrypts with. Values, vectors and words are
            then encrypted and bound to their item; namespaces, keys, times and sizes stay readable.
        collection: The name of this store's items under the prefix; stores with different names share nothing.
        server: The ``.server`` of another object, to share its connections.

    Raises:
        RedisUnavailableError, RedisRefusedError: The server can't be reached, or refuses (from any method).
        InvalidNamespaceError: A namespace has an empty label, or a label with a period.
        NotSerializableError: A value is not a JSON object, or would not be the same after a round trip through
            JSON, such as one that contains NaN.
        DimensionMismatchError: The length of a vector differs from the index's or from the stored vectors'.
        CorruptDataError, FormatVersionError, WrongTypeError: The stored data is not an item of this version.
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
        """Return a store for a URL.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments.

        Returns:
            The store. It connects on first use.

        Raises:
            ConfigurationError: The URL or an option can't be used.
        """
        return cls(server=Server.from_url(url, credential_provider=credential_provider), **options)

    @classmethod
    def from_conn_string(
        cls, conn_string: str, *, credential_provider: Any = None, **options: Unpack[StoreOptions]
    ) -> Self:
        """Return a store for a URL: :meth:`from_url` under the name that other stores use.

        Args:
            conn_string: The URL.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments.
        """
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

        Args:
            settings: The settings to use; default: those of the process.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The constructor's arguments; the prefix is taken from the settings unless you pass one.

        Raises:
            ConfigurationError: The settings or an option can't be used.
        """
        settings = settings or get_settings()
        options.setdefault("prefix", settings.prefix)
        return cls(server=Server.from_settings(settings, credential_provider=credential_provider), **options)

    def setup(self) -> None:
        """Do nothing. Other stores need this call; this one needs no setup."""

    async def asetup(self) -> None:
        """Do nothing: see :meth:`setup`."""

    # --- langgraph's interface; BaseStore builds its other methods on these ---

    def batch(self, ops: Iterable[StoreOp]) -> list[Result]:
        """Run operations, reads first, then writes; in one flush unless they include a search.

        Args:
            ops: langgraph's operations.

        Returns:
            The result of each operation, in their order.
        """
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
        """Store an item, replacing any item with the same key.

        Args:
            namespace: The item's namespace, such as ``("memories", "ama")``.
            key: The item's name in the namespace.
            value: A dict that JSON can represent.
            index: The paths of ``value`` to index, instead of the index configuration's; ``False``: none.
            ttl: Time to live in minutes; ``None``: no expiry. Default: the store's ``default_ttl``.
            if_version: Store the item only if its current version (``item.version``) is this; 0: only if it does
                not exist.

        Raises:
            ItemConflictError: The item's version differs from ``if_version``.
            NotSerializableError: ``value`` would not be the same after a round trip through JSON; nothing is
                written.
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
        """Store an item, replacing any item with the same key, without blocking; see :meth:`put`."""
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
        mode: SearchMode | None = None,
    ) -> list[SearchItem]:
        """Return the items under a namespace prefix that match best; without a query, the most recently changed.

        Args:
            namespace_prefix: The start of the namespaces to search; ``()`` searches all items.
            query: The text to search for; ignored by a store without an index.
            filter: Values by key, or operators: ``{"kind": "report", "score": {"$gte": 3}}``.
            limit: The maximum number of items.
            offset: The number of items to skip first.
            refresh_ttl: Whether to restart the time to live of the items found. Default: the store's
                ``refresh_on_read``.
            mode: ``"meaning"``, ``"words"`` or ``"both"``. Default: the index configuration's.

        Returns:
            The items, best match first.
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
        mode: SearchMode | None = None,
    ) -> list[SearchItem]:
        """Return the items that match best, without blocking the event loop; see :meth:`search`."""
        op = self._ranked(namespace_prefix, filter, limit, offset, query, refresh_ttl, mode)
        return cast("list[SearchItem]", (await self.abatch([op]))[0])

    # --- methods beyond langgraph's interface ---

    def list_items(
        self, namespace_prefix: Namespace = (), *, after: str | None = None, limit: int = 100
    ) -> ItemPage:
        """Return one page of the items under a namespace prefix, in a fixed order.

        Unlike the pages of ``search``, these pages neither repeat nor skip an item while other programs write.

        Args:
            namespace_prefix: The start of the namespaces to list; ``()`` lists all items.
            after: The ``cursor`` of the previous page.
            limit: The maximum number of items.

        Returns:
            An ``ItemPage``.
        """
        return self._server.run(list_op(self._at, self._contents, namespace_prefix, after, limit))

    async def alist_items(
        self, namespace_prefix: Namespace = (), *, after: str | None = None, limit: int = 100
    ) -> ItemPage:
        """Return one page of items, without blocking the event loop; see :meth:`list_items`."""
        return await self._server.arun(list_op(self._at, self._contents, namespace_prefix, after, limit))

    def clear(self, namespace_prefix: Namespace) -> int:
        """Delete every item under a namespace prefix.

        Args:
            namespace_prefix: The start of the namespaces; ``()`` deletes all items.

        Returns:
            The number of items deleted.
        """
        return self._server.run(self._clear_op(namespace_prefix))

    async def aclear(self, namespace_prefix: Namespace) -> int:
        """Delete every item under a namespace prefix, without blocking the event loop; see :meth:`clear`."""
        return await self._server.arun(self._clear_op(namespace_prefix))

    def reindex(self) -> int:
        """Scan the server once and enter items that the indexes lack, in every collection under the prefix.

        You need this if the server evicted keys. ``get`` finds such items, but searches and lists don't. The user
        needs permission to run ``SCAN``.

        Returns:
            The number of items entered.
        """
        return self._server.run(reindex_op(self._at.keys))

    async def areindex(self) -> int:
        """Enter items that the indexes lack, without blocking the event loop; see :meth:`reindex`."""
        return await self._server.arun(reindex_op(self._at.keys))

    def index_bytes(self) -> int:
        """Return the approximate size in bytes of this process's copies of the index."""
        return self._indexing.index.nbytes() if self._indexing else 0

    def export_jsonl(
        self, namespace_prefix: Namespace = (), *, on_progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the items under a namespace prefix as lines of JSON without newlines, exactly as they are stored.

        Nothing is decrypted, so you can export encrypted items without their key. Their index is exported with
        them.

        Args:
            namespace_prefix: The start of the namespaces to export; ``()`` exports all items.
            on_progress: Called with the number of parts done and their total.
        """
        yield header()
        for page in Export(self._at, namespace_prefix, on_progress).pages():
            yield from self._server.run(page)

    async def aexport_jsonl(
        self, namespace_prefix: Namespace = (), *, on_progress: Progress | None = None
    ) -> AsyncIterator[str]:
        """Yield items as lines of JSON, without blocking the event loop; see :meth:`export_jsonl`."""
        yield header()
        for page in Export(self._at, namespace_prefix, on_progress).pages():
            for line in await self._server.arun(page):
                yield line

    def import_jsonl(self, lines: Iterable[str], *, overwrite: bool = False) -> ImportReport:
        """Restore the items that :meth:`export_jsonl` wrote, into their original collections.

        Times to live count from now. Importing the same lines again changes nothing. Threads and histories are
        skipped.

        Args:
            lines: The lines of an export.
            overwrite: Replace existing items whose value differs; by default they are kept and listed in the
                report.

        Returns:
            An ``ImportReport``.

        Raises:
            CorruptDataError: A line can't be read; the message gives its number. The items before it are imported.
            FormatVersionError: A newer version of this package wrote the lines.
        """
        importer = ItemImporter(self._at, overwrite=overwrite)
        for line in checked_lines(lines):
            if line.strip():
                self._server.run(importer.line_op(line))
        return importer.finish()

    async def aimport_jsonl(
        self, lines: Iterable[str] | AsyncIterable[str], *, overwrite: bool = False
    ) -> ImportReport:
        """Restore items, also from async iterables, without blocking the event loop; see :meth:`import_jsonl`."""
        importer = ItemImporter(self._at, overwrite=overwrite)
        async for line in one_by_one(lines):
            if line.strip():
                await self._server.arun(importer.line_op(line))
        return importer.finish()

    # --- programs built from checked arguments ---

    def _plan(self, ops: Iterable[StoreOp]) -> BatchPlan:
        plan = plan_of(ops, self._at, self._contents, self._indexing)
        if plan.puts and time.monotonic() > self._announced_at + _ANNOUNCED_SECONDS:
            self._announced_at = time.monotonic()
            # Lets a backup and a count find the collection; sent with the first write of each hour.
            entry = ("ZADD", self._at.keys.collections(), int(time.time()), id_bytes(self._at.name))
            plan.before = (command(*entry),)
        return plan

    def _batch_op(self, plan: BatchPlan, vectors: Any, queries: Any) -> Op[list[Result]]:
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
        mode: SearchMode | None,
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
        """Return the first vector of each item; ``None`` for an item without one."""
        ids = [id_of(namespace, key) for key in keys]
        rows = yield from fetch_op(self._at, ids, "hf")
        dimensions = self._indexing.dimensions if self._indexing else None
        return [
            None
            if row[1] is None or dimensions is None
            else first_vector(self._contents.open(row[1], item_id, b"f"), dimensions)
            for item_id, row in zip(ids, rows, strict=True)
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.where}, prefix={self._at.keys.prefix!r})"


def sealer_of(encryption: Any) -> Any:
    """Return the object that encrypts, from the serializer that the user passed.

    Raises:
        ConfigurationError: ``encryption`` is not an encrypting serializer.
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
