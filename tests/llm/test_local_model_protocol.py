"""The translation of Ollama's protocol to llama.cpp's, without a model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from ecowas_lc.local_model import process
from ecowas_lc.local_model.engine import Engine
from ecowas_lc.local_model.protocol import (
    ChatRequest,
    Manner,
    RefusedError,
    Reply,
    check_model,
    keep_seconds,
    kept_tokens,
    loaded,
    whole,
)

KIND, AWKWARD = Manner(), Manner(awkward=True)
HELLO = [{"role": "user", "content": "hello"}]


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "smollm2:135m", "messages": HELLO} | fields).encode())


def chunk(content: str | None = None, **fields: Any) -> dict[str, Any]:
    finish_reason = fields.pop("finish_reason", None)
    delta = {"content": content} | fields.pop("delta", {})
    return {"choices": [{"delta": delta, "finish_reason": finish_reason}]} | fields


def test_options_are_translated_and_the_rest_have_ollamas_defaults() -> None:
    """An option reaches llama.cpp under llama.cpp's name; a missing one has Ollama's default."""
    body = request(options={"temperature": 0, "seed": 7, "num_predict": 9, "stop": ["x"], "top_k": 3}).to_engine(
        KIND
    )
    assert body["max_tokens"] == 9
    assert (body["temperature"], body["seed"], body["stop"], body["top_k"]) == (0, 7, ["x"], 3)
    assert (body["top_p"], body["repeat_penalty"]) == (0.9, 1.1)
    assert not {"num_predict", "num_ctx"} & body.keys()


def test_null_options_are_options_not_given() -> None:
    """``null`` leaves the default, as in Ollama, and never reaches llama.cpp."""
    body = request(options={"temperature": None, "num_predict": None}).to_engine(KIND)
    assert body["temperature"] == 0.8
    assert body["max_tokens"] == 512


@pytest.mark.parametrize("num_predict", [-1, -2, 0])
def test_num_predict_that_is_not_positive_is_no_limit(num_predict: int) -> None:
    """Not positive means until the window is full; the awkward server writes up to ten windows, as Ollama does."""
    asked = request(options={"num_predict": num_predict, "num_ctx": 100})
    assert asked.to_engine(KIND)["max_tokens"] == -1
    assert asked.to_engine(AWKWARD)["max_tokens"] == 1000
    assert request(options={"num_ctx": 100}).to_engine(AWKWARD)["max_tokens"] == 1000


def test_options_about_loading_have_no_effect() -> None:
    """Options that Ollama takes when it loads a model, and unknown ones, are accepted and not passed on."""
    body = request(options={"num_gpu": 1, "num_thread": 8, "tfs_z": 1.0, "unheard_of": "x"}).to_engine(KIND)
    assert not {"num_gpu", "num_thread", "tfs_z", "unheard_of"} & body.keys()


def test_the_window_is_what_is_asked_for_up_to_the_training() -> None:
    """``num_ctx`` decides; 4,096 by default, never more than the model was trained for."""
    for asked, expected in (
        ({}, 4096),
        ({"num_ctx": 100}, 100),
        ({"num_ctx": 6000}, 6000),
        ({"num_ctx": 10**6}, 8192),
    ):
        assert request(options=asked).num_ctx == expected


def test_only_the_awkward_server_cuts_and_goes_on_and_only_unless_told_not_to() -> None:
    """``truncate`` and ``shift`` are heeded as Ollama heeds them; the kind server needs no telling."""
    for rule in (AWKWARD.cuts, AWKWARD.shifts):
        assert (rule(None), rule(True), rule(False)) == (True, True, False)
    assert not any(rule(asked) for rule in (KIND.cuts, KIND.shifts) for asked in (None, True, False))
    assert (kept_tokens(4096), kept_tokens(256)) == (2050, 130)  # as recorded


@pytest.mark.parametrize(
    "name",
    [
        "smollm2:135m",
        "SmolLM2:135M",
        "library/smollm2:135m",
        "registry.ollama.ai/library/smollm2:135m",
        "Registry.Ollama.AI/Library/smollm2:135m",
    ],
)
def test_a_model_has_many_names(name: str) -> None:
    """Case, the library and its registry make no difference, as in Ollama."""
    check_model(name)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (None, 400),
        ("", 400),
        ("a b:::c", 400),
        ("a/b/c/d:e", 400),
        ("smollm2", 404),
        ("smollm2:latest", 404),
        ("me/smollm2:135m", 404),
        ("hf.co/library/smollm2:135m", 404),
    ],
)
def test_other_names_are_other_models(name: str | None, status: int) -> None:
    """No name, no valid name, and another model's name each get Ollama's answer."""
    with pytest.raises(RefusedError) as refused:
        check_model(name)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 300.0),
        (0, 0.0),
        ("0", 0.0),
        (90, 90.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        (-1, None),
    ],
)
def test_keep_alive_is_seconds_or_a_duration(value: Any, seconds: float | None) -> None:
    """Numbers are seconds, texts are durations as Go writes them, less than nothing is forever."""
    assert keep_seconds(value) == seconds
    assert keep_seconds("-1m") is None


@pytest.mark.parametrize("value", ["soon", "", "5", "m", "1.2.3s", "5x", [], True])
def test_a_bad_keep_alive_is_refused(value: Any) -> None:
    """Errors use Ollama's words."""
    with pytest.raises(RefusedError, match="time: invalid duration"):
        keep_seconds(value)


