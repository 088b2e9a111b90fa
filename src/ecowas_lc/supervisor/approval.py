"""Human approval: what a reviewer is shown, which decisions are valid, and that a decision fits what was shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from langgraph.types import Interrupt, interrupt

from ecowas_lc.errors import InvalidDecisionError, NotWaitingError
from ecowas_lc.supervisor.state import Dropped, Report

_YES = frozenset({"approve", "approved", "yes", "ok"})
_NO = frozenset({"reject", "rejected", "no"})
_INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")

DECISION_SCHEMA: dict[str, Any] = {
    "title": "Decision",
    "description": "What becomes of the answer that waits.",
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": ["approve", "edit", "reject"]},
        "draft": {"type": "string", "description": "The request's draft, so that no other one is decided on."},
        "text": {"type": "string", "description": "With edit: what is said instead."},
        "reason": {"type": "string", "description": "With reject: why."},
    },
    "required": ["action"],
}
"""The JSON schema of a decision, from which clients can build a form."""


class Draft(TypedDict):
    """A report that waits for its reviewer; it is stored nowhere else until it is released.

    ``concerns`` names the held groups that the report is about, if its author is not one of them.
    """

    group: str
    name: str
    question: str
    report: Report
    alone: bool
    concerns: list[str]


def request_of(draft: Draft) -> dict[str, Any]:
    """Return what the reviewer is shown of a draft, including the id and digest that tie the decision to it."""
    report = draft["report"]
    request: dict[str, Any] = {
        "type": "release",
        "draft": str(report.get("message_id") or ""),
        "digest": hashlib.sha256(report["text"].encode("utf-8", "surrogatepass")).hexdigest()[:32],
        "group": draft["group"],
        "name": draft["name"],
        "question": draft["question"],
        "answer": report["text"],
        "actions": ["approve", "edit", "reject"],
    }
    if draft.get("concerns"):
        request["concerns"] = draft["concerns"]
    return request


def reviewed(draft: Draft) -> Report:
    """Pause the run until a reviewer decides, and return the report as released.

    Resume the run with ``Command(resume=decision)``, or with ``Command(resume={interrupt id: decision, …})`` if
    several answers wait. A decision is one of

    - ``True``, ``"approve"`` or ``{"action": "approve"}``
    - ``{"action": "edit", "text": "what is said instead"}``
    - ``False``, ``"reject"`` or ``{"action": "reject", "reason": "why"}``

    and may name the request's ``draft`` and ``digest``. The supervisor graph rejects anything else before it
    stores something. In a node of another graph, where that is not possible, the run pauses again with the
    ``problem`` in the request.

    Args:
        draft: The report to review.

    Returns:
        The report, edited or rejected as the reviewer decided.
    """
    report = draft["report"]
    if report["status"] != "answered":
        return report
    request = request_of(draft)
    while True:
        decision = interrupt(request, response_schema=DECISION_SCHEMA)
        try:
            check_decision(request, decision)
        except InvalidDecisionError as problem:
            request = {**request, "problem": str(problem)}
            continue
        return _outcome(report, decision)


def check_resume(waiting: Sequence[Interrupt], resume: Any, dropped: Sequence[Dropped]) -> Any:
    """Return the value to resume a run with.

    Args:
        waiting: The interrupts that wait for a decision.
        resume: The decision, or decisions by interrupt id.
        dropped: Drafts that a new question replaced; if there are any, a decision must name its draft.

    Raises:
        NotWaitingError: The draft that the decision names is not waiting.
        InvalidDecisionError: The draft is waiting, but the decision is not valid.
    """
    by_id = {one.id: one for one in waiting}
    given_up = {one["draft"]: one for one in dropped if one["draft"]}
    if isinstance(resume, Mapping) and resume and all(_is_interrupt_id(key) for key in resume):
        for key, decision in resume.items():
            if key not in by_id:
                raise NotWaitingError(_gone(f"The request {key}", waiting))
            check_decision(by_id[key].value, decision)
        return resume
    if not waiting:
        raise NotWaitingError("This thread has no request that waits for a decision. Nothing was released.")
    named = resume.get("draft") if isinstance(resume, Mapping) else None
    if named is not None:
        found = [one for one in waiting if isinstance(one.value, Mapping) and one.value.get("draft") == named]
        if not found:
            what = f"The draft {named!r}"
            if named in given_up:
                what = f"{what} was discarded when the user asked {given_up[named]['question'][:80]!r}: it"
            raise NotWaitingError(_gone(what, waiting))
        check_decision(found[0].value, resume)
        return {found[0].id: resume}
    if len(waiting) > 1:
        raise InvalidDecisionError(
            f"{len(waiting)} requests wait, and the decision does not say which it is about. Resume with "
            "Command(resume={interrupt id: decision, …}); graph.get_state(config).interrupts has the ids."
        )
    if dropped:
        raise NotWaitingError(
            "The decision does not say which request it is about, and a new question has replaced an earlier "
            "draft in this thread: it may be meant for that one. Nothing was released. Name the request: "
            "Command(resume={interrupt id: decision}), or put its draft into the decision: "
            "{'action': …, 'draft': …}."
        )
    check_decision(waiting[0].value, resume)
    return resume


def check_decision(request: Any, decision: Any) -> None:
    """Raise an error unless ``decision`` is valid for the ``request``; requests of tools accept any decision.

    Raises:
        NotWaitingError: The decision is about another draft.
        InvalidDecisionError: The decision is none of those possible.
    """
    if not isinstance(request, Mapping) or request.get("type") != "release" or "digest" not in request:
        return
    fields = decision if isinstance(decision, Mapping) else {}
    for key in ("draft", "digest"):
        if key in fields and fields[key] != request[key]:
            raise NotWaitingError(
                f"The decision is about the {key} {fields[key]!r}, but the waiting request has {request[key]!r}. "
                "Nothing was released. Read the waiting request, and decide again."
            )
    action = _action(decision)
    if action == "edit":
        text = fields.get("text")
        if isinstance(text, str) and text.strip():
            return
    elif action is not None:
        return
    raise InvalidDecisionError(
        f"{decision!r} is not a decision. Resume with 'approve', {{'action': 'edit', 'text': …}} or "
        "{'action': 'reject', 'reason': …}."
    )


def _outcome(report: Report, decision: Any) -> Report:
    """Return the report after applying a decision."""
    fields = decision if isinstance(decision, Mapping) else {}
    match _action(decision):
        case "approve":
            return {**report, "released": "approved"}
        case "edit":
            return {**report, "text": str(fields["text"]).strip(), "released": "edited"}
    reason = fields.get("reason")
    return {"status": "rejected", "text": "", "reason": reason if isinstance(reason, str) else ""}


def _action(decision: Any) -> str | None:
    action = decision.get("action") if isinstance(decision, Mapping) else decision
    if isinstance(action, str):
        action = action.strip().lower()
    if action is True or action in _YES:
        return "approve"
    if action is False or action in _NO:
        return "reject"
    return "edit" if action in ("edit", "edited") else None


def _gone(what: str, waiting: Sequence[Interrupt]) -> str:
    left = f" What waits now: {', '.join(one.id for one in waiting)}." if waiting else " Nothing else waits."
    return f"{what} no longer waits for a decision. Nothing was released.{left}"


def _is_interrupt_id(key: object) -> bool:
    return isinstance(key, str) and _INTERRUPT_ID.fullmatch(key) is not None
