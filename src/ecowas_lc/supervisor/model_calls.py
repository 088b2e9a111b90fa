"""Effects that call models, agents, graphs and tools."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs, set_config_context, var_child_runnable_config
from langgraph._internal._constants import CONFIG_KEY_STREAM
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    CheckpointMetadata,
    empty_checkpoint,
)
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphInterrupt
from langgraph.pregel._messages import StreamMessagesHandler
from langgraph.pregel._tools import StreamToolCallHandler
from langgraph.types import Interrupt

from ecowas_lc.effects import Doing, Program, arun, run
from ecowas_lc.errors import SupervisorError
from ecowas_lc.llm import named_errors
from ecowas_lc.llm.reasoning import with_reasoning_apart
from ecowas_lc.llm.reasoning_apart import reasoning_apart
from ecowas_lc.supervisor.concurrency import stop_handlers
from ecowas_lc.supervisor.streaming import StreamedText
from ecowas_lc.supervisor.watching import asking, learnt

_LISTENERS = (StreamMessagesHandler, StreamToolCallHandler)
_SEED_STEP = -2  # langgraph's own first checkpoint is step -1


def unheard(config: RunnableConfig) -> RunnableConfig:
    """Return the config for model calls whose tokens are not streamed to the user."""
    return merge_configs(config, {"tags": [TAG_NOSTREAM]})


@dataclass(frozen=True, slots=True)
class Ask:
    """An effect that asks a model for an answer; its tokens are streamed unless ``quiet``.

    ``runnable`` is the model, optionally with tools bound; ``model`` identifies it in errors. ``speaks_as``
    replaces metadata of the call.

    Raises:
        ModelError: The model, or its server, could not answer.
    """

    runnable: Runnable[Any, Any]
    messages: Sequence[BaseMessage]
    model: Any
    quiet: bool = False
    speaks_as: Mapping[str, Any] = field(default_factory=dict)

    def run(self, config: RunnableConfig) -> AIMessage:
        """Ask, blocking."""
        heard = merge_configs(self._config(config), {"callbacks": stop_handlers()})
        with asking(self.model) as seen, named_errors(self.model):
            answer: AIMessage = reasoning_apart(self.runnable).invoke(list(self.messages), heard)
            learnt(seen, self.messages, answer)
        return with_reasoning_apart(answer)

    async def arun(self, config: RunnableConfig) -> AIMessage:
        """Ask without blocking the event loop."""
        with asking(self.model) as seen, named_errors(self.model):
            speaking = reasoning_apart(self.runnable)
            answer: AIMessage = await speaking.ainvoke(list(self.messages), self._config(config))
            learnt(seen, self.messages, answer)
        return with_reasoning_apart(answer)

    def _config(self, config: RunnableConfig) -> RunnableConfig:
        heard = merge_configs(config, {"metadata": dict(self.speaks_as)}) if self.speaks_as else config
        return unheard(heard) if self.quiet else heard


class Render(Protocol):
    """Returns the text of a structured answer, partial or complete."""

    def __call__(self, value: Mapping[str, Any], *, complete: bool) -> str:
        """Return the text."""
        ...


class Rendering:
    """Turns a growing answer into text in which each version starts with the previous one."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self.said = ""
        self.value: Mapping[str, Any] | None = None

    def take(self, value: Any, *, complete: bool = False) -> str:
        """Return the new text in a more complete answer."""
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
    """An effect that asks a model for a structured answer and streams it, rendered as text.

    ``render(value, complete=…)`` returns the text of a partial answer. The reply is the last state of the answer,
    or ``None`` if the model gave none.

    Raises:
        ModelError: The model, or its server, could not answer, or does not support the schema.
    """

    model: BaseChatModel
    schema: Mapping[str, Any]
    messages: Sequence[BaseMessage]
    message_id: str
    render: Render

    def run(self, config: RunnableConfig) -> Mapping[str, Any] | None:
        """Ask and stream, blocking."""
        rendering = Rendering(self.render)
        with asking(self.model), named_errors(self.model):
            self._voice(rendering, config).invoke("", config)
        return rendering.value

    async def arun(self, config: RunnableConfig) -> Mapping[str, Any] | None:
        """Ask and stream without blocking the event loop."""
        rendering = Rendering(self.render)
        with asking(self.model), named_errors(self.model):
            await self._voice(rendering, config).ainvoke("", config)
        return rendering.value

    def _voice(self, rendering: Rendering, config: RunnableConfig) -> StreamedText:
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

        return StreamedText(message_id=self.message_id, says=says, asays=asays)


