"""Effects on models and tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs, set_config_context
from langchain_core.tools import BaseTool
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from ecowas_lc.llm import named_errors
from ecowas_lc.supervisor.concurrency import stop_handlers
from ecowas_lc.supervisor.streamed_text import Voice


def unheard(config: RunnableConfig) -> RunnableConfig:
    """Return the config for calls whose tokens are not for the user's ears."""
    return merge_configs(config, {"tags": [TAG_NOSTREAM]})


@dataclass(frozen=True, slots=True)
class Ask:
    """A model's answer to a prompt; its tokens are streamed unless ``quiet``.

    ``runnable`` is the model itself or with tools bound; ``model`` tells errors which one it was.

    Raises:
        ModelError: the model, or its server, could not answer.
    """

    runnable: Runnable[Any, Any]
    messages: Sequence[BaseMessage]
    model: Any
    quiet: bool = False

    def run(self, config: RunnableConfig) -> AIMessage:
        """Ask, blocking."""
        heard = merge_configs(self._config(config), {"callbacks": stop_handlers()})
        with named_errors(self.model):
            answer: AIMessage = self.runnable.invoke(list(self.messages), heard)
        return answer

    async def arun(self, config: RunnableConfig) -> AIMessage:
        """Ask without blocking the event loop."""
        with named_errors(self.model):
            answer: AIMessage = await self.runnable.ainvoke(list(self.messages), self._config(config))
        return answer

    def _config(self, config: RunnableConfig) -> RunnableConfig:
        return unheard(config) if self.quiet else config


class Render(Protocol):
    """Gives the text of an answer that is still being made, or of the complete one."""

    def __call__(self, value: Mapping[str, Any], *, complete: bool) -> str:
        """Return the text."""
        ...


class Rendering:
    """Turns a growing answer into text of which each version begins with the one before."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self.said = ""
        self.value: Mapping[str, Any] | None = None

    def take(self, value: Any, *, complete: bool = False) -> str:
        """Return what is new to say about a more complete answer."""
        if isinstance(value, Mapping):
            self.value = value
        if self.value is None:
            return ""
        text = self._render(self.value, complete=complete)
        if not text.startswith(self.said):  # the model did not keep to the schema's order
            return f"\n\n{text}" if complete else ""
        new, self.said = text[len(self.said) :], text
        return new


@dataclass(frozen=True, slots=True)
class Recite:
    """A model's structured answer, rendered as text and said aloud while it is being made.

    ``render(value, complete=…)`` gives the text of a partial answer. The reply is the last state of the
    answer, or ``None`` where the model gave none.

    Raises:
        ModelError: the model, or its server, could not answer, or can't answer by a schema.
    """

    model: BaseChatModel
    schema: Mapping[str, Any]
    messages: Sequence[BaseMessage]
    message_id: str
    render: Render

    def run(self, config: RunnableConfig) -> Mapping[str, Any] | None:
        """Recite, blocking."""
        rendering = Rendering(self.render)
        with named_errors(self.model):
            self._voice(rendering, config).invoke("", config)
        return rendering.value

    async def arun(self, config: RunnableConfig) -> Mapping[str, Any] | None:
        """Recite without blocking the event loop."""
        rendering = Rendering(self.render)
        with named_errors(self.model):
            await self._voice(rendering, config).ainvoke("", config)
        return rendering.value

    def _voice(self, rendering: Rendering, config: RunnableConfig) -> Voice:
        structured = self.model.with_structured_output(dict(self.schema), method="json_schema")
        prompt, quiet = list(self.messages), unheard(config)
        handlers = stop_handlers()

        def says() -> Iterator[str]:
            for value in structured.stream(prompt, merge_configs(quiet, {"callbacks": handlers})):
                if new := rendering.take(value):
                    yield new
            if rest := rendering.take(None, complete=True):
                yield rest

        async def asays() -> AsyncIterator[str]:
            async for value in structured.astream(prompt, quiet):
                if new := rendering.take(value):
                    yield new
            if rest := rendering.take(None, complete=True):
                yield rest

        return Voice(message_id=self.message_id, says=says, asays=asays)


class Agent(Protocol):
    """Anything that answers a question, such as another agent; it may have an ``achat`` as well."""

    def chat(self, prompt: str) -> str:
        """Return the answer."""
        ...


@dataclass(frozen=True, slots=True)
class AskAgent:
    """An agent's answer to a question; tokens of models that it asks on the way are not streamed."""

    agent: Agent
    question: str

    def run(self, config: RunnableConfig) -> str:
        """Ask, blocking."""
        with set_config_context(unheard(config)) as context:
            return str(context.run(self.agent.chat, self.question))

    async def arun(self, config: RunnableConfig) -> str:
        """Ask without blocking the event loop; an agent without ``achat`` is asked in a thread."""
        with set_config_context(unheard(config)) as context:
            if achat := getattr(self.agent, "achat", None):
                return str(await asyncio.create_task(achat(self.question), context=context))
            loop = asyncio.get_running_loop()
            return str(await loop.run_in_executor(None, context.run, self.agent.chat, self.question))


@dataclass(frozen=True, slots=True)
class UseTool:
    """One tool call's result as a message; what goes wrong is told to the model, which may try otherwise.

    With ``quiet``, tokens of models that the tool itself asks are not streamed.
    """

    tools: Mapping[str, BaseTool]
    call: ToolCall
    quiet: bool = False

    def run(self, config: RunnableConfig) -> ToolMessage:
        """Use the tool, blocking."""
        tool = self.tools.get(self.call["name"])
        if tool is None:
            return self._unknown()
        try:
            return self._message(tool.invoke(self._request(), self._config(config)))
        except GraphBubbleUp:
            raise
        except Exception as error:  # a tool may raise anything
            return self._failed(error)

    async def arun(self, config: RunnableConfig) -> ToolMessage:
        """Use the tool without blocking the event loop."""
        tool = self.tools.get(self.call["name"])
        if tool is None:
            return self._unknown()
        try:
            return self._message(await tool.ainvoke(self._request(), self._config(config)))
        except GraphBubbleUp:
            raise
        except Exception as error:  # a tool may raise anything
            return self._failed(error)

    @property
    def step(self) -> str:
        """The call as text, the same for the same call."""
        return f"{self.call['name']}({json.dumps(self.call['args'], sort_keys=True, default=str)})"

    def _config(self, config: RunnableConfig) -> RunnableConfig:
        return unheard(config) if self.quiet else config

    def _request(self) -> ToolCall:
        return {**self.call, "type": "tool_call"}

    def _message(self, result: Any) -> ToolMessage:
        if isinstance(result, ToolMessage):
            return result
        return ToolMessage(str(result), tool_call_id=self.call["id"] or "", name=self.call["name"])

    def _unknown(self) -> ToolMessage:
        return self._error(f"There is no tool {self.call['name']!r}. There are: {', '.join(self.tools)}.")

    def _failed(self, error: Exception) -> ToolMessage:
        return self._error(f"{type(error).__name__}: {error}")

    def _error(self, text: str) -> ToolMessage:
        return ToolMessage(text, tool_call_id=self.call["id"] or "", name=self.call["name"], status="error")
