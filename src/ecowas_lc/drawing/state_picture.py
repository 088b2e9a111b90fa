"""A picture of a thread's state: the size of each channel at each checkpoint, and where it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.runnables import RunnableConfig

from ecowas_lc.checkpoint.viewing import viewed
from ecowas_lc.drawing.canvas import Canvas, CanvasPicture
from ecowas_lc.drawing.graph_picture import mermaid_text, shortened
from ecowas_lc.drawing.picture import GRID, QUIET, SOFT, TAKEN
from ecowas_lc.drawing.thread_layout import Moment, moments_of
from ecowas_lc.errors import InvalidInputError

_INNER = ("branch:to:", "__")
_NAMES, _WIDTH, _HEIGHT, _GAP = 150.0, 440.0, 22.0, 7.0
_MOST_CHANNELS = 24


def draw_state(graph: Any, thread_id: str, *, limit: int = 60, checkpoint_ns: str = "") -> StatePicture:
    """Return a picture of the size of a thread's channels over time, and of where they changed.

    Args:
        graph: A compiled graph with a checkpointer, or the checkpointer.
        thread_id: The thread.
        limit: Maximum number of checkpoints; the newest are drawn.
        checkpoint_ns: The namespace of a subgraph's checkpoints; empty for the thread's own.

    Returns:
        The picture. Sizes are in bytes, of the values as the checkpointer serializes them.

    Raises:
        InvalidInputError: There is no checkpointer, or it has no such thread.
    """
    saver = getattr(graph, "checkpointer", graph)
    if not hasattr(saver, "list"):
        raise InvalidInputError(f"{graph!r} has no checkpointer. Pass a compiled graph that has one, or a saver.")
    place: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}}
    reading = viewed(saver)
    found = list(reading.list(place, limit=limit))
    if not found:
        raise InvalidInputError(f"There is no thread {thread_id!r} here. Look for its id with saver.list(None).")
    oldest_first = found[::-1]
    names: dict[str, None] = {}
    for item in oldest_first:
        names |= {name: None for name in item.checkpoint["channel_values"] if not name.startswith(_INNER)}
    versions: dict[str, Any] = {}
    sizes: dict[str, list[int]] = {name: [] for name in names}
    changed: dict[str, list[bool]] = {name: [] for name in names}
    for item in oldest_first:
        values, now = item.checkpoint["channel_values"], item.checkpoint["channel_versions"]
        for name in names:
            is_new = name in now and versions.get(name) != now[name]
            again = bool(sizes[name]) and not is_new and name in values and sizes[name][-1] > 0
            sizes[name].append(sizes[name][-1] if again else _size(reading, values[name]) if name in values else 0)
            changed[name].append(is_new)
        versions = dict(now)
    moments = moments_of(found, "messages")
    return StatePicture(thread_id, tuple(moments), sizes, changed)


def _size(saver: Any, value: Any) -> int:
    try:
        return len(saver.serde.dumps_typed(value)[1])
    except Exception:  # a value that may be read is not always serializable again
        return len(str(value))


@dataclass(frozen=True)
class StatePicture(CanvasPicture):
    """A picture of a thread's channels over time; ``sizes`` (in bytes) and ``changed`` are by channel."""

    thread_id: str
    moments: tuple[Moment, ...]
    sizes: Mapping[str, list[int]]
    changed: Mapping[str, list[bool]]

    @property
    def _channels(self) -> list[str]:
        return sorted(self.sizes, key=lambda name: -max(self.sizes[name], default=0))[:_MOST_CHANNELS]

    @cached_property
    def _canvas(self) -> Canvas:
        canvas = Canvas()
        count = len(self.moments)
        step = min(_WIDTH / count, 26.0)
        canvas.text(4, 0, f"State of {shortened(self.thread_id, 50)}", size=11, bold=True)
        told = "Height: size. Blue: the channel changed there."
        canvas.text(_NAMES + _WIDTH + 70, 1, told, size=9, colour=QUIET, align="RIGHT")
        top = 22.0
        for row, name in enumerate(self._channels):
            y = top + row * (_HEIGHT + _GAP)
            largest = max(*self.sizes[name], 1)
            canvas.text(4, y + 5, shortened(name, 22), size=10)
            canvas.rectangle(_NAMES, y, step * count, _HEIGHT, SOFT)
            for index, (size, is_new) in enumerate(zip(self.sizes[name], self.changed[name], strict=True)):
                if not size and not is_new:
                    continue
                height = max(_HEIGHT * size / largest, 2)
                about = f"checkpoint {index + 1}, {self.moments[index].title}: {name} {_bytes(size)}"
                fill = TAKEN if is_new else GRID
                canvas.rectangle(_NAMES + index * step + 1, y + _HEIGHT - height, step - 2, height, fill, about)
            told = f"{_bytes(self.sizes[name][-1])}, {sum(self.changed[name])}×"
            canvas.text(_NAMES + step * count + 8, y + 5, told, size=9.5, colour=QUIET)
        y = top + len(self._channels) * (_HEIGHT + _GAP)
        every = max(1, round(count / 12))
        for index in range(0, count, every):
            canvas.text(_NAMES + (index + 0.5) * step, y, str(index + 1), size=8.5, colour=QUIET, align="CENTER")
        canvas.text(4, y, "checkpoint", size=9, colour=QUIET)
        return canvas

    @cached_property
    def mermaid(self) -> str:
        """The size of the whole state, in Mermaid's language."""
        totals = [sum(sizes[index] for sizes in self.sizes.values()) for index in range(len(self.moments))]
        return (
            f'xychart-beta\n  title "State of {mermaid_text(shortened(self.thread_id, 50))}"\n'
            f'  x-axis "checkpoint" 1 --> {max(len(totals), 2)}\n  y-axis "bytes"\n  line {totals}\n'
        )

    @cached_property
    def ascii(self) -> str:
        """The picture as plain text."""
        lines = [f"{'channel':<24} {'size':>9}  changed at"]
        for name in self._channels:
            at = [str(index + 1) for index, is_new in enumerate(self.changed[name]) if is_new]
            shown_name = name.encode("ascii", "replace").decode()
            lines.append(f"{shown_name[:24]:<24} {_bytes(self.sizes[name][-1]):>9}  {', '.join(at)[:44]}")
        return "\n".join(lines) + "\n"


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"
