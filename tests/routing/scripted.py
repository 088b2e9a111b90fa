"""A chat model that follows a script, for testing the logic around models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from pydantic import Field

Saying = str | Exception | Callable[[Sequence[BaseMessage]], str]


class Scripted(BaseChatModel):
    """Answers with its ``sayings`` in turn, repeating the last one; an exception is raised.

    ``calls`` holds each prompt, ``formats`` the schema each was bound to. With ``structured`` it supports
    ``method="json_schema"`` as ``ChatOllama`` does, else it has no structured output.
    """

    sayings: list[Any]
    structured: bool = True
    model: str = "scripted:1b"
    temperature: float = 0.8
    num_predict: int | None = None
    reasoning: bool | None = None
    calls: list[Any] = Field(default_factory=list)
    formats: list[Any] = Field(default_factory=list)
    settings: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        if not self.structured:
            raise NotImplementedError("no structured output here")
        assert kwargs == {"method": "json_schema"}
        assert include_raw

        def parse(message: AIMessage) -> dict[str, Any]:
            try:
                return {"raw": message, "parsed": json.loads(message.text), "parsing_error": None}
            except (ValueError, RecursionError) as error:
                return {"raw": message, "parsed": None, "parsing_error": error}

        return RunnablePassthrough() | self.bind(format=schema) | RunnableLambda(parse)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        said = self.sayings[min(len(self.calls), len(self.sayings) - 1)]
        self.calls.append(messages)
        self.formats.append(kwargs.get("format"))
        self.settings.append((self.temperature, self.num_predict, self.reasoning))
        if isinstance(said, Exception):
            raise said
        text = said(messages) if callable(said) else said
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])
