"""Answers as safe HTML: a small part of Markdown becomes elements, and all text is escaped.

Nothing in an answer becomes a link, an image or a tag. The only interactive elements are the citation marks, which
this module creates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from markupsafe import Markup, escape

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_BULLET = re.compile(r"\s{0,6}[-*•]\s+(.*)")
_NUMBERED = re.compile(r"\s{0,6}\d{1,3}[.)]\s+(.*)")
_QUOTED = re.compile(r">\s?(.*)")
_FENCE = re.compile(r"\s*(```|~~~)")
_INLINE = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|\*\*(?P<strong>[^*\n]+?)\*\*"
    r"|(?<![\w*])\*(?P<em>[^*\s][^*\n]*?)\*(?![\w*])"
    r"|\[(?P<mark>\d{1,3})\]"
)
MOST_CHARACTERS = 200_000
"""Longer answers are shown as plain text."""

CitationMark = Callable[[int], Markup]


def answer_html(text: str, cite: CitationMark | None = None, cited: Collection[int] = ()) -> Markup:
    """Return an answer as HTML.

    Args:
        text: The text of a model or a document. It is untrusted.
        cite: Returns the mark for the citation with a given number.
        cited: The numbers that have a citation. Other numbers in brackets stay text.
    """
    if len(text) > MOST_CHARACTERS:
        return Markup("<p>{}</p>").format(text)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return Markup("\n").join(_blocks(lines, lambda part: _inline(part, cite, cited)))


def _blocks(lines: list[str], inline: Callable[[str], Markup]) -> Iterator[Markup]:
    place = 0
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
        elif fence := _FENCE.match(line):
            end = next((at for at in range(place + 1, len(lines)) if lines[at].strip() == fence[1]), len(lines))
            yield Markup("<pre>{}</pre>").format("\n".join(lines[place + 1 : end]))
            place = end + 1
        elif heading := _HEADING.fullmatch(line.strip()):
            yield Markup("<h3>{}</h3>").format(inline(heading[2]))
            place += 1
        else:
            for pattern, outer, inner in (
                (_BULLET, "ul", "li"),
                (_NUMBERED, "ol", "li"),
                (_QUOTED, "blockquote", "p"),
            ):
                found, place = _taken(lines, place, pattern)
                if found:
                    items = Markup("").join(Markup("<{0}>{1}</{0}>").format(inner, inline(item)) for item in found)
                    yield Markup("<{0}>{1}</{0}>").format(outer, items)
                    break
            else:
                end = place + 1
                while end < len(lines) and lines[end].strip() and not _begins_block(lines[end]):
                    end += 1
                yield Markup("<p>{}</p>").format(inline("\n".join(lines[place:end])))
                place = end


def _taken(lines: list[str], place: int, pattern: re.Pattern[str]) -> tuple[list[str], int]:
    found: list[str] = []
    while place < len(lines) and (match := pattern.fullmatch(lines[place])):
        found.append(match[1])
        place += 1
    return found, place


def _begins_block(line: str) -> bool:
    return any(pattern.match(line) for pattern in (_HEADING, _BULLET, _NUMBERED, _QUOTED, _FENCE))


def _inline(text: str, cite: CitationMark | None, cited: Collection[int]) -> Markup:
    out: list[Markup] = []
    place = 0
    for match in _INLINE.finditer(text):
        out.append(escape(text[place : match.start()]))
        place = match.end()
        if match["mark"] is not None:
            number = int(match["mark"])
            out.append(cite(number) if cite is not None and number in cited else escape(match[0]))
        else:
            tag = str(match.lastgroup)
            out.append(Markup("<{0}>{1}</{0}>").format(tag, match[tag]))
    out.append(escape(text[place:]))
    return Markup("").join(out)
