"""One turn of the supervisor graph: its input, and the events while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StreamMode

from ecowas_lc.agents.events import (
    SYNTHESIS,
    Event,
    Finished,
    Routed,
    SpeakerDone,
    Token,
    ToolCalled,
    ToolReturned,
    Waiting,
)
from ecowas_lc.documents.answer_formats import citations_in, cited_sources
from ecowas_lc.documents.answers import Citation
from ecowas_lc.supervisor.nodes import ROUTE, SYNTHESISE
from ecowas_lc.supervisor.routing import PastTurn, RouteDecision, Router, with_conversation
from ecowas_lc.supervisor.state import SUPERVISOR

_ASKED = "asked_groups"
_SPEAKERS = {SYNTHESISE: SYNTHESIS, SUPERVISOR: SUPERVISOR}  # by node; a group's node has the group's id

STREAM_MODES: list[StreamMode] = ["updates", "messages", "values", "custom"]


class Hearing:
    """Strips streamed text: the pieces that it returns, joined, are the whole text without outer white space."""

    def __init__(self) -> None:
        self.text = ""
        self._blanks = ""

    def take(self, text: str) -> str:
        """Return the text that can be passed on now."""
        text = self._blanks + text
        if not self.text:
            text = text.lstrip()
        heard = text.rstrip()
        self._blanks = text[len(heard) :]
        self.text += heard
        return heard

    def rest_of(self, answer: str) -> str:
        """Return the part of the answer not yet passed on; ``""`` if the streamed text differs from the answer."""
        return answer[len(self.text) :] if answer.startswith(self.text) else ""


class AskedOrRouted:
    """A router that uses the groups named for a run, and asks another router if none are named."""

    def __init__(self, router: Router | None) -> None:
        self._router = None if router is None else with_conversation(router)

    def route(
        self,
        question: str,
        config: RunnableConfig | None = None,
        *,
        conversation: Sequence[PastTurn] = (),
    ) -> RouteDecision:
        """Return the groups for a question."""
        if (decision := self._given(config)) is not None:
            return decision
        return self._router.route(question, conversation=conversation) if self._router else _NOBODY

    async def aroute(
        self,
        question: str,
        config: RunnableConfig | None = None,
        *,
        conversation: Sequence[PastTurn] = (),
    ) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        if (decision := self._given(config)) is not None:
            return decision
        return await self._router.aroute(question, conversation=conversation) if self._router else _NOBODY

    def _given(self, config: RunnableConfig | None) -> RouteDecision | None:
        groups = (config or {}).get("configurable", {}).get(_ASKED)
        if groups is None:
            return None
        named = "it" if len(groups) == 1 else "them"
        reason = f"you named {named}" if groups else "you asked the supervisor"
        return RouteDecision(tuple(groups), "asked", reason)


_NOBODY = RouteDecision((), "asked", "No working group is registered.")


class Turn:
    """A question to the graph or, with ``given``, a decision that resumes a waiting turn.

    ``groups`` names the groups to ask, instead of the router's choice.
    """

    def __init__(
        self,
        question: str | None,
        session_id: str,
        groups: Sequence[str] | None = None,
        *,
        given: Command[Any] | None = None,
    ) -> None:
        self.question = None if question is None else HumanMessage(question, id=str(uuid4()))
        self.config: RunnableConfig = {"configurable": {"thread_id": session_id}}
        if groups is not None:
            self.config["configurable"][_ASKED] = list(groups)
        self.input: Any = given if self.question is None else {"messages": [self.question]}
        self.result: Mapping[str, Any] = {}
        self.finished: Finished | None = None
        self._speakers: dict[str, str] = {}
        self._said: dict[str, str] = {}

    @property
    def answer(self) -> str:
        """The final answer, or ``""`` if there is none yet."""
        return self.finished.answer if self.finished else ""

    @property
    def messages(self) -> list[AnyMessage]:
        """The turn's question and final answer."""
        messages = self.result["messages"]
        at = max(index for index, message in enumerate(messages) if isinstance(message, HumanMessage))
        return list(messages[at:])

    @property
    def partial(self) -> AIMessage | None:
        """The text so far of an interrupted answer: the synthesis, or else the groups' answers in order."""
        said = self._said
        if not said:
            return None
        speaker = next(iter(said)) if len(said) == 1 else SUPERVISOR
        if SYNTHESIS in said:
            speaker, text = SUPERVISOR, f"{said[SYNTHESIS].strip()} […]"
        elif len(said) == 1:
            text = f"{said[speaker].strip()} […]"
        else:
            text = "\n\n".join(f"{who}: {what.strip()} […]" for who, what in said.items())
        return AIMessage(text, name=speaker, id=str(uuid4()))

    def hear(self, mode: str, part: Any) -> Iterator[Event]:
        """Yield the events in one part of the graph's stream."""
        match mode:
            case "values":
                self.result = part
            case "messages":
                yield from self._heard(*part)
            case "custom":
                yield from _of_tools(part)
            case "updates":
                for node, change in part.items():
                    yield from _of_node(node, change or {})

    def end(self) -> Iterator[Event]:
        """Yield the events at the end of the graph's stream."""
        messages = self.result.get("messages") or ()
        if not messages or not isinstance(messages[-1], AIMessage):
            return  # the turn waits for a decision
        final, decision = messages[-1], self.result["decision"]
        self.finished = Finished(
            self.messages[0].text,
            final.text,
            str(final.name or SUPERVISOR),
            str(final.id),
            tuple(decision["groups"]),
            decision["source"],
            decision["reason"],
            dict(self.result.get("reports") or {}),
            citations_of(final),
        )
        yield self.finished

    def _heard(self, chunk: Any, metadata: Mapping[str, Any]) -> Iterator[Event]:
        if not chunk.text:
            return
        own = metadata.get("twg") or _SPEAKERS.get(metadata["langgraph_node"], SUPERVISOR)
        speaker = self._speakers.setdefault(chunk.id, own)  # another node may add a note to an answer
        self._said[speaker] = self._said.get(speaker, "") + chunk.text
        yield Token(speaker, str(chunk.id), chunk.text)


