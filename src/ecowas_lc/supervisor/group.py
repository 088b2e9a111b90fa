"""One working group answers one question: with its tools where the model can call them, without where not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp

from ecowas_lc.effects import Program
from ecowas_lc.errors import EcowasError, ModelCapabilityError, ModelError
from ecowas_lc.supervisor.answers import empty_answer, whole_text
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.language import language_of
from ecowas_lc.supervisor.model_calls import Ask, AskAgent, UseTool
from ecowas_lc.supervisor.prompts import WITHOUT_TOOLS, phrase, with_summary
from ecowas_lc.supervisor.state import Report
from ecowas_lc.supervisor.streamed_text import Say
from ecowas_lc.supervisor.tokens import count_tools
from ecowas_lc.supervisor.trimming import Exchange
from ecowas_lc.twg import TWG

log = logging.getLogger(__name__)


def report_of(
    ctx: Context,
    group: TWG,
    question: HumanMessage,
    past: Sequence[Exchange] = (),
    summary: str = "",
    *,
    quiet: bool = False,
) -> Program[Report]:
    """Return the group's report on a question; a failure of any kind is a report as well.

    With ``quiet`` none of its tokens are streamed.
    """
    who = f"The working group {group.id}"
    try:
        answering = answer_of(ctx, group, question, past, summary, quiet=quiet)
        report: Report = yield ctx.limited(answering, who)
    except GraphBubbleUp:
        raise
    except EcowasError as error:
        log.info("%s failed: %s", who, error)
        return _failure(ctx, type(error).__name__, str(error))
    except Exception as error:  # one group's failure must not cost the others' answers
        log.warning("%s failed unexpectedly", who, exc_info=True)
        return _failure(ctx, type(error).__name__, f"{type(error).__name__}: {error}")
    return report


def answer_of(
    ctx: Context,
    group: TWG,
    question: HumanMessage,
    past: Sequence[Exchange],
    summary: str,
    *,
    quiet: bool,
) -> Program[Report]:
    """Return the group's answer.

    Raises:
        ModelError: the model or its server could not answer, or the question does not fit.
        LoopBudgetError: the group went round in circles.
    """
    if group.id in ctx.agents:
        return (yield from _answer_of_agent(ctx, group, question, quiet=quiet))
    window = yield from ctx.window()
    model = ctx.speaker(window)
    tools = ctx.tools.get(group.id, {})
    runnable, usable = _with_tools(ctx, model, tools)
    guard = ctx.guard(f"The working group {group.id}")
    turn: list[BaseMessage] = [question]
    used = False
    while True:
        guard.hop()
        system = with_summary(group.prompt, summary)
        if tools and not usable:
            system = f"{system}\n\n{WITHOUT_TOOLS}"
        extra = count_tools(list(tools.values())) if usable else 0
        prompt = ctx.prompt(window, system, turn, past, extra)
        try:
            answer: AIMessage = yield Ask(runnable, prompt, model, quiet)
            ctx.learn(prompt, answer, extra)
        except ModelCapabilityError:
            if not usable:
                raise
            ctx.can_call_tools = False
            runnable, usable = model, False
            turn = [question]
            continue
        if not usable or not answer.tool_calls:
            break
        used = True
        turn.append(answer)
        for call in answer.tool_calls:
            use = UseTool(tools, call, quiet)
            guard.repeat(use.step)
            turn.append((yield use))
    text = yield from whole_text(answer, quiet=quiet)
    if not text:
        raise empty_answer(f"The working group {group.id}", answer)
    report: Report = {"status": "answered", "text": text, "model_calls": guard.hops, "message_id": str(answer.id)}
    if tools and not usable:
        note = f"\n\n{phrase('without_tools', language_of(question.text))}"
        if not quiet:
            yield Say(note, report["message_id"])
        report["text"] += note
        report["tools"] = "unavailable"
    else:
        report["tools"] = "used" if used else "unused" if tools else "none"
    return report


def _answer_of_agent(ctx: Context, group: TWG, question: HumanMessage, *, quiet: bool) -> Program[Report]:
    """Return the answer of the agent that stands for the group."""
    said: str = yield AskAgent(ctx.agents[group.id], question.text)
    text = said.strip()
    if not text:
        raise ModelError(f"The agent of the working group {group.id} gave an empty answer. Ask again.")
    message_id = str(uuid4())
    if not quiet:
        yield Say(text, message_id)
    return {"status": "answered", "text": text, "message_id": message_id, "tools": "none"}


def _with_tools(ctx: Context, model: Any, tools: Mapping[str, BaseTool]) -> tuple[Runnable[Any, Any], bool]:
    """Return what is to be asked, and whether it knows of the tools."""
    if not tools or not ctx.can_call_tools:
        return model, False
    try:
        return model.bind_tools(list(tools.values())), True
    except NotImplementedError:
        ctx.can_call_tools = False
        return model, False


def _failure(ctx: Context, error: str, reason: str) -> Report:
    attempt = uuid4().hex
    ctx.failures.add(attempt)
    return {"status": "failed", "text": "", "error": error, "reason": reason, "attempt": attempt}
