"""The thread is the source of truth: after every operation, prompt, state and histories match it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import StateSnapshot

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import InvalidInputError, UnknownCheckpointError
from ecowas_lc.history import history_factory
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.fixtures.servers import RunningServer
from tests.supervisor.conftest import Ask, Graph, in_thread

QUESTIONS = ["energy: one?", "energy+digital: two?", "digital: three?", "hello four", "energy: five?"]
LAST = "energy: and now?"
SPEAKERS = ["supervisor", "energy", "digital"]


class Talk:
    """A conversation of five turns on Redis, with each speaker's messages."""

    def __init__(self, server: RunningServer, prefix: str, ask: Ask, *, histories: bool) -> None:
        self.server, self.prefix, self.ask = server, prefix, ask
        self.said: dict[tuple[str, str], str] = {}  # a group's answer under the final answer with this id
        self.thread = "t"
        self.count = 0
        self.model = ScriptedModel(
            script=by_speaker({"energy": self._answer, "digital": self._answer, "synthesis": self._synthesis}),
            structured=True,
        )
        self.saver = RedisSaver.from_url(server.url, prefix=prefix)
        self.factory = history_factory(server.url, prefix=prefix) if histories else None
        self.graph: Graph = build_supervisor(
            self.model, router=FixedRouter(), checkpointer=self.saver, history_factory=self.factory
        )
        for question in QUESTIONS:
            self.turn(question)

    def _answer(self, messages: list[BaseMessage]) -> str:
        self.count += 1
        return f"{speaker_of(messages)} says {self.count}."

    def _synthesis(self, messages: list[BaseMessage]) -> dict[str, Any]:
        return {"views": {"energy": "E.", "digital": "D."}, "answer": "Both say so."}

    def turn(self, question: str | None, config: Any = None, **fields: Any) -> None:
        """Ask, and record each group's answer."""
        given = None if question is None else {"messages": [HumanMessage(question, **fields)]}
        if config is None:
            result = self.ask(self.graph, given, self.thread)
        elif self.asynchronously:
            result = asyncio.run(self.graph.ainvoke(given, config))
        else:
            result = self.graph.invoke(given, config)
        for group, report in result["reports"].items():
            self.said[group, result["messages"][-1].id] = report["text"]

    @property
    def asynchronously(self) -> bool:
        return bool(self.ask.kind == "async")  # type: ignore[attr-defined]

    @property
    def states(self) -> list[StateSnapshot]:
        """The thread's states at the ends of its turns, oldest first."""
        found = list(self.graph.get_state_history(in_thread(self.thread)))
        return [state for state in reversed(found) if not state.next and state.metadata["step"] >= 0]

    @property
    def messages(self) -> list[BaseMessage]:
        return self.graph.get_state(in_thread(self.thread)).values.get("messages", [])

    def before_turn(self, number: int) -> StateSnapshot:
        """The state in which turn ``number`` is about to begin, its question asked."""
        found = list(self.graph.get_state_history(in_thread(self.thread)))
        return [state for state in reversed(found) if state.next == ("route",)][number]

    def told(self, speaker: str, *, alone: bool) -> list[str]:
        """The thread's messages as a speaker remembers them; ``alone``: only the turns it took part in."""
        texts: list[str] = []
        messages = self.messages
        for question, final in pairwise(messages):
            if not isinstance(question, HumanMessage) or not isinstance(final, AIMessage):
                continue
            own = final.text if speaker == "supervisor" else self.said.get((speaker, str(final.id)))
            if own is not None or not alone:
                texts += [question.text, final.text if own is None else own]
        return texts

    def histories(self) -> dict[str, list[str]]:
        assert self.factory is not None
        return {s: [message.text for message in self.factory(s, self.thread).messages] for s in SPEAKERS}


def _nothing(talk: Talk) -> None:
    """Leave the thread unchanged."""


def _regenerate_last(talk: Talk) -> None:
    talk.turn(None, talk.before_turn(4).config)


def _regenerate_first(talk: Talk) -> None:
    talk.turn(None, talk.before_turn(0).config)


def _regenerate_several(talk: Talk) -> None:
    talk.turn(None, talk.before_turn(1).config)


def _edit_same_id(talk: Talk) -> None:
    question = talk.messages[2]
    talk.turn("digital: two, edited?", talk.states[0].config, id=question.id)


def _edit_in_place(talk: Talk) -> None:
    state = talk.before_turn(1)
    config = talk.graph.update_state(
        state.config, {"messages": [HumanMessage("energy: edited?", id=state.values["messages"][-1].id)]}
    )
    talk.turn(None, config)


def _edit_new_id(talk: Talk) -> None:
    talk.turn("energy: two, edited?", talk.states[0].config)


def _edit_first(talk: Talk) -> None:
    first = list(talk.graph.get_state_history(in_thread(talk.thread)))[-1]
    talk.turn("energy: one, edited?", first.config)


def _fork_after(number: int) -> Callable[[Talk], None]:
    def fork(talk: Talk) -> None:
        talk.turn(f"energy: fork {number}?", talk.states[number].config)

    return fork


def _rewrite_an_answer(talk: Talk) -> None:
    final = talk.messages[1]
    talk.graph.update_state(
        in_thread(talk.thread), {"messages": [AIMessage("Rewritten.", id=final.id, name="energy")]}
    )
    talk.said["energy", str(final.id)] = "Rewritten."


