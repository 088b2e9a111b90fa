"""The events of a run that is watched: of a supervisor, of any other graph, and of a runnable that is no graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import uuid4

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.pregel import Pregel
from langgraph.types import Command

from ecowas_lc.agents import SupervisorAgent
from ecowas_lc.agents.events import Event, Finished, SpeakerDone, Token, ToolCalled, ToolReturned, Waiting
from ecowas_lc.agents.turn import STREAM_MODES, Turn
from ecowas_lc.display.blocks import plain
from ecowas_lc.display.conversation_views import citations_of
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph

_ANSWER = "answer"
_MOST_FOUND = 8


@dataclass(frozen=True)
class RunEvents:
    """A run to watch: its question, its thread, its events, and what it has returned so far."""

    question: str
    thread_id: str
    events: Callable[[], Iterator[Event]]
    aevents: Callable[[], AsyncIterator[Event]]
    result: Callable[[], Any]


def run_events(graph: Any, given: Any, thread_id: str | None, groups: list[str] | None) -> RunEvents:
    """Return the events of a run of a graph, a supervisor agent or a runnable.

    Raises:
        InvalidInputError: ``graph`` is none of these, or it needs another input than a question.
    """
    text = given if isinstance(given, str) else None
    if isinstance(graph, SupervisorAgent):
        turn = Turn(text, thread_id or graph.session_id, groups, given=given)
        session = graph._session
        return RunEvents(
            _shown(given),
            thread_id or graph.session_id,
            lambda: session.events(turn),
            lambda: session.aevents(turn),
            lambda: turn.result,
        )
    thread = thread_id or uuid4().hex
    if isinstance(graph, SupervisorGraph):
        turn = Turn(text, thread, groups, given=given)
        return _streamed(graph, given, thread, _Supervised(turn), turn.input, turn.config)
    if isinstance(graph, Pregel):
        place: RunnableConfig = {"configurable": {"thread_id": thread}}
        return _streamed(graph, given, thread, _Graph(), _input_of(graph, given), place)
    if isinstance(graph, Runnable):
        place = {"configurable": {"session_id": thread}}  # what RunnableWithMessageHistory expects
        return _streamed(graph, given, thread, _Chain(), given, place)
    raise InvalidInputError(
        f"{plain(graph, 100)} is not a graph. Pass a compiled graph, a SupervisorAgent or a runnable."
    )


def _input_of(graph: Any, given: Any) -> Any:
    if not isinstance(given, str) or "messages" in graph.channels:
        return {"messages": [HumanMessage(given)]} if isinstance(given, str) else given
    if hasattr(graph, "builder"):
        keys = [name for name in map(str, graph.channels) if not name.startswith(("__", "branch:"))]
        raise InvalidInputError(
            "The graph's state has no messages, so it can't take a question. "
            f"Pass its input as a dict; its keys are {', '.join(keys)}."
        )
    return given  # LangGraph's functional API takes any value


def _shown(given: Any) -> str:
    """Return the question in an input, or the input in short form."""
    if isinstance(given, str):
        return given
    if isinstance(given, Command) or given is None:
        return ""
    messages = given.get("messages") if isinstance(given, Mapping) else given
    try:
        asked = [one.text for one in convert_to_messages(messages) if isinstance(one, HumanMessage)]  # type: ignore[arg-type]
    except (NotImplementedError, ValueError, TypeError):
        asked = []
    if not asked and isinstance(given, Mapping) and len(given) == 1:
        [given] = given.values()
    return asked[-1] if asked else plain(given, 600)


def _streamed(
    graph: Any, given: Any, thread: str, reader: _Reader, sent: Any, config: RunnableConfig
) -> RunEvents:
    options: dict[str, Any] = {} if isinstance(reader, _Chain) else {"stream_mode": STREAM_MODES}
    question = _shown(given)
    if (callbacks := reader.callbacks()) is not None:
        config = {**config, "callbacks": [callbacks]}

    def events() -> Iterator[Event]:
        for part in graph.stream(sent, config, **options):
            yield from reader.hear(part)
        for event in reader.end():
            yield _asked(event, question)

    async def aevents() -> AsyncIterator[Event]:
        async with aclosing(graph.astream(sent, config, **options)) as stream:
            async for part in stream:
                for event in reader.hear(part):
                    yield event
        for event in reader.end():
            yield _asked(event, question)

    return RunEvents(question, thread, events, aevents, lambda: reader.result)


def _asked(event: Event, question: str) -> Event:
    return replace(event, question=question) if isinstance(event, Finished) and not event.question else event


class _Reader:
    """Reads a stream as events."""

    result: Any = None

    def callbacks(self) -> BaseCallbackHandler | None:
        """Return what has to listen to the run, if anything."""
        return None

    def hear(self, part: Any) -> Iterator[Event]:
        """Yield the events in a part of the stream."""
        raise NotImplementedError

    def end(self) -> Iterator[Event]:
        """Yield the events at the end of the stream."""
        raise NotImplementedError


class _Supervised(_Reader):
    """Reads a supervisor graph's stream, as a session does."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def hear(self, part: Any) -> Iterator[Event]:
        mode, heard = part
        yield from self._turn.hear(str(mode), heard)
        self.result = self._turn.result

    def end(self) -> Iterator[Event]:
        yield from self._turn.end()


