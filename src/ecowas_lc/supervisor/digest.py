"""A model's structured synthesis, read while it is being made: what is complete, believed, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecowas_lc.supervisor.figures import Sources, sentences_of
from ecowas_lc.supervisor.language import Language
from ecowas_lc.supervisor.phrases import phrase
from ecowas_lc.supervisor.prompts import view_of
from ecowas_lc.supervisor.state import Synthesis
from ecowas_lc.supervisor.tokens import shorten

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
        """Return what may be said of an answer that is still being made, or of the ``complete`` one.

        Each version begins with the one before. Nothing is said before the model has said something usable.
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
        """Return what the complete answer comes to, ``None`` where nothing of it is usable."""
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
        cut = complete and "answer" not in value  # the model had no room left: its last words are half ones
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
        """Return whether a text is more than a word for nothing, or a group's name where its view should be."""
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
        """Keep a text of the model's, unless it holds figures that nobody gave."""
        if sources.support(text):
            kept.append(text)
            self.usable = True
        else:
            self.left_out.append(text)


def _texts(value: object, *, closed: bool) -> list[str]:
    """Return the texts of a list, without the last one while the list is not closed."""
    items: Sequence[object] = value if isinstance(value, list) else []
    return [" ".join(item.split()) for item in (items if closed else items[:-1]) if isinstance(item, str)]