class FinalAnswer:
    """Extracts the text of the final answer from a turn's events, piece by piece."""

    def __init__(self) -> None:
        self._hearing = Hearing()
        self._speaker = SUPERVISOR

    def take(self, event: Event) -> str:
        """Return what an event adds to the final answer; if several groups answer, only the synthesis counts."""
        match event:
            case Routed(groups):
                self._speaker = (groups[0] if len(groups) == 1 else SYNTHESIS) if groups else SUPERVISOR
            case Token(speaker, _, text) if speaker == self._speaker:
                return self._hearing.take(text)
            case Finished():
                return self._hearing.rest_of(event.answer)
        return ""


def citations_of(message: BaseMessage) -> tuple[Citation, ...]:
    """Return the sources that an answer's marks refer to: one citation for each number, in order."""
    return tuple(cited_sources(citations_in(message)))


def _of_node(node: str, change: Any) -> Iterator[Event]:
    if node == "__interrupt__":
        for one in change:
            yield Waiting(one.id, one.value)
    elif node == ROUTE:
        decision = change["decision"]
        yield Routed(tuple(decision["groups"]), decision["source"], decision["reason"])
    elif node in _SPEAKERS:
        yield SpeakerDone(_SPEAKERS[node], None)
    else:
        for group, report in (change.get("reports") or {}).items():
            yield SpeakerDone(group, report)


def _of_tools(told: Any) -> Iterator[Event]:
    if not isinstance(told, Mapping):
        return
    group, call, name = (str(told.get(key) or "") for key in ("group", "id", "name"))
    match told.get("type"):
        case "tool_call":
            yield ToolCalled(group, call, name, told["args"])
        case "tool_result":
            yield ToolReturned(group, call, name, told["text"], told["status"])
