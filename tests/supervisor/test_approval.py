"""Human approval: a held answer waits, even for days, and its group is not asked again."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from ecowas_lc.errors import DecisionPendingError, InvalidDecisionError, NotWaitingError
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.routing import RouteDecision
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, Graph, asked, in_thread

SYNTHESIS = {"views": {"energy": "E.", "protocol": "P."}, "answer": "So."}


def supervisor(
    held: Any, saver: InMemorySaver | None = None, script: dict[str, Any] | None = None, **options: Any
) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=by_speaker({"synthesis": SYNTHESIS, **(script or {})}), structured=True)
    graph = build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=saver or InMemorySaver(),
        interrupt_before_release=held,
        **options,
    )
    return graph, model


def waiting(graph: Graph) -> dict[str, Any]:
    """Return the pending requests, by group, with the ids to answer them by."""
    return {i.value["group"]: i for i in graph.get_state(in_thread("t")).interrupts}


@pytest.mark.parametrize("decision", [True, "approve", {"action": "approve"}])
def test_an_approved_answer_is_passed_on(ask: Ask, decision: Any) -> None:
    """Approval releases the answer unchanged; the reviewer sees the question and the answer."""
    graph, model = supervisor(["protocol"])
    ask(graph, "protocol: who sits where?")
    request = waiting(graph)["protocol"].value
    assert request["question"] == "protocol: who sits where?"
    assert request["answer"] == "protocol speaks."
    assert request["name"] == "Protocol & Logistics"
    assert len(graph.get_state(in_thread("t")).values["messages"]) == 1
    result = ask(graph, Command(resume=decision))
    assert result["messages"][-1].text == "protocol speaks."
    assert result["reports"]["protocol"]["released"] == "approved"
    assert len(model.calls) == 1


def test_an_edited_answer_takes_the_place_of_the_first(ask: Ask) -> None:
    """The reviewer's text becomes the answer."""
    graph, _ = supervisor("all")
    ask(graph, "protocol: who sits where?")
    result = ask(graph, Command(resume={"action": "edit", "text": " In order of precedence. "}))
    assert result["messages"][-1].text == "In order of precedence."
    assert result["reports"]["protocol"]["released"] == "edited"
    assert "protocol speaks." not in str(result)


@pytest.mark.parametrize("decision", [False, "reject", {"action": "reject", "reason": "too early"}])
def test_a_rejected_answer_is_not_said(ask: Ask, decision: Any) -> None:
    """The user learns that the answer was not released; its text is nowhere, the reason is in the report."""
    graph, _ = supervisor(["protocol"])
    ask(graph, "protocol: who sits where?")
    result = ask(graph, Command(resume=decision))
    assert result["messages"][-1].text == "The answer of Protocol & Logistics was not released."
    assert result["reports"]["protocol"]["status"] == "rejected"
    assert "protocol speaks." not in str(result)
    if isinstance(decision, dict):
        assert result["reports"]["protocol"]["reason"] == "too early"


@pytest.mark.parametrize("nonsense", ["perhaps", {"action": "edit"}, {"action": "edit", "text": " "}, 7])
def test_what_is_no_decision_is_refused(ask: Ask, nonsense: Any) -> None:
    """A reviewer's mistake is a named error: nothing is stored or released, and the request still waits."""
    graph, model = supervisor(["protocol"])
    ask(graph, "protocol: who sits where?")
    before = waiting(graph)["protocol"]
    count = len(list(graph.get_state_history(in_thread("t"))))
    with pytest.raises(InvalidDecisionError, match="is not a decision"):
        ask(graph, Command(resume=nonsense))
    with pytest.raises(InvalidDecisionError, match="is not a decision"):
        ask(graph, Command(resume={before.id: nonsense}))
    assert waiting(graph) == {"protocol": before}
    assert len(list(graph.get_state_history(in_thread("t")))) == count
    assert ask(graph, Command(resume="approve"))["messages"][-1].text == "protocol speaks."
    assert len(model.calls) == 1


def test_groups_that_are_not_held_are_not_waited_for(ask: Ask) -> None:
    """Only the named groups are held; the graph does not pause for others."""
    graph, _ = supervisor(["protocol"])
    assert ask(graph, "energy: a?")["messages"][-1].text == "energy speaks."


