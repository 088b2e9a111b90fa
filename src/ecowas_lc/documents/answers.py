"""Checked answers: a model's answer, checked sentence by sentence.

If nothing in it is usable, the answer quotes the documents instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypedDict

from ecowas_lc._display import Displayed
from ecowas_lc.documents.check import (
    Supported,
    Unsupported,
    answer_sentences,
    check_answer,
    check_sentence,
    known_names,
    last_boundary,
)
from ecowas_lc.documents.document import Document, Sentence
from ecowas_lc.documents.evidence import Evidence, with_antecedent
from ecowas_lc.documents.sources import Source

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

GroundingMode = Literal["strict", "flag", "off"]
"""Unsupported sentences are left out (``"strict"``), marked (``"flag"``) or not checked (``"off"``)."""

_PHRASES: dict[str, dict[str, str]] = {
    "en": {
        "declined": "The documents do not say.",
        "closest": "Closest documents: {titles}.",
        "differ": "The documents differ:",
        "in": "in {language}",
        "unsupported": "(not supported by the documents)",
        "courtesy": "Happy to help. What would you like to know from the documents?",
    },
    "fr": {
        "declined": "Les documents ne le disent pas.",
        "closest": "Documents les plus proches : {titles}.",
        "differ": "Les documents diffèrent :",
        "in": "en {language}",
        "unsupported": "(non étayé par les documents)",
        "courtesy": "À votre service. Que souhaitez-vous savoir des documents ?",
    },
    "pt": {
        "declined": "Os documentos não o dizem.",
        "closest": "Documentos mais próximos: {titles}.",
        "differ": "Os documentos divergem:",
        "in": "em {language}",
        "unsupported": "(não apoiado pelos documentos)",
        "courtesy": "Ao dispor. O que deseja saber dos documentos?",
    },
}
_LANGUAGES = {
    "en": {"en": "English", "fr": "French", "pt": "Portuguese"},
    "fr": {"en": "anglais", "fr": "français", "pt": "portugais"},
    "pt": {"en": "inglês", "fr": "francês", "pt": "português"},
}
_MOST_CLOSEST = 3


@dataclass(frozen=True, slots=True)
class CitedSpan:
    """The source of one mark ``[n]`` in an answer."""

    number: int
    document: Document
    sentence: Sentence
    page: int | None
    start: int
    """Start of the supported text in the answer, in characters."""
    end: int


@dataclass(frozen=True, slots=True)
class GroundedAnswer(Displayed):
    """An answer that is based on documents."""

    text: str
    citations: tuple[CitedSpan, ...] = ()
    declined: bool = False
    """Whether the documents do not answer the question."""
    quoted: bool = False
    """Whether the answer consists of quotations, because the model said nothing usable."""
    removed: tuple[Unsupported, ...] = ()
    """The sentences that were left out, with the reason."""

    def as_message(self, *, name: str | None = None, id: str | None = None) -> AIMessage:  # noqa: A002
        """Return the answer as a message with LangChain's ``Citation`` annotations.

        Args:
            name: The message's name.
            id: The message's id.
        """
        return message_of(self.text, [citation_of(span) for span in self.citations], name=name, id=id)


class Citation(TypedDict):
    """A citation as plain data: the answer's text from ``start`` to ``end`` is supported by ``cited_text``.

    ``source_start`` and ``source_end`` are the position of the cited text in the document's text.
    """

    number: int
    document: str
    file: str
    title: str
    page: int | None
    cited_text: str
    source_start: int
    source_end: int
    start: int
    end: int


def citation_of(span: CitedSpan) -> Citation:
    """Return a citation as plain data."""
    return {
        "number": span.number,
        "document": span.document.id,
        "file": span.document.name,
        "title": span.document.title,
        "page": span.page,
        "cited_text": span.sentence.text,
        "source_start": span.sentence.start,
        "source_end": span.sentence.end,
        "start": span.start,
        "end": span.end,
    }


def message_of(text: str, citations: Sequence[Citation], **fields: Any) -> AIMessage:
    """Return a text as a message with LangChain's ``Citation`` annotations and with other ``fields``."""
    from langchain_core.messages import AIMessage
    from langchain_core.messages.content import create_citation, create_text_block

    if not citations:
        return AIMessage(text, **fields)
    annotations = [
        create_citation(
            title=one["title"],
            cited_text=one["cited_text"],
            start_index=one["start"],
            end_index=one["end"],
            # further arguments become the citation's ``extras``
            number=one["number"],
            document=one["document"],
            file=one["file"],
            page=one["page"],
            start=one["source_start"],
            end=one["source_end"],
        )
        for one in citations
    ]
    return AIMessage(content=[dict(create_text_block(text, annotations=list(annotations)))], **fields)


def grounded_answer(
    said: str,
    *,
    evidence: Sequence[Evidence],
    sources: Sequence[Source],
    language: str,
    mode: GroundingMode = "strict",
) -> GroundedAnswer:
    """Return the checked form of a model's answer.

    Args:
        said: The model's answer; empty if there is none.
        evidence: The sentences that answer the question; empty if the documents do not answer it.
        sources: The passages that were found.
        language: The question's language: ``"en"``, ``"fr"`` or ``"pt"``.
        mode: What happens to unsupported sentences.

    Returns:
        The checked answer.
    """
    if mode == "off":
        return GroundedAnswer(said)
    checked = check_answer(said, sources)
    return _answer_of(said, checked, evidence=evidence, sources=sources, language=language, mode=mode)


def courtesy_in(language: str) -> str:
    """Return the answer to thanks, greetings and small talk, which claims nothing."""
    return _PHRASES.get(language, _PHRASES["en"])["courtesy"]


