"""A picture of a thread: its checkpoints down the page, forks beside them, who spoke and what waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.runnables import RunnableConfig

from ecowas_lc.drawing.graphviz import rendered
from ecowas_lc.drawing.lanes import Lanes, lanes_of
from ecowas_lc.drawing.moments import Moment, moments_of
from ecowas_lc.drawing.showing import Picture
from ecowas_lc.drawing.timeline import timeline_ascii, timeline_dot, timeline_mermaid
from ecowas_lc.errors import InvalidInputError


def draw_thread(
    saver: Any, thread_id: str, *, limit: int | None = 100, channel: str = "messages", checkpoint_ns: str = ""
) -> ThreadPicture:
    """Return a picture of a thread's checkpoints as a timeline that shows itself in notebooks; no network is used.

    ``saver`` is any langgraph checkpointer. ``limit`` is how many checkpoints are drawn at most, the newest
    (``None``: all). ``channel`` is where the state keeps its messages. ``checkpoint_ns`` names a subgraph's
    checkpoints instead of the thread's own. Each checkpoint has a number, and ``picture[number].config`` leads
    back to it.

    Raises:
        InvalidInputError: no checkpointer, or it has no such thread.
    """
    if not hasattr(saver, "list") or not hasattr(saver, "alist"):
        raise InvalidInputError(f"{saver!r} is not a checkpointer. Pass one, such as RedisSaver.from_settings().")
    found = list(saver.list(_config(thread_id, checkpoint_ns), limit=limit))
    return _picture(found, thread_id, channel)


async def adraw_thread(
    saver: Any, thread_id: str, *, limit: int | None = 100, channel: str = "messages", checkpoint_ns: str = ""
) -> ThreadPicture:
    """Return a picture of a thread without blocking the event loop: see :func:`draw_thread`."""
    if not hasattr(saver, "alist"):
        raise InvalidInputError(f"{saver!r} is not a checkpointer. Pass one, such as RedisSaver.from_settings().")
    found = [item async for item in saver.alist(_config(thread_id, checkpoint_ns), limit=limit)]
    return _picture(found, thread_id, channel)


@dataclass(frozen=True)
class ThreadPicture(Picture):
    """A picture of a thread; ``picture[number]`` and iteration give its :class:`Moment` objects, oldest first."""

    thread_id: str
    moments: tuple[Moment, ...]

    @property
    def is_cut(self) -> bool:
        """Whether one that is drawn follows another that is not: it was left out here, or pruned."""
        return any(moment.is_cut for moment in self.moments)

    @cached_property
    def lanes(self) -> Lanes:
        """Which lane each moment is drawn in."""
        return lanes_of(self.moments)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return rendered(timeline_dot(self.moments, self.lanes, dpi=72), "svg").decode()

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG."""
        return rendered(timeline_dot(self.moments, self.lanes, dpi=96), "png")

    @cached_property
    def mermaid(self) -> str:
        """The picture in Mermaid's language, which GitHub and many others draw."""
        return timeline_mermaid(self.moments)

    @cached_property
    def ascii(self) -> str:
        """The picture in plain characters."""
        return timeline_ascii(self.moments, self.lanes)

    def __getitem__(self, number: int) -> Moment:
        """The moment with this number, counted from 1.

        Raises:
            InvalidInputError: no moment has this number.
        """
        if not 1 <= number <= len(self.moments):
            raise InvalidInputError(
                f"No checkpoint has the number {number}: they go from 1 to {len(self.moments)}."
            )
        return self.moments[number - 1]

    def __iter__(self) -> Iterator[Moment]:
        return iter(self.moments)

    def __len__(self) -> int:
        return len(self.moments)


def _config(thread_id: str, checkpoint_ns: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}}


def _picture(found: list[Any], thread_id: str, channel: str) -> ThreadPicture:
    if not found:
        raise InvalidInputError(f"There is no thread {thread_id!r} here. Look for its id with saver.list(None).")
    return ThreadPicture(thread_id, tuple(moments_of(found, channel)))
