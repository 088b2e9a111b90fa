"""A session's thread during a Redis outage: how a run continues, and what is waiting to be written."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.graph import END
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import StateUpdate

from ecowas_lc import forks
from ecowas_lc.agents.outage import OUTAGES, UNSETTLED_SECONDS, ServerLink
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import TooLargeError
from ecowas_lc.supervisor.nodes import RECORD

log = logging.getLogger(__name__)

Saver = BaseCheckpointSaver[Any]


@dataclass(frozen=True, slots=True)
class WholeTurn:
    """A question with its final answer and how it was produced.

    ``stored_as`` is the id of the checkpoint with which the server acknowledged the turn, or ``""`` if it has not.
    ``is_broken_off``: the answer is only what was said until the caller stopped reading.
    """

    messages: tuple[AnyMessage, ...]
    values: Mapping[str, Any]
    at: float
    stored_as: str = ""
    is_broken_off: bool = False


class Thread:
    """The thread of one session, shared by all runners of the session in this process.

    It remembers the newest state, from which a run starts while Redis is unavailable, and keeps a journal of whole
    turns that the server lacks or could lose in a crash.
    """

    def __init__(self, most: int = 500) -> None:
        self.most = most
        """Maximum number of turns in the journal: as many as in the transcript."""
        self.head: CheckpointTuple | None = None
        self.removal = ""
        """Name of the removal that was requested while Redis was unavailable."""
        self.on_failure: Callable[[], None] | None = None
        """Called when Redis becomes unavailable and the journal is not empty."""
        self._lock = forks.Lock()
        self._holder = ""
        self._stale: tuple[str, ...] = ()
        self._waiting: list[WholeTurn] = []
        self._recent: deque[WholeTurn] = deque()
        forks.register(self)

    def forget_parent(self) -> None:
        """Discard the removal and the waiting turns after a fork: the parent writes them."""
        self.removal = self._holder = ""
        self._stale, self._waiting = (), []
        self._recent.clear()

    @property
    def waits(self) -> bool:
        """Whether the server lacks something."""
        return bool(self.removal or self._stale or self._waiting)

    @property
    def stale(self) -> tuple[str, ...]:
        """Names of the runs whose lease the server still has to release."""
        return self._stale

    def add_stale(self, holder: str) -> None:
        """Note a run whose lease could not be released."""
        with self._lock:
            self._stale = (*self._stale, holder)

    def drop_stale(self, holder: str) -> None:
        """Forget a run whose lease has been released, by this replay or by another thread's."""
        with self._lock:
            self._stale = tuple(other for other in self._stale if other != holder)

    def waiting(self) -> list[WholeTurn]:
        """Return the turns that the server lacks, oldest first."""
        with self._lock:
            return list(self._waiting)

    def add(self, turn: WholeTurn) -> None:
        """Add a turn to the journal: the server lacks it, or has only just saved it."""
        with self._lock:
            if not turn.stored_as:
                self._waiting = [*self._waiting, turn][-self.most :]
                return
            self._recent.append(turn)
            while len(self._recent) > self.most or time.monotonic() - self._recent[0].at > UNSETTLED_SECONDS:
                self._recent.popleft()

    def done(self, turn: WholeTurn) -> None:
        """Remove a turn from the journal."""
        with self._lock:
            self._waiting = [other for other in self._waiting if other is not turn]

    def reset(self, removal: str = "") -> None:
        """Forget everything; ``removal`` names a removal that the server still has to perform."""
        with self._lock:
            self.head, self.removal, self._waiting = None, removal or self.removal, []
            self._recent.clear()

    def link_failed(self, _: ServerLink) -> None:
        """Keep what a crashing server may not have saved yet."""
        now = time.monotonic()
        with self._lock:
            doubtful = [turn for turn in self._recent if now - turn.at <= UNSETTLED_SECONDS]
            self._waiting = [*doubtful, *self._waiting][-self.most :]
            self._recent.clear()
        if self.waits and self.on_failure is not None:
            self.on_failure()

    def hold(self, holder: str) -> bool:
        """Reserve the thread for a run of this process; return whether the holder has it."""
        with self._lock:
            self._holder = self._holder or holder
            return self._holder == holder

    def release(self, holder: str) -> None:
        """Release the thread."""
        with self._lock:
            if self._holder == holder:
                self._holder = ""


