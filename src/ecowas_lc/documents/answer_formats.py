"""Answers with links to their sources, as Markdown and HTML.

Text of models and documents is treated as plain text: characters with a meaning in HTML or Markdown are escaped,
and links are made only to addresses with one of a few schemes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ecowas_lc.documents.answers import Citation

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

SourceLink = Callable[[Citation], str | None]
"""Returns the address of a citation's source, or ``None`` if it has none."""

_SCHEMES = ("http", "https", "")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$])|^(\s*)([#+\-=]|\d+[.)])", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*")
_SOURCES = {"en": "Sources", "fr": "Sources", "pt": "Fontes"}
_PAGE = {"en": "page", "fr": "page", "pt": "página"}


def citations_in(message: BaseMessage) -> list[Citation]:
    """Return the citations of an answer as plain data, in the order of the text.

    Args:
        message: The final message of a run.

    Returns:
        The citations; empty if the message has none.
    """
    found: list[Citation] = []
    shift = 0
    for block in message.content_blocks:
        for note in block.get("annotations") or ():  # type: ignore[attr-defined]
            extras = note.get("extras") or {}
            if note.get("type") != "citation" or not isinstance(extras.get("number"), int):
                continue
            found.append(
                {
                    "number": extras["number"],
                    "document": str(extras.get("document", "")),
                    "file": str(extras.get("file", "")),
                    "title": str(note.get("title") or extras.get("file", "")),
                    "page": extras.get("page"),
                    "cited_text": str(note.get("cited_text") or ""),
                    "source_start": int(extras.get("start") or 0),
                    "source_end": int(extras.get("end") or 0),
                    "start": shift + int(note.get("start_index") or 0),
                    "end": shift + int(note.get("end_index") or 0),
                }
            )
        shift += len(str(block.get("text") or ""))
    return sorted(found, key=lambda one: one["end"])


def answer_as_html(
    message: BaseMessage, *, link: SourceLink | None = None, language: str = "en", id_prefix: str = "source"
) -> str:
    """Return an answer as HTML that is safe to insert in a page: escaped, without scripts and styles.

    Each mark ``[n]`` links to its entry in the list of sources below the answer, and each entry to its source.

    Args:
        message: The final message of a run.
        link: Returns the address of a citation's source. Relative, http and https addresses become links; others
            are left out. With ``None``, the list has no links.
        language: The language of the list's heading: ``"en"``, ``"fr"`` or ``"pt"``.
        id_prefix: Prefix of the entries' ids; use a different one for each answer on a page.

    Returns:
        A ``<div class="answer">``, and a ``<section class="sources">`` if there are citations.
    """
    citations = citations_in(message)
    prefix = re.sub(r"[^\w-]", "-", id_prefix)
    body = "".join(
        _html_text(piece)
        if isinstance(piece, str)
        else f'<sup class="citation"><a href="#{prefix}-{piece["number"]}">[{piece["number"]}]</a></sup>'
        for piece in _pieces(message.text, citations)
    )
    paragraphs = [part for part in re.split(r"\n{2,}", body) if part.strip()]
    text = "".join(f"<p>{part.strip().replace(chr(10), '<br>')}</p>" for part in paragraphs)
    answer = f'<div class="answer">{text}</div>'
    if not citations:
        return answer
    entries = "".join(
        f'<li id="{prefix}-{one["number"]}" value="{one["number"]}">{_html_source(one, link, language)}</li>'
        for one in cited_sources(citations)
    )
    heading = html.escape(_SOURCES.get(language, _SOURCES["en"]))
    return f'{answer}<section class="sources"><h4>{heading}</h4><ol>{entries}</ol></section>'


def answer_as_markdown(message: BaseMessage, *, link: SourceLink | None = None, language: str = "en") -> str:
    """Return an answer as Markdown, with its sources in a list below it.

    Args:
        message: The final message of a run.
        link: As for :func:`answer_as_html`.
        language: The language of the list's heading: ``"en"``, ``"fr"`` or ``"pt"``.
    """
    citations = citations_in(message)
    addresses = {one["number"]: _address(one, link) for one in citations}
    body = ""
    for piece in _pieces(message.text, citations):
        if isinstance(piece, str):
            body += _markdown_text(piece)
        else:
            mark, address = f"\\[{piece['number']}\\]", addresses[piece["number"]]
            body += f"[{mark}](<{address}>)" if address else mark
    if not citations:
        return body
    lines = []
    for one in cited_sources(citations):
        title = _markdown(_titled(one, language))
        address = addresses[one["number"]]
        source = f"[{title}](<{address}>)" if address else title
        lines.append(f"{one['number']}. {source}: “{_markdown(_line(one['cited_text']))}”")
    heading = _SOURCES.get(language, _SOURCES["en"])
    return f"{body}\n\n**{heading}**\n\n" + "\n".join(lines)


def _pieces(text: str, citations: list[Citation]) -> Iterator[str | Citation]:
    """Yield an answer's text and its citations, each in place of the mark after the text that it supports."""
    position = 0
    for one in citations:
        mark = f" [{one['number']}]"
        if one["end"] < position or not text.startswith(mark, one["end"]):
            continue
        yield text[position : one["end"]]
        yield one
        position = one["end"] + len(mark)
    yield text[position:]


def cited_sources(citations: list[Citation]) -> list[Citation]:
    """Return one citation for each number, in order."""
    found = {one["number"]: one for one in reversed(citations)}
    return [found[number] for number in sorted(found)]


def _html_text(text: str) -> str:
    return _BOLD.sub(r"<strong>\1</strong>", html.escape(text))


def _html_source(one: Citation, link: SourceLink | None, language: str) -> str:
    title = html.escape(_titled(one, language))
    address = _address(one, link)
    if address:
        title = f'<a href="{html.escape(address)}" rel="noopener noreferrer">{title}</a>'
    return f"{title}<blockquote>{html.escape(one['cited_text'])}</blockquote>"


def _titled(one: Citation, language: str) -> str:
    page = f", {_PAGE.get(language, _PAGE['en'])} {one['page']}" if one["page"] else ""
    return f"{_line(one['title'] or one['file'] or one['document'])}{page}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _markdown_text(text: str) -> str:
    """Return text in which bold parts stay bold and all other characters are literal."""
    parts = _BOLD.split(text)  # every second part is bold
    return "".join(
        f"**{_markdown(part)}**" if number % 2 else _markdown(part) for number, part in enumerate(parts)
    )


def _markdown(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}{_unlisted(found[3])}", text)


def _unlisted(start: str) -> str:
    """Return the beginning of a line escaped so that it starts no heading or list."""
    return f"{start[:-1]}\\{start[-1]}"


def _address(one: Citation, link: SourceLink | None) -> str | None:
    """Return the address of a source, if it is safe to link to."""
    address: Any = link(one) if link is not None else None
    if not isinstance(address, str) or re.search(r"[\x00-\x20<>\"\\]", address):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme.lower() not in _SCHEMES or (not parts.scheme and ":" in address.split("/")[0]):
        return None
    return address
