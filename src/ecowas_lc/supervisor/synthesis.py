"""Combining several groups' answers: views, agreements, conflicts, open questions, missing views.

A model's structured synthesis is read while it is being written; figures that have no source are left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.errors import GraphBubbleUp

from ecowas_lc._language import Language, language_of
from ecowas_lc.documents.answers import message_of
from ecowas_lc.effects import Program
from ecowas_lc.errors import EcowasError, ModelError
from ecowas_lc.llm.tokens import shorten
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.grounding import side_by_side
from ecowas_lc.supervisor.model_calls import Ask, Recite
from ecowas_lc.supervisor.prompts import (
    phrase,
    plain_synthesis_prompt,
    synthesis_prompt,
    synthesis_request,
    synthesis_schema,
    view_of,
)
from ecowas_lc.supervisor.state import Report, Synthesis
from ecowas_lc.supervisor.streaming import Say, whole_text
from ecowas_lc.twg import TWG

_FIGURE = re.compile(r"\d(?:[\d.,']*\d)?")
_SPACED_FIGURE = re.compile(r"\d[\d.,'\u00a0\u202f ]*\d")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SMALLEST = 2


def figures_in(text: str) -> set[str]:
    """Return the figures of a text as digits only; single digits are ignored."""
    return _digits(_FIGURE.findall(text))


def _digits(figures: Iterable[str]) -> set[str]:
    return {digits for figure in figures if len(digits := re.sub(r"\D", "", figure)) >= _SMALLEST}


class Sources:
    """The texts in which a figure must occur to be accepted, with or without separators between its digits."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._figures: set[str] = set()
        for text in texts:
            for pattern in (_FIGURE, _SPACED_FIGURE, re.compile(r"\d+")):
                self._figures |= _digits(pattern.findall(text))

    def support(self, text: str) -> bool:
        """Return whether every figure of ``text`` occurs in the sources."""
        return figures_in(text) <= self._figures

    def supported(self, text: str) -> tuple[str, list[str]]:
        """Return the sentences of ``text`` whose figures all occur in the sources, and the other sentences."""
        kept: list[str] = []
        left_out: list[str] = []
        for line in text.splitlines():
            sentences = sentences_of(line)
            left_out += [sentence for sentence in sentences if not self.support(sentence)]
            rest = " ".join(sentence for sentence in sentences if self.support(sentence))
            if rest or not sentences:
                kept.append(rest)
        return "\n".join(kept).strip(), left_out


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


LISTS = ("agreements", "conflicts", "open_questions")
_NOTHING = frozenset({"", "none", "n/a", "null", "aucun", "aucune", "nenhum", "nenhuma", "[]", "..."})
_LONGEST_VIEW = 120