class RunSaver(BaseCheckpointSaver[Any]):
    """A checkpointer for one run, which continues from this process's memory if Redis becomes unavailable.

    ``is_lost`` is true if the thread lacks some of what the run did.
    """

    def __init__(self, saver: Saver, link: ServerLink, thread: Thread) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._link = link
        self._thread = thread
        self.is_lost = False

    def get_next_version(self, current: Any, channel: None = None) -> Any:
        """Return the version after ``current``, numbered as the checkpointer does."""
        return self._saver.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the thread's checkpoint, or the one known to this process if Redis is unavailable."""
        return run(self._read(config), {})

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the thread's checkpoint, as :meth:`get_tuple` does."""
        return await arun(self._read(config), {})

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, in this process only if an earlier one could not be stored in Redis."""
        return run(self._put(config, checkpoint, metadata, new_versions), {})

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, as :meth:`put` does."""
        return await arun(self._put(config, checkpoint, metadata, new_versions), {})

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store pending writes, unless something earlier could not be stored."""
        run(self._put_writes(config, writes, task_id, task_path), {})

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store pending writes, as :meth:`put_writes` does."""
        await arun(self._put_writes(config, writes, task_id, task_path), {})

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        """Return the thread's checkpoints."""
        return self._saver.list(config, **options)

    def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """Return the thread's checkpoints."""
        return self._saver.alist(config, **options)

    @property
    def leases(self) -> RunLeases | None:
        """Reservations of threads for runs, or ``None`` if the checkpointer cannot reserve across processes."""
        return RunLeases(self) if isinstance(self._saver, RedisSaver) else None

    @property
    def is_up(self) -> bool:
        """Whether Redis was available when it was last tried."""
        return self._link.is_up

    def trying(self, doing: Doing, otherwise: Any) -> Program[Any]:
        """Run an operation on Redis, or return ``otherwise`` if Redis is down or lacks a part of this run."""
        self.is_lost = self.is_lost or not self._link.is_up
        if not self.is_lost:
            try:
                return (yield doing)
            except OUTAGES as error:
                self.is_lost = True
                self._link.failed(error)
            except TooLargeError as error:
                self.is_lost = True
                log.error("%s The thread of this session continues without the output of this run.", error)
        return otherwise

    def _read(self, config: RunnableConfig) -> Program[CheckpointTuple | None]:
        saver, known = self._saver, self._thread.head
        place = config["configurable"]
        if place.get("checkpoint_ns") or place.get("checkpoint_id"):
            known = None
        doing = Doing(lambda _: saver.get_tuple(config), lambda _: saver.aget_tuple(config))
        found: CheckpointTuple | None = yield from self.trying(doing, known)
        if not self.is_lost and not place.get("checkpoint_ns") and not place.get("checkpoint_id"):
            self._thread.head = found
        return found

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Program[RunnableConfig]:
        saver, place = self._saver, config["configurable"]
        ns = place.get("checkpoint_ns", "")
        stored: RunnableConfig = {
            "configurable": {
                "thread_id": place["thread_id"],
                "checkpoint_ns": ns,
                "checkpoint_id": checkpoint["id"],
            }
        }
        doing = Doing(
            lambda _: saver.put(config, checkpoint, metadata, new_versions),
            lambda _: saver.aput(config, checkpoint, metadata, new_versions),
        )
        stored = yield from self.trying(doing, stored)
        if not ns:
            self._thread.head = CheckpointTuple(stored, checkpoint, metadata, config, [])
        return stored

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Program[None]:
        saver = self._saver
        doing = Doing(
            lambda _: saver.put_writes(config, writes, task_id, task_path),
            lambda _: saver.aput_writes(config, writes, task_id, task_path),
        )
        yield from self.trying(doing, None)


class RunLeases:
    """Reservations of threads for runs; during an outage, only runs of this process wait for each other."""

    def __init__(self, saver: RunSaver) -> None:
        assert isinstance(saver._saver, RedisSaver)
        self._run, self._leases, self._thread = saver, saver._saver.leases, saver._thread

    def hold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Reserve the thread."""
        return run(self._held(thread_id, holder, seconds), {})

    async def ahold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Reserve the thread."""
        return await arun(self._held(thread_id, holder, seconds), {})

    def release(self, thread_id: str, holder: str) -> None:
        """Release the thread, later if Redis is unavailable."""
        run(self._released(thread_id, holder), {})

    async def arelease(self, thread_id: str, holder: str) -> None:
        """Release the thread, as :meth:`release` does."""
        await arun(self._released(thread_id, holder), {})

    def _held(self, thread_id: str, holder: str, seconds: float) -> Program[bool]:
        if not self._thread.hold(holder):
            return False
        leases = self._leases
        doing = Doing(
            lambda _: leases.hold(thread_id, holder, seconds), lambda _: leases.ahold(thread_id, holder, seconds)
        )
        is_ours: bool = yield from self._run.trying(doing, otherwise=True)
        if not is_ours:
            self._thread.release(holder)
        return is_ours

    def _released(self, thread_id: str, holder: str) -> Program[None]:
        self._thread.release(holder)
        leases, link = self._leases, self._run._link
        if link.is_up:
            try:
                yield Doing(
                    lambda _: leases.release(thread_id, holder), lambda _: leases.arelease(thread_id, holder)
                )
            except OUTAGES as error:
                link.failed(error)
            else:
                return
        self._thread.add_stale(holder)


def replaying(graph: Any, config: RunnableConfig, turn: WholeTurn) -> Program[None]:
    """Append a whole turn to a thread that lacks it, and give up what a run left unfinished.

    A turn that the server acknowledged is skipped if the thread continued from it: then it was not lost. A turn
    that was broken off is skipped if the thread lacks its question: no transcript says whether it was removed.
    """
    state = yield Doing(lambda _: graph.get_state(config), lambda _: graph.aget_state(config))
    held: Sequence[AnyMessage] = state.values.get("messages") or []
    known = {message.id for message in held}
    question, answer = turn.messages[0], turn.messages[-1]
    head = state.config.get("configurable", {}).get("checkpoint_id") or ""
    if answer.id in known or (turn.stored_as and head >= turn.stored_as):
        return
    if turn.is_broken_off and question.id not in known:
        return
    steps = [[StateUpdate(None, END)]] if state.next else []
    if question.id in known:  # the beginning of its run reached Redis
        rest = [message for message in held if message.id != question.id]
        steps.append([StateUpdate({"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *rest]}, RECORD)])
    begun = {"messages": list(turn.messages), "reports": {}, "attempts": {}}
    steps.append([StateUpdate(begun, RECORD)])
    steps.append([StateUpdate(dict(turn.values), RECORD)])
    yield Doing(
        lambda _: graph.bulk_update_state(config, steps), lambda _: graph.abulk_update_state(config, steps)
    )
