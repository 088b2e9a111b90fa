"""Ollama's protocol over llama.cpp's: what is translated, without a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ecowas_lc.local_model.protocol import ChatRequest, RefusedError, Reply, loaded, whole

HELLO = [{"role": "user", "content": "hello"}]


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "m", "messages": HELLO} | fields).encode())


def chunk(content: str | None = None, **fields: Any) -> dict[str, Any]:
    finish_reason = fields.pop("finish_reason", None)
    delta = {"content": content} | fields.pop("delta", {})
    return {"choices": [{"delta": delta, "finish_reason": finish_reason}]} | fields


def test_options_are_translated_and_the_rest_have_ollamas_defaults() -> None:
    """An option that is given reaches llama.cpp under its name there; one that is not has Ollama's default."""
    body = request(options={"temperature": 0, "seed": 7, "num_predict": 9, "stop": ["x"], "top_k": 3}).to_engine()
    assert body["max_tokens"] == 9
    assert (body["temperature"], body["seed"], body["stop"], body["top_k"]) == (0, 7, ["x"], 3)
    assert (body["top_p"], body["repeat_penalty"]) == (0.9, 1.1)
    assert not {"num_predict", "num_ctx"} & body.keys()


def test_null_options_are_options_not_given() -> None:
    """``null`` leaves the default, as in Ollama, and never reaches llama.cpp."""
    body = request(options={"temperature": None, "num_predict": None}).to_engine()
    assert body["temperature"] == 0.8
    assert body["max_tokens"] == 512


@pytest.mark.parametrize("num_predict", [-1, -2, 0])
def test_num_predict_that_is_not_positive_is_no_limit(num_predict: int) -> None:
    """Not positive means until the window is full, as in Ollama."""
    assert request(options={"num_predict": num_predict}).to_engine()["max_tokens"] == -1


def test_options_about_loading_have_no_effect() -> None:
    """Options that Ollama takes when it loads a model, and unknown ones, are accepted and not passed on."""
    body = request(options={"num_gpu": 1, "num_thread": 8, "tfs_z": 1.0, "unheard_of": "x"}).to_engine()
    assert not {"num_gpu", "num_thread", "tfs_z", "unheard_of"} & body.keys()


def test_num_ctx_narrows_the_window_and_never_widens_it() -> None:
    """The window is the smaller of what is asked and what there is."""
    assert request(options={"num_ctx": 100}).window_tokens(4096) == 100
    assert request(options={"num_ctx": 100_000}).window_tokens(4096) == 4096
    assert request().window_tokens(4096) == 4096


def test_format_becomes_a_response_format() -> None:
    """``"json"`` asks for any JSON object, a schema for that schema, empty or null for text."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert request(format="json").to_engine()["response_format"] == {"type": "json_object"}
    assert request(format=schema).to_engine()["response_format"]["json_schema"] == {"schema": schema}
    for text in ("", None):
        assert "response_format" not in request(format=text).to_engine()


def test_earlier_tool_calls_are_translated() -> None:
    """A conversation with tool calls and their results, as Ollama's clients send it, reaches llama.cpp whole."""
    call = {"function": {"name": "look_up", "arguments": {"city": "Accra"}}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "31 °C", "tool_name": "look_up"},
    ]
    _, asked, told = request(messages=messages).to_engine()["messages"]
    [engine_call] = asked["tool_calls"]
    assert json.loads(engine_call["function"]["arguments"]) == {"city": "Accra"}
    assert told == {"role": "tool", "content": "31 °C", "name": "look_up"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model": 5}, "model"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages.0.content"),
        ({"stream": "yes"}, "stream"),
        ({"format": "yaml"}, "format"),
        ({"format": 5}, "format"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"temperature": -1}}, "options.temperature"),
        ({"options": {"num_predict": 1.5}}, "options.num_predict"),
        ({"options": {"num_ctx": 0}}, "options.num_ctx"),
        ({"options": {"seed": True}}, "options.seed"),
        ({"options": {"stop": "x"}}, "options.stop"),
    ],
)
def test_wrong_types_are_refused_by_name(fields: dict[str, Any], named: str) -> None:
    """A field of the wrong type is a 400 that names the field and repeats no value."""
    with pytest.raises(RefusedError, match=rf"invalid request: .*{named}") as refused:
        request(**fields)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    """A body that is not a JSON object in UTF-8 is a 400."""
    with pytest.raises(RefusedError, match="invalid request") as refused:
        ChatRequest.parse(body)
    assert refused.value.status == 400


