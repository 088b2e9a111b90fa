"""``RedisSaver``: langgraph checkpoints on plain Redis or Valkey, sync and async in one object."""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)

from ecowas_lc.checkpoint.codec.allowlist import Allow
from ecowas_lc.checkpoint.codec.serializer import GivenSerializer, Serializer
from ecowas_lc.checkpoint.format import Format
from ecowas_lc.checkpoint.lists import Memo
from ecowas_lc.checkpoint.ops import (
    Context,
    delete_thread_op,
    drop_index_entries_op,
    get_tuple_op,
    list_page_op,
    put_op,
    put_writes_op,
    threads_page_op,
)
from ecowas_lc.checkpoint.place import Place, checked_id, checkpoint_id_of, place_of, thread_id_of
from ecowas_lc.checkpoint.upkeep import (
    check_prune,
    copy_thread_op,
    delete_runs_of_thread_op,
    delta_history_op,
    expiry_op,
    forget_runs_op,
    prune_op,
    threads_of_run_op,
)
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server

_PAGE = 20


class RedisSaver(BaseCheckpointSaver[Any]):
    """Stores langgraph checkpoints in Redis or Valkey: no modules, one round trip an operation, linear size.

    Make one with :meth:`from_url` or :meth:`from_settings`, or hand in redis-py clients; use it plainly or with
    ``with`` or ``async with``. One object serves sync code from any thread and async code from any event loop.

    Args:
        client: ``redis.Redis`` or ``redis.RedisCluster``. Without ``async_client``, async
            methods run it in threads.
        async_client: ``redis.asyncio.Redis`` or ``RedisCluster``.
        prefix: what every key begins with; an ACL of ``~{prefix}:*`` is enough.
        ttl: seconds after its last write at which a whole thread expires; ``None``: never.
        serde: a langgraph serializer to use as it is; what is equal is then not shared. Default: strict msgpack.
        allow: classes that state may hold beyond Python's own, LangChain's messages and langgraph's: classes,
            ``"module.Class"``, or ``"any"`` if you trust everybody who can write to this Redis.
        refresh_on_read: reading a thread renews its ``ttl`` too.
        fencing: of two runs that extend the same checkpoint of a thread, the second fails with
            CheckpointConflictError instead of forking the thread in silence. Forks on purpose (time travel,
            ``update_state`` on an older checkpoint) stay possible.

    Raises:
        RedisUnavailableError, RedisRefusedError: the server can't be reached, or refuses (from any method).
        TypeNotAllowedError: a value could not be read back (from ``put`` and ``put_writes``), or a stored one
            names a class that is not allowed (from reads); the message gives the line to add.
        CorruptDataError, FormatVersionError, WrongTypeError: what is stored is not a thread of this version.
    """

    def __init__(
        self,
        client: Any = None,
        *,
        async_client: Any = None,
        prefix: str = "ecowas",
        ttl: float | None = None,
        serde: Any = None,
        allow: Allow = (),
        refresh_on_read: bool = False,
        fencing: bool = False,
        server: Server | None = None,
    ) -> None:
        super().__init__(serde=serde if serde is not None else Serializer(allow))
        if serde is not None and allow:
            raise InvalidInputError("allow belongs to the default serializer: give it to your own serde instead.")
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not ttl > 0):
            raise InvalidInputError("ttl is a number of seconds above 0, or None for threads that never expire.")
        self._server = server or Server.from_clients(client, async_client)
        self._keys = Keys(prefix)
        self._ttl_ms = None if ttl is None else max(1, round(ttl * 1000))
        self._refresh_on_read = refresh_on_read
        # Older checkpoints that this saver was asked for by id: extending one of them forks on purpose.
        self._forks: set[Place] | None = set() if fencing else None
        self._memo = Memo()
        self._context: Context | None = None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """A saver for a URL: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``redis+cluster://``.

        ``options`` are those of the constructor. Connections open on first use.
        """
        return cls(server=Server.from_url(url), **options)

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> Self:
        """The same, under the name that other savers use."""
        return cls.from_url(conn_string, **options)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **options: Any) -> Self:
        """A saver for the server of the settings: ``REDIS_URL``, ``REDIS_HOST``, or the embedded server."""
        settings = settings or get_settings()
        return cls(server=Server.from_settings(settings), **{"prefix": settings.prefix, **options})

    # --- one place for what the shells below share ---

    @property
    def _at(self) -> Context:
        # Made again where the serializer was replaced, as with_allowlist does on a copy of this object.
        context = self._context
        if context is None or context.serde is not self.serde:
            serializer = self.serde if isinstance(self.serde, Serializer) else GivenSerializer(self.serde)
            context = self._context = Context(
                self._keys,
                Format(serializer, getattr(serializer, "sealer", None), self._keys.prefix, self._memo),
                self._ttl_ms,
                self._refresh_on_read,
                not self._server.is_cluster,
                serde=self.serde,
            )
        return context

    def _put_op(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> tuple[Any, RunnableConfig]:
        before = place_of(config)
        place = before._replace(checkpoint_id=checked_id(checkpoint["id"], "checkpoint id"))
        op = put_op(
            self._at,
            place,
            checkpoint,
            get_checkpoint_metadata(config, metadata),
            new_versions,
            parent=before.checkpoint_id or "",
            fence=self._fence(before),
        )
        return op, {
            "configurable": {
                "thread_id": config["configurable"]["thread_id"],
                "checkpoint_ns": place.namespace or "",
                "checkpoint_id": checkpoint["id"],
            }
        }

    def _fence(self, extended: Place) -> bytes:
        if self._forks is None:
            return b""
        if extended in self._forks:
            self._forks.discard(extended)
            return b""
        return b"x" + extended.id

    def _writes_op(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str) -> Any:
        place = place_of(config)
        if place.checkpoint_id is None:
            raise InvalidInputError("Pending writes need the checkpoint_id that they are pending on.")
        return put_writes_op(self._at, place, writes, task_id, task_path)

    # --- sync ---

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or its thread's latest; ``None`` if there is none."""
        return self._server.run(get_tuple_op(self._at, place_of(config), self._forks))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint after the one that ``config`` names; gives the config of the new one."""
        op, stored = self._put_op(config, checkpoint, metadata, new_versions)
        self._server.run(op)
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote, pending on the checkpoint that ``config`` names."""
        self._server.run(self._writes_op(config, writes, task_id, task_path))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first: of a thread (and a namespace, if given), or of every thread.

        ``filter`` compares metadata keys with ``==``; ``before`` names a checkpoint to start after.
        """
        query = _Query(config, filter, before, limit)
        for thread in [query.place] if query.place else self._threads():
            found = False
            for page in query.pages(thread):
                tuples, query.following = self._server.run(list_page_op(self._at, thread, **page))
                found = found or bool(tuples) or query.following is not None
                yield from query.taken(tuples)
            if not found and query.is_over_all_threads:
                self._server.run(drop_index_entries_op(self._at, [thread.thread_id]))

    def _threads(self) -> Iterator[Place]:
        for start in range(0, 2**62, _PAGE):
            page = self._server.run(threads_page_op(self._at, start=start, count=_PAGE))
            yield from (Place(thread_id, None) for thread_id in page)
            if len(page) < _PAGE:
                return

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread, whatever its size, in one flush."""
        self._server.run(delete_thread_op(self._at, thread_id_of(thread_id)))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread whole, atomically; the copy is not pinned. A source that is not there copies nothing.

        Raises:
            InvalidInputError: there is a target thread already; it was left as it is.
        """
        source, target = thread_id_of(source_thread_id), thread_id_of(target_thread_id)
        self._server.run(copy_thread_op(self._at, source, target))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs wrote, in whatever threads.

        What delta channels of other checkpoints are rebuilt from stays, until those are gone.
        """
        wanted = _run_ids(run_ids)
        for run_id in wanted:
            for thread_id in self._server.run(threads_of_run_op(self._at, run_id)):
                self._server.run(delete_runs_of_thread_op(self._at, thread_id, wanted))
        if wanted:
            self._server.run(forget_runs_op(self._at, wanted))

    def prune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int | None = None
    ) -> None:
        """Shorten threads: ``"keep_latest"`` (or the ``keep_last`` newest of each namespace), or ``"delete"``.

        What delta channels and interrupted runs need stays. One call on the server holds it for about as long as
        reading the thread once takes.
        """
        keep = check_prune(strategy, keep_last)
        for thread_id in map(thread_id_of, thread_ids):
            self._server.run(prune_op(self._at, thread_id, strategy, keep))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel, the writes since the nearest ancestor that has a value for it, and that value.

        One round trip for 200 ancestors, and one for each value.
        """
        return self._server.run(delta_history_op(self._at, place_of(config), channels)) if channels else {}

    def pin(self, thread_id: str) -> bool:
        """Keep a thread from expiring, whatever is written later; whether there was one."""
        return self._server.run(self._expiry_op(thread_id, "pin")) != -1

    def unpin(self, thread_id: str) -> bool:
        """Let a thread expire again, the saver's ``ttl`` from now; whether there was one."""
        return self._server.run(self._expiry_op(thread_id, "unpin")) != -1

    def touch(self, thread_id: str) -> bool:
        """Renew a thread's expiry without reading it; whether there was one."""
        return self._server.run(self._expiry_op(thread_id, "touch")) != -1

    def ttl(self, thread_id: str) -> float | None:
        """Seconds until a thread expires; ``None``: never; -1: there is no such thread."""
        return self._server.run(self._expiry_op(thread_id, "ttl"))

    def _expiry_op(self, thread_id: str, what: str) -> Op[float | None]:
        return expiry_op(self._at, thread_id_of(thread_id), what, self._ttl_ms)

    # --- async ---

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Like :meth:`get_tuple`, without blocking the event loop."""
        return await self._server.arun(get_tuple_op(self._at, place_of(config), self._forks))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Like :meth:`put`, without blocking the event loop."""
        op, stored = self._put_op(config, checkpoint, metadata, new_versions)
        await self._server.arun(op)
        return stored

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Like :meth:`put_writes`, without blocking the event loop."""
        await self._server.arun(self._writes_op(config, writes, task_id, task_path))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Like :meth:`list`, without blocking the event loop."""
        query = _Query(config, filter, before, limit)
        async for thread in _one(query.place) if query.place else self._athreads():
            found = False
            for page in query.pages(thread):
                tuples, query.following = await self._server.arun(list_page_op(self._at, thread, **page))
                found = found or bool(tuples) or query.following is not None
                for item in query.taken(tuples):
                    yield item
            if not found and query.is_over_all_threads:
                await self._server.arun(drop_index_entries_op(self._at, [thread.thread_id]))

    async def _athreads(self) -> AsyncIterator[Place]:
        for start in range(0, 2**62, _PAGE):
            page = await self._server.arun(threads_page_op(self._at, start=start, count=_PAGE))
            for thread_id in page:
                yield Place(thread_id, None)
            if len(page) < _PAGE:
                return

    async def adelete_thread(self, thread_id: str) -> None:
        """Like :meth:`delete_thread`, without blocking the event loop."""
        await self._server.arun(delete_thread_op(self._at, thread_id_of(thread_id)))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Like :meth:`copy_thread`, without blocking the event loop."""
        source, target = thread_id_of(source_thread_id), thread_id_of(target_thread_id)
        await self._server.arun(copy_thread_op(self._at, source, target))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Like :meth:`delete_for_runs`, without blocking the event loop."""
        wanted = _run_ids(run_ids)
        for run_id in wanted:
            for thread_id in await self._server.arun(threads_of_run_op(self._at, run_id)):
                await self._server.arun(delete_runs_of_thread_op(self._at, thread_id, wanted))
        if wanted:
            await self._server.arun(forget_runs_op(self._at, wanted))

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int | None = None
    ) -> None:
        """Like :meth:`prune`, without blocking the event loop."""
        keep = check_prune(strategy, keep_last)
        for thread_id in map(thread_id_of, thread_ids):
            await self._server.arun(prune_op(self._at, thread_id, strategy, keep))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Like :meth:`get_delta_channel_history`, without blocking the event loop."""
        return await self._server.arun(delta_history_op(self._at, place_of(config), channels)) if channels else {}

    async def apin(self, thread_id: str) -> bool:
        """Like :meth:`pin`, without blocking the event loop."""
        return await self._server.arun(self._expiry_op(thread_id, "pin")) != -1

    async def aunpin(self, thread_id: str) -> bool:
        """Like :meth:`unpin`, without blocking the event loop."""
        return await self._server.arun(self._expiry_op(thread_id, "unpin")) != -1

    async def atouch(self, thread_id: str) -> bool:
        """Like :meth:`touch`, without blocking the event loop."""
        return await self._server.arun(self._expiry_op(thread_id, "touch")) != -1

    async def attl(self, thread_id: str) -> float | None:
        """Like :meth:`ttl`, without blocking the event loop."""
        return await self._server.arun(self._expiry_op(thread_id, "ttl"))

    # --- the rest of the contract ---

    def get_next_version(self, current: Any, channel: None) -> Any:
        """A version above ``current`` that no fork from the same checkpoint arrives at as well.

        A counter in the upper bits and 32 random ones below; threads begun by a saver with text versions go on
        with text.
        """
        if isinstance(current, str):
            count = int(current.split(".")[0]) + 1
            return f"{count:032}.{random.random():016}"  # noqa: S311
        count = (int(current) >> 32) if current else 0
        if current and count == 0:
            count = int(current)  # a plain counter: stay above it
        return (count + 1) << 32 | random.getrandbits(32)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Self:
        """A saver on the same connections that also allows these ``(module, name)`` pairs or classes."""
        if not isinstance(self.serde, Serializer):
            return super().with_allowlist(extra_allowlist)  # type: ignore[return-value]
        clone = copy.copy(self)
        clone.serde = self.serde.with_allowed(extra_allowlist)
        return clone

    # --- connections ---

    def close(self) -> None:
        """Close the connections that this saver opened; the next use opens new ones."""
        self._server.close()

    async def aclose(self) -> None:
        """Close the connections that this saver opened, the running event loop's among them."""
        await self._server.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.where}, prefix={self._keys.prefix!r})"


