"""``RedisSaver``: langgraph checkpoints on plain Redis or Valkey, sync and async in one object."""

from __future__ import annotations

import builtins
import copy
import datetime as dt
import random
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

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

from ecowas_lc._connection_settings import LONGEST_TTL
from ecowas_lc._display import Displayed
from ecowas_lc.checkpoint.client_cache import ClientCache
from ecowas_lc.checkpoint.codec.allowlist import Allow
from ecowas_lc.checkpoint.codec.serializer import GivenSerializer, Serializer
from ecowas_lc.checkpoint.configs import CheckpointPlace, Extended, checked_id, place_of, thread_id_of
from ecowas_lc.checkpoint.format import Format, check_whole
from ecowas_lc.checkpoint.reading import Query, Walk, delta_history_op, get_tuple_op, page_op
from ecowas_lc.checkpoint.saved_thread import SavedThread
from ecowas_lc.checkpoint.thread_words import ThreadWords
from ecowas_lc.checkpoint.writing import SaverContext, delete_thread_op, put_op, put_writes_op
from ecowas_lc.errors import InvalidIdError, InvalidInputError
from ecowas_lc.storage.connected import Connected
from ecowas_lc.storage.keys import Keys, checked_operation
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server

# A program's first call does not wait for modules that only administration needs: methods import those themselves.
if TYPE_CHECKING:
    from ecowas_lc.checkpoint.backup import ThreadImporter
    from ecowas_lc.checkpoint.differences import ThreadDifference
    from ecowas_lc.checkpoint.lease import ThreadLeases
    from ecowas_lc.checkpoint.listing import ThreadFilter, ThreadRow
    from ecowas_lc.settings import Settings
    from ecowas_lc.storage.backup_format import ImportReport, Progress

_PLAIN = (str, int, float, bool)
# Set in langgraph's configs for a subgraph that replays the steps after a checkpoint of its parent.
_REPLAY = "__pregel_replay_state"


class SaverOptions(TypedDict, total=False):
    """Options of a saver, by name; see :class:`~ecowas_lc.RedisSaver`."""

    prefix: str
    ttl: float | None
    default_ttl: float | None
    serde: Any
    allow: Allow
    refresh_on_read: bool
    fencing: bool
    keep_last: int | None


