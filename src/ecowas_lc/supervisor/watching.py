"""The spans of a turn for tracing: its nodes, model calls, tools and searches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.prebuilt.tool_node import ToolCallRequest

from ecowas_lc import _telemetry
from ecowas_lc.effects import Doing, Watch
from ecowas_lc.llm.guarded import GuardedChatOllama


def _learn_route(seen: _telemetry.Span, result: Any) -> None:
    decision = (_update_of(result)).get("decision") or {}
    seen.set(ecowas__groups=list(decision.get("groups", ())), ecowas__router=decision.get("source"))


ROUTING = Watch("route", "route", {}, _learn_route)
SYNTHESIS = Watch("synthesis", "synthesise")
SUMMARY = Watch("summary", "summarise")


def answering(group: str) -> Watch:
    """Return how a group's answer is traced (``supervisor``: the supervisor's own)."""

    def learn(seen: _telemetry.Span, result: Any) -> None:
        report = (_update_of(result).get("reports") or {}).get(group) or {}
        status = report.get("status", "answered")
        seen.set(ecowas__status=status, error__type=report.get("error") if status == "failed" else None)

    about = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": group, "ecowas__group": group}
    return Watch("group", f"invoke_agent {group}", about, learn)


def _update_of(result: Any) -> Mapping[str, Any]:
    update = getattr(result, "update", result)
    return update if isinstance(update, Mapping) else {}


def asking(model: Any) -> AbstractContextManager[_telemetry.Span]:
    """Return the span of a model call; a model on Ollama creates its own, with its server's details."""
    if isinstance(model, GuardedChatOllama) or not _telemetry.is_watched():
        return _telemetry.UNWATCHED
    name = str(getattr(model, "model_name", None) or getattr(model, "model", None) or type(model).__name__)
    return _telemetry.span(
        "model",
        f"chat {name}",
        client=True,
        gen_ai__operation__name="chat",
        gen_ai__request__model=name,
        gen_ai__provider__name=str(getattr(model, "_llm_type", type(model).__name__)),
    )


def learnt(seen: _telemetry.Span, messages: Sequence[BaseMessage], answer: AIMessage) -> None:
    """Set on a span what an answer says about its call."""
    used: Mapping[str, Any] = answer.usage_metadata or {}  # of a cached answer, it has only the cost
    seen.set(
        gen_ai__usage__input_tokens=used.get("input_tokens"),
        gen_ai__usage__output_tokens=used.get("output_tokens"),
    )
    seen.set_content(
        gen_ai__input__messages=[{"role": one.type, "content": one.text} for one in messages],
        gen_ai__output__messages=[{"role": "assistant", "content": answer.text}],
    )


def watched_call(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
    """Run a tool call in a span."""
    with _tool(request) as seen:
        return _with_tool_result(seen, execute(request))


async def awatched_call(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[Any]]) -> Any:
    """Run a tool call in a span, without blocking the event loop."""
    with _tool(request) as seen:
        return _with_tool_result(seen, await execute(request))


def _tool(request: ToolCallRequest) -> AbstractContextManager[_telemetry.Span]:
    call = request.tool_call
    return _telemetry.span(
        "tool",
        f"execute_tool {call['name']}",
        gen_ai__operation__name="execute_tool",
        gen_ai__tool__name=call["name"],
        gen_ai__tool__call__id=call["id"],
        gen_ai__tool__type="function",
    )


def _with_tool_result(seen: _telemetry.Span, result: Any) -> Any:
    if getattr(result, "status", "success") == "error":
        seen.set(error__type="tool_error")
    text = getattr(result, "text", None)
    if text is not None:
        seen.set_content(gen_ai__tool__call__result=text)
    return result


@dataclass(frozen=True, slots=True)
class Retrieve:
    """An effect that searches passages for a group (``None``: for the supervisor)."""

    group: str | None
    search: Doing

    def run(self, config: RunnableConfig) -> Any:
        """Search, blocking."""
        with self._seen() as seen:
            found = self.search.run(config)
            seen.set(ecowas__passages=len(found))
        return found

    async def arun(self, config: RunnableConfig) -> Any:
        """Search without blocking the event loop."""
        with self._seen() as seen:
            found = await self.search.arun(config)
            seen.set(ecowas__passages=len(found))
        return found

    def _seen(self) -> AbstractContextManager[_telemetry.Span]:
        return _telemetry.span(
            "retrieval",
            "retrieval documents",
            gen_ai__operation__name="retrieval",
            gen_ai__data_source__id="documents",
            ecowas__group=self.group or "supervisor",
        )
