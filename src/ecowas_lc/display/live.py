"""A live view of a run in a notebook's cell: the groups asked, their answers, tools, sources, and what waits.

It only needs IPython's plain display updates; a notebook that is reopened shows the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from uuid import uuid4

from ecowas_lc._display import Displayed
from ecowas_lc.agents.events import (
    SYNTHESIS,
    Event,
    Finished,
    Routed,
    SpeakerDone,
    Token,
    ToolCalled,
    ToolReturned,
    Waiting,
)
from ecowas_lc.display.blocks import (
    Hues,
    box,
    code,
    cut,
    duration,
    fold,
    heading,
    label,
    note,
    part,
    plain,
    prose,
    side_by_side,
    speech,
    spoken,
    talk,
)
from ecowas_lc.display.conversation_views import asked_line, report_box, request_box, sources
from ecowas_lc.display.event_sources import RunEvents, run_events
from ecowas_lc.display.html_elements import Node, append, element
from ecowas_lc.drawing.requests import read_request

_SECONDS_BETWEEN = 0.15
"""Seconds between updates of the cell: smooth enough to watch, and few enough for a slow connection."""


@dataclass
class _Tool:
    name: str
    args: Mapping[str, Any]
    result: str = ""
    status: str = ""


@dataclass
class LiveRun(Displayed):
    """The events of a run so far; :func:`watch` returns one, which displays how the run ended.

    Attributes:
        question: The question; empty if a decision was given.
        thread_id: The thread of the run.
        said: The text of each speaker so far, by speaker.
        waiting: What waits for a decision: interrupt ids and their requests.
        finished: The last event of the run, with the answer; ``None`` if it waits or failed.
        error: The error that ended the run, if any.
        result: What the graph or the chain returned.
    """

    question: str
    thread_id: str
    said: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Any] = field(default_factory=dict)
    finished: Finished | None = None
    error: BaseException | None = None
    result: Any = field(default=None, repr=False)
    route: Routed | None = field(default=None, repr=False)
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    seconds: float = field(default=0.0, repr=False)
    _done: set[str] = field(default_factory=set, repr=False)
    _tools: dict[str, dict[str, _Tool]] = field(default_factory=dict, repr=False)
    _began: float = field(default_factory=time.monotonic, repr=False)
    _was_shown: bool = field(default=False, repr=False)

    @property
    def answer(self) -> str:
        """The answer, or ``""`` if there is none yet."""
        return self.finished.answer if self.finished is not None else ""

    def take(self, event: Event) -> None:
        """Process an event."""
        self.seconds = time.monotonic() - self._began
        match event:
            case Routed():
                self.route = event
                self.said |= {group: self.said.get(group, "") for group in event.groups}
            case Token():
                self.said[event.speaker] = self.said.get(event.speaker, "") + event.text
            case ToolCalled():
                self.said.setdefault(event.group, "")
                self._tools.setdefault(event.group, {})[event.id] = _Tool(event.name, event.args)
            case ToolReturned():
                calls = [tools[event.id] for tools in self._tools.values() if event.id in tools]
                known = (
                    calls[0]
                    if calls
                    else self._tools.setdefault(event.group, {}).setdefault(event.id, _Tool(event.name, {}))
                )
                known.result, known.status = event.text, event.status
            case Waiting():
                self.waiting[event.id] = event.request
            case SpeakerDone():
                self._done.add(event.speaker)
                if event.report is not None:
                    self.reports[event.speaker] = event.report
            case Finished():
                self.finished = event

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.finished is not None or self.error is not None or bool(self.waiting)

    def _parts(self) -> list[Node]:
        hues = Hues()
        found: list[Node] = [
            heading("Run", self._state(), f"thread {cut(self.thread_id, 60)}", duration(self.seconds))
        ]
        if self.question:
            found.append(talk(speech("user", *prose(self.question), asks=True)))
        if self.route is not None:
            found.append(asked_line(self.route.groups, self.route.reason, hues))
        told = {name for name in self.said if self.said[name] or self._tools.get(name)}
        told.update(self.route.groups if self.route is not None else ())
        speakers = [name for name in self.said if name in told and name not in (SYNTHESIS, "supervisor")]
        if speakers:
            found.append(side_by_side(*(self._speaker(name, hues) for name in speakers)))
        if self.finished is None:
            own = [(name, self.said[name]) for name in (SYNTHESIS, "supervisor") if self.said.get(name)]
            found += [talk(speech(name, *prose(text), hue=hues(name))) for name, text in own]
        for identity, request in self.waiting.items():
            found += [request_box(one, hues) for one in read_request(request, "", identity)]
        if self.finished is not None and not self.finished.speaker:
            pass  # each step has shown what it wrote, and there is no answer
        elif self.finished is not None and not self._names_speaker(speakers):
            about = [sources(self.finished.citations)]
            said = prose(self.finished.answer) or [note("No text.")]
            found.append(part("Together") if len(speakers) > 1 else None)
            found.append(
                talk(speech(spoken(self.finished.speaker), *said, hue=hues(self.finished.speaker), about=about))
            )
        elif self.finished is not None:
            found.append(sources(self.finished.citations))
        if self.error is not None:
            why = element("p", cut(f"{type(self.error).__name__}: {self.error}", 600))
            found.append(box("The run ended with an error", why, classes="bad"))
        return found

    def _names_speaker(self, speakers: Sequence[str]) -> bool:
        """Return whether the answer is shown with its speaker; a supervisor combines those of several groups."""
        is_one = len(speakers) == 1 or self.route is None
        return is_one and self.finished is not None and self.finished.speaker in speakers

    def _state(self) -> Node:
        if self.error is not None:
            return label("failed", "bad")
        if self.waiting:
            return label("waiting for a decision", "waits")
        return label("done", "c1") if self.finished is not None else label("running …", "c0")

    def _speaker(self, name: str, hues: Hues) -> Node:
        tools = [self._tool(one) for one in self._tools.get(name, {}).values()]
        if (report := self.reports.get(name)) is not None and report.get("status") != "held":
            made = report_box(name, report, hues)
            append(made, *tools)
            return made
        text = self.said[name]
        is_done = name in self._done or self.is_over
        said: list[Node] = [*prose(text)] if text else [note("…" if not is_done else "No text.")]
        if text and not is_done:
            said.append(note("▍"))
        return box(spoken(name), *tools, *said, classes=hues(name))

    def _tool(self, tool: _Tool) -> Node:
        inner = ", ".join(f"{key}: {plain(one, 120)}" for key, one in list(tool.args.items())[:12])
        mark = "✗" if tool.status == "error" else "✓" if tool.status else "…"
        title = f"{mark} {tool.name}({inner})" if inner else f"{mark} {tool.name}"
        return fold(cut(title, 160), code(tool.result, 1_500)) if tool.result else element("p", code(title, 200))

    def _ipython_display_(self) -> None:
        if self._was_shown:  # the cell in which it ran shows it already
            self._was_shown = False
            return
        import_module("IPython.display").display(self._repr_mimebundle_(), raw=True)


def live_run(shown: LiveRun) -> list[Node]:
    """Return the run so far."""
    return shown._parts()


class _Cell:
    """The output of a run: a notebook's cell, a terminal of IPython (only the end), or none outside of IPython."""

    def __init__(self, run: LiveRun) -> None:
        self._run = run
        self._next = 0.0
        self._handle: Any = None
        try:
            shell = import_module("IPython").get_ipython()
        except ImportError:
            return
        if shell is not None and not isinstance(
            shell, import_module("IPython.terminal.interactiveshell").TerminalInteractiveShell
        ):
            self._handle = import_module("IPython.display").DisplayHandle(display_id=f"ecowas-lc-{uuid4().hex}")
            self._handle.display(run._repr_mimebundle_(), raw=True)
            run._was_shown = True

    def update(self, *, last: bool = False) -> None:
        """Show the current state of the run, unless it was updated a moment ago."""
        now = time.monotonic()
        if self._handle is not None and (last or now >= self._next):
            self._handle.update(self._run._repr_mimebundle_(), raw=True)
            self._next = now + _SECONDS_BETWEEN


