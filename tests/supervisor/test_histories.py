"""Every speaker has its own history of a session, and no crash stores anything twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from ecowas_lc.effects import run
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor import build_supervisor, history_sync
from ecowas_lc.supervisor.history_sync import Authorship, brought_up
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.supervisor.conftest import Ask, Graph, asked, in_thread

SYNTHESIS = {"views": {"energy": "E.", "digital": "D."}, "answer": "So."}


class Histories:
    """A history factory over one dictionary; each history is a plain foreign one, optionally without ids."""

    def __init__(self, *, keeps_ids: bool = True, appends_once: bool = False) -> None:
        self.stored: dict[tuple[str, str], list[BaseMessage]] = defaultdict(list)
        self.keeps_ids = keeps_ids
        self.appends_once = appends_once
        self.reads = 0

    def __call__(self, agent_id: str, session_id: str) -> Any:
        return _History(self, (agent_id, session_id))

    def texts(self, agent_id: str, session_id: str = "t") -> list[str]:
        return [message.text for message in self.stored[agent_id, session_id]]

    def before(self) -> None:
        """Called before each operation."""

    def after(self) -> None:
        """Called after each operation."""


class _History:
    def __init__(self, home: Histories, key: tuple[str, str]) -> None:
        self._home, self._key = home, key
        self.appends_once = home.appends_once

    @property
    def messages(self) -> list[BaseMessage]:
        self._home.before()
        self._home.reads += 1
        return list(self._home.stored[self._key])

    async def aget_messages(self) -> list[BaseMessage]:
        return self.messages

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        self._home.before()
        stored = self._home.stored[self._key]
        for message in messages:
            if self.appends_once and message.id in {old.id for old in stored}:
                continue
            stored.append(message if self._home.keeps_ids else message.model_copy(update={"id": None}))
        self._home.after()

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        self.add_messages(messages)


def supervisor(histories: Histories, **options: Any) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=by_speaker({"synthesis": SYNTHESIS}), structured=True)
    options.setdefault("checkpointer", InMemorySaver())
    return build_supervisor(model, router=FixedRouter(), history_factory=histories, **options), model


def test_each_speaker_keeps_what_it_said(ask: Ask) -> None:
    """A group keeps its own answers, the supervisor the final ones, under the thread's id."""
    histories = Histories()
    graph, _ = supervisor(histories)
    ask(graph, "energy: a?", "s1")
    ask(graph, "energy+digital: b?", "s1")
    ask(graph, "hello", "s2")
    assert histories.texts("energy", "s1") == [
        "energy: a?",
        "energy speaks.",
        "energy+digital: b?",
        "energy speaks.",
    ]
    assert histories.texts("digital", "s1") == ["energy+digital: b?", "digital speaks."]
    transcript = histories.texts("supervisor", "s1")
    assert transcript[:3] == ["energy: a?", "energy speaks.", "energy+digital: b?"]
    assert "So." in transcript[3]
    assert len(transcript) == 4
    assert histories.texts("supervisor", "s2") == ["hello", "supervisor speaks."]
    names = [message.name for message in histories.stored["supervisor", "s1"]]
    assert names == [None, "energy", None, "supervisor"]


def test_only_what_was_released_is_kept(ask: Ask) -> None:
    """A held answer is in no history before its release, and a rejected one never is."""
    histories = Histories()
    graph, _ = supervisor(histories, interrupt_before_release="all")
    ask(graph, "energy: a?")
    assert histories.texts("energy") == histories.texts("supervisor") == []
    ask(graph, Command(resume={"action": "edit", "text": "Edited."}))
    assert histories.texts("energy") == ["energy: a?", "Edited."]
    ask(graph, "digital: b?")
    ask(graph, Command(resume="reject"))
    assert histories.texts("digital") == []
    assert "was not released" in histories.texts("supervisor")[-1]


def test_a_group_remembers_its_own_words(ask: Ask) -> None:
    """After a synthesis, a group's prompt contains its own answer, not the synthesis instead."""
    histories = Histories()
    graph, model = supervisor(histories)
    ask(graph, "energy+digital: a?")
    ask(graph, "energy: b?")
    assert [message.text for message in model.calls[-1][1:]] == [
        "energy+digital: a?",
        "energy speaks.",
        "energy: b?",
    ]


def test_a_group_remembers_what_it_was_asked_directly(ask: Ask) -> None:
    """A question that was sent to the group without the supervisor is in its prompt too."""
    histories = Histories()
    histories.stored["energy", "t"] += [HumanMessage("alone?", id="1"), AIMessage("Alone.", id="2")]
    graph, model = supervisor(histories)
    ask(graph, "energy: a?")
    assert [message.text for message in model.calls[-1][1:]] == ["alone?", "Alone.", "energy: a?"]


