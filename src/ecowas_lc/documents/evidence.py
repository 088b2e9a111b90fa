"""Evidence: the sentences of the passages that answer a question, or none.

A sentence answers when it is about the names, dates and figures of the question, gives the kind of thing that
is asked for, and shares enough of the question's words. All of that is decided by code, so it holds whatever
model answers afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ecowas_lc.documents.document import Document, Passage, Sentence
from ecowas_lc.documents.facts import TimePoint, folded, is_negative, quantities_in, times_in
from ecowas_lc.documents.question import Question
from ecowas_lc.documents.terms import (
    best_likeness,
    content_words,
    likeness,
    meanings,
    names_in,
    word_list,
    words_of,
)

ENOUGH = 0.6
"""The share of a question's words, by weight, that a sentence and its surroundings must have."""
_FROM_CONTEXT = 0.7
"""What a word counts that stands in the heading, the title or the sentence before, and not in the sentence."""
_BY_ITSELF = 0.3
"""The share that the sentence must have without its surroundings."""
_BY_ITSELF_WITHOUT_NAME = 0.6
"""The same where a name of the question stands in the sentence before only, and no pronoun takes it up."""
_WITHOUT_HEAD = 0.2
"""What a sentence loses that does not name what is counted or measured."""
_UNHEARD_OF = 0.2
"""What is lost where a word of the question, one that the glossary knows, occurs in no document."""
_ALSO_ANSWERS = 0.12
"""How much less than the best sentence another document's may score and still count as contradicting it."""

_LIGHT_WEIGHT = 0.25
# Verbs and adverbs that ask or announce, and say little of the subject.
_LIGHT = word_list("light")