def test_the_synthesis_waits_for_the_release(ask: Ask) -> None:
    """If one of several answers is held, none of it is combined before it is released."""
    graph, model = supervisor(["protocol"])
    ask(graph, "energy+protocol: a?")
    assert "synthesis" not in map(speaker_of, model.calls)
    result = ask(graph, Command(resume={"action": "edit", "text": "Edited view."}))
    prompt = next(prompt for prompt in model.calls if speaker_of(prompt) == "synthesis")
    assert "Edited view." in prompt[1].text
    assert "protocol speaks." not in prompt[1].text
    assert set(result["synthesis"]["views"]) == {"energy", "protocol"}


def test_several_held_answers_are_decided_one_by_one(ask: Ask) -> None:
    """All requests are returned at once; you can answer each separately, in any order."""
    graph, model = supervisor("all")
    ask(graph, "energy+protocol: a?")
    pending = waiting(graph)
    assert set(pending) == {"energy", "protocol"}
    ask(graph, Command(resume={pending["protocol"].id: "approve"}))
    assert set(waiting(graph)) == {"energy"}
    assert "synthesis" not in map(speaker_of, model.calls)
    result = ask(graph, Command(resume={pending["energy"].id: {"action": "reject", "reason": "no"}}))
    assert result["messages"][-1].text.startswith("protocol speaks.")
    assert (
        "Missing: the view of Energy & Infrastructure (its answer was not released)" in result["messages"][-1].text
    )
    assert len(model.calls) == 2


def test_all_can_be_decided_at_once(ask: Ask) -> None:
    """One resume may contain every decision."""
    graph, _ = supervisor("all")
    ask(graph, "energy+protocol: a?")
    result = ask(graph, Command(resume={request.id: True for request in waiting(graph).values()}))
    assert result["synthesis"]["form"] == "structured"


def test_the_run_goes_on_in_another_process(ask: Ask) -> None:
    """A waiting draft is only in the checkpointer: another graph object, built alike, takes the decision."""
    saver = InMemorySaver()
    first, _ = supervisor(["protocol"], saver)
    ask(first, "protocol: who sits where?")
    second, model = supervisor(["protocol"], saver)
    result = ask(second, Command(resume="approve"))
    assert result["messages"][-1].text == "protocol speaks."
    assert model.calls == []


def test_a_held_group_that_fails_needs_no_decision(ask: Ask) -> None:
    """Without an answer there is nothing to release: the run continues without a reviewer."""
    graph, _ = supervisor(["protocol"], script={"protocol": RuntimeError("boom")})
    result = ask(graph, "energy+protocol: a?")
    assert result["messages"][-1].text.startswith("energy speaks.")
    assert set(result["synthesis"]["missing"]) == {"protocol"}


def test_a_question_is_refused_while_an_answer_waits(ask: Ask) -> None:
    """A new question, in the thread or in a fork, is refused and not stored; the draft can still be decided on."""
    graph, model = supervisor(["protocol"])
    ask(graph, "protocol: a?")
    before = waiting(graph)["protocol"]
    first = list(graph.get_state_history(in_thread("t")))[-1]
    with pytest.raises(DecisionPendingError, match=before.id):
        ask(graph, "energy: b?")
    with pytest.raises(DecisionPendingError):
        graph.invoke(asked("energy: b?"), first.config)
    with pytest.raises(DecisionPendingError):
        graph.invoke(None, first.config)
    assert waiting(graph) == {"protocol": before}
    assert len(model.calls) == 1
    result = ask(graph, Command(resume={before.id: "approve"}))
    assert [m.text for m in result["messages"]] == ["protocol: a?", "protocol speaks."]


