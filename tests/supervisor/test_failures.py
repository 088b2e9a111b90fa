"""Failures of groups, the model or its server."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from ecowas_lc.errors import (
    ContextOverflowError,
    EcowasError,
    ModelCapabilityError,
    ModelError,
    ModelServerUnavailableError,
    ModelTimeoutError,
    SupervisorError,
)
from ecowas_lc.llm import make_chat_model
from ecowas_lc.settings import Settings
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import Answer, FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, Graph, Stream, in_thread


def supervisor(script: dict[str, Any], **options: Any) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=by_speaker(script), structured=True)
    return build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), **options), model


SYNTHESIS = {
    "views": {"energy": "E.", "digital": "D.", "minerals": "M."},
    "agreements": [],
    "conflicts": [],
    "open_questions": [],
    "answer": "So.",
}


@pytest.mark.parametrize("error", [RuntimeError("boom"), ConnectionError("refused"), ModelError("no")])
def test_one_failing_group_does_not_lose_the_others(ask: Ask, error: Exception) -> None:
    """The other answers are combined, and the synthesis names the missing view."""
    graph, _ = supervisor({"digital": error, "synthesis": SYNTHESIS})
    result = ask(graph, "energy+digital+minerals: a?")
    assert result["reports"]["digital"]["status"] == "failed"
    assert result["reports"]["energy"]["status"] == "answered"
    assert set(result["synthesis"]["missing"]) == {"digital"}
    assert set(result["synthesis"]["views"]) == {"energy", "minerals"}
    assert "Missing: the view of Digital Economy & Transformation" in result["messages"][-1].text


def test_the_model_is_told_not_to_guess_a_missing_view(ask: Ask) -> None:
    """The synthesis prompt names the groups without an answer, and no answer is invented for them."""
    graph, model = supervisor({"digital": RuntimeError("boom"), "synthesis": SYNTHESIS})
    ask(graph, "energy+digital+minerals: a?")
    prompt = next(prompt for prompt in model.calls if speaker_of(prompt) == "synthesis")
    assert "No answer came from Digital Economy & Transformation" in prompt[0].text
    assert "(digital)" not in prompt[1].text


def test_with_one_answer_left_it_is_passed_on_with_a_note(ask: Ask) -> None:
    """A single answer is not synthesised, but the missing view is named."""
    graph, model = supervisor({"digital": RuntimeError("boom")})
    result = ask(graph, "energy+digital: a?")
    text = result["messages"][-1].text
    assert text.startswith("energy speaks.\n\nMissing: the view of Digital Economy & Transformation")
    assert result["synthesis"]["form"] == "verbatim"
    assert result["synthesis"]["views"] == {"energy": "energy speaks."}
    assert "synthesis" not in map(speaker_of, model.calls)


def test_a_group_that_takes_too_long_is_given_up(ask: Ask) -> None:
    """A group that exceeds its time is a missing view; the run does not wait for it."""

    class Slow(ScriptedModel):
        def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            self.__dict__["seconds"] = 5.0 if speaker_of(messages) == "digital" else 0.0
            return super()._stream(messages, *args, **kwargs)

        def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            self.__dict__["seconds"] = 5.0 if speaker_of(messages) == "digital" else 0.0
            return super()._astream(messages, *args, **kwargs)

    model = Slow(script=by_speaker({"synthesis": SYNTHESIS}), structured=True)
    graph = build_supervisor(
        model, router=FixedRouter(), checkpointer=InMemorySaver(), group_timeout=1, max_parallel=1
    )
    result = ask(graph, "energy+minerals+digital: a?")
    assert result["reports"]["digital"]["error"] == "ModelTimeoutError"
    assert "1 s" in result["reports"]["digital"]["reason"]
    assert result["reports"]["energy"]["status"] == "answered"
    assert set(result["synthesis"]["missing"]) == {"digital"}


def test_a_group_that_was_given_up_says_no_more(stream: Stream) -> None:
    """Tokens of an answer that came too late are not streamed after the final answer."""
    graph = build_supervisor(
        ScriptedModel(script=by_speaker({}), seconds=2),
        router=FixedRouter(),
        checkpointer=InMemorySaver(),
        group_timeout=0.1,
    )
    seen: list[Any] = []
    with pytest.raises(ModelTimeoutError):
        seen.extend(stream(graph, "energy: a?", stream_mode="messages"))
    assert seen == []


def test_a_total_failure_is_a_named_error(ask: Ask) -> None:
    """If no group could answer, the run raises the cause instead of ending with an empty answer."""
    graph, _ = supervisor({"energy": ConnectionError("x"), "digital": ConnectionError("x")})
    with pytest.raises(ModelServerUnavailableError, match="ollama serve"):
        ask(graph, "energy+digital: a?")


def test_different_failures_are_all_told(ask: Ask) -> None:
    """Failures of different kinds are one error that names each group's."""
    graph, _ = supervisor({"energy": RuntimeError("boom"), "digital": ModelError("no luck")})
    with pytest.raises(SupervisorError, match=r"energy: RuntimeError: boom.*digital: no luck"):
        ask(graph, "energy+digital: a?")