@dataclass(frozen=True, slots=True)
class Digest:
    """Reads the model's answer to one question; ``answers`` and ``names`` are by group."""

    question: str
    answers: Mapping[str, str]
    names: Mapping[str, str]
    missing: Mapping[str, str]
    note: str
    language: Language

    def text(self, value: Mapping[str, Any], *, complete: bool) -> str:
        """Return the text to show of an answer, partial or ``complete``.

        Each version starts with the previous one. Nothing is shown before the model has written something usable.
        """
        read = self._read(value, complete=complete)
        if not read.usable:
            return ""
        paragraphs = [f"**{self.names[group]}**: {view}" for group, view in read.views.items()]
        for key in LISTS:
            if items := read.lists[key]:
                heading = f"**{phrase(key, self.language)}**"
                paragraphs += ["\n".join([heading, *(f"- {item}" for item in items)])]
        if read.answer:
            paragraphs.append(f"**{phrase('in_short', self.language)}**: {read.answer}")
        if complete and self.note:
            paragraphs.append(self.note)
        return "\n\n".join(paragraphs)

    def synthesis(self, value: Mapping[str, Any]) -> Synthesis | None:
        """Return the synthesis in the complete answer, or ``None`` if nothing in it is usable."""
        read = self._read(value, complete=True)
        if not read.usable:
            return None
        return {
            "text": self.text(value, complete=True),
            "views": read.views,
            "agreements": read.lists["agreements"],
            "conflicts": read.lists["conflicts"],
            "open_questions": read.lists["open_questions"],
            "missing": dict(self.missing),
            "left_out": read.left_out,
            "form": "structured",
        }

    def own_words(self, group: str) -> str:
        """Return the first sentence of a group's answer."""
        plain = " ".join(self.answers[group].split())
        return shorten(next(iter(sentences_of(plain)), plain), _LONGEST_VIEW)

    def _read(self, value: Mapping[str, Any], *, complete: bool) -> _Read:
        cut = complete and "answer" not in value  # out of tokens: the last words are incomplete
        done = complete and not cut
        under_way = next(reversed(list(value)), None)
        everything = Sources([self.question, *self.answers.values()])
        read = _Read({}, {key: [] for key in LISTS}, "", [], usable=False)

        given = value.get("views")
        views: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        known = [group for group in self.names if group in views]
        views_done = done or ("views" in value and under_way != "views")
        for group in self.names:
            if not (views_done or (group in known and group != known[-1])):
                if complete:
                    read.views[group] = self.own_words(group)
                    continue
                break
            read.views[group] = self._view(group, views.get(group), read)

        for key in LISTS:
            closed = done or (key in value and under_way != key)
            for item in _texts(value.get(key), closed=closed):
                if self._says_something(item):
                    read.keep(read.lists[key], item, everything)

        answer = value.get("answer")
        if isinstance(answer, str):
            sentences = sentences_of(" ".join(answer.split()))
            kept: list[str] = []
            for sentence in sentences if done else sentences[:-1]:
                read.keep(kept, sentence, everything)
            read.answer = " ".join(kept)
        return read

    def _view(self, group: str, given: Any, read: _Read) -> str:
        view = " ".join(given.split()) if isinstance(given, str) else ""
        kept: list[str] = []
        if self._says_something(view):
            read.keep(kept, view, Sources([self.question, self.answers[group]]))
        return kept[0] if kept else self.own_words(group)

    def _says_something(self, text: str) -> bool:
        """Return whether a text says more than an empty phrase or just a group's name."""
        bare = text.strip(" .:*-–").lower()
        labels = {label.lower() for group, name in self.names.items() for label in (group, name, view_of(name))}
        return bare not in _NOTHING and bare not in labels


@dataclass(slots=True)
class _Read:
    views: dict[str, str]
    lists: dict[str, list[str]]
    answer: str
    left_out: list[str]
    usable: bool

    def keep(self, kept: list[str], text: str, sources: Sources) -> None:
        """Keep a text of the model, unless it contains figures without a source."""
        if sources.support(text):
            kept.append(text)
            self.usable = True
        else:
            self.left_out.append(text)


def _texts(value: object, *, closed: bool) -> list[str]:
    """Return the texts of a list, without the last one while the list is incomplete."""
    items: Sequence[object] = value if isinstance(value, list) else []
    return [" ".join(item.split()) for item in (items if closed else items[:-1]) if isinstance(item, str)]


log = logging.getLogger(__name__)


def answered(reports: Mapping[str, Report]) -> dict[str, str]:
    """Return the released answers by group."""
    return {group: report["text"] for group, report in reports.items() if report["status"] == "answered"}


def missing_views(reports: Mapping[str, Report], language: Language) -> dict[str, str]:
    """Return the reason for each missing view, by group."""
    reasons: dict[str, str] = {}
    for group, report in reports.items():
        if report["status"] == "rejected":
            reasons[group] = phrase("rejected", language)
        elif report["status"] == "failed":
            what = report.get("reason", "").partition(". ")[0].rstrip(".")  # the fix is not for the end user
            reasons[group] = phrase("failed", language, error=what)
    return reasons


def missing_note(missing: Mapping[str, str], groups: Mapping[str, TWG], language: Language) -> str:
    """Return the sentences that say whose view is missing and why, or ``""`` if none is."""
    return "\n".join(
        phrase("missing", language, name=groups[group].name, reason=reason) for group, reason in missing.items()
    )


def synthesis_of(
    ctx: Context, question: HumanMessage, reports: Mapping[str, Report]
) -> Program[tuple[AIMessage, Synthesis]]:
    """Return the final answer that combines several groups' answers, and its synthesis.

    The model cannot make it fail: if it does not support the schema, it writes prose, and if nothing that it
    writes is usable, the groups' answers follow one another. Figures that neither a group nor the user gave are
    left out.
    """
    answers = answered(reports)
    language = language_of(question.text)
    missing = missing_views(reports, language)
    digest = Digest(
        question=question.text,
        answers=answers,
        names={group: ctx.groups[group].name for group in answers},
        missing=missing,
        note=missing_note(missing, ctx.groups, language),
        language=language,
    )
    try:
        made: tuple[AIMessage, Synthesis] = yield ctx.limited(_made_by_model(ctx, digest), "The synthesis")
    except GraphBubbleUp:
        raise
    except Exception as error:  # the groups' answers must not be lost because of it
        _tell(error, "The synthesis was not made by the model")
        text = "\n\n".join(f"**{digest.names[group]}**\n\n{answers[group]}" for group in answers)
        return _plain(digest, text, answers, "reports", [])
    return made


