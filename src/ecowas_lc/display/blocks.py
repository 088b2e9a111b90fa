"""Building blocks of displays: headings, tables, speech, bars, collapsible parts, and readable times and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from ecowas_lc._markdown import MarkdownBlock, markdown_blocks, markdown_spans
from ecowas_lc.display.html_elements import Node, append, element

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: float | None) -> str:
    """Return a duration in its largest unit; ``None`` means that it does not end."""
    if seconds is None:
        return "never expires"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= 10 or seconds == 0:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 0.95 else f"{seconds * 1000:.0f} ms"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was."""
    if moment is None:
        return "unknown"
    passed = ((now or datetime.now(UTC)) - moment).total_seconds()
    return "just now" if passed < 1 else f"{duration(passed)} ago"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def cut(text: object, most: int) -> str:
    """Return text cut to a length, with a mark if something was left out."""
    whole = str(text)
    return whole if len(whole) <= most else f"{whole[: most - 1].rstrip()}…"


MOST_LETTERS = 4_000
"""Maximum number of characters shown of one text."""

_HUES, _SIGNS = 6, 12
_NEUTRAL = frozenset({"supervisor", "assistant", "synthesis", "synthesise"})
_LISTS = {"bullets": ("ul", "li"), "numbers": ("ol", "li"), "quote": ("blockquote", "p")}


class Hues:
    """The colour of each group: the same throughout a display, and fixed for the summit's groups."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        from ecowas_lc.twg import default_groups

        self._known = list(dict.fromkeys([*(group.id for group in default_groups()), *names]))

    def __call__(self, name: str) -> str:
        """Return the class of a group's colour; speakers for all groups, such as the supervisor, have none."""
        if name in _NEUTRAL:
            return "own"
        if name not in self._known:
            self._known.append(name)
        return f"c{self._known.index(name) % _HUES}"


def heading(title: str, *facts: Node) -> Element:
    """Return the top line of a display: a title, and facts."""
    line = element("p", element("strong", title, classes="title"), classes="head")
    for number, fact in enumerate(fact for fact in facts if fact is not None and fact != ""):
        append(line, " " if number == 0 else " · ", element("small", fact) if isinstance(fact, str) else fact)
    return line


def part(title: str) -> Element:
    """Return the heading of a part."""
    return element("p", element("strong", title), classes="part")


def note(*text: Node) -> Element:
    """Return a remark."""
    return element("p", element("small", *text), classes="note")


def label(text: str, hue: str = "") -> Element:
    """Return a highlighted word or two."""
    return element("span", text, classes=f"label {hue}".strip())


def waiting_in(step: str) -> Element:
    """Return a label that says which step waits for a person."""
    return label(f"waiting in {step}", "waits")


def labels(names: Iterable[str], hues: Hues, otherwise: str = "no group") -> Element:
    """Return groups as a row of labels, or ``otherwise`` if there are none."""
    row = in_a_row(*(label(spoken(name), hues(name)) for name in names))
    return row if len(row) else element("span", otherwise)


def in_a_row(*ones: Element) -> Element:
    """Return labels in a row; without styles, they are separated by commas."""
    row = element("span")
    for one in ones:
        append(row, element("span", ", ", classes="sep") if len(row) else None, one)
    return row


def spoken(name: str) -> str:
    """Return an id in readable form."""
    return name.strip("_").replace("_", " ") or name


def code(text: object, most: int = 400) -> Element:
    """Return literal text."""
    return element("code", cut(text, most))


def prose(text: str, most: int = MOST_LETTERS) -> list[Element]:
    """Return text as paragraphs; its Markdown is shown as such, without links and images."""
    shown, left = text[:most], len(text) - most
    found = [_block(block) for block in markdown_blocks(shown)]
    if left > 0:
        found.append(note(f"… {left:,} more characters"))
    return found


def _block(block: MarkdownBlock) -> Element:
    if block.kind == "code":
        return element("p", element("code", block.parts[0]))
    if block.kind == "heading":
        return element("p", element("strong", *_inline(block.parts[0])))
    if block.kind in _LISTS:
        outer, inner = _LISTS[block.kind]
        return element(outer, *(element(inner, *_inline(part)) for part in block.parts))
    made = element("p")
    for number, line in enumerate(block.parts[0].split("\n")):
        append(made, element("br") if number else None, *_inline(line))
    return made


