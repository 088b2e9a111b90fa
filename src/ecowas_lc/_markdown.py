"""The part of Markdown that models write, as plain data. Nothing is escaped here: each display escapes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_FENCE = re.compile(r"\s*(```|~~~)")
_HEADING = re.compile(r"#{1,6}\s+(\S.*)")
_LISTS = {
    "bullets": re.compile(r"\s{0,6}[-*•]\s+(.*)"),
    "numbers": re.compile(r"\s{0,6}\d{1,3}[.)]\s+(.*)"),
    "quote": re.compile(r">\s?(.*)"),
}
_INLINE = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|\*\*(?P<strong>[^*\n]+?)\*\*"
    r"|(?<![\w*])\*(?P<em>[^*\s][^*\n]*?)\*(?![\w*])"
    r"|\[(?P<mark>\d{1,3})\]"
)


class MarkdownBlock(NamedTuple):
    """A block and its parts: the items of a list, the lines of a quotation, else one text."""

    kind: Literal["code", "heading", "bullets", "numbers", "quote", "paragraph"]
    parts: list[str]


class MarkdownSpan(NamedTuple):
    """A piece of a line. ``mark`` is a number in brackets, such as a citation's; ``text`` is without the signs."""

    kind: Literal["text", "code", "strong", "em", "mark"]
    text: str


def markdown_blocks(text: str) -> Iterator[MarkdownBlock]:
    """Yield the blocks of a text. All of the text is in one of them, except the signs of Markdown."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    place = 0
    while place < len(lines):
        line = lines[place]
        end = place + 1
        if not line.strip():
            pass
        elif fence := _FENCE.match(line):
            last = next((at for at in range(end, len(lines)) if lines[at].strip() == fence[1]), len(lines))
            yield MarkdownBlock("code", ["\n".join(lines[end:last])])
            end = last + 1
        elif heading := _HEADING.fullmatch(line.strip()):
            yield MarkdownBlock("heading", [heading[1]])
        elif kind := _list_kind(line):
            while end < len(lines) and _LISTS[kind].fullmatch(lines[end]):
                end += 1
            items = [_LISTS[kind].fullmatch(item) for item in lines[place:end]]
            yield MarkdownBlock(kind, [item[1] for item in items if item])  # type: ignore[arg-type]
        else:
            while end < len(lines) and lines[end].strip() and not _begins_block(lines[end]):
                end += 1
            yield MarkdownBlock("paragraph", ["\n".join(lines[place:end])])
        place = end


def markdown_spans(text: str) -> Iterator[MarkdownSpan]:
    """Yield the pieces of a part of a block."""
    place = 0
    for match in _INLINE.finditer(text):
        if match.start() > place:
            yield MarkdownSpan("text", text[place : match.start()])
        kind = str(match.lastgroup)
        yield MarkdownSpan(kind, match[kind])  # type: ignore[arg-type]
        place = match.end()
    if place < len(text):
        yield MarkdownSpan("text", text[place:])


def _list_kind(line: str) -> str | None:
    return next((kind for kind, pattern in _LISTS.items() if pattern.fullmatch(line)), None)


def _begins_block(line: str) -> bool:
    return bool(_FENCE.match(line) or _HEADING.fullmatch(line.strip()) or _list_kind(line))
