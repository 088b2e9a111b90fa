"""A thread's checkpoints as moments, and the lanes in which a picture places them.

A moment says where a checkpoint came from, what ran, who spoke and what waits. Each fork gets its own lane, so
that no line covers another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from ecowas_lc.drawing.requests import (
    SENDS,
    Failure,
    Request,
    failures_of,
    next_nodes,
    on_one_line,
    requests_of,
)

_SPEAKERS = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


@dataclass(frozen=True, slots=True)
class SpokenLine:
    """A message: its speaker, and its text on one line."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One checkpoint of a thread.

    Attributes:
        number: Its number in order of time, from 1.
        parent: The number of the checkpoint that it follows, or ``None`` if that is not drawn.
        config: Its config: ``graph.invoke(None, moment.config)`` continues from there, as a fork.
        source: LangGraph's source: ``"input"``, ``"loop"``, ``"update"`` or ``"fork"``.
        ran: The nodes that led to it.
        said: The new messages.
        next: The nodes that run next.
        waiting: The requests of interrupts that wait.
        answered: The requests of interrupts that were answered.
        failed: The errors of its steps.
        is_cut: Whether it follows a checkpoint that is not drawn.
        at: When it was stored.
        seconds: Seconds since the previous checkpoint.
        requests: What waits, with its step.
        failures: What failed, with its step.
        route: The groups that the supervisor chose here.
        why: The reason for that choice.
        reports: The result of asking each group.
    """

    number: int
    parent: int | None
    config: RunnableConfig
    source: str
    ran: tuple[str, ...]
    said: tuple[SpokenLine, ...]
    waiting: tuple[str, ...]
    answered: tuple[str, ...]
    failed: tuple[str, ...]
    next: tuple[str, ...]
    is_cut: bool = False
    at: datetime | None = None
    seconds: float | None = None
    requests: tuple[Request, ...] = ()
    failures: tuple[Failure, ...] = ()
    route: tuple[str, ...] | None = None
    why: str = ""
    reports: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def title(self) -> str:
        """What happened, in a word or two."""
        ran = " + ".join(name.strip("_") for name in self.ran)
        if self.source == "loop":
            return ran or "step"
        return f"{self.source} as {ran}" if ran and self.source == "update" else self.source


def moments_of(newest_first: Iterable[CheckpointTuple], channel: str) -> list[Moment]:
    """Return the checkpoints as moments, oldest first, with the messages of the state's ``channel``."""
    found = list(newest_first)[::-1]
    numbers = {_id(item.config): number for number, item in enumerate(found, start=1)}
    by_id = {_id(item.config): item for item in found}
    followed = {_id(item.parent_config) for item in found if item.parent_config}
    moments = []
    for number, item in enumerate(found, start=1):
        before = _id(item.parent_config) if item.parent_config else None
        parent = by_id.get(before) if before else None
        waiting, answered = requests_of(item, is_over=_id(item.config) in followed)
        failures = failures_of(item)
        at = time_of(item)
        since = time_of(parent) if parent else None
        route, why = _route(item, parent)
        moments.append(
            Moment(
                number=number,
                parent=numbers.get(before) if before else None,
                config=item.config,
                source=str(item.metadata.get("source", "loop")),
                ran=_ran(item, parent) if parent or before is None else (),
                said=tuple(map(_spoken_line, new_messages(item, parent, channel, is_first=before is None))),
                waiting=tuple(request.text for request in waiting),
                answered=tuple(request.text for request in answered),
                failed=tuple(failure.text for failure in failures),
                next=next_nodes(item),
                is_cut=bool(before) and before not in numbers,
                at=at,
                seconds=max(0.0, (at - since).total_seconds()) if at and since else None,
                requests=tuple(waiting),
                failures=tuple(failures),
                route=route,
                why=why,
                reports=_reports(item, parent),
            )
        )
    return moments


