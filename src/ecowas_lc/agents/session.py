"""A session of the supervisor graph: its thread, its transcripts, and how it gets over an outage of Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.agents.keeping import Keeping
from ecowas_lc.agents.link import OUTAGES
from ecowas_lc.agents.registry import Registry
from ecowas_lc.agents.threads import Graph, RunSaver, Saver, Thread, mending
from ecowas_lc.agents.transcript import Transcript
from ecowas_lc.agents.turn import STREAM_MODES, Turn
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.programs import Doing, Program, arun, run
from ecowas_lc.supervisor.state import SUPERVISOR


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
    ) -> None:
        self._id = session_id
        self._keeping = keeping
        self._transcript = transcript
        self._registry = registry
        self._model = model
        self._group_limit = group_limit
        self._max_parallel = max_parallel
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
        if link is None or link.is_up:
            try:
                yield Doing(lambda _: saver.delete_thread(self._id), lambda _: saver.adelete_thread(self._id))
            except OUTAGES as error:
                assert link is not None
                link.failed(error)
            else:
                return
        self._hold_thread(forget=True)

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
        """Add to the thread what only the transcript has.

        That is what was said while Redis, or a process, failed in mid-turn, or while another turn was under way.
        """
        link = self._keeping.link
        if self._transcript is None or (link is not None and not link.is_up):
            return
        try:
            transcript = yield from self._transcript.read_stored()
            yield from mending(self.graph, self._config, transcript)
        except OUTAGES as error:
            assert link is not None
            link.failed(error)

    def _hold_thread(self, *, forget: bool = False) -> None:
        """Have the thread rebuilt from the transcript when Redis can be used again."""
        link = self._keeping.link
        assert link is not None
        thread = link.shared(("thread", self._id), Thread)
        thread.is_to_go = thread.is_to_go or forget
        link.hold(("thread", self._id), lambda: self._rebuild(thread))

    def _rebuild(self, thread: Thread) -> None:
        assert self._saver is not None
        assert self._transcript is not None
        if thread.is_to_go:
            self._saver.delete_thread(self._id)
            thread.is_to_go = False
        transcript = run(self._transcript.read_stored(), {})
        run(mending(self.graph, self._config, transcript), {})

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


def _saver(keeping: Keeping) -> Saver:
    if keeping.link is None:
        return InMemorySaver()
    ttl: Any = keeping.memory.default_ttl if keeping.ttl is None else keeping.ttl
    return RedisSaver(server=keeping.link.server, prefix=keeping.link.prefix, ttl=ttl)
