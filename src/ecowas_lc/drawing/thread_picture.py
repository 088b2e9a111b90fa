"""A picture of a thread: checkpoints from top to bottom, forks next to them, as Graphviz, Mermaid or text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap
from typing import Any
from unicodedata import combining, normalize
from xml.sax.saxutils import escape

from langchain_core.runnables import RunnableConfig

from ecowas_lc.checkpoint.viewing import viewed
from ecowas_lc.drawing.graph_picture import FONT, cells, mermaid_text, rendered, shortened
from ecowas_lc.drawing.picture import FAILED, FAILED_FILL, HUES, INK, QUIET, WAITING, WAITING_FILL, Picture, shown
from ecowas_lc.drawing.thread_layout import Folding, LaneRow, Lanes, Moment, lanes_of, moments_of, rows_of
from ecowas_lc.errors import InvalidInputError

# In points: 675 points are 900 pixels, the width of a notebook's cell.
_WIDTH, _MARGIN, _LANE, _DOT, _LINE, _GAP = 675.0, 8.0, 26.0, 20.0, 15.5, 11.0
_ALL_LANES = 260.0  # the maximum; more than ten lanes are drawn closer together
_STEPS_FOLDED_FROM, _TURNS_FOLDED_FROM = 30, 60  # checkpoints
_POINTS_A_CHARACTER = 6.6
_TITLE_CHARACTERS, _TITLE_LINES = 21, 3
_SAID_CHARACTERS, _WHY_CHARACTERS, _ASCII_CHARACTERS, _MERMAID_CHARACTERS = 200, 110, 60, 60

_ANSWERED = "was asked"
_MOST_ANSWERS = 4  # of a turn that has one row

_LEFT_TO_RIGHT = "\u200e"  # keeps the colon next to the name if Arabic or Hebrew follows

TextLine = tuple[str, str, str]
"""The speaker or label (in bold), the text, and a colour."""


def timeline_dot(moments: Sequence[Moment], lanes: Lanes, *, dpi: int) -> str:
    """Return the timeline in Graphviz's language: one row for each moment, one column for each lane."""
    drawn = rows_of(moments, lanes, _folding(len(moments)))
    lane_width = min(_LANE, _ALL_LANES / lanes.count)
    left = _MARGIN + lanes.count * lane_width + 6
    heads = [_head(row) for row in drawn]
    title = (max(cells(line) for head in heads for line, _ in head) + 3) * _POINTS_A_CHARACTER
    room = _WIDTH - left - title - _MARGIN
    columns = int(room / _POINTS_A_CHARACTER)
    texts = [_rows(row, columns) for row in drawn]
    longest = max((cells(f"{who}: {text}" if who else text) for row in texts for who, text, _ in row), default=0)
    room = min(room, (longest + 2) * _POINTS_A_CHARACTER)
    heights = [max(len(text), len(head)) * _LINE + _GAP for text, head in zip(texts, heads, strict=True)]
    tops = [sum(heights[:index]) for index in range(len(drawn))]
    centre, x, last = {}, {}, {}
    for index, row in enumerate(drawn):
        for number in (moment.number for moment in row.moments):
            centre[number] = -(tops[index] + _LINE / 2 + _GAP / 2)
            x[number] = _MARGIN + (lanes.of[row.moment.number] + 0.5) * lane_width
            last[number] = row.moment.number
    out = [
        "digraph {",
        f"  graph [layout=nop, splines=line, outputorder=edgesfirst, pad=0.1, bgcolor=white, dpi={dpi}];",
        f'  node [fontname="{FONT}", fontsize=11];',
        "  edge [arrowhead=none, penwidth=2.4];",
    ]
    for index, row in enumerate(drawn):
        moment, number, lines = row.moment, row.moment.number, texts[index]
        colour = HUES[lanes.of[number] % len(HUES)]
        edge, fill, shape = colour, "#ffffff", "circle"
        if moment.failed:
            edge, fill, shape = FAILED, FAILED_FILL, "octagon"
        elif moment.waiting:
            edge, fill, shape = WAITING, WAITING_FILL, "diamond"
        size = _DOT * (1.5 if shape == "diamond" else 1) / 72
        if row.is_cut:
            out.append(_point(f"c{number}", x[number], centre[number] + _DOT))
            out.append(f'  c{number} -> m{number} [style=dotted, color="{colour}"];')
        out.append(
            f'  m{number} [pos="{x[number]:.1f},{centre[number]:.1f}", label="{number}", '
            f"shape={shape}, style=filled, penwidth=2, fixedsize=true, width={size:.3f}, height={size:.3f}, "
            f'fontsize={10 if number < 100 else 7}, color="{edge}", fillcolor="{fill}", '
            f"tooltip={_tooltip(row)}];"
        )
        height = max(len(lines), len(heads[index])) * _LINE
        middle = centre[number] + _LINE / 2 - height / 2
        table = _table(heads[index], lines, title, room)
        out.append(
            f'  t{number} [shape=plaintext, margin=0, pos="{left + (title + room) / 2:.1f},{middle:.1f}", '
            f"label=<{table}>];"
        )
    for row in drawn:
        number, parent = row.moment.number, row.moments[0].parent
        if parent is None:
            continue
        lane = lanes.of[number]
        style = f'color="{HUES[lane % len(HUES)]}"'
        if lane == lanes.of[parent]:
            out.append(f"  m{last[parent]} -> m{number} [{style}];")
            continue
        turn = centre[parent] - _LINE
        out.append(_point(f"f{number}", x[number], turn))
        out.append(f"  m{last[parent]} -> f{number} [{style}];")
        out.append(f"  f{number} -> m{number} [{style}];")
    return "\n".join([*out, "}"])