def _inline(text: str) -> Iterable[Node]:
    for kind, piece in markdown_spans(text):
        if kind == "text":
            yield piece
        else:
            yield f"[{piece}]" if kind == "mark" else element(kind, piece)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Node | Sequence[Node]]], kinds: Sequence[str] = ()
) -> Element:
    """Return a table; ``kinds`` are the columns' classes: ``number``, ``short`` or ``wide``."""
    kinds = [*kinds, *[""] * (len(columns) - len(kinds))]
    pairs = list(zip(columns, kinds, strict=True))
    head = element("tr", *(element("th", name, classes=kind, scope="col") for name, kind in pairs))
    body = element("tbody")
    for row in rows:
        line = element("tr")
        for cell, kind in zip(row, kinds, strict=True):
            parts = cell if isinstance(cell, Sequence) and not isinstance(cell, str) else [cell]
            if kind == "short":
                parts = [element("span", one) if isinstance(one, str) else one for one in parts]
            line.append(element("td", *parts, classes=kind))
        body.append(line)
    classes = "rows" if "wide" in kinds or "" in kinds else "rows narrow"
    return element("table", element("thead", head), body, classes=classes)


def fold(title: str, *children: Node, is_open: bool = False) -> Element:
    """Return a part that opens when you click its title."""
    made = element("details", element("summary", title), *children)
    if is_open:
        made.set("open", "open")
    return made


def box(name: str, *children: Node, classes: str = "") -> Element:
    """Return a part with a frame."""
    return element(
        "div", element("p", element("strong", name), classes="name"), *children, classes=f"box {classes}".strip()
    )


def side_by_side(*boxes: Node) -> Element:
    """Return boxes next to each other if there is room."""
    return element("div", *boxes, classes="side")


def bar(share: float, least: float | None = None) -> Element:
    """Return a bar from 0 to 1, with a line at the minimum that is needed."""
    full = round(_SIGNS * min(max(share, 0), 1))
    signs = element("span", "█" * full + "░" * (_SIGNS - full), classes="sep")  # where styles are removed
    made = element("div", signs, classes="bar")
    made.append(element("div", classes="fill", style=f"width:{100 * min(max(share, 0), 1):.1f}%"))
    if least is not None:
        made.append(element("div", classes="least", style=f"left:{100 * min(max(least, 0), 1):.1f}%"))
    return made


def talk(*speeches: Node) -> Element:
    """Return a conversation."""
    return element("dl", *speeches, classes="talk")


def speech(speaker: str, *said: Node, hue: str = "", asks: bool = False, about: Iterable[Node] = ()) -> Element:
    """Return what one speaker said, with remarks below it."""
    classes = "asks" if asks else hue
    made = element("div", element("dt", element("strong", speaker)), element("dd", *said), classes=classes)
    asides = [one for one in about if one is not None]
    if asides:
        made.append(element("dd", *asides, classes="aside"))
    return made


def plain(given: Any, most: int = 300, depth: int = 3) -> str:
    """Return any value on one line, reading no more of it than is shown; a value whose repr fails, by its type."""
    if isinstance(given, str):
        return cut(given, most)
    if given is None or isinstance(given, (bool, int, float)):
        return str(given)
    if isinstance(given, bytes):
        return f"{len(given):,} bytes"
    if depth and isinstance(given, Mapping):
        items = [
            f"{plain(key, 60, 0)}: {plain(one, most // 2, depth - 1)}" for key, one in list(given.items())[:8]
        ]
        return cut("{" + ", ".join(items) + (", …" if len(given) > 8 else "") + "}", most)
    if depth and isinstance(given, (list, tuple, set, frozenset)):
        ones = [plain(one, most // 2, depth - 1) for one in list(given)[:8]]
        return cut("[" + ", ".join(ones) + (", …" if len(given) > 8 else "") + "]", most)
    text = getattr(given, "text", None)
    if isinstance(text, str) and hasattr(given, "type"):
        return cut(f"{getattr(given, 'type', '')}: {text}", most)
    try:
        return cut(repr(given), most)
    except Exception:  # objects of any kind, whose methods may fail in any way
        return f"{type(given).__name__} object"