class SaverBase(Connected, Displayed, BaseCheckpointSaver[Any]):
    """The connections, keys and options of a saver; :class:`~ecowas_lc.RedisSaver` adds the methods."""

    def __init__(
        self,
        client: Any = None,
        *,
        async_client: Any = None,
        prefix: str = "ecowas",
        ttl: float | None = None,
        default_ttl: float | None = None,
        serde: Any = None,
        allow: Allow = (),
        refresh_on_read: bool = False,
        fencing: bool = False,
        keep_last: int | None = None,
        server: Server | None = None,
    ) -> None:
        super().__init__(serde=serde if serde is not None else Serializer(allow))
        if serde is not None and allow:
            raise InvalidInputError("allow can't be combined with serde. Pass it to your serializer instead.")
        for name, seconds in (("ttl", ttl), ("default_ttl", default_ttl)):
            if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds <= LONGEST_TTL):
                minutes = " A dict of minutes, as other savers take, becomes ttl= and refresh_on_read= here."
                raise InvalidInputError(
                    f"{name} must be a number of seconds above 0, or None for threads that never expire."
                    f"{minutes if hasattr(seconds, 'keys') else ''}"
                )
        self._server = server or Server.from_clients(client, async_client)
        self._keys = Keys(prefix)
        seconds = default_ttl if ttl is None else ttl
        self._ttl_ms = None if seconds is None else max(1, round(seconds * 1000))
        self._ttl_is_least = ttl is None
        self._refresh_on_read = refresh_on_read
        self._fencing = fencing
        self._keep_last = 0
        if keep_last is not None:
            from ecowas_lc.checkpoint.maintenance import check_prune

            self._keep_last = check_prune("keep_latest", keep_last)
        self._memo = ClientCache()
        self._words = ThreadWords()
        self._context: SaverContext | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "ecowas",
        ttl: float | None = None,
        default_ttl: float | None = None,
        serde: Any = None,
        allow: Allow = (),
        refresh_on_read: bool = False,
        fencing: bool = False,
        keep_last: int | None = None,
        credential_provider: Any = None,
    ) -> Self:
        """Return a saver for a URL.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``.
            prefix: The prefix of every key.
            ttl: As in the constructor, in seconds.
            default_ttl: As in the constructor, in seconds.
            serde: As in the constructor.
            allow: As in the constructor.
            refresh_on_read: As in the constructor.
            fencing: As in the constructor.
            keep_last: As in the constructor.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.

        Returns:
            The saver. It connects on first use.

        Raises:
            ConfigurationError: The URL or an option can't be used.
        """
        return cls(
            server=Server.from_url(url, credential_provider=credential_provider),
            prefix=prefix,
            ttl=ttl,
            default_ttl=default_ttl,
            serde=serde,
            allow=allow,
            refresh_on_read=refresh_on_read,
            fencing=fencing,
            keep_last=keep_last,
        )

    @classmethod
    def from_conn_string(
        cls, conn_string: str, *, credential_provider: Any = None, **options: Unpack[SaverOptions]
    ) -> Self:
        """Return a saver for a URL: :meth:`from_url` under the name that other savers use.

        Use the result as it is, or with ``with`` or ``async with``, which close it at the end.

        Args:
            conn_string: The URL.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The options of :meth:`from_url`.
        """
        return cls.from_url(conn_string, credential_provider=credential_provider, **options)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        credential_provider: Any = None,
        **options: Unpack[SaverOptions],
    ) -> Self:
        """Return a saver for the server of the settings: ``REDIS_URL``, ``REDIS_HOST``, or the embedded server.

        Args:
            settings: The settings to use; default: those of the process.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
            **options: The options of :meth:`from_url`. By default the prefix is taken from the settings, and
                ``default_ttl`` is ``REDIS_MEMORY_TTL``, as for histories. Pass ``ttl=None`` for threads that never
                expire.

        Raises:
            ConfigurationError: The settings or an option can't be used.
        """
        from ecowas_lc.settings import get_settings

        settings = settings or get_settings()
        options.setdefault("prefix", settings.prefix)
        if "ttl" not in options:
            options.setdefault("default_ttl", settings.redis_memory_ttl)
        return cls(server=Server.from_settings(settings, credential_provider=credential_provider), **options)

    # --- programs built from checked arguments ---

    @property
    def _at(self) -> SaverContext:
        # Created again if the serializer was replaced, as with_allowlist does on a copy of this object.
        context = self._context
        if context is None or context.serde is not self.serde:
            serializer = self.serde if isinstance(self.serde, Serializer) else GivenSerializer(self.serde)
            context = self._context = SaverContext(
                self._keys,
                Format(serializer, getattr(serializer, "sealer", None), self._keys.prefix, self._memo),
                self._ttl_ms,
                self._refresh_on_read,
                not self._server.is_cluster,
                fencing=self._fencing,
                keep_last=self._keep_last,
                serde=self.serde,
                ttl_is_least=self._ttl_is_least,
            )
        return context

    def _put_op(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> tuple[Op[None], RunnableConfig]:
        before = place_of(config)
        check_whole(checkpoint)
        checkpoint_id = checked_id(checkpoint["id"], "checkpoint id")
        if not checkpoint_id:
            raise InvalidIdError("The checkpoint's id is empty.")
        op = put_op(
            self._at,
            CheckpointPlace(before.thread_id, before.namespace, checkpoint_id),
            checkpoint,
            _whole_metadata(config, metadata),
            new_versions,
            parent=before.checkpoint_id or "",
            fence=self._fence(before, config, metadata),
        )
        return op, {
            "configurable": {
                "thread_id": config["configurable"]["thread_id"],
                "checkpoint_ns": before.namespace or "",
                "checkpoint_id": checkpoint_id,
            }
        }

    def _fence(self, extended: CheckpointPlace, config: RunnableConfig, metadata: CheckpointMetadata) -> bytes:
        """Return the checkpoint that must still be the latest; nothing if the caller forks on purpose."""
        if not self._fencing:
            return b""
        configurable = config["configurable"]
        known = configurable.get("checkpoint_id")
        meant = metadata.get("source") == "fork" or (
            type(known) is Extended if extended.checkpoint_id else _REPLAY in configurable
        )
        return b"" if meant else b"x" + extended.id

    def _writes_op(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str) -> Op[None]:
        place = place_of(config)
        if place.checkpoint_id is None:
            raise InvalidInputError(
                "The config has no checkpoint_id. put_writes needs the checkpoint that the writes belong to."
            )
        return put_writes_op(self._at, place, writes, task_id, task_path)

    def _prune_op(self, thread_ids: Sequence[str], strategy: str, keep_last: int | None) -> Op[None]:
        from ecowas_lc.checkpoint.maintenance import check_prune

        keep = check_prune(strategy, keep_last)
        if isinstance(thread_ids, str):
            raise InvalidInputError("prune takes a list of thread ids.")
        ids = [thread_id_of(thread_id) for thread_id in thread_ids]
        return self._prune_each_op(ids, strategy, keep)

    def _prune_each_op(self, thread_ids: Sequence[str], strategy: str, keep: int) -> Op[None]:
        from ecowas_lc.checkpoint.maintenance import prune_op

        for thread_id in thread_ids:
            yield from prune_op(self._at, thread_id, strategy, keep)

    def _export_walk(self, thread_ids: Sequence[str] | None, on_progress: Progress | None) -> Walk[str]:
        from ecowas_lc.checkpoint.backup import export_walk

        if isinstance(thread_ids, str):
            raise InvalidInputError("export_jsonl takes a list of thread ids.")
        ids = None if thread_ids is None else [thread_id_of(thread_id) for thread_id in thread_ids]
        return export_walk(self._at, ids, on_progress)

    def _expiry_op(self, thread_id: str, what: str) -> Op[float | None]:
        from ecowas_lc.checkpoint.maintenance import expiry_op

        return expiry_op(self._at, thread_id_of(thread_id), what)

    # --- the rest of langgraph's interface ---

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return a version above ``current`` that another fork from the same checkpoint will not produce.

        The version has a counter in the upper bits and 32 random bits below. Threads that another saver started
        with text versions continue with text.

        Args:
            current: The channel's version; ``None``: it has none yet.
            channel: Ignored.
        """
        if isinstance(current, str):
            count = int(current.split(".")[0]) + 1
            return f"{count:032}.{random.random():016}"  # noqa: S311
        count = (int(current) >> 32) if current else 0
        if current and count == 0:
            count = int(current)  # a plain counter: the new version must be higher
        return (count + 1) << 32 | random.getrandbits(32)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Self:
        """Return a saver on the same connections that allows further classes.

        Args:
            extra_allowlist: The classes, or their ``(module, name)`` pairs.
        """
        if not isinstance(self.serde, Serializer):
            return super().with_allowlist(extra_allowlist)  # type: ignore[return-value]
        clone = copy.copy(self)
        clone.serde = self.serde.with_allowed(extra_allowlist)
        return clone

    def viewing(self) -> Self:
        """Return a saver on the same connections that reads every thread, whatever classes its state holds.

        Objects of classes that ``allow`` does not name become ``OpaqueValue``, and nothing is imported. Use it to
        show, list and compare threads, not to run graphs. A saver with your own ``serde`` reads as before.
        """
        from ecowas_lc.checkpoint.viewing import viewing

        clone = copy.copy(self)
        if isinstance(self.serde, Serializer):
            clone.serde = viewing(self.serde)
        clone._memo, clone._context = ClientCache(), None
        return clone

    def _listed(self, wanted: ThreadFilter) -> Walk[ThreadRow]:
        from ecowas_lc.checkpoint.listing import rows_walk

        return rows_walk(self.viewing()._at, wanted, self._words)

    def _difference_op(
        self, thread_id: str, before: str | None, after: str | None, checkpoint_ns: str
    ) -> Op[ThreadDifference]:
        from ecowas_lc.checkpoint.differences import difference_op

        for each in (before, after):
            if each is not None:
                checked_id(each, "checkpoint id")
        namespace = checked_id(checkpoint_ns, "checkpoint namespace")
        return difference_op(self.viewing()._at, thread_id_of(thread_id), before, after, namespace)

    # --- connections ---

    def setup(self) -> None:
        """Do nothing. Other savers need this call; this one needs no setup."""

    async def asetup(self) -> None:
        """Do nothing: see :meth:`setup`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.where}, prefix={self._keys.prefix!r})"


