"""Evidence: the sentences of the passages that answer a question, if any.

A sentence answers if it is about the names, dates and figures of the question, gives the kind of thing that is
asked for, and shares enough of the question's words. Code decides all of this, so it holds whatever model answers
later.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ecowas_lc._embeddings import offline_installed
from ecowas_lc._language import language_of
from ecowas_lc.documents.document import Document, Passage, Sentence, sentences_of
from ecowas_lc.documents.facts import Quantity, TimePoint, folded, is_negative, quantities_in, times_in
from ecowas_lc.documents.question import ParsedQuestion
from ecowas_lc.documents.terms import (
    best_likeness,
    content_words,
    is_verb,
    likeness,
    names_in,
    word_list,
    words_of,
)
from ecowas_lc.documents.word_vectors import likeness_by_vector, similarities_to, vectors_of

if TYPE_CHECKING:
    from langchain_core.documents import Document as LangChainDocument


_ENOUGH = -0.5
"""Minimum score of a sentence that answers, in logits."""
_ALSO_ANSWERS = 6.0
"""How far below the best score a sentence of another document may be and still count as contradicting it."""
_OTHER_NAMES = 3.0
"""Penalty of a sentence about names other than the question's, in addition to its weight."""
_FEW_WORDS, _FEW_WORDS_MORE = 0.5, 4.0
"""Penalty of a sentence that lacks words of the question; larger if a name occurs only in the sentence before."""
_BY_ITSELF = 0.3
_BY_ITSELF_WITHOUT_NAME = 0.6
"""Share of the words that the sentence itself needs if a name occurs only in the sentence before."""
_FROM_BEFORE = 0.6
"""Weight of a word that occurs only in the sentences before, not in the sentence or its heading."""
_ENOUGH_WORDS, _FROM_AROUND, _WITHOUT_HEAD, _UNHEARD_OF = 0.6, 0.7, 0.2, 0.2
_HEAVY = 0.2
_LOOKED_AT = 12
"""Number of sentences compared by meaning; each one must be embedded."""
_SAME_BY_VECTOR, _TRANSLATED_BY_VECTOR = 0.92, 0.892
"""Cosines from which two words of one language, or of two languages, count as the same."""
_WITH_SENSE = 0.85

# Measured by logistic regression on the sentences of the development questions (scripts/grounding_weights.py).
_WEIGHTS = {
    "enough_words": 1.35,
    "itself": 2.79,
    "around": 0.80,
    "worst": -4.76,
    "absent": -0.50,
    "absent_heavy": -0.50,
    "absent_same": -2.00,
    "worst_same": -1.94,
    "other_names": -3.91,
    "name_before": 1.55,
    "gives": 4.38,
    "pending": -2.09,
    "negative": 0.64,
    "no_head": -0.02,
    "not_counted": -0.06,
    "kind": 0.91,
    "row": -0.89,
    "few_words": -0.72,
    "quantity": -0.15,
    "anything": -0.77,
    "yes_or_no": -0.84,
    "length": -1.89,
    "similarity": 1.01,
    "above_mean": 0.58,
    "below_best": 5.85,
    "bias": -3.07,
}
# The weights without the extra ``semantic``.
_WEIGHTS_BY_WORDS = {
    "enough_words": 1.73,
    "itself": 6.02,
    "around": 2.89,
    "worst": -3.22,
    "absent": -0.50,
    "absent_heavy": -0.50,
    "absent_same": -2.00,
    "worst_same": 0.00,
    "other_names": -3.82,
    "name_before": -0.91,
    "gives": 4.11,
    "pending": -1.97,
    "negative": 0.41,
    "no_head": 0.18,
    "not_counted": -0.40,
    "kind": 1.01,
    "row": -0.98,
    "few_words": -1.35,
    "quantity": -0.08,
    "anything": -0.34,
    "yes_or_no": -0.60,
    "length": -2.17,
    "bias": -6.39,
}