class CheckedStream:
    """Checks an answer while it is being made: text comes out of it only when its sentence has passed.

    The pieces that :meth:`take` and :meth:`rest` return, joined, are the text of :attr:`answer`. Supported
    sentences are held back until one of them rests on evidence: without any, the documents are quoted instead.
    """

    def __init__(self, evidence: Sequence[Evidence], sources: Sequence[Source], language: str) -> None:
        self._evidence = evidence
        self._sources = sources
        self._language = language
        self._known = known_names(sources)
        self._places = {_place(one.source, one.sentence) for one in evidence}
        self._checked: list[Supported | Unsupported] = []
        self._open = ""
        self._said = ""
        self.answer: GroundedAnswer | None = None

    def take(self, text: str) -> str:
        """Return what may be said after more of the answer has been made."""
        self._open += text
        end = last_boundary(self._open)
        if end == 0:
            return ""
        self._check(self._open[:end])
        self._open = self._open[end:]
        lines = [one for one in self._checked if isinstance(one, Supported)]
        if not any(_place(one.source, one.sentence) in self._places for one in lines):
            return ""
        return self._new(_written(lines, (), ()).text)

    def rest(self) -> str:
        """Return what remains to be said when the answer is complete."""
        return self._new(self.finished().text)

    def finished(self) -> GroundedAnswer:
        """Return the checked answer, which is complete now."""
        if self.answer is None:
            self._check(self._open)
            self.answer = _answer_of(
                "",
                self._checked,
                evidence=self._evidence,
                sources=self._sources,
                language=self._language,
                mode="strict",
            )
        return self.answer

    def _check(self, text: str) -> None:
        self._checked += [check_sentence(one, self._sources, self._known) for one in answer_sentences(text)]

    def _new(self, text: str) -> str:
        new = text[len(self._said) :]
        self._said = text
        return new


def _answer_of(
    said: str,
    checked: Sequence[Supported | Unsupported],
    *,
    evidence: Sequence[Evidence],
    sources: Sequence[Source],
    language: str,
    mode: GroundingMode,
) -> GroundedAnswer:
    phrases = _PHRASES.get(language, _PHRASES["en"])
    removed = tuple(one for one in checked if isinstance(one, Unsupported))
    if not evidence:
        if mode == "flag" and said.strip():
            return _written(_flagged(checked, phrases), (), removed)
        return GroundedAnswer(_decline(sources, phrases), declined=True, removed=removed)
    lines: list[Supported | str] = (
        _flagged(checked, phrases) if mode == "flag" else [one for one in checked if isinstance(one, Supported)]
    )
    shown = {_place(one.source, one.sentence) for one in lines if isinstance(one, Supported)}
    missing = [one for one in evidence if _place(one.source, one.sentence) not in shown]
    # A sentence counts only if the answer as a whole cites a source that answers the question.
    if len(missing) == len(evidence) and mode == "strict":
        lines = []
    differ = phrases["differ"] if sum(not one.answers_second for one in missing) > 1 else ""
    return _written(lines, missing, removed, language, differ)


def _flagged(checked: Iterable[Supported | Unsupported], phrases: dict[str, str]) -> list[Supported | str]:
    return [one if isinstance(one, Supported) else f"{one.text} {phrases['unsupported']}" for one in checked]


def _place(source: Source, sentence: Sentence) -> tuple[str, int]:
    return source.document.id, sentence.start


def _written(
    lines: Sequence[Supported | str],
    quotations: Sequence[Evidence],
    removed: tuple[Unsupported, ...],
    language: str = "en",
    before_quotations: str = "",
) -> GroundedAnswer:
    text = ""
    numbers: dict[tuple[str, int], int] = {}
    spans: list[CitedSpan] = []

    def add(piece: str, cited: tuple[Source, Sentence] | None, separator: str) -> None:
        nonlocal text
        text += (separator if text else "") + piece
        if cited is None:
            return
        source, sentence = cited
        number = numbers.setdefault(_place(source, sentence), len(numbers) + 1)
        spans.append(
            CitedSpan(number, source.document, sentence, source.passage.page, len(text) - len(piece), len(text))
        )
        text += f" [{number}]"

    for line in lines:
        if isinstance(line, Supported):
            add(line.text, (line.source, line.sentence), " ")
        else:
            add(line, None, " ")
    if before_quotations:
        add(before_quotations, None, "\n\n")
    for one in map(with_antecedent, quotations):
        add(_quoted(one, language, with_title=len(quotations) > 1), (one.source, one.sentence), "\n")
    return GroundedAnswer(text, tuple(spans), quoted=not lines, removed=removed)


def _quoted(evidence: Evidence, language: str, *, with_title: bool) -> str:
    document = evidence.source.document
    names = _LANGUAGES.get(language, _LANGUAGES["en"])
    remarks = []
    if with_title and document.date is not None:
        remarks.append(document.date.isoformat())
    if document.language in names and document.language != language:
        phrases = _PHRASES.get(language, _PHRASES["en"])
        remarks.append(phrases["in"].format(language=names[document.language]))
    remark = f" ({', '.join(remarks)})" if remarks else ""
    quotation = f"“{evidence.sentence.in_words}”"
    return f"{document.title}{remark}: {quotation}" if with_title else f"{quotation}{remark}"


def _decline(sources: Sequence[Source], phrases: dict[str, str]) -> str:
    titles = dict.fromkeys(source.document.title for source in sources)
    if not titles:
        return phrases["declined"]
    closest = "; ".join(list(titles)[:_MOST_CLOSEST])
    return f"{phrases['declined']} {phrases['closest'].format(titles=closest)}"
