"""A session of the supervisor graph and its runner, which yields events and survives Redis outages."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Durability

from ecowas_lc.agents.events import Event
from ecowas_lc.agents.outage import OUTAGES
from ecowas_lc.agents.registry import Registry
from ecowas_lc.agents.thread_journal import RunSaver, Saver, Thread, WholeTurn, replaying
from ecowas_lc.agents.transcript import Keeping, Transcript
from ecowas_lc.agents.turn import STREAM_MODES, Turn
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import NotSerializableError, ThreadBusyError, TooLargeError, TurnStoppedError
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.nodes import RECORD
from ecowas_lc.supervisor.state import SUPERVISOR
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph

log = logging.getLogger(__name__)


class Session:
    """The runner of one session's turns.

    Args:
        session_id: The session's id, which is also the thread's.
        keeping: The server and the time to live.
        transcript: The supervisor's own transcript; without one, nothing is kept.
        registry: The groups that can be asked.
        model: The chat model.
        group_limit: Number of messages that each group's history keeps; ``None`` means all.
        durability: LangGraph's durability mode.
        **options: Further arguments of :func:`~ecowas_lc.build_supervisor`.
    """

    def __init__(
        self,
        session_id: str,
        keeping: Keeping,
        transcript: Transcript | None,
        registry: Registry,
        model: BaseChatModel,
        *,
        group_limit: int | None,
        durability: Durability = "async",
        **options: Any,
    ) -> None:
        self._id = session_id
        self._keeping = keeping
        self._transcript = transcript
        self._registry = registry
        self._model = model
        self._group_limit = group_limit
        self._options: dict[str, Any] = {"on_busy": "queue", **options}
        self._stream: dict[str, Any] = {"stream_mode": STREAM_MODES}
        self._saver = _saver(keeping) if transcript is not None else None
        if self._saver is not None:
            self._stream["durability"] = durability
        self._built: tuple[int, SupervisorGraph] | None = None
        self._running: set[RunControl] = set()
        self._thread = Thread()
        if keeping.link is not None and transcript is not None:
            self._thread = keeping.link.shared(("thread", session_id), Thread)
            self._thread.on_failure = self._hold
            self._thread.most = max(1, transcript.most // 2)

    @property
    def graph(self) -> SupervisorGraph:
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
                **self._options,
            )
            self._built = registry.version, graph
        return self._built[1]

    # --- turns ---

    def events(self, turn: Turn) -> Iterator[Event]:
        """Run a turn and yield its events.

        Raises:
            TurnStoppedError: The turn was stopped between two steps, see :meth:`drain`.
        """
        run(self._replayed(), {})
        graph, saver = self._for_one_run()
        control = RunControl()
        self._running.add(control)
        try:
            for mode, part in graph.stream(turn.input, turn.config, control=control, **self._stream):
                yield from turn.hear(str(mode), part)
            yield from self._ended(turn, saver)
        except GraphDrained as stopped:
            raise _stopped(stopped) from None
        finally:
            self._over(control)

    async def aevents(self, turn: Turn) -> AsyncGenerator[Event]:
        """Yield what :meth:`events` yields, without blocking the event loop."""
        await arun(self._replayed(), {})
        graph, saver = self._for_one_run()
        control = RunControl()
        self._running.add(control)
        try:
            stream: Any = graph.astream(turn.input, turn.config, control=control, **self._stream)
            async with aclosing(stream):
                async for mode, part in stream:
                    for event in turn.hear(str(mode), part):
                        yield event
            for event in self._ended(turn, saver):
                yield event
        except GraphDrained as stopped:
            raise _stopped(stopped) from None
        finally:
            self._over(control)

    def drain(self, reason: str = "shutdown") -> None:
        """Stop the running turns between two steps: a step that has started is finished and stored first."""
        for control in list(self._running):
            control.request_drain(reason)

    def messages(self) -> Program[list[AnyMessage]]:
        """Return the session's questions and final answers that are known."""
        if self._saver is None:
            return []
        yield from self._replayed()
        graph, _ = self._for_one_run()
        state = yield Doing(lambda _: graph.get_state(self._config), lambda _: graph.aget_state(self._config))
        return list(state.values.get("messages") or [])

    def broken_off(self, turn: Turn) -> Program[None]:
        """Store in the thread the partial answer of a turn whose caller stopped reading."""
        answer = turn.partial
        if answer is None or self._saver is None or turn.question is None:
            return
        graph, saver = self._for_one_run()
        update = {"messages": [answer]}
        yield Doing(
            lambda _: graph.update_state(self._config, update, as_node=RECORD),
            lambda _: graph.aupdate_state(self._config, update, as_node=RECORD),
        )
        if saver is not None and saver.is_lost:
            self._keep(WholeTurn((turn.question, answer), {}, time.monotonic(), is_broken_off=True))

    def _for_one_run(self) -> tuple[SupervisorGraph, RunSaver | None]:
        link = self._keeping.link
        if link is None or self._saver is None:
            return self.graph, None
        saver = RunSaver(self._saver, link, self._thread)
        return self.graph.copy({"checkpointer": saver}), saver

    def _ended(self, turn: Turn, saver: RunSaver | None) -> Iterator[Event]:
        events = list(turn.end())
        if saver is not None and turn.finished is not None:
            head = self._thread.head
            stored = "" if saver.is_lost or head is None or not saver.is_up else str(head.checkpoint["id"])
            values = {key: turn.result[key] for key in _CHANNELS_OF_A_TURN if key in turn.result}
            self._keep(WholeTurn(tuple(turn.messages), values, time.monotonic(), stored))
        return iter(events)

    def _over(self, control: RunControl) -> None:
        self._running.discard(control)
        if self._thread.waits:
            self._hold()

    # --- outages ---

    def _keep(self, turn: WholeTurn) -> None:
        self._thread.add(turn)
        if not turn.stored_as:
            self._hold()

    def _hold(self) -> None:
        """Schedule writing the backlog for when the server is available again."""
        link = self._keeping.link
        assert link is not None
        link.hold(("thread", self._id), lambda: run(self._brought(), {}))

    def _replayed(self) -> Program[None]:
        """Add to the thread what was said during the outage."""
        link = self._keeping.link
        if self._transcript is None or link is None or not link.is_up or not self._thread.waits:
            return
        try:
            yield from self._brought()
        except OUTAGES as error:
            link.failed(error)

    def _brought(self) -> Program[None]:
        """Write the backlog to the server: a removal, then whole turns in their original order.

        The turns come from the journal. The transcript only decides which of them to keep: a turn that another
        process has since removed is no longer in it. A turn that was broken off never was.
        """
        assert self._saver is not None
        assert self._transcript is not None
        thread = self._thread
        if removal := thread.removal:
            yield _removing(self._saver, self._id, removal)
            if thread.removal == removal:
                thread.removal = ""
        for holder in thread.stale:
            yield _letting_go(self._saver, self._id, holder)
            thread.drop_stale(holder)
        waiting = thread.waiting()  # before the transcript is read: it can't have a turn that ends after that
        told = yield from self._transcript.read_stored()
        kept = {message.id for message in told}
        if not waiting:
            return
        lease = self.graph.lease(self._config)
        try:
            if lease is not None:
                yield from lease.taken()
            for turn in waiting:
                if not any(turn is one for one in thread.waiting()):  # reset or stored in the meantime
                    continue
                if turn.is_broken_off or turn.messages[0].id in kept:
                    try:
                        yield from replaying(self.graph, self._config, turn)
                    except (TooLargeError, NotSerializableError) as error:
                        log.error("%s A turn of the session %r is left out of its thread.", error, self._id)
                thread.done(turn)
        except ThreadBusyError:
            self._hold()
        finally:
            if lease is not None:
                yield from lease.let_go()

    # --- the end ---

    def forget(self, *, wholly: bool = False) -> Program[None]:
        """Remove the transcript, the groups' histories and the thread; with ``wholly``, also the session data."""
        saver, link = self._saver, self._keeping.link
        if saver is None or self._transcript is None:
            return
        removal = uuid4().hex
        self._thread.reset()
        try:
            if wholly and link is not None and link.is_up:
                yield self._keeping.clearing_session(self._id)
        except OUTAGES as error:
            assert link is not None
            link.failed(error)
        for group in self._registry.groups:
            yield from self._transcript_of(group, self._id).clear()
        yield from self._transcript.clear()
        if link is None or link.is_up:
            try:
                yield _removing(saver, self._id, removal)
            except OUTAGES as error:
                assert link is not None
                link.failed(error)
            else:
                return
        self._thread.reset(removal)
        self._hold()

    @property
    def _config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self._id}}

    def _transcript_of(self, agent_id: str, session_id: str) -> Transcript:
        limit = self._group_limit
        if agent_id == SUPERVISOR and self._transcript is not None:
            if session_id == self._id:
                return self._transcript
            limit = self._transcript.limit  # the graph is being run in another thread than this session's
        return self._keeping.transcript(agent_id, session_id, limit)