class _Called(BaseCallbackHandler):
    """Notes the retrievers that a run calls and, for runnables, its tools."""

    run_inline = True

    def __init__(self, *, tools: bool) -> None:
        self._tools = tools
        self._heard: list[Event] = []
        self._speakers: dict[Any, tuple[str, str]] = {}

    def taken(self) -> list[Event]:
        """Return what was noted since the last call."""
        heard, self._heard = self._heard, []
        return heard

    def _begin(self, serialized: Any, args: Mapping[str, Any], run_id: Any, about: Mapping[str, Any]) -> None:
        name = about.get("name") or (serialized or {}).get("name") or "tool"
        speaker = str((about.get("metadata") or {}).get("langgraph_node") or _ANSWER)
        self._speakers[run_id] = (speaker, str(name))
        self._heard.append(ToolCalled(speaker, str(run_id), str(name), args))

    def _end(self, run_id: Any, text: str, status: str = "success") -> None:
        if run_id in self._speakers:
            speaker, name = self._speakers.pop(run_id)
            self._heard.append(ToolReturned(speaker, str(run_id), name, text, status))

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, **about: Any) -> None:
        if self._tools:
            self._begin(serialized, about.get("inputs") or {"input": input_str}, run_id, about)

    def on_tool_end(self, output: Any, *, run_id: Any, **_: Any) -> None:
        self._end(run_id, output.text if isinstance(output, BaseMessage) else plain(output, 1_500))

    def on_tool_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._end(run_id, str(error), "error")

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: Any, **about: Any) -> None:
        self._begin(serialized, {"query": query}, run_id, about)

    def on_retriever_end(self, documents: Any, *, run_id: Any, **_: Any) -> None:
        found = [f"{number}. {plain(one.page_content, 200)}" for number, one in enumerate(documents, start=1)]
        self._end(run_id, "\n".join(found[:_MOST_FOUND]) or "nothing found")

    def on_retriever_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._end(run_id, str(error), "error")


class _Graph(_Reader):
    """Reads any graph's stream: each node is a speaker."""

    def __init__(self) -> None:
        self._called = _Called(tools=False)
        self._speakers: dict[str, str] = {}
        self._waits = False

    def callbacks(self) -> BaseCallbackHandler:
        return self._called

    def hear(self, part: Any) -> Iterator[Event]:
        yield from self._called.taken()
        mode, heard = part
        if mode == "values":
            self.result = heard
        elif mode == "messages":
            chunk, metadata = heard
            if isinstance(chunk, AIMessage) and chunk.text:
                node = str(metadata.get("langgraph_node", "assistant"))
                self._speakers.setdefault(str(chunk.id), node)
                yield Token(node, str(chunk.id), chunk.text)
        elif mode == "updates" and isinstance(heard, Mapping):
            for node, change in heard.items():
                if node == "__interrupt__":
                    self._waits = True
                    for one in change:
                        yield Waiting(one.id, one.value)
                else:
                    yield from self._node(str(node), change)

    def _node(self, node: str, change: Any) -> Iterator[Event]:
        for one in change if isinstance(change, list) else [change]:
            if isinstance(one, Mapping):
                for key, value in one.items():
                    yield from self._value(node, str(key), value)
            elif one is not None:
                yield from self._value(node, "", one)
        yield SpeakerDone(node, None)

    def _value(self, node: str, key: str, value: Any) -> Iterator[Event]:
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, BaseMessage) for one in values):
            if key != "messages" and not key.startswith("__"):
                yield Token(node, f"{node} {key}", f"{f'**{key}**: ' if key else ''}{plain(value, 600)}\n\n")
            return
        for message in values:
            if isinstance(message, ToolMessage):
                yield ToolReturned(node, message.tool_call_id, str(message.name), message.text, message.status)
            elif isinstance(message, AIMessage):
                if message.text and str(message.id) not in self._speakers:
                    self._speakers[str(message.id)] = node
                    yield Token(node, str(message.id), message.text)
                for call in message.tool_calls:
                    yield ToolCalled(node, str(call["id"]), call["name"], call["args"])

    def end(self) -> Iterator[Event]:
        yield from self._called.taken()
        if self._waits:
            return
        messages = self.result.get("messages") if isinstance(self.result, Mapping) else None
        final = messages[-1] if isinstance(messages, list) and messages else None
        if isinstance(final, AIMessage) and not final.tool_calls:
            yield _finished(final.text, self._speakers.get(str(final.id)) or final.name or "assistant", final)
        else:
            yield _finished(self.result if isinstance(self.result, str) else "", "")


class _Chain(_Reader):
    """Reads the pieces of a runnable's output, and the retrievers and tools that it calls."""

    def __init__(self) -> None:
        self._called = _Called(tools=True)

    def callbacks(self) -> BaseCallbackHandler:
        return self._called

    def hear(self, part: Any) -> Iterator[Event]:
        yield from self._called.taken()
        try:
            self.result = part if self.result is None else self.result + part
        except TypeError:  # the pieces are whole values
            self.result = part
        for key, value in part.items() if isinstance(part, Mapping) else [(_ANSWER, part)]:
            if text := _text_of(value):
                yield Token(str(key), str(key), text)

    def end(self) -> Iterator[Event]:
        yield from self._called.taken()
        final = self.result.get(_ANSWER) if isinstance(self.result, Mapping) else self.result
        yield _finished(_text_of(final), _ANSWER, final if isinstance(final, AIMessage) else None)


def _text_of(value: Any) -> str:
    if isinstance(value, BaseMessage):
        return value.text
    return value if isinstance(value, str) else "" if value is None else plain(value, 1_500)


def _finished(answer: str, speaker: str, message: AIMessage | None = None) -> Finished:
    identity = str(message.id) if message is not None else ""
    cited = citations_of(message) if message is not None else []
    return Finished("", answer, speaker, identity, (), "", "", citations=tuple(cast(Any, cited)))
