"""The local model through ``ChatOllama``: the features that applications use, never the text it writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from pydantic import BaseModel, Field

from tests.fixtures.local_model import ENDLESS_SCHEMA

pytestmark = pytest.mark.llm

ChatFactory = Callable[..., ChatOllama]
SECONDS = 30.0
"""An answer to a short question, on loaded cores; an endless one that held it up would take minutes."""


class Choice(BaseModel):
    """Which groups a question concerns."""

    groups: list[Literal["energy", "minerals"]] = Field(min_length=1, max_length=2)
    urgent: bool


def test_invoke(chat_ollama: ChatFactory) -> None:
    """A conversation is answered with text, a finish reason and token usage."""
    answer = chat_ollama().invoke([SystemMessage("Be brief."), HumanMessage("Bonjour, ça va ?")])
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.response_metadata["done_reason"] in ("stop", "length")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] > 0
    assert 0 < answer.usage_metadata["output_tokens"] <= 16


def test_num_predict_is_honoured(chat_ollama: ChatFactory) -> None:
    """``num_predict`` limits an answer's tokens, and ``done_reason`` says that the limit was reached."""
    answer = chat_ollama(num_predict=3, format=ENDLESS_SCHEMA).invoke("Count.")
    assert answer.response_metadata["done_reason"] == "length"
    assert answer.response_metadata["eval_count"] == 3


def test_stream(chat_ollama: ChatFactory) -> None:
    """Text comes in several chunks, and the last one has the metadata."""
    chunks = list(chat_ollama(format=ENDLESS_SCHEMA).stream("Count."))
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    assert [chunk.response_metadata.get("done_reason") for chunk in chunks if chunk.response_metadata] == [
        "length"
    ]


async def test_astream_and_ainvoke(chat_ollama: ChatFactory) -> None:
    """The async methods return the same."""
    model = chat_ollama(format=ENDLESS_SCHEMA)
    texts = [chunk.text async for chunk in model.astream("Count.") if chunk.text]
    assert len(texts) > 3
    assert (await model.ainvoke("Count.")).text


def test_structured_output(chat_ollama: ChatFactory) -> None:
    """``with_structured_output`` by JSON schema returns an object of the class, every time."""
    model = chat_ollama(num_predict=300).with_structured_output(Choice, method="json_schema")
    for question in ("Which group is for dams?", "Quel groupe pour le cacao ?"):
        assert isinstance(model.invoke(question), Choice)


async def test_structured_output_async(chat_ollama: ChatFactory) -> None:
    """Several async questions at once are streamed, too."""
    model = chat_ollama(num_predict=300).with_structured_output(Choice, method="json_schema")
    answers = await asyncio.gather(*(model.ainvoke(f"Which group is for dam {n}?") for n in range(3)))
    assert all(isinstance(answer, Choice) for answer in answers)


def test_an_unknown_model_is_404(chat_ollama: ChatFactory) -> None:
    """A missing model raises the same error that Ollama makes ``ChatOllama`` raise."""
    with pytest.raises(ollama.ResponseError, match="model 'qwen3:4b' not found") as missing:
        chat_ollama(model="qwen3:4b").invoke("Hello")
    assert missing.value.status_code == 404


def test_validate_model_on_init(chat_ollama: ChatFactory) -> None:
    """The model passes ``ChatOllama``'s own check that it exists."""
    assert chat_ollama(validate_model_on_init=True).model


def test_chat_ollama_can_not_forbid_the_cut(chat_ollama: ChatFactory) -> None:
    """langchain-ollama has no way to say ``truncate: false``; when it gets one, ours can go."""
    with pytest.raises(TypeError, match="truncate"):
        chat_ollama().invoke("Hello", truncate=False)


def test_a_broken_off_stream_frees_the_model(chat_ollama: ChatFactory) -> None:
    """After streams that were closed half-way, the next question is answered without waiting for them."""
    model = chat_ollama(format=ENDLESS_SCHEMA, num_predict=-1)
    for _ in range(3):
        stream = model.stream("Count forever.")
        assert next(stream).text
        stream.close()
    before = time.monotonic()
    assert chat_ollama(num_predict=4).invoke("Hello").text
    assert time.monotonic() - before < SECONDS


async def test_a_cancelled_task_frees_the_model(chat_ollama: ChatFactory) -> None:
    """After tasks that were cancelled in mid-answer, the next question is answered without waiting."""
    model = chat_ollama(format=ENDLESS_SCHEMA, num_predict=-1)
    started = asyncio.Queue[str]()

    async def listen() -> None:
        async for chunk in model.astream("Count forever."):
            started.put_nowait(chunk.text)

    tasks = [asyncio.create_task(listen()) for _ in range(3)]
    await asyncio.wait_for(started.get(), 30)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    before = time.monotonic()
    assert (await chat_ollama(num_predict=4).ainvoke("Hello")).text
    assert time.monotonic() - before < SECONDS


async def test_concurrent_questions_get_their_own_answers(chat_ollama: ChatFactory) -> None:
    """Four questions at once are all answered, each with its own schema."""
    models = [chat_ollama(format={"const": f"answer {n}"}) for n in range(4)]
    answers = await asyncio.gather(*(model.ainvoke("Answer.") for model in models))
    assert [answer.text for answer in answers] == [f'"answer {n}"' for n in range(4)]


def test_tools_are_refused(chat_ollama: ChatFactory) -> None:
    """The model calls no tools, and says so as Ollama does; it reads the results of another model's calls."""

    @tool
    def weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"31 degrees in {city}"

    question = HumanMessage("What is the weather in Accra?")
    with pytest.raises(ollama.ResponseError, match="does not support tools") as refused:
        chat_ollama().bind_tools([weather]).invoke([question])
    assert refused.value.status_code == 400
    call = {"name": "weather", "args": {"city": "Accra"}, "id": "call-1", "type": "tool_call"}
    asked = AIMessage("", tool_calls=[call])
    told = ToolMessage("31 degrees in Accra", tool_call_id="call-1")
    assert isinstance(chat_ollama().invoke([question, asked, told]), AIMessage)


def test_reasoning_is_refused_and_may_be_switched_off(chat_ollama: ChatFactory) -> None:
    """The model does not think: asking for it is an error, switching it off is fine."""
    assert chat_ollama(reasoning=False).invoke("Hello").text
    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        chat_ollama(reasoning=True).invoke("Hello")
