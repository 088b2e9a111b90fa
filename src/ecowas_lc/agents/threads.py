"""The supervisor's thread where Redis may fail: runs that outlive it, and threads rebuilt from transcripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
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
from langgraph.graph.state import CompiledStateGraph

from ecowas_lc.agents.link import OUTAGES, Link
from ecowas_lc.supervisor.nodes import RECORD
from ecowas_lc.supervisor.programs import Doing, Program
from ecowas_lc.supervisor.trimming import Exchange, exchanges

Graph = CompiledStateGraph[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]


class RunSaver(BaseCheckpointSaver[Any]):
    """A checkpointer for one run that goes on without its thread once Redis can't be used.

    A run that begins so finds an empty thread; the graph then reads the session's transcript. ``is_lost`` says
    that what the run did is not, or not wholly, in the thread, so that this must be rebuilt.
    """

    def __init__(self, saver: Saver, link: Link) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._link = link
        self.is_lost = False

    def get_next_version(self, current: Any, channel: None = None) -> Any:
        """The version after ``current``, as the checkpointer itself numbers them."""
        return self._saver.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The thread's checkpoint; ``None`` where it can't be read."""
        if self._is_kept:
            try:
                return self._saver.get_tuple(config)
            except OUTAGES as error:
                self._lose(error)
        return None

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The thread's checkpoint; ``None`` where it can't be read."""
        if self._is_kept:
            try:
                return await self._saver.aget_tuple(config)
            except OUTAGES as error:
                self._lose(error)
        return None

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, unless one before it could not be stored."""
        if self._is_kept:
            try:
                return self._saver.put(config, checkpoint, metadata, new_versions)
            except OUTAGES as error:
                self._lose(error)
        return _config_of(config, checkpoint)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, unless one before it could not be stored."""
        if self._is_kept:
            try:
                return await self._saver.aput(config, checkpoint, metadata, new_versions)
            except OUTAGES as error:
                self._lose(error)
        return _config_of(config, checkpoint)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store pending writes, unless something before them could not be stored."""
        if self._is_kept:
            try:
                self._saver.put_writes(config, writes, task_id, task_path)
            except OUTAGES as error:
                self._lose(error)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store pending writes, unless something before them could not be stored."""
        if self._is_kept:
            try:
                await self._saver.aput_writes(config, writes, task_id, task_path)
            except OUTAGES as error:
                self._lose(error)

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        """The thread's checkpoints."""
        return self._saver.list(config, **options)

    def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """The thread's checkpoints."""
        return self._saver.alist(config, **options)

    @property
    def _is_kept(self) -> bool:
        self.is_lost = self.is_lost or not self._link.is_up
        return not self.is_lost

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        self._link.failed(error)


class Thread:
    """The thread of one session, shared by all supervisors of the process that have the session."""

    def __init__(self) -> None:
        self.is_to_go = False
        """Whether it was to be deleted when Redis could not be used."""


def mending(graph: Graph, config: RunnableConfig, transcript: Sequence[BaseMessage]) -> Program[bool]:
    """Add to a thread the exchanges of the session's transcript that it lacks; whether there were any.

    Each comes after the one that the transcript has before it. What was left undone in the thread is given up.
    """
    state = yield Doing(lambda _: graph.get_state(config), lambda _: graph.aget_state(config))
    earlier = (state.values.get("earlier") or {}).get("messages") or []
    held = state.values.get("messages") or []
    merged = merged_messages(held, earlier, exchanges(transcript))
    if len(merged) == len(held):
        return False
    if state.next:
        yield _updating(graph, config, None, END)
    yield _updating(graph, config, {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *merged]}, RECORD)
    return True


def merged_messages(
    held: Sequence[BaseMessage], earlier: Sequence[BaseMessage], told: Sequence[Exchange]
) -> list[BaseMessage]:
    """A thread's messages together with the exchanges that it lacks."""
    merged = list(held)
    at = 0
    for exchange in told:
        question = exchange[0]
        if _place(earlier, question) is not None:
            continue
        place = _place(merged, question)
        if place is None:
            merged[at:at] = exchange
            at += len(exchange)
            continue
        at = place + 1
        while at < len(merged) and not isinstance(merged[at], HumanMessage):
            at += 1
        if not isinstance(merged[at - 1], AIMessage):
            merged[at:at] = exchange[1:]
            at += len(exchange) - 1
    return merged


def _place(messages: Sequence[BaseMessage], question: BaseMessage) -> int | None:
    """Find a question by its id, or by its text where the program that wrote it gave it none."""
    return next(
        (
            index
            for index, message in enumerate(messages)
            if isinstance(message, HumanMessage)
            and (message.id == question.id if question.id else message.text == question.text)
        ),
        None,
    )


def _updating(graph: Graph, config: RunnableConfig, values: Any, as_node: str) -> Doing:
    return Doing(
        lambda _: graph.update_state(config, values, as_node=as_node),
        lambda _: graph.aupdate_state(config, values, as_node=as_node),
    )


def _config_of(config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
    place = config["configurable"]
    return {
        "configurable": {
            "thread_id": place["thread_id"],
            "checkpoint_ns": place.get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint["id"],
        }
    }
