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

from ecowas_lc import RedisMemoryService, default_groups
from ecowas_lc.agents.events import Event, Finished, Routed, SpeakerDone, Token, ToolCalled, ToolReturned, Waiting
from ecowas_lc.agents.registry import Registry
from ecowas_lc.agents.session import Session
from ecowas_lc.agents.transcript import Keeping
from ecowas_lc.agents.turn import FinalAnswer, Turn
from ecowas_lc.effects import arun, run
from ecowas_lc.errors import TurnStoppedError
from ecowas_lc.settings import load_settings
from tests.agents.conftest import model
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker


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
