"""A group with tools, as a separate graph: model, tools, model, …; each answer and each result is stored."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from ecowas_lc.effects import Program, as_node
from ecowas_lc.errors import AsyncToolError, InvalidInputError, ModelCapabilityError
from ecowas_lc.llm.tokens import count_tools
from ecowas_lc.supervisor.concurrency import stop_if_given_up
from ecowas_lc.supervisor.context import Context, Graph
from ecowas_lc.supervisor.model_calls import Ask
from ecowas_lc.supervisor.prompts import WITHOUT_TOOLS, with_summary
from ecowas_lc.supervisor.streaming import Tell, to_nobody
from ecowas_lc.supervisor.trimming import Exchange
from ecowas_lc.supervisor.watching import awatched_call, watched_call
from ecowas_lc.twg import TWG

MODEL, TOOLS = "model", "tools"
BRIEF = "__ecowas_brief"
"""The config key of a run's :class:`Brief`, named so that checkpoints' metadata do not show it."""


class GroupTurn(TypedDict):
    """One turn of a group: its question, the model's calls, the tools' results, the answer."""

    messages: Annotated[list[AnyMessage], add_messages]
    without_tools: NotRequired[bool]


@dataclass(frozen=True, slots=True)
class Brief:
    """What the graph's nodes need from the thread's state, passed by config so that it is not stored twice.

    ``speaks_as`` replaces the metadata of the model's tokens, so that they are streamed as the group's.
    """

    past: Sequence[Exchange] = ()
    summary: str = ""
    quiet: bool = False
    speaks_as: Mapping[str, Any] = field(default_factory=dict)
    tell: Tell | None = None


def tool_graph(ctx: Context, group: TWG) -> Graph:
    """Return the graph in which a group answers with its tools; it is stored with the graph that runs it."""
    tools = ctx.tools[group.id]
    direct = {name for name, tool in tools.items() if tool.return_direct}
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(GroupTurn)
    builder.add_node(MODEL, as_node(MODEL, _model(ctx, group), {}), destinations=(TOOLS, END))
    runs_tools = ToolNode(
        list(tools.values()),
        handle_tool_errors=_error_text,
        wrap_tool_call=watched_call,
        awrap_tool_call=awatched_call,
    )
    builder.add_node(TOOLS, runs_tools)

    def begins(state: GroupTurn) -> list[Send] | str:
        return [Send(TOOLS, [call]) for call in _open_calls(state["messages"])] or MODEL

    def after_tools(state: GroupTurn) -> str:
        calls = _last_calls(state["messages"])
        return END if calls and all(call["name"] in direct for call in calls) else MODEL

    builder.add_conditional_edges(START, begins, [TOOLS, MODEL])
    builder.add_conditional_edges(TOOLS, after_tools, [MODEL, END])
    return builder.compile(name=group.id)


def answer_in_turn(messages: Sequence[BaseMessage]) -> AIMessage:
    """Return the answer of a group's turn: the model's last message, or a return_direct tool's result."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        results: list[str] = []
        for message in reversed(messages):
            if not isinstance(message, ToolMessage):
                break
            results.insert(0, message.text)
        return AIMessage("\n\n".join(results), id=last.id)
    assert isinstance(last, AIMessage)
    return last


def model_calls_in(messages: Sequence[BaseMessage]) -> int:
    """Return the number of model calls in a turn."""
    return sum(isinstance(message, AIMessage) for message in messages)


def check_tools(group: str, tools: Mapping[str, BaseTool], *, has_store: bool | None) -> None:
    """Reject tools that can never work.

    ``has_store`` is ``None`` if only the run can tell.

    Raises:
        InvalidInputError: A tool asks for something that is not available, or cannot be described to a model.
    """
    known = GroupTurn.__annotations__.keys()
    for name, tool in tools.items():
        try:
            count_tools([tool])
        except Exception as error:
            raise InvalidInputError(
                f"The tool {name!r} of {group} can't be described to a model: {error}. "
                "Give its arguments types that JSON schema knows."
            ) from error
        needs = injected_by(tool)
        for argument, state_key in needs.state.items():
            if state_key is not None and state_key not in known:
                raise InvalidInputError(
                    f"The tool {name!r} of {group} needs the key {state_key!r} of the state for its argument "
                    f"{argument!r}, but a group's state has only: {', '.join(known)}."
                )
        if needs.store and has_store is False:
            raise InvalidInputError(
                f"The tool {name!r} of {group} needs a store, but there is none. Pass store= to build_supervisor."
            )


def needs_store(tools: Mapping[str, BaseTool]) -> str | None:
    """Return the name of the first tool that needs a store."""
    return next((name for name, tool in tools.items() if injected_by(tool).store), None)


def injected_by(tool: BaseTool) -> Any:
    """Return the arguments that langgraph injects into a tool without the model's knowledge."""
    return ToolNode([tool])._injected_args[tool.name]


