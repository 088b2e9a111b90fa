"""A document: its text, issuer, date, the documents that it replaces, and its passages."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from ecowas_lc.documents.facts import TimePoint, folded, times_in
from ecowas_lc.documents.files import Block, FileText

PASSAGE_WORDS = 120

# Labels of leading lines and of front matter, in the three languages.
_LABELS: dict[str, str] = {
    label: name
    for name, labels in {
        "title": "title titre titulo",
        "issuer": "issuer emetteur emissor author auteur autor source publisher editeur",
        "date": "date data",
        "groups": "group groups groupe groupes grupo grupos twg",
        "language": "language langue lingua idioma lang",
        "supersedes": "supersedes replaces remplace substitui",
    }.items()
    for label in labels.split()
}
_LABELLED = re.compile(r"\s*([^\W\d_]+)\s*:\s*(\S.*)$")
_REPLACES = re.compile(
    r"\b(?:replaces?|supersedes?|cancels|remplace|annule|substitui|revoga|anula)\b(?P<rest>[^.]{0,160})",
    re.IGNORECASE,
)
_A_DOCUMENT = re.compile(
    r"\b(?:note|report|document|circular|version|memo|edition|one|rapport|circulaire|celle|celui|nota"
    r"|relat[óo]rio"
    r"|documento|circular|vers[ãa]o|edi[çc][ãa]o)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?…])(?:\s?»|[”\"')\]])*\s+(?=(?:«\s?|[“\"'(\[])?[A-ZÀ-ÖØ-Þ0-9])")
# Full stops that do not end a sentence: initials and common abbreviations of the three languages.
_ABBREVIATED = re.compile(
    r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Dra|Prof|St|No|Nos|art|Art|etc|vs|approx|cf|fig|n|nº|Sr|Sra|Mme|p|pp))\.$"
)


@dataclass(frozen=True, slots=True)
class Document:
    """Facts about a document. ``id`` is derived from its content, so that the same file has the same id."""

    id: str
    name: str
    """The file's name."""
    title: str
    issuer: str = ""
    date: dt.date | None = None
    language: str = ""
    """``"en"``, ``"fr"``, ``"pt"`` or empty."""
    groups: tuple[str, ...] = ()
    """The groups that may read it; empty means every group."""
    supersedes: tuple[str, ...] = ()
    """Ids of documents that this one replaces."""
    pages: int = 0


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a document, or a row of a table, from ``start`` to ``end`` of the document's text."""

    text: str
    start: int
    end: int
    header: tuple[str, ...] = ()
    """The table's column names, if this is a row."""

    @property
    def in_words(self) -> str:
        """The sentence; in a row, each cell follows the name of its column."""
        if not self.header:
            return self.text
        cells = self.text.split(" | ")
        named = [f"{name}: {cell}" if name else cell for name, cell in zip(self.header, cells, strict=False)]
        return "; ".join(named + cells[len(self.header) :])


@dataclass(frozen=True, slots=True)
class Passage:
    """About 120 words of a document under one heading, the unit that is searched and cited."""

    document: str
    """The document's id."""
    number: int
    text: str
    start: int
    end: int
    heading: str = ""
    page: int | None = None
    sentences: tuple[Sentence, ...] = field(default=(), repr=False)

    @property
    def for_search(self) -> str:
        """The text for the index: the heading, then each sentence, rows in words."""
        body = " ".join(sentence.in_words for sentence in self.sentences)
        return f"{self.heading}\n{body}" if self.heading else body


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document with its text and passages, as read from a file."""

    document: Document
    text: str
    passages: tuple[Passage, ...]
    replaced: Replaced | None = None
    """The document that the text says it replaces."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A replaced document as named in a sentence: by its date, if given."""

    date: TimePoint | None
    sentence: str


