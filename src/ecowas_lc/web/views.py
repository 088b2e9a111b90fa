"""The values that the pages show, made from the service's results: plain values in the reader's language.

Answers become safe HTML: a small part of Markdown becomes elements, and all text is escaped. Nothing in an answer
becomes a link, an image or a tag. The only interactive elements are the citation marks, which this module creates.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from markupsafe import Markup, escape

from ecowas_lc._markdown import MarkdownBlock, markdown_blocks, markdown_spans
from ecowas_lc.twg import TWG
from ecowas_lc.web.branches import Versions
from ecowas_lc.web.texts import PageTime, Texts

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


SUPERVISOR = "supervisor"
_OWN_COLOUR = frozenset(
    {"energy", "agriculture", "minerals", "digital", "protocol", "resource_mobilization", SUPERVISOR}
)


@dataclass(frozen=True)
class Group:
    """A speaker: a working group, or the supervisor."""

    id: str
    name: str
    css: str
    mention: bool = True


class Speakers:
    """The names and colours of the groups in one language."""

    def __init__(self, groups: Mapping[str, TWG], texts: Texts, allowed: Collection[str] | None = None) -> None:
        self._texts = texts
        self.groups = [
            self._group(group.id, group.name, place, allowed is None or group.id in allowed)
            for place, group in enumerate(groups.values())
        ]
        self._known = {group.id: group for group in self.groups}
        self._known[SUPERVISOR] = self._group(SUPERVISOR, SUPERVISOR, 0, mentioned=False)

    def _group(self, name: str, shown: str, place: int, mentioned: bool) -> Group:
        text = f"group.{name}"
        css = f"g-{name}" if name in _OWN_COLOUR else f"g-other-{place % 3}"
        # a custom group that reuses a built-in id keeps its own name
        return Group(name, self._texts(text) if self._texts.has(text) else shown, css, mentioned)

    def __getitem__(self, name: str) -> Group:
        return self._known.get(name) or Group(name, name, "g-other-0", mention=False)

    @property
    def all(self) -> list[Group]:
        """All speakers, with the supervisor last."""
        return [*self.groups, self._known[SUPERVISOR]]


@dataclass(frozen=True)
class SourceView:
    """A source of an answer."""

    number: int
    title: str
    where: str
    href: str


@dataclass(frozen=True)
class AnswerView:
    """An answer as the page shows it."""

    id: str
    speaker: Group
    groups: list[Group]
    html: Markup
    text: str
    sources: list[SourceView]
    why: str
    cut: bool


@dataclass(frozen=True)
class Links:
    """Links to the previous and the next version of a turn."""

    number: int
    total: int
    previous: str | None
    next: str | None


@dataclass(frozen=True)
class RunLinks:
    """The links of a run that is under way."""

    id: str
    events: str
    cancel: str


@dataclass
class TurnView:
    """A question with its answer, or with the reason for having none."""

    anchor: str
    id: str
    question: str
    answer: AnswerView | None = None
    run: RunLinks | None = None
    branches: Links | None = None
    waits: bool = False
    unanswered: bool = False
    can_edit: bool = True
    can_regenerate: bool = True
    rejected: list[str] = field(default_factory=list)
    more: list[AnswerView] = field(default_factory=list)


def anchor_of(name: str) -> str:
    """Return an element's id for any text."""
    return "t" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def moment_of(stored: object, texts: Texts) -> PageTime | None:
    """Return a stored time as the page shows it, or ``None`` if it is not a time."""
    try:
        if isinstance(stored, (int, float)):
            from datetime import UTC

            return texts.moment(datetime.fromtimestamp(stored, UTC))
        return texts.moment(datetime.fromisoformat(str(stored))) if stored else None
    except (ValueError, OverflowError, OSError):
        return None


def cite_mark(href: str, number: int, title: str, texts: Texts) -> Markup:
    """Return the mark of a citation in an answer: a button that opens the passage."""
    return Markup('<button type="button" class="cite" data-source="{}" aria-label="{}">{}</button>').format(
        href, texts("chat.open_source", n=number, title=title), number
    )


def difference_html(before: str, after: str) -> Markup:
    """Return two texts as one, with removed and added words marked."""
    old, new = re.findall(r"\s+|\S+", before), re.findall(r"\s+|\S+", after)
    if len(old) * len(new) > 25_000_000:
        return Markup("<del>{}</del><ins>{}</ins>").format(before, after)
    out: list[Markup] = []
    for kind, first, last, from_, to in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind == "equal":
            out.append(escape("".join(old[first:last])))
            continue
        if last > first:
            out.append(Markup("<del>{}</del>").format("".join(old[first:last])))
        if to > from_:
            out.append(Markup("<ins>{}</ins>").format("".join(new[from_:to])))
    return Markup("").join(out)


def value_text(value: Any) -> str:
    """Return a stored value as readable text."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def message_line(message: Mapping[str, Any], speakers: Speakers, texts: Texts) -> str:
    """Return a message with its speaker, on one line."""
    speaker = str(message.get("speaker", ""))
    name = texts("thread.user") if speaker == "user" else speakers[speaker].name
    return f"{name}: {message.get('text', '')}"


def links_of(versions: Versions | None, href: Any) -> Links | None:
    """Return a turn's versions with their addresses."""
    if versions is None:
        return None
    return Links(
        versions.number,
        len(versions.tips),
        href(versions.previous) if versions.previous else None,
        href(versions.next) if versions.next else None,
    )


def percentile(buckets: Mapping[str, int], share: float) -> str | None:
    """Return the upper bound, in seconds, of a percentile of the durations, or ``None`` if there are none."""
    bounds = sorted((float("inf") if name == "more" else float(name), count) for name, count in buckets.items())
    total = sum(count for _, count in bounds)
    seen = 0
    for bound, count in bounds:
        seen += count
        if seen >= share * total:
            return "more" if bound == float("inf") else f"{bound:g}"
    return None


def summed(days: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    """Return the sums of a figure that each day counts by name."""
    found: dict[str, int] = {}
    for day in days:
        for name, count in day[key].items():
            found[name] = found.get(name, 0) + count
    return found


__all__ = [
    "SUPERVISOR",
    "AnswerView",
    "Group",
    "Links",
    "RunLinks",
    "SourceView",
    "Speakers",
    "TurnView",
    "anchor_of",
    "answer_html",
    "cite_mark",
    "difference_html",
    "links_of",
    "message_line",
    "moment_of",
    "percentile",
    "summed",
    "value_text",
]
