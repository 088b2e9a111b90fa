"""One question to the supervisor graph: what goes in, what is heard while it runs, and the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamMode

from ecowas_lc.supervisor.nodes import RECORD, ROUTE, SYNTHESISE
from ecowas_lc.supervisor.routing import PastTurn, RouteDecision, Router, with_conversation
from ecowas_lc.supervisor.state import SUPERVISOR


class Hearing:
    """Takes a text as it comes and gives it on so that all that was given, joined, is the text stripped."""

    def __init__(self) -> None:
        self.text = ""
        self._blanks = ""

    def take(self, text: str) -> str:
        """What can be given on now."""
        text = self._blanks + text
        if not self.text:
            text = text.lstrip()
        heard = text.rstrip()
        self._blanks = text[len(heard) :]
        self.text += heard
        return heard

    def rest_of(self, answer: str) -> str:
        """What is missing of the whole answer; nothing where something else was heard than was answered."""
        return answer[len(self.text) :] if answer.startswith(self.text) else ""


_ASKED = "asked_groups"

STREAM_MODES: list[StreamMode] = ["updates", "messages", "values"]


class AskedOrRouted:
    """A router that takes the groups that a run names, and asks another router where it names none."""

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
        return None if groups is None else RouteDecision(tuple(groups), "asked", "The caller named whom to ask.")


_NOBODY = RouteDecision((), "asked", "No working group is registered.")


class Turn:
    """A question on its way through the graph. ``groups``: whom to ask, whatever the router thinks."""

    def __init__(self, question: str, session_id: str, groups: Sequence[str] | None = None) -> None:
        self.question = HumanMessage(question, id=str(uuid4()))
        self.config: RunnableConfig = {"configurable": {"thread_id": session_id}}
        if groups is not None:
            self.config["configurable"][_ASKED] = list(groups)
        self.result: Mapping[str, Any] = {}
        self._hearing = Hearing()
        self._listens_to = ""
        self._message_id: str | None = None

    @property
    def input(self) -> dict[str, Any]:
        """What the graph is given."""
        return {"messages": [self.question]}

    @property
    def answer(self) -> str:
        """The final answer."""
        return str(self.result["messages"][-1].text)

    @property
    def rest(self) -> str:
        """What of the final answer has not been heard."""
        return self._hearing.rest_of(self.answer)

    def hear(self, mode: str, part: Any) -> str:
        """What a part of the graph's stream adds to the answer that is heard."""
        if mode == "values":
            self.result = part
        elif mode == "updates" and ROUTE in part:
            groups = part[ROUTE]["decision"]["groups"]
            self._listens_to = (groups[0] if len(groups) == 1 else SYNTHESISE) if groups else SUPERVISOR
        elif mode == "messages":
            chunk, metadata = part
            if metadata["langgraph_node"] == self._listens_to:
                self._message_id = chunk.id
                return self._hearing.take(chunk.text)
            if metadata["langgraph_node"] == RECORD and chunk.id == self._message_id:  # a note on the answer
                return self._hearing.take(chunk.text)
        return ""