def test_a_session_goes_on_from_its_transcript(ask: Ask) -> None:
    """With an empty thread, the transcript is the conversation so far, in each turn, without being repeated."""
    histories = Histories()
    first, _ = supervisor(histories)
    ask(first, "energy: a?")
    second, model = supervisor(histories)
    result = ask(second, "hello")
    assert [message.text for message in model.calls[-1][1:]] == ["energy: a?", "energy speaks.", "hello"]
    assert [message.text for message in result["messages"]] == ["hello", "supervisor speaks."]
    ask(second, "digital: b?")
    assert [message.text for message in model.calls[-1][1:]] == [
        "energy: a?",
        "energy speaks.",
        "hello",
        "supervisor speaks.",
        "digital: b?",
    ]


def test_without_a_checkpointer_the_transcript_is_the_memory(ask: Ask) -> None:
    """Histories alone are enough for a conversation."""
    histories = Histories()
    graph, model = supervisor(histories, checkpointer=None)
    ask(graph, "hello")
    ask(graph, "energy: a?")
    assert [message.text for message in model.calls[-1][1:]] == ["hello", "supervisor speaks.", "energy: a?"]
    assert len(histories.texts("supervisor")) == 4


def test_histories_need_a_session() -> None:
    """Without a thread, histories have no session: a named error says what to pass."""
    graph, model = supervisor(Histories(), checkpointer=None)
    with pytest.raises(ConfigurationError, match="thread_id"):
        graph.invoke(asked("hello"))
    assert model.calls == []


def test_a_history_that_tells_ids_itself_is_not_read_before_a_write(ask: Ask) -> None:
    """Histories with ``appends_once`` need no reading after the turn."""
    histories = Histories(appends_once=True)
    graph, _ = supervisor(histories)
    ask(graph, "energy: a?")
    assert histories.reads == 2  # the transcript of an empty thread, the group's own history
    assert histories.texts("energy") == histories.texts("supervisor") == ["energy: a?", "energy speaks."]


def test_the_same_question_in_two_turns_is_kept_twice(ask: Ask) -> None:
    """Only a repeated run is skipped, never a repeated question."""
    histories = Histories()
    graph, _ = supervisor(histories)
    for _ in range(2):
        ask(graph, "energy: a?")
    assert histories.texts("energy") == ["energy: a?", "energy speaks."] * 2


class Bare(BaseChatMessageHistory):
    """LangChain's minimal history: a list, one ``add_messages``, no async methods."""

    def __init__(self) -> None:
        self.messages: list[BaseMessage] = []

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        self.messages.extend(messages)

    def clear(self) -> None:
        self.messages.clear()


def test_any_langchain_history_will_do(ask: Ask) -> None:
    """Histories made for LangChain's base class work unchanged, in sync and async runs."""
    histories: dict[tuple[str, str], Bare] = defaultdict(Bare)
    graph = build_supervisor(
        ScriptedModel(script=by_speaker({})),
        router=FixedRouter(),
        history_factory=lambda agent, session: histories[agent, session],
        checkpointer=InMemorySaver(),
    )
    ask(graph, "energy: a?")
    ask(graph, "hello")
    assert [m.text for m in histories["energy", "t"].messages] == ["energy: a?", "energy speaks."]
    assert len(histories["supervisor", "t"].messages) == 4


def test_a_history_without_ids_is_updated_by_its_texts() -> None:
    """If its end is where the branch begins, the branch is appended; a history of another branch is replaced."""
    wrote = Authorship("t")
    branch = [HumanMessage("a?", id="1"), AIMessage("A.", id="2"), HumanMessage("b?", id="3")]
    older = HumanMessage("from before")
    stored = [older, HumanMessage("a?"), AIMessage("A.")]
    assert brought_up(stored, branch, "energy", wrote) == [older, *branch]
    assert brought_up([HumanMessage("other")], branch, "energy", wrote) == branch


def test_a_minimal_history_follows_a_branch() -> None:
    """A history that can neither replace messages nor keep ids is cleared and written again."""
    bare, config = Bare(), {"configurable": {"thread_id": "t"}}
    bare.messages = [HumanMessage("other"), AIMessage("Other.")]
    turn = [HumanMessage("a?", id="1"), AIMessage("A.", id="2", name="energy")]
    run(history_sync.synchronised(lambda *_: bare, ["energy"], config, turn), config)
    assert [message.text for message in bare.messages] == ["a?", "A."]
    assert run(history_sync.read(None, "energy", config), config) == []
    assert history_sync._stands([HumanMessage("a?"), AIMessage("A.")], turn, Authorship("t"))
    assert history_sync._missing([HumanMessage("x")], [HumanMessage("y")]) == [HumanMessage("y")]