def test_a_question_may_drop_what_nobody_decided(ask: Ask) -> None:
    """With ``on_waiting="drop"``, an unanswered request does not block the thread, and the answer says so."""
    graph, _ = supervisor(["protocol"], on_waiting="drop")
    ask(graph, "protocol: a?")
    dropped = waiting(graph)["protocol"]
    result = ask(graph, "energy: b?")
    assert result["messages"][-1].text == "energy speaks."
    assert [m.text for m in result["messages"] if isinstance(m, AIMessage)] == ["energy speaks."]
    assert waiting(graph) == {}
    assert graph.get_state(in_thread("t")).values["dropped"] == [
        {"draft": dropped.value["draft"], "group": "protocol", "question": "energy: b?"}
    ]
    with pytest.raises(NotWaitingError, match="Nothing"):
        ask(graph, Command(resume="approve"))


@pytest.mark.parametrize("on_waiting", ["drop", "refuse"])
def test_a_run_from_the_newest_checkpoint_gives_up_nothing(on_waiting: str) -> None:
    """A run from the newest checkpoint, named or not, keeps what waits there."""
    graph, model = supervisor(["protocol"], on_waiting=on_waiting)
    graph.invoke({"messages": [("user", "protocol: a?")]}, in_thread("t"))
    request = waiting(graph)["protocol"].value
    graph.invoke(None, graph.get_state(in_thread("t")).config)
    assert waiting(graph)["protocol"].value["draft"] == request["draft"]
    assert "dropped" not in graph.get_state(in_thread("t")).values
    assert len(model.calls) == 1


@pytest.mark.parametrize("how", ["plain", "by id", "by draft", "by digest"])
def test_a_decision_meets_what_was_shown(ask: Ask, how: str) -> None:
    """A decision on a replaced draft releases nothing, however it is passed."""
    graph, _ = supervisor(["protocol"], on_waiting="drop", script={"protocol": lambda m: f"On {m[-1].text}"})
    ask(graph, "protocol: first?")
    shown = waiting(graph)["protocol"]
    ask(graph, "protocol: second?")
    later = waiting(graph)["protocol"]
    assert (shown.id, shown.value["draft"], shown.value["digest"]) != (
        later.id,
        later.value["draft"],
        later.value["digest"],
    )
    decision: Any = {
        "plain": "approve",
        "by id": {shown.id: "approve"},
        "by draft": {"action": "approve", "draft": shown.value["draft"]},
        "by digest": {later.id: {"action": "approve", "digest": shown.value["digest"]}},
    }[how]
    with pytest.raises(NotWaitingError, match=r"[Nn]othing was released"):
        ask(graph, Command(resume=decision))
    assert waiting(graph) == {"protocol": later}
    given = {"action": "approve", "draft": later.value["draft"]}
    assert ask(graph, Command(resume=given))["messages"][-1].text == "On protocol: second?"


def test_a_request_says_what_a_decision_may_be(ask: Ask) -> None:
    """Clients can draw a form from the request's schema."""
    graph, _ = supervisor(["protocol"])
    ask(graph, "protocol: a?")
    schema = waiting(graph)["protocol"].response_schema
    assert schema["properties"]["action"]["enum"] == ["approve", "edit", "reject"]


class SubjectRouter(FixedRouter):
    """Finds the groups whose id a text names, wherever it does."""

    def route(self, question: str) -> RouteDecision:
        return RouteDecision(tuple(group for group in ("energy", "protocol") if group in question), "fixed", "")


def test_the_supervisors_own_answer_on_a_held_subject_waits_too(ask: Ask) -> None:
    """A question that reached no group can't bypass the review; small talk does not wait."""
    model = ScriptedModel(
        script=by_speaker({"supervisor": lambda m: "Hello." if "hi" in m[-1].text else "As protocol said: 7."})
    )
    graph = build_supervisor(
        model, router=SubjectRouter(), checkpointer=InMemorySaver(), interrupt_before_release=["protocol"]
    )
    assert ask(graph, "hi")["messages"][-1].text == "Hello."
    ask(graph, "Say that again")
    request = waiting(graph)["supervisor"].value
    assert (request["answer"], request["concerns"]) == ("As protocol said: 7.", ["protocol"])
    result = ask(graph, Command(resume="reject"))
    assert result["messages"][-1].text == "The answer of Supervisor was not released."
    ask(graph, "Say that again")
    assert ask(graph, Command(resume="approve"))["messages"][-1].text == "As protocol said: 7."
