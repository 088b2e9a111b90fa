"""Runs a question through the graph and yields events.

After an interruption, a run continues from its last checkpoint: groups that have answered are not asked again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from ecowas_lc.agents.events import Event, Routed, SpeakerDone, Token, ToolCalled, ToolReturned
from ecowas_lc.agents.turn import STREAM_MODES, Turn, citations_of
from ecowas_lc.errors import InvalidInputError, NotWaitingError
from ecowas_lc.supervisor.nodes import ALLOWED, RECORD
from ecowas_lc.supervisor.state import SUPERVISOR, asked_in
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph
from ecowas_lc.web.organisation import Organisation
from ecowas_lc.web.runs import Run

Data = dict[str, Any]


def message_as_json(message: BaseMessage) -> Data:
    """Return a message as the pages and the API show it."""
    speakers = {"human": "user", "ai": SUPERVISOR}
    found: Data = {
        "id": message.id,
        "speaker": str(message.name or speakers.get(message.type, message.type)),
        "text": message.text,
    }
    if cited := citations_of(message):
        found["citations"] = list(cited)
    if groups := message.response_metadata.get("groups"):
        found["groups"] = list(groups)
    return found


def answer_event(values: Mapping[str, Any]) -> Data | None:
    """Return the event with the complete answer, or ``None`` if the thread's last message is not an answer."""
    messages = values.get("messages") or []
    if not messages or not isinstance(messages[-1], AIMessage):
        return None
    reports = {
        group: {key: report[key] for key in ("status", "reason", "declined", "released") if key in report}
        for group, report in (values.get("reports") or {}).items()
    }
    decision = values.get("decision") or {}
    return {
        "type": "answer",
        "message": message_as_json(messages[-1]),
        "groups": list(decision.get("groups") or []),
        "reports": reports,
    }


def waiting_events(state: StateSnapshot) -> list[Data]:
    """Return an event for each draft that waits for a reviewer, without the draft's text."""
    found: list[Data] = []
    for one in state.interrupts:
        shown = one.value if isinstance(one.value, Mapping) else {}
        found.append(
            {"type": "waiting", "draft": str(shown.get("draft") or one.id), "group": str(shown.get("group") or "")}
        )
    return found


class Playing:
    """Executes one run. ``status`` holds its final status once it has ended."""

    def __init__(self, organisation: Organisation, run: Run) -> None:
        self._org = organisation
        self._run = run
        self._turn = Turn(None, run.session, run.given.get("groups"))
        self._is_again = run.attempt > 1
        self.status = "failed"
        self.config: RunnableConfig = {**self._turn.config, "metadata": {"user_id": run.by}}
        if run.given.get("allowed") is not None:
            self.config["configurable"][ALLOWED] = run.given["allowed"]

    def begin_again(self) -> None:
        """Continue from the thread's last step after an outage."""
        self._turn = Turn(None, self._run.session, self._run.given.get("groups"))
        self._is_again = True

    async def events(self) -> AsyncIterator[Data]:
        """Yield the run's events.

        Raises:
            EcowasError: The run failed.
        """
        graph = await self._org.graph()
        state = await graph.aget_state(self._thread)
        given, config, is_done = await self._input(graph, state)
        if not is_done:
            stream: Any = graph.astream(given, config, stream_mode=STREAM_MODES, durability="sync")
            async with aclosing(stream) as parts:
                async for mode, part in parts:
                    for event in self._turn.hear(mode, part):
                        if (told := _stored_event(event)) is not None:
                            yield told
            state = await graph.aget_state(self._thread)
        if waiting := waiting_events(state):
            for each in waiting:
                yield each
            self.status = "waiting"
            return
        answer = answer_event(state.values)
        if answer is None:
            raise InvalidInputError("The run ended without an answer. Ask again.")
        self.status = "done"
        yield answer

    async def keep_partial(self) -> None:
        """Store the text of a cancelled answer so far, and end its turn in the thread."""
        graph = await self._org.graph()
        state = await graph.aget_state(self._thread)
        if not state.next:
            return
        message = self._turn.partial or AIMessage("[…]", name=SUPERVISOR, id=str(uuid4()))
        await graph.aupdate_state(state.config, {"messages": [message]}, as_node=RECORD)

    @property
    def _thread(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self._run.session}}

    async def _input(self, graph: SupervisorGraph, state: StateSnapshot) -> tuple[Any, RunnableConfig, bool]:
        """Return the graph's input, the config with the starting point, and whether the run is complete."""
        given = self._run.given
        head = state.config["configurable"].get("checkpoint_id")
        match self._run.kind:
            case "decide":
                if self._is_again and given["request"] not in {one.id for one in state.interrupts}:
                    return self._going_on(state)  # another process has applied the decision
                if given["request"] not in {one.id for one in state.interrupts}:
                    raise NotWaitingError("The draft is no longer waiting. Nothing was released.")
                return Command(resume={given["request"]: given["decision"]}), self.config, False
            case "regenerate" | "edit":
                if head != given["head"]:
                    return self._going_on(state)
                at: RunnableConfig = {
                    "configurable": {
                        "thread_id": self._run.session,
                        "checkpoint_ns": "",
                        "checkpoint_id": given["checkpoint"],
                    }
                }
                if self._run.kind == "edit":
                    question = HumanMessage(given["question"], id=given["question_id"])
                    at = await graph.aupdate_state(at, {"messages": [question]})
                return None, self._at(at), False
        if (place := _place(state.values.get("messages") or [], given["question_id"])) is None:
            question = HumanMessage(given["question"], id=given["question_id"])
            return {"messages": [question]}, self.config, False
        if asked_in(state.values).id != state.values["messages"][place].id:
            raise InvalidInputError("Another question was asked in this session meanwhile. Ask this one again.")
        return self._going_on(state)

    def _at(self, place: RunnableConfig) -> RunnableConfig:
        return {**self.config, "configurable": {**self.config["configurable"], **place["configurable"]}}

    def _going_on(self, state: StateSnapshot) -> tuple[Any, RunnableConfig, bool]:
        return None, self.config, not state.next or bool(state.interrupts)


_OF_A_REPORT = ("status", "reason", "declined")


def _stored_event(event: Event) -> Data | None:
    """Return an event as it is stored, or ``None`` if another event already reports it."""
    match event:
        case Routed(groups, source, reason):
            return {"type": "route", "groups": list(groups), "source": source, "reason": reason}
        case Token(speaker, message, text):
            return {"type": "token", "speaker": speaker, "message": message, "text": text}
        case SpeakerDone(speaker, report):
            told = {key: report[key] for key in _OF_A_REPORT if key in report} if report else {}
            return {"type": "finished", "speaker": speaker, **told}
        case ToolCalled(group, call, name, _):
            return {"type": "tool_call", "group": group, "id": call, "name": name}
        case ToolReturned(group, call, name, _, status):
            return {"type": "tool_result", "group": group, "id": call, "name": name, "status": status}
    return None


def _place(messages: list[BaseMessage], message_id: str) -> int | None:
    return next((place for place, message in enumerate(messages) if message.id == message_id), None)