def test_what_older_versions_stored_is_known() -> None:
    """A group's own answer is attached to a final answer once, and one of this thread is not taken again."""
    final = AIMessage("A.", id="2", name="supervisor")
    update: dict[str, Any] = {}
    for _ in range(2):
        history_sync._attach(final, "energy", "E.", update)
    assert [message.response_metadata for message in update["messages"]] == [{"answers": {"energy": "E."}}]
    own = {"energy": [(HumanMessage("a?", id="1"), AIMessage("E."))]}
    question = HumanMessage("a?", id="1")
    [_, with_own] = history_sync._with_own_answers([question, final], own)
    assert with_own.response_metadata == {"answers": {"energy": "E."}}
    assert history_sync._with_own_answers([question, with_own], own) == [question, with_own]
    assert not history_sync._is_the_threads([question, question], "t", "energy")
    written = AIMessage("E.", id=history_sync.answer_id("t", "0", "energy"))
    assert brought_up([written], [question], "energy", Authorship("t")) == [question]


def test_no_histories_can_be_updated_without_them() -> None:
    """The message names both arguments."""
    graph = build_supervisor(ScriptedModel(script=by_speaker({})), router=FixedRouter())
    with pytest.raises(ConfigurationError, match="history_factory= and checkpointer="):
        graph.sync_histories({"configurable": {"thread_id": "t"}})


class CrashError(BaseException):
    """The process dies here."""


class Fragile(Histories):
    """Dies at the ``nth`` operation of histories or model, before it or right after it was done."""

    def __init__(self, nth: int, **options: Any) -> None:
        super().__init__(**options)
        self.left = nth

    def before(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise CrashError

    after = before


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("keeps_ids", [True, False], ids=["with ids", "without ids"])
def test_a_crashed_and_resumed_run_appends_nothing_twice(durability: Any, keeps_ids: bool) -> None:
    """Wherever a run is killed, resuming it leaves every history and the thread as without the crash."""
    crashes = 0
    nth = 0
    while True:
        nth += 1
        histories = Fragile(nth, keeps_ids=keeps_ids)

        def energy(messages: list[BaseMessage], histories: Fragile = histories) -> str:
            histories.before()
            return "energy speaks."

        model = ScriptedModel(script=by_speaker({"energy": energy, "synthesis": SYNTHESIS}), structured=True)
        graph = build_supervisor(
            model, router=FixedRouter(), history_factory=histories, checkpointer=InMemorySaver()
        )
        crashed = False
        given: Any = asked("energy+digital: a?")
        for _ in range(2):
            try:
                result = graph.invoke(given, in_thread("t"), durability=durability)
                break
            except CrashError:
                crashed, given = True, None
        else:
            pytest.fail("the resumed run died as well")
        assert histories.texts("energy") == ["energy+digital: a?", "energy speaks."]
        assert histories.texts("digital") == ["energy+digital: a?", "digital speaks."]
        assert histories.texts("supervisor") == [message.text for message in result["messages"]]
        assert len(result["messages"]) == 2
        if not crashed:
            break
        crashes += 1
    assert crashes >= 8


def test_a_run_that_is_cancelled_and_resumed_appends_nothing_twice() -> None:
    """In asyncio, a run cancelled in the middle of its writes and resumed leaves each history correct."""
    histories = Histories()
    reached = asyncio.Event()

    class Stalling(_History):
        async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
            self.add_messages(messages)
            if not reached.is_set():
                reached.set()
                await asyncio.Event().wait()

    graph, _ = supervisor(histories)
    graph = build_supervisor(
        ScriptedModel(script=by_speaker({})),
        router=FixedRouter(),
        history_factory=lambda agent, session: Stalling(histories, (agent, session)),
        checkpointer=InMemorySaver(),
    )

    async def scenario() -> None:
        running = asyncio.create_task(graph.ainvoke(asked("energy: a?"), in_thread("t"), durability="sync"))
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await graph.ainvoke(None, in_thread("t"))

    asyncio.run(scenario())
    assert histories.texts("energy") == ["energy: a?", "energy speaks."]
    assert histories.texts("supervisor") == ["energy: a?", "energy speaks."]