def watch(graph: Any, question: Any, *, thread_id: str | None = None, groups: list[str] | None = None) -> LiveRun:
    """Run a graph, show its progress in the cell, and return the run.

    Args:
        graph: A supervisor graph or agent, any other compiled graph, or a runnable, such as a chain.
        question: The question, the input of the graph or chain, or a ``Command(resume=…)`` that decides on what
            waits.
        thread_id: The thread or session to run in. Defaults to a new one, or the agent's session.
        groups: For agents, the groups to ask instead of the router's choice.

    Returns:
        The run.

    Raises:
        InvalidInputError: ``graph`` is none of these, or it needs another input than a question.
    """
    source = run_events(graph, question, thread_id, groups)
    with _watched(source) as (run, take):
        for event in source.events():
            take(event)
    return run


async def awatch(
    graph: Any, question: Any, *, thread_id: str | None = None, groups: list[str] | None = None
) -> LiveRun:
    """Run a graph as :func:`watch` does, without blocking the event loop."""
    source = run_events(graph, question, thread_id, groups)
    with _watched(source) as (run, take):
        async for event in source.aevents():
            take(event)
    return run


@contextmanager
def _watched(source: RunEvents) -> Iterator[tuple[LiveRun, Callable[[Event], None]]]:
    """Show a run in the cell, and update it for each event that is passed on; an error is shown and raised."""
    run = LiveRun(source.question, source.thread_id)
    cell = _Cell(run)

    def take(event: Event) -> None:
        run.take(event)
        cell.update()

    try:
        yield run, take
        run.result = source.result()
        run.seconds = time.monotonic() - run._began
    except BaseException as error:
        run.error = error
        raise
    finally:
        cell.update(last=True)
