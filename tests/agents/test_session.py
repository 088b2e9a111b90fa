"""The one runner of a session: its turns as typed events, sync and async, and how it is stopped."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.types import Command

from ecowas_lc import RedisMemoryService, RedisSaver, default_groups
from ecowas_lc.agents import turn as turn_module
from ecowas_lc.agents.events import Event, Finished, Routed, SpeakerDone, Token, ToolCalled, ToolReturned, Waiting
from ecowas_lc.agents.registry import Registry
from ecowas_lc.agents.session import Session
from ecowas_lc.agents.thread_journal import RunSaver
from ecowas_lc.agents.transcript import Keeping
from ecowas_lc.agents.turn import FinalAnswer, Turn
from ecowas_lc.effects import arun, run
from ecowas_lc.errors import ThreadBusyError, TurnStoppedError
from ecowas_lc.settings import load_settings
from tests.agents.conftest import model, supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer, wait_until


def session_on(memory: RedisMemoryService | None, chat: ScriptedModel, **options: Any) -> Session:
    keeping = Keeping(load_settings(), use_redis=memory is not None, ttl=None, memory=memory)
    registry = Registry(default_groups(), FixedRouter(), chat, auto_register=True)
    transcript = keeping.transcript("supervisor", "s", None)
    return Session("s", keeping, transcript, registry, chat, group_limit=None, **options)


@pytest.fixture(params=["sync", "async"])
def events_of(request: pytest.FixtureRequest) -> Any:
    """Run a turn to its end and return its events: every rule that holds for one way holds for the other."""

    def run_turn(session: Session, turn: Turn, on_event: Any = None) -> list[Event]:
        seen: list[Event] = []

        def take(event: Event) -> None:
            seen.append(event)
            if on_event is not None:
                on_event(event)

        async def listened() -> None:
            async with aclosing(session.aevents(turn)) as events:
                async for event in events:
                    take(event)

        if request.param == "async":
            asyncio.run(listened())
        else:
            for event in session.events(turn):
                take(event)
        return seen

    return run_turn


def test_a_turn_tells_what_happens(events_of: Any) -> None:
    """Events report the chosen groups and the reason, each group's tokens and end, and the final answer."""
    seen = events_of(session_on(None, model()), Turn("energy+digital: b?", "s"))
    assert isinstance(seen[0], Routed)
    assert seen[0].groups == ("energy", "digital")
    for group in ("energy", "digital"):
        said = [event for event in seen if isinstance(event, Token) and event.speaker == group]
        assert "".join(event.text for event in said) == f"{group} speaks."
        assert len({event.message_id for event in said}) == 1
    ended = [event.speaker for event in seen if isinstance(event, SpeakerDone)]
    assert sorted(ended) == ["digital", "energy", "synthesis"]
    last = seen[-1]
    assert isinstance(last, Finished)
    assert (last.question, last.speaker, last.groups) == (
        "energy+digital: b?",
        "supervisor",
        ("energy", "digital"),
    )
    heard = FinalAnswer()
    assert "".join(map(heard.take, seen)) == last.answer
    synthesis = [event for event in seen if isinstance(event, Token) and event.speaker == "synthesis"]
    assert {event.message_id for event in synthesis} == {last.message_id}
    json.dumps([event.as_dict() for event in seen])


def tool_user(messages: list[Any]) -> Any:
    if messages[-1].type == "tool":
        return f"It says {messages[-1].text}."
    return AIMessage("", tool_calls=[{"name": "tariff", "args": {"place": "Accra"}, "id": "c1"}])


