"""Prompts always fit, whatever the conversation, and lose the oldest messages first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from ecowas_lc.errors import ContextOverflowError
from ecowas_lc.llm import make_chat_model
from ecowas_lc.llm.tokens import Window, count_tokens, shorten
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.trimming import exchanges, newest, prompt_of, remembered
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.scripted_model import Answer, FixedRouter, ScriptedModel, by_speaker, speaker_of
from tests.supervisor.conftest import Ask, asked, in_thread

WINDOW = Window.of(1024)


def exchange(n: int, words: int = 20, tools: int = 0) -> list[BaseMessage]:
    messages: list[BaseMessage] = [HumanMessage(f"question {n} " + "q " * words, id=f"q{n}")]
    for call in range(tools):
        calls = [{"name": "look_up", "args": {"n": call}, "id": f"c{n}-{call}"}]
        messages.append(AIMessage("", tool_calls=calls))
        messages.append(ToolMessage("result " * words, tool_call_id=f"c{n}-{call}"))
    return [*messages, AIMessage(f"answer {n} " + "a " * words, id=f"a{n}")]


def test_fifty_turns_fit(ask: Ask) -> None:
    """After 50 turns every prompt of every speaker fits, and the last ones know of the first by the summary."""

    def minutes(messages: list[BaseMessage]) -> Answer:
        return "The user is called Awa. " + ("She asked about kilns. " if "kilns" in messages[1].text else "")

    model = ScriptedModel(
        script=by_speaker(
            {
                "energy": lambda messages: "answer " * 60,
                "synthesis": {"views": {"energy": "view " * 40, "digital": "view " * 40}, "answer": "so " * 40},
                "summary": minutes,
            }
        ),
        structured=True,
    )
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), num_ctx=2048)
    window = Window.of(2048)
    for turn in range(50):
        who = ("energy", "energy+digital", "hello")[turn % 3]
        ask(graph, f"{who}: turn {turn}, " + ("my name is Awa " if turn == 0 else "and what else? ") * 8)
    assert max(count_tokens(prompt) for prompt in model.calls) <= window.prompt
    assert len(graph.get_state(in_thread("t")).values["messages"]) == 100
    last = next(prompt for prompt in reversed(model.calls) if speaker_of(prompt) == "energy")
    assert "The user is called Awa." in last[0].text
    assert len(last) >= 4, "the newest exchanges are still there as they were"
    summaries = sum(speaker_of(prompt) == "summary" for prompt in model.calls)
    assert 1 <= summaries <= 25, "a summary is not made for every turn"


def test_a_summary_of_messages_that_were_changed_is_not_used(ask: Ask) -> None:
    """Once a summarised message is corrected, no speaker is given the outdated summary."""
    model = ScriptedModel(script=by_speaker({"energy": "answer " * 60, "summary": "The user is called Awa."}))
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), num_ctx=2048)

    def read() -> bool:
        prompt = next(prompt for prompt in reversed(model.calls) if speaker_of(prompt) == "energy")
        return any("The user is called Awa." in message.text for message in prompt)

    for turn in range(20):
        ask(graph, f"energy: turn {turn}, my name is Awa " + "and what else? " * 8)
    assert read()
    first = graph.get_state(in_thread("t")).values["messages"][0]
    graph.update_state(in_thread("t"), {"messages": [HumanMessage("energy: my name is Fatou", id=first.id)]})
    ask(graph, "energy: and now?")
    assert not read()


def test_without_a_summary_prompts_are_trimmed_all_the_same(ask: Ask) -> None:
    """If a model can't summarise, the oldest turns are lost, never the answer."""
    model = ScriptedModel(script=by_speaker({"energy": "word " * 100, "summary": RuntimeError("boom")}))
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), num_ctx=1536)
    for turn in range(20):
        assert ask(graph, f"energy: {turn}?")["messages"][-1].text.startswith("word")
    assert max(count_tokens(prompt) for prompt in model.calls) <= Window.of(1536).prompt
    tried = sum(speaker_of(prompt) == "summary" for prompt in model.calls)
    assert 1 <= tried <= 10, "a failing summary is not tried with every turn"
    asked = [prompt for prompt in model.calls if speaker_of(prompt) == "energy"]
    assert asked[-1][-1].text == "energy: 19?"


