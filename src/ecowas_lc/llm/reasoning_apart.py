"""A wrapper for any chat model that separates reasoning from the answer while it is streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBinding

from ecowas_lc.llm.models import is_chat_ollama
from ecowas_lc.llm.reasoning import ReasoningSplitter, Split, with_reasoning_apart


class ReasoningApart(BaseChatModel):
    """A chat model that delegates to another and keeps reasoning between tags out of the text of every chunk."""

    inner: BaseChatModel

    @property
    def _llm_type(self) -> str:
        return str(self.inner._llm_type)

    @property
    def _identifying_params(self) -> Any:
        return self.inner._identifying_params

    @property
    def _serialized(self) -> Any:
        return self.inner._serialized

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return f"{self.inner._get_llm_string(stop=stop, **kwargs)}, reasoning apart"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _whole(self.inner._generate(messages, stop, None, **kwargs))  # callbacks would get raw tokens

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _whole(await self.inner._agenerate(messages, stop, None, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        stream = _Stream()
        for chunk in self.inner._stream(messages, stop, None, **kwargs):
            yield stream.take(chunk)
        yield from stream.end()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        stream = _Stream()
        chunks: Any = self.inner._astream(messages, stop, None, **kwargs)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield stream.take(chunk)
        for chunk in stream.end():
            yield chunk


def reasoning_apart(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return the model, or the model with tools bound, so that reasoning is kept out of its answers.

    Models on Ollama are returned unchanged, because ours already do this; so is anything that is not a LangChain
    chat model.
    """
    if isinstance(model, RunnableBinding):
        return model.model_copy(update={"bound": reasoning_apart(model.bound)})
    if not isinstance(model, BaseChatModel) or isinstance(model, ReasoningApart) or is_chat_ollama(model):
        return model
    streams = type(model)._stream != BaseChatModel._stream or type(model)._astream != BaseChatModel._astream
    streams = streams and getattr(model, "streaming", None) is not False
    shared = ("cache", "callbacks", "tags", "metadata", "rate_limiter", "output_version", "verbose")
    return ReasoningApart(
        inner=model,
        disable_streaming=model.disable_streaming if streams else True,
        **{name: value for name in shared if (value := getattr(model, name, None)) is not None},
    )


class _Stream:
    """Separates reasoning from the chunks of one answer."""

    def __init__(self) -> None:
        self._splitter = ReasoningSplitter()
        self._id: str | None = None

    def take(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        message = chunk.message
        assert isinstance(message, AIMessageChunk)
        self._id = message.id or self._id
        found: list[Split] = []

        def spoken(text: str) -> str:
            found.append(self._splitter.take(text))
            return found[-1].answer

        content = _with_texts(message.content, spoken)
        reasoning = "".join(split.reasoning for split in found)
        if content == message.content and not reasoning:
            return chunk
        told = message.additional_kwargs.get("reasoning_content", "") + reasoning
        more = {"reasoning_content": told} if told else {}
        changed = message.model_copy(
            update={"content": content, "additional_kwargs": message.additional_kwargs | more}
        )
        return ChatGenerationChunk(message=changed, generation_info=chunk.generation_info)

    def end(self) -> Iterator[ChatGenerationChunk]:
        rest = self._splitter.end()
        if rest.answer or rest.reasoning:
            more = {"reasoning_content": rest.reasoning} if rest.reasoning else {}
            yield ChatGenerationChunk(
                message=AIMessageChunk(content=rest.answer, additional_kwargs=more, id=self._id)
            )


def _with_texts(content: Any, spoken: Callable[[str], str]) -> Any:
    """Return the content of a message with each of its texts replaced."""
    if isinstance(content, str):
        return spoken(content) if content else content
    parts: list[Any] = []
    for part in content:
        if isinstance(part, str):
            parts.append(spoken(part))
        elif part.get("type") == "text" and isinstance(part.get("text"), str):
            parts.append({**part, "text": spoken(part["text"])})
        else:
            parts.append(part)
    return parts


def _whole(result: ChatResult) -> ChatResult:
    for generation in result.generations:
        generation.message = with_reasoning_apart(generation.message)  # type: ignore[type-var]  # a model's answer
    return result
