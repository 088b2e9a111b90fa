"""The supervisor as one object: a session of the supervisor graph."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

from ecowas_lc._display import Displayed
from ecowas_lc.agents.base import BaseAgent
from ecowas_lc.agents.registry import Registry
from ecowas_lc.agents.session import Session
from ecowas_lc.agents.turn import FinalAnswer, Turn
from ecowas_lc.effects import Program, arun, run
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.supervisor.double_texting import OnBusy
from ecowas_lc.supervisor.grounding import Readable
from ecowas_lc.supervisor.model_calls import Agent
from ecowas_lc.supervisor.routing import Router
from ecowas_lc.supervisor.routing.decision import checked_question
from ecowas_lc.supervisor.state import SUPERVISOR
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph
from ecowas_lc.supervisor.synthesis import answered
from ecowas_lc.twg import TWG, default_groups


class SupervisorAgent(Displayed, BaseAgent):
    """Answers questions by asking the working groups that they concern, in one session.

    It runs the supervisor graph: the thread has the session's id, the transcript that :attr:`history` shows is
    the supervisor's own (questions and final answers), and each group keeps a history of the session too. Without
    ``keep_history`` each question stands for itself and nothing is kept, whatever ``use_redis`` says. With
    ``use_redis`` all of it is on the server that the settings name, and another supervisor of the same session
    goes on from there; without, in this process.

    ``memory_ttl``, ``model``, ``memory``, ``settings`` and what happens while Redis can't be used are as for
    :class:`BaseAgent`; a thread that missed whole turns meanwhile gets them at its end. The transcript
    has the last ``SUPERVISOR_MAX_HISTORY`` messages, each group's history ``AGENT_MAX_HISTORY``.

    ``groups`` are the working groups (default: the summit's six); with ``auto_register=False`` none of them is
    asked before it is registered. ``router`` is a router's name or object (default: the settings').
    ``max_parallel`` groups at most speak at once (default: all). ``documents`` are what answers rest on, as for
    :func:`~ecowas_lc.build_supervisor`. ``store`` is long-term memory, such as a :class:`~ecowas_lc.RedisStore`:
    groups that are graphs find it as ``runtime.store``, and tools that ask for a store get it.
    ``on_busy`` says what a question does while another one of the session is
    being answered, in any process: ``"queue"`` waits for its turn for ``busy_wait_seconds``, ``"refuse"`` raises
    :class:`~ecowas_lc.ThreadBusyError` at once.

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
        documents: Readable | Mapping[str, Readable] | None = None,
        store: BaseStore | None = None,
        on_busy: OnBusy = "queue",
        busy_wait_seconds: float = 60.0,
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
        self._registry = Registry(
            default_groups() if groups is None else groups,
            settings.router if router is None else router,
            self._model,
            auto_register=auto_register,
        )
        self._session = Session(
            self.session_id,
            self._keeping,
            self._transcript if keep_history else None,
            self._registry,
            self._model,
            group_limit=settings.agent_max_history,
            max_parallel=max_parallel,
            documents=documents,
            store=store,
            on_busy=on_busy,
            busy_wait_seconds=busy_wait_seconds,
        )
        self._last: Mapping[str, Any] = {}

    @property
    def graph(self) -> SupervisorGraph:
        """The compiled supervisor graph that answers."""
        return self._session.graph

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
        return self._answer(prompt, self._registry.named([agent_id])).answer

    async def adelegate_to_agent(self, agent_id: str, prompt: str) -> str:
        """What :meth:`delegate_to_agent` gives, without blocking the event loop."""
        return (await self._aanswer(prompt, self._registry.named([agent_id]))).answer

    def consult_multiple_agents(self, prompt: str, agent_ids: Iterable[str]) -> dict[str, str]:
        """Each group's own answer, asked at the same time; what they come to together goes into the history.

        A group that could not answer is left out; ``get_supervisor_status()["last_reports"]`` says why.

        Raises:
            UnknownGroupError: one is not registered; the message names those that are.
            InvalidInputError: nobody is named.
            EmptyQuestionError, ModelError, SupervisorError: see :meth:`smart_chat`.
        """
        return _answers(self._answer(prompt, self._registry.named(agent_ids)))

    async def aconsult_multiple_agents(self, prompt: str, agent_ids: Iterable[str]) -> dict[str, str]:
        """What :meth:`consult_multiple_agents` gives, without blocking the event loop."""
        return _answers(await self._aanswer(prompt, self._registry.named(agent_ids)))

    def identify_relevant_agents(self, prompt: str) -> list[str]:
        """The ids of the groups that a question concerns, the most relevant first; ``[]`` for a general one.

        Raises:
            EmptyQuestionError: there is no text in it.
        """
        return list(self._registry.router.route(checked_question(prompt)).groups)

    async def aidentify_relevant_agents(self, prompt: str) -> list[str]:
        """What :meth:`identify_relevant_agents` gives, without blocking the event loop."""
        return list((await self._registry.router.aroute(checked_question(prompt))).groups)

    def drain(self, reason: str = "shutdown") -> None:
        """Stop the answers that are being given between two steps, as your program ends.

        What is being said is said and stored first; whoever waits for the answer gets
        :class:`~ecowas_lc.TurnStoppedError`. You may call this from any thread, or from a signal handler.
        """
        self._session.drain(reason)

    # --- who is asked ---

    def register_agent(
        self,
        agent_id: str,
        agent: Agent | Pregel[Any, Any, Any, Any] | None = None,
        *,
        name: str | None = None,
        description: str = "",
        terms: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Let ``agent`` answer for a group: a compiled graph, or anything with ``chat(prompt)``.

        A graph runs as a subgraph: its key ``messages`` gets the question, and its last message is the answer.

        An agent that keeps a history (``keep_history`` is true) does so itself; for others the graph does. An
        ``achat`` is used where there is one. Without ``agent``, the group answers by itself, as with
        ``auto_register``. An id that no group has makes a new one, which the router finds by ``description`` and
        ``terms`` (see :class:`ecowas_lc.twg.TWG`), and anybody by its id.

        Raises:
            InvalidInputError: ``agent`` can't answer, or the description or the terms can't be used.
            InvalidIdError: the id can't be a group's.
            UnknownGroupError: no group has this id, and there is no agent to speak for it.
        """
        self._registry.register(agent_id, agent, name, description, terms)

    def get_registered_agents(self) -> list[str]:
        """The ids of the groups that can be asked."""
        return list(self._registry.groups)

    def _supervisor_status(self) -> Program[dict[str, Any]]:
        info = yield from self._agent_info()
        agents = self._registry.agents
        return {
            **info,
            "router": self._registry.router_name,
            "agents": {
                group.id: {
                    "name": group.name,
                    "answered_by": type(agents[group.id]).__name__ if group.id in agents else "graph",
                }
                for group in self._registry.groups.values()
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
        answer = FinalAnswer()
        for event in self._session.events(turn):
            if text := answer.take(event):
                yield text
        self._last = turn.result

    async def _aheard(self, turn: Turn) -> AsyncGenerator[str]:
        answer = FinalAnswer()
        async with aclosing(self._session.aevents(turn)) as events:
            async for event in events:
                if text := answer.take(event):
                    yield text
        self._last = turn.result

    # --- the session ---

    def reset_history(self) -> None:
        """Forget the session: the transcript, the graph's thread and the groups' histories of the session.

        Session data, and what registered agents keep themselves, stay.
        """
        super().reset_history()

    def _forget(self) -> Program[None]:
        yield from self._session.forget()


def _answers(turn: Turn) -> dict[str, str]:
    """The groups' answers, in the order in which they were asked."""
    given = answered(turn.result["reports"])
    return {group: given[group] for group in turn.result["decision"]["groups"] if group in given}
