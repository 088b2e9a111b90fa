"""Each speaker's own history of a session: read before it speaks, written once when it has spoken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid5

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from ecowas_lc.effects import Doing, Program
from ecowas_lc.errors import ConfigurationError

_NAMESPACE = UUID("5f6f4f0e-6a53-4d0e-9a86-6d0f0a4c2b71")


class History(Protocol):
    """What is used of a ``BaseChatMessageHistory``."""

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, oldest first."""
        ...

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the messages, oldest first."""
        ...

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages."""
        ...

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages."""
        ...


HistoryFactory = Callable[[str, str], Any]
"""``factory(agent_id, session_id)`` gives a :class:`History`."""


def answer_id(question_id: str | None, speaker: str) -> str:
    """Return the id under which a speaker's answer to a question is kept, the same however often it is asked."""
    return str(uuid5(_NAMESPACE, f"{question_id}\n{speaker}"))


def session_of(config: RunnableConfig) -> str:
    """Return the session of a run: its thread.

    Raises:
        ConfigurationError: the run has no thread.
    """
    thread = config.get("configurable", {}).get("thread_id")
    if thread is None or not str(thread).strip():
        raise ConfigurationError(
            "Histories are kept by session, and this run has none. "
            "Pass config={'configurable': {'thread_id': 'your-session'}}."
        )
    return str(thread)


def read(factory: HistoryFactory | None, agent_id: str, config: RunnableConfig) -> Program[list[BaseMessage]]:
    """Return the messages of one agent's history in the run's session; none without a factory."""
    if factory is None:
        return []
    history = factory(agent_id, session_of(config))
    messages: list[BaseMessage] = yield _reading(history)
    return list(messages)


def append_once(
    factory: HistoryFactory, agent_id: str, config: RunnableConfig, messages: Sequence[BaseMessage]
) -> Program[None]:
    """Append messages to an agent's history, leaving out those that an interrupted run has already appended.

    A history that says ``appends_once = True`` tells repeated ids itself and is not read first.
    """
    history = factory(agent_id, session_of(config))
    if not getattr(history, "appends_once", False):
        messages = _missing((yield _reading(history)), messages)
    if messages:
        yield _adding(history, messages)


def _reading(history: History) -> Doing:
    return Doing(lambda _: history.messages, lambda _: history.aget_messages())


def _adding(history: History, messages: Sequence[BaseMessage]) -> Doing:
    return Doing(lambda _: history.add_messages(messages), lambda _: history.aadd_messages(messages))


def _missing(stored: Sequence[BaseMessage], new: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return those of the new messages that are not stored yet.

    Where the history keeps no ids, messages at its very end that say the same are taken for the same.
    """
    ids = {message.id for message in stored if message.id is not None}
    if ids or not stored:
        return [message for message in new if message.id not in ids]
    for overlap in range(min(len(stored), len(new)), 0, -1):
        tail = stored[-overlap:]
        if all(a.type == b.type and a.text == b.text for a, b in zip(tail, new, strict=False)):
            return list(new[overlap:])
    return list(new)
