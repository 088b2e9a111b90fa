"""Reasoning is separated from the answer, however a model writes it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from ecowas_lc.llm.reasoning import (
    ReasoningSplitter,
    reasoning_of,
    split_reasoning,
    with_reasoning_apart,
)
from ecowas_lc.llm.reasoning_apart import ReasoningApart

MARKED = [
    ("<think>hmm</think>\n\nFive.", "Five.", "hmm"),
    ("  \n<THINK>hmm</Think>Five.", "Five.", "hmm"),
    ("<thinking>hmm</thinking>Five.", "Five.", "hmm"),
    ("<think time='3'>hmm</think>Five.", "Five.", "hmm"),
    ("<thought>hmm</thought>Five.", "Five.", "hmm"),
    ("<reasoning>hmm</reasoning>Five.", "Five.", "hmm"),
    ("<seed:think>hmm</seed:think>Five.", "Five.", "hmm"),
    ("[THINK]hmm[/THINK]Five.", "Five.", "hmm"),
    ("◁think▷hmm◁/think▷Five.", "Five.", "hmm"),
    ("<|begin_of_thought|>hmm<|end_of_thought|>Five.", "Five.", "hmm"),
    (
        "<|channel|>analysis<|message|>hmm<|end|><|start|>assistant<|channel|>final<|message|>Five.",
        "Five.",
        "hmm",
    ),
    ("<think>never closed", "", "never closed"),
    ("<think></think>Five.", "Five.", ""),
    ("<think>\n\n</think>\n\nFive.", "Five.", ""),
    ("Two. <think>hmm</think> Five.", "Two. Five.", "hmm"),
    ("<think>a</think>One. <think>b</think>Two.", "One. Two.", "ab"),
    ("<think>a <think>b</think> c</think>Five.", "Five.", "a b c"),
    ("<think>a [/THINK] b</think>Five.", "Five.", "a [/THINK] b"),
    ("No tags, 1 < 2 and [x] <b>bold</b>", "No tags, 1 < 2 and [x] <b>bold</b>", ""),
    ("Models write `<think>` before they answer.", "Models write `<think>` before they answer.", ""),
    ("A half tag <thi", "A half tag <thi", ""),
]


def in_pieces(text: str, cuts: list[int]) -> tuple[str, str]:
    splitter = ReasoningSplitter()
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    parts = [splitter.take(text[start:end]) for start, end in pairwise(edges)]
    parts.append(splitter.end())
    return "".join(part.answer for part in parts), "".join(part.reasoning for part in parts)


@pytest.mark.parametrize(("text", "answer", "reasoning"), MARKED)
def test_a_whole_text_is_taken_apart(text: str, answer: str, reasoning: str) -> None:
    """Tags of every family, closed or not, never stay in the answer; text that only resembles one does."""
    assert split_reasoning(text) == (answer, reasoning)


@pytest.mark.parametrize(("text", "answer", "reasoning"), MARKED)
def test_a_stream_may_be_cut_anywhere(text: str, answer: str, reasoning: str) -> None:
    """Character by character, or cut at any one place, the answer and reasoning are the same."""
    for cuts in (list(range(len(text))), *([cut] for cut in range(len(text) + 1))):
        got_answer, got_reasoning = in_pieces(text, cuts)
        assert (got_answer.strip(), got_reasoning.strip()) == (answer, reasoning), cuts


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<thi", "nk>", "`", "a", " b", "[THINK]", "<", "İ"]), max_size=12
    ),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_pieces_do_not_matter(parts: list[str], cuts: list[int]) -> None:
    """The way a text is split into pieces changes nothing, whatever it contains."""
    text = "".join(parts)
    assert in_pieces(text, cuts) == in_pieces(text, [])


def test_an_answer_is_handed_on_at_once() -> None:
    """Only text that may be the start of a tag waits for the next piece."""
    splitter = ReasoningSplitter()
    assert splitter.take("Hello <").answer == "Hello "
    assert splitter.take("b> and").answer == "<b> and"
    assert splitter.take(" [").answer == " "
    assert splitter.end().answer == "["


def test_a_tag_that_is_only_mentioned_does_not_swallow_the_answer() -> None:
    """A model that reasons about tags may open one and never close it: its answer is still the answer."""
    text = "<think>They ask about <think> here.</think>It marks reasoning."
    assert split_reasoning(text).answer == "It marks reasoning."
    assert in_pieces(text, list(range(len(text))))[0] == "It marks reasoning."


def test_a_closing_tag_alone() -> None:
    """If the template opened the reasoning, all text before the tag is reasoning, and no stream shows it."""
    assert split_reasoning("hmm\n</think>\n\nFive.") == ("Five.", "hmm")
    assert "</think>" not in in_pieces("hmm\n</think>Five.", [3, 7, 9])[0]


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("<think>hmm</think>Five.", id="m"),
        AIMessage([{"type": "text", "text": "<think>hmm</think>"}, {"type": "text", "text": "Five."}], id="m"),
    ],
)
def test_a_message_gets_a_standard_reasoning_block(message: AIMessage) -> None:
    """The text is the answer, ``content_blocks`` begins with the reasoning; ids and the object are kept."""
    apart = with_reasoning_apart(message)
    assert (apart.text, apart.id, reasoning_of(apart)) == ("Five.", "m", "hmm")
    assert apart.content_blocks == [{"type": "reasoning", "reasoning": "hmm"}, {"type": "text", "text": "Five."}]
    assert "<think>" in message.text
    assert with_reasoning_apart(apart) is apart


def test_a_message_without_tags_stays_as_it_is() -> None:
    """Nothing is copied or trimmed needlessly; a separate reasoning field is read as well."""
    plain = AIMessage(" Five. ", additional_kwargs={"reasoning_content": "hmm"})
    assert with_reasoning_apart(plain) is plain
    assert reasoning_of(plain) == "hmm"
    assert reasoning_of(AIMessage("Five.")) == ""


def test_parts_of_a_message_are_taken_apart() -> None:
    """A model behind the wrapper may answer with a list of parts: reasoning leaves the texts, the rest stays."""
    picture = {"type": "image", "base64": "aGk="}
    said: Any = ["<think>hmm</think>One.", {"type": "text", "text": " Two."}, picture]

    class Parts(GenericFakeChatModel):
        def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
            yield ChatGenerationChunk(message=AIMessageChunk(said))

    inner = Parts(messages=iter([AIMessage(said)]))
    model = ReasoningApart(inner=inner)
    [streamed, *_] = model.stream("Go")
    assert streamed.content == ["One.", {"type": "text", "text": " Two."}, picture]
    assert streamed.additional_kwargs["reasoning_content"] == "hmm"
    whole = model.invoke("Go")
    assert (whole.text, whole.additional_kwargs["reasoning_content"]) == ("One. Two.", "hmm")
    assert picture in whole.content
    assert model._get_llm_string() != inner._get_llm_string()


async def test_a_text_that_ends_like_the_start_of_a_tag_is_whole() -> None:
    """Text held back in case a tag follows is streamed at the end, and so is unclosed reasoning."""

    class Ending(GenericFakeChatModel):
        said: str

        def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
            yield ChatGenerationChunk(message=AIMessageChunk(self.said, id="1"))
            yield ChatGenerationChunk(message=AIMessageChunk("", id="1"))

    for said, text, reasoning in (("1 <", "1 <", ""), ("<think>hmm <", "", "hmm <")):
        model = ReasoningApart(inner=Ending(messages=iter(()), said=said))
        for parts in ([*model.stream("Go")], [part async for part in model.astream("Go")]):
            whole = functools.reduce(operator.add, parts)
            assert (whole.text, whole.additional_kwargs.get("reasoning_content", "")) == (text, reasoning)
