"""One thread of a saver, to look at."""

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
    """A thread of a saver. In a notebook it shows itself as the conversation that it is; see ``saver.thread(id)``.

    Args:
        saver: where the thread is stored.
        id: the thread's id.
        channel: where the state keeps its messages.
    """

    def __init__(self, saver: RedisSaver, id: str, *, channel: str = "messages") -> None:  # noqa: A002
        self.saver = saver
        self.id = id
        self.channel = channel

    @property
    def config(self) -> RunnableConfig:
        """The config that leads to the thread: ``graph.invoke(…, thread.config)`` goes on with it."""
        return {"configurable": {"thread_id": self.id}}

    def latest(self) -> CheckpointTuple | None:
        """Return the latest checkpoint; ``None`` where there is no such thread."""
        return self.saver.get_tuple(self.config)

    def checkpoints(self, limit: int | None = None) -> Iterator[CheckpointTuple]:
        """Yield the thread's own checkpoints, the newest first; not those of subgraphs."""
        yield from self.saver.list({"configurable": {"thread_id": self.id, "checkpoint_ns": ""}}, limit=limit)

    @property
    def values(self) -> dict[str, Any]:
        """The state in the latest checkpoint; nothing where there is no such thread."""
        found = self.latest()
        return dict(found.checkpoint["channel_values"]) if found is not None else {}

    @property
    def messages(self) -> list[BaseMessage]:
        """The conversation in the latest checkpoint."""
        found = self.values.get(self.channel)
        return [one for one in found if isinstance(one, BaseMessage)] if isinstance(found, list) else []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r} of {self.saver!r})"