@dataclass(frozen=True, slots=True)
class AskAloud:
    """A model's answer, of which only what has been checked is streamed, under ``message_id``, while it is made.

    ``take(text)`` is given each new piece of the answer and returns what may be said by then; ``rest()`` returns
    what remains when the answer is complete. With a cache of model answers, the answer is asked for as a whole,
    because langchain-core's streaming does not use the cache.

    Raises:
        ModelError: The model, or its server, could not answer.
    """

    model: BaseChatModel
    messages: Sequence[BaseMessage]
    message_id: str
    take: Callable[[str], str]
    rest: Callable[[], str]

    def run(self, config: RunnableConfig) -> AIMessage:
        """Ask, blocking."""
        chunks: list[AIMessage] = []
        with asking(self.model) as seen, named_errors(self.model):
            self._voice(chunks, config).invoke("", config)
            answer = _joined(chunks)
            learnt(seen, self.messages, answer)
        return answer

    async def arun(self, config: RunnableConfig) -> AIMessage:
        """Ask without blocking the event loop."""
        chunks: list[AIMessage] = []
        with asking(self.model) as seen, named_errors(self.model):
            await self._voice(chunks, config).ainvoke("", config)
            answer = _joined(chunks)
            learnt(seen, self.messages, answer)
        return answer

    def _voice(self, chunks: list[AIMessage], config: RunnableConfig) -> StreamedText:
        speaking: Any = reasoning_apart(self.model)
        prompt, quiet = list(self.messages), unheard(config)
        stopping = merge_configs(quiet, {"callbacks": stop_handlers()})
        is_whole = _has_cache(self.model)

        def heard(chunk: AIMessage) -> str:
            chunks.append(chunk)
            return self.take(str(chunk.text))

        async def apieces() -> AsyncIterator[AIMessage]:
            if is_whole:
                yield await speaking.ainvoke(prompt, quiet)
                return
            async for chunk in speaking.astream(prompt, quiet):
                yield chunk

        def says() -> Iterator[str]:
            pieces = [speaking.invoke(prompt, stopping)] if is_whole else speaking.stream(prompt, stopping)
            for chunk in pieces:
                if new := heard(chunk):
                    yield new
            if rest := self.rest():
                yield rest

        async def asays() -> AsyncIterator[str]:
            async for chunk in apieces():
                if new := heard(chunk):
                    yield new
            if rest := self.rest():
                yield rest

        return StreamedText(message_id=self.message_id, says=says, asays=asays)


def _has_cache(model: Any) -> bool:
    """Return whether a model's answers are cached: by its own cache, or by LangChain's global one."""
    own = getattr(model, "cache", None)
    return get_llm_cache() is not None if own in (None, True) else own is not False


def _joined(pieces: Sequence[AIMessage]) -> AIMessage:
    """Return an answer's pieces as one message; a model that does not stream gives one piece, the whole."""
    chunks = [piece for piece in pieces if isinstance(piece, AIMessageChunk)]
    if not chunks:
        return pieces[-1] if pieces else AIMessage("")
    answer = message_chunk_to_message(add_ai_message_chunks(chunks[0], *chunks[1:]))
    assert isinstance(answer, AIMessage)
    return answer


class Agent(Protocol):
    """An object that answers questions, such as another agent; it may also have ``achat``."""

    def chat(self, prompt: str) -> str:
        """Return the answer."""
        ...


