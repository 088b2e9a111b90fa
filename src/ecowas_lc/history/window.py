"""Reading the end of a history: a number of messages, or as many as fit a number of tokens."""

from __future__ import annotations

import inspect
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.history.messages import from_document
from ecowas_lc.memory.histories import Conversations
from ecowas_lc.memory.json_values import check_count
from ecowas_lc.storage.ops import Op

HistoryTokenCounter = Callable[[list[BaseMessage]], int] | Callable[[BaseMessage], int] | BaseLanguageModel[Any]

_WITHOUT_ID = uuid.UUID("6bb8b9b0-0d0c-4a5e-9d5f-3a4c9e1f7a21")
_FIRST_PAGE = 16
_MOST_RESULTS = 100  # of one call, which are read with their call if nothing else would be left
_RESULTS = frozenset({"tool", "function", "ToolMessageChunk", "FunctionMessageChunk"})


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """The limits for reading a history: a number of messages and a number of tokens; ``None``: no limit."""

    max_messages: int | None = None
    max_tokens: int | None = None
    token_counter: HistoryTokenCounter | None = None

    def __post_init__(self) -> None:
        for name in ("max_messages", "max_tokens"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        if self.token_counter is not None and self.max_tokens is None:
            raise ConfigurationError("token_counter requires max_tokens: pass both.")


def read_op(
    conversations: Conversations, agent_id: str, session_id: str, window: HistoryWindow
) -> Op[list[BaseMessage]]:
    """Return the messages in the window, oldest first.

    A window never starts between a tool call and its results: results whose call lies outside are left out. If
    nothing else would be left of ``max_messages``, their call is read too.
    """
    key = conversations.keys.history(agent_id, session_id)
    most = window.max_messages
    if most is None and window.max_tokens is None:
        documents = yield from conversations.slice_op(key, 0, -1)
        return [from_document(document, key, index) for index, document in enumerate(documents)]
    wanted = most if window.max_tokens is None else min(_FIRST_PAGE, most or _FIRST_PAGE)
    assert wanted is not None
    while True:
        # Reading one more than wanted shows whether the history continues before the window.
        documents = yield from conversations.slice_op(key, -wanted - 1, -1)
        is_cut = len(documents) > wanted
        messages = _from_end(documents[-wanted:], key)
        fitting = _fitting(messages, window)
        if is_cut and len(fitting) == len(messages) and wanted != most and window.max_tokens is not None:
            wanted = min(wanted * 2, most) if most else wanted * 2
            continue
        if not is_cut and len(fitting) == len(messages):
            return messages
        paired = _without_orphans(fitting)
        if paired or len(fitting) < len(messages):
            return paired
        return (yield from _with_their_call_op(conversations, key))


def read_all_op(conversations: Conversations, agent_id: str, session_id: str) -> Op[list[BaseMessage]]:
    """Return all messages; one without an id gets an id derived from its text and its number of occurrences."""
    messages = yield from read_op(conversations, agent_id, session_id, HistoryWindow())
    seen: Counter[str] = Counter()
    for message in messages:
        if message.id is None:
            text = message.model_dump_json()
            seen[text] += 1
            message.id = str(uuid.uuid5(_WITHOUT_ID, f"{seen[text]} {text}"))
    return messages


def _with_their_call_op(conversations: Conversations, key: bytes) -> Op[list[BaseMessage]]:
    documents = yield from conversations.slice_op(key, -_MOST_RESULTS - 1, -1)
    messages = _from_end(documents, key)
    paired = next(
        (index for index in range(len(messages) - 1, -1, -1) if messages[index].type not in _RESULTS), None
    )
    return [] if paired is None or not isinstance(messages[paired], AIMessage) else messages[paired:]


def _from_end(documents: list[dict[str, Any]], key: bytes) -> list[BaseMessage]:
    return [from_document(document, key, index) for index, document in enumerate(documents, -len(documents))]


def _fitting(messages: list[BaseMessage], window: HistoryWindow) -> list[BaseMessage]:
    if window.max_tokens is None:
        return messages
    count, budget = _list_counter(window.token_counter or count_tokens_approximately), window.max_tokens
    fitting = bisect_right(range(1, len(messages) + 1), budget, key=lambda last: count(messages[-last:]))
    return messages[len(messages) - fitting :]


def _list_counter(counter: Any) -> Callable[[list[BaseMessage]], int]:
    if isinstance(counter, BaseLanguageModel):
        return counter.get_num_tokens_from_messages
    try:
        first = next(iter(inspect.signature(counter, eval_str=True).parameters.values()))
    except (NameError, StopIteration, ValueError):
        return counter  # type: ignore[no-any-return]
    if isinstance(first.annotation, type) and issubclass(first.annotation, BaseMessage):
        return lambda messages: sum(counter(message) for message in messages)
    return counter  # type: ignore[no-any-return]


def _without_orphans(messages: list[BaseMessage]) -> list[BaseMessage]:
    for index, message in enumerate(messages):
        if message.type not in _RESULTS:
            return messages[index:]
    return []
