"""HTML as a tree, so that all text in it is escaped, and its form as plain text.

Plain text is for terminals, and for viewers without HTML such as VS Code if you don't trust a notebook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby, zip_longest
from textwrap import wrap
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

_COLUMNS = 100
_INDENT = "  "
_BAR = 20
_LEAST = 6  # characters that a narrowed column of a table keeps
_MOST_LINES = 12  # of a cell
_BLOCKS = frozenset(
    ("p", "div", "dl", "dt", "dd", "ul", "ol", "li", "table", "details", "summary", "blockquote", "ins", "del")
)
_SHARE = re.compile(r"(?:width|left):([\d.]+)%")


def text_of(whole: Element) -> str:
    """Return a display as plain text of at most 100 columns; of parts to open, it only has the titles."""
    text = "\n".join(line.rstrip() for line in _lines(whole, _COLUMNS))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _lines(element: Element, columns: int) -> Iterator[str]:
    """Yield the lines of a block: its inline text as paragraphs, and the blocks within it."""
    for is_block, some in groupby(_children(element), key=lambda one: isinstance(one, Element) and _is_block(one)):
        if is_block:
            for one in some:
                yield from _block(one, columns)  # type: ignore[arg-type]  # groupby leaves only elements
        else:
            yield from _wrapped("".join(map(_inline, some)), columns)


def _block(element: Element, columns: int) -> Iterator[str]:
    classes = (element.get("class") or "").split()
    if element.tag == "table":
        yield from _table(element, columns)
    elif element.tag == "details":
        yield from _details(element, columns)
    elif "bar" in classes:
        yield _bar(element)
    elif element.tag in ("dd", "blockquote"):
        yield from _indented(_lines(element, columns - len(_INDENT)), _INDENT)
    elif element.tag == "dt" or "name" in classes:
        yield ""
        yield from (f"{line}:" for line in _lines(element, columns))
    elif "box" in classes:
        name, *rest = element
        yield from _block(name, columns)
        for one in rest:
            yield from _indented(_block(one, columns - len(_INDENT)), _INDENT)
    elif element.tag == "li":
        yield from _indented(_lines(element, columns - 2), _INDENT, "- ")
    elif "head" in classes or "part" in classes:
        yield ""
        yield from _lines(element, columns)
    else:
        yield from _lines(element, columns)


def _details(element: Element, columns: int) -> Iterator[str]:
    title, *rest = element
    yield from _indented(_lines(title, columns - 2), _INDENT, "> ")
    if element.get("open"):
        for one in rest:
            yield from _indented(_block(one, columns - 2), _INDENT)


def _table(element: Element, columns: int) -> Iterator[str]:
    rows = [[_cell(cell) for cell in row] for row in element.iter("tr")]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    while sum(widths) + 2 * len(widths) > columns and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    is_number = ["number" in (cell.get("class") or "") for cell in next(element.iter("tr"))]
    for number, row in enumerate(rows):
        cells = [_fitted(text, width) for text, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            placed = zip(parts, widths, is_number, strict=True)
            yield "  ".join(part.rjust(width) if right else part.ljust(width) for part, width, right in placed)
        if number == 0:
            yield "  ".join("-" * width for width in widths)
    yield ""


def _fitted(text: str, width: int) -> list[str]:
    lines = wrap(text, max(width, 1)) or [""]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"{lines[_MOST_LINES - 1][: max(width - 1, 0)]}…"]
    return lines


def _cell(element: Element) -> str:
    return " ".join(" ".join(_lines(element, 10_000)).split())


def _bar(element: Element) -> str:
    signs = ["."] * _BAR
    for one in element:
        match = _SHARE.search(one.get("style") or "")
        at = round(_BAR * float(match[1]) / 100) if match else 0
        if one.get("class") == "least":
            signs[min(at, _BAR - 1)] = "|"
        else:
            signs[:at] = "#" * at
    return "".join(signs)


def _indented(lines: Iterable[str], indent: str, first: str | None = None) -> Iterator[str]:
    lead = indent if first is None else first
    for line in lines:
        yield f"{lead}{line}" if line else ""
        lead = indent


def _wrapped(text: str, columns: int) -> Iterator[str]:
    for line in text.split("\n"):
        if line.strip():
            yield from wrap(" ".join(line.split()), max(columns, 20), break_on_hyphens=False)


def _inline(part: Element | str) -> str:
    """Return the text of a part of a line; a marked word is between asterisks."""
    if isinstance(part, str):
        return part
    if part.tag == "br":
        return "\n"
    inside = "".join(map(_inline, _children(part)))
    if part.tag == "mark":
        return f"*{inside}*"
    return inside


def _children(element: Element) -> Sequence[Element | str]:
    found: list[Element | str] = [element.text] if element.text else []
    for one in element:
        found.append(one)
        if one.tail:
            found.append(one.tail)
    return found


def _is_block(element: Element) -> bool:
    return element.tag in _BLOCKS


Node: TypeAlias = "Element | str | None"

SCOPE = "ecowas-lc"
"""The class of the element around each display, to which the stylesheet is limited."""

# Characters that XML does not allow, and those that change the direction of all the text that follows.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: object) -> str:
    """Return text without characters that HTML does not allow or that change the text around them."""
    return _UNPRINTABLE.sub(_REPLACEMENT, str(text))


def element(tag: str, *children: Node, classes: str = "", **attributes: str) -> Element:
    """Return an element with children: elements and text; ``None`` is skipped."""
    made = Element(tag, {name.rstrip("_"): clean(value) for name, value in attributes.items()})
    if classes:
        made.set("class", clean(classes))
    append(made, *children)
    return made


def append(parent: Element, *children: Node) -> None:
    """Append children to an element."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)


def formats_of(*parts: Node) -> dict[str, str]:
    """Return a display as HTML, with the stylesheet and inside its scope element, and as plain text."""
    whole = element("div", *parts, classes=SCOPE)
    html = f"<style>{stylesheet()}</style>\n{tostring(whole, encoding='unicode', method='html')}"
    return {"text/plain": text_of(whole), "text/html": html}


@cache
def stylesheet() -> str:
    """Return the one stylesheet of all displays."""
    text = files(__package__).joinpath("display.css").read_text(encoding="utf-8")
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)).strip()
