"""A conversation as it is displayed: one speaker at a time, in streamed text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ecowas_lc.cli.conversation import SUPERVISOR, SYNTHESIS
from ecowas_lc.cli.screen import MARGIN, MOST_COLUMNS, labelled, wrapped
from ecowas_lc.cli.terminal import clean, one_line, out

if TYPE_CHECKING:
    from ecowas_lc.agents.events import Event, Routed

# distinguishable with colour blindness, on dark and light backgrounds; the names are shown as well
_COLOURS = ("dark_orange", "deep_sky_blue1", "spring_green4", "gold3", "dodger_blue3", "orchid")


class Prose:
    """Writes streamed text, wrapped at words if the output is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, MOST_COLUMNS) if console.is_terminal else None
        self._column = 0
        self._word = ""
        self._spaces = ""
        self._has_begun = False
        self._is_bold = False

    def write(self, text: str) -> None:
        """Write another piece of text."""
        text = clean(text)
        if not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        for piece in re.split(r"(\s)", text):
            if piece == "\n":
                self._flush()
                self._is_bold = False
                self._spaces = ""
                self._put("\n")
                self._column = 0
            elif piece.isspace():
                self._flush()
                self._spaces += " "
            else:
                self._word += piece

    def end(self) -> None:
        """Write the text that is held back, and end the line."""
        self._flush()
        if self._column:
            self._put("\n")
            self._column = 0

    def _flush(self) -> None:
        if not self._word:
            return
        # ** marks bold text in Markdown, which models often write
        parts = self._word.split("**") if self._width else [self._word]
        length = sum(map(cell_len, parts))
        if self._width and self._column and self._column + len(self._spaces) + length > self._width:
            self._put("\n")
            self._column = 0
        lead = MARGIN if not self._column else self._spaces
        self._put(lead)
        for number, part in enumerate(parts):
            self._is_bold ^= number > 0
            self._put(part, "bold" if self._is_bold else None)
        self._column += len(lead) + length
        self._word = self._spaces = ""

    def _put(self, text: str, style: str | None = None) -> None:
        self._console.out(text, end="", highlight=False, style=style)
        self._console.file.flush()


def show_sources(citations: Iterable[Mapping[str, Any]], console: Console | None = None) -> None:
    """Show the sources that an answer's marks refer to; `ecowas-lc docs show ID#PAGE` opens one."""
    console = console or out()
    for first, one in enumerate(citations):
        if not first:
            console.print()
        page = f"#{one['page']}" if one["page"] else ""
        line = f"[{one['number']}] {one_line(one['title'])} ({one['document']}{page})"
        console.print(Text(wrapped(line, console, MARGIN, MARGIN), style="dim"))


class Screen:
    """Shows a conversation live: which groups are asked and why, then each speaker's text under a heading.

    If several groups answer at once, the first one is shown live; the others' text follows in their order.
    """

    def __init__(self, names: Mapping[str, str], console: Console | None = None) -> None:
        self._console = console or out()
        self._names = {**names, SUPERVISOR: "Supervisor", SYNTHESIS: "Synthesis"}
        self._colours = dict(zip(names, _COLOURS * 9, strict=False))
        self._waiting: dict[tuple[str, str], list[str]] = {}
        self._finished: set[str] = set()
        self._said: dict[str, str] = {}
        self._floor: tuple[str, str] | None = None
        self._last: tuple[str, str] | None = None
        self._prose: Prose | None = None
        self._failures: list[tuple[str, str]] = []

    def show(self, event: Event) -> None:
        """Show an event of a turn, if it matters to users."""
        from ecowas_lc.agents.events import Routed, SpeakerDone, Token

        match event:
            case Routed():
                self._routed(event)
            case Token(speaker, message_id, text):
                self._say(speaker, message_id, text)
            case SpeakerDone(speaker, report):
                self._end(speaker, report)

    def _routed(self, event: Routed) -> None:
        groups = ", ".join(event.groups) or "no group: the supervisor answers"
        labelled("Route", groups, 7, self._console)
        labelled("Why", f"{event.reason.rstrip('.')} ({event.source})", 7, self._console)

    def _say(self, speaker: str, message_id: str, text: str) -> None:
        """Show a piece of a speaker's text, now or when it is that speaker's turn."""
        entry = (speaker, message_id)
        self._finished.discard(speaker)
        if speaker == SYNTHESIS and self._repeats_all(text):
            self._heading(speaker)
            words = "The model could not combine these answers, so they are shown separately."
            self._console.print(Text(wrapped(words, self._console, MARGIN, MARGIN), style="italic"))
            return
        self._said[speaker] = self._said.get(speaker, "") + text
        if self._floor is None:
            self._take_floor(entry)
        if entry == self._floor and self._prose is not None:
            self._prose.write(text)
        else:
            self._waiting.setdefault(entry, []).append(text)

    def _end(self, speaker: str, report: Mapping[str, Any] | None) -> None:
        """Move on to the next speaker if this one was being shown."""
        self._finished.add(speaker)
        if report is not None and report["status"] == "failed":
            self._failures.append((speaker, report.get("reason", "")))
        while self._floor is not None and self._floor[0] in self._finished:
            self._end_speech()
            if self._waiting:
                entry = next(iter(self._waiting))
                bits = self._waiting.pop(entry)
                self._take_floor(entry)
                assert self._prose is not None
                for bit in bits:
                    self._prose.write(bit)
        if self._floor is None:
            self._tell_failures()

    def done(self) -> None:
        """Finish what is still being shown: the answer is complete, or was interrupted."""
        self._end_speech()
        for entry, bits in self._waiting.items():
            self._take_floor(entry)
            assert self._prose is not None
            self._prose.write("".join(bits))
            self._end_speech()
        self._waiting.clear()
        self._finished.clear()
        self._said.clear()
        self._tell_failures()

    def _repeats_all(self, text: str) -> bool:
        """Return whether a text only repeats the groups' answers, as it does if there is no synthesis."""
        return bool(self._said) and all(said.strip() in text for said in self._said.values())

    def _take_floor(self, entry: tuple[str, str]) -> None:
        if entry == self._last:  # a note on the answer just shown
            self._console.print()
        else:
            self._heading(entry[0])
        self._floor = self._last = entry
        self._prose = Prose(self._console)

    def _end_speech(self) -> None:
        if self._prose is not None:
            self._prose.end()
        self._floor = self._prose = None

    def _heading(self, speaker: str) -> None:
        name = self._names.get(speaker, speaker)
        colour = self._colours.get(speaker, "bold")
        heading = Text.assemble("\n", (f"● {name}", f"bold {colour}" if colour != "bold" else colour))
        self._console.print(heading)

    def _tell_failures(self) -> None:
        for speaker, reason in self._failures:
            name = self._names.get(speaker, speaker)
            text = wrapped(f"✗ {name} could not answer: {clean(reason)}", self._console, MARGIN)
            self._console.print(Text.assemble("\n", (text, "red")))
        self._failures.clear()


def silence(_: Event) -> None:
    """Ignore the event."""
