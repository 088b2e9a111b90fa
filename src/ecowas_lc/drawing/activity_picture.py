"""A picture of a memory service over time: sessions by day, and when each session was active."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from ecowas_lc.drawing.canvas import Canvas, CanvasPicture, wide
from ecowas_lc.drawing.graph_picture import shortened
from ecowas_lc.drawing.picture import GRID, HUES, QUIET, SOFT
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.memory import SessionInfo
from ecowas_lc.memory.service import MemoryServiceBase

_NAMES, _WIDTH, _ROW, _COLUMN = 140.0, 470.0, 17.0, 62.0
_BETWEEN, _COUNTS = 22.0, 60.0  # between the names of agents; the column of messages
_MOST_DAYS = 60


def draw_activity(memory: Any, *, limit: int = 25) -> ActivityPicture:
    """Return a picture of a memory service's sessions over time.

    The upper part shows how many sessions were last active on each day, by agent. The lower part shows the period
    in which each session was active, the most recent first. Only the histories' ages are read, not their messages.

    Args:
        memory: A memory service.
        limit: Maximum number of sessions in the lower part.

    Returns:
        The picture.

    Raises:
        InvalidInputError: ``memory`` is not a memory service.
    """
    if not isinstance(memory, MemoryServiceBase):
        raise InvalidInputError(f"{memory!r} is not a memory service. Pass get_redis_memory(), for example.")
    infos = memory.server.run(memory._programs.sessions.all_op())
    return ActivityPicture(tuple(info for info in infos if info.last_activity is not None), limit)


@dataclass(frozen=True)
class _Line:
    session: str
    first: datetime
    last: datetime
    agents: tuple[str, ...]
    messages: int


@dataclass(frozen=True)
class ActivityPicture(CanvasPicture):
    """A picture of sessions over time; ``infos`` are the histories in it."""

    infos: tuple[SessionInfo, ...]
    limit: int = 25

    @cached_property
    def _agents(self) -> list[str]:
        return [agent for agent, _ in Counter(info.agent_id for info in self.infos).most_common()]

    @cached_property
    def _lines(self) -> list[_Line]:
        by_session: dict[str, list[SessionInfo]] = {}
        for info in self.infos:
            by_session.setdefault(info.session_id, []).append(info)
        lines = []
        for session, ones in by_session.items():
            last = [one.last_activity for one in ones if one.last_activity is not None]
            first = [one.first_activity for one in ones if one.first_activity is not None] or last
            ranked = sorted(ones, key=lambda one: -one.messages)
            agents = tuple(one.agent_id for one in ranked)
            lines.append(_Line(session, min(first), max(last), agents, sum(one.messages for one in ones)))
        return sorted(lines, key=lambda line: (-line.last.timestamp(), line.session))

    @cached_property
    def by_day(self) -> dict[str, Counter[str]]:
        """Number of histories of each agent by the day (UTC) on which they were last active, oldest first."""
        if not self.infos:
            return {}
        days = [info.last_activity.date() for info in self.infos if info.last_activity is not None]
        last, first = max(days), max(min(days), max(days) - timedelta(days=_MOST_DAYS - 1))
        found = {str(first + timedelta(days=n)): Counter[str]() for n in range((last - first).days + 1)}
        for info, day in zip(self.infos, days, strict=True):
            if str(day) in found:
                found[str(day)][info.agent_id] += 1
        return found

    @cached_property
    def _canvas(self) -> Canvas:
        canvas = Canvas()
        canvas.text(
            4, 0, f"{len(self._lines):,} session{'' if len(self._lines) == 1 else 's'}", size=11, bold=True
        )
        if not self.infos:
            return canvas
        x = _NAMES
        for most in (22, 14):
            names = [shortened(agent.replace("_", " "), most) for agent in self._agents[:7]]
            if sum(wide(name, 9) + _BETWEEN for name in names) <= _WIDTH + _COUNTS:
                break
        for agent, name in zip(self._agents, names, strict=False):
            canvas.rectangle(x, 3, 9, 9, self._hue(agent))
            canvas.text(x + 12, 1, name, size=9, colour=QUIET)
            x += wide(name, 9) + _BETWEEN
        bottom = self._days(canvas, 24.0)
        self._sessions(canvas, bottom + 14)
        return canvas

    def _days(self, canvas: Canvas, top: float) -> float:
        days = self.by_day
        most = max(sum(counts.values()) for counts in days.values()) or 1
        step = min(_WIDTH / len(days), 40.0)
        canvas.text(4, top + _COLUMN - 14, "active last on", size=9, colour=QUIET)
        for index, (day, counts) in enumerate(days.items()):
            y = top + _COLUMN
            canvas.rectangle(_NAMES + index * step + 1, y, step - 2, 1, GRID)
            for agent in self._agents:
                if count := counts.get(agent):
                    height = max((_COLUMN - 4) * count / most, 1)
                    y -= height
                    about = f"{day}: {agent} {count}"
                    canvas.rectangle(_NAMES + index * step + 1, y, step - 2, height, self._hue(agent), about)
            if index % max(1, round(len(days) / 8)) == 0:
                place = _NAMES + (index + 0.5) * step
                canvas.text(place, top + _COLUMN + 3, day[5:], size=8.5, colour=QUIET, align="CENTER")
        canvas.text(_NAMES - 6, top - 2, f"{most:,}", size=8.5, colour=QUIET, align="RIGHT")
        return top + _COLUMN + 12

    def _sessions(self, canvas: Canvas, top: float) -> None:
        lines = self._lines[: self.limit]
        first, last = min(line.first for line in lines), max(line.last for line in lines)
        span = max((last - first).total_seconds(), 1.0)
        for row, line in enumerate(lines):
            y = top + row * _ROW
            begin = _NAMES + _WIDTH * (line.first - first).total_seconds() / span
            end = _NAMES + _WIDTH * (line.last - first).total_seconds() / span
            begin = min(begin, _NAMES + _WIDTH - 4)
            when = f"{line.first:%Y-%m-%d %H:%M} to {line.last:%Y-%m-%d %H:%M}"
            about = f"{line.session}: {when}, {', '.join(line.agents)}"
            canvas.text(4, y + 1, shortened(line.session, 20), size=9.5)
            canvas.rectangle(_NAMES, y + 3, _WIDTH, 9, SOFT)
            canvas.rectangle(begin, y + 3, max(end - begin, 4), 9, self._hue(line.agents[0]), about)
            canvas.text(_NAMES + _WIDTH + 8, y + 1, f"{line.messages:,}", size=9, colour=QUIET)
        y = top + len(lines) * _ROW + 2
        canvas.text(_NAMES, y, f"{first:%Y-%m-%d %H:%M}", size=8.5, colour=QUIET)
        canvas.text(_NAMES + _WIDTH, y, f"{last:%Y-%m-%d %H:%M} UTC", size=8.5, colour=QUIET, align="RIGHT")
        canvas.text(_NAMES + _WIDTH + 8, y, "messages", size=8.5, colour=QUIET)

    def _hue(self, agent: str) -> str:
        return HUES[self._agents.index(agent) % len(HUES)]

    @cached_property
    def mermaid(self) -> str:
        """The number of histories last active on each day, in Mermaid's language."""
        days = self.by_day or {"today": Counter()}
        counts = [sum(one.values()) for one in days.values()]
        names = ", ".join(f'"{day}"' for day in days)
        return (
            f'xychart-beta\n  title "Histories by day"\n  x-axis [{names}]\n  y-axis "histories"\n  bar {counts}\n'
        )

    @cached_property
    def ascii(self) -> str:
        """The picture as plain text."""
        counts: Sequence[tuple[str, int]] = [(day, sum(one.values())) for day, one in self.by_day.items()]
        most = max((count for _, count in counts), default=1) or 1
        lines = [f"{day}  {'#' * round(40 * count / most)} {count}" for day, count in counts]
        return "\n".join(lines or ["No sessions."]) + "\n"
