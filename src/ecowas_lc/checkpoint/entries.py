"""A thread's title and length for lists of threads, which the row of its latest checkpoint does not contain.

Each checkpoint of a thread's own namespace writes them to the field ``T`` of the thread's key, so that a list does
not have to read messages. If the field is missing, or belongs to another checkpoint, the messages are read
instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

_TITLE_CHARACTERS = 100
_LOOKED_AT = 50  # messages to search for a title: a conversation begins with a question
MESSAGES = "messages"  # the channel's name


class About(NamedTuple):
    """A thread's title, its number of messages and of a person's messages; ``None``: not in this checkpoint."""

    title: str | None
    messages: int | None
    turns: int | None


UNKNOWN = About(None, None, None)


def about(values: Mapping[str, Any]) -> About:
    """Return the title and length of a checkpoint with these channel values."""
    items = values.get(MESSAGES)
    if not isinstance(items, list):
        items = getattr(items, "value", None)  # a delta channel's snapshot
        if not isinstance(items, list):
            return UNKNOWN
    kinds = Counter(map(type, items))
    messages = sum([count for kind, count in kinds.items() if issubclass(kind, BaseMessage)])
    people = {kind: count for kind, count in kinds.items() if issubclass(kind, HumanMessage)}
    first = None
    # By type, because isinstance is slow for LangChain's classes, and this is done in each step.
    for item in islice(items, _LOOKED_AT) if people else ():
        if type(item) in people:
            # LangChain's SummarizationMiddleware replaces the summarised messages with a summary.
            if not _is_summary(item):
                first = item
                break
            first = item if first is None else first
    return About(None if first is None else _title(text_of(first)), messages, sum(people.values()))


def messages_in(values: Mapping[str, Any]) -> list[BaseMessage]:
    """Return the conversation in these channel values; the channel may also hold something else, then ``[]``."""
    items = values.get(MESSAGES)
    return [item for item in items if isinstance(item, BaseMessage)] if isinstance(items, list) else []


def said_in(values: Mapping[str, Any]) -> list[BaseMessage]:
    """Return the questions and answers in these channel values, without system prompts and tool results."""
    return [item for item in messages_in(values) if isinstance(item, (HumanMessage, AIMessage))]


def text_of(message: BaseMessage) -> str:
    """Return a message's text."""
    content: Any = message.content
    if isinstance(content, str):
        return str(content)
    # Not message.text, which fails on a message whose content was replaced; a title must not make a write fail.
    blocks = content if isinstance(content, list) else ()
    texts = (block.get("text") if isinstance(block, dict) else block for block in blocks)
    return "".join(text for text in texts if isinstance(text, str))


def _is_summary(message: HumanMessage) -> bool:
    others: Any = message.additional_kwargs
    return isinstance(others, dict) and others.get("lc_source") == "summarization"


def _title(text: str) -> str | None:
    line = " ".join(text[: 4 * _TITLE_CHARACTERS].split())
    return (line if len(line) <= _TITLE_CHARACTERS else f"{line[: _TITLE_CHARACTERS - 1]}…") or None