def run_ids_of(run_ids: Sequence[str]) -> list[str]:
    """Return run ids as text, without duplicates.

    Raises:
        InvalidInputError: ``run_ids`` is a single string instead of a list.
    """
    if isinstance(run_ids, str):
        raise InvalidInputError("delete_for_runs takes a list of run ids, not a string.")
    return [run_id for run_id in dict.fromkeys(map(str, run_ids)) if run_id]


def _whole_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> CheckpointMetadata:
    whole: Any = get_checkpoint_metadata(config, metadata)
    for key in whole.keys() - metadata.keys():
        # langgraph copies these from the config, and accepts members of an IntEnum as numbers.
        if type(value := whole[key]) not in _PLAIN:
            whole[key] = int(value) if isinstance(value, int) else float(value)
    return whole  # type: ignore[no-any-return]


def importer_of(saver: SaverBase, *, overwrite: bool) -> ThreadImporter:
    """Return the importer that restores threads line by line, for readers of files that hold more than threads."""
    from ecowas_lc.checkpoint.backup import ThreadImporter

    return ThreadImporter(saver._at, overwrite=overwrite)


class RedisSaver(SaverBase):
    """A langgraph checkpointer on Redis or Valkey: no modules, one round trip per operation, linear size.

    Create one with :meth:`from_url` or :meth:`from_settings`, or pass redis-py clients. Use it as it is, or with
    ``with`` or ``async with``. One object serves sync code from any thread and async code from any event loop. It
    caches up to about 80 MB of the lists and texts that it has seen, so that it does not send or read them again.

    Args:
        client: ``redis.Redis`` or ``redis.RedisCluster``. Without ``async_client``, async methods run it in
            threads.
        async_client: ``redis.asyncio.Redis`` or ``RedisCluster``.
        prefix: The prefix of every key; an ACL of ``~{prefix}:*`` is enough.
        ttl: Seconds after its last write at which a whole thread expires; ``None``: never.
        default_ttl: Like ``ttl``, and used if ``ttl`` is not set, but it never shortens the life of a thread that
            lives longer or was stored without an expiry. :meth:`from_settings` passes ``REDIS_MEMORY_TTL``.
        serde: A langgraph serializer to use unchanged; equal data is then not shared. Default: strict msgpack.
        allow: Further classes that state may hold, in addition to Python's own, LangChain's messages and
            langgraph's: classes, ``"module.Class"``, or ``"any"`` if you trust everyone who can write to this
            Redis.
        refresh_on_read: Whether reading a thread also renews its ``ttl``.
        fencing: If two runs extend the same checkpoint of a thread, the second fails with CheckpointConflictError
            instead of silently forking the thread. Intended forks (time travel, ``update_state`` on an older
            checkpoint) remain possible.
        keep_last: The number of checkpoints to keep per namespace; ``None``: all. In the same step, each new
            checkpoint removes those that are no longer needed, as :meth:`prune` would. Data that delta channels
            and waiting runs need is kept. Time travel then ends at the oldest checkpoint kept.

    Raises:
        RedisUnavailableError, RedisRefusedError: The server can't be reached, or refuses (from any method).
        TypeNotAllowedError: A value could not be read back (from ``put`` and ``put_writes``), or a stored one
            names a class that is not allowed (from reads); the message gives the line to add.
        ThreadGoneError: A thread with delta channels expired or was deleted in the middle of a run (from ``put``).
        CorruptDataError, FormatVersionError, WrongTypeError: The stored data is not a thread of this version.
    """

    @property
    def leases(self) -> ThreadLeases:
        """Leases on threads, with which cooperating programs run each thread one after the other."""
        from ecowas_lc.checkpoint.lease import ThreadLeases

        return ThreadLeases(self._server, self._keys)

    def thread(self, thread_id: str, *, channel: str = "messages") -> SavedThread:
        """Return a thread to look at. In a notebook it displays itself as a conversation. Nothing is read yet.

        Args:
            thread_id: The thread's id.
            channel: The channel of the state that holds the messages.
        """
        return SavedThread(self, thread_id_of(thread_id), channel=channel)

    # --- sync ---

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that ``config`` names, or the latest of its thread.

        Args:
            config: Names a thread, and optionally a namespace and a checkpoint.

        Returns:
            The checkpoint; ``None`` if there is none.
        """
        return self._server.run(get_tuple_op(self._at, place_of(config)))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint as the successor of the one that ``config`` names.

        Args:
            config: Names the thread, the namespace and the previous checkpoint.
            checkpoint: The checkpoint to store.
            metadata: Its metadata.
            new_versions: The versions of the channels that changed.

        Returns:
            The config of the new checkpoint.

        Raises:
            CheckpointConflictError: Another run has already extended this checkpoint (only with ``fencing``).
        """
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
        """Store the writes of a task as pending writes of the checkpoint that ``config`` names.

        Args:
            config: Names the thread, the namespace and the checkpoint.
            writes: Pairs of channel and value.
            task_id: The task's id.
            task_path: The task's path in the graph.
        """
        self._server.run(self._writes_op(config, writes, task_id, task_path))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, newest first.

        What neighbouring checkpoints have in common is read once, and copied when you look at ``channel_values``.

        Args:
            config: Names a thread, and optionally a namespace; ``None`` lists all threads, one after the other.
            filter: Metadata values by key, compared with ``==``.
            before: Names a checkpoint; only older ones are listed.
            limit: The maximum number of checkpoints; ``None``: all.
        """
        return self._walked(Query(self._at, config, filter, before, limit).walk())

    def _walked(self, walk: Walk[Any]) -> Iterator[Any]:
        while (page := self._server.run(page_op(walk))) is not None:
            yield from page

    def delete_thread(self, thread_id: str, *, operation: str | None = None) -> None:
        """Remove a thread of any size in one flush.

        Args:
            thread_id: The thread's id.
            operation: A name for this removal, of letters and digits. If you repeat the removal within an hour
                because you don't know whether it was done, the name protects a thread that others have started
                since.
        """
        self._server.run(delete_thread_op(self._at, thread_id_of(thread_id), checked_operation(operation)))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a whole thread atomically. The copy is not pinned. If the source does not exist, nothing is copied.

        Args:
            source_thread_id: The id of the thread to copy.
            target_thread_id: The id of the copy.

        Raises:
            InvalidInputError: The target thread already exists; it was not changed.
        """
        from ecowas_lc.checkpoint.maintenance import copy_thread_op

        source, target = thread_id_of(source_thread_id), thread_id_of(target_thread_id)
        self._server.run(copy_thread_op(self._at, source, target))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs wrote, in all threads.

        Checkpoints from which delta channels of other checkpoints are rebuilt are kept until those are gone. For
        runs older than 30 days every thread is searched.

        Args:
            run_ids: The ids of the runs.
        """
        from ecowas_lc.checkpoint.maintenance import delete_for_runs_walk

        list(self._walked(delete_for_runs_walk(self._at, run_ids_of(run_ids))))  # which yields nothing

    def prune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int | None = None
    ) -> None:
        """Remove old checkpoints of threads, or whole threads.

        Checkpoints that delta channels and interrupted runs need are kept. A call occupies the server for about as
        long as reading the thread once.

        Args:
            thread_ids: The ids of the threads.
            strategy: ``"keep_latest"`` keeps the latest checkpoint of each namespace, or the ``keep_last`` newest
                ones; ``"delete"`` removes the threads.
            keep_last: The number of checkpoints to keep per namespace.
        """
        self._server.run(self._prune_op(thread_ids, strategy, keep_last))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return, for each channel, the nearest ancestor's value and all writes since then.

        Takes one round trip per 200 ancestors, and one per value.

        Args:
            config: Names the checkpoint.
            channels: The names of the channels.
        """
        return self._server.run(delta_history_op(self._at, place_of(config), channels)) if channels else {}

    def export_jsonl(
        self, thread_ids: Sequence[str] | None = None, *, on_progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield threads as lines of JSON without newlines, byte for byte as they are stored.

        The export streams: about a megabyte is in memory at a time, while the server keeps a snapshot of the
        current thread. Values are not decoded, so you can export encrypted threads without their key. Threads that
        don't exist are left out.

        Args:
            thread_ids: The ids of the threads; ``None``: all threads.
            on_progress: Called with the number of threads done and their total.
        """
        return self._walked(self._export_walk(thread_ids, on_progress))

    def import_jsonl(self, lines: Iterable[str], *, overwrite: bool = False) -> ImportReport:
        """Restore the threads that :meth:`export_jsonl` wrote, including pins. Times to live count from now.

        Each thread is restored completely in one step, or not at all. Importing the same lines again changes
        nothing. Lines that the memory service exported are skipped. Values are not decoded: ``allow`` is checked
        when a thread is read.

        Args:
            lines: The lines of an export.
            overwrite: Replace existing threads that differ; by default they are kept and listed in the report.

        Returns:
            An ``ImportReport``.

        Raises:
            InvalidInputError: ``lines`` is a single string, or not an iterable of lines.
            CorruptDataError: A line can't be read (the message gives its number), or the file is incomplete; the
                threads before it are imported.
            FormatVersionError: A newer version of this package wrote the lines.
            DecryptionError: An encrypted thread comes from another prefix, so it could not be decrypted here.
        """
        from ecowas_lc.storage.backup_format import checked_lines

        importer = importer_of(self, overwrite=overwrite)
        for line in checked_lines(lines):
            if line.strip():
                self._server.run(importer.line_op(line))
        return importer.finish()

    def threads(
        self,
        *,
        limit: int | None = 20,
        after: ThreadRow | str | None = None,
        prefix: str = "",
        since: dt.datetime | float | None = None,
        waiting: bool | None = None,
        where: Mapping[str, Any] | None = None,
        query: str | None = None,
        speaker: str | None = None,
    ) -> builtins.list[ThreadRow]:
        """Return a summary of each thread, most recently written first.

        A page takes three flushes, whatever the size of the threads, because messages are not read. Threads last
        written by an earlier version of this package take one more flush per 20 threads.

        With a ``query``, the threads whose questions and answers contain its words are returned instead, best
        match first. Words are indexed in this process's memory when you search, and a thread is read again only if
        it has changed. This requires the extra ``search``.

        Args:
            limit: The maximum number of threads; ``None``: all.
            after: The last row of the previous page, or its ``cursor``.
            prefix: The start of the threads' ids.
            since: Only threads written at this time or later: a datetime, or seconds since 1970.
            waiting: ``True``: only threads that wait for a person's answer; ``False``: only threads that don't.
            where: Values of the latest checkpoint's metadata, such as ``{"user_id": "ada"}``.
            query: Words to search for, in English, French or Portuguese.
            speaker: With a query: only threads with a message that has this name, for example a working group's
                id.

        Returns:
            A list of ``ThreadRow``. Objects of classes that are not allowed appear as ``OpaqueValue``. The row of
            a thread that can't be decrypted says why.

        Raises:
            InvalidInputError: An argument can't be used.
            MissingExtraError: A query without the extra ``search``.
        """
        from ecowas_lc.checkpoint.listing import wanted_of

        wanted = wanted_of(
            limit=limit,
            after=after,
            prefix=prefix,
            since=since,
            waiting=waiting,
            where=where,
            query=query,
            speaker=speaker,
        )
        return [*self._walked(self._listed(wanted))]

    def waiting(
        self, *, limit: int | None = None, where: Mapping[str, Any] | None = None
    ) -> builtins.list[ThreadRow]:
        """Return the threads that wait for a person's answer, most recently written first.

        All threads are searched, 200 per flush.

        Args:
            limit: The maximum number of threads; ``None``: all.
            where: Values of the latest checkpoint's metadata, such as ``{"user_id": "ada"}``.

        Returns:
            A list of ``ThreadRow``; ``row.waiting`` holds the questions.
        """
        return self.threads(limit=limit, waiting=True, where=where)

    def diff(
        self, thread_id: str, before: str | None = None, after: str | None = None, *, checkpoint_ns: str = ""
    ) -> ThreadDifference:
        """Return the changes in a thread from one checkpoint to another.

        Args:
            thread_id: The thread's id.
            before: The earlier checkpoint's id. Default: the parent of ``after``.
            after: The later checkpoint's id. Default: the latest.
            checkpoint_ns: The namespace, for checkpoints of a subgraph.

        Returns:
            A ``ThreadDifference``.

        Raises:
            UnknownCheckpointError: The thread or the checkpoint does not exist.
            InvalidInputError: The later checkpoint has no parent.
        """
        return self._server.run(self._difference_op(thread_id, before, after, checkpoint_ns))

    def reindex(self) -> int:
        """Scan the server once and add threads that are missing from the index.

        You need this if the server evicted the index of threads. The user needs permission to run ``SCAN``.

        Returns:
            The number of threads added.
        """
        from ecowas_lc.checkpoint.reindex import reindex_op

        return self._server.run(reindex_op(self._at))

    def pin(self, thread_id: str) -> bool:
        """Keep a thread from expiring, even after later writes.

        Args:
            thread_id: The thread's id.

        Returns:
            Whether the thread exists.
        """
        return self._server.run(self._expiry_op(thread_id, "pin")) != -1

    def unpin(self, thread_id: str) -> bool:
        """Let a pinned thread expire again, the saver's ``ttl`` from now.

        Args:
            thread_id: The thread's id.

        Returns:
            Whether the thread exists.
        """
        return self._server.run(self._expiry_op(thread_id, "unpin")) != -1

    def touch(self, thread_id: str) -> bool:
        """Renew a thread's expiry without reading it.

        Args:
            thread_id: The thread's id.

        Returns:
            Whether the thread exists.
        """
        return self._server.run(self._expiry_op(thread_id, "touch")) != -1

    def ttl(self, thread_id: str) -> float | None:
        """Return the remaining time to live of a thread.

        Args:
            thread_id: The thread's id.

        Returns:
            Seconds until the thread expires; ``None``: it never expires; -1: it does not exist.
        """
        return self._server.run(self._expiry_op(thread_id, "ttl"))

    # --- async ---

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint without blocking the event loop; see :meth:`get_tuple`."""
        return await self._server.arun(get_tuple_op(self._at, place_of(config)))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint without blocking the event loop; see :meth:`put`."""
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
        """Store pending writes without blocking the event loop; see :meth:`put_writes`."""
        await self._server.arun(self._writes_op(config, writes, task_id, task_path))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints without blocking the event loop; see :meth:`list`."""
        async for item in self._awalked(Query(self._at, config, filter, before, limit).walk()):
            yield item

    async def _awalked(self, walk: Walk[Any]) -> AsyncIterator[Any]:
        while (page := await self._server.arun(page_op(walk))) is not None:
            for item in page:
                yield item

    async def adelete_thread(self, thread_id: str, *, operation: str | None = None) -> None:
        """Delete a thread without blocking the event loop; see :meth:`delete_thread`."""
        op = delete_thread_op(self._at, thread_id_of(thread_id), checked_operation(operation))
        await self._server.arun(op)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread without blocking the event loop; see :meth:`copy_thread`."""
        from ecowas_lc.checkpoint.maintenance import copy_thread_op

        source, target = thread_id_of(source_thread_id), thread_id_of(target_thread_id)
        await self._server.arun(copy_thread_op(self._at, source, target))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete checkpoints of runs without blocking the event loop; see :meth:`delete_for_runs`."""
        from ecowas_lc.checkpoint.maintenance import delete_for_runs_walk

        _ = [each async for each in self._awalked(delete_for_runs_walk(self._at, run_ids_of(run_ids)))]

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int | None = None
    ) -> None:
        """Remove old checkpoints without blocking the event loop; see :meth:`prune`."""
        await self._server.arun(self._prune_op(thread_ids, strategy, keep_last))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return delta channels without blocking the event loop; see :meth:`get_delta_channel_history`."""
        return await self._server.arun(delta_history_op(self._at, place_of(config), channels)) if channels else {}

    async def aexport_jsonl(
        self, thread_ids: Sequence[str] | None = None, *, on_progress: Progress | None = None
    ) -> AsyncIterator[str]:
        """Export threads without blocking the event loop; see :meth:`export_jsonl`."""
        async for line in self._awalked(self._export_walk(thread_ids, on_progress)):
            yield line

    async def aimport_jsonl(
        self, lines: Iterable[str] | AsyncIterable[str], *, overwrite: bool = False
    ) -> ImportReport:
        """Import threads without blocking the event loop; see :meth:`import_jsonl`. Takes async iterables too."""
        from ecowas_lc.storage.backup_format import one_by_one

        importer = importer_of(self, overwrite=overwrite)
        async for line in one_by_one(lines):
            if line.strip():
                await self._server.arun(importer.line_op(line))
        return importer.finish()

    async def athreads(
        self,
        *,
        limit: int | None = 20,
        after: ThreadRow | str | None = None,
        prefix: str = "",
        since: dt.datetime | float | None = None,
        waiting: bool | None = None,
        where: Mapping[str, Any] | None = None,
        query: str | None = None,
        speaker: str | None = None,
    ) -> builtins.list[ThreadRow]:
        """List threads without blocking the event loop; see :meth:`threads`."""
        from ecowas_lc.checkpoint.listing import wanted_of

        wanted = wanted_of(
            limit=limit,
            after=after,
            prefix=prefix,
            since=since,
            waiting=waiting,
            where=where,
            query=query,
            speaker=speaker,
        )
        return [row async for row in self._awalked(self._listed(wanted))]

    async def awaiting(
        self, *, limit: int | None = None, where: Mapping[str, Any] | None = None
    ) -> builtins.list[ThreadRow]:
        """List waiting threads without blocking the event loop; see :meth:`waiting`."""
        return await self.athreads(limit=limit, waiting=True, where=where)

    async def adiff(
        self, thread_id: str, before: str | None = None, after: str | None = None, *, checkpoint_ns: str = ""
    ) -> ThreadDifference:
        """Compare two checkpoints without blocking the event loop; see :meth:`diff`."""
        return await self._server.arun(self._difference_op(thread_id, before, after, checkpoint_ns))

    async def areindex(self) -> int:
        """Restore the index of threads without blocking the event loop; see :meth:`reindex`."""
        from ecowas_lc.checkpoint.reindex import reindex_op

        return await self._server.arun(reindex_op(self._at))

    async def apin(self, thread_id: str) -> bool:
        """Pin a thread without blocking the event loop; see :meth:`pin`."""
        return await self._server.arun(self._expiry_op(thread_id, "pin")) != -1

    async def aunpin(self, thread_id: str) -> bool:
        """Unpin a thread without blocking the event loop; see :meth:`unpin`."""
        return await self._server.arun(self._expiry_op(thread_id, "unpin")) != -1

    async def atouch(self, thread_id: str) -> bool:
        """Renew a thread's expiry without blocking the event loop; see :meth:`touch`."""
        return await self._server.arun(self._expiry_op(thread_id, "touch")) != -1

    async def attl(self, thread_id: str) -> float | None:
        """Return a thread's remaining time without blocking the event loop; see :meth:`ttl`."""
        return await self._server.arun(self._expiry_op(thread_id, "ttl"))


def context_of(saver: RedisSaver) -> SaverContext:
    """Return what a saver's programs need, for programs that do more than a saver does."""
    return saver._at