def test_tools_and_decisions_are_told_of(events_of: Any) -> None:
    """Events report a tool call and its result, what waits with the id to resume it, and the resumed turn."""

    @tool
    def tariff(place: str) -> str:
        """The tariff of a place."""
        return f"12 in {place}"

    chat = ScriptedModel(script=by_speaker({"energy": tool_user}), tools=True)
    session = session_on(
        None, chat, tools={"digital": [tariff], "energy": [tariff]}, interrupt_before_release=["digital"]
    )
    seen = events_of(session, Turn("energy: a?", "s"))
    [called] = [event for event in seen if isinstance(event, ToolCalled)]
    assert (called.group, called.name, dict(called.args)) == ("energy", "tariff", {"place": "Accra"})
    [returned] = [event for event in seen if isinstance(event, ToolReturned)]
    assert (returned.id, returned.text, returned.status) == (called.id, "12 in Accra", "success")
    assert seen[-1].answer == "It says 12 in Accra."

    seen = events_of(session, Turn("digital: b?", "s"))
    [waiting] = [event for event in seen if isinstance(event, Waiting)]
    assert waiting.request["answer"] == "digital speaks."
    assert [event for event in seen if isinstance(event, (Token, Finished))] == [], "nobody has heard it yet"
    seen = events_of(session, Turn(None, "s", given=Command(resume={waiting.id: "approve"})))
    assert (seen[-1].question, seen[-1].answer) == ("digital: b?", "digital speaks.")


def test_a_turn_is_stopped_between_two_steps(events_of: Any, memory: RedisMemoryService) -> None:
    """A streamed answer is also stored; another process continues from there and asks no group twice."""
    chat = model()
    session = session_on(memory, chat)

    def stop(event: Event) -> None:
        if isinstance(event, Token):
            session.drain("SIGTERM")

    turn = Turn("energy+digital: b?", "s")
    with pytest.raises(TurnStoppedError, match=r"between two steps \(SIGTERM\)"):
        events_of(session, turn, stop)
    assert turn.finished is None
    said = len(chat.calls)
    assert said == 2, "both groups came to their end, the synthesis was not begun"
    assert not session._running
    again = session_on(memory, chat)
    seen = events_of(again, Turn(None, "s"))
    assert isinstance(seen[-1], Finished)
    assert "energy speaks." in seen[-1].reports["energy"]["text"]
    assert {event.speaker for event in seen if isinstance(event, SpeakerDone)} == {"synthesis"}
    assert len(run(again.messages(), {})) == 2


def test_what_was_said_of_a_broken_answer_is_kept_where_it_is_asked_for(memory: RedisMemoryService) -> None:
    """An interrupted answer is stored with a mark, under its speaker's name; the next turn's prompt has it."""
    chat = model(energy="one two three")
    session = session_on(memory, chat)
    turn = Turn("energy: a?", "s")
    events = session.events(turn)
    assert any(isinstance(event, Token) for event in events)
    events.close()  # type: ignore[attr-defined]
    run(session.broken_off(turn), {})
    messages = asyncio.run(arun(session.messages(), {}))
    assert [(message.name, message.text) for message in messages] == [(None, "energy: a?"), ("energy", "one […]")]
    list(session.events(Turn("energy: b?", "s")))
    assert [message.text for message in chat.calls[-1][1:]] == ["energy: a?", "one […]", "energy: b?"]


def test_the_text_so_far_names_its_speakers() -> None:
    """An interrupted synthesis is the supervisor's; the unfinished answers of several groups are listed."""
    turn = Turn("energy: a?", "s", None)
    assert turn.partial is None
    turn._said = {"energy": "One", "digital": "Two"}
    assert turn.partial.text == "energy: One […]\n\ndigital: Two […]"
    turn._said["synthesis"] = "Both"
    assert (turn.partial.text, turn.partial.name) == ("Both […]", "supervisor")
    assert list(turn_module._of_tools("other data")) == []