def test_what_the_model_lacks_is_refused() -> None:
    """Images and thinking are refused in words, as Ollama does; thinking switched off is fine."""
    with pytest.raises(RefusedError, match="images"):
        request(messages=[{"role": "user", "content": "x", "images": ["aGk="]}]).to_engine()
    for think in (True, "low"):
        with pytest.raises(RefusedError, match="thinking"):
            request(think=think).to_engine()
    assert request(think=False).to_engine()["messages"] == HELLO


def test_a_reply_ends_with_counts_and_durations() -> None:
    """The last line carries why it ended, how many tokens, and durations in nanoseconds."""
    reply = Reply("m", 100)
    assert reply.take(chunk(prompt_progress={"total": 12})) is None
    line = reply.take(chunk("Hi"))
    assert line is not None
    assert line["message"] == {"role": "assistant", "content": "Hi"}
    assert line["done"] is False
    timings = {"prompt_ms": 1.5, "predicted_n": 3, "predicted_ms": 2.0}
    assert reply.take(chunk(finish_reason="stop", timings=timings)) is None
    end = reply.end()
    assert (end["done"], end["done_reason"]) == (True, "stop")
    assert (end["prompt_eval_count"], end["eval_count"]) == (12, 3)
    assert (end["prompt_eval_duration"], end["eval_duration"]) == (1_500_000, 2_000_000)
    assert end["total_duration"] >= end["load_duration"] > 0
    assert end["created_at"].endswith("Z")


def test_a_full_window_ends_the_reply_as_length() -> None:
    """The answer ends where prompt and answer fill the window, and says ``length``."""
    reply = Reply("m", 10)
    reply.take(chunk(prompt_progress={"total": 8}))
    reply.take(chunk("a", timings={"predicted_n": 1}))
    assert not reply.is_full
    reply.take(chunk("b", timings={"predicted_n": 2}))
    assert reply.is_full
    assert reply.end()["done_reason"] == "length"


@pytest.mark.parametrize(
    "overflow",
    [
        chunk(prompt_progress={"total": 10}),
        {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 10, "n_ctx": 10}},
    ],
)
def test_a_prompt_that_fills_the_window_is_refused(overflow: dict[str, Any]) -> None:
    """Nothing is cut off in silence, whether num_ctx or llama.cpp's own window is too small."""
    with pytest.raises(RefusedError, match="exceeds the context length: the prompt has 10 tokens") as refused:
        Reply("m", 10).take(overflow)
    assert refused.value.status == 400


def test_an_error_of_llama_cpp_keeps_its_status_and_words() -> None:
    """What llama.cpp reports as an error is passed on as one."""
    with pytest.raises(RefusedError, match="grammar") as refused:
        Reply("m", 10).take({"error": {"code": 400, "message": "failed to parse grammar"}})
    assert refused.value.status == 400


def test_tool_calls_are_put_together() -> None:
    """Calls that llama.cpp streams in pieces come out whole; one that was cut off does not come out."""
    reply = Reply("m", 100)
    pieces = [
        {"index": 0, "function": {"name": "look_up", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city":'}},
        {"index": 1, "function": {"name": "cut_off", "arguments": '{"a'}},
        {"index": 0, "function": {"arguments": ' "Accra"}'}},
    ]
    for piece in pieces:
        reply.take(chunk(delta={"tool_calls": [piece]}))
    reply.take(chunk(finish_reason="tool_calls"))
    end = reply.end()
    assert end["message"]["tool_calls"] == [{"function": {"name": "look_up", "arguments": {"city": "Accra"}}}]
    assert end["done_reason"] == "stop"


def test_the_whole_is_the_lines_joined() -> None:
    """Without streaming, the one answer has all the text and the last line's counts."""
    reply = Reply("m", 100)
    lines = [line for text in ("a", "b") if (line := reply.take(chunk(text)))]
    answer = whole([*lines, reply.end()])
    assert answer["message"] == {"role": "assistant", "content": "ab"}
    assert answer["done"] is True


def test_no_messages_is_a_question_whether_it_is_loaded() -> None:
    """An empty message list is answered with ``load`` and no text."""
    answer = loaded("m")
    assert (answer["done"], answer["done_reason"], answer["message"]["content"]) == (True, "load", "")
