"""The compiled supervisor graph, which checks its input before anything is stored, and updates its histories."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, cast, overload
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Durability

from ecowas_lc._display import Displayed
from ecowas_lc._telemetry import afollowed, followed
from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import ConfigurationError, DecisionPendingError, UnknownCheckpointError
from ecowas_lc.supervisor.approval import check_resume
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.double_texting import Lease
from ecowas_lc.supervisor.history_sync import synchronised, taken_in
from ecowas_lc.supervisor.nodes import GIVEN_UP, RUN, speakers_of
from ecowas_lc.supervisor.state import Dropped, Question, SupervisorInput, SupervisorOutput, SupervisorState

GraphInput = Question | SupervisorInput | Command[Any] | None
"""A question, a decision (``Command(resume=…)``), or ``None`` to resume a run."""

TURN = "invoke_agent ecowas_supervisor"
_TASK = "__pregel_task_id"
_LONGEST_QUOTE = 200


class SupervisorResult(Displayed, dict[str, Any]):
    """The result of a run: a dict (see :class:`~ecowas_lc.SupervisorOutput`) with a display for notebooks."""


class SupervisorGraph(Displayed, CompiledStateGraph[SupervisorState, None, SupervisorInput, SupervisorOutput]):
    """A compiled LangGraph graph that also checks its input before storing anything of it.

    - A run from a checkpoint that the thread does not have raises :class:`UnknownCheckpointError`.
    - A decision (``Command(resume=…)``) about something that is not waiting raises :class:`NotWaitingError`; one
      that is not among the possible decisions raises :class:`InvalidDecisionError`.
    - While an answer waits for a reviewer, a new question raises :class:`DecisionPendingError`, or, with
      ``on_waiting="drop"``, discards the answer.
    - With ``on_busy``, a run of a thread with another run in progress raises :class:`ThreadBusyError`, at once or
      after waiting for it.
    """

    def __init__(self, *, supervisor: Context, **compiled: Any) -> None:
        options = {name: compiled.pop(name) for name in ("builder", "schema_to_mapper") if name in compiled}
        super().__init__(**options, **compiled)
        self.supervisor = supervisor

    @overload
    def invoke(
        self,
        input: GraphInput,
        config: RunnableConfig | None = None,
        *,
        durability: Durability | None = None,
    ) -> SupervisorOutput: ...

    @overload
    def invoke(self, input: GraphInput, config: RunnableConfig | None = None, **options: Any) -> Any: ...

    def invoke(
        self,
        input: GraphInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Any:
        """Run the graph; see LangGraph's ``invoke``."""
        return _shown(super().invoke(_as_input(input), config, **options), config)

    @overload
    async def ainvoke(
        self,
        input: GraphInput,
        config: RunnableConfig | None = None,
        *,
        durability: Durability | None = None,
    ) -> SupervisorOutput: ...

    @overload
    async def ainvoke(
        self,
        input: GraphInput,
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Any: ...

    async def ainvoke(
        self,
        input: GraphInput,  # noqa: A002  # as langgraph names it
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Any:
        """Run the graph without blocking the event loop; see LangGraph's ``ainvoke``."""
        return _shown(await super().ainvoke(_as_input(input), config, **options), config)

    def stream(
        self,
        input: GraphInput,  # noqa: A002  # as langgraph names it
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Stream a run; see LangGraph's ``stream``. Invalid input is rejected before anything is stored."""
        lease = self.lease(config)
        with lease.held() if lease else nullcontext():
            given, admitted = run(self._admitted(input, config), {})
            yield from followed("turn", TURN, super().stream(given, admitted, **options), **_about(admitted))

    async def astream(
        self,
        input: GraphInput,  # noqa: A002  # as langgraph names it
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Stream a run without blocking the event loop; see :meth:`stream`."""
        lease = self.lease(config)
        async with lease.aheld() if lease else nullcontext():
            given, admitted = await arun(self._admitted(input, config), {})
            parts = super().astream(given, admitted, **options)
            turn = afollowed("turn", TURN, parts, **_about(admitted))
            try:
                async for part in turn:
                    yield part
            finally:
                if turn is not parts and isinstance(turn, AsyncGenerator):
                    await turn.aclose()  # now, so that the span ends with the turn

    def lease(self, config: RunnableConfig | None) -> Lease | None:
        """Return the lease on its thread that a run needs, or ``None`` if its runs are not serialized."""
        ctx = self.supervisor
        place = ensure_config(config).get("configurable", {})
        if ctx.on_busy is None or _TASK in place or not place.get("thread_id"):
            return None
        if not isinstance(self.checkpointer, BaseCheckpointSaver):
            return None
        saver, thread_id = self.checkpointer, str(place["thread_id"])
        leases = getattr(saver, "leases", None)
        return Lease(saver, leases, thread_id, uuid4().hex, ctx.on_busy, ctx.busy_wait_seconds)

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Any]) -> RunnableConfig:
        """Update a thread's state; see LangGraph's ``bulk_update_state``.

        Raises:
            UnknownCheckpointError: The thread does not have the checkpoint.
        """
        run(self._known(ensure_config(config)), {})
        return super().bulk_update_state(config, supersteps)

    async def abulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Any]) -> RunnableConfig:
        """Update a thread's state without blocking the event loop; see :meth:`bulk_update_state`."""
        await arun(self._known(ensure_config(config)), {})
        return await super().abulk_update_state(config, supersteps)

    def sync_histories(self, config: RunnableConfig) -> None:
        """Update the histories of a thread's session to match the thread, for example after ``update_state``.

        Each turn does this at its end. Messages that other programs appended to a history stay in place.

        Args:
            config: A config with the thread's id.

        Raises:
            ConfigurationError: The graph has no histories or no checkpointer, or ``config`` names no thread.
        """
        run(self._histories_synchronised(config), {})

    async def async_histories(self, config: RunnableConfig) -> None:
        """Do what :meth:`sync_histories` does, without blocking the event loop."""
        await arun(self._histories_synchronised(config), {})

    def _histories_synchronised(self, config: RunnableConfig) -> Program[None]:
        ctx = self.supervisor
        if ctx.history_factory is None or not self.checkpointer:
            raise ConfigurationError(
                "There are no histories to update. Pass history_factory= and checkpointer= to build_supervisor."
            )
        state = yield self._state(config)
        messages = state.values.get("messages") or []
        taken = taken_in(state.values)
        yield from synchronised(ctx.history_factory, speakers_of(ctx), config, messages, taken)

    def _admitted(self, given: Any, config: RunnableConfig | None) -> Program[tuple[Any, RunnableConfig]]:
        """Return the input and config of a run after checking them."""
        whole = ensure_config(config)
        place = whole.get("configurable", {})
        extra: dict[str, Any] = {RUN: uuid4().hex}
        if _TASK not in place and isinstance(self.checkpointer, BaseCheckpointSaver) and place.get("thread_id"):
            if isinstance(given, Command) and given.resume is not None:
                given = yield from self._decided(given, whole)
            else:
                yield from self._known(whole)
                if self.supervisor.held and (dropped := (yield from self._replaced(given, whole))):
                    extra[GIVEN_UP] = dropped
        return given, merge_configs(config, {"configurable": extra})

    def _known(self, config: RunnableConfig) -> Program[None]:
        """Raise an error unless the thread has the checkpoint that the config names, if any.

        Raises:
            UnknownCheckpointError: The thread does not have it.
        """
        place = config.get("configurable", {})
        saver = self.checkpointer
        if not place.get("checkpoint_id") or not isinstance(saver, BaseCheckpointSaver):
            return
        found = yield Doing(lambda _: saver.get_tuple(config), lambda _: saver.aget_tuple(config))
        if found is None:
            raise UnknownCheckpointError(
                f"The thread {place.get('thread_id')!r} has no checkpoint {place['checkpoint_id']!r}. "
                "graph.get_state_history(config) lists those it has."
            )

    def _decided(self, command: Command[Any], config: RunnableConfig) -> Program[Command[Any]]:
        yield from self._known(config)
        state = yield self._state(config)
        resume = check_resume(state.interrupts, command.resume, state.values.get("dropped") or [])
        if resume is command.resume:
            return command
        return Command(graph=command.graph, update=command.update, resume=resume, goto=command.goto)

    def _replaced(self, given: Any, config: RunnableConfig) -> Program[list[Dropped]]:
        """Return the drafts that wait for a reviewer and that this input gives up.

        Raises:
            DecisionPendingError: A draft is waiting, and drafts must not be given up.
        """
        place = config["configurable"]
        if given is None and not place.get("checkpoint_id"):
            return []  # it resumes where it stopped
        head: RunnableConfig = {
            "configurable": {key: place[key] for key in ("thread_id", "checkpoint_ns") if key in place}
        }
        state = yield self._state(head)
        if not state.interrupts:
            return []
        if given is None and state.config["configurable"].get("checkpoint_id") == place.get("checkpoint_id"):
            return []
        shown = [one.value if isinstance(one.value, dict) else {} for one in state.interrupts]
        names = ", ".join(str(one.get("name") or one.get("group") or "a tool") for one in shown)
        if self.supervisor.on_waiting == "refuse":
            ids = ", ".join(one.id for one in state.interrupts)
            raise DecisionPendingError(
                f"An answer of this thread still waits for a reviewer's decision ({names}; {ids}), so the new "
                "question was not stored. Decide with Command(resume={id: decision}), ask in another thread, or "
                'build the graph with on_waiting="drop".'
            )
        question = _text_of(given)[:_LONGEST_QUOTE]
        return [
            {"draft": str(one.get("draft") or ""), "group": str(one.get("group") or ""), "question": question}
            for one in shown
        ]

    def _state(self, config: RunnableConfig) -> Doing:
        return Doing(lambda _: self.get_state(config), lambda _: self.aget_state(config))


def _as_input(asked: GraphInput) -> SupervisorInput | Command[Any] | None:
    return cast("SupervisorInput | Command[Any] | None", asked)  # langgraph converts its content to messages


def _shown(given: Any, config: RunnableConfig | None) -> Any:
    """Return a run's result with a display for notebooks; that of a node in another graph is unchanged."""
    if (
        type(given) is not dict
        or "decision" not in given
        or _TASK in ensure_config(config).get("configurable", {})
    ):
        return given
    return SupervisorResult(given)


def _about(config: RunnableConfig) -> dict[str, Any]:
    """Return the attributes of a turn's span."""
    place = config.get("configurable", {})
    return {
        "gen_ai__operation__name": "invoke_agent",
        "gen_ai__agent__name": "ecowas_supervisor",
        "gen_ai__conversation__id": str(place["thread_id"]) if place.get("thread_id") else None,
        "ecowas__run": place.get(RUN),
    }


def _text_of(given: Any) -> str:
    messages = given.get("messages") if isinstance(given, dict) else None
    last = messages[-1] if isinstance(messages, list) and messages else messages
    if isinstance(last, tuple) and len(last) == 2:
        return str(last[1])
    if isinstance(last, dict):
        return str(last.get("content", ""))
    return str(getattr(last, "text", last or ""))
