"""A run on its way through the graph, as events: the graph is given what lets nothing answered be asked twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot, StreamMode

from ecowas_lc.errors import InvalidInputError, NotWaitingError
from ecowas_lc.supervisor.nodes import RECORD, ROUTE, SYNTHESISE
from ecowas_lc.supervisor.state import SUPERVISOR, asked_in
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph
from ecowas_lc.web.organisation import ALLOWED, ASKED, Organisation
from ecowas_lc.web.runs import Run

Data = dict[str, Any]
SYNTHESIS = "synthesis"
_NODES = {SYNTHESISE: SYNTHESIS, SUPERVISOR: SUPERVISOR}
_MODES: list[StreamMode] = ["updates", "messages", "custom"]


def citations_of(message: BaseMessage) -> list[Data]:
    """Return what the marks of an answer stand for, in their order."""
    found: dict[int, Data] = {}
    blocks: list[Any] = message.content_blocks
    for block in blocks:
        for note in block.get("annotations") or ():
            extras: Any = note.get("extras") or {}
            if "number" in extras:
                found[extras["number"]] = {
                    "number": extras["number"],
                    "document": extras.get("document"),
                    "title": note.get("title"),
                    "page": extras.get("page"),
                    "cited_text": note.get("cited_text"),
                }
    return [found[number] for number in sorted(found)]


def message_as_json(message: BaseMessage) -> Data:
    """Return a message as pages and the API show it."""
    speakers = {"human": "user", "ai": SUPERVISOR}
    found: Data = {
        "id": message.id,
        "speaker": str(message.name or speakers.get(message.type, message.type)),
        "text": message.text,
    }
    if cited := citations_of(message):
        found["citations"] = cited
    if groups := message.response_metadata.get("groups"):
        found["groups"] = list(groups)
    return found


def answer_event(values: Mapping[str, Any]) -> Data | None:
    """Return the event of a whole answer; ``None`` where the thread's last message is none."""
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
    """Return an event for each draft that waits for a reviewer, without what it says."""
    found: list[Data] = []
    for one in state.interrupts:
        shown = one.value if isinstance(one.value, Mapping) else {}
        found.append(
            {"type": "waiting", "draft": str(shown.get("draft") or one.id), "group": str(shown.get("group") or "")}
        )
    return found


class Playing:
    """Plays one run. ``status`` is how it ended, once it has."""

    def __init__(self, organisation: Organisation, run: Run) -> None:
        self._org = organisation
        self._run = run
        self._speakers: dict[str, str] = {}
        self.said: dict[str, str] = {}
        """What has been said of each message in this attempt."""
        self.status = "failed"
        self.config: RunnableConfig = {
            "configurable": {"thread_id": run.session},
            "metadata": {"user_id": run.by},
        }
        for name, key in (("groups", ASKED), ("allowed", ALLOWED)):
            if run.given.get(name) is not None:
                self.config["configurable"][key] = run.given[name]

    async def events(self) -> AsyncIterator[Data]:
        """Yield what happens.

        Raises:
            EcowasError: it could not be answered.
        """
        graph = await self._org.graph()
        state = await graph.aget_state(self._thread)
        given, config, is_done = await self._input(graph, state)
        if not is_done:
            stream: Any = graph.astream(given, config, stream_mode=_MODES, durability="sync")
            async with aclosing(stream) as parts:
                async for mode, part in parts:
                    for event in self._heard(mode, part):
                        yield event
            state = await graph.aget_state(self._thread)
        if waiting := waiting_events(state):
            for event in waiting:
                yield event
            self.status = "waiting"
            return
        answer = answer_event(state.values)
        if answer is None:
            raise InvalidInputError("The run ended without an answer. Ask again.")
        self.status = "done"
        yield answer

    async def keep_partial(self) -> None:
        """Store what has been said of an answer that is cancelled, and end its turn in the thread."""
        graph = await self._org.graph()
        state = await graph.aget_state(self._thread)
        if not state.next:
            return
        texts = [(self._speakers[key], text.strip()) for key, text in self.said.items() if text.strip()]
        whole = [text for speaker, text in texts if speaker == SYNTHESIS] or [
            text if len(texts) == 1 else f"{speaker}: {text}" for speaker, text in texts
        ]
        name = texts[0][0] if len(texts) == 1 and texts[0][0] != SYNTHESIS else SUPERVISOR
        message = AIMessage("\n\n".join([*whole, "[…]"]) if whole else "[…]", name=name, id=str(uuid4()))
        await graph.aupdate_state(state.config, {"messages": [message]}, as_node=RECORD)

    @property
    def _thread(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self._run.session}}

    async def _input(self, graph: SupervisorGraph, state: StateSnapshot) -> tuple[Any, RunnableConfig, bool]:
        """Return what to give the graph, where, and whether all has been done already."""
        given = self._run.given
        head = state.config["configurable"].get("checkpoint_id")
        match self._run.kind:
            case "decide":
                if self._run.attempt > 1 and given["request"] not in {one.id for one in state.interrupts}:
                    return self._going_on(state)  # another process applied it
                if given["request"] not in {one.id for one in state.interrupts}:
                    raise NotWaitingError("The draft does not wait any more. Nothing was released.")
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

    def _heard(self, mode: str, part: Any) -> list[Data]:
        if mode == "messages":
            return self._tokens(*part)
        if mode == "custom":
            return [part] if isinstance(part, dict) and part.get("type") in ("tool_call", "tool_result") else []
        events: list[Data] = []
        for node, change in part.items():
            if node == "__interrupt__":
                continue
            if node == ROUTE:
                events.append({"type": "route", **change["decision"]})
            elif node in _NODES:
                events.append({"type": "finished", "speaker": _NODES[node]})
            for group, report in ((change or {}).get("reports") or {}).items():
                if node == group:
                    told = {key: report[key] for key in ("status", "reason", "declined") if key in report}
                    events.append({"type": "finished", "speaker": group, **told})
        return events

    def _tokens(self, chunk: Any, metadata: Mapping[str, Any]) -> list[Data]:
        text = str(chunk.text)
        if not text or not isinstance(chunk, AIMessage):
            return []
        own = metadata.get("twg") or _NODES.get(metadata["langgraph_node"], SUPERVISOR)
        key = str(chunk.id)
        speaker = self._speakers.setdefault(key, own)
        self.said[key] = self.said.get(key, "") + text
        return [{"type": "token", "speaker": speaker, "message": key, "text": text}]


def _place(messages: list[BaseMessage], message_id: str) -> int | None:
    return next((place for place, message in enumerate(messages) if message.id == message_id), None)