@dataclass(frozen=True, slots=True)
class CheckRun:
    """An effect that stops a run that lacks something that a tool needs.

    Raises:
        AsyncToolError: A tool only works asynchronously, and the run is synchronous.
        InvalidInputError: A tool needs a store, and the run has none.
    """

    group: str
    tools: Mapping[str, BaseTool]

    def run(self, config: RunnableConfig) -> None:
        """Check the tools for a synchronous run."""
        self._check_store(config)
        for name, tool in self.tools.items():
            if is_async_only(tool):
                raise AsyncToolError(
                    f"The tool {name!r} of the working group {self.group} only works asynchronously. "
                    "Use ainvoke or astream, or give the tool a synchronous function as well."
                )

    async def arun(self, config: RunnableConfig) -> None:
        """Check the tools for an asynchronous run."""
        self._check_store(config)

    def _check_store(self, config: RunnableConfig) -> None:
        runtime = config.get("configurable", {}).get("__pregel_runtime")
        wants = needs_store(self.tools)
        if wants is not None and getattr(runtime, "store", None) is None:
            raise InvalidInputError(
                f"The tool {wants!r} of the working group {self.group} needs a store, but this run has none. "
                "Pass store= to build_supervisor."
            )


def is_async_only(tool: BaseTool) -> bool:
    """Return whether a tool has no synchronous function, like those of MCP servers."""
    if hasattr(tool, "func") and hasattr(tool, "coroutine"):
        return tool.func is None and tool.coroutine is not None
    return inspect.iscoroutinefunction(getattr(tool, "_run", None))


def _model(ctx: Context, group: TWG) -> Any:
    tools = ctx.tools[group.id]

    def program(state: GroupTurn, config: RunnableConfig) -> Program[Command[str]]:
        brief: Brief = config["configurable"].get(BRIEF) or Brief()
        stop_if_given_up()
        turn: list[BaseMessage] = list(state["messages"])
        _tell_results(brief, group.id, turn)
        guard = ctx.guard(f"The working group {group.id}")
        guard.check_calls(model_calls_in(turn))
        window = yield from ctx.window()
        model = ctx.speaker(window)
        runnable, usable = _with_tools(ctx, model, tools)
        while True:
            system = with_summary(group.prompt, brief.summary)
            if not usable:
                system = f"{system}\n\n{WITHOUT_TOOLS}"
                turn = [message for message in turn if isinstance(message, HumanMessage)]
            extra = count_tools(list(tools.values())) if usable else 0
            prompt = ctx.prompt(window, system, turn, brief.past, extra)
            try:
                answer: AIMessage = yield Ask(runnable, prompt, model, brief.quiet, brief.speaks_as)
            except ModelCapabilityError:
                if not usable:
                    raise
                ctx.can_call_tools = False
                runnable, usable = model, False
                continue
            break
        ctx.learn(prompt, answer, extra)
        stop_if_given_up()
        calls = answer.tool_calls if usable else []
        guard.check_steps(map(_step, _calls_in([*turn, answer])))
        tell = brief.tell or to_nobody
        for call in calls:
            told = {"type": "tool_call", "group": group.id, "id": call["id"], "name": call["name"]}
            tell({**told, "args": call["args"]})
        update: dict[str, Any] = {"messages": [answer]}
        if not usable:
            update["without_tools"] = True
        return Command(update=update, goto=[Send(TOOLS, [call]) for call in calls] or END)

    return program


def _tell_results(brief: Brief, group: str, turn: Sequence[BaseMessage]) -> None:
    """Send events for the results since the last model call."""
    since = next((at for at, message in enumerate(reversed(turn)) if not isinstance(message, ToolMessage)), 0)
    tell = brief.tell or to_nobody
    for message in turn[len(turn) - since :]:
        assert isinstance(message, ToolMessage)
        told = {"type": "tool_result", "group": group, "id": message.tool_call_id, "name": message.name}
        tell({**told, "text": message.text, "status": message.status})


def _with_tools(ctx: Context, model: Any, tools: Mapping[str, BaseTool]) -> tuple[Runnable[Any, Any], bool]:
    """Return the model with tools bound, and whether it supports them."""
    if not ctx.can_call_tools:
        return model, False
    try:
        return model.bind_tools(list(tools.values())), True
    except NotImplementedError:
        ctx.can_call_tools = False
        return model, False


def _error_text(error: Exception) -> str:
    """Return a tool's error as text for the model, so that it can try something else."""
    if isinstance(error, ToolInvocationError):
        return str(error.message)
    return f"{type(error).__name__}: {error}"


def _last_calls(messages: Sequence[BaseMessage]) -> list[ToolCall]:
    return next((m.tool_calls for m in reversed(messages) if isinstance(m, AIMessage)), [])


def _open_calls(messages: Sequence[BaseMessage]) -> list[ToolCall]:
    """Return the calls of the last message that have no result yet, for a turn that is resumed."""
    done = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    return [call for call in _last_calls(messages) if call["id"] not in done]


def _calls_in(messages: Sequence[BaseMessage]) -> list[ToolCall]:
    return [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]


def _step(call: ToolCall) -> str:
    return f"{call['name']}({json.dumps(call['args'], sort_keys=True, default=str)})"