def test_a_pause_in_the_summary_is_a_pause_of_the_run(ask: Ask) -> None:
    """A model that asks a person through langgraph does not count as failed."""
    script = by_speaker({"energy": "word " * 100, "summary": lambda _: interrupt("May I?")})
    graph = build_supervisor(
        ScriptedModel(script=script), router=FixedRouter(), checkpointer=InMemorySaver(), num_ctx=1536
    )
    found = next(found for turn in range(20) if (found := ask(graph, f"energy: {turn}?").get("__interrupt__")))
    assert [one.value for one in found] == ["May I?"]


def test_a_summary_that_is_no_longer_needed_is_not_made() -> None:
    """A run that was interrupted before its summary goes on without one, if the window is larger by now."""
    script = by_speaker({"energy": "word " * 100, "summary": KeyboardInterrupt()})
    saver, thread = InMemorySaver(), in_thread("t")
    graph = build_supervisor(ScriptedModel(script=script), router=FixedRouter(), checkpointer=saver, num_ctx=1536)

    def talk() -> None:
        for turn in range(20):
            graph.invoke(asked(f"energy: {turn}?"), thread)

    with pytest.raises(KeyboardInterrupt):
        talk()
    assert graph.get_state(thread).next
    model = ScriptedModel(script=script)
    larger = build_supervisor(model, router=FixedRouter(), checkpointer=saver, num_ctx=16_384)
    said = larger.invoke(None, thread)
    assert not larger.get_state(thread).next
    assert not said.get("summary")
    assert not model.calls


def test_an_exchange_is_kept_whole_or_not_at_all() -> None:
    """Trimming never parts a tool call from its result, nor an answer from its question."""
    past = [exchange(n, tools=2) for n in range(12)]
    prompt = prompt_of("System.", past, [HumanMessage("now?")], window=WINDOW, count=count_tokens)
    kept = prompt[1:-1]
    assert 0 < len(kept) < sum(map(len, past))
    assert kept == [message for whole in past[-len(exchanges(kept)) :] for message in whole]
    assert isinstance(kept[0], HumanMessage)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=12),
    st.integers(256, 4096),
)
def test_a_prompt_fits_or_is_refused(shape: list[tuple[int, int]], context: int) -> None:
    """For any conversation and window the prompt fits, from the system's text to the question."""
    window = Window.of(context)
    past = [exchange(n, words, tools) for n, (words, tools) in enumerate(shape)]
    turn: list[BaseMessage] = [HumanMessage("And now? " * 10)]
    prompt = prompt_of("You are somebody.", past, turn, window=window, count=count_tokens)
    assert count_tokens(prompt) <= window.prompt
    assert prompt[0].text == "You are somebody."
    assert prompt[-1] == turn[0]
    answered = {m.tool_call_id for m in prompt if isinstance(m, ToolMessage)}
    called = {call["id"] for m in prompt if isinstance(m, AIMessage) for call in m.tool_calls}
    assert answered == called


def test_long_results_of_tools_are_shortened_before_the_turn_is_given_up() -> None:
    """A tool may return more than fits: its result is cut and marked, its call stays."""
    call = AIMessage("", tool_calls=[{"name": "look_up", "args": {}, "id": "1"}])
    turn = [HumanMessage("how much?"), call, ToolMessage("figure " * 5000, tool_call_id="1")]
    prompt = prompt_of("System.", [], turn, window=WINDOW, count=count_tokens)
    assert count_tokens(prompt) <= WINDOW.prompt
    assert prompt[2] == call
    assert prompt[3].text.endswith("[…]")
    assert len(prompt[3].text) > 500, "no more is cut than must be"


def test_a_turn_that_cannot_fit_is_refused() -> None:
    """There is nothing to cut from a question: the error has the figures."""
    with pytest.raises(ContextOverflowError, match=r"768 at most.*context of 1024"):
        prompt_of("System.", [], [HumanMessage("mot " * 4000)], window=WINDOW, count=count_tokens)


def test_questions_without_an_answer_are_left_out() -> None:
    """A turn that failed leaves a question behind; models do not see it again."""
    messages = [HumanMessage("a?"), HumanMessage("b?"), AIMessage("B."), HumanMessage("c?")]
    assert [[m.text for m in whole] for whole in exchanges(messages)] == [["b?", "B."]]