def test_format_becomes_a_response_format() -> None:
    """``"json"`` asks for any JSON object, a schema for that schema, empty or null for text."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert request(format="json").to_engine(KIND)["response_format"] == {"type": "json_object"}
    assert request(format=schema).to_engine(KIND)["response_format"]["json_schema"] == {"schema": schema}
    for text in ("", None):
        assert "response_format" not in request(format=text).to_engine(KIND)


def test_earlier_tool_calls_are_translated() -> None:
    """A conversation with tool calls and their results, as Ollama's clients send it, reaches llama.cpp whole."""
    call = {"function": {"name": "look_up", "arguments": {"city": "Accra"}}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "31 °C", "tool_name": "look_up"},
    ]
    _, asked, told = request(messages=messages).to_engine(KIND)["messages"]
    [engine_call] = asked["tool_calls"]
    assert json.loads(engine_call["function"]["arguments"]) == {"city": "Accra"}
    assert told == {"role": "tool", "content": "31 °C", "name": "look_up"}


@pytest.mark.parametrize(
    ("fields", "status", "named"),
    [
        ({"model": 5}, 400, "invalid request: model"),
        ({"messages": "hello"}, 400, "invalid request: messages"),
        (
            {"messages": [{"role": "user", "content": {"text": "x"}}]},
            400,
            r"invalid request: messages\.0\.content",
        ),
        ({"stream": "yes"}, 400, "invalid request: stream"),
        (
            {"format": "yaml"},
            500,
            'invalid format: "\\\\"yaml\\\\""; expected "json" or a valid JSON Schema object',
        ),
        ({"format": 5}, 500, "invalid format"),
        ({"options": {"temperature": "hot"}}, 500, 'option "temperature" must be of type float32'),
        ({"options": {"seed": True}}, 500, 'option "seed" must be of type integer'),
        ({"options": {"stop": "x"}}, 500, 'option "stop" must be of type array'),
    ],
)
def test_wrong_types_are_refused_by_name(fields: dict[str, Any], status: int, named: str) -> None:
    """A field of the wrong type is refused as Ollama refuses it; the error names the field."""
    with pytest.raises(RefusedError, match=named) as refused:
        request(**fields).check()
    assert refused.value.status == status