_CHANNELS_OF_A_TURN = (
    "decision",
    "reports",
    "synthesis",
)  # channels that a turn leaves in the thread besides its messages


def _stopped(drained: GraphDrained) -> TurnStoppedError:
    return TurnStoppedError(
        f"The turn was stopped between two steps ({drained.reason}). The finished steps are stored. Resume the "
        "turn to continue from there."
    )


def _removing(saver: Saver, thread_id: str, removal: str) -> Doing:
    if not isinstance(saver, RedisSaver):
        return Doing(lambda _: saver.delete_thread(thread_id), lambda _: saver.adelete_thread(thread_id))
    return Doing(
        lambda _: saver.delete_thread(thread_id, operation=removal),
        lambda _: saver.adelete_thread(thread_id, operation=removal),
    )


def _letting_go(saver: Saver, thread_id: str, holder: str) -> Doing:
    assert isinstance(saver, RedisSaver)
    leases = saver.leases
    return Doing(lambda _: leases.release(thread_id, holder), lambda _: leases.arelease(thread_id, holder))


def _saver(keeping: Keeping) -> Saver:
    if keeping.link is None:
        return InMemorySaver()
    return RedisSaver(
        server=keeping.link.server,
        prefix=keeping.link.prefix,
        ttl=keeping.ttl,
        default_ttl=keeping.memory.default_ttl,
    )
