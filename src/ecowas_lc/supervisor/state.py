"""The state that a thread of the supervisor graph stores: plain values and messages, no types of this package."""

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
"""The id under which the supervisor answers and keeps its transcript."""


class Decision(TypedDict):
    """The groups that are asked, what made the decision, and why; no group: the supervisor answers itself."""

    groups: list[str]
    source: str
    reason: str
    follows: NotRequired[int]
    """The earlier turn that a follow-up continues, counted from 0; only with documents."""


class Report(TypedDict):
    """The result of asking one group.

    ``text`` is the answer as it was passed on (``""`` if there is none), and ``reason`` says why there is none.
    ``tools`` is ``"none"`` (the group has no tools), ``"used"``, ``"unused"`` or ``"unavailable"`` (the model does
    not support tools). ``error`` is the name of a failure's error class.

    With documents, ``declined`` says that they do not answer the question, ``citations`` are the answer's sources,
    ``passages`` the passages found, and ``left_out`` the sentences that no passage supports.
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
    """Several groups' answers combined.

    ``form`` says how it was made: ``"structured"`` (the model filled the lists), ``"text"`` (the model could only
    write prose, so the lists are empty), ``"reports"`` (the model failed, so the answers follow one another) or
    ``"verbatim"`` (only one group answered). ``missing`` maps a group's id to the reason for its missing view.
    ``left_out`` holds statements of the model with figures that neither a group nor the user gave.
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
    """A summary of the conversation up to and including the message ``through``.

    ``of`` is the digest of the messages that it covers: if they are changed or removed, the summary is no longer
    valid.
    """

    text: str
    through: str
    of: NotRequired[str]


class Earlier(TypedDict, total=False):
    """What the thread imported from the session's histories, once.

    ``messages`` are the supervisor's from before this thread started; ``groups`` are the questions and answers of
    each group outside of this thread.
    """

    messages: list[BaseMessage]
    groups: dict[str, list[BaseMessage]]


class Dropped(TypedDict):
    """A draft that was still undecided when a new question replaced it."""

    draft: str
    group: str
    question: str


def merge_messages(old: Any, new: Any) -> Any:
    """Add messages, replace those with the same id, and remove those named by ``RemoveMessage``.

    Raises:
        InvalidInputError: A message to be removed is not in the thread; nothing is stored.
    """
    try:
        return add_messages(old, new)
    except ValueError as error:
        raise InvalidInputError(
            f"The messages can't be changed this way: {str(error).rstrip('.')}. "
            "graph.get_state(config).values['messages'] lists the thread's messages with their ids."
        ) from error


def merge_reports(old: dict[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge groups' reports on the same question; an empty update starts a new question."""
    return {**(old or {}), **new} if new else {}


class Question(TypedDict):
    """The input of ``invoke`` and ``stream``: messages in any form LangChain accepts, the question last."""

    messages: Sequence[MessageLikeRepresentation] | MessageLikeRepresentation


class SupervisorInput(TypedDict):
    """The input of a run: messages, the question last."""

    messages: Annotated[list[AnyMessage], merge_messages]


class SupervisorOutput(SupervisorInput):
    """The output of a run: the conversation, and how its last answer was produced."""

    decision: Decision
    reports: Annotated[dict[str, Report], merge_reports]
    synthesis: Synthesis | dict[str, Any]


class SupervisorState(SupervisorOutput):
    """Everything that a thread stores.

    ``attempts`` holds, by group, the messages of a turn that failed, so that a second attempt repeats none of its
    tool calls. ``taken`` names the speakers whose histories have been imported, ``synced`` is the digest of the
    messages that the histories were last updated to, and ``dropped`` holds drafts that were given up undecided.
    """

    asking: list[str]
    attempts: Annotated[dict[str, list[AnyMessage]], merge_reports]
    summary: Summary
    earlier: Earlier
    taken: list[str]
    synced: str
    dropped: list[Dropped]


def question_of(state: Mapping[str, Any]) -> HumanMessage:
    """Return the question that a run has to answer: the last message.

    Raises:
        EmptyQuestionError: The question contains no text.
        InvalidInputError: There is no message, or the last one is not the user's.
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
    """Return the question of the current turn, whether or not it has been answered."""
    messages = state["messages"]
    return next(message for message in reversed(messages) if isinstance(message, HumanMessage))


def answer_in(state: Mapping[str, Any]) -> AIMessage | None:
    """Return the final answer of the current turn, if there is one yet."""
    last = state["messages"][-1]
    return last if isinstance(last, AIMessage) else None


def own_answer(final: BaseMessage, group: str) -> str | None:
    """Return a group's own answer in the turn of this final answer, or ``None`` if it gave none."""
    answers: Mapping[str, str] = final.response_metadata.get("answers") or {}
    if group in answers:
        return answers[group]
    return final.text if final.name == group else None


def groups_of(final: BaseMessage, known: Collection[str]) -> tuple[str, ...]:
    """Return the groups that were asked in the turn of this final answer."""
    told = final.response_metadata.get("groups")
    if told is not None:
        return tuple(group for group in told if group in known)
    return (final.name,) if final.name is not None and final.name in known else ()  # written by an older version


def digest_of(messages: Iterable[BaseMessage]) -> str:
    """Return a digest of a branch, which shows later whether the branch has changed."""
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
