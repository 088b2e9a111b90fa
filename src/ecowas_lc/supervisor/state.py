"""What one thread of the supervisor graph remembers: plain values and messages, nothing of our own types."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, MessageLikeRepresentation
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from ecowas_lc.documents.answers import Citation
from ecowas_lc.errors import EmptyQuestionError, InvalidInputError

SUPERVISOR = "supervisor"
"""The id under which the supervisor speaks and keeps its transcript."""


class Decision(TypedDict):
    """Which groups are asked, what decided so, and why; no group: the supervisor answers itself."""

    groups: list[str]
    source: str
    reason: str
    follows: NotRequired[int]
    """Which earlier turn a follow-up goes on with, counted from 0; with documents only."""


class Report(TypedDict):
    """What became of asking one group.

    ``text`` is the answer as it was passed on (``""`` without one). ``reason`` says why there is none.
    ``tools``: ``"none"`` (the group has none), ``"used"``, ``"unused"`` or ``"unavailable"`` (the model can't
    call any). ``error`` is the name of the error class of a failure.

    With documents, ``declined`` says that they do not answer, ``citations`` what the answer rests on,
    ``passages`` what was found, and ``left_out`` the sentences that no passage supports.
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
    declined: NotRequired[bool]
    citations: NotRequired[list[Citation]]
    passages: NotRequired[list[dict[str, Any]]]
    left_out: NotRequired[list[str]]


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
    """The conversation up to and with the message ``through``, in short.

    ``of`` is the digest of what it sums up: changed or removed, the summary no longer holds.
    """

    text: str
    through: str
    of: NotRequired[str]


class Earlier(TypedDict, total=False):
    """What the thread has taken in from the session's histories, once.

    ``messages`` are the supervisor's from before this thread began; ``groups`` what each group was asked and
    answered outside of this thread.
    """

    messages: list[BaseMessage]
    groups: dict[str, list[BaseMessage]]


class Dropped(TypedDict):
    """A draft that nobody decided on and that a new question replaced."""

    draft: str
    group: str
    question: str


def merge_messages(old: Any, new: Any) -> Any:
    """Add messages, replace those with the same id, remove those that ``RemoveMessage`` names.

    Raises:
        InvalidInputError: a message that is to be removed is not in the thread; nothing is stored.
    """
    try:
        return add_messages(old, new)
    except ValueError as error:
        raise InvalidInputError(
            f"The messages can't be changed so: {str(error).rstrip('.')}. "
            "graph.get_state(config).values['messages'] lists the thread's messages with their ids."
        ) from error


def merge_reports(old: dict[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Add what groups give to what others gave for the same question; an empty update begins a new question."""
    return {**(old or {}), **new} if new else {}


class Question(TypedDict):
    """What ``invoke`` and ``stream`` take: messages in any form LangChain reads; the last one is the question."""

    messages: Sequence[MessageLikeRepresentation] | MessageLikeRepresentation


class SupervisorInput(TypedDict):
    """What a run is given: messages, the last of them the question."""

    messages: Annotated[list[AnyMessage], merge_messages]


class SupervisorOutput(SupervisorInput):
    """What a run gives back: the conversation, and how its last answer came about."""

    decision: Decision
    reports: Annotated[dict[str, Report], merge_reports]
    synthesis: Synthesis | dict[str, Any]


class SupervisorState(SupervisorOutput):
    """All that is kept in a thread.

    ``attempts`` holds, by group, the messages of a turn that failed, so that asking again repeats none of its
    tool calls; ``taken`` names the speakers whose histories have been taken in, ``synced`` is the digest of the
    messages that the histories were last brought up to, ``dropped`` what was given up undecided.
    """

    asking: list[str]
    attempts: Annotated[dict[str, list[AnyMessage]], merge_reports]
    summary: Summary
    earlier: Earlier
    taken: list[str]
    synced: str
    dropped: list[Dropped]


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


def own_answer(final: BaseMessage, group: str) -> str | None:
    """Return what a group itself said in the turn of this final answer, ``None`` where it said nothing."""
    answers: Mapping[str, str] = final.response_metadata.get("answers") or {}
    if group in answers:
        return answers[group]
    return final.text if final.name == group else None


def groups_of(final: BaseMessage, known: Collection[str]) -> tuple[str, ...]:
    """Return the groups that were asked in the turn of this final answer."""
    told = final.response_metadata.get("groups")
    if told is not None:
        return tuple(group for group in told if group in known)
    return (final.name,) if final.name is not None and final.name in known else ()  # an older version's


def digest_of(messages: Iterable[BaseMessage]) -> str:
    """Return a digest of what a branch says, to see later whether it has been changed."""
    digest = hashlib.sha256()
    for message in messages:
        answers = message.response_metadata.get("answers") or {}
        for text in (
            message.type,
            message.id or "",
            message.name or "",
            message.text,
            *answers,
            *answers.values(),
        ):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded))
            digest.update(encoded)
    return digest.hexdigest()[:32]
