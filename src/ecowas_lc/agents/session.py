"""A session of the supervisor graph: its thread, its transcripts, and how it survives an outage of Redis.

The checkpointer here keeps a run going while Redis is down, and rebuilds the thread from the transcripts later.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.graph.state import CompiledStateGraph

from ecowas_lc import forks
from ecowas_lc.agents.outage import OUTAGES, Link
from ecowas_lc.agents.registry import Registry
from ecowas_lc.agents.transcript import Keeping, Transcript
from ecowas_lc.agents.turn import STREAM_MODES, Turn
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import TooLargeError
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.grounding import Readable
from ecowas_lc.supervisor.nodes import RECORD
from ecowas_lc.supervisor.state import SUPERVISOR
from ecowas_lc.supervisor.trimming import Exchange, turns

log = logging.getLogger(__name__)

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
            except TooLargeError as error:
                self._leave_out(error)
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
            except TooLargeError as error:
                self._leave_out(error)
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
            except TooLargeError as error:
                self._leave_out(error)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store pending writes, unless something before them could not be stored."""
        if self._is_kept:
            try:
                await self._saver.aput_writes(config, writes, task_id, task_path)
            except OUTAGES as error:
                self._lose(error)
            except TooLargeError as error:
                self._leave_out(error)

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        """The thread's checkpoints."""
        return self._saver.list(config, **options)

    def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """The thread's checkpoints."""
        return self._saver.alist(config, **options)

    @property
    def leases(self) -> RunLeases | None:
        """Threads taken for a run; ``None`` where Redis can't be used, or is not."""
        return RunLeases(self) if self._is_kept and isinstance(self._saver, RedisSaver) else None

    @property
    def _is_kept(self) -> bool:
        self.is_lost = self.is_lost or not self._link.is_up
        return not self.is_lost

    def _leave_out(self, error: Exception) -> None:
        """Go on without the thread; the transcript makes it whole later, without what the server never takes."""
        self.is_lost = True
        log.error("%s The thread of this session goes on without what the run says.", error)

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        self._link.failed(error)


class RunLeases:
    """A thread taken for a run that goes on without its thread once Redis can't be used."""

    def __init__(self, saver: RunSaver) -> None:
        assert isinstance(saver._saver, RedisSaver)
        self._run, self._leases = saver, saver._saver.leases

    def hold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Take the thread; where that can't be told, the run has none."""
        try:
            return self._leases.hold(thread_id, holder, seconds)
        except OUTAGES as error:
            self._run._lose(error)
        return True

    async def ahold(self, thread_id: str, holder: str, seconds: float) -> bool:
        """Take the thread: see :meth:`hold`."""
        try:
            return await self._leases.ahold(thread_id, holder, seconds)
        except OUTAGES as error:
            self._run._lose(error)
        return True

    def release(self, thread_id: str, holder: str) -> None:
        """Let others have the thread; where that can't be told, it goes by itself."""
        try:
            self._leases.release(thread_id, holder)
        except OUTAGES as error:
            self._run._link.failed(error)

    async def arelease(self, thread_id: str, holder: str) -> None:
        """Let others have the thread: see :meth:`release`."""
        try:
            await self._leases.arelease(thread_id, holder)
        except OUTAGES as error:
            self._run._link.failed(error)


class Thread:
    """The thread of one session, shared by all supervisors of the process that have the session."""

    def __init__(self) -> None:
        self.removal = ""
        """The name of the removal that was asked for when Redis could not be used."""
        self.is_behind = False
        """Whether something was said that only the transcript has, as Redis could not be used."""
        forks.register(self)

    def forget_parent(self) -> None:
        """Leave the deletion, and what is to be added, to the parent."""
        self.removal = ""
        self.is_behind = False


def mending(graph: Graph, config: RunnableConfig, transcript: Sequence[BaseMessage]) -> Program[bool]:
    """Add to a thread the exchanges of the session's transcript that it lacks; whether there were any.

    Each comes after the one that the transcript has before it. What was left undone in the thread is given up.
    """
    state = yield Doing(lambda _: graph.get_state(config), lambda _: graph.aget_state(config))
    earlier = (state.values.get("earlier") or {}).get("messages") or []
    held = state.values.get("messages") or []
    merged = merged_messages(held, earlier, turns(transcript))
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
        if not isinstance(exchange[-1], AIMessage):  # never answered: what follows it stands behind it
            at = at if place is None else place + 1
            continue
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