def time_of(item: CheckpointTuple) -> datetime | None:
    """Return when a checkpoint was stored, or ``None`` if its timestamp is not valid."""
    try:
        found = datetime.fromisoformat(str(item.checkpoint["ts"]))
    except (ValueError, KeyError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _route(item: CheckpointTuple, parent: CheckpointTuple | None) -> tuple[tuple[str, ...] | None, str]:
    decision = item.checkpoint["channel_values"].get("decision")
    before = parent.checkpoint["channel_versions"].get("decision") if parent else None
    if parent is None or item.checkpoint["channel_versions"].get("decision") == before:
        return None, ""
    if not isinstance(decision, Mapping) or not isinstance(decision.get("groups"), (list, tuple)):
        return None, ""
    return tuple(map(str, decision["groups"])), on_one_line(decision.get("reason", ""))


def _reports(item: CheckpointTuple, parent: CheckpointTuple | None) -> dict[str, str]:
    reports = item.checkpoint["channel_values"].get("reports")
    old = parent.checkpoint["channel_values"].get("reports") if parent else None
    if parent is None or not isinstance(reports, Mapping):
        return {}
    known = old if isinstance(old, Mapping) else {}
    return {
        str(group): str(report.get("status", ""))
        for group, report in reports.items()
        if isinstance(report, Mapping) and known.get(group) != report
    }


def _id(config: Mapping[str, Any] | None) -> str:
    return str((config or {}).get("configurable", {}).get("checkpoint_id", ""))


def _ran(item: CheckpointTuple, parent: CheckpointTuple | None) -> tuple[str, ...]:
    # versions_seen changes for exactly the nodes that ran, except those started with Send
    before = parent.checkpoint["versions_seen"] if parent else {}
    seen = item.checkpoint["versions_seen"]
    ran = [name for name in seen if name != "__input__" and seen[name] != before.get(name, {})]
    ran = [name for name in ran if name != "__interrupt__"]
    if parent and item.metadata.get("source") == "loop":
        ran += [send.node for send in parent.checkpoint["channel_values"].get(SENDS) or ()]
    return tuple(dict.fromkeys(ran))


def new_messages(
    item: CheckpointTuple, parent: CheckpointTuple | None, channel: str, *, is_first: bool
) -> Sequence[BaseMessage]:
    """Return the messages in a checkpoint that are new or changed since the one before it."""
    if parent is None and not is_first:
        return ()  # the checkpoint before is not drawn, so no message is known to be new
    values = item.checkpoint["channel_values"]
    if channel in values or channel not in item.checkpoint["channel_versions"]:
        old = _messages(parent.checkpoint["channel_values"].get(channel)) if parent else []
        known = {message.id: _content_of(message) for message in old}
        return [
            message for message in _messages(values.get(channel)) if known.get(message.id) != _content_of(message)
        ]
    # With a DeltaChannel, the value is not in every checkpoint, but the writes that made it are with its parent.
    writes = (parent.pending_writes or []) if parent else []
    return [message for _, name, value in writes if name == channel for message in _messages(value)]


def _content_of(message: BaseMessage) -> tuple[Any, ...]:
    """Return what identifies the contents of a message; a streamed chunk and its final message have the same."""
    return message.content, message.name, getattr(message, "tool_calls", None)


def _messages(value: Any) -> list[BaseMessage]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    try:
        return convert_to_messages(listed)
    except (NotImplementedError, ValueError, TypeError):  # the channel holds something else
        return []


def speaker_of(message: BaseMessage) -> str:
    """Return who says a message: its name, or else ``user`` or ``assistant``."""
    return message.name or _SPEAKERS.get(message.type, message.type)


def _spoken_line(message: BaseMessage) -> SpokenLine:
    speaker = speaker_of(message)
    if isinstance(message, ToolMessage) and message.name:
        speaker = f"tool {message.name}"
    text = on_one_line(message.text)
    if not text and isinstance(message, AIMessage) and message.tool_calls:
        text = "calls " + ", ".join(f"{call['name']}({on_one_line(call['args'])})" for call in message.tool_calls)
    return SpokenLine(speaker, text)


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lane of each moment (by number, counted from 0), and the moments from which forks branch off."""

    of: dict[int, int]
    count: int

    def forks_from(self, moment: Moment, moments: Sequence[Moment]) -> list[Moment]:
        """Return the moments in other lanes that follow this one."""
        return [m for m in moments if m.parent == moment.number and self.of[m.number] != self.of[moment.number]]


def lanes_of(moments: Sequence[Moment]) -> Lanes:
    """Return the lanes: the first moment to follow another stays in its lane, any further one gets a free lane."""
    branch: dict[int, int] = {}  # a moment's number to the number with which its branch starts
    continued: set[int] = set()
    spans: dict[int, tuple[int, int]] = {}  # a branch to the rows that it covers, including its connection
    for moment in moments:
        parent = moment.parent
        if parent is not None and parent not in continued:
            continued.add(parent)
            begun = branch[parent]
        else:
            begun = moment.number
        branch[moment.number] = begun
        first = spans[begun][0] if begun in spans else (parent or moment.number)
        spans[begun] = (first, moment.number)
    taken: list[list[tuple[int, int]]] = []
    lane_of_branch: dict[int, int] = {}
    for begun, (first, last) in spans.items():
        parent = moments[begun - 1].parent
        lowest = lane_of_branch[branch[parent]] + 1 if parent is not None else 0
        lane = next(
            (n for n in range(lowest, len(taken)) if all(last < a or b < first for a, b in taken[n])),
            max(lowest, len(taken)),
        )
        while len(taken) <= lane:
            taken.append([])
        taken[lane].append((first, last))
        lane_of_branch[begun] = lane
    return Lanes({m.number: lane_of_branch[branch[m.number]] for m in moments}, len(taken))


@dataclass(frozen=True, slots=True)
class LaneRow:
    """The moments in one row of a picture: one, a few of which only the last has messages, or those of a turn."""

    moments: tuple[Moment, ...]

    @property
    def moment(self) -> Moment:
        """The last moment, whose number the row shows."""
        return self.moments[-1]

    @property
    def names(self) -> list[str]:
        """What happened, in order."""
        names: list[str] = []
        for moment in self.moments:
            if moment.source == "input" and len(self.moments) > 1:
                names = []  # the nodes that ended the previous turn say nothing about this one
            elif not names or names[-1] != moment.title:
                names.append(moment.title)
        return names

    @property
    def seconds(self) -> float | None:
        """How long the steps took."""
        found = [one.seconds for one in self.moments if one.seconds is not None and one.source == "loop"]
        return sum(found) if found else None

    @property
    def is_cut(self) -> bool:
        """Whether it follows a checkpoint that is not drawn."""
        return any(moment.is_cut for moment in self.moments)


class Folding(Enum):
    """How much of a thread shares a row."""

    NOTHING = "each checkpoint has its own"
    STEPS = "steps without messages share that of the next step"
    TURNS = "a turn has one, unless it waits, failed or was forked"


def rows_of(moments: Sequence[Moment], lanes: Lanes, folding: Folding) -> list[LaneRow]:
    """Return the rows of a picture."""
    rows: list[LaneRow] = []
    waiting: list[Moment] = []
    forked = {
        moment.parent
        for moment in moments
        if moment.parent and lanes.forks_from(moments[moment.parent - 1], moments)
    }
    for moment in moments:
        begins = folding is Folding.TURNS and moment.source != "loop"
        if waiting and (
            begins
            or moment.parent != waiting[-1].number
            or lanes.of[moment.number] != lanes.of[waiting[-1].number]
        ):
            rows.append(LaneRow(tuple(waiting)))
            waiting = []
        waiting.append(moment)
        tells = bool(moment.waiting or moment.answered or moment.failed)
        if folding is not Folding.TURNS:
            tells = tells or bool(moment.said) or moment.route is not None
            tells = tells or any(status != "answered" for status in moment.reports.values())
        if folding is Folding.NOTHING or tells or moment.number in forked:
            rows.append(LaneRow(tuple(waiting)))
            waiting = []
    return [*rows, LaneRow(tuple(waiting))] if waiting else rows
