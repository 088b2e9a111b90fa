"""``RedisSaver``: langgraph checkpoints on plain Redis or Valkey, sync and async in one object."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from ecowas_lc.checkpoint.base import SaverBase, importer_of, run_ids_of
from ecowas_lc.checkpoint.copying import copy_thread_op
from ecowas_lc.checkpoint.delta import delta_history_op
from ecowas_lc.checkpoint.ops import delete_thread_op
from ecowas_lc.checkpoint.place import place_of, thread_id_of
from ecowas_lc.checkpoint.reading import get_tuple_op
from ecowas_lc.checkpoint.upkeep import delete_for_runs_walk
from ecowas_lc.checkpoint.walk import Query, Walk, page_op
from ecowas_lc.storage.lines import ImportReport, Progress, checked_lines, one_by_one


class RedisSaver(SaverBase):
    """Stores langgraph checkpoints in Redis or Valkey: no modules, one round trip an operation, linear size.

    Make one with :meth:`from_url` or :meth:`from_settings`, or hand in redis-py clients; use it plainly or with
    ``with`` or ``async with``. One object serves sync code from any thread and async code from any event loop.
    It remembers up to about 80 MB of the lists and texts it has met, so that they are not sent or read again.

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

    # --- sync ---

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or its thread's latest; ``None`` if there is none."""
        return self._server.run(get_tuple_op(self._at, place_of(config)))

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
        """Checkpoints, newest first: of a thread (and a namespace, if given), or thread by thread of all.

        ``filter`` compares metadata keys with ``==``; ``before`` names a checkpoint to start after.
        """
        return self._walked(Query(self._at, config, filter, before, limit).walk())

    def _walked(self, walk: Walk[Any]) -> Iterator[Any]:
        while (page := self._server.run(page_op(walk))) is not None:
            yield from page

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

        What delta channels of other checkpoints are rebuilt from stays, until those are gone. Runs of more than
        30 days ago are looked for in every thread.
        """
        for _ in self._walked(delete_for_runs_walk(self._at, run_ids_of(run_ids))):
            pass

    def prune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int | None = None
    ) -> None:
        """Shorten threads: ``"keep_latest"`` (or the ``keep_last`` newest of each namespace), or ``"delete"``.

        What delta channels and interrupted runs need stays. One call on the server holds it for about as long as
        reading the thread once takes.
        """
        self._server.run(self._prune_op(thread_ids, strategy, keep_last))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel, the writes since the nearest ancestor that has a value for it, and that value.

        One round trip for 200 ancestors, and one for each value.
        """
        return self._server.run(delta_history_op(self._at, place_of(config), channels)) if channels else {}

    def export_jsonl(
        self, thread_ids: Sequence[str] | None = None, *, on_progress: Progress | None = None
    ) -> Iterator[str]:
        """These threads, or every one, as lines of JSON without newlines, to the byte as they are stored.

        Streams: about a megabyte is in memory at a time, while the server keeps the thread as it stood when its
        turn came. Values are not decoded, so encrypted threads are exported as they are, without the key. Threads
        that are not there are left out. ``on_progress`` is called with how many are done, and of how many.
        """
        return self._walked(self._export_walk(thread_ids, on_progress))

    def import_jsonl(self, lines: Iterable[str], *, overwrite: bool = False) -> ImportReport:
        """Restore the threads that :meth:`export_jsonl` gave, pins included. Times to live count from now.

        Each thread comes whole, in one step, or not at all. One that exists with other contents is left as it is,
        and named in the report, unless ``overwrite``. Importing again changes nothing. What the memory service
        exported is passed over. Nothing is decoded: classes are checked against ``allow`` when a thread is read.

        Raises:
            InvalidInputError: ``lines`` is one text, or nothing that has lines.
            CorruptDataError: a line that can't be read, by its number, or a file that was cut short; the threads
                before it are imported.
            FormatVersionError: a newer version of this package wrote the lines.
            DecryptionError: an encrypted thread of another prefix, which could not be opened here.
        """
        importer = importer_of(self, overwrite=overwrite)
        for line in checked_lines(lines):
            if line.strip():
                self._server.run(importer.line_op(line))
        return importer.finish()

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

    # --- async ---

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Like :meth:`get_tuple`, without blocking the event loop."""
        return await self._server.arun(get_tuple_op(self._at, place_of(config)))

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
        async for item in self._awalked(Query(self._at, config, filter, before, limit).walk()):
            yield item

    async def _awalked(self, walk: Walk[Any]) -> AsyncIterator[Any]:
        while (page := await self._server.arun(page_op(walk))) is not None:
            for item in page:
                yield item

    async def adelete_thread(self, thread_id: str) -> None:
        """Like :meth:`delete_thread`, without blocking the event loop."""
        await self._server.arun(delete_thread_op(self._at, thread_id_of(thread_id)))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Like :meth:`copy_thread`, without blocking the event loop."""
        source, target = thread_id_of(source_thread_id), thread_id_of(target_thread_id)
        await self._server.arun(copy_thread_op(self._at, source, target))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Like :meth:`delete_for_runs`, without blocking the event loop."""
        async for _ in self._awalked(delete_for_runs_walk(self._at, run_ids_of(run_ids))):
            pass

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int | None = None
    ) -> None:
        """Like :meth:`prune`, without blocking the event loop."""
        await self._server.arun(self._prune_op(thread_ids, strategy, keep_last))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Like :meth:`get_delta_channel_history`, without blocking the event loop."""
        return await self._server.arun(delta_history_op(self._at, place_of(config), channels)) if channels else {}

    async def aexport_jsonl(
        self, thread_ids: Sequence[str] | None = None, *, on_progress: Progress | None = None
    ) -> AsyncIterator[str]:
        """Like :meth:`export_jsonl`, without blocking the event loop."""
        async for line in self._awalked(self._export_walk(thread_ids, on_progress)):
            yield line

    async def aimport_jsonl(
        self, lines: Iterable[str] | AsyncIterable[str], *, overwrite: bool = False
    ) -> ImportReport:
        """Like :meth:`import_jsonl`, without blocking the event loop; takes async iterables too."""
        importer = importer_of(self, overwrite=overwrite)
        async for line in one_by_one(lines):
            if line.strip():
                await self._server.arun(importer.line_op(line))
        return importer.finish()

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