_LABEL = re.compile(r"([^;:|]+):\s*$")
_LIGHT_WEIGHT = 0.25
_VERB_WEIGHT = 0.5
"""Weight of a verb; documents often use another verb for the same thing."""
# Verbs and adverbs that ask or announce, and say little about the subject.
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
    r"\b(?:because|owing|caused|as a result|on account|thanks to|for (?:lack|want) of|for fear|in order to"
    r"|(?:due|according) to(?! \d)|(?:after|following|since|once)(?! (?:the )?\d)"
    r"|à cause|en raison|faute d[e']|grâce|afin|suite à|parce|puisque|car|dû|due?s? à|du fait"
    r"|après(?! (?:le )?\d)|à défaut"
    r"|porque|devido|após(?! (?:o )?\d)|por (?:causa|falta|razões|motivo|atraso)|em (?:consequência|virtude)"
    r"|graças|a fim|alegando|uma vez que|já que|depois d[aeo]s?(?! \d))\b",
    re.IGNORECASE,
)
_PURPOSE = re.compile(r"\b(?:for|to|pour|par|para|por|as)\b", re.IGNORECASE)
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
_AT_A_PLACE = re.compile(r"\b(?:at|in|near|à|en|em|n[ao]s?|de|du|of|d[ao]s?) (?=[A-ZÀ-Ý])[\w-]+")
_MEASURES = frozenset(
    ["percent", "watt", "watt-hour", "volt", "bit/s", "metre", "hectare", "second", "day", "month", "gram"]
)
_PLACE = re.compile(
    r"\b(?:floor|hall|room|terminal|street|road|centre|center|étage|salle|rue|piso|andar|sala|rua|avenida)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A passage with its document, as found by a search."""

    document: Document
    passage: Passage
    similarity: float = 0.0
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence that answers, with its source and a confidence (in logits)."""

    source: Source
    sentence: Sentence
    score: float
    has_most_words: bool = True
    """Whether it contains most of the question's words, rather than being chosen only by its meaning."""


class Corpus:
    """Frequencies of words and names over the given passages."""

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
        """Return a word's weight; rarer words weigh more."""
        having = sum(best_likeness(term, words) > 0 for words in self._words)
        rarity = math.log(1 + len(self._words) / (1 + having)) + 0.5
        if folded(term) in _LIGHT:
            return _LIGHT_WEIGHT * rarity
        return _VERB_WEIGHT * rarity if is_verb(term) else rarity

    def has_not(self, term: str) -> bool:
        """Return whether a word occurs in no passage."""
        return not any(best_likeness(term, words) for words in self._words)

    def is_common(self, name: str) -> bool:
        """Return whether a name occurs in several passages, as names of states do."""
        return sum(name in names for names in self._named) > 1


def find_evidence(
    question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus, *, most: int = 3
) -> list[Evidence]:
    """Return the sentences that answer a question, best first; several if sources differ on a figure.

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
    if not answers and question.times:  # a fact about a past date is in a document of that date
        older = [source for source in sources if source.superseded]
        answers = [one for one in _answers(question, older, corpus) if times_in(one.sentence.in_words)]
    if not answers:
        return []
    best = answers[0]
    kept = [best]
    for other in answers[1:]:
        close = other.has_most_words and other.score >= best.score - _ALSO_ANSWERS
        if close and _contradicts(other, kept, question):
            kept.append(other)
    return kept[:most]


def gives_orders(text: str) -> bool:
    """Return whether a sentence gives a model instructions ("ignore the above") instead of stating something."""
    return _ORDER.search(text) is not None


def _documents_asked_for(question: ParsedQuestion) -> list[TimePoint]:
    """Return the dates by which a question refers to documents, as in "in the 2024 note"."""
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


def _is_of_its_time(question: ParsedQuestion, document: Document) -> bool:
    return document.date is not None and any(time.year == document.date.year for time in question.times)


def _answers(question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus) -> list[Evidence]:
    """Return the sentences that answer, best first."""
    candidates = _candidates(question, sources, corpus)
    if not candidates:
        return []
    weights = _WEIGHTS_BY_WORDS
    if offline_installed():
        _compare_by_meaning(question, candidates)
        weights = _WEIGHTS
    found = []
    left_open = -math.inf
    for candidate in candidates:
        features = candidate.features()
        score = sum(weights[name] * value for name, value in features.items() if name in weights) + weights["bias"]
        if features["other_names"]:
            score -= _OTHER_NAMES
        if not features["enough_words"]:
            score -= _FEW_WORDS_MORE if features["name_before"] else _FEW_WORDS
        if candidate.gives:
            found.append(
                Evidence(
                    candidate.source,
                    candidate.sentence,
                    score + 0.1 * candidate.source.similarity,
                    bool(features["enough_words"]),
                )
            )
        elif _PENDING.search(candidate.text) or is_negative(candidate.text):
            left_open = max(left_open, score + weights["gives"] - weights["pending"] * features["pending"])
    # A closer sentence says that the matter is open or denied: the documents do not answer.
    return sorted(
        (one for one in found if one.score >= max(_ENOUGH, left_open)), key=lambda evidence: -evidence.score
    )


@dataclass(slots=True)
class _Candidate:
    """A sentence that may answer, and what it shares with the question."""

    question: ParsedQuestion
    source: Source
    sentence: Sentence
    text: str
    weights: Mapping[str, float]
    itself: dict[str, float]
    """Confidence that the sentence contains each word of the question."""
    around: dict[str, float]
    """The same confidence including the heading, the title and the sentences before."""
    absent: set[str]
    """Words of the question that occur in no passage."""
    needed: float | None
    gives: float = 0.0
    """Whether it gives the kind of thing that is asked for: 1, or less if uncertain."""
    similarity: float = 0.0
    same_language: bool = False
    """Whether the document is in the question's language, so that a missing word is not due to translation."""
    above_mean: float = 0.0
    below_best: float = 0.0

    def share(self, shares: Mapping[str, float]) -> float:
        """Return the share of the question that is covered, by weight."""
        total = sum(self.weights.values()) or 1.0
        return sum(weight * shares[word] for word, weight in self.weights.items()) / total

    def has_enough_words(self) -> bool:
        """Return whether the sentence has most of the words other than names, and some of them itself."""
        words = [word for word in self.weights if word not in self.question.names]
        total = sum(self.weights[word] for word in words)
        if not total or self.needed is None:
            return False
        itself = sum(self.weights[word] * self.itself[word] for word in words) / total
        around = sum(self.weights[word] * self.around[word] for word in words) / total
        lacks_head = bool(self.question.head) and not self.itself.get(self.question.head, 0.0)
        covered = (
            itself
            + _FROM_AROUND * (around - itself)
            - _WITHOUT_HEAD * lacks_head
            - _UNHEARD_OF * bool(self.absent)
        )
        return itself >= self.needed and covered >= _ENOUGH_WORDS

    def features(self) -> dict[str, float]:
        """Return the features to which the weights apply."""
        question = self.question
        total = sum(self.weights.values()) or 1.0
        missing = [weight for word, weight in self.weights.items() if not self.around[word]]
        itself = self.share(self.itself)
        lacks_head = bool(question.head) and not self.itself.get(question.head, 0.0)
        own = words_of(self.text)
        return {
            "enough_words": float(self.has_enough_words()),
            "itself": itself,
            "around": self.share(self.around) - itself,
            "worst": max(missing, default=0.0) / total,
            "absent": sum(self.weights[word] for word in self.absent) / total,
            "absent_heavy": float(any(self.weights[word] > _HEAVY * total for word in self.absent)),
            "absent_same": float(
                self.same_language and any(self.weights[word] > _HEAVY * total for word in self.absent)
            ),
            "worst_same": self.same_language * max(missing, default=0.0) / total,
            "other_names": float(self.needed is None),
            "name_before": float(self.needed == _BY_ITSELF_WITHOUT_NAME),
            "gives": self.gives,
            "pending": float(_PENDING.search(self.text) is not None),
            "negative": float(is_negative(self.text)),
            "no_head": float(lacks_head),
            "not_counted": float(lacks_head and not self.sentence.header and question.counts),
            "kind": float(any(best_likeness(kind, own) for kind in question.kinds)),
            "row": float(bool(self.sentence.header)),
            "few_words": 1 / max(1, len(self.weights)),
            "quantity": float(question.wanted == "quantity"),
            "anything": float(question.wanted == "anything"),
            "yes_or_no": float(question.wanted == "yes or no"),
            "length": min(2.0, len(own) / 30),
            "similarity": 10 * self.similarity - 8.5 if self.similarity else 0.0,
            "above_mean": 10 * self.above_mean,
            "below_best": 10 * self.below_best,
        }


def _candidates(question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus) -> list[_Candidate]:
    """Return the sentences that agree with the question's dates and figures and share most with it."""
    asked = list(dict.fromkeys([*question.names, *question.terms]))
    weights = {word: corpus.weight(word) for word in asked}
    absent = {word for word in asked if corpus.has_not(word)}
    language = language_of(question.text)
    found = []
    for source in sources:
        around = " \n ".join((source.passage.heading, source.document.title, source.document.issuer))
        words_around = words_of(around)
        for index, sentence in enumerate(source.passage.sentences):
            text = sentence.in_words
            if gives_orders(text) or text.rstrip().endswith((",", ":")):
                continue
            if not _is_of_the_time(question, text, source):
                continue
            own_quantities = quantities_in(text)
            if any(not any(q.agrees_with(own) for own in own_quantities) for q in question.quantities):
                continue
            before = " ".join(
                other.text for other in source.passage.sentences[max(0, index - 2) : index] if not other.header
            )
            own, words_before = words_of(text), words_of(before)
            itself = {word: best_likeness(word, own) for word in asked}
            shares = {
                word: max(
                    share, best_likeness(word, words_around), _FROM_BEFORE * best_likeness(word, words_before)
                )
                for word, share in itself.items()
            }
            needed = _share_needed(question, text, before, around, corpus)
            found.append(
                _Candidate(
                    question,
                    source,
                    sentence,
                    text,
                    weights,
                    itself,
                    shares,
                    set(absent),
                    needed,
                    same_language=source.document.language == language,
                )
            )
    for one in found:
        one.gives = _gives_what_is_wanted(question, one.text, one.share(one.itself), one.share(one.around))

    def first_look(one: _Candidate) -> float:
        itself = one.share(one.itself)
        covered = itself + 0.6 * (one.share(one.around) - itself)
        return covered - (one.needed is None) + 0.3 * (one.gives > 0)

    return sorted(found, key=lambda one: -first_look(one))[:_LOOKED_AT]


def _compare_by_meaning(question: ParsedQuestion, candidates: Sequence[_Candidate]) -> None:
    """Add scores from embeddings for words outside the glossary and for whole sentences."""
    missing = sorted(
        {word for one in candidates for word, share in one.around.items() if not share} - set(question.names)
    )
    if missing:
        language = language_of(question.text)
        texts = [
            sorted({word for word in words_of(one.text) if len(word) > 3 and not word[0].isdigit()})
            for one in candidates
        ]
        vectors_of(itertools.chain(missing, *texts))
        for one, words in zip(candidates, texts, strict=True):
            enough = _SAME_BY_VECTOR if one.source.document.language == language else _TRANSLATED_BY_VECTOR
            for word in missing:
                if one.around[word]:
                    continue
                closest = max((likeness_by_vector(word, other) for other in words), default=0.0)
                if closest >= enough:
                    sure = 0.8 if closest >= _SAME_BY_VECTOR else 0.7
                    one.itself[word] = one.around[word] = sure
                    one.absent.discard(word)
    similarities = similarities_to(
        question.text,
        [
            "\n".join((one.source.document.title, one.source.passage.heading.split(" > ")[-1], one.text))
            for one in candidates
        ],
    )
    mean, best = sum(similarities) / len(similarities), max(similarities)
    for one, similarity in zip(candidates, similarities, strict=True):
        one.similarity, one.above_mean, one.below_best = similarity, similarity - mean, similarity - best


def _gives_what_is_wanted(question: ParsedQuestion, text: str, itself: float, around: float) -> float:
    """Return whether a sentence gives the kind of thing that is asked for, from 0 (no) to 1."""
    text = _clause_about(question, text)
    if _PENDING.search(text) and question.wanted != "yes or no":
        return 0.0
    match question.wanted:
        case "quantity":
            return _gives_quantity(question, text)
        case "time":
            dated = any(all(not time.is_within(own) for own in question.times) for time in times_in(text))
            return float(dated or re.search(r"\b\d{1,2}[:h]\d{2}\b", text) is not None)
        case "who":
            if _new_names(question, _AT_A_PLACE.sub("", text)):
                return 0.7 if is_negative(text) else 1.0
            return 0.6 if _new_names(question, text) else 0.4
        case "where":
            return float(
                not is_negative(text) and (bool(_new_names(question, text)) or _PLACE.search(text) is not None)
            )
        case "why":
            if _CAUSE.search(text):
                return 1.0
            return 0.5 if max(itself, 0.9 * around) >= 0.8 and _PURPOSE.search(text) else 0.0
        case _:
            return 1.0


def _gives_quantity(question: ParsedQuestion, text: str) -> float:
    given = [q for q in quantities_in(text) if not any(q.agrees_with(own) for own in question.quantities)]
    if is_negative(text) and any(best_likeness(found[1], question.terms) > 0 for found in _NONE.finditer(text)):
        return 1.0
    if question.asks_for_share:
        return 1.0 if any(q.family == "percent" for q in given) else 0.4 * bool(given)
    if question.families:
        given = [q for q in given if q.family in question.families]
    if question.counts:
        if any(_is_counted(question, text, q) for q in given):
            return 1.0
        return 0.4 * any(not _label_of(text, q) for q in given)
    if question.asks_for_money:
        given = [q for q in given if q.family not in _MEASURES and (q.family or not q.text.isalpha())]
    return float(bool(given))


def _is_counted(question: ParsedQuestion, text: str, quantity: Quantity) -> bool:
    """Return whether a figure counts what is asked for: whether its noun is a word of the question."""
    if quantity.family in _MEASURES:
        return best_likeness(quantity.text.split()[-1], (*question.terms, *question.kinds)) > 0
    if label := _label_of(text, quantity):
        return any(best_likeness(word, (*question.terms, *question.kinds)) for word in label)
    rest = text[quantity.end :]
    following = [word for word in words_of(rest[:60]) if len(word) > 2 and not word[0].isdigit()][:4]
    if not following or rest.lstrip()[:1] in ("", ";", ",", ".", "|"):
        return True
    return any(best_likeness(word, question.terms) for word in following)


def _label_of(text: str, quantity: Quantity) -> list[str]:
    """Return the words of a cell's label in a row: "readiness: 38" counts no people. A year is no such label."""
    found = _LABEL.search(text[: quantity.start])
    return [word for word in words_of(found[1]) if not word[0].isdigit()] if found else []


def _clause_about(question: ParsedQuestion, text: str) -> str:
    """Return the clause of a sentence, between semicolons, that shares most with the question."""
    clauses = [clause for clause in text.split(";") if clause.strip()]
    if len(clauses) < 2 or not _PENDING.search(text):
        return text
    asked = (*question.names, *question.terms)
    return max(clauses, key=lambda clause: sum(best_likeness(word, words_of(clause)) for word in asked))


def _new_names(question: ParsedQuestion, text: str) -> list[str]:
    asked = {folded(name) for name in question.names}
    return [
        name
        for name in names_in(text)
        if folded(name) not in asked and best_likeness(name, question.terms) == 0 and not name.isupper()
    ]


def _share_needed(question: ParsedQuestion, text: str, before: str, around: str, corpus: Corpus) -> float | None:
    """Return the share of the question that a sentence must contain; ``None`` if it is about other names."""
    own = words_of(text)
    needed = _BY_ITSELF
    for name in question.names:
        if any(likeness(name, word) >= _WITH_SENSE for word in own):
            continue
        stands_before = any(likeness(name, word) >= _WITH_SENSE for word in words_of(before))
        if stands_before and _POINTS_BACK.match(text):
            continue
        stands_around = any(likeness(name, word) >= _WITH_SENSE for word in words_of(around))
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
    """Return whether a sentence continues the one before: it names nothing, or repeats its noun."""
    if not any(word[0].isupper() for word in words_of(text)[1:]):
        return True
    earlier = content_words(before)
    return any(best_likeness(found[1], earlier) > 0 for found in _DEFINITE.finditer(text) if found[1].islower())


def _is_of_the_time(question: ParsedQuestion, text: str, source: Source) -> bool:
    own = times_in(text)
    around = (*times_in(source.document.title), *times_in(source.passage.heading))
    date = source.document.date
    for asked in question.times:
        if any(_answers_time(time, asked) for time in own):
            continue
        if own and not any(
            time.year is None or time.part or (asked.year is not None and time.year == asked.year) for time in own
        ):
            return False
        if any(_answers_time(time, asked) for time in around):
            continue
        is_general = asked.month is None and asked.part is None and asked.day is None
        if own or not is_general or date is None or date.year != asked.year:
            return False
    return True


def _answers_time(given: TimePoint, asked: TimePoint) -> bool:
    if asked.part is not None and given.part != asked.part:
        return False
    if asked.month is not None and given.month != asked.month:
        return False
    return given.agrees_with(asked) and (asked.year is None or given.year is not None or asked.day is not None)


def _contradicts(other: Evidence, kept: Sequence[Evidence], question: ParsedQuestion) -> bool:
    """Return whether another document's sentence gives a different figure or date for the same thing."""
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


def sources_of(found: Iterable[LangChainDocument], language_of: Callable[[str], str]) -> list[Source]:
    """Return retrieved documents as passages; ``source``, ``title`` and ``page`` of their metadata are kept."""
    return [_source_of(number, document, language_of) for number, document in enumerate(found)]


def _source_of(number: int, found: LangChainDocument, language_of: Callable[[str], str]) -> Source:
    text = found.page_content
    name = str(found.metadata.get("source") or found.metadata.get("title") or found.id or "document")
    identity = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    page = found.metadata.get("page")
    sentences = tuple(Sentence(text[start:end], start, end) for start, end in sentences_of(text))
    return Source(
        Document(identity, name, str(found.metadata.get("title") or name), language=language_of(text)),
        Passage(
            document=identity,
            number=number,
            text=text,
            start=0,
            end=len(text),
            page=page if isinstance(page, int) else None,
            sentences=sentences,
        ),
    )