def read_document(
    file: FileText,
    *,
    language_of: Callable[[str], str],
    groups: Sequence[str] = (),
    title: str = "",
    issuer: str = "",
    date: dt.date | None = None,
    language: str = "",
) -> ReadDocument:
    """Return a file's text as a document; arguments override what the file states."""
    told = {_LABELS[label]: value for label, value in _plain_labels(file.told).items() if label in _LABELS}
    blocks = list(file.blocks)
    for index, block in enumerate(blocks[:12]):
        found = _LABELLED.match(block.text) if block.kind == "paragraph" else None
        if found and (name := _LABELS.get(folded(found[1]))):
            told.setdefault(name, found[2].strip())
            blocks[index] = Block("paragraph", "")
    blocks = [block for block in blocks if block.text]
    heading = next((block.text for block in blocks if block.kind == "heading"), "")
    text, passages = _cut(blocks)
    identity = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    document = Document(
        id=identity,
        name=file.name,
        title=title or told.get("title") or heading or file.name,
        issuer=issuer or told.get("issuer", ""),
        date=date or _date_of(told.get("date", "")),
        language=language or told.get("language", "")[:2].lower() or language_of(text[:4000]),
        groups=tuple(groups) or tuple(re.findall(r"[\w-]+", told.get("groups", ""))),
        pages=max((block.page or 0 for block in blocks), default=0),
    )
    return ReadDocument(
        document,
        text,
        tuple(replace(passage, document=identity) for passage in passages),
        _replaced_by(passages, told.get("supersedes", "")),
    )


def _plain_labels(told: Mapping[str, str]) -> dict[str, str]:
    return {folded(label): value for label, value in told.items()}


def _date_of(text: str) -> dt.date | None:
    for time in times_in(text):
        if time.year is not None:
            try:
                return dt.date(time.year, time.month or 1, time.day or 1)
            except ValueError:
                continue
    return None


def _replaced_by(passages: Sequence[Passage], told: str) -> Replaced | None:
    if told:
        return Replaced(next(iter(times_in(told)), None), told)
    for passage in passages:
        for sentence in passage.sentences:
            found = _REPLACES.search(sentence.text)
            if found is None:
                continue
            date = next(iter(times_in(found["rest"])), None)
            if date is not None or _A_DOCUMENT.search(found["rest"]):
                return Replaced(date, sentence.text)
    return None


def sentences_of(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of the sentences of a paragraph."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATED.search(text[start : match.start()]):
            continue
        yield start, match.start() + len(match[0].rstrip())
        start = match.end()
    if text[start:].strip():
        yield start, len(text.rstrip())


def _cut(blocks: Sequence[Block]) -> tuple[str, list[Passage]]:
    """Return the document's text and its passages, each with sentences under one heading."""
    pieces: list[str] = []
    length = 0
    headings: list[str] = []
    header: tuple[str, ...] = ()
    found: list[Passage] = []
    held: list[Sentence] = []
    page: int | None = None

    def end_passage() -> None:
        if not held:
            return
        whole = "".join(pieces)[held[0].start : held[-1].end]
        heading = " > ".join(headings)
        found.append(Passage("", len(found), whole, held[0].start, held[-1].end, heading, page, tuple(held)))
        held.clear()

    for block in blocks:
        if block.kind == "heading":
            end_passage()
            del headings[max(0, block.level - 1) :]
            headings.append(block.text)
        elif block.page != page:
            end_passage()
        page = block.page
        start = length
        pieces.append(block.text + "\n\n")
        length += len(block.text) + 2
        if block.kind == "header":
            header = tuple(block.text.split(" | "))
            continue
        if block.kind != "row":
            header = ()
        if block.kind == "heading":
            continue
        spans = [(0, len(block.text))] if block.kind == "row" else list(sentences_of(block.text))
        for first, last in spans:
            if sum(len(sentence.text.split()) for sentence in held) >= PASSAGE_WORDS:
                end_passage()
            held.append(Sentence(block.text[first:last], start + first, start + last, header))
    end_passage()
    return "".join(pieces).rstrip(), found


DOSSIER = Path(str(files("ecowas_lc.twg") / "data" / "dossier"))
"""Eighteen documents in English, French and Portuguese. Their states, institutions and figures are fictional."""
