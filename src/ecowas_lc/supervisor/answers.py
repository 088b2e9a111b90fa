"""A model's answer as text, with a mark if it was cut off."""

from __future__ import annotations

from langchain_core.messages import AIMessage

from ecowas_lc.effects import Program
from ecowas_lc.llm.answers import cut_mark, empty_answer
from ecowas_lc.llm.reasoning import with_reasoning_apart
from ecowas_lc.supervisor.streamed_text import Say

__all__ = ["cut_mark", "empty_answer", "whole_text"]


def whole_text(answer: AIMessage, *, quiet: bool = False) -> Program[str]:
    """Return what a model said, without its reasoning.

    If the answer was cut off, a mark is appended, which is also streamed unless ``quiet``.
    """
    answer = with_reasoning_apart(answer)
    mark = cut_mark(answer)
    if mark and not quiet:
        yield Say(mark, str(answer.id))
    return f"{answer.text}{mark}".strip()
