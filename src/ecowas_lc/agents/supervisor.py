"""The supervisor as an object: one session of the supervisor graph."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

from ecowas_lc._display import Displayed
from ecowas_lc.agents.base_agent import BaseAgent
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
    """An agent that answers questions by asking the working groups that they concern, within one session.

    It runs the supervisor graph. The thread's id is the session's id. :attr:`history` is the supervisor's own
    transcript: questions and final answers, at most ``SUPERVISOR_MAX_HISTORY`` messages. Each group also keeps a
    history of the session, at most ``AGENT_MAX_HISTORY`` messages.

    While Redis is unavailable, the supervisor keeps working from memory, as :class:`BaseAgent` does; turns that
    the thread missed are appended to it afterwards.

    Args:
        keep_history: Whether to remember the session. If false, each question is answered without the earlier
            ones and nothing is kept, even with ``use_redis=True``.
        session_id: The session to join. Generated if omitted.
        use_redis: Whether to keep the session on the Redis server that the settings name, so that another
            supervisor with the same session id can continue it. If false, it is kept in this process.
        memory_ttl: Seconds after which an idle session expires. Default: ``REDIS_MEMORY_TTL``, which never
            shortens a longer remaining time.
        auto_register: Whether all ``groups`` can be asked from the start. If false, a group is asked only after
            :meth:`register_agent`.
        model: A chat model, or the name of a model on Ollama. Defaults to the settings' model.
        memory: A memory service whose server, prefix and default time to live replace those of the settings.
        settings: The settings to use. Defaults to those of the environment.
        router: A router, or the name of one. Defaults to the settings' router.
        groups: The working groups. Defaults to the summit's six.
        max_parallel: Maximum number of groups that answer at the same time; ``None`` means no limit.
        documents: The documents that answers are based on, as for :func:`~ecowas_lc.build_supervisor`.
        store: Long-term memory, such as a :class:`~ecowas_lc.RedisStore`. Groups that are graphs find it as
            ``runtime.store``; tools that ask for a store receive it.
        on_busy: What happens to a question while another one of the session is being answered, in any process:
            ``"queue"`` waits for up to ``busy_wait_seconds``, ``"refuse"`` raises
            :class:`~ecowas_lc.ThreadBusyError` at once.
        busy_wait_seconds: Seconds to wait with ``on_busy="queue"``.

    Raises:
        InvalidIdError, InvalidInputError: An id, the groups or ``memory_ttl`` are not usable.
        ConfigurationError: The settings or an argument are not usable.
        WrongTypeError, CorruptDataError: The key for the transcript holds data of another program.
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
            documents=documents,
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
        """Return the answer to a question, asking the groups that it concerns.

        One group's answer is returned as it is. Several groups are asked at the same time, and their answers are
        combined. The supervisor answers general questions itself.

        Args:
            prompt: The question.

        Returns:
            The answer.

        Raises:
            EmptyQuestionError: ``prompt`` contains no text.
            ModelError, SupervisorError: Neither a group nor the supervisor could answer; the message says how to
                fix it.
        """
        return self._answer(prompt).answer

    async def asmart_chat(self, prompt: str) -> str:
        """Return what :meth:`smart_chat` returns, without blocking the event loop."""
        return (await self._aanswer(prompt)).answer

    def chat(self, prompt: str) -> str:
        """Return the supervisor's own answer to a question, without asking a group.

        Args:
            prompt: The question.

        Returns:
            The answer.

        Raises:
            EmptyQuestionError, ModelError, SupervisorError: As for :meth:`smart_chat`.
        """
        return self._answer(prompt, []).answer

    async def achat(self, prompt: str) -> str:
        """Return what :meth:`chat` returns, without blocking the event loop."""
        return (await self._aanswer(prompt, [])).answer

    def stream(self, prompt: str) -> Iterator[str]:
        """Stream the answer that :meth:`smart_chat` returns, as it is written.

        If several groups answer, only the combined answer is streamed.

        Args:
            prompt: The question.

        Returns:
            The pieces of the answer.

        Raises:
            EmptyQuestionError, ModelError, SupervisorError: As for :meth:`smart_chat`.
        """
        return self._heard(self._turn(prompt))

    def astream(self, prompt: str) -> AsyncIterator[str]:
        """Stream what :meth:`stream` streams, without blocking the event loop."""
        return self._aheard(self._turn(prompt))

    def delegate_to_agent(self, agent_id: str, prompt: str) -> str:
        """Return one group's answer, without routing. The exchange becomes part of the conversation.

        Args:
            agent_id: The group's id.
            prompt: The question.

        Returns:
            The group's answer.

        Raises:
            UnknownGroupError: No such group is registered; the message lists the registered ones.
            EmptyQuestionError, ModelError, SupervisorError: As for :meth:`smart_chat`.
        """
        return self._answer(prompt, self._registry.named([agent_id])).answer

    async def adelegate_to_agent(self, agent_id: str, prompt: str) -> str:
        """Return what :meth:`delegate_to_agent` returns, without blocking the event loop."""
        return (await self._aanswer(prompt, self._registry.named([agent_id]))).answer

    def consult_multiple_agents(self, prompt: str, agent_ids: Iterable[str]) -> dict[str, str]:
        """Ask several groups at the same time and return each one's own answer.

        Their combined answer goes into the history. A group that could not answer is left out of the result;
        ``get_supervisor_status()["last_reports"]`` says why.

        Args:
            prompt: The question.
            agent_ids: The groups' ids.

        Returns:
            The answers by group id.

        Raises:
            UnknownGroupError: A group is not registered; the message lists the registered ones.
            InvalidInputError: ``agent_ids`` is empty.
            EmptyQuestionError, ModelError, SupervisorError: As for :meth:`smart_chat`.
        """
        return _answers(self._answer(prompt, self._registry.named(agent_ids)))

    async def aconsult_multiple_agents(self, prompt: str, agent_ids: Iterable[str]) -> dict[str, str]:
        """Return what :meth:`consult_multiple_agents` returns, without blocking the event loop."""
        return _answers(await self._aanswer(prompt, self._registry.named(agent_ids)))

    def identify_relevant_agents(self, prompt: str) -> list[str]:
        """Return the ids of the groups that a question concerns, without asking them.

        Args:
            prompt: The question.

        Returns:
            The groups' ids, the most relevant first; ``[]`` for a general question.

        Raises:
            EmptyQuestionError: ``prompt`` contains no text.
        """
        return list(self._registry.router.route(checked_question(prompt)).groups)

    async def aidentify_relevant_agents(self, prompt: str) -> list[str]:
        """Return what :meth:`identify_relevant_agents` returns, without blocking the event loop."""
        return list((await self._registry.router.aroute(checked_question(prompt))).groups)

    def drain(self, reason: str = "shutdown") -> None:
        """Stop running answers between two steps, for example when your program shuts down.

        A step that has started is finished and stored first; the caller that waits for the answer gets a
        :class:`~ecowas_lc.TurnStoppedError`. You may call this from any thread, or from a signal handler.

        Args:
            reason: The reason that the error states.
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
        """Let an agent answer for a group.

        A compiled graph runs as a subgraph: its key ``messages`` receives the question, and its last message is
        the answer. An agent whose ``keep_history`` is true keeps its own history; for others, the supervisor graph
        keeps one. ``achat`` is used if the agent has it.

        Args:
            agent_id: The group's id. A new id adds a group, which the router finds by ``description`` and
                ``terms``, and which you can always ask by its id.
            agent: A compiled graph, or any object with ``chat(prompt)``. If omitted, the group's own persona
                answers, as with ``auto_register=True``.
            name: The group's name.
            description: What the group works on.
            terms: Words by language that point to the group (see :class:`ecowas_lc.twg.TWG`).

        Raises:
            ConfigurationError: The group has documents, but an agent's answers cannot be checked against them.
            InvalidInputError: ``agent`` has no way to answer, or the description or the terms are not usable.
            InvalidIdError: The id is not valid for a group.
            UnknownGroupError: No group has this id, and no agent is given to answer for it.
        """
        self._registry.register(agent_id, agent, name, description, terms)

    def get_registered_agents(self) -> list[str]:
        """Return the ids of the groups that can be asked."""
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
        """Return what :meth:`get_agent_info` returns, the registered groups, and how the last answer was produced.

        Returns:
            In addition to the agent's information: ``agents`` maps group ids to the group's ``name`` and to
            ``answered_by`` (``"graph"``, or the class of a registered agent); ``last_decision`` and
            ``last_reports`` come from the graph, see :class:`ecowas_lc.supervisor.Decision` and
            :class:`ecowas_lc.supervisor.Report`.
        """
        return run(self._supervisor_status(), {})

    async def aget_supervisor_status(self) -> dict[str, Any]:
        """Return what :meth:`get_supervisor_status` returns, without blocking the event loop."""
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
        """Delete the session's transcript, the graph's thread and the groups' histories of the session.

        Session data, and what registered agents store themselves, are kept.
        """
        super().reset_history()

    def _forget(self) -> Program[None]:
        yield from self._session.forget()


def _answers(turn: Turn) -> dict[str, str]:
    """Return the groups' answers, in the order in which the groups were asked."""
    given = answered(turn.result["reports"])
    return {group: given[group] for group in turn.result["decision"]["groups"] if group in given}
