"""What the sync and the async methods of ``RedisSaver`` share: how it is made, and its arguments made programs."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from ecowas_lc.checkpoint.backup import export_walk
from ecowas_lc.checkpoint.codec.allowlist import Allow
from ecowas_lc.checkpoint.codec.given import GivenSerializer
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.checkpoint.format import Format
from ecowas_lc.checkpoint.memo import Memo
from ecowas_lc.checkpoint.ops import Context, put_op, put_writes_op
from ecowas_lc.checkpoint.place import FORK, Place, checked_id, place_of, thread_id_of
from ecowas_lc.checkpoint.restoring import ThreadImporter
from ecowas_lc.checkpoint.upkeep import check_prune, expiry_op, prune_op
from ecowas_lc.checkpoint.walk import Walk
from ecowas_lc.errors import InvalidIdError, InvalidInputError
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.lines import Progress
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server

_LONGEST_TTL = 10_000_000_000  # seconds; a server refuses times that its clock can't hold
_PLAIN = (str, int, float, bool)
# In langgraph's configs: a subgraph that replays what came after a checkpoint of its parent.
_REPLAY = "__pregel_replay_state"


class SaverOptions(TypedDict, total=False):
    """The options of a saver, by name; see :class:`~ecowas_lc.RedisSaver`."""

    prefix: str
    ttl: float | None
    serde: Any
    allow: Allow
    refresh_on_read: bool
    fencing: bool


class SaverBase(BaseCheckpointSaver[Any]):
    """A saver's connections, keys and options; its methods are in :class:`~ecowas_lc.RedisSaver`."""

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
        if ttl is not None and (type(ttl) not in (int, float) or not 0 < ttl <= _LONGEST_TTL):
            raise InvalidInputError("ttl is a number of seconds above 0, or None for threads that never expire.")
        self._server = server or Server.from_clients(client, async_client)
        self._keys = Keys(prefix)
        self._ttl_ms = None if ttl is None else max(1, round(ttl * 1000))
        self._refresh_on_read = refresh_on_read
        self._fencing = fencing
        self._memo = Memo()
        self._context: Context | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "ecowas",
        ttl: float | None = None,
        serde: Any = None,
        allow: Allow = (),
        refresh_on_read: bool = False,
        fencing: bool = False,
    ) -> Self:
        """A saver for a URL: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``redis+cluster://``.

        The other arguments are the constructor's. Connections open on first use.
        """
        return cls(
            server=Server.from_url(url),
            prefix=prefix,
            ttl=ttl,
            serde=serde,
            allow=allow,
            refresh_on_read=refresh_on_read,
            fencing=fencing,
        )

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Unpack[SaverOptions]) -> Self:
        """The same as :meth:`from_url`, under the name that other savers use."""
        return cls.from_url(conn_string, **options)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **options: Unpack[SaverOptions]) -> Self:
        """A saver for the server of the settings: ``REDIS_URL``, ``REDIS_HOST``, or the embedded server.

        ``options`` are those of :meth:`from_url`; the prefix, unless given, is the settings' as well.
        """
        settings = settings or get_settings()
        options.setdefault("prefix", settings.prefix)
        return cls(server=Server.from_settings(settings), **options)

    # --- arguments made programs ---

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
                fencing=self._fencing,
                serde=self.serde,
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
        checkpoint_id = checked_id(checkpoint["id"], "checkpoint id")
        if not checkpoint_id:
            raise InvalidIdError("The checkpoint's id is empty.")
        op = put_op(
            self._at,
            before._replace(checkpoint_id=checkpoint_id),
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

    def _fence(self, extended: Place, config: RunnableConfig, metadata: CheckpointMetadata) -> bytes:
        """The checkpoint that must be the latest still, or nothing where a fork is meant."""
        if not self._fencing:
            return b""
        configurable = config["configurable"]
        meant = metadata.get("source") == "fork" or (
            configurable.get(FORK) == extended.checkpoint_id if extended.checkpoint_id else _REPLAY in configurable
        )
        return b"" if meant else b"x" + extended.id

    def _writes_op(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str) -> Op[None]:
        place = place_of(config)
        if place.checkpoint_id is None:
            raise InvalidInputError("Pending writes need the checkpoint_id that they are pending on.")
        return put_writes_op(self._at, place, writes, task_id, task_path)

    def _prune_op(self, thread_ids: Sequence[str], strategy: str, keep_last: int | None) -> Op[None]:
        keep = check_prune(strategy, keep_last)
        if isinstance(thread_ids, str):
            raise InvalidInputError("prune takes a list of thread ids.")
        ids = [thread_id_of(thread_id) for thread_id in thread_ids]
        return self._prune_each_op(ids, strategy, keep)

    def _prune_each_op(self, thread_ids: Sequence[str], strategy: str, keep: int) -> Op[None]:
        for thread_id in thread_ids:
            yield from prune_op(self._at, thread_id, strategy, keep)

    def _export_walk(self, thread_ids: Sequence[str] | None, on_progress: Progress | None) -> Walk[str]:
        if isinstance(thread_ids, str):
            raise InvalidInputError("export_jsonl takes a list of thread ids.")
        ids = None if thread_ids is None else [thread_id_of(thread_id) for thread_id in thread_ids]
        return export_walk(self._at, ids, on_progress)

    def _expiry_op(self, thread_id: str, what: str) -> Op[float | None]:
        return expiry_op(self._at, thread_id_of(thread_id), what)

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


def run_ids_of(run_ids: Sequence[str]) -> list[str]:
    """Run ids as text, each once.

    Raises:
        InvalidInputError: it is one text instead of a list.
    """
    if isinstance(run_ids, str):
        raise InvalidInputError("delete_for_runs takes a list of run ids.")
    return [run_id for run_id in dict.fromkeys(map(str, run_ids)) if run_id]


def _whole_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> CheckpointMetadata:
    whole: Any = get_checkpoint_metadata(config, metadata)
    for key in whole.keys() - metadata.keys():
        # Copied from the config by langgraph, where members of an IntEnum count as numbers.
        if type(value := whole[key]) not in _PLAIN:
            whole[key] = int(value) if isinstance(value, int) else float(value)
    return whole  # type: ignore[no-any-return]


def importer_of(saver: SaverBase, *, overwrite: bool) -> ThreadImporter:
    """Return what restores threads line by line, for a reader of files that hold more than threads."""
    return ThreadImporter(saver._at, overwrite=overwrite)
