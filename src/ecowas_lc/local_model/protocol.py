"""Translation between Ollama's chat protocol and llama.cpp's chat completions; no I/O.

:class:`ChatRequest` checks and translates a request, and :class:`Reply` translates the answer. Messages, status
codes and tolerances follow recordings of Ollama 0.32, unless a comment says otherwise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ecowas_lc.local_model.install import MODEL_NAME

TRAINED_TOKENS = 8192
"""The context that the model was trained for: no request gets more, whatever its ``num_ctx``."""

DEFAULT_NUM_CTX = 4096
"""The context of a request without ``num_ctx``: Ollama's default on a machine without a large graphics card."""

KIND_NUM_PREDICT = 512
"""Maximum tokens of an answer if the request sets no limit, because a small model rambles."""

_ENDLESS_FACTOR = 10  # Ollama ends an answer without a limit after this multiple of num_ctx
_SAMPLING: dict[str, Any] = {
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
}
_OPTION_TYPES = {
    "frequency_penalty": "float32",
    "min_p": "float32",
    "mirostat": "integer",
    "mirostat_eta": "float32",
    "mirostat_tau": "float32",
    "num_batch": "integer",
    "num_ctx": "integer",
    "num_gpu": "integer",
    "num_keep": "integer",
    "num_predict": "integer",
    "num_thread": "integer",
    "presence_penalty": "float32",
    "repeat_last_n": "integer",
    "repeat_penalty": "float32",
    "seed": "integer",
    "stop": "array",
    "temperature": "float32",
    "top_k": "integer",
    "top_p": "float32",
    "typical_p": "float32",
}
_OF_LOADING = {"num_batch", "num_ctx", "num_gpu", "num_keep", "num_predict", "num_thread"}
_REGISTRY, _NAMESPACE = "registry.ollama.ai", "library"
_DEFAULT_KEEP_ALIVE = 300.0
_FOREVER = timedelta(days=292 * 365)  # as far ahead as Go's durations reach
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class RefusedError(Exception):
    """A refusal of a request, with an HTTP status and ``{"error": message}``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def nested(message: str, kind: str = "invalid_request_error", **more: Any) -> str:
    """Return the error that Ollama 0.32 passes on from llama.cpp: JSON inside the text."""
    error = {"code": 400, "message": message, "type": kind, **more}
    return json.dumps({"error": error}, separators=(",", ":"), ensure_ascii=False)


def check_model(name: str | None) -> None:
    """Check that ``name`` is a name of the model, in any case, with or without the library's prefix and tag.

    Raises:
        RefusedError: 400 if it is not a name, 404 if it is another model's.
    """
    if not name:
        raise RefusedError(400, "model is required")
    parts = _name_parts(name)
    if parts is None:
        raise RefusedError(400, "invalid model name")
    if parts != _name_parts(MODEL_NAME):
        raise RefusedError(404, f"model '{name}' not found")


def _name_parts(name: str) -> tuple[str, ...] | None:
    rest, _, tag = name.lower().rpartition(":")
    if not rest or "/" in tag:
        rest, tag = name.lower(), "latest"
    parts = rest.removeprefix("https://").removeprefix("http://").split("/")
    defaults = [_REGISTRY, _NAMESPACE]
    parts = [*defaults[: max(0, 3 - len(parts))], *parts]
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
    host, *names = parts
    is_valid = len(parts) == 3 and all(parts) and set(host) <= allowed | {":"} and set("".join(names)) <= allowed
    return (*parts, tag) if is_valid and tag and set(tag) <= allowed else None


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Return the request that ``body`` holds, whatever its content type says.

        Raises:
            RefusedError: 400, naming what can't be used.
        """
        if not body.strip():
            raise RefusedError(400, "missing request body")
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            problems = (
                f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
            )
            raise RefusedError(400, f"invalid request: {'; '.join(problems)}") from None


class _Function(_Body):
    name: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)


class _ToolCall(_Body):
    function: _Function


class _Message(_Body):
    role: str | None = None  # Ollama accepts any role, or none
    content: str | None = None
    images: list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None

    def to_engine(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role or "", "content": self.content or ""}
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


def _check_format(value: Any) -> Any:
    if value is None or isinstance(value, dict) or value in ("", "json"):
        return value
    told = json.dumps(json.dumps(value))
    # with the status of a server error, as in Ollama
    raise RefusedError(500, f'invalid format: {told}; expected "json" or a valid JSON Schema object')


