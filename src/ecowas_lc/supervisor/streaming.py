"""What a turn streams besides the models' own output: texts under a message's id, and events.

Listeners of ``stream_mode="custom"`` receive the events. Each is a dict with a ``type``: ``tool_call`` and
``tool_result`` (``group``, ``id``, ``name``, and ``args``, or ``text`` and ``status``), ``waiting`` (``group``,
``draft``: an answer waits for a reviewer), ``final`` (``message_id``, ``speaker``: which message is the turn's
answer).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_config, get_stream_writer

from ecowas_lc.effects import Program
from ecowas_lc.llm.answer_checks import cut_mark
from ecowas_lc.llm.reasoning import with_reasoning_apart

Tell = Callable[[dict[str, Any]], None]


def teller() -> Tell:
    """Return the function that sends an event to this run's listeners; outside a run, it does nothing.

    Even when called in a graph nested in this one, the event belongs to the outer run.
    """
    try:
        write, here = get_stream_writer(), get_config()
    except RuntimeError:
        return to_nobody

    def tell(event: dict[str, Any]) -> None:
        token = var_child_runnable_config.set(here)  # langgraph reads from it which graph sent an event
        try:
            write(event)
        finally:
            var_child_runnable_config.reset(token)

    return tell


def to_nobody(_: dict[str, Any]) -> None:
    """Ignore the event."""


class StreamedText(BaseChatModel):
    """A chat model that streams a given text under one message id."""

    message_id: str
    says: Callable[[], Iterator[str]]
    asays: Callable[[], AsyncIterator[str]]
    cache: bool | None = False

    @property
    def _llm_type(self) -> str:
        return "streamed-text"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._whole("".join(self.says()))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._whole("".join([text async for text in self.asays()]))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for text in self.says():
            yield self._chunk(text)
        yield self._chunk("", last=True)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for text in self.asays():
            yield self._chunk(text)
        yield self._chunk("", last=True)

    def _whole(self, text: str) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, id=self.message_id))])

    def _chunk(self, text: str, *, last: bool = False) -> ChatGenerationChunk:
        # without a chunk marked as the last, langchain-core would add one with another id
        position: Literal["last"] | None = "last" if last else None
        message = AIMessageChunk(content=text, id=self.message_id, chunk_position=position)
        return ChatGenerationChunk(message=message)


@dataclass(frozen=True, slots=True)
class Say:
    """An effect that streams a text under a message's id; the reply is the text."""

    text: str
    message_id: str

    def run(self, config: RunnableConfig) -> str:
        """Stream the text."""
        return self._voice().invoke("", config).text

    async def arun(self, config: RunnableConfig) -> str:
        """Stream the text without blocking the event loop."""
        return (await self._voice().ainvoke("", config)).text

    def _voice(self) -> StreamedText:
        async def once() -> AsyncIterator[str]:
            yield self.text

        return StreamedText(message_id=self.message_id, says=lambda: iter([self.text]), asays=once)


def whole_text(answer: AIMessage, *, quiet: bool = False) -> Program[str]:
    """Return what a model said, without its reasoning.

    If the answer was cut off, a mark is appended, which is also streamed unless ``quiet``.
    """
    answer = with_reasoning_apart(answer)
    mark = cut_mark(answer)
    if mark and not quiet:
        yield Say(mark, str(answer.id))
    return f"{answer.text}{mark}".strip()