def _folding(count: int) -> Folding:
    if count >= _TURNS_FOLDED_FROM:
        return Folding.TURNS
    return Folding.STEPS if count >= _STEPS_FOLDED_FROM else Folding.NOTHING


def _is_turn(row: LaneRow) -> bool:
    return sum(bool(moment.said) for moment in row.moments) > 1


def _head(row: LaneRow) -> list[tuple[str, str]]:
    """Return the lines to the left, with their colours: what ran, in a turn how many steps, and how long."""
    took = _took(row)
    if _is_turn(row):
        asked = [moment.route for moment in row.moments if moment.route]
        told = _groups(asked[-1]) if asked else ""
        steps = f"{len(row.moments)} steps{f', {took}' if took else ''}"
        return [(told, INK), (steps, QUIET)] if told else [(steps, QUIET)]
    name = " → ".join(row.names).replace("_", " ")
    lines = wrap(name, _TITLE_CHARACTERS) or [""]
    if len(lines) > _TITLE_LINES:
        lines = [*lines[: _TITLE_LINES - 1], shortened(" ".join(lines[_TITLE_LINES - 1 :]), _TITLE_CHARACTERS)]
    return [*((line, INK) for line in lines), *([(took, QUIET)] if took else [])]


def _groups(names: Sequence[str]) -> str:
    """Return the groups that fit, and how many more there are."""
    spoken = [name.replace("_", " ") for name in names]
    for count in range(len(spoken), 1, -1):
        more = f" + {len(spoken) - count}" if count < len(spoken) else ""
        if len(told := ", ".join(spoken[:count]) + more) <= _TITLE_CHARACTERS:
            return told
    more = f" + {len(spoken) - 1}" if len(spoken) > 1 else ""
    return shortened(spoken[0], _TITLE_CHARACTERS - len(more)) + more


def _took(row: LaneRow) -> str:
    """Return how long the steps of a row took, if that is long enough to matter."""
    seconds = row.seconds
    if seconds is None or seconds < 0.05:
        return ""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _tooltip(row: LaneRow) -> str:
    moment = row.moment
    place = moment.config.get("configurable", {})
    lines = [f"checkpoint {place.get('checkpoint_id', '')}"]
    if moment.at is not None:
        lines.append(f"{moment.at:%Y-%m-%d %H:%M:%S} UTC")
    if moment.next:
        lines.append(f"next: {shortened(', '.join(moment.next), 48)}")
    escaped = " · ".join(lines).replace("\\", "/").replace('"', "'")
    return '"' + "".join(sign for sign in escaped if sign.isprintable()) + '"'


def timeline_mermaid(moments: Sequence[Moment]) -> str:
    """Return the timeline in Mermaid's language."""
    out = ["flowchart TB"]
    for moment in moments:
        lines = [f"{moment.number}. {moment.title}"]
        lines += [shortened(f"{who}: {text}", _MERMAID_CHARACTERS) for who, text, _ in _notes(moment)]
        label = "<br/>".join(mermaid_text(line) for line in lines)
        out.append(f'  m{moment.number}{{{{"{label}"}}}}' if moment.waiting else f'  m{moment.number}["{label}"]')
    out += [f"  m{m.parent} --> m{m.number}" for m in moments if m.parent is not None]
    waiting = [f"m{m.number}" for m in moments if m.waiting]
    if waiting:
        out.append(f"  classDef waiting fill:{WAITING_FILL},stroke:{WAITING},stroke-width:3px,color:#000")
        out.append(f"  class {','.join(waiting)} waiting")
    return "\n".join(out) + "\n"


