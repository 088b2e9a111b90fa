"""The events of a turn, one class for each kind: a session's runner yields them to its callers.

The agent extracts the final answer from them, the command line displays them, a server passes them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

SYNTHESIS = "synthesis"
"""The speaker of the answer that combines several groups' answers."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a turn; ``kind`` names it in one word."""

    kind: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the event as a dict of plain values, with its kind under ``"kind"``."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Routed(Event):
    """The groups have been chosen (empty: the supervisor answers itself)."""

    kind: ClassVar[str] = "routed"
    groups: tuple[str, ...]
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Token(Event):
    """A group, the supervisor or the synthesis has written another piece of a message."""

    kind: ClassVar[str] = "token"
    speaker: str
    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled(Event):
    """A group's model calls a tool."""

    kind: ClassVar[str] = "tool_call"
    group: str
    id: str
    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolReturned(Event):
    """A tool has returned its result or, with ``status="error"``, has failed."""

    kind: ClassVar[str] = "tool_result"
    group: str
    id: str
    name: str
    text: str
    status: str


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """The turn waits for a decision on ``request``; resume it with ``Command(resume={id: decision})``."""

    kind: ClassVar[str] = "waiting"
    id: str
    request: Any


@dataclass(frozen=True, slots=True)
class SpeakerDone(Event):
    """A speaker has finished; a group has a report."""

    kind: ClassVar[str] = "speaker_done"
    speaker: str
    report: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The turn is finished; ``speaker`` gave its answer in the message ``message_id``."""

    kind: ClassVar[str] = "finished"
    question: str
    answer: str
    speaker: str
    message_id: str
    groups: tuple[str, ...]
    source: str
    reason: str
    reports: Mapping[str, Any] = field(default_factory=dict)
    citations: tuple[Mapping[str, Any], ...] = ()
    """The sources that the answer's marks refer to: number, document id, title, page and cited text."""