@dataclass(frozen=True, slots=True)
class Manner:
    """The server's behaviour in cases where Ollama's is inconvenient.

    Args:
        awkward: As a real Ollama: prompts are cut silently unless the request has ``"truncate": false``, an answer
            continues past the window unless it has ``"shift": false``, and answers without a limit end late.
    """

    awkward: bool = False

    def cuts(self, asked: bool | None) -> bool:
        """Return whether a prompt that is too long is cut."""
        return self.awkward and asked is not False

    def shifts(self, asked: bool | None) -> bool:
        """Return whether an answer continues when the window is full."""
        return self.awkward and asked is not False

    def most_tokens(self, num_predict: int | None, num_ctx: int) -> int:
        """Return the maximum tokens of an answer; -1 means only the window's limit."""
        if num_predict is not None and num_predict > 0:
            return num_predict
        if self.awkward:
            return _ENDLESS_FACTOR * num_ctx
        return KIND_NUM_PREDICT if num_predict is None else -1


class ChatRequest(_Body):
    """The body of ``POST /api/chat``."""

    model: str | None = None
    messages: list[_Message] | None = None
    stream: bool | None = None
    format: Annotated[Any, AfterValidator(_check_format)] = None
    tools: list[dict[str, Any]] | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: Any = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    @property
    def num_ctx(self) -> int:
        """The context window: the requested one, but no more than the model was trained for."""
        asked = self._options.get("num_ctx")
        return min(max(asked or DEFAULT_NUM_CTX, 4), TRAINED_TOKENS)

    @property
    def keep_seconds(self) -> float | None:
        """Seconds that the model stays loaded after the answer; ``None``: forever.

        Raises:
            RefusedError: 400, the value is not a duration.
        """
        return keep_seconds(self.keep_alive)

    @property
    def _options(self) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for name, value in (self.options or {}).items():
            kind = _OPTION_TYPES.get(name)
            if kind is None or value is None:
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            if kind == "array":
                is_right = isinstance(value, list) and all(isinstance(item, str) for item in value)
            else:
                is_right = is_number
            if not is_right:
                raise RefusedError(500, f'option "{name}" must be of type {kind}')
            checked[name] = int(value) if kind == "integer" else value
        return checked

    def check(self) -> None:
        """Check that the model supports the request.

        Raises:
            RefusedError: The request needs tools, thinking or images, or an option can't be used.
        """
        check_model(self.model)
        if self.think:
            raise RefusedError(400, f'"{self.model}" does not support thinking')
        if self.tools:
            tag = MODEL_NAME.partition(":")[2]
            full = "/".join([_REGISTRY, _NAMESPACE, MODEL_NAME.partition(":")[0]])
            raise RefusedError(400, f"{full}:{tag} does not support tools")
        _ = self._options, self.keep_seconds
        if any(message.images for message in self.messages or ()):
            raise RefusedError(
                400, nested("Multimodal data provided, but model does not support multimodal requests.")
            )

    def to_engine(self, manner: Manner) -> dict[str, Any]:
        """Return the same request for llama.cpp: always streamed, because only a stream can be stopped."""
        options = self._options
        body = _SAMPLING | {name: value for name, value in options.items() if name not in _OF_LOADING}
        if body["temperature"] < 0:
            body["temperature"] = 0.0
        body |= {
            "messages": [message.to_engine() for message in self.messages or ()],
            "max_tokens": manner.most_tokens(options.get("num_predict"), self.num_ctx),
            "reasoning_format": "none",
            "return_progress": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
        }
        if self.format == "json":
            body["response_format"] = {"type": "json_object"}
        elif self.format:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": self.format}}
        if self.logprobs or self.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        return body


class ShowRequest(_Body):
    """The body of ``POST /api/show``."""

    model: str | None = None
    name: str | None = None  # the field's name in older clients


def keep_seconds(value: Any) -> float | None:
    """Return a ``keep_alive`` in seconds; ``None`` is forever.

    Raises:
        RefusedError: 400, it is neither a number of seconds nor a duration such as ``5m``.
    """
    if value is None:
        return _DEFAULT_KEEP_ALIVE
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value >= 0 else None
    seconds = _go_duration(value) if isinstance(value, str) else None
    if seconds is None:
        raise RefusedError(400, f"time: invalid duration {json.dumps(value)}")
    return seconds if seconds >= 0 else None


def _go_duration(text: str) -> float | None:
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total = 0.0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        unit = next((u for u in sorted(_UNITS, key=len, reverse=True) if rest[len(number) :].startswith(u)), None)
        if unit is None or not number.strip(".") or number.count(".") > 1:
            return None
        total += float(number) * _UNITS[unit]
        rest = rest[len(number) + len(unit) :]
    return sign * total if text.strip("+-") else None


def expiry(seconds: float | None) -> str:
    """Return the time that is this many seconds from now, in Ollama's format."""
    try:
        at = datetime.now(UTC) + (_FOREVER if seconds is None else timedelta(seconds=seconds))
    except OverflowError:
        at = datetime.now(UTC) + _FOREVER
    return _time(at)


