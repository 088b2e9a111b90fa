"""The supervisor as one object: a session of the supervisor graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.agents.base import BaseAgent
from ecowas_lc.agents.link import OUTAGES
from ecowas_lc.agents.threads import Graph, RunSaver, Saver, Thread, mending
from ecowas_lc.agents.transcript import Transcript
from ecowas_lc.agents.turn import STREAM_MODES, AskedOrRouted, Turn
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import InvalidInputError, UnknownGroupError
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.calls import Agent
from ecowas_lc.supervisor.graph import RESERVED_IDS
from ecowas_lc.supervisor.programs import Doing, Program, arun, run
from ecowas_lc.supervisor.routing import Router, get_router
from ecowas_lc.supervisor.routing.decision import checked_question
from ecowas_lc.supervisor.state import SUPERVISOR
from ecowas_lc.supervisor.synthesis import answered
from ecowas_lc.twg import TWG, default_groups, validate_groups


class SupervisorAgent(BaseAgent):
    """Answers questions by asking the working groups that they concern, in one session.

    It runs the supervisor graph: the thread has the session's id, the transcript that :attr:`history` shows is
    the supervisor's own (questions and final answers), and each group keeps a history of the session too. Without
    ``keep_history`` each question stands for itself and nothing is kept, whatever ``use_redis`` says. With
    ``use_redis`` all of it is on the server that the settings name, and another supervisor of the same session
    goes on from there; without, in this process.

    ``memory_ttl``, ``model``, ``memory``, ``settings`` and what happens while Redis can't be used are as for
    :class:`BaseAgent`; a thread that missed something meanwhile is rebuilt from the transcript. The transcript
    has the last ``SUPERVISOR_MAX_HISTORY`` messages, each group's history ``AGENT_MAX_HISTORY``.

    ``groups`` are the working groups (default: the summit's six); with ``auto_register=False`` none of them is
    asked before it is registered. ``router`` is a router's name or object (default: the settings').
    ``max_parallel`` groups at most speak at once (default: all).

    Raises:
        InvalidIdError, InvalidInputError: an id, the groups or ``memory_ttl`` can't be used.
        ConfigurationError: the settings or an argument can't be used.
        WrongTypeError, CorruptDataError: another program's data is where the transcript should be.
    """

    def __init__(
        self,
        keep_history: bool = True,
        session_id: str | None = None,
        use_redis: bool = False,
        memory_ttl: int | None = None,
        auto_register: bool = True,
        *,
        model: BaseChatModel | str | None = None,
        memory: RedisMemoryService | None = None,
        settings: Settings | None = None,
        router: str | Router | None = None,
        groups: Sequence[TWG] | None = None,
        max_parallel: int | None = None,
    ) -> None:
        settings = settings or get_settings()
        super().__init__(
            SUPERVISOR,
            keep_history,
            settings.supervisor_max_history,
            session_id,
            use_redis and keep_history,
            memory_ttl,
            model=model,
            memory=memory if use_redis and keep_history else None,
            settings=settings,
        )
        self._known_groups = validate_groups(default_groups() if groups is None else groups, reserved=RESERVED_IDS)
        self._groups: dict[str, TWG] = {group.id: group for group in self._known_groups} if auto_register else {}
        self._agents: dict[str, Agent] = {}
        self._given_router = settings.router if router is None else router
        self._router: Router | None = None
        self._max_parallel = max_parallel
        self._saver = self._make_saver() if keep_history else None
        self._graph: Graph | None = None
        self._last: Mapping[str, Any] = {}

    @property
    def graph(self) -> Graph:
        """The compiled supervisor graph that answers."""
        if self._graph is None:
            self._graph = build_supervisor(
                self._model,
                groups=tuple(self._groups.values()) or self._known_groups,
                router=AskedOrRouted(self._routes()),
                checkpointer=self._saver,
                history_factory=self._transcript_of if self.keep_history else None,
                agents=self._agents,
                max_parallel=self._max_parallel,
            )
        return self._graph

    # --- asking ---

    def smart_chat(self, prompt: str) -> str:
        """The answer to ``prompt`` from the groups that it concerns; a general question it answers itself.

        Of one group the answer is passed on as it is; several are asked at the same time, and their answers
        brought together.

        Raises:
            EmptyQuestionError: there is no text in it.
            ModelError, SupervisorError: nobody could answer; the message says what mends it.
        """
        return self._answer(prompt).answer

    async def asmart_chat(self, prompt: str) -> str:
        """What :meth:`smart_chat` gives, without blocking the event loop."""
        return (await self._aanswer(prompt)).answer

    def chat(self, prompt: str) -> str:
        """The supervisor's own answer to ``prompt``, without asking a group. Errors: see :meth:`smart_chat`."""
        return self._answer(prompt, []).answer

    async def achat(self, prompt: str) -> str:
        """What :meth:`chat` gives, without blocking the event loop."""
        return (await self._aanswer(prompt, [])).answer

    def stream(self, prompt: str) -> Iterator[str]:
        """What :meth:`smart_chat` answers, as it comes; of several groups' answers only the synthesis is heard.

        Raises:
            EmptyQuestionError, ModelError, SupervisorError: see :meth:`smart_chat`.
        """
        return self._heard(self._turn(prompt))

    def astream(self, prompt: str) -> AsyncIterator[str]:
        """What :meth:`stream` gives, without blocking the event loop."""
        return self._aheard(self._turn(prompt))

    def delegate_to_agent(self, agent_id: str, prompt: str) -> str:
        """One group's answer, whomever the question concerns; it is part of the conversation.

        Raises:
            UnknownGroupError: no such group is registered; the message names those that are.
            EmptyQuestionError, ModelError, SupervisorError: see :meth:`smart_chat`.
        """
        return self._answer(prompt, self._registered([agent_id])).answer

    async def adelegate_to_agent(self, agent_id: str, prompt: str) -> str:
        """What :meth:`delegate_to_agent` gives, without blocking the event loop."""
        return (await self._aanswer(prompt, self._registered([agent_id]))).answer

    def consult_multiple_agents(self, prompt: str, agent_ids: Iterable[str]) -> dict[str, str]:
        """Each group's own answer, asked at the same time; what they come to together goes into the history.

        A group that could not answer is left out; ``get_supervisor_status()["last_reports"]`` says why.

        Raises:
            UnknownGroupError: one is not registered; the message names those that are.
            InvalidInputError: nobody is named.
            EmptyQuestionError, ModelError, SupervisorError: see :meth:`smart_chat`.
        """
        return _answers(self._answer(prompt, self._registered(agent_ids)))

    async def aconsult_multiple_agents(self, prompt: str, agent_ids: Iterable[str]) -> dict[str, str]:
        """What :meth:`consult_multiple_agents` gives, without blocking the event loop."""
        return _answers(await self._aanswer(prompt, self._registered(agent_ids)))

    def identify_relevant_agents(self, prompt: str) -> list[str]:
        """The ids of the groups that a question concerns, the most relevant first; ``[]`` for a general one.

        Raises:
            EmptyQuestionError: there is no text in it.
        """
        return list(AskedOrRouted(self._routes()).route(checked_question(prompt)).groups)

    async def aidentify_relevant_agents(self, prompt: str) -> list[str]:
        """What :meth:`identify_relevant_agents` gives, without blocking the event loop."""
        return list((await AskedOrRouted(self._routes()).aroute(checked_question(prompt))).groups)

    # --- who is asked ---

    def register_agent(
        self,
        agent_id: str,
        agent: Agent | None = None,
        *,
        name: str | None = None,
        description: str = "",
        terms: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Let ``agent`` answer for a group: anything with ``chat(prompt)``, such as a :class:`BaseAgent`.

        An agent that keeps a history (``keep_history`` is true) does so itself; for others the graph does. An
        ``achat`` is used where there is one. Without ``agent``, the group answers by itself, as with
        ``auto_register``. An id that no group has makes a new one, which the router finds by ``description`` and
        ``terms`` (see :class:`ecowas_lc.twg.TWG`), and anybody by its id.

        Raises:
            InvalidInputError: ``agent`` has no ``chat``, or the description or the terms can't be used.
            InvalidIdError: the id can't be a group's.
            UnknownGroupError: no group has this id, and there is no agent to speak for it.
        """
        group = self._groups.get(agent_id) or next((g for g in self._known_groups if g.id == agent_id), None)
        if agent is None:
            if group is None:
                known = ", ".join(known.id for known in self._known_groups)
                raise UnknownGroupError(
                    f"There is no working group {agent_id!r}. There are: {known}. For another, pass an agent too."
                )
        elif not callable(getattr(agent, "chat", None)):
            raise InvalidInputError(f"{agent!r} can't answer: it has no method chat(prompt).")
        if group is None or name or description or terms:
            title = name or (group.name if group else str(getattr(agent, "name", None) or agent_id))
            group = TWG(
                agent_id,
                title,
                group.prompt if group else f"You are {title}.",
                terms or (group.terms if group else {}),
                description or (group.description if group else ""),
            )
        validate_groups([group], reserved=RESERVED_IDS)
        self._groups[agent_id] = group
        if agent is None:
            self._agents.pop(agent_id, None)
        else:
            self._agents[agent_id] = agent
        self._graph = self._router = None

    def get_registered_agents(self) -> list[str]:
        """The ids of the groups that can be asked."""
        return list(self._groups)

    def _supervisor_status(self) -> Program[dict[str, Any]]:
        info = yield from self._agent_info()
        router = self._given_router if isinstance(self._given_router, str) else type(self._given_router).__name__
        return {
            **info,
            "router": router,
            "agents": {
                group.id: {
                    "name": group.name,
                    "answered_by": type(self._agents[group.id]).__name__ if group.id in self._agents else "graph",
                }
                for group in self._groups.values()
            },
            "last_decision": self._last.get("decision"),
            "last_reports": dict(self._last.get("reports") or {}),
        }

    def get_supervisor_status(self) -> dict[str, Any]:
        """What :meth:`get_agent_info` says, who is registered, and how the last answer came about.

        ``agents`` maps ids to the group's ``name`` and to who answers (``answered_by``: ``"graph"``, or the class
        of a registered agent); ``last_decision`` and ``last_reports`` are the graph's, see
        :class:`ecowas_lc.supervisor.Decision` and :class:`ecowas_lc.supervisor.Report`.
        """
        return run(self._supervisor_status(), {})

    async def aget_supervisor_status(self) -> dict[str, Any]:
        """What :meth:`get_supervisor_status` gives, without blocking the event loop."""
        return await arun(self._supervisor_status(), {})

    # --- one turn ---

    def _turn(self, prompt: str, groups: Sequence[str] | None = None) -> Turn:
        return Turn(checked_question(prompt), self.session_id, groups)

    def _answer(self, prompt: str, groups: Sequence[str] | None = None) -> Turn:
        turn = self._turn(prompt, groups)
        for _ in self._heard(turn):
            pass
        return turn

    async def _aanswer(self, prompt: str, groups: Sequence[str] | None = None) -> Turn:
        turn = self._turn(prompt, groups)
        async for _ in self._aheard(turn):
            pass
        return turn

    def _heard(self, turn: Turn) -> Iterator[str]:
        run(self._mended(turn), {})
        graph, saver = self._for_one_run()
        try:
            stream: Any = graph.stream({"messages": [turn.question]}, turn.config, stream_mode=STREAM_MODES)
            for mode, part in stream:
                if text := turn.hear(mode, part):
                    yield text
        finally:
            self._after(turn, saver)
        if rest := turn.rest:
            yield rest

    async def _aheard(self, turn: Turn) -> AsyncIterator[str]:
        await arun(self._mended(turn), {})
        graph, saver = self._for_one_run()
        try:
            stream: Any = graph.astream({"messages": [turn.question]}, turn.config, stream_mode=STREAM_MODES)
            async for mode, part in stream:
                if text := turn.hear(mode, part):
                    yield text
        finally:
            self._after(turn, saver)
        if rest := turn.rest:
            yield rest

    def _for_one_run(self) -> tuple[Graph, RunSaver | None]:
        link = self._keeping.link
        if link is None or self._saver is None:
            return self.graph, None
        saver = RunSaver(self._saver, link)
        return self.graph.copy({"checkpointer": saver}), saver

    def _after(self, turn: Turn, saver: RunSaver | None) -> None:
        self._last = turn.result or self._last
        if saver is not None and saver.is_lost:
            self._hold_thread()

    def _mended(self, turn: Turn) -> Program[None]:
        """Add to the thread what only the transcript has: Redis, or another process, failed in mid-turn."""
        link = self._keeping.link
        if link is None or not link.is_up:
            return
        try:
            transcript = yield from self._transcript.read_stored()
            yield from mending(self.graph, turn.config, transcript)
        except OUTAGES as error:
            link.failed(error)

    # --- the session ---

    def _forget(self) -> Program[None]:
        for speaker in (*self._groups, SUPERVISOR):
            yield from self._transcript_of(speaker, self.session_id).clear()
        saver, link = self._saver, self._keeping.link
        if saver is None:
            return
        if link is None or link.is_up:
            try:
                yield Doing(
                    lambda _: saver.delete_thread(self.session_id), lambda _: saver.adelete_thread(self.session_id)
                )
            except OUTAGES as error:
                assert link is not None
                link.failed(error)
            else:
                return
        self._hold_thread(forget=True)

    def reset_history(self) -> None:
        """Forget the session: the transcript, the graph's thread and the groups' histories of the session.

        Session data, and histories that registered agents keep themselves, stay.
        """
        super().reset_history()

    def _hold_thread(self, *, forget: bool = False) -> None:
        """Have the thread rebuilt from the transcript when Redis can be used again."""
        link = self._keeping.link
        assert link is not None
        thread = link.shared(("thread", self.session_id), Thread)
        thread.is_to_go = thread.is_to_go or forget
        link.hold(("thread", self.session_id), lambda: self._rebuild(thread))

    def _rebuild(self, thread: Thread) -> None:
        if thread.is_to_go and self._saver is not None:
            self._saver.delete_thread(self.session_id)
            thread.is_to_go = False
        transcript = run(self._transcript.read_stored(), {})
        run(mending(self.graph, {"configurable": {"thread_id": self.session_id}}, transcript), {})

    def _make_saver(self) -> Saver:
        if self._keeping.link is None:
            return InMemorySaver()
        return RedisSaver(
            server=self._keeping.link.server,
            prefix=self._keeping.link.prefix,
            ttl=self._keeping.memory.default_ttl if self._keeping.ttl is None else self._keeping.ttl,
        )

    def _transcript_of(self, agent_id: str, session_id: str) -> Transcript:
        if agent_id == SUPERVISOR and session_id == self.session_id:
            return self._transcript
        limit = self.max_history if agent_id == SUPERVISOR else self.settings.agent_max_history
        return self._keeping.transcript(agent_id, session_id, limit)

    def _routes(self) -> Router | None:
        if not self._groups:
            return None
        if self._router is None:
            given = self._given_router
            self._router = (
                get_router(given, groups=tuple(self._groups.values()), model=self._model)
                if isinstance(given, str)
                else given
            )
        return self._router

    def _registered(self, agent_ids: Iterable[str]) -> list[str]:
        asked = [agent_ids] if isinstance(agent_ids, str) else list(dict.fromkeys(agent_ids))
        if not asked:
            raise InvalidInputError("Nobody is named. Give the ids of the groups to ask.")
        for agent_id in asked:
            if agent_id not in self._groups:
                known = ", ".join(self._groups) or "none; register_agent adds one"
                raise UnknownGroupError(f"There is no working group {agent_id!r}. There are: {known}.")
        return asked


def _answers(turn: Turn) -> dict[str, str]:
    """The groups' answers, in the order in which they were asked."""
    given = answered(turn.result["reports"])
    return {group: given[group] for group in turn.result["decision"]["groups"] if group in given}