def test_a_resumed_run_asks_the_groups_that_failed_again(ask: Ask) -> None:
    """After a total failure the run can be resumed when the server is back, as often as needed."""
    down = True

    def energy(messages: list[Any]) -> Answer:
        return ConnectionError("down") if down else "We are back."

    graph, _ = supervisor({"energy": energy})
    with pytest.raises(ModelServerUnavailableError):
        ask(graph, "energy: a?")
    with pytest.raises(ModelServerUnavailableError):
        ask(graph, None)
    down = False
    result = ask(graph, None)
    assert [message.text for message in result["messages"]] == ["energy: a?", "We are back."]


def test_after_a_failure_the_thread_goes_on(ask: Ask) -> None:
    """The state is intact: the next question is answered, and the unanswered one is not in its prompt."""
    answers: dict[str, Answer] = {"energy": "First."}
    graph, model = supervisor({"energy": lambda messages: answers["energy"]})
    ask(graph, "energy: one?")
    answers["energy"] = RuntimeError("boom")
    with pytest.raises(SupervisorError):
        ask(graph, "energy: two?")
    answers["energy"] = "Third."
    ask(graph, "energy: three?")
    assert [message.text for message in model.calls[-1][1:]] == ["energy: one?", "First.", "energy: three?"]


def test_an_empty_answer_is_no_answer(ask: Ask) -> None:
    """An empty answer is a failure; one that ran out of tokens gets advice other than to ask again."""
    graph, model = supervisor({"energy": "", "supervisor": "  "})
    for reason, hint in (("stop", "Ask again"), ("length", r"before it wrote any text.*num_predict")):
        model.done_reason = reason
        for question in ("energy: a?", "hello"):
            with pytest.raises(ModelError, match=rf"empty answer.*{hint}"):
                ask(graph, question)


def test_a_question_that_cannot_fit_is_refused_before_the_call(ask: Ask) -> None:
    """Ollama would cut it silently: an error gives the figures, and no model is asked."""
    graph, model = supervisor({}, num_ctx=1024)
    with pytest.raises(ContextOverflowError, match="num_ctx") as caught:
        ask(graph, "energy: " + "mot " * 5000)
    assert "1024" in str(caught.value)
    assert model.calls == []
    assert ask(graph, "energy: a?")["messages"][-1].text == "energy speaks."


def test_a_group_whose_instructions_do_not_leave_room_says_so(ask: Ask) -> None:
    """A question that fits alone, but not with the group's instructions, is refused as well."""
    graph, model = supervisor({}, num_ctx=300)
    with pytest.raises(ContextOverflowError):
        ask(graph, "energy: " + "word " * 60)
    assert model.calls == []


def test_a_server_that_is_down_is_named(ask: Ask) -> None:
    """With the real client, the error has the address without its password, and the command that fixes it."""
    settings = Settings(ollama_base_url="http://user:secret@127.0.0.1:9", ollama_model="m")
    graph = build_supervisor(make_chat_model(settings), router=FixedRouter(), checkpointer=InMemorySaver())
    with pytest.raises(ModelServerUnavailableError) as caught:
        ask(graph, "energy: a?")
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "ollama serve" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_errors_share_the_packages_base_class(ask: Ask) -> None:
    """An error that ends a run has the package's base class; the question stays in the thread."""
    graph, _ = supervisor({"energy": RuntimeError("boom")})
    with pytest.raises(EcowasError):
        ask(graph, "energy: a?")
    assert graph.get_state(in_thread("t")).values["messages"][-1].text == "energy: a?"


def test_reasoning_is_not_kept_as_speech(ask: Ask) -> None:
    """Text between thinking tags is in no answer and no later prompt; alone, it is no answer."""
    model = ScriptedModel(script=by_speaker({"energy": "<think>a secret</think>\n\nFive dams."}))
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver())
    assert ask(graph, "energy: how many?")["messages"][-1].text == "Five dams."
    ask(graph, "energy: and now?")
    assert not any("secret" in message.text for message in model.calls[-1])
    silent = ScriptedModel(script=by_speaker({"energy": "<think>a secret"}))
    with pytest.raises(ModelError, match="empty answer"):
        ask(build_supervisor(silent, router=FixedRouter()), "energy: how many?")


def test_a_rejected_and_a_failed_answer_end_the_turn(ask: Ask) -> None:
    """If one group failed and the other's answer was rejected, the turn ends by saying what is missing."""
    model = ScriptedModel(script=by_speaker({"energy": "118 francs.", "digital": RuntimeError("no line")}))
    graph = build_supervisor(
        model, router=FixedRouter(), checkpointer=InMemorySaver(), interrupt_before_release=["energy"]
    )
    ask(graph, "energy+digital: a?")
    result = ask(graph, Command(resume={"action": "reject", "reason": "wrong"}))
    assert {group: report["status"] for group, report in result["reports"].items()} == {
        "energy": "rejected",
        "digital": "failed",
    }
    assert "118" not in result["messages"][-1].text


def test_a_model_that_refuses_tools_and_everything_else_is_a_failure(ask: Ask) -> None:
    """A model that still asks for more without tools is not called again and again."""

    @tool
    def look(city: str) -> str:
        """Look at a city."""
        return city

    asked: list[int] = []

    def script(messages: Any) -> Any:
        asked.append(len(messages))
        raise ModelCapabilityError("The model can't chat.")

    model = ScriptedModel(script=script, tools=True)
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), tools={"energy": [look]})
    with pytest.raises(ModelCapabilityError, match="can't chat"):
        ask(graph, "energy: a?")
    assert len(asked) == 2
