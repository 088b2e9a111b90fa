"""Ollama's chat protocol on one side, llama.cpp's chat completions on the other; no I/O.

A request is checked and translated by :class:`ChatRequest`; an answer is followed by :class:`Reply`.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

DEFAULT_OPTIONS: dict[str, Any] = {
    "num_predict": 512,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
}
"""A request's ``options`` where it does not say: Ollama's own, and an end to rambling."""


class RefusedError(Exception):
    """A request is answered with an HTTP status and ``{"error": message}``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """The request that ``body`` holds.

        Raises:
            RefusedError: 400, naming what can't be used.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            problems = (
                f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
            )
            raise RefusedError(400, f"invalid request: {'; '.join(problems)}") from None


class _Options(_Body):
    """Ollama's options that mean the same to llama.cpp; those about loading a model have no effect here."""

    frequency_penalty: float | None = None
    min_p: float | None = None
    mirostat: int | None = None
    mirostat_eta: float | None = None
    mirostat_tau: float | None = None
    num_ctx: int | None = Field(default=None, ge=1)
    num_predict: int | None = None
    presence_penalty: float | None = None
    repeat_last_n: int | None = Field(default=None, ge=-1)
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    temperature: float | None = Field(default=None, ge=0)
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None


class _Function(_Body):
    name: str
    arguments: dict[str, Any]


class _ToolCall(_Body):
    function: _Function


class _Message(_Body):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    images: list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None

    def to_engine(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role, "content": self.content or ""}
        if self.tool_name:
            message["name"] = self.tool_name
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": json.dumps(call.function.arguments),
                    },
                }
                for call in self.tool_calls
            ]
        return message


class _ToolFunction(_Body):
    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None


class _Tool(_Body):
    type: Literal["function"] = "function"
    function: _ToolFunction


def _check_format(value: Any) -> Any:
    if value is None or isinstance(value, dict) or value in ("", "json"):
        return value
    raise ValueError('must be "json" or a JSON schema object')


class ChatRequest(_Body):
    """The body of ``POST /api/chat``."""

    model: str
    messages: list[_Message] | None = None
    stream: bool | None = None
    format: Annotated[Any, AfterValidator(_check_format)] = None
    tools: list[_Tool] | None = None
    options: _Options | None = None
    think: bool | str | None = None

    def window_tokens(self, most: int) -> int:
        """The context window: ``num_ctx`` where it asks for less than there is."""
        asked = self.options.num_ctx if self.options else None
        return min(asked or most, most)

    def to_engine(self) -> dict[str, Any]:
        """The same request for llama.cpp: always streamed, since only a stream can be stopped.

        Raises:
            RefusedError: 400 for what the model can't do: images, thinking.
        """
        if self.think:
            raise RefusedError(400, f"{self.model!r} does not support thinking")
        if any(message.images for message in self.messages or ()):
            raise RefusedError(400, f"{self.model!r} does not support images")
        asked = self.options.model_dump(exclude_none=True, exclude={"num_ctx"}) if self.options else {}
        options = DEFAULT_OPTIONS | asked
        num_predict = options.pop("num_predict")
        body = options | {
            "messages": [message.to_engine() for message in self.messages or ()],
            "max_tokens": num_predict if num_predict > 0 else -1,  # as in Ollama: until the window is full
            "reasoning_format": "none",
            "return_progress": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
        }
        if self.tools:
            body["tools"] = [tool.model_dump(exclude_none=True) for tool in self.tools]
        if self.format == "json":
            body["response_format"] = {"type": "json_object"}
        elif self.format:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": self.format}}
        return body


class ShowRequest(_Body):
    """The body of ``POST /api/show``."""

    model: str


class Reply:
    """One answer as it grows: takes llama.cpp's chunks, gives Ollama's lines.

    Args:
        model: the name to answer under.
        window_tokens: the most that the prompt and its answer may have together.
    """

    def __init__(self, model: str, window_tokens: int) -> None:
        self._model = model
        self._window_tokens = window_tokens
        self._started = time.perf_counter_ns()
        self._first_chunk: int | None = None
        self._prompt_tokens = 0
        self._timings: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._calls: dict[int, tuple[str, str]] = {}  # by index: name, and what came of the arguments' JSON

    @property
    def is_full(self) -> bool:
        """Whether the window has no room for another token."""
        return self._prompt_tokens + self._answer_tokens >= self._window_tokens

    @property
    def _answer_tokens(self) -> int:
        return int(self._timings.get("predicted_n", 0))

    def take(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """The line that ``chunk`` makes, if it holds text.

        Raises:
            RefusedError: the prompt leaves no room in the window, or llama.cpp reports an error.
        """
        if error := chunk.get("error"):
            if error.get("type") == "exceed_context_size_error":
                raise _overflow(error["n_prompt_tokens"], error["n_ctx"])
            raise RefusedError(int(error.get("code", 500)), str(error.get("message", error)))
        self._first_chunk = self._first_chunk or time.perf_counter_ns()
        self._timings = chunk.get("timings", self._timings)
        if progress := chunk.get("prompt_progress"):
            self._prompt_tokens = progress["total"]
            if self._prompt_tokens >= self._window_tokens:
                raise _overflow(self._prompt_tokens, self._window_tokens)
        content = ""
        for choice in chunk.get("choices", ()):
            content += choice["delta"].get("content") or ""
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            for part in choice["delta"].get("tool_calls") or ():
                name, arguments = self._calls.get(part["index"], ("", ""))
                function = part.get("function", {})
                self._calls[part["index"]] = (
                    name + (function.get("name") or ""),
                    arguments + (function.get("arguments") or ""),
                )
        return self._line({"content": content}) if content else None

    def end(self) -> dict[str, Any]:
        """The last line: tool calls, why the answer ended, token counts, durations in nanoseconds."""
        now = time.perf_counter_ns()
        calls = [
            {"function": {"name": name, "arguments": arguments}}
            for name, text in self._calls.values()
            if (arguments := _object(text)) is not None
        ]
        message = {"content": ""} | ({"tool_calls": calls} if calls else {})
        was_cut = self._finish_reason in (None, "length")
        return self._line(message) | {
            "done": True,
            "done_reason": "length" if was_cut else "stop",
            "total_duration": now - self._started,
            "load_duration": (self._first_chunk or now) - self._started,
            "prompt_eval_count": self._prompt_tokens,
            "prompt_eval_duration": _nanoseconds(self._timings.get("prompt_ms", 0)),
            "eval_count": self._answer_tokens,
            "eval_duration": _nanoseconds(self._timings.get("predicted_ms", 0)),
        }

    def _line(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "model": self._model,
            "created_at": _now(),
            "message": {"role": "assistant", **message},
            "done": False,
        }


def whole(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The one object that answers a request with ``"stream": false``, from all of a reply's lines."""
    last = lines[-1]
    text = "".join(line["message"]["content"] for line in lines)
    return last | {"message": last["message"] | {"content": text}}


def loaded(model: str) -> dict[str, Any]:
    """The answer to a request without messages, which only asks for the model to be loaded: it always is."""
    return {
        "model": model,
        "created_at": _now(),
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "load",
    }


def _overflow(prompt_tokens: int, window_tokens: int) -> RefusedError:
    return RefusedError(
        400,
        f"the input length exceeds the context length: the prompt has {prompt_tokens} tokens, and prompt and "
        f"answer together may have {window_tokens}. Shorten the prompt (nothing is cut off it here), or ask "
        "for a larger num_ctx if yours is below what /api/ps reports.",
    )


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object in ``text``; None for one that ``num_predict`` cut off."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
