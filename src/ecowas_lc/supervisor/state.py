"""What one thread of the supervisor graph remembers: plain values and messages, nothing of our own types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from ecowas_lc.errors import EmptyQuestionError, InvalidInputError

SUPERVISOR = "supervisor"
"""The id under which the supervisor speaks and keeps its transcript."""


class Decision(TypedDict):
    """Which groups are asked, what decided so, and why; no group: the supervisor answers itself."""

    groups: list[str]
    source: str
    reason: str


class Report(TypedDict):
    """What became of asking one group.

    ``text`` is the answer as it was passed on (``""`` without one). ``reason`` says why there is none.
    ``tools``: ``"none"`` (the group has none), ``"used"``, ``"unused"`` or ``"unavailable"`` (the model can't
    call any). ``error`` is the name of the error class of a failure.
    """

    status: Literal["answered", "held", "rejected", "failed"]
    text: str
    reason: NotRequired[str]
    error: NotRequired[str]
    tools: NotRequired[Literal["none", "used", "unused", "unavailable"]]
    model_calls: NotRequired[int]
    released: NotRequired[Literal["approved", "edited"]]
    message_id: NotRequired[str]
    attempt: NotRequired[str]


class Synthesis(TypedDict):
    """What several groups' answers come to.

    ``form`` says how it was made: ``"structured"`` (the model filled the lists), ``"text"`` (it could only
    write prose, so the lists are empty), ``"reports"`` (it could not, so the answers stand one after the
    other) or ``"verbatim"`` (only one group answered). ``missing`` maps a group's id to why its view lacks.
    ``left_out`` holds what the model said with figures that neither a group nor the user gave.
    """

    text: str
    views: dict[str, str]
    agreements: list[str]
    conflicts: list[str]
    open_questions: list[str]
    missing: dict[str, str]
    left_out: list[str]
    form: Literal["structured", "text", "reports", "verbatim"]


class Summary(TypedDict):
    """The conversation up to and with the message ``through``, in short."""

    text: str
    through: str


class Earlier(TypedDict):
    """Messages of the session from before this thread began, from the supervisor's transcript."""

    messages: list[BaseMessage]


def merge_reports(old: dict[str, Report] | None, new: Mapping[str, Report]) -> dict[str, Report]:
    """Add the groups' reports to those of the same question; an empty update begins a new question."""
    return {**(old or {}), **new} if new else {}


class SupervisorInput(TypedDict):
    """What a run is given: messages, the last of them the question."""

    messages: Annotated[list[AnyMessage], add_messages]


class SupervisorOutput(SupervisorInput):
    """What a run gives back: the conversation, and how its last answer came about."""

    decision: Decision
    reports: Annotated[dict[str, Report], merge_reports]
    synthesis: Synthesis | dict[str, Any]


class SupervisorState(SupervisorOutput):
    """All that is kept in a thread."""

    asking: list[str]
    summary: Summary
    earlier: Earlier


def question_of(state: Mapping[str, Any]) -> HumanMessage:
    """Return the question that a run is to answer: the last message.

    Raises:
        EmptyQuestionError: it holds no text.
        InvalidInputError: there is no message, or the last one is not the user's.
    """
    messages = state.get("messages") or []
    if not messages or not isinstance(messages[-1], HumanMessage):
        raise InvalidInputError(
            "The last message is not a question. Pass {'messages': [('user', 'your question')]}."
        )
    question: HumanMessage = messages[-1]
    if not question.text.strip():
        raise EmptyQuestionError("The question is empty. Ask something in English, French or Portuguese.")
    return question


def asked_in(state: Mapping[str, Any]) -> HumanMessage:
    """Return the question of the turn that is under way, whether it has been answered yet or not."""
    messages = state["messages"]
    return next(message for message in reversed(messages) if isinstance(message, HumanMessage))


def answer_in(state: Mapping[str, Any]) -> AIMessage | None:
    """Return the final answer of the turn that is under way, if there is one yet."""
    last = state["messages"][-1]
    return last if isinstance(last, AIMessage) else None