def _rewrite_a_synthesis(talk: Talk) -> None:
    final = talk.messages[3]
    message = AIMessage("Rewritten.", id=final.id, name="supervisor")
    talk.graph.update_state(in_thread(talk.thread), {"messages": [message]})
    talk.said.pop(("energy", str(final.id)))
    talk.said.pop(("digital", str(final.id)))


def _add_an_exchange(talk: Talk) -> None:
    added = [HumanMessage("by hand?", id="h1"), AIMessage("By hand.", id="h2", name="supervisor")]
    talk.graph.update_state(in_thread(talk.thread), {"messages": added})


def _remove_a_turn(talk: Talk) -> None:
    gone = [RemoveMessage(str(message.id)) for message in talk.messages[2:4]]
    talk.graph.update_state(in_thread(talk.thread), {"messages": gone})


def _remove_the_first(talk: Talk) -> None:
    gone = [RemoveMessage(str(message.id)) for message in talk.messages[:2]]
    talk.graph.update_state(in_thread(talk.thread), {"messages": gone})


def _remove_all(talk: Talk) -> None:
    talk.graph.update_state(in_thread(talk.thread), {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES)]})


def _copy(talk: Talk) -> None:
    talk.saver.copy_thread("t", "copy")
    talk.thread = "copy"


def _copy_and_remove(talk: Talk) -> None:
    _copy(talk)
    _remove_a_turn(talk)


def _prune(talk: Talk) -> None:
    talk.saver.prune(["t"], strategy="keep_latest")


OPERATIONS = {
    "nothing": _nothing,
    "regenerate the last answer": _regenerate_last,
    "regenerate the first answer": _regenerate_first,
    "regenerate several groups' answer": _regenerate_several,
    "edit with the same id": _edit_same_id,
    "edit in place": _edit_in_place,
    "edit with a new id": _edit_new_id,
    "edit the first question": _edit_first,
    **{f"fork after turn {number + 1}": _fork_after(number) for number in range(5)},
    "update_state: an answer": _rewrite_an_answer,
    "update_state: a synthesis": _rewrite_a_synthesis,
    "update_state: an exchange": _add_an_exchange,
    "remove a turn": _remove_a_turn,
    "remove the first turn": _remove_the_first,
    "remove everything": _remove_all,
    "copy": _copy,
    "copy and remove": _copy_and_remove,
    "prune": _prune,
}


@pytest.mark.parametrize("histories", [True, False], ids=["with histories", "without"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_thread_prompt_and_histories_say_the_same(
    ask: Ask, redis_server: RunningServer, prefix: str, operation: str, histories: bool
) -> None:
    """After every operation on a thread, the next prompt and all histories match its branch."""
    talk = Talk(redis_server, prefix, ask, histories=histories)
    OPERATIONS[operation](talk)
    expected = talk.told("energy", alone=False)
    talk.turn(LAST)
    [prompt] = [p for p in talk.model.calls if p[-1].text == LAST]
    assert [message.text for message in prompt[1:]] == [*expected, LAST]
    assert talk.messages[-2].text == LAST
    if histories:
        assert talk.histories() == {speaker: talk.told(speaker, alone=True) for speaker in SPEAKERS}


@pytest.mark.parametrize("operation", ["update_state: an answer", "remove a turn", "remove everything"])
def test_histories_are_brought_up_without_a_turn(
    ask: Ask, redis_server: RunningServer, prefix: str, operation: str
) -> None:
    """``sync_histories`` does at once what the next turn would do; messages that others appended stay in place."""
    talk = Talk(redis_server, prefix, ask, histories=True)
    assert talk.factory is not None
    talk.factory("energy", "t").add_messages([HumanMessage("direct?"), AIMessage("Direct.")])
    talk.turn("energy: six?")
    OPERATIONS[operation](talk)
    if talk.asynchronously:
        asyncio.run(talk.graph.async_histories(in_thread("t")))  # type: ignore[attr-defined]
    else:
        talk.graph.sync_histories(in_thread("t"))  # type: ignore[attr-defined]
    found = talk.histories()
    assert found["supervisor"] == talk.told("supervisor", alone=True)
    own = talk.told("energy", alone=True)
    if operation == "remove everything":
        assert found["energy"] == ["direct?", "Direct."]
    else:
        assert found["energy"] == [*own[:-2], "direct?", "Direct.", *own[-2:]]


def test_what_an_operation_needs_has_to_be_there(ask: Ask, redis_server: RunningServer, prefix: str) -> None:
    """Removing a missing message, or using an unknown checkpoint, is a named error; nothing is stored."""
    talk = Talk(redis_server, prefix, ask, histories=False)
    count = len(list(talk.graph.get_state_history(in_thread("t"))))
    unknown = {"configurable": {"thread_id": "t", "checkpoint_id": str(uuid4())}}
    with pytest.raises(InvalidInputError, match="gone"):
        talk.graph.update_state(in_thread("t"), {"messages": [RemoveMessage("gone")]})
    with pytest.raises(UnknownCheckpointError, match="get_state_history"):
        talk.turn("energy: a?", unknown)
    with pytest.raises(UnknownCheckpointError):
        talk.graph.update_state(unknown, {"messages": [("user", "a")]})
    assert len(list(talk.graph.get_state_history(in_thread("t")))) == count