class Session:
    """Runs turns of one session. ``transcript`` is the supervisor's own; without one, nothing is kept."""

    def __init__(
        self,
        session_id: str,
        keeping: Keeping,
        transcript: Transcript | None,
        registry: Registry,
        model: BaseChatModel,
        *,
        group_limit: int,
        max_parallel: int | None,
        documents: Readable | Mapping[str, Readable] | None = None,
    ) -> None:
        self._id = session_id
        self._keeping = keeping
        self._transcript = transcript
        self._registry = registry
        self._model = model
        self._group_limit = group_limit
        self._max_parallel = max_parallel
        self._documents = documents
        self._saver = _saver(keeping) if transcript is not None else None
        self._built: tuple[int, Graph] | None = None

    @property
    def graph(self) -> Graph:
        """The compiled graph over the groups that are registered now."""
        registry = self._registry
        if self._built is None or self._built[0] != registry.version:
            graph = build_supervisor(
                self._model,
                groups=registry.nodes,
                router=registry.router,
                checkpointer=self._saver,
                history_factory=None if self._transcript is None else self._transcript_of,
                agents=registry.agents,
                max_parallel=self._max_parallel,
                documents=self._documents,
                on_busy="queue",
            )
            self._built = registry.version, graph
        return self._built[1]

    def heard(self, turn: Turn) -> Iterator[str]:
        """Run a turn; what is heard of the answer, bit by bit."""
        run(self._mended(), {})
        graph, saver = self._for_one_run()
        try:
            for mode, part in graph.stream(turn.input, turn.config, stream_mode=STREAM_MODES):
                if text := turn.hear(str(mode), part):
                    yield text
        finally:
            self._after(saver)
        if rest := turn.rest:
            yield rest

    async def aheard(self, turn: Turn) -> AsyncGenerator[str]:
        """What :meth:`heard` gives, without blocking the event loop."""
        await arun(self._mended(), {})
        graph, saver = self._for_one_run()
        try:
            stream: Any = graph.astream(turn.input, turn.config, stream_mode=STREAM_MODES)
            async with aclosing(stream):
                async for mode, part in stream:
                    if text := turn.hear(mode, part):
                        yield text
        finally:
            self._after(saver)
        if rest := turn.rest:
            yield rest

    def forget(self) -> Program[None]:
        """Remove the transcript, the groups' histories and the thread."""
        saver, link = self._saver, self._keeping.link
        if saver is None or self._transcript is None:
            return
        for group in self._registry.groups:
            yield from self._transcript_of(group, self._id).clear()
        yield from self._transcript.clear()
        removal = uuid4().hex
        if link is None or link.is_up:
            try:
                yield _removing(saver, self._id, removal)
            except OUTAGES as error:
                assert link is not None
                link.failed(error)
            else:
                return
        self._hold_thread(removal)

    def _for_one_run(self) -> tuple[Graph, RunSaver | None]:
        link = self._keeping.link
        if link is None or self._saver is None:
            return self.graph, None
        saver = RunSaver(self._saver, link)
        return self.graph.copy({"checkpointer": saver}), saver

    def _after(self, saver: RunSaver | None) -> None:
        if saver is not None and saver.is_lost:
            self._hold_thread()

    def _mended(self) -> Program[None]:
        """Add to the thread what was said while it could not be used; otherwise the thread alone is the truth."""
        link = self._keeping.link
        if self._transcript is None or link is None or not link.is_up:
            return
        thread = link.shared(("thread", self._id), Thread)
        if not thread.is_behind:
            return
        try:
            transcript = yield from self._transcript.read_stored()
            yield from mending(self.graph, self._config, transcript)
            thread.is_behind = False
        except OUTAGES as error:
            link.failed(error)

    def _hold_thread(self, removal: str = "") -> None:
        """Have the thread removed, or rebuilt from the transcript, when Redis can be used again."""
        link = self._keeping.link
        assert link is not None
        thread = link.shared(("thread", self._id), Thread)
        thread.removal = removal or thread.removal
        thread.is_behind = True
        link.hold(("thread", self._id), lambda: self._rebuild(thread))

    def _rebuild(self, thread: Thread) -> None:
        assert self._saver is not None
        assert self._transcript is not None
        if removal := thread.removal:
            _removing(self._saver, self._id, removal).run({})
            if thread.removal == removal:
                thread.removal = ""
        transcript = run(self._transcript.read_stored(), {})
        run(mending(self.graph, self._config, transcript), {})
        thread.is_behind = False

    @property
    def _config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self._id}}

    def _transcript_of(self, agent_id: str, session_id: str) -> Transcript:
        limit = self._group_limit
        if agent_id == SUPERVISOR and self._transcript is not None:
            if session_id == self._id:
                return self._transcript
            limit = self._transcript.limit  # somebody runs the graph in another thread
        return self._keeping.transcript(agent_id, session_id, limit)


def _removing(saver: Saver, thread_id: str, removal: str) -> Doing:
    if not isinstance(saver, RedisSaver):
        return Doing(lambda _: saver.delete_thread(thread_id), lambda _: saver.adelete_thread(thread_id))
    return Doing(
        lambda _: saver.delete_thread(thread_id, operation=removal),
        lambda _: saver.adelete_thread(thread_id, operation=removal),
    )


def _saver(keeping: Keeping) -> Saver:
    if keeping.link is None:
        return InMemorySaver()
    return RedisSaver(
        server=keeping.link.server,
        prefix=keeping.link.prefix,
        ttl=keeping.ttl,
        default_ttl=keeping.memory.default_ttl,
    )