class _Query:
    """What ``list`` was asked, and how far it has got."""

    def __init__(
        self,
        config: RunnableConfig | None,
        wanted: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        self.place = place_of(config, every_namespace=True) if config is not None else None
        self.is_over_all_threads = self.place is None
        self.following: str | None = None
        self._wanted = dict(wanted or {})
        self._before = checkpoint_id_of(before)
        self._left = limit

    def pages(self, thread: Place) -> Iterator[dict[str, Any]]:
        """The arguments of each page of a thread, for as long as there may be another and more are wanted."""
        before = self._before
        while self._left is None or self._left > 0:
            size = _PAGE if self._left is None or self._wanted else min(_PAGE, self._left)
            yield {"before": before, "limit": size, "wanted": self._matches if self._wanted else None}
            before = self.following
            if before is None:
                return

    def taken(self, tuples: list[CheckpointTuple]) -> list[CheckpointTuple]:
        """As many of a page as are still wanted."""
        if self._left is None:
            return tuples
        tuples = tuples[: max(0, self._left)]
        self._left -= len(tuples)
        return tuples

    def _matches(self, metadata: CheckpointMetadata) -> bool:
        return all(metadata.get(key) == value for key, value in self._wanted.items())


def _run_ids(run_ids: Sequence[str]) -> list[str]:
    if isinstance(run_ids, str):
        raise InvalidInputError("delete_for_runs takes a list of run ids.")
    return list(dict.fromkeys(str(run_id) for run_id in run_ids))


async def _one(place: Place) -> AsyncIterator[Place]:
    yield place