def timeline_ascii(moments: Sequence[Moment], lanes: Lanes) -> str:
    """Return the timeline in plain ASCII: ``o`` is a checkpoint, ``?`` one that waits for an answer.

    ``:`` stands for checkpoints that are not drawn.
    """
    digits = len(str(len(moments)))
    named = {m.number: shortened(_plain(m.title), 24, "...") for m in moments}
    titles = max(map(len, named.values()))
    out = []
    for moment in moments:
        lane = lanes.of[moment.number]
        if moment.is_cut:
            above = _rails(moments, lanes, moment.number, moment.number)
            out.append(" ".join([*above[:lane], ":", *above[lane + 1 :]]))
        rails = _rails(moments, lanes, moment.number, moment.number)
        rails[lane] = "?" if moment.waiting else "o"
        head = f"{' '.join(rails)}  {moment.number:>{digits}}  {named[moment.number]:<{titles}}"
        notes = [shortened(_plain(f"{who}: {text}"), _ASCII_CHARACTERS, "...") for who, text, _ in _notes(moment)]
        below = " ".join(_rails(moments, lanes, moment.number, moment.number + 1))
        out.append("  ".join([head, *notes[:1]]))
        forks = sorted(lanes.of[fork.number] for fork in lanes.forks_from(moment, moments))
        plain = "".join(" " if index // 2 in forks else sign for index, sign in enumerate(below))
        out += [f"{plain}{'':<{digits + titles + 6}}{note}" for note in notes[1:]]
        if forks:
            bend = list(plain)
            for index in range(2 * lane + 1, 2 * forks[-1]):
                bend[index] = "-" if bend[index] == " " else bend[index]
            for fork in forks:
                bend[2 * fork] = "."
            bend[2 * lane] = "|" if bend[2 * lane] == "|" else "'"
            out.append("".join(bend))
    return "\n".join(line.rstrip() for line in out) + "\n"


def _rails(moments: Sequence[Moment], lanes: Lanes, after: int, before: int) -> list[str]:
    """Return each lane's line between two rows, or on one row if both are the same."""
    passing = {
        lanes.of[m.number]
        for m in moments
        if m.parent is not None
        and m.parent <= after
        and m.number >= before
        and (m.parent, m.number) != (after, after)
        and not (after == before and after in (m.parent, m.number))
    }
    return ["|" if lane in passing else " " for lane in range(lanes.count)]


def _notes(moment: Moment) -> list[TextLine]:
    lines = [(said.speaker, said.text, INK) for said in moment.said]
    if moment.route is not None:
        lines.append(
            (
                "asks",
                f"{', '.join(moment.route) or 'no group'}. {shortened(moment.why, _WHY_CHARACTERS)}".rstrip(),
                QUIET,
            )
        )
    if moment.reports:
        told = ", ".join(f"{group} {status}" for group, status in moment.reports.items())
        lines.append(("reports", told, QUIET))
    lines += [(_ANSWERED, text, QUIET) for text in moment.answered]
    nodes = [request.node for request in moment.requests] or [""] * len(moment.waiting)
    waits = [f"waiting for an answer in {node.strip('_')}" if node else "waiting for an answer" for node in nodes]
    lines += [(who, text, WAITING) for who, text in zip(waits, moment.waiting, strict=True)]
    nodes = [failure.node for failure in moment.failures] or [""] * len(moment.failed)
    fails = [f"{node.strip('_')} failed".strip() for node in nodes]
    lines += [(who, text, FAILED) for who, text in zip(fails, moment.failed, strict=True)]
    return lines


def _rows(row: LaneRow, columns: int) -> list[TextLine]:
    """Return the lines of text next to a row that fit there; in a turn, one for each message."""
    rows: list[TextLine] = []
    if _is_turn(row):
        notes = [(said.speaker, said.text, INK) for moment in row.moments for said in moment.said]
        notes = [notes[0], *notes[1:][-_MOST_ANSWERS:]]
        notes += [note for note in _notes(row.moment) if note[2] in (WAITING, FAILED) or note[0] == _ANSWERED]
    else:
        notes = _notes(row.moment)
    for who, whole, colour in notes:
        most = columns - cells(who) - 3 if _is_turn(row) else _SAID_CHARACTERS
        text = shortened(whole.replace("**", ""), max(most * len(whole) // max(cells(whole), 1), 20), " …")
        first = max(columns * len(text) // max(cells(text), 1), 20)
        lead = "\0" * (len(who) + 3)  # bold text is a little wider
        wrapped = wrap(lead + text, first) or [lead]
        rows.append((who, wrapped[0].lstrip("\0"), colour))
        rows += [("", line, colour) for line in wrapped[1:]]
    return rows


def _table(heads: Sequence[tuple[str, str]], lines: Sequence[TextLine], width: float, room: float) -> str:
    cells = []
    for index in range(max(len(lines), len(heads), 1)):
        who, text, colour = lines[index] if index < len(lines) else ("", "", INK)
        head, shade = heads[index] if index < len(heads) else ("", INK)
        cells.append(
            f'<TR><TD ALIGN="LEFT" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{_LINE}">'
            f'<FONT COLOR="{shade}">{_text(head) or " "}</FONT></TD>'
            f'<TD ALIGN="LEFT" FIXEDSIZE="TRUE" WIDTH="{room:.0f}" HEIGHT="{_LINE}"><FONT COLOR="{colour}">'
            f"{f'<B>{_text(who)}</B>{_LEFT_TO_RIGHT}: ' if who else ''}{_text(text) or ' '}</FONT></TD></TR>"
        )
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0">{"".join(cells)}</TABLE>'


def _text(text: str) -> str:
    return escape("".join(sign for sign in text if sign.isprintable()))


def _point(name: str, x: float, y: float) -> str:
    return f'  {name} [shape=point, width=0.01, style=invis, pos="{x:.1f},{y:.1f}"];'


def _plain(text: str) -> str:
    letters = normalize("NFKD", text.replace("…", "..."))
    return "".join(letter for letter in letters if not combining(letter)).encode("ascii", "replace").decode()


def draw_thread(
    saver: Any,
    thread_id: str,
    *,
    limit: int | None = 100,
    channel: str = "messages",
    checkpoint_ns: str = "",
    before: RunnableConfig | None = None,
) -> ThreadPicture:
    """Return a timeline of a thread's checkpoints, which notebooks display; no network is used.

    Each checkpoint has a number, and ``picture[number].config`` is its config. Objects of classes that the
    checkpointer may not load are drawn by their class names.

    Args:
        saver: Any LangGraph checkpointer.
        thread_id: The thread.
        limit: Maximum number of checkpoints; the newest are drawn. ``None`` means all.
        channel: The channel of the state that holds the messages.
        checkpoint_ns: The namespace of a subgraph's checkpoints; empty for the thread's own.
        before: Draw only checkpoints before this one, for example ``picture[1].config``.

    Returns:
        The picture.

    Raises:
        InvalidInputError: ``saver`` is not a checkpointer, or it has no such thread.
    """
    if not hasattr(saver, "list") or not hasattr(saver, "alist"):
        raise InvalidInputError(f"{saver!r} is not a checkpointer. Pass one, such as RedisSaver.from_settings().")
    found = list(viewed(saver).list(_config(thread_id, checkpoint_ns), before=before, limit=limit))
    return _picture(found, thread_id, channel)


async def adraw_thread(
    saver: Any,
    thread_id: str,
    *,
    limit: int | None = 100,
    channel: str = "messages",
    checkpoint_ns: str = "",
    before: RunnableConfig | None = None,
) -> ThreadPicture:
    """Return what :func:`draw_thread` returns, without blocking the event loop."""
    if not hasattr(saver, "alist"):
        raise InvalidInputError(f"{saver!r} is not a checkpointer. Pass one, such as RedisSaver.from_settings().")
    listed = viewed(saver).alist(_config(thread_id, checkpoint_ns), before=before, limit=limit)
    return _picture([item async for item in listed], thread_id, channel)


@dataclass(frozen=True)
class ThreadPicture(Picture):
    """A picture of a thread; ``picture[number]`` returns a :class:`Moment`; iterating yields all, oldest first."""

    thread_id: str
    moments: tuple[Moment, ...]

    @property
    def is_cut(self) -> bool:
        """Whether a drawn checkpoint follows one that is not drawn: it is beyond the limit, or was pruned."""
        return any(moment.is_cut for moment in self.moments)

    @cached_property
    def lanes(self) -> Lanes:
        """The lane of each moment."""
        return lanes_of(self.moments)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return shown(rendered(timeline_dot(self.moments, self.lanes, dpi=72), "svg").decode())

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG."""
        return rendered(timeline_dot(self.moments, self.lanes, dpi=96), "png")

    @cached_property
    def mermaid(self) -> str:
        """The picture in Mermaid's language, which GitHub and many other tools render."""
        return timeline_mermaid(self.moments)

    @cached_property
    def ascii(self) -> str:
        """The picture as plain text."""
        return timeline_ascii(self.moments, self.lanes)

    def __getitem__(self, number: int) -> Moment:
        """Return the moment with this number, counted from 1.

        Raises:
            InvalidInputError: No moment has this number.
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
