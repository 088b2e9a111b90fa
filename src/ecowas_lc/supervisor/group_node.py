"""One working group answers one question: by itself, with its tools, or through an agent that stands in for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.errors import GraphBubbleUp

from ecowas_lc._language import language_of
from ecowas_lc.effects import Program
from ecowas_lc.errors import AsyncToolError, EcowasError, ModelError
from ecowas_lc.llm.answer_checks import empty_answer
from ecowas_lc.llm.reasoning import split_reasoning, with_reasoning_apart
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.grounding import Readers, grounded_report
from ecowas_lc.supervisor.model_calls import Ask, AskAgent, RunGraph
from ecowas_lc.supervisor.prompts import phrase, with_summary
from ecowas_lc.supervisor.state import Report
from ecowas_lc.supervisor.streaming import Say, teller, whole_text
from ecowas_lc.supervisor.tool_graph import BRIEF, Brief, CheckRun, answer_in_turn, model_calls_in
from ecowas_lc.supervisor.trimming import Exchange
from ecowas_lc.twg import TWG

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GroupQuestion:
    """The input to a group.

    ``past`` is the conversation as the group remembers it, and ``own`` the part of it that is the group's own.
    With ``quiet``, none of its tokens are streamed. ``so_far`` is the turn up to the point where an earlier
    attempt failed. ``speaks_as`` is the metadata under which its tokens are streamed; ``run`` names the run.
    ``in_full`` is a follow-up as a complete question, derived from the conversation. ``readers``: whose
    documents the group may use if its own do not answer.
    """

    question: HumanMessage
    past: Sequence[Exchange] = ()
    own: Sequence[Exchange] = ()
    summary: str = ""
    quiet: bool = False
    so_far: Sequence[BaseMessage] = ()
    speaks_as: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    in_full: str = ""
    readers: Readers | None = None


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """A group's report and, after a failure, the messages of its turn so far."""

    report: Report
    so_far: list[BaseMessage] = field(default_factory=list)


def outcome_of(ctx: Context, group: TWG, asked: GroupQuestion) -> Program[GroupOutcome]:
    """Ask a group and return its report; almost every failure also becomes a report.

    LangGraph's ``error_handler`` for nodes is not used, for three reasons. After a crash, the handler receives the
    error as text, so it cannot be raised as the original class. The handler does not receive the messages of a
    turn that failed half-way, so a second attempt would repeat its tool calls. And updates would appear under
    ``__error_handler__energy`` instead of the group's id. A retry policy would ask the model again without being
    told to, and a node's timeout only works in asynchronous runs.

    Raises:
        AsyncToolError: The run cannot use the group's tools.
    """
    who = f"The working group {group.id}"
    progress: dict[str, Any] = {}
    try:
        report: Report = yield ctx.limited(_answered(ctx, group, asked, progress), who)
    except (GraphBubbleUp, AsyncToolError):
        raise
    except EcowasError as error:
        log.info("%s failed: %s", who, error)
        report = _failure(asked, type(error).__name__, str(error))
    except Exception as error:  # one group's failure must not lose the others' answers
        log.warning("%s failed unexpectedly", who, exc_info=True)
        report = _failure(asked, type(error).__name__, f"{type(error).__name__}: {error}")
    else:
        return GroupOutcome(report)
    turn = progress.get("messages") or [] if group.id in ctx.tool_graphs else []
    return GroupOutcome(report, list(turn))


def _answered(ctx: Context, group: TWG, asked: GroupQuestion, progress: dict[str, Any]) -> Program[Report]:
    """Return the group's answer.

    Raises:
        ModelError: The model or its server could not answer, or the question does not fit.
        LoopBudgetError: The group used up its budget of model or tool calls.
    """
    if group.id in ctx.graphs:
        return (yield from _by_graph(ctx, group, asked, progress))
    if group.id in ctx.agents:
        return (yield from _by_agent(ctx, group, asked))
    if group.id in ctx.tool_graphs:
        return (yield from _with_tools(ctx, group, asked, progress))
    if ctx.grounding is not None and ctx.grounding.serves(group.id):
        return (
            yield from grounded_report(
                ctx,
                ctx.grounding,
                group.id,
                group.prompt,
                asked.question,
                quiet=asked.quiet,
                in_full=asked.in_full,
                readers=asked.readers,
            )
        )
    window = yield from ctx.window()
    model = ctx.speaker(window)
    prompt = ctx.prompt(window, with_summary(group.prompt, asked.summary), [asked.question], asked.past)
    answer: AIMessage = yield Ask(model, prompt, model, asked.quiet)
    ctx.learn(prompt, answer)
    return (yield from _reported(group, answer, asked, tools="none", model_calls=1))


