"""Selecting the part of a conversation for a prompt: whole exchanges, newest first, as many as fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from ecowas_lc.errors import ContextOverflowError
from ecowas_lc.llm.tokens import TokenCounter, Window, shorten
from ecowas_lc.supervisor.state import own_answer

Exchange = list[BaseMessage]
"""A question with everything that followed it: answers, tool calls and their results are never separated."""

FROM_DOCUMENTS = "(answered from documents)"
"""Replaces, in prompts, an answer based on documents, because these may have been removed since."""
_LEAST_RESULT = 32


def exchanges(messages: Iterable[BaseMessage]) -> list[Exchange]:
    """Split a conversation into its answered questions, leaving out unanswered ones."""
    return [exchange for exchange in turns(messages) if isinstance(exchange[-1], AIMessage)]


def turns(messages: Iterable[BaseMessage]) -> list[Exchange]:
    """Split a conversation into its questions, answered or not, each with what followed it."""
    found: list[Exchange] = []
    for message in messages:
        if isinstance(message, HumanMessage):
            found.append([message])
        elif found and not isinstance(message, SystemMessage):
            found[-1].append(message)
    return found


def remembered(conversation: Sequence[Exchange], through: str | None, group: str | None = None) -> list[Exchange]:
    """Return the conversation as a speaker remembers it: with its own answers instead of the final ones.

    ``group`` is the speaking group, or ``None`` for the supervisor. Exchanges up to the message ``through`` are
    left out, because a summary replaces them. Answers that cite documents are replaced by a note; only their
    questions are remembered.
    """
    start = 0
    if through:
        start = next((i + 1 for i, exchange in enumerate(conversation) if exchange[-1].id == through), 0)
    return [_as_own(exchange, group) for exchange in conversation[start:]]


def own_part(conversation: Sequence[Exchange], group: str) -> list[Exchange]:
    """Return the exchanges in which a group answered."""
    return [_as_own(exchange, group) for exchange in conversation if own_answer(exchange[-1], group) is not None]


def _as_own(exchange: Exchange, group: str | None) -> Exchange:
    final = exchange[-1]
    if is_cited(final):
        return [*exchange[:-1], AIMessage(FROM_DOCUMENTS, id=final.id, name=final.name)]
    own = None if group is None else own_answer(final, group)
    if own is None or own == final.text:
        return exchange
    return [*exchange[:-1], AIMessage(own, id=final.id, name=group)]


def is_cited(message: BaseMessage) -> bool:
    """Return whether a message has citations of documents."""
    blocks = message.content if isinstance(message.content, list) else ()
    return any(isinstance(block, dict) and block.get("annotations") for block in blocks)


def newest(past: Sequence[Exchange], tokens: int, count: TokenCounter) -> list[Exchange]:
    """Return the newest exchanges that together take at most ``tokens`` tokens, in order."""
    kept: list[Exchange] = []
    for exchange in reversed(past):
        tokens -= count(exchange)
        if tokens < 0:
            break
        kept.append(exchange)
    return kept[::-1]


def prompt_of(
    system: str,
    past: Sequence[Exchange],
    turn: Sequence[BaseMessage],
    *,
    window: Window,
    count: TokenCounter,
    extra: int = 0,
    who: str = "the model",
) -> list[BaseMessage]:
    """Return a prompt that fits: the system prompt, as much of the past as there is room for, and this turn.

    ``extra`` tokens are reserved for parts that are not messages, such as descriptions of tools. Tool results are
    shortened before the turn is rejected.

    Raises:
        ContextOverflowError: The turn does not fit even without any past.
    """
    head = SystemMessage(system)
    fixed = [head, *turn]
    room = window.prompt - extra
    if count(fixed) > room:
        fixed = [head, *_with_shorter_results(turn, lambda kept: count([head, *kept]) <= room)]
    taken = count(fixed)
    if taken > room:
        raise ContextOverflowError(
            f"The question does not fit: with its instructions it takes about {taken + extra} tokens, and {who} "
            f"reads {window.prompt} at most (a context of {window.context}, {window.answer} of it kept for the "
            "answer). Shorten the question, or raise num_ctx."
        )
    return [
        fixed[0],
        *(message for exchange in newest(past, room - taken, count) for message in exchange),
        *fixed[1:],
    ]


def _with_shorter_results(
    turn: Sequence[BaseMessage], fits: Callable[[list[BaseMessage]], bool]
) -> list[BaseMessage]:
    """Halve the tools' results repeatedly until the turn fits or nothing is left to cut."""
    kept = list(turn)
    limit = 4096
    while not fits(kept) and limit >= _LEAST_RESULT:
        kept = [_cut(message, limit) if isinstance(message, ToolMessage) else message for message in kept]
        limit //= 2
    return kept


def _cut(message: ToolMessage, tokens: int) -> ToolMessage:
    text = shorten(message.text, tokens)
    return message if text == message.text else message.model_copy(update={"content": text})