class Reply:
    """One answer in progress: takes llama.cpp's chunks, returns Ollama's lines.

    Args:
        model: The model's name in the answer.
        window_tokens: The maximum tokens of the prompt and its answer together.
        goes_on: Whether an answer continues when the window is full.
        load_seconds: How long loading the model took for this request.
    """

    def __init__(
        self, model: str, window_tokens: int, *, goes_on: bool = False, load_seconds: float = 0.0
    ) -> None:
        self._model = model
        self._window_tokens = window_tokens
        self._goes_on = goes_on
        self._load_nanoseconds = max(round(load_seconds * 1e9), 1)
        self._started = time.perf_counter_ns()
        self._prompt_tokens = 0
        self._timings: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._calls: dict[int, tuple[str, str]] = {}  # by index: name, and the arguments' JSON so far

    @property
    def is_full(self) -> bool:
        """Whether the window has no room for another token."""
        return not self._goes_on and self._prompt_tokens + self._answer_tokens >= self._window_tokens

    @property
    def _answer_tokens(self) -> int:
        return int(self._timings.get("predicted_n", 0))

    def take(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """Return the line for ``chunk``, if it contains text.

        Raises:
            RefusedError: The prompt leaves no room in the window, or llama.cpp reports an error.
        """
        if error := chunk.get("error"):
            if error.get("type") == "exceed_context_size_error":
                raise overflow(error["n_prompt_tokens"], self._window_tokens)
            status = int(error.get("code", 500))
            message = str(error.get("message", error))
            raise RefusedError(status, nested(message) if status == 400 else message)
        self._timings = chunk.get("timings", self._timings)
        if progress := chunk.get("prompt_progress"):
            self._prompt_tokens = progress["total"]
            if self._prompt_tokens > self._window_tokens or (
                self._prompt_tokens == self._window_tokens and not self._goes_on
            ):
                raise overflow(self._prompt_tokens, self._window_tokens)
        content = ""
        logprobs: list[dict[str, Any]] = []
        for choice in chunk.get("choices", ()):
            content += choice["delta"].get("content") or ""
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            logprobs += (choice.get("logprobs") or {}).get("content") or ()
            for part in choice["delta"].get("tool_calls") or ():
                name, arguments = self._calls.get(part["index"], ("", ""))
                function = part.get("function", {})
                self._calls[part["index"]] = (
                    name + (function.get("name") or ""),
                    arguments + (function.get("arguments") or ""),
                )
        if not content:
            return None
        line = self._line({"content": content})
        return line | {"logprobs": [_logprob(entry) for entry in logprobs]} if logprobs else line

    def end(self) -> dict[str, Any]:
        """Return the last line: tool calls, the reason for the end, token counts, durations in nanoseconds."""
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
            "total_duration": now - self._started + self._load_nanoseconds,
            "load_duration": self._load_nanoseconds,
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


def whole(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the object that answers a request with ``"stream": false``, made from all lines of a reply."""
    last = lines[-1]
    text = "".join(line["message"]["content"] for line in lines)
    logprobs = [entry for line in lines for entry in line.get("logprobs") or ()]
    more = {"logprobs": logprobs} if logprobs else {}
    return {**last, "message": last["message"] | {"content": text}, **more}


def loaded(model: str, reason: str = "load") -> dict[str, Any]:
    """Return the answer to a request without messages, which only asks to load or unload the model."""
    return {
        "model": model,
        "created_at": _now(),
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": reason,
    }


def overflow(prompt_tokens: int, window_tokens: int) -> RefusedError:
    """Return the refusal of a prompt that does not fit, in the words of Ollama 0.32."""
    return RefusedError(
        400,
        nested(
            f"request ({prompt_tokens} tokens) exceeds the available context size ({window_tokens} tokens), "
            "try increasing it",
            "exceed_context_size_error",
            n_prompt_tokens=prompt_tokens,
            n_ctx=window_tokens,
        ),
    )


def kept_tokens(window_tokens: int) -> int:
    """Return the number of tokens that Ollama 0.32 keeps of a single message that does not fit."""
    return window_tokens - (window_tokens - 4) // 2


def _logprob(entry: Mapping[str, Any]) -> dict[str, Any]:
    one = {name: entry[name] for name in ("token", "logprob", "bytes") if name in entry}
    if entry.get("top_logprobs"):
        one["top_logprobs"] = [_logprob(other) for other in entry["top_logprobs"]]
    return one


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in ``text``; None for one that ``num_predict`` cut off."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


def _now() -> str:
    return _time(datetime.now(UTC))


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