def test_what_the_summary_covers_is_left_out() -> None:
    """Exchanges up to the summary's last message are not repeated; an unknown mark keeps everything."""
    talk = [exchange(n) for n in range(4)]
    assert remembered(talk, "a1") == talk[2:]
    assert remembered(talk, "gone", "energy") == talk


def test_the_newest_come_first_when_room_is_short() -> None:
    """Room for two is room for the newest two."""
    talk = [exchange(n) for n in range(5)]
    assert newest(talk, count_tokens(talk[3]) + count_tokens(talk[4]), count_tokens) == talk[3:]
    assert newest(talk, 0, count_tokens) == []


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("Which regulations apply to interconnection?", 8),
        ("Quelles réglementations s'appliquent à l'interconnexion ?", 16),
        ("2026-11-23 14:05:33 +225 07 08 09", 24),
        ("電力をどこから買うか", 20),
        ("🌍🌍🌍", 6),
    ],
)
def test_tokens_are_counted_on_the_safe_side(text: str, least: int) -> None:
    """Accents, digits and other scripts take more tokens than English letters do."""
    assert count_tokens([HumanMessage(text)]) >= least


@given(st.text(max_size=400), st.integers(8, 60))
def test_shortened_text_is_short(text: str, tokens: int) -> None:
    """A text cut to a number of tokens takes about that many at most, and begins as it did."""
    cut = shorten(text, tokens)
    assert count_tokens([HumanMessage(cut)]) <= tokens + 16
    assert cut == text or text.startswith(cut.removesuffix("[…]").rstrip())


def test_the_window_keeps_room_for_the_answer() -> None:
    """A quarter of the context, or the model's configured maximum."""
    assert (Window.of(4096).prompt, Window.of(4096).answer) == (3072, 1024)
    assert Window.of(32768).answer == 1024
    assert Window.of(4096, 200).answer == 200
    assert Window.of(4096, -1).answer == 1024
    assert Window.of(4096, 8000).answer == 2048


def test_a_model_that_counts_more_is_learnt_from(ask: Ask) -> None:
    """The model's own count of a prompt corrects the estimate for the next ones, only upwards."""

    class Counting(ScriptedModel):
        factor: float = 1.0

        def _result(self, whole: Any) -> Any:
            result = super()._result(whole)
            read = round(count_tokens(self.calls[-1]) * self.factor)
            usage = {"input_tokens": read, "output_tokens": 1, "total_tokens": read + 1}
            result.generations[0].message.usage_metadata = usage
            return result

    model = Counting(script=by_speaker({"energy": "word " * 60}))
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), num_ctx=2048)
    for turn in range(12):
        model.factor = 2.0 if turn == 0 else 0.1
        ask(graph, f"energy: {turn}?")
    assert max(count_tokens(prompt) for prompt in model.calls) <= Window.of(2048).prompt / 2


def test_a_users_own_counter_is_used(ask: Ask) -> None:
    """You can count with the model's own tokenizer."""
    counted: list[int] = []

    def counter(messages: Any) -> int:
        counted.append(len(messages))
        return 1_000_000

    model = ScriptedModel(script=by_speaker({}))
    graph = build_supervisor(model, router=FixedRouter(), token_counter=counter)
    with pytest.raises(ContextOverflowError):
        ask(graph, "energy: a?")
    assert counted


@pytest.mark.parametrize(
    ("on_model", "given", "holds"),
    [(2048, 8192, 8192), (8192, 2048, 2048), (None, 99_999, 8192), (99_999, None, 8192)],
)
def test_ollama_is_asked_for_the_context_that_prompts_are_cut_to(
    ask: Ask, on_model: int | None, given: int | None, holds: int
) -> None:
    """The graph's ``num_ctx`` comes before the model's, and neither is believed beyond the model's training."""
    with serving_stub() as stub:
        stub.trained = 8192
        model = make_chat_model(base_url=stub.url, model="tiny", num_ctx=on_model, num_predict=100_000)
        graph = build_supervisor(model, router=FixedRouter(), num_ctx=given)
        ask(graph, "energy: a?")
        [body] = stub.bodies("/api/chat")
        assert (body["options"]["num_ctx"], body["options"]["num_predict"]) == (holds, holds // 2)
        with pytest.raises(ContextOverflowError, match=f"context of {holds}"):
            ask(graph, "energy: " + "word " * holds)
        assert len(stub.bodies("/api/chat")) == 1