@dataclass(frozen=True, slots=True)
class AskAgent:
    """An effect that asks an agent; tokens of the models that the agent uses are not streamed.

    Graphs that the agent runs are stored with this one, so they may pause for a person.

    Raises:
        SupervisorError: The agent itself pauses for a person.
    """

    agent: Agent
    group: str
    question: str

    def run(self, config: RunnableConfig) -> str:
        """Ask, blocking."""
        with set_config_context(unheard(config)) as context, self._pausing(config):
            return str(context.run(self.agent.chat, self.question))

    async def arun(self, config: RunnableConfig) -> str:
        """Ask without blocking the event loop; an agent without ``achat`` runs in a thread."""
        with set_config_context(unheard(config)) as context, self._pausing(config):
            if achat := getattr(self.agent, "achat", None):
                return str(await asyncio.create_task(achat(self.question), context=context))
            loop = asyncio.get_running_loop()
            return str(await loop.run_in_executor(None, context.run, self.agent.chat, self.question))

    @contextmanager
    def _pausing(self, config: RunnableConfig) -> Iterator[None]:
        """Let the agent's graphs pause, but not ``chat`` itself, which would start over when resumed."""
        try:
            yield
        except GraphInterrupt as pause:
            here = Interrupt.from_ns(None, config.get("configurable", {}).get("checkpoint_ns", "")).id
            if all(one.id != here for one in pause.args[0]):
                raise
            raise SupervisorError(
                f"The agent of the working group {self.group} stops inside chat() to ask a person. Resumed, "
                "chat() would begin again, and the decision could meet another request. "
                "Pass a compiled graph in agents=, or run one in chat(): its steps are stored."
            ) from None


@dataclass(frozen=True, slots=True)
class RunGraph:
    """An effect that runs a graph to its end inside this node; the reply is the graph's last state.

    The graph is stored under the node's namespace and continues from there when the node runs again. ``progress``
    keeps the state after each step, so that a later attempt can continue after a failure. With ``quiet``, none of
    its tokens are streamed. ``speaks_as`` is the metadata of its tokens for listeners that do not listen to
    subgraphs. The graph starts with the messages of ``past``; ``heard`` collects the ids of the messages that were
    streamed.
    """

    graph: Any
    given: Mapping[str, Any]
    progress: dict[str, Any]
    past: Sequence[BaseMessage] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    recursion_limit: int | None = None
    quiet: bool = False
    speaks_as: Mapping[str, Any] | None = None
    heard: set[str] = field(default_factory=set)

    def run(self, config: RunnableConfig) -> Mapping[str, Any]:
        """Run the graph, blocking."""
        given, used = run(self._begun(self._config(config)), config)
        with self._surroundings(used):
            for state in self.graph.stream(given, used, stream_mode="values"):
                self.progress.update(state)
        self.heard.update(_heard_ids(config))
        return self.progress

    async def arun(self, config: RunnableConfig) -> Mapping[str, Any]:
        """Run the graph without blocking the event loop."""
        given, used = await arun(self._begun(self._config(config)), config)
        with self._surroundings(used):
            stream = self.graph.astream(given, used, stream_mode="values")
            async with aclosing(stream):
                async for state in stream:
                    self.progress.update(state)
        self.heard.update(_heard_ids(config))
        return self.progress

    def _begun(self, config: RunnableConfig) -> Program[tuple[Mapping[str, Any], RunnableConfig]]:
        """Return what to run the graph with; the past is stored as a checkpoint from which the graph starts.

        As an input, the past would be stored three times, and again with each checkpoint.
        """
        whole = {**self.given, "messages": [*self.past, *self.given["messages"]]}
        place = config.get("configurable", {})
        saver = place.get("__pregel_checkpointer")
        channel = self.graph.channels["messages"]
        if not (self.past and isinstance(saver, BaseCheckpointSaver) and type(channel) is BinaryOperatorAggregate):
            return whole, config
        here: RunnableConfig = {
            "configurable": {"thread_id": place["thread_id"], "checkpoint_ns": place["checkpoint_ns"]}
        }
        head = yield Doing(lambda _: saver.get_tuple(here), lambda _: saver.aget_tuple(here))
        if head is not None and head.metadata.get("step") != _SEED_STEP:
            return whole, config  # the graph continues from its last checkpoint
        if head is None:
            version = saver.get_next_version(None, None)
            seed = empty_checkpoint()
            seed["channel_values"] = {"messages": list(self.past)}
            seed["channel_versions"] = {"messages": version}
            new: ChannelVersions = {"messages": version}
            about: CheckpointMetadata = {"source": "input", "step": _SEED_STEP, "parents": {}}
            yield Doing(lambda _: saver.put(here, seed, about, new), lambda _: saver.aput(here, seed, about, new))
        # After a fork, langgraph would look for earlier checkpoints of the graph.
        begins = {**place, "__pregel_resuming": False, "__pregel_replay_state": None}
        return self.given, {**config, "configurable": begins}

    @contextmanager
    def _surroundings(self, used: RunnableConfig) -> Iterator[None]:
        """Keep a quiet graph from inheriting the callbacks that langgraph would add from its surroundings."""
        if not self.quiet:
            yield
            return
        token = var_child_runnable_config.set(used)
        try:
            yield
        finally:
            var_child_runnable_config.reset(token)

    def _config(self, config: RunnableConfig) -> RunnableConfig:
        used = silenced(unheard(config)) if self.quiet else config
        used = {**used, "configurable": {**used.get("configurable", {}), **self.settings}}
        if self.recursion_limit is not None:
            used["recursion_limit"] = self.recursion_limit
        return heard_as(used, self.speaks_as) if self.speaks_as and not self.quiet else used