def test_a_session_that_is_cleared_in_an_outage(
    mortal: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session cleared before anybody noticed the outage is gone when Redis is back."""
    monkeypatch.setattr("ecowas_lc.storage.clients._RETRIES", 1)
    with RedisMemoryService(url=mortal.url, prefix=prefix) as place:
        session = session_on(place, model())
        link = session._keeping.link
        assert link is not None
        list(session.events(Turn("energy: before?", "s")))
        run_saver = RunSaver(session._saver, link, session._thread)
        listed = [each.config for each in run_saver.list(session._config)]
        assert listed == asyncio.run(listed_of(run_saver, session._config))
        assert len(listed) > 2
        mortal.kill()
        run(session.forget(wholly=True), {})
        assert not link.is_up
        mortal.start()
        wait_until(lambda: link.is_up, "the replay")
        assert run(session.messages(), {}) == []


@pytest.mark.parametrize("is_removed", [False, True])
def test_what_was_said_before_an_outage_is_stored_after_it(
    mortal: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    """An answer interrupted in an outage is stored with a mark after it, unless its thread was removed."""
    monkeypatch.setattr("ecowas_lc.storage.clients._RETRIES", 1)
    with RedisMemoryService(url=mortal.url, prefix=prefix) as place:
        session = session_on(place, model(energy="one two"))
        turn = Turn("energy: a?", "s")
        events = session.events(turn)
        assert any(isinstance(event, Token) for event in events)
        events.close()  # type: ignore[attr-defined]
        with RedisSaver.from_url(mortal.url, prefix=prefix) as saver:
            assert saver.get({"configurable": {"thread_id": "s"}})
            if is_removed:
                saver.delete_thread("s")
        mortal.kill()
        run(session.broken_off(turn), {})
        link = session._keeping.link
        assert link is not None
        assert not link.is_up
        mortal.start()
        wait_until(lambda: link.is_up, "the replay")
    with RedisMemoryService(url=mortal.url, prefix=prefix) as elsewhere:
        kept = run(session_on(elsewhere, model()).messages(), {})
    assert [message.text for message in kept] == ([] if is_removed else ["energy: a?", "one […]"])


def test_a_thread_that_another_run_holds_is_written_to_later(
    mortal: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns from an outage are written once no other process's run holds the thread, even after more outages."""
    monkeypatch.setattr("ecowas_lc.storage.clients._RETRIES", 1)
    with (
        RedisMemoryService(url=mortal.url, prefix=prefix) as place,
        RedisSaver.from_url(mortal.url, prefix=prefix) as saver,
    ):
        session = session_on(place, model(), on_busy="refuse")
        link = session._keeping.link
        assert link is not None
        with monkeypatch.context() as without:
            without.setattr(link, "_start", lambda: None)  # no retries in the background
            mortal.kill()
            list(session.events(Turn("energy: a?", "s")))
            assert session._thread.waits
            mortal.start()
            assert saver.leases.hold("s", "another process", 60)
            link._problem = None
            with pytest.raises(ThreadBusyError):
                list(session.events(Turn("energy: b?", "s")))
            assert session._thread.waits
            assert link.holds
            mortal.kill()
            run(session._replayed(), {})
            assert not link.is_up
        mortal.start()
        saver.leases.release("s", "another process")
        link._start()
        wait_until(lambda: link.is_up and not session._thread.waits, "the replay")
        assert run(session.messages(), {})[0].text == "energy: a?"


async def listed_of(saver: RunSaver, config: Any) -> list[Any]:
    return [each.config async for each in saver.alist(config)]


def test_a_graph_in_another_thread_has_that_threads_history(memory: RedisMemoryService) -> None:
    """If you run the supervisor's graph in another thread, its transcript is stored under that thread's id."""
    agent = supervisor(memory)
    agent.smart_chat("energy: here?")
    agent.graph.invoke({"messages": [("user", "energy: there?")]}, {"configurable": {"thread_id": "other"}})
    kept = [message["content"] for message in memory.get_conversation_history("supervisor", "other")]
    assert kept == ["energy: there?", "energy speaks."]
    assert [message["content"] for message in agent.history] == ["energy: here?", "energy speaks."]
    agent.drain()  # nothing runs
    assert agent.smart_chat("energy: after?") == "energy speaks."


def test_messages_without_ids_get_one() -> None:
    """Messages without an id get one, because a transcript identifies messages by id."""
    transcript = Keeping(load_settings(), use_redis=False, ttl=None, memory=None).transcript("energy", "s", None)
    run(transcript.append([AIMessage("One."), AIMessage("Two.")]), {})
    found = run(transcript.read_stored(), {})
    assert [message.text for message in found] == ["One.", "Two."]
    assert len({message.id for message in found}) == 2
