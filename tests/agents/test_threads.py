"""What a thread lacks of the session's transcript, and where it belongs."""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from ecowas_lc.agents.session import merged_messages
from ecowas_lc.agents.turn import Hearing
from ecowas_lc.supervisor.trimming import exchanges


def conversation(text: str, *, whose: str = "") -> list[BaseMessage]:
    """``"1 2? 3"``: three questions, each answered but the second; answers' ids tell ``whose`` they are."""
    messages: list[BaseMessage] = []
    for name in text.split():
        number = name.rstrip("?")
        messages.append(HumanMessage(number, id=f"q{number}"))
        if not name.endswith("?"):
            messages.append(AIMessage(f"A{number}", id=f"{whose}a{number}"))
    return messages


def merged(thread: str, transcript: str, earlier: str = "") -> list[str]:
    told = exchanges(conversation(transcript, whose="t"))
    return [str(m.id) for m in merged_messages(conversation(thread), conversation(earlier), told)]


def ids(text: str) -> list[str]:
    return [str(message.id) for message in conversation(text)]


def test_a_thread_that_has_all_stays_as_it_is() -> None:
    """Its own messages, too, where it has more than the transcript, which is cut to a length."""
    assert merged("1 2 3", "1 2 3") == ids("1 2 3")
    assert merged("1 2 3", "3") == ids("1 2 3")
    assert merged("", "") == []


def test_what_it_lacks_comes_where_it_was_said() -> None:
    """At the end, in the middle, or all of it."""
    assert merged("1 2", "1 2 3 4") == [*ids("1 2"), "q3", "ta3", "q4", "ta4"]
    assert merged("1 3", "1 2 3") == ["q1", "a1", "q2", "ta2", "q3", "a3"]
    assert merged("", "1 2") == ["q1", "ta1", "q2", "ta2"]
    assert merged("1 2 5?", "2 3") == [*ids("1 2"), "q3", "ta3", "q5"]


def test_a_question_that_a_dead_run_left_gets_its_answer() -> None:
    """Once, and before whatever came later."""
    assert merged("1 2?", "1 2") == ["q1", "a1", "q2", "ta2"]
    assert merged("1 2? 3", "1 2 3") == ["q1", "a1", "q2", "ta2", "q3", "a3"]


def test_what_came_before_the_thread_is_not_told_again() -> None:
    """The graph has it from the transcript already."""
    assert merged("2", "1 2", earlier="1") == ids("2")


def test_messages_without_ids_are_told_apart_by_their_text() -> None:
    """Dicts that another program saved; the thread gives them ids of its own, so that they must be known again."""
    old = [HumanMessage("old?"), AIMessage("Old.")]
    once = merged_messages([], [], exchanges(old))
    assert [message.text for message in once] == ["old?", "Old."]
    for number, message in enumerate(once):
        message.id = f"new{number}"
    again = [HumanMessage("old?"), AIMessage("Old.")]
    assert merged_messages(once, [], exchanges(again)) == once


def test_an_answer_is_heard_without_blanks_around_it() -> None:
    """Whatever the pieces, joined they are the text stripped."""
    text = " \n one \n two  three\t \n"
    for size in range(1, len(text) + 1):
        hearing = Hearing()
        pieces = [hearing.take(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join(pieces) == hearing.text == text.strip()
    hearing = Hearing()
    hearing.take("one tw")
    assert hearing.rest_of("one two") == "o"
    assert hearing.rest_of("something else") == ""
