"""After an outage, the journal adds whole missing turns to the end of the thread, once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage

from ecowas_lc import RedisMemoryService, RedisSaver, SupervisorAgent
from ecowas_lc.agents.thread_journal import Thread, WholeTurn, replaying
from ecowas_lc.agents.turn import Hearing
from ecowas_lc.effects import arun, run
from tests.agents.conftest import Call, dialogue, numbered, supervisor
from tests.fixtures.servers import RunningServer, wait_until

CONFIG: Any = {"configurable": {"thread_id": "s"}}


def a_turn(number: int, stored_as: str = "") -> WholeTurn:
    messages = (HumanMessage(f"{number}?", id=f"q{number}"), AIMessage(f"{number}.", id=f"a{number}"))
    return WholeTurn(messages, {"decision": {"groups": ["energy"], "source": "s", "reason": "r"}}, 0.0, stored_as)


def texts_of(agent: SupervisorAgent) -> list[str]:
    return [message.text for message in agent.graph.get_state(CONFIG).values.get("messages", [])]


def replay(kind: str, agent: SupervisorAgent, turn: WholeTurn) -> None:
    program = replaying(agent.graph, CONFIG, turn)
    run(program, {}) if kind == "sync" else asyncio.run(arun(program, {}))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_whole_turn_comes_to_the_head_once(kind: str) -> None:
    """However often it is replayed, a turn is stored once, at the end, with its decision, and no task remains."""
    agent = supervisor(model=numbered())
    agent.smart_chat("energy: before?")
    for turn in (a_turn(1), a_turn(2), a_turn(1)):
        replay(kind, agent, turn)
    assert texts_of(agent) == [*dialogue("energy: before?"), "1?", "1.", "2?", "2."]
    state = agent.graph.get_state(CONFIG)
    assert (state.next, state.values["decision"]["reason"]) == ((), "r")
    assert state.values["reports"] == {}, "nothing of the turn before"


def test_a_question_that_a_dead_run_left_is_answered_at_the_end() -> None:
    """The run's unfinished tasks are dropped, and question and answer are appended together after newer turns."""
    agent = supervisor(model=numbered())
    agent.graph.update_state(CONFIG, {"messages": [HumanMessage("1?", id="q1")]}, as_node="__start__")
    assert agent.graph.get_state(CONFIG).next == ("route",)
    agent.graph.update_state(
        CONFIG, {"messages": [HumanMessage("2?", id="q2"), AIMessage("2.", id="a2")]}, as_node="record"
    )
    replay("sync", agent, a_turn(1))
    assert texts_of(agent) == ["2?", "2.", "1?", "1."]
    assert agent.graph.get_state(CONFIG).next == ()


def test_an_acknowledged_turn_that_was_removed_since_stays_removed() -> None:
    """The thread continued from the checkpoint that held the turn, so the turn was not lost but removed."""
    agent = supervisor(model=numbered())
    agent.graph.update_state(CONFIG, {"messages": list(a_turn(1).messages)}, as_node="record")
    stored = agent.graph.get_state(CONFIG).config["configurable"]["checkpoint_id"]
    agent.graph.update_state(CONFIG, {"messages": [RemoveMessage("q1"), RemoveMessage("a1")]}, as_node="record")
    replay("sync", agent, a_turn(1, stored))
    assert texts_of(agent) == []


def test_the_journal_is_bounded() -> None:
    """The journal stays within its limit, for waiting turns and for recently stored ones."""
    thread = Thread(most=3)
    for number in range(9):
        thread.add(a_turn(number))
        thread.add(WholeTurn(a_turn(number).messages, {}, time.monotonic(), "stored"))
    assert [turn.messages[0].text for turn in thread.waiting()] == ["6?", "7?", "8?"]
    assert len(thread._recent) == 3


def test_in_an_outage_the_thread_goes_on_from_what_is_known_of_it(
    call: Call, mortal: RunningServer, prefix: str
) -> None:
    """A run starts from the newest state, including what the transcript has dropped, and nothing is doubled."""
    with RedisMemoryService(url=mortal.url, prefix=prefix) as place:
        agent = supervisor(place, model=numbered())
        graph = agent.graph
        call(agent, "smart_chat", "energy: one?")
        call(agent, "smart_chat", "energy: my secret?")
        doomed = [RemoveMessage(message.id) for message in graph.get_state(CONFIG).values["messages"][2:]]
        graph.update_state(CONFIG, {"messages": doomed}, as_node="record")
        call(agent, "smart_chat", "energy: two?")
        mortal.kill()
        call(agent, "smart_chat", "energy: three?")
        asked = [message.text for message in agent._model.calls[-1][1:]]
        assert asked == [*dialogue("energy: one?", "energy: two?"), "energy: three?"]
        mortal.start()
        wait_until(lambda: agent.get_session_info()["backend"] == "redis", "the replay")
        assert texts_of(agent) == dialogue("energy: one?", "energy: two?", "energy: three?")


def test_what_others_said_meanwhile_comes_first(mortal: RunningServer, prefix: str) -> None:
    """Turns from a journal are appended to the thread in their order, whatever it contains by then."""
    from tests.fixtures.proxy import running_proxy

    with running_proxy(mortal.port) as proxy, RedisMemoryService(url=proxy.url, prefix=prefix) as cut_off:
        agent = supervisor(cut_off, model=numbered())
        agent.smart_chat("energy: one?")
        proxy.refuse()
        agent.smart_chat("energy: two?")
        agent.smart_chat("digital: three?")
        with RedisMemoryService(url=mortal.url, prefix=prefix) as elsewhere:
            other = supervisor(elsewhere, model=numbered())
            other.smart_chat("energy: others?")
            proxy.accept()
            wait_until(lambda: agent.get_session_info()["backend"] == "redis", "the replay")
            told = dialogue("energy: one?", "energy: others?", "energy: two?", "digital: three?")
            assert texts_of(other) == told
            other.smart_chat("hello")
            assert [m["content"] for m in other.history] == [*told, *dialogue("hello")]


def test_a_run_that_dies_with_redis_keeps_nobody_out(mortal: RunningServer, prefix: str) -> None:
    """A lease that the run could not release is released when Redis is back, not seconds later."""
    with RedisMemoryService(url=mortal.url, prefix=prefix) as place:
        agent = supervisor(place, model=numbered())
        answer = agent.stream("energy: one?")
        next(answer)
        mortal.kill()
        assert "".join(answer)
        mortal.start()
        wait_until(lambda: agent.get_session_info()["backend"] == "redis", "the replay")
        saver = RedisSaver(server=place.server, prefix=prefix)
        assert saver.leases.hold("s", "somebody", 5.0)


def test_an_answer_is_heard_without_blanks_around_it() -> None:
    """Whatever the pieces, joined they are the stripped text."""
    text = " \n one \n two  three\t \n"
    for size in range(1, len(text) + 1):
        hearing = Hearing()
        pieces = [hearing.take(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join(pieces) == hearing.text == text.strip()
    hearing = Hearing()
    hearing.take("one tw")
    assert hearing.rest_of("one two") == "o"
    assert hearing.rest_of("something else") == ""