def _with_tools(ctx: Context, group: TWG, asked: GroupQuestion, progress: dict[str, Any]) -> Program[Report]:
    yield CheckRun(group.id, ctx.tools[group.id])
    tell = None if asked.quiet else teller()
    brief = Brief(asked.past, asked.summary, asked.quiet, asked.speaks_as, tell)
    turn = list(asked.so_far) or [asked.question]
    yield RunGraph(
        ctx.tool_graphs[group.id],
        {"messages": turn},
        progress,
        settings={BRIEF: brief},
        recursion_limit=4 * ctx.max_hops + 5,
        quiet=asked.quiet,
    )
    messages: list[BaseMessage] = progress["messages"]
    answer = answer_in_turn(messages)
    calls = model_calls_in(messages)
    if not progress.get("without_tools"):
        used = len(messages) > 2
        heard = isinstance(messages[-1], AIMessage)
        return (
            yield from _reported(
                group, answer, asked, tools="used" if used else "unused", model_calls=calls, heard=heard
            )
        )
    report = yield from _reported(group, answer, asked, tools="unavailable", model_calls=calls)
    note = f"\n\n{phrase('without_tools', language_of(asked.question.text))}"
    if not asked.quiet:
        yield Say(note, report["message_id"])
    return {**report, "text": report["text"] + note}


def _reported(
    group: TWG, answer: AIMessage, asked: GroupQuestion, *, tools: Any, model_calls: int, heard: bool = True
) -> Program[Report]:
    answer = with_reasoning_apart(answer)
    text = yield from whole_text(answer, quiet=asked.quiet)
    if not text:
        raise empty_answer(f"The working group {group.id}", answer)
    message_id = str(answer.id or uuid4())
    if not heard and not asked.quiet:
        yield Say(text, message_id)
    return {
        "status": "answered",
        "text": text,
        "model_calls": model_calls,
        "message_id": message_id,
        "tools": tools,
    }


def _by_graph(ctx: Context, group: TWG, asked: GroupQuestion, progress: dict[str, Any]) -> Program[Report]:
    """Return the answer of the graph that stands in for the group; it remembers the group's own exchanges."""
    own = [message for exchange in asked.own for message in exchange]
    heard: set[str] = set()
    yield RunGraph(
        ctx.graphs[group.id],
        {"messages": [asked.question]},
        progress,
        own,
        quiet=asked.quiet,
        speaks_as=asked.speaks_as,
        heard=heard,
    )
    messages: Sequence[BaseMessage] = progress.get("messages") or ()
    answer = messages[-1] if messages else None
    if not isinstance(answer, AIMessage) or not answer.text.strip():
        raise ModelError(
            f"The graph of the working group {group.id} ended without an answer: its last message has to be "
            "the model's, with text in it. Ask again, or see what the graph does."
        )
    known = {message.id for message in (*own, asked.question)}
    new = [message for message in messages if message.id not in known]
    return (
        yield from _reported(
            group,
            answer,
            asked,
            tools="used" if any(message.type == "tool" for message in new) else "none",
            model_calls=model_calls_in(new),
            heard=str(answer.id) in heard,
        )
    )


def _by_agent(ctx: Context, group: TWG, asked: GroupQuestion) -> Program[Report]:
    """Return the answer of the agent that stands in for the group."""
    said: str = yield AskAgent(ctx.agents[group.id], group.id, asked.question.text)
    text = split_reasoning(said).answer
    if not text:
        raise ModelError(f"The agent of the working group {group.id} gave an empty answer. Ask again.")
    message_id = str(uuid4())
    if not asked.quiet:
        yield Say(text, message_id)
    return {"status": "answered", "text": text, "message_id": message_id, "tools": "none"}


def _failure(asked: GroupQuestion, error: str, reason: str) -> Report:
    return {"status": "failed", "text": "", "error": error, "reason": reason, "attempt": asked.run}
