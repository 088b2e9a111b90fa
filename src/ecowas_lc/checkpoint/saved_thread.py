"""A single thread of a saver, for looking at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from ecowas_lc._display import Displayed

if TYPE_CHECKING:
    from ecowas_lc.checkpoint.saver import RedisSaver


class SavedThread(Displayed):
    """A thread of a saver, as ``saver.thread(id)`` returns it. In a notebook it displays itself as a conversation.

    Args:
        saver: The saver that stores the thread.
        id: The thread's id.
        channel: The channel of the state that holds the messages.
    """

    def __init__(self, saver: RedisSaver, id: str, *, channel: str = "messages") -> None:  # noqa: A002
        self.saver = saver
        self.id = id
        self.channel = channel

    @property
    def config(self) -> RunnableConfig:
        """The config of the thread: ``graph.invoke(…, thread.config)`` continues it."""
        return {"configurable": {"thread_id": self.id}}

    def latest(self) -> CheckpointTuple | None:
        """Return the latest checkpoint; ``None`` if the thread does not exist."""
        return self.saver.get_tuple(self.config)

    def checkpoints(self, limit: int | None = None) -> Iterator[CheckpointTuple]:
        """Yield the thread's own checkpoints, newest first, without those of subgraphs.

        Args:
            limit: The maximum number of checkpoints; ``None``: all.
        """
        yield from self.saver.list({"configurable": {"thread_id": self.id, "checkpoint_ns": ""}}, limit=limit)

    @property
    def values(self) -> dict[str, Any]:
        """The state in the latest checkpoint; empty if the thread does not exist."""
        found = self.latest()
        return dict(found.checkpoint["channel_values"]) if found is not None else {}

    @property
    def messages(self) -> list[BaseMessage]:
        """The conversation in the latest checkpoint."""
        found = self.values.get(self.channel)
        return [one for one in found if isinstance(one, BaseMessage)] if isinstance(found, list) else []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r} of {self.saver!r})"
