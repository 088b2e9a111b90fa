"""One question after the other: who answers, and what the thread stores."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.errors import (
    ConfigurationError,
    EmptyQuestionError,
    InvalidIdError,
    InvalidInputError,
    UnknownGroupError,
)
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.routing import RouteDecision
from ecowas_lc.twg import TWG, default_groups
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, Graph, in_thread


def supervisor(script: dict[str, Any] | None = None, **options: Any) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=by_speaker(script or {}), structured=True)
    options.setdefault("router", FixedRouter())
    return build_supervisor(model, checkpointer=InMemorySaver(), **options), model


def test_one_groups_answer_is_passed_on_word_for_word(ask: Ask) -> None:
    """A single group's answer is the final answer, without a further model call."""
    graph, model = supervisor({"energy": "Build the  *Dorsale Nord*.\n\n- 330 kV"})
    result = ask(graph, "energy: which line first?")
    assert result["messages"][-1].text == "Build the  *Dorsale Nord*.\n\n- 330 kV"
    assert [speaker_of(prompt) for prompt in model.calls] == ["energy"]
    assert result["messages"][-1].name == "energy"
    assert result["synthesis"] == {}


def test_a_general_question_is_answered_by_the_supervisor_itself(ask: Ask) -> None:
    """If a question concerns no group, the supervisor answers, with one model call."""
    graph, model = supervisor({"supervisor": "Good morning."})
    result = ask(graph, "Good morning!")
    assert result["decision"] == {"groups": [], "source": "fixed", "reason": "by the first word"}
    assert result["messages"][-1].text == "Good morning."
    assert result["messages"][-1].name == "supervisor"
    assert [speaker_of(prompt) for prompt in model.calls] == ["supervisor"]
    assert result["reports"] == {}


def test_several_answers_are_brought_together(ask: Ask) -> None:
    """With several answers there is one synthesis: views, agreements, conflicts, open questions."""
    graph, model = supervisor(
        {
            "synthesis": {
                "views": {"energy": "Solar first.", "minerals": "Smelters need baseload."},
                "agreements": ["The grid must grow."],
                "conflicts": ["Solar against baseload."],
                "open_questions": ["Who pays?"],
                "answer": "Build both, in steps.",
            }
        }
    )
    result = ask(graph, "energy+minerals: power for smelters?")
    synthesis = result["synthesis"]
    assert synthesis["views"] == {"energy": "Solar first.", "minerals": "Smelters need baseload."}
    assert synthesis["agreements"] == ["The grid must grow."]
    assert synthesis["conflicts"] == ["Solar against baseload."]
    assert synthesis["open_questions"] == ["Who pays?"]
    assert synthesis["form"] == "structured"
    assert synthesis["missing"] == {}
    assert {group: report["text"] for group, report in result["reports"].items()} == {
        "energy": "energy speaks.",
        "minerals": "minerals speaks.",
    }
    assert sorted(map(speaker_of, model.calls)) == ["energy", "minerals", "synthesis"]
    text = result["messages"][-1].text
    assert text == synthesis["text"]
    for part in ("Energy & Infrastructure", "Critical Minerals", "Who pays?", "Build both, in steps."):
        assert part in text


def test_the_thread_holds_questions_and_final_answers_only(ask: Ask) -> None:
    """No hand-off messages, no drafts, no tool calls: a turn is two messages, however many groups answered."""
    graph, _ = supervisor()
    for question in ("energy: a?", "energy+digital: b?", "hello"):
        ask(graph, question)
    messages = graph.get_state(in_thread("t")).values["messages"]
    assert [type(message) for message in messages] == [HumanMessage, AIMessage] * 3
    assert len({message.id for message in messages}) == 6


def test_each_turn_begins_afresh(ask: Ask) -> None:
    """Decision, reports and synthesis are those of the last question, never of an earlier one."""
    graph, _ = supervisor()
    first = ask(graph, "energy+digital: a?")
    assert set(first["reports"]) == {"energy", "digital"}
    second = ask(graph, "protocol: b?")
    assert set(second["reports"]) == {"protocol"}
    assert second["synthesis"] == {}
    third = ask(graph, "hello")
    assert third["reports"] == {}
    assert third["decision"]["groups"] == []


def test_the_state_is_plain(ask: Ask) -> None:
    """A strict checkpointer can store the state: plain values and messages, no classes of ours."""
    graph, _ = supervisor()
    ask(graph, "energy+digital: a?")

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return type(value) is dict and all(isinstance(k, str) and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool, HumanMessage, AIMessage)

    assert plain(graph.get_state(in_thread("t")).values)


def test_a_follow_up_sees_the_conversation(ask: Ask) -> None:
    """A group that was not asked before still knows the subject of the conversation."""
    graph, model = supervisor({"energy": "A solar park in Kaolack."})
    ask(graph, "energy: what is planned?")
    ask(graph, "resource_mobilization: who could pay for it?")
    prompt = [message.text for message in model.calls[-1]]
    assert prompt[1:] == [
        "energy: what is planned?",
        "A solar park in Kaolack.",
        "resource_mobilization: who could pay for it?",
    ]


def test_without_a_checkpointer_a_question_is_answered(ask: Ask) -> None:
    """A checkpointer is the user's choice."""
    graph = build_supervisor(ScriptedModel(script=by_speaker({})), router=FixedRouter())
    assert ask(graph, "energy: a?")["messages"][-1].text == "energy speaks."


