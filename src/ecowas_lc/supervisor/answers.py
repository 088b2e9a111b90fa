"""What a model's answer comes to: its text, a mark where it was cut off, an error where it is empty."""

from __future__ import annotations

from langchain_core.messages import AIMessage

from ecowas_lc.effects import Program
from ecowas_lc.errors import ModelError
from ecowas_lc.supervisor.streamed_text import Say
from ecowas_lc.supervisor.tokens import CUT


def cut_mark(answer: AIMessage) -> str:
    """Return what follows an answer that the model had no room to end: a mark; ``""`` where it ended by itself."""
    text = str(answer.text)
    if not text.strip() or not _ran_out(answer):
        return ""
    return CUT if text[-1].isspace() else f" {CUT}"


def empty_answer(speaker: str, answer: AIMessage) -> ModelError:
    """Return the error for an answer without text, with what mends it."""
    what = f"{speaker} got an empty answer from the model"
    if not _ran_out(answer):
        return ModelError(f"{what}. Ask again.")
    return ModelError(
        f"{what}: its tokens were used up before it wrote any text, as models that reason at length do. "
        "Turn its reasoning off (reasoning=False), or leave more room (a larger num_predict or num_ctx)."
    )


def whole_text(answer: AIMessage, *, quiet: bool = False) -> Program[str]:
    """Return what a model said; where it was cut off a mark says so, which is said aloud unless ``quiet``."""
    mark = cut_mark(answer)
    if mark and not quiet:
        yield Say(mark, str(answer.id))
    return f"{answer.text}{mark}".strip()


def _ran_out(answer: AIMessage) -> bool:
    reasons = (answer.response_metadata.get("done_reason"), answer.response_metadata.get("finish_reason"))
    return "length" in reasons