def gathered(
    ctx: Context, question: HumanMessage, reports: Mapping[str, Report]
) -> Program[tuple[AIMessage, Synthesis]]:
    """Return checked answers one after another with renumbered sources; a model's synthesis would not be checked.

    If the documents of only some groups answer, the other groups are named as missing.
    """
    answers = answered(reports)
    language = language_of(question.text)
    declined = [group for group in answers if reports[group].get("declined")]
    if len(declined) == len(answers):
        declined = declined[1:]  # one of them stands for all
    kept = {group: text for group, text in answers.items() if group not in declined}
    missing = {**missing_views(reports, language), **{group: answers[group] for group in declined}}
    names = {group: ctx.groups[group].name for group in answers}
    text, citations = side_by_side(kept, reports, names)
    if len(kept) == 1:
        [(group, text)] = kept.items()
        citations = reports[group].get("citations") or []
    message_id = str(uuid4())
    yield Say(text, message_id)
    synthesis: Synthesis = {**_EMPTY, "text": text, "views": dict(kept), "missing": missing, "form": "reports"}
    return message_of(text, citations, id=message_id), synthesis


def verbatim(answers: Mapping[str, str], missing: Mapping[str, str], text: str) -> Synthesis:
    """Return the synthesis of a single answer: the answer itself."""
    return {**_EMPTY, "text": text, "views": dict(answers), "missing": dict(missing), "form": "verbatim"}


def _made_by_model(ctx: Context, digest: Digest) -> Program[tuple[AIMessage, Synthesis]]:
    window = yield from ctx.window()
    model = ctx.speaker(window)
    absent = [ctx.groups[group].name for group in digest.missing]
    share = max((window.prompt // 2) // len(digest.answers), 16)
    request = HumanMessage(
        synthesis_request(
            shorten(digest.question, max(window.prompt // 4, 16)),
            {group: shorten(text, share) for group, text in digest.answers.items()},
            digest.names,
        )
    )
    message_id = str(uuid4())
    try:
        value = yield Recite(
            model,
            synthesis_schema(digest.names),
            ctx.prompt(window, synthesis_prompt(digest.names, absent), [request]),
            message_id,
            digest.text,
        )
    except GraphBubbleUp:
        raise
    except Exception as error:  # prose may still work
        _tell(error, "The model made no structured synthesis")
        value = None
    if value is not None:
        synthesis = digest.synthesis(value)
        if synthesis is None:
            raise ModelError("nothing that the model said of the groups' answers can be used")
        return AIMessage(synthesis["text"], id=message_id), synthesis

    prompt = ctx.prompt(window, plain_synthesis_prompt(digest.names, absent), [request])
    answer: AIMessage = yield Ask(model, prompt, model, quiet=True)
    prose = yield from whole_text(answer, quiet=True)
    text, left_out = Sources([digest.question, *digest.answers.values()]).supported(prose)
    if not text:
        raise ModelError("nothing that the model said of the groups' answers can be used")
    views = {group: digest.own_words(group) for group in digest.answers}
    unnamed = [group for group in views if digest.names[group].lower() not in text.lower()]
    attributed = "\n".join(f"**{digest.names[group]}**: {views[group]}" for group in unnamed)
    return _plain(digest, "\n\n".join(filter(None, (text, attributed))), views, "text", left_out)


_EMPTY: Synthesis = {
    "text": "",
    "views": {},
    "agreements": [],
    "conflicts": [],
    "open_questions": [],
    "missing": {},
    "left_out": [],
    "form": "reports",
}


def _plain(
    digest: Digest,
    text: str,
    views: Mapping[str, str],
    form: Literal["text", "reports"],
    left_out: list[str],
) -> tuple[AIMessage, Synthesis]:
    whole = "\n\n".join(filter(None, (text, digest.note)))
    synthesis: Synthesis = {
        **_EMPTY,
        "text": whole,
        "views": dict(views),
        "missing": dict(digest.missing),
        "left_out": left_out,
        "form": form,
    }
    return AIMessage(whole, id=str(uuid4())), synthesis


def _tell(error: Exception, what: str) -> None:
    expected = isinstance(error, EcowasError)
    log.log(logging.INFO if expected else logging.WARNING, "%s: %s", what, error, exc_info=not expected)
