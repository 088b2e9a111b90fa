"""Answers as safe HTML: a small part of Markdown becomes elements, and all text is escaped.

Nothing in an answer becomes a link, an image or a tag. The only interactive elements are the citation marks, which
this module creates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from markupsafe import Markup, escape

from ecowas_lc._markdown import MarkdownBlock, markdown_blocks, markdown_spans

MOST_CHARACTERS = 200_000
"""Longer answers are shown as plain text."""

CitationMark = Callable[[int], Markup]

_LISTS = {"bullets": ("ul", "li"), "numbers": ("ol", "li"), "quote": ("blockquote", "p")}


def answer_html(text: str, cite: CitationMark | None = None, cited: Collection[int] = ()) -> Markup:
    """Return an answer as HTML.

    Args:
        text: The text of a model or a document. It is untrusted.
        cite: Returns the mark for the citation with a given number.
        cited: The numbers that have a citation. Other numbers in brackets stay text.
    """
    if len(text) > MOST_CHARACTERS:
        return Markup("<p>{}</p>").format(text)

    def inline(part: str) -> Markup:
        return Markup("").join(span(kind, piece) for kind, piece in markdown_spans(part))

    def span(kind: str, piece: str) -> Markup:
        if kind == "text":
            return escape(piece)
        if kind == "mark":
            return cite(int(piece)) if cite is not None and int(piece) in cited else escape(f"[{piece}]")
        return Markup("<{0}>{1}</{0}>").format(kind, piece)

    return Markup("\n").join(_html(block, inline) for block in markdown_blocks(text))


def _html(block: MarkdownBlock, inline: Callable[[str], Markup]) -> Markup:
    if block.kind == "code":
        return Markup("<pre>{}</pre>").format(block.parts[0])
    if block.kind not in _LISTS:
        return Markup("<{0}>{1}</{0}>").format("h3" if block.kind == "heading" else "p", inline(block.parts[0]))
    outer, inner = _LISTS[block.kind]
    items = Markup("").join(Markup("<{0}>{1}</{0}>").format(inner, inline(part)) for part in block.parts)
    return Markup("<{0}>{1}</{0}>").format(outer, items)