def silenced(config: RunnableConfig) -> RunnableConfig:
    """Return a config that hides a graph from all listeners of the current run.

    A tag keeps a model's tokens out of the stream, but not the messages that the graph's nodes return, nor, with
    ``subgraphs=True``, its states and updates.
    """
    configurable = {k: v for k, v in config.get("configurable", {}).items() if k != CONFIG_KEY_STREAM}
    silent: RunnableConfig = {**config, "configurable": configurable}
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        for handlers in (manager.handlers, manager.inheritable_handlers):
            handlers[:] = [one for one in handlers if not isinstance(one, _LISTENERS)]
        silent["callbacks"] = manager
    return silent


def heard_as(config: RunnableConfig, metadata: Mapping[str, Any]) -> RunnableConfig:
    """Return a config that shows all models under ``metadata`` to listeners that do not listen to subgraphs."""
    callbacks = config.get("callbacks")
    if not isinstance(callbacks, BaseCallbackManager):
        return config
    manager = callbacks.copy()

    twins = {
        id(one): _relabelled(one, metadata)
        for one in (*manager.handlers, *manager.inheritable_handlers)
        if _listens_at_the_top(one)
    }

    def relabelled(handlers: Sequence[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        return [twins.get(id(one), one) for one in handlers]

    manager.handlers = relabelled(manager.handlers)
    manager.inheritable_handlers = relabelled(manager.inheritable_handlers)
    return {**config, "callbacks": manager}


def _heard_ids(config: RunnableConfig) -> set[str]:
    callbacks = config.get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else []
    return {str(one) for handler in handlers if isinstance(handler, StreamMessagesHandler) for one in handler.seen}


def _listens_at_the_top(handler: BaseCallbackHandler) -> bool:
    return isinstance(handler, StreamMessagesHandler) and not handler.subgraphs


def _relabelled(handler: Any, metadata: Mapping[str, Any]) -> Any:
    twin = copy.copy(handler)  # the copy shares the stream and the record of what was streamed
    twin.metadata = {}

    def starts(serialized: Any, messages: Any, **options: Any) -> Any:
        options["metadata"] = {**(options.get("metadata") or {}), **metadata}
        return type(handler).on_chat_model_start(twin, serialized, messages, **options)

    twin.on_chat_model_start = starts
    twin.on_chain_start = twin.on_chain_end = _not_heard  # messages that the nodes return are not streamed here
    return twin


def _not_heard(*_: Any, **__: Any) -> None:
    """Ignore the event."""
