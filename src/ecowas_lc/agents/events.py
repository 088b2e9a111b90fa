"""What happens in a turn, one value for each thing: what a session's runner gives to whatever listens.

The facade takes the text of the final answer from them, the command line shows them, a server passes them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

SYNTHESIS = "synthesis"
"""Who speaks where several groups' answers are brought together."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a turn; ``kind`` tells in one word what."""

    kind: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the event as plain values, its kind under ``"kind"``."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Routed(Event):
    """The groups have been chosen (none: the supervisor answers itself)."""

    kind: ClassVar[str] = "routed"
    groups: tuple[str, ...]
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Token(Event):
    """A group, the supervisor or the synthesis has said a bit more of a message."""

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
    """A tool has given its result, or with ``status="error"`` has failed."""

    kind: ClassVar[str] = "tool_result"
    group: str
    id: str
    name: str
    text: str
    status: str


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """The turn waits for a decision on ``request``; it is resumed with ``Command(resume={id: decision})``."""

    kind: ClassVar[str] = "waiting"
    id: str
    request: Any


@dataclass(frozen=True, slots=True)
class SpeakerDone(Event):
    """A speaker has come to its end; a group with its report."""

    kind: ClassVar[str] = "speaker_done"
    speaker: str
    report: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The turn is over, with its answer: the message ``message_id``, said by ``speaker``."""

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
    """What the marks of the answer stand for: number, document's id and title, page, and the cited text."""
