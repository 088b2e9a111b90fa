"""Checks of a model's answer: a mark if it was cut off, an error if it is empty."""

from __future__ import annotations

from typing import Any

from ecowas_lc.errors import ModelError
from ecowas_lc.llm.tokens import CUT


def cut_mark(answer: Any) -> str:
    """Return the mark to append to an answer that reached its token limit, or ``""`` if the answer is complete."""
    text = str(answer.text)
    if not text.strip() or not ran_out(answer):
        return ""
    return mark_after(text)


def mark_after(text: str) -> str:
    """Return the mark that shows that ``text`` was cut off."""
    return CUT if text[-1:].isspace() else f" {CUT}"


def empty_answer(speaker: str, answer: Any) -> ModelError:
    """Return the error for an answer without text, with its fix."""
    what = f"{speaker} got an empty answer from the model"
    if answer is None or not ran_out(answer):
        return ModelError(f"{what}. Ask again.")
    return ModelError(
        f"{what}: it used up its tokens before it wrote any text, as models with long reasoning do. "
        "Turn its reasoning off (reasoning=False), or leave more room (a larger num_predict or num_ctx)."
    )


def ran_out(answer: Any) -> bool:
    """Return whether an answer ended because it reached its token limit."""
    reasons = (answer.response_metadata.get("done_reason"), answer.response_metadata.get("finish_reason"))
    return "length" in reasons