def test_a_conversation_may_be_handed_in_whole(ask: Ask) -> None:
    """Earlier messages passed with the question are its context."""
    model = ScriptedModel(script=by_speaker({}))
    graph = build_supervisor(model, router=FixedRouter())
    ask(graph, {"messages": [("user", "one?"), ("ai", "First."), ("user", "energy: two?")]})
    assert [message.text for message in model.calls[-1][1:]] == ["one?", "First.", "energy: two?"]


@pytest.mark.parametrize("question", ["", "   \n"])
def test_an_empty_question_is_refused(ask: Ask, question: str) -> None:
    """No model is asked for an empty question, and the next one is answered as if it were the first."""
    graph, model = supervisor()
    with pytest.raises(EmptyQuestionError, match="empty"):
        ask(graph, question)
    assert model.calls == []
    ask(graph, "energy: a?")
    assert [message.text for message in model.calls[-1][1:]] == ["energy: a?"]


def test_the_last_message_must_be_a_question(ask: Ask) -> None:
    """Handing in an answer instead of a question is a named error."""
    graph, _ = supervisor()
    with pytest.raises(InvalidInputError, match="not a question"):
        ask(graph, {"messages": [("ai", "I think so.")]})


def test_users_own_groups_take_the_place_of_the_six(ask: Ask) -> None:
    """Groups are data: a graph can be built from one's own."""
    water = TWG("water", "Water", "You are the water group.", {"en": ["river*"]}, "Rivers and dams.")
    model = ScriptedModel(script=lambda messages: messages[0].text)
    graph = build_supervisor(model, groups=[water], router="lexical")
    result = ask(graph, "Which rivers cross borders?")
    assert result["messages"][-1].text == "You are the water group."
    assert "energy" not in graph.get_graph().nodes


def test_a_group_named_like_a_part_of_the_graph_is_refused() -> None:
    """Ids of groups become nodes: those of the graph's own nodes and of its state are taken."""
    for taken in ("supervisor", "route", "record", "messages", "reports"):
        with pytest.raises(InvalidIdError):
            build_supervisor(
                ScriptedModel(script=by_speaker({})), groups=[TWG(taken, "n", "p", {}, "d")], router="lexical"
            )


def test_arguments_that_cannot_be_used_are_refused_when_the_graph_is_built() -> None:
    """Wrong arguments are reported at once, not with the first question."""
    model = ScriptedModel(script=by_speaker({}))
    for options in (
        {"max_parallel": 0},
        {"group_timeout": 0},
        {"max_hops": 0},
        {"num_ctx": -1},
        {"router": "nobody"},
        {"router": object()},
        {"interrupt_before_release": "protocol"},
        {"on_waiting": "wait"},
    ):
        with pytest.raises(ConfigurationError):
            build_supervisor(model, **{"router": FixedRouter(), **options})
    for options in ({"interrupt_before_release": ["finance"]}, {"tools": {"finance": []}}):
        with pytest.raises(UnknownGroupError, match=r"finance.*energy"):
            build_supervisor(model, router=FixedRouter(), **options)


class Router(FixedRouter):
    """Answers the same whatever is asked."""

    def __init__(self, *groups: str) -> None:
        self._groups = groups

    def route(self, question: str) -> RouteDecision:
        return RouteDecision(self._groups, "mine", "because")


def test_any_object_with_route_and_aroute_is_a_router(ask: Ask) -> None:
    """A user's router decides, its reason is in the state, and a group named twice is asked once."""
    graph, model = supervisor(router=Router("digital", "digital"))
    result = ask(graph, "anything")
    assert result["decision"] == {"groups": ["digital"], "source": "mine", "reason": "because"}
    assert len(model.calls) == 1


def test_a_router_that_names_a_strange_group_is_told_so(ask: Ask) -> None:
    """An unknown group is a named error before any group is asked."""
    graph, model = supervisor(router=Router("finance"))
    with pytest.raises(UnknownGroupError, match="finance"):
        ask(graph, "anything")
    assert model.calls == []


def test_all_six_groups_can_be_asked_at_once(ask: Ask) -> None:
    """The whole summit may be concerned."""
    ids = [group.id for group in default_groups()]
    graph, model = supervisor({"synthesis": {"views": dict.fromkeys(ids, "Yes."), "answer": "All."}})
    result = ask(graph, "+".join(ids) + ": everything?")
    assert set(result["reports"]) == set(ids)
    assert len(model.calls) == 7


def test_thinking_is_not_speech(ask: Ask) -> None:
    """Text between thinking tags is in no answer, report, later prompt or synthesis."""
    thoughts = "<think>They must not read this.</think>\n\n"
    script = by_speaker(
        {"energy": f"{thoughts}Solar.", "digital": f"{thoughts}Cables.", "supervisor": f"{thoughts}Yes."}
    )
    model = ScriptedModel(script=script)
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    for question in ("energy: a?", "energy+digital: b?", "hello", "energy: c?"):
        result = ask(graph, question)
    assert [message.text for message in result["messages"]][1::4] == ["Solar.", "Yes."]
    assert "must not read" not in str(result)
    assert "must not read" not in str(graph.get_state(in_thread("t")).values)
    assert "must not read" not in str(model.calls)