def test_what_ollama_tolerates_is_taken() -> None:
    """Any role or none, whole numbers written as fractions, negative temperatures, unknown options."""
    asked = request(
        messages=[{"role": "boss", "content": "x"}, {"content": None}],
        options={"num_predict": 4.0, "temperature": -1, "frobnicate": "x", "num_ctx": 0},
    )
    asked.check()
    body = asked.to_engine(KIND)
    assert (body["max_tokens"], body["temperature"], asked.num_ctx) == (4, 0.0, 4096)
    assert [message["role"] for message in body["messages"]] == ["boss", ""]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    """A body that is not a JSON object in UTF-8 is a 400."""
    with pytest.raises(RefusedError, match="invalid request" if body else "missing request body") as refused:
        ChatRequest.parse(body)
    assert refused.value.status == 400


def test_what_the_model_lacks_is_refused() -> None:
    """Images, tools and thinking are refused in Ollama's words; thinking switched off is fine."""
    tool = {"type": "function", "function": {"name": "weather"}}
    for fields, said in (
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "does not support multimodal"),
        ({"tools": [tool]}, "registry.ollama.ai/library/smollm2:135m does not support tools"),
        ({"think": True}, '"smollm2:135m" does not support thinking'),
        ({"think": "low"}, "does not support thinking"),
    ):
        with pytest.raises(RefusedError, match=said) as refused:
            request(**fields).check()
        assert refused.value.status == 400
    request(think=False, tools=[]).check()


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
    """Nothing is silently cut, whether num_ctx or llama.cpp's own window is too small."""
    with pytest.raises(RefusedError, match=r"request \(10 tokens\) exceeds the available context size") as refused:
        Reply("m", 10).take(overflow)
    assert refused.value.status == 400


def test_an_error_of_llama_cpp_keeps_its_status_and_words() -> None:
    """An error that llama.cpp reports is passed on as an error."""
    with pytest.raises(RefusedError, match="grammar") as refused:
        Reply("m", 10).take({"error": {"code": 400, "message": "failed to parse grammar"}})
    assert refused.value.status == 400


def test_tool_calls_are_put_together() -> None:
    """Calls that llama.cpp streams in pieces are returned whole; one that was cut off is dropped."""
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


def test_an_awkward_reply_goes_on() -> None:
    """If Ollama shifts its context, a full window does not end an answer."""
    reply = Reply("m", 10, goes_on=True)
    reply.take(chunk(prompt_progress={"total": 10}))
    reply.take(chunk("a", timings={"predicted_n": 5}))
    assert not reply.is_full


def test_logprobs_are_translated() -> None:
    """A token's probability, and those of others, come with the line that has it."""
    entry = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    body = request(logprobs=True, top_logprobs=1).to_engine(KIND)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 1)
    told = chunk("a")
    told["choices"][0]["logprobs"] = {"content": [entry]}
    reply = Reply("m", 100)
    line = reply.take(told)
    assert line is not None
    assert line["logprobs"] == [entry]
    assert whole([line, reply.end()])["logprobs"] == [entry]


def test_no_messages_is_a_question_whether_it_is_loaded() -> None:
    """An empty message list is answered with ``load`` and no text."""
    answer = loaded("m")
    assert (answer["done"], answer["done_reason"], answer["message"]["content"]) == (True, "load", "")


async def test_an_engine_that_fails_answers_with_its_error() -> None:
    """Any exception of llama.cpp ends the request: refusals with 400, other failures with 500."""
    engine = Engine.__new__(Engine)
    engine._workers = ThreadPoolExecutor(1)
    for error, status in ((ValueError("no grammar"), 400), (RuntimeError("decode failed"), 500)):

        def fail(*_: Any, error: Exception = error) -> None:
            raise error

        engine._server = SimpleNamespace(handle_chat_completions=fail)
        with pytest.raises(RefusedError, match=str(error)) as raised:
            async for _ in engine.chat({}):
                pass
        assert raised.value.status == status
    assert await engine.tail("One two.", 0) == ""
    engine.__exit__()


def test_a_model_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process ends when its input is closed, or is killed after a time limit, so none is left running."""
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.05)
    code = "import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process._stop(child)
    assert child.returncode == -signal.SIGKILL