_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget|override|ignorez|oubliez|n[ée]gligez|ignora|ignorem|desconsidere"
    r"|esque[çc]a)\b"
    r".{0,80}\b(?:instructions?|above|before|previous|prior|rules?|prompts?|consignes?"
    r"|pr[ée]c[ée]dent\w*|ci-dessus|r[èe]gles?"
    r"|instru[çc][õo]es|acima|anterior\w*|regras?)\b"
    r"|\b(?:answer|respond|reply|say|state|tell|r[ée]pondez|dites|responda|diga)\b.{0,30}\b(?:that|with"
    r"|only|que|com|par|seulement|apenas)\b"
    r".{0,120}\b(?:instructions?|user|assistant|model|utilisateur|assistante|mod[èe]le|modelo)\b"
    r"|\b(?:you are|vous êtes|voc[êe] é) (?:now|an? assistant|maintenant|un assistant|agora|um assistente)\b",
    re.IGNORECASE,
)
_PENDING = re.compile(
    r"\b(?:not yet|yet to|yet been|no longer available|no data|no figures?|no information"
    r"|not (?:been )?(?:published|available|known"
    r"|decided|selected|designated|approved)"
    r"|pas encore|aucune (?:donnée|information)|aucun chiffre|ne publie|n'est pas connu\w*|reste à"
    r"|ainda não|não (?:publica|dispõe|há dados|foi (?:ainda )?(?:definid|aprovad|escolhid)\w*)|sem dados)\b",
    re.IGNORECASE,
)
_NONE = re.compile(r"\b(?:no|zero|aucune?|nul(?:le)?|nenhuma?|qualquer)\s+([^\W\d_]+)", re.IGNORECASE)
_CAUSE = re.compile(
    r"\b(?:because|due to|owing|after|following|since|caused|as a result|à cause|en raison|après|suite"
    r"|parce|car|dû|due"
    r"|porque|devido|após|depois|por causa|em consequência)\b",
    re.IGNORECASE,
)
_POINTS_BACK = re.compile(
    r"^\W*(?:it|its|they|their|this|these|that|he|she|his|her|il|elle|ils|elles|son|sa|ses|leur|leurs|ce"
    r"|cette|ces|cela|celle|celui"
    r"|ele|ela|eles|elas|seu|sua|seus|suas|este|esta|isto|esse|essa)\b",
    re.IGNORECASE,
)
_DEFINITE = re.compile(
    r"\b(?:(?:the|this|that|le|la|les|ce|cette|du|au|[oa]s?|este|esta|d[oa]s?|n[oa]s?)\s+"
    r"|l['’])([^\W\d_]{3,})\b",
    re.IGNORECASE,
)
_OF_A_DOCUMENT = re.compile(
    r"\b(?:note|report|document|circular|edition|version|rapport|circulaire|nota|relat[óo]rio|documento"
    r"|edi[çc][ãa]o|vers[ãa]o)s?\b",
    re.IGNORECASE,
)
_NOW = re.compile(
    r"\b(?:now|today|currently|current|latest|at present|maintenant|aujourd'hui|actuellement|actuel\w*"
    r"|agora|hoje|atual\w*|actual\w*)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:floor|hall|room|terminal|street|road|centre|center|étage|salle|rue|piso|andar|sala|rua|avenida)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A passage with its document, as a search finds it."""

    document: Document
    passage: Passage
    similarity: float = 0.0
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence that answers, with its source and how much of the question it shares (0 to about 1.3)."""

    source: Source
    sentence: Sentence
    score: float


class Corpus:
    """How rare words are and which names occur, over the passages that are there."""

    def __init__(self, sources: Iterable[Source]) -> None:
        sources = list(sources)
        texts = {
            f"{source.passage.document}/{source.passage.number}": source.passage.for_search for source in sources
        }
        self._words = [frozenset(map(folded, words_of(text))) for text in texts.values()]
        named = (names_in(" \n ".join(s.text for s in source.passage.sentences)) for source in sources)
        self._named = [frozenset(map(folded, names)) for names in named]
        self.names = frozenset().union(*self._named)

    def weight(self, term: str) -> float:
        """Return a word's weight: the rarer, the higher."""
        having = sum(best_likeness(term, words) > 0 for words in self._words)
        rarity = math.log(1 + len(self._words) / (1 + having)) + 0.5
        return _LIGHT_WEIGHT * rarity if folded(term) in _LIGHT else rarity

    def lacks(self, term: str) -> bool:
        """Return whether a word that the glossary knows, in one language or another, occurs in no passage."""
        return (
            folded(term) not in _LIGHT
            and bool(meanings(term))
            and not any(best_likeness(term, words) for words in self._words)
        )

    def is_common(self, name: str) -> bool:
        """Return whether a name stands in several passages, as those of states do."""
        return sum(name in names for names in self._named) > 1


def find_evidence(
    question: Question, sources: Sequence[Source], corpus: Corpus, *, most: int = 3
) -> list[Evidence]:
    """Return the sentences that answer a question, best first; several where sources differ on a figure.

    An empty list means that the passages do not answer it.
    """
    asked_of = _documents_asked_for(question)
    if asked_of:
        plain = replace(question, times=tuple(m for m in question.times if m not in asked_of))
        found = [
            evidence
            for time in asked_of
            for evidence in _answers(plain, [s for s in sources if _is_dated(s.document, time)], corpus)[:1]
        ]
        if _NOW.search(question.text):
            found += _answers(plain, [source for source in sources if not source.superseded], corpus)[:1]
        return found[:most]
    current = [source for source in sources if not source.superseded or _is_of_its_time(question, source.document)]
    answers = _answers(question, current, corpus)
    if not answers and question.times:  # what was so then stands in the document of then
        older = [source for source in sources if source.superseded]
        answers = [one for one in _answers(question, older, corpus) if times_in(one.sentence.in_words)]
    if not answers:
        return []
    best = answers[0]
    kept = [best]
    for other in answers[1:]:
        if other.score >= best.score - _ALSO_ANSWERS and _contradicts(other, kept, question):
            kept.append(other)
    return kept[:most]


def gives_orders(text: str) -> bool:
    """Return whether a sentence addresses a model ("ignore the above") instead of stating something."""
    return _ORDER.search(text) is not None


def _documents_asked_for(question: Question) -> list[TimePoint]:
    """Return the dates by which a question names documents: "in the 2024 note"."""
    found = []
    for time in question.times:
        around = question.text[max(0, time.start - 18) : time.end + 12]
        if time.year is not None and _OF_A_DOCUMENT.search(around):
            found.append(time)
    return found


def _is_dated(document: Document, time: TimePoint) -> bool:
    if document.date is None:
        return False
    return TimePoint(document.date.year, document.date.month, document.date.day).is_within(time)


def _is_of_its_time(question: Question, document: Document) -> bool:
    return document.date is not None and any(time.year == document.date.year for time in question.times)


def _answers(question: Question, sources: Sequence[Source], corpus: Corpus) -> list[Evidence]:
    weights = {term: corpus.weight(term) for term in question.terms}
    found = []
    left_open = 0.0
    for source in sources:
        for index, sentence in enumerate(source.passage.sentences):
            score = _score(question, source, index, sentence, corpus, weights)
            if score is None or score < ENOUGH:
                continue
            if _gives_what_is_wanted(question, sentence.in_words):
                found.append(Evidence(source, sentence, score + 0.1 * source.similarity))
            elif _PENDING.search(sentence.in_words) or is_negative(sentence.in_words):
                left_open = max(left_open, score + 0.1 * source.similarity)
    # A sentence that is closer to the question and says that it is open or not so: the documents do not answer.
    return sorted((one for one in found if one.score >= left_open), key=lambda evidence: -evidence.score)


def _score(
    question: Question,
    source: Source,
    index: int,
    sentence: Sentence,
    corpus: Corpus,
    weights: Mapping[str, float],
) -> float | None:
    """Return how much of a question a sentence shares; ``None`` where it can't be the answer."""
    text = sentence.in_words
    if gives_orders(text):
        return None
    before = " ".join(
        other.text for other in source.passage.sentences[max(0, index - 2) : index] if not other.header
    )
    around = " \n ".join((source.passage.heading, source.document.title, source.document.issuer))
    needed = _share_needed(question, text, before, around, corpus)
    if needed is None:
        return None
    if not _is_of_the_time(question, text, source.document):
        return None
    own_quantities = quantities_in(text)
    if any(not any(q.agrees_with(own) for own in own_quantities) for q in question.quantities):
        return None
    own, near = content_words(text), content_words(f"{around} \n {before}")
    total = sum(weights.values())
    if not total:
        return None
    by_itself = {term: best_likeness(term, own) for term in question.terms}
    if sum(weights[term] * share for term, share in by_itself.items()) < needed * total:
        return None
    shares = {term: max(share, _FROM_CONTEXT * best_likeness(term, near)) for term, share in by_itself.items()}
    score = sum(weights[term] * share for term, share in shares.items()) / total
    if question.head and not by_itself[question.head]:
        score -= _WITHOUT_HEAD
    if any(not share and corpus.lacks(term) for term, share in shares.items()):
        score -= _UNHEARD_OF
    return score + 0.1 * sum(best_likeness(kind, own) > 0 for kind in question.kinds)


def _gives_what_is_wanted(question: Question, text: str) -> bool:
    text = _clause_about(question, text)
    if _PENDING.search(text) and question.wanted != "yes or no":
        return False
    match question.wanted:
        case "quantity":
            given = [q for q in quantities_in(text) if not any(q.agrees_with(own) for own in question.quantities)]
            none = is_negative(text) and any(
                best_likeness(found[1], question.terms) > 0 for found in _NONE.finditer(text)
            )
            return none or bool(given)
        case "time":
            return any(all(not time.is_within(own) for own in question.times) for time in times_in(text)) or (
                re.search(r"\b\d{1,2}[:h]\d{2}\b", text) is not None
            )
        case "who":
            return not is_negative(text) and bool(_new_names(question, text))
        case "where":
            return not is_negative(text) and (bool(_new_names(question, text)) or _PLACE.search(text) is not None)
        case "why":
            return _CAUSE.search(text) is not None
        case _:
            return True


def _clause_about(question: Question, text: str) -> str:
    """Return the part of a sentence between semicolons that shares most with the question."""
    clauses = [clause for clause in text.split(";") if clause.strip()]
    if len(clauses) < 2 or not _PENDING.search(text):
        return text
    asked = (*question.names, *question.terms)
    return max(clauses, key=lambda clause: sum(best_likeness(word, words_of(clause)) for word in asked))


def _new_names(question: Question, text: str) -> list[str]:
    asked = {folded(name) for name in question.names}
    return [
        name
        for name in names_in(text)
        if folded(name) not in asked and best_likeness(name, question.terms) == 0 and not name.isupper()
    ]


def _share_needed(question: Question, text: str, before: str, around: str, corpus: Corpus) -> float | None:
    """Return the share of the question that a sentence must have itself; ``None``: it is about other names."""
    own = words_of(text)
    needed = _BY_ITSELF
    for name in question.names:
        if any(likeness(name, word) >= 0.9 for word in own):
            continue
        stands_before = any(likeness(name, word) >= 0.9 for word in words_of(before))
        if stands_before and _POINTS_BACK.match(text):
            continue
        stands_around = any(likeness(name, word) >= 0.9 for word in words_of(around))
        goes_on = stands_before and _takes_up(text, before)
        if not stands_around and not goes_on:
            return None
        if not stands_around:
            needed = _BY_ITSELF_WITHOUT_NAME
        asked = {folded(other) for other in question.names}
        rivals = {folded(other) for other in names_in(text, known=corpus.names)} - asked
        if any(corpus.is_common(rival) for rival in rivals):
            return None
    return needed


def _takes_up(text: str, before: str) -> bool:
    """Return whether a sentence goes on about the one before it: it names nothing, or repeats its noun."""
    if not any(word[0].isupper() for word in words_of(text)[1:]):
        return True
    earlier = content_words(before)
    return any(best_likeness(found[1], earlier) > 0 for found in _DEFINITE.finditer(text) if found[1].islower())


def _is_of_the_time(question: Question, text: str, document: Document) -> bool:
    own = times_in(text)
    for asked in question.times:
        if any(_answers_time(time, asked) for time in own):
            continue
        is_general = asked.month is None and asked.part is None and asked.day is None
        if own or not is_general or document.date is None or document.date.year != asked.year:
            return False
    return True


def _answers_time(given: TimePoint, asked: TimePoint) -> bool:
    if asked.part is not None and given.part != asked.part:
        return False
    if asked.month is not None and given.month != asked.month:
        return False
    return given.agrees_with(asked) and (asked.year is None or given.year is not None or asked.day is not None)


def _contradicts(other: Evidence, kept: Sequence[Evidence], question: Question) -> bool:
    """Return whether another document's sentence gives another figure or date for the same."""
    if question.wanted not in ("quantity", "time"):
        return False
    read: Callable[[str], Sequence[object]] = quantities_in if question.wanted == "quantity" else times_in
    for evidence in kept:
        if evidence.source.document.id == other.source.document.id:
            return False
        for one in read(evidence.sentence.in_words):
            for two in read(other.sentence.in_words):
                if one.agrees_with(two):  # type: ignore[attr-defined]
                    return False
    return True
