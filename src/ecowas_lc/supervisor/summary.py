"""The running summary of what no longer fits a prompt."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.errors import GraphBubbleUp

from ecowas_lc.effects import Program
from ecowas_lc.llm.tokens import TokenCounter, Window, shorten
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.model_calls import Ask
from ecowas_lc.supervisor.prompts import SUMMARISE, summary_request
from ecowas_lc.supervisor.state import Summary, digest_of
from ecowas_lc.supervisor.trimming import FROM_DOCUMENTS, Exchange, exchanges, is_cited, newest

log = logging.getLogger(__name__)


def conversation_of(state: Mapping[str, Any]) -> list[Exchange]:
    """Return all answered questions of a session: those from before the thread started, then the thread's own."""
    before = (state.get("earlier") or {}).get("messages") or []
    return exchanges([*before, *state["messages"]])


def summary_text(state: Mapping[str, Any]) -> str:
    """Return the running summary, or ``""`` if there is none that is valid."""
    return str((state.get("summary") or {}).get("text") or "") if _holds(state) else ""


def summarised_through(state: Mapping[str, Any]) -> str | None:
    """Return the id of the last message that the summary covers."""
    return (state.get("summary") or {}).get("through") or None if _holds(state) else None


def _holds(state: Mapping[str, Any]) -> bool:
    """Return whether everything that the summary covers is unchanged in the conversation."""
    summary = state.get("summary") or {}
    if not summary.get("through") or "of" not in summary:
        return True
    return bool(_covered(state, summary["through"]) == summary["of"])


def _covered(state: Mapping[str, Any], through: str) -> str:
    messages = [message for exchange in conversation_of(state) for message in exchange]
    end = next((i + 1 for i, message in enumerate(messages) if message.id == through), 0)
    return digest_of(messages[:end])


def outgrown(state: Mapping[str, Any], window: Window, count: TokenCounter) -> list[Exchange]:
    """Return the exchanges to summarise now: none until the conversation fills half the window.

    The newest exchanges, up to a quarter of the window, are left as they are, and so is the last one at any
    length.
    """
    fresh = _not_summarised(state)
    if sum(count(exchange) for exchange in fresh) <= window.prompt // 2:
        return []
    kept = max(len(newest(fresh, window.prompt // 4, count)), 1)
    return fresh[:-kept]


def summary_of(ctx: Context, state: Mapping[str, Any]) -> Program[Summary | None]:
    """Return the summary including the outgrown exchanges, or ``None`` if there is nothing to do.

    If the model fails, the old summary is kept, and the outgrown exchanges are left out of prompts without being
    summarised.
    """
    window = yield from ctx.window()
    old = outgrown(state, window, ctx.count)
    if not old:
        return None
    through = str(old[-1][-1].id)
    before = summary_text(state)
    room = window.prompt // 2
    spoken = shorten("\n\n".join(_spoken(message) for exchange in old for message in exchange), room)
    model = ctx.speaker(window)
    try:
        prompt = ctx.prompt(window, SUMMARISE, [HumanMessage(summary_request(before, spoken))])
        answer: AIMessage = yield ctx.limited(_asked(model, prompt), "The summary")
    except GraphBubbleUp:
        raise
    except Exception as error:  # the summary is optional
        log.info("no summary was made: %s", error)
        return {"text": before, "through": through, "of": _covered(state, through)}
    text = answer.text.strip()
    kept = shorten(text, window.prompt // 6) if text else before
    return {"text": kept, "through": through, "of": _covered(state, through)}


def _asked(model: Any, prompt: Sequence[BaseMessage]) -> Program[AIMessage]:
    answer: AIMessage = yield Ask(model, prompt, model, quiet=True)
    return answer


def _not_summarised(state: Mapping[str, Any]) -> list[Exchange]:
    found = conversation_of(state)
    through = summarised_through(state)
    start = 0
    if through:
        start = next((i + 1 for i, exchange in enumerate(found) if exchange[-1].id == through), 0)
    return found[start:]


def _spoken(message: BaseMessage) -> str:
    speaker = "User" if isinstance(message, HumanMessage) else message.name or "Supervisor"
    return f"{speaker}: {FROM_DOCUMENTS if is_cited(message) else message.text.strip()}"
