"""Human approval: a held answer waits until somebody approves, edits or rejects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from langgraph.types import interrupt

from ecowas_lc.supervisor.state import Report

_YES = frozenset({"approve", "approved", "yes", "ok"})
_NO = frozenset({"reject", "rejected", "no"})


class Draft(TypedDict):
    """A group's report on its way to the reviewer; it is nowhere else until it is released."""

    group: str
    name: str
    question: str
    report: Report
    alone: bool


def reviewed(draft: Draft) -> Report:
    """Return the report as the reviewer lets it go; pauses the run until there is a decision.

    The run is resumed with ``Command(resume=decision)``, or ``Command(resume={interrupt id: decision, …})``
    where several answers wait. A decision is one of

    - ``True``, ``"approve"`` or ``{"action": "approve"}``
    - ``{"action": "edit", "text": "what is said instead"}``
    - ``False``, ``"reject"`` or ``{"action": "reject", "reason": "why"}``

    Anything else pauses the run again, with the ``problem`` in the request.
    """
    report = draft["report"]
    if report["status"] != "answered":
        return report
    request: dict[str, Any] = {
        "type": "release",
        "group": draft["group"],
        "name": draft["name"],
        "question": draft["question"],
        "answer": report["text"],
        "actions": ["approve", "edit", "reject"],
    }
    while True:
        decision = interrupt(request)
        outcome = _outcome(report, decision)
        if outcome is not None:
            return outcome
        problem = (
            f"{decision!r} is no decision. Resume with 'approve', {{'action': 'edit', 'text': …}} or "
            "{'action': 'reject', 'reason': …}."
        )
        request = {**request, "problem": problem}


def _outcome(report: Report, decision: object) -> Report | None:
    """Return what a decision makes of the report, ``None`` where it is not a decision."""
    fields = decision if isinstance(decision, Mapping) else {}
    action = fields.get("action") if fields else decision
    if isinstance(action, str):
        action = action.strip().lower()
    if action is True or action in _YES:
        return {**report, "released": "approved"}
    if action in ("edit", "edited"):
        text = fields.get("text")
        if isinstance(text, str) and text.strip():
            return {**report, "text": text.strip(), "released": "edited"}
        return None
    if action is False or action in _NO:
        reason = fields.get("reason")
        return {"status": "rejected", "text": "", "reason": reason if isinstance(reason, str) else ""}
    return None
