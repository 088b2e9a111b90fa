"""Evidence: the sentences of the passages that answer a question, if any.

A sentence answers if it is about the names, dates and figures of the question, gives the kind of thing that is
asked for, and shares enough of the question's words. Code decides all of this, so it holds whatever model answers
later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ecowas_lc._embeddings import offline_installed
from ecowas_lc._language import language_of
from ecowas_lc.documents.answer_kind import (
    LABELLED_AS_PLACE,
    MEASURES,
    NAMED,
    PENDING,
    WEAK,
    gives_what_is_wanted,
    label_of,
)
from ecowas_lc.documents.document import Document, Sentence
from ecowas_lc.documents.facts import TimePoint, folded, is_negative, month_of, quantities_in, ranks_in, times_in
from ecowas_lc.documents.question import NOW, NUMBERED, ParsedQuestion
from ecowas_lc.documents.sources import Corpus, Source
from ecowas_lc.documents.subject import BY_ITSELF_WITHOUT_NAME, LABELLED, POINTS_BACK, share_needed, text_before
from ecowas_lc.documents.terms import (
    SAME_SENSE,
    best_likeness,
    content_words,
    is_action,
    is_empty,
    is_everyday,
    is_institution,
    is_light,
    is_loose,
    likeness,
    meanings,
    senses,
    word_list,
    words_of,
)
from ecowas_lc.documents.weights import WEIGHTS, WEIGHTS_BY_WORDS
from ecowas_lc.documents.word_vectors import likenesses_by_vector, similarities_to

_ENOUGH = -0.7
"""Minimum score of a sentence that answers, in logits."""
_ENOUGH_OF_ONE = -3.0
"""The same in a document that the question asks for, or beside a better answer that it contradicts."""
_ENOUGH_OF_SUCCESSOR = -5.0
"""The same in a document that supersedes the one that answered."""
_ALSO_ANSWERS = 6.0
"""How far below the best score a sentence of another document may be and still count as contradicting it."""
_ANSWERS_AS_WELL = 1.5
"""The same for a sentence that lacks most of the question's words."""
_FROM_BEFORE, _FROM_BEFORE_POINTED_AT = 0.6, 0.9
"""Weight of a word that occurs only in the sentences before; more if the sentence begins with "it", "its"."""
_HEAD_ELSEWHERE = 0.8
"""How far a sentence counts what is asked for if its word stands elsewhere than after the figure."""
_ENOUGH_WORDS, _FROM_AROUND, _WITHOUT_HEAD, _UNHEARD_OF = 0.6, 0.7, 0.2, 0.2
_LOOKED_AT = 12
"""Number of sentences compared by meaning; each one must be embedded."""
_HALF = 0.5
_LACKS = 0.5
"""Confidence below which a noun of the question counts as missing."""
_OTHER_LANGUAGE = 0.03
"""How much closer the vectors of texts in one language are than those of translations."""


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
# "at the meeting": where something is done, not what is done.
_AT_AN_EVENT = re.compile(
    r"\b(?:(?:at|during) (?:the|this|its)|(?:lors|au cours) (?:de|du|de la|des)|durante [ao]s?|à la|à cette"
    r"|n[ao]s?) (?:\w+ )?$",
    re.IGNORECASE,
)
_NUMBERED_THING = re.compile(r"\b([^\W\d_]{3,})(?:: | )(\d{1,3})(?![\d.,:/%]*\d|\w)(?=\W|$)")
_OF = re.compile(
    r"\b(?=([^\W\d_A-Z]{3,})(?: [^\W\d_A-Z]{4,})? (?:(?:of|for|de|du|des|d[aeo]s?|pour|para)"
    r"(?: the| la| les| [ao]s?)? |d['’]|de l['’])([^\W\d_A-Z]{3,}))"
)
_SIDE_BY_SIDE = re.compile(r"\b(?=([^\W\d_A-Z]{3,}) ([^\W\d_A-Z]{3,})\b)")
_WHO_DOES = re.compile(r"\W*(?:who|qui|quem)(?: est-ce qui| é que)? (?:l['’]|s['’])?([^\W\d_]{4,})", re.IGNORECASE)
_OF_A_DOCUMENT = re.compile(
    r"\b(?:note|notice|decision|décision|decisão|decree|décret|decreto|letter|lettre|carta|avis|aviso|ata|communiqué|comunicado|briefing|bulletin|memo|guide|boletim|report|document|circular|edition|version|rapport|circulaire|nota|relat[óo]rio|documento"
    r"|edi[çc][ãa]o|vers[ãa]o)s?\b",
    re.IGNORECASE,
)
_REPLACES = re.compile(r"\b(?:replac|supersed|cancel|remplac|annul|substitu|revog|anul)\w+", re.IGNORECASE)
# A sentence that has only this to say: "This note replaces the note of 2 July 2024."
_REPLACES_ANOTHER = re.compile(
    r"\W*(?:this|the present|cette|la présente|le présent|ce|esta|este|[ao] presente)\s+[\w-]+\s+"
    r"(?:(?:replac|supersed|cancel|remplac|annul|substitu|revog|anul)\w+)\b[^,;:]*$",
    re.IGNORECASE,
)
_A_DOCUMENT_OF = re.compile(
    rf"{_OF_A_DOCUMENT.pattern} (?:of |from |dated |de |d['’]|du |do )([^\W\d_]+)", re.IGNORECASE
)
# "after 1 April", "up to July": the answer may name another date.
_OPEN_TIME = re.compile(
    r"\b(?:after|since|before|until|up to|by the end of|après|depuis|avant|jusqu'(?:à|en|au)|fin"
    r"|depois d[eao]|desde|antes d[eao]"
    r"|até)\s+(?:le |the |o |a |end of |fin )?$",
    re.IGNORECASE,
)
_MEASURED_IN = {
    "watt": ("power",),
    "watt-hour": ("energy", "electricity"),
    "volt": ("voltage",),
    "bit/s": ("bandwidth",),
    "metre": ("length", "distance"),
    "hectare": ("area",),
    "square metre": ("area",),
    "litre": ("volume",),
    "gram": ("weight",),
    **dict.fromkeys(("second", "day", "month"), ("duration",)),
}
"""Words for what a unit measures: "draws 6.4 MW" says how much power."""
_SPEED = re.compile(r"\d ?(?:km|m|mi)/(?:h|s)\b|\bkm/h\b|\bknots?\b|\bn[œo]+euds?\b|\bnós\b", re.IGNORECASE)
_COMPARED = re.compile(
    r"\b(?:against|compared|up from|down from|than|contre|face à|contra|do que|acima|abaixo)\b", re.IGNORECASE
)
_MEETING = ("meeting", "held", "réunion", "reunião")
"""Words for what a line such as "Place: …" says."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence that answers, with its source and a confidence (in logits)."""

    source: Source
    sentence: Sentence
    score: float
    has_most_words: bool = True
    """Whether it contains most of the question's words, rather than being chosen only by its meaning."""
    answers_second: bool = False
    """Whether it answers a question other than the first, so that it contradicts no other answer."""


def find_evidence(
    question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus, *, most: int = 3
) -> list[Evidence]:
    """Return the sentences that answer a question, best first; several if sources differ on a figure.

    An empty list means that the passages do not answer it.
    """
    asked_of = _documents_asked_for(question, sources)
    if asked_of:
        plain = _without_documents(question, asked_of)
        found = [
            evidence
            for time in asked_of
            for evidence in _answers(
                plain, [s for s in sources if _is_dated(s.document, time)], corpus, enough=_ENOUGH_OF_ONE
            )[:1]
        ]
        quoted = {evidence.source.document.id for evidence in found}
        current = [source for source in sources if not source.superseded]
        successors = [source for source in current if quoted & {*source.document.supersedes}]
        then = question.then
        is_another = then is not None and (then.terms, then.wanted) != (question.terms, question.wanted)
        if then is not None or NOW.search(question.text):
            rest = _without_documents(then, asked_of) if then is not None and is_another else plain
            enough = _ENOUGH_OF_SUCCESSOR if successors else _ENOUGH_OF_ONE
            second = _answers(rest, successors or current, corpus, enough=enough)[:1]
            found += [
                replace(one, answers_second=is_another)
                for one in second
                if all(one.sentence != other.sentence for other in found)
            ]
        return found[:most]
    if question.asks_for_both:
        question = _without_names_of_issuers(question, sources, corpus)
        in_force = list(sources)
    else:
        in_force = current_sources(question, sources)
    answers = _answers(question, in_force, corpus, enough=_ENOUGH_OF_ONE)
    if answers and answers[0].score < _ENOUGH:
        answers = []
    if not answers and question.times:  # a fact about a past date is in a document of that date
        older = [source for source in sources if source.superseded]
        answers = [one for one in _answers(question, older, corpus) if times_in(one.sentence.in_words)]
    if not answers:
        return []
    best = answers[0]
    kept = [best]
    for other in answers[1:]:
        below = best.score - other.score
        close = below <= (_ALSO_ANSWERS if other.has_most_words else _ANSWERS_AS_WELL)
        if close and _contradicts(other, kept, question):
            kept.append(other)
    if question.then is not None:
        second = _answers(question.then, current_sources(question.then, sources), corpus)[:1]
        same = replace(question, text=question.then.text, times=question.then.times, then=None)
        is_another = question.then != same  # otherwise it asks for the same thing at another time
        kept += [
            replace(one, answers_second=is_another)
            for one in second
            if all(one.sentence != other.sentence for other in kept)
        ]
    return kept[:most]


def _without_documents(question: ParsedQuestion, asked_of: Sequence[TimePoint]) -> ParsedQuestion:
    """Return a question without the words and dates that say of which documents it is asked."""
    terms = tuple(
        word for word in question.terms if not (_OF_A_DOCUMENT.match(word) or NOW.match(word) or is_light(word))
    )
    times = tuple(time for time in question.times if time not in asked_of)
    return replace(question, times=times, terms=terms, head=question.head if question.head in terms else "")


def _without_names_of_issuers(
    question: ParsedQuestion, sources: Iterable[Source], corpus: Corpus
) -> ParsedQuestion:
    """Return a question about several documents without the names of those who issued them."""
    issuers = {folded(word) for source in sources for word in words_of(source.document.issuer)}
    return replace(
        question,
        names=tuple(
            name for name in question.names if folded(name) not in issuers or corpus.is_common(folded(name))
        ),
    )


def current_sources(question: ParsedQuestion, sources: Iterable[Source]) -> list[Source]:
    """Return the passages of documents that are in force, or were at the time of the question."""
    return [one for one in sources if not one.superseded or _is_of_its_time(question, one.document)]


def gives_orders(text: str) -> bool:
    """Return whether a sentence gives a model instructions ("ignore the above") instead of stating something."""
    return _ORDER.search(text) is not None


def _documents_asked_for(question: ParsedQuestion, sources: Iterable[Source]) -> list[TimePoint]:
    """Return the dates by which a question refers to documents: "in the 2024 note", "the note of February"."""
    found = []
    for time in question.times:
        around = question.text[max(0, time.start - 18) : time.end + 12]
        if time.year is not None and _OF_A_DOCUMENT.search(around):
            found.append(time)
    if not found:
        months = [month_of(named[1]) for named in _A_DOCUMENT_OF.finditer(question.text)]
        dated = [TimePoint(None, month) for month in months if month is not None]
        found = [time for time in dated if any(_is_dated(source.document, time) for source in sources)]
    return found


def _is_dated(document: Document, time: TimePoint) -> bool:
    if document.date is None:
        return False
    return TimePoint(document.date.year, document.date.month, document.date.day).is_within(time)


def _is_of_its_time(question: ParsedQuestion, document: Document) -> bool:
    return document.date is not None and any(time.year == document.date.year for time in question.times)


def _answers(
    question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus, *, enough: float = _ENOUGH
) -> list[Evidence]:
    """Return the sentences that answer, best first."""
    candidates = _candidates(question, sources, corpus)
    if not candidates:
        return []
    weights = WEIGHTS_BY_WORDS
    if offline_installed():
        _compare_by_meaning(question, candidates)
        weights = WEIGHTS
    found = []
    left_open = -math.inf
    for candidate in candidates:
        features = candidate.features()
        score = sum(weights[name] * value for name, value in features.items() if name in weights) + weights["bias"]
        if candidate.gives and not candidate.gives_another_thing():
            found.append(
                Evidence(
                    candidate.source,
                    candidate.sentence,
                    score + 0.1 * candidate.source.similarity,
                    bool(features["enough_words"]),
                )
            )
        elif PENDING.search(candidate.text) or is_negative(candidate.text):
            left_open = max(left_open, score + weights["gives"] - weights["pending"] * features["pending"])
    # A closer sentence says that the matter is open or denied: the documents do not answer.
    found = [one for one in found if one.score >= max(enough, left_open)]
    return sorted(found, key=lambda evidence: -evidence.score)


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
    itself_by_words: Mapping[str, float]
    around_by_words: Mapping[str, float]
    """Both without word vectors."""
    anywhere: dict[str, float]
    """The confidence that any passage contains each word."""
    context: str
    continued: str
    """The text, with the sentences before it if it begins with "it" or "its"."""
    needed: float | None
    gives: float = 0.0
    """Whether it gives the kind of thing that is asked for: 1, or less if uncertain."""
    label: float = 0.0
    """The share of a row's first cell that the question has."""
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
            - _UNHEARD_OF
            * any(not self.anywhere[word] for word in words if not is_loose(word) and not is_everyday(word))
        )
        return itself >= self.needed and covered >= _ENOUGH_WORDS

    def features(self) -> dict[str, float]:
        """Return the features to which the weights apply."""
        question = self.question
        total = sum(self.weights.values()) or 1.0
        itself = self.share(self.itself)
        lacks_head = 1 - self.itself.get(question.head, 0.0) if question.head else 0.0
        own = words_of(self.text)
        other = [word for word in self.weights if word not in question.names]
        everyday = [word for word in other if is_everyday(word)]
        loose = [word for word in other if is_loose(word) and not is_everyday(word)]
        firm = [word for word in other if not is_loose(word) and not is_everyday(word)]
        worst = self._worst(firm)
        absent = max((self.weights[word] * (1 - self.anywhere[word]) for word in firm), default=0.0) / total
        absent_loose = max((self.weights[word] * (1 - self.anywhere[word]) for word in loose), default=0.0) / total
        firm_itself = self._share_of(firm, self.itself)
        other_subject = not self.sentence.header and self._is_about_something_else(firm)
        nouns = [word for word in firm if not is_institution(word)]
        lacking = [word for word in nouns if self.around[word] < _LACKS]
        known = [
            word for word in nouns if self.around_by_words[word] < _LACKS and (meanings(word) or senses(word))
        ]
        lacks_verb = self._lacks_verb()
        alone = bool(question.names and firm) and not any(self.itself[word] >= _LACKS for word in (*firm, *loose))
        return {
            "enough_words": float(self.has_enough_words()),
            "itself": itself,
            "around": self.share(self.around) - itself,
            "firm": firm_itself,
            "firm_around": self._share_of(firm, self.around) - firm_itself,
            "no_firm": float(not firm),
            "worst": worst,
            "worst_same": self.same_language * worst,
            "by_words": self.share(self.itself_by_words),
            "around_by_words": self.share(self.around_by_words) - self.share(self.itself_by_words),
            "worst_by_words": self._worst(firm, self.around_by_words),
            "worst_by_words_same": self.same_language * self._worst(firm, self.around_by_words),
            "everyday": self._share_of(everyday, self.itself),
            "worst_loose": self._worst(loose),
            "worst_loose_same": self.same_language * self._worst(loose),
            "absent_same": self.same_language * absent,
            "absent_loose": absent_loose,
            "other_names": float(
                self.needed is None or (bool(question.names) and other_subject and question.wanted != "who")
            ),
            "name_before": float(self.needed == BY_ITSELF_WITHOUT_NAME),
            "gives": self.gives,
            "pending": float(PENDING.search(self.text) is not None),
            "negative": float(is_negative(self.text)),
            "no_head": lacks_head,
            "not_counted": lacks_head * question.counts,
            "head_absent": question.counts * (1 - self.anywhere[question.head]) if question.head else 0.0,
            "kind": _mean(best_likeness(kind, own) for kind in question.kinds),
            "row": float(bool(self.sentence.header)),
            "label": self.label,
            "unnamed": float(question.wanted == "who" and self.gives < NAMED),
            "uncounted": float(question.counts and self.gives < 1),
            "other_subject": float(other_subject),
            "lacks": min(2.0, len(lacking)),
            "lacks_same": self.same_language * min(2.0, len(lacking)),
            "lacks_known": min(2.0, len(known)),
            "lacks_elsewhere": float(any(self.anywhere[word] for word in lacking)),
            "lacks_itself": min(2.0, sum(self.itself[word] < _LACKS for word in nouns)),
            "lacks_verb": lacks_verb,
            "who_lacks_verb": float(question.wanted == "who") * lacks_verb,
            "time_lacks_verb": float(question.wanted == "time") * lacks_verb,
            "another_in_place": self._has_another_in_its_place(nouns),
            "name_only": float(alone and not POINTS_BACK.match(self.text)),
            "cross": float(not self.same_language),
            "rank": float(bool(question.ranks & ranks_in(self.text))),
            "no_rank": self._lacks_rank(),
            "counts_other": self._counts_another_thing(),
            "few_words": 1 / max(1, len(self.weights)),
            "quantity": float(question.wanted == "quantity"),
            "who": float(question.wanted == "who"),
            "why": float(question.wanted == "why"),
            "time": float(question.wanted == "time"),
            "where": float(question.wanted == "where"),
            "anything": float(question.wanted == "anything"),
            "yes_or_no": float(question.wanted == "yes or no"),
            "length": min(2.0, len(own) / 30),
            "similarity": 10 * self.similarity - 8.5 if self.similarity else 0.0,
            "above_mean": 10 * self.above_mean,
            "below_best": 10 * self.below_best,
        }

    def gives_another_thing(self) -> bool:
        """Return whether it gives something doubtful, and lacks what is counted or done in the question."""
        question, head = self.question, self.question.head
        if question.wanted == "who":
            return self.gives <= NAMED and self._lacks_verb() > _HALF
        if question.wanted == "why":
            return self.gives <= WEAK and self._lacks_verb() > _HALF
        if question.counts and head and not question.counts_people:
            return self.gives <= _HALF and max(self.itself[head], self.around[head]) < _HALF
        return False

    def _lacks_rank(self) -> float:
        """Return 1 if the sentence lacks the ordinal of the question, less if the sentence before has it."""
        ranks = self.question.ranks
        if not ranks or ranks_in(self.text):
            return 0.0
        return _HALF if ranks & ranks_in(self.context) else 1.0

    def _lacks_verb(self) -> float:
        """Return how far the sentence lacks what is done in the question: "Who *owns* the cable?"."""
        asked = self.question.text
        asker = _WHO_DOES.match(asked)
        verb = next(
            (
                word
                for word in self.question.terms
                if (asker and word == asker[1])
                or (is_action(word) and not _AT_AN_EVENT.search(asked[: max(0, asked.find(word))]))
            ),
            None,
        )
        return 1 - self.itself[verb] if verb else 0.0

    def _has_another_in_its_place(self, nouns: Iterable[str]) -> float:
        """Return 1 if another noun stands where the question has one: "seed of maize" for "sorghum seed"."""
        lacking = [word for word in nouns if self.itself_by_words[word] < _LACKS]
        if not lacking:
            return 0.0
        asked = [
            (head, part)
            for head, part in _parts(self.question.text)
            if any(likeness(part, w) == 1 for w in lacking)
        ]
        given = _parts(self.text)
        return float(
            any(
                best_likeness(head, [other]) >= SAME_SENSE and is_loose(part) == is_loose(instead)
                for head, part in asked
                for other, instead in given
                if not best_likeness(instead, [*self.question.terms, *self.question.kinds])
            )
        )

    def _counts_another_thing(self) -> float:
        """Return the confidence that the figures count something other than what is asked for."""
        head = self.question.head
        given = [quantity for quantity in quantities_in(self.text) if quantity.family not in MEASURES]
        if not (self.question.counts and head and given):
            return 0.0
        alike = _HEAD_ELSEWHERE * best_likeness(head, words_of(self.text))
        for quantity in given:
            counted = content_words(self.text[quantity.end :][:60])[:2] + label_of(self.text, quantity)
            if not counted:
                return 0.0
            alike = max(alike, best_likeness(head, counted))
        return 1 - alike

    def _is_about_something_else(self, firm: Iterable[str]) -> bool:
        """Return whether a sentence begins with another thing than the question's, and has none of its nouns."""
        if any(self.itself[word] for word in (*firm, *self.question.names)) or POINTS_BACK.match(self.text):
            return False
        first = next(iter(content_words(self.text)), "")
        known = (*self.question.terms, *self.question.kinds)
        return bool(first) and not (is_everyday(first) or best_likeness(first, known))

    def _share_of(self, words: Sequence[str], shares: Mapping[str, float]) -> float:
        total = sum(self.weights[word] for word in words)
        return sum(self.weights[word] * shares[word] for word in words) / total if total else 0.0

    def _worst(self, words: Sequence[str], shares: Mapping[str, float] | None = None) -> float:
        """Return the largest weight that is missing among some words, as a share of the question."""
        total = sum(self.weights.values()) or 1.0
        shares = self.around if shares is None else shares
        return max((self.weights[word] * (1 - shares[word]) for word in words), default=0.0) / total


def _parts(text: str) -> list[tuple[str, str]]:
    """Return the nouns of a text, each with what specifies it: price of maize, maize price, ligne côtière."""
    found = [(match[1], match[2]) for match in _OF.finditer(text)]
    for match in _SIDE_BY_SIDE.finditer(text):
        found += [(match[1], match[2]), (match[2], match[1])]
    verbs = word_list("irregular")
    return [pair for pair in found if not any(is_empty(word) or folded(word) in verbs for word in pair)]


def _candidates(question: ParsedQuestion, sources: Sequence[Source], corpus: Corpus) -> list[_Candidate]:
    """Return the sentences that agree with the question's dates and figures and share most with it."""
    asked = list(dict.fromkeys([*question.names, *question.terms]))
    weights = {word: corpus.weight(word) for word in asked}
    anywhere = {word: float(not corpus.has_not(word)) for word in asked}
    language = language_of(question.text)
    found = []
    for source in sources:
        around = " \n ".join((source.passage.heading, source.document.title, source.document.issuer))
        words_around = words_of(around)
        for index, sentence in enumerate(source.passage.sentences):
            text = sentence.in_words
            if gives_orders(text) or text.rstrip().endswith((",", ":")) or _only_replaces(text, question):
                continue
            earlier = source.passage.sentences[:index]
            announced = _announced(earlier)
            listed = words_of(announced) if LABELLED.match(text) else []
            if sentence.header and not announced and not times_in(text):
                announced = next((said for one in earlier if times_in(said := _first_part(one))), "")
            if not announced and not sentence.header and not times_in(text):
                announced = next((one.text for one in reversed(earlier) if not one.header), "")
            if not _is_of_the_time(question, text, source, announced):
                continue
            own_quantities = quantities_in(text)
            if any(not any(q.agrees_with(own) for own in own_quantities) for q in question.quantities):
                continue
            before = text_before(source.passage.sentences, index, corpus)
            near = f"{around} {before}" if POINTS_BACK.match(text) else around
            if _has_another_rank(question, text) or _has_another_number(question, text, near):
                continue
            own = words_of(text)
            words_before = words_of(" ".join([before, *_about_the_others(question, own, earlier)]))
            own += [word for quantity in own_quantities for word in _MEASURED_IN.get(quantity.family, ())]
            if _SPEED.search(text):
                own.append("speed")
            if question.wanted == "where" and LABELLED_AS_PLACE.match(text):
                own = [*own, *_MEETING]
            itself = {word: best_likeness(word, own) for word in asked}
            from_before = _FROM_BEFORE_POINTED_AT if POINTS_BACK.match(text) else _FROM_BEFORE
            shares = {
                word: max(
                    share,
                    best_likeness(word, [*words_around, *listed]),
                    from_before * best_likeness(word, words_before),
                )
                for word, share in itself.items()
            }
            needed = share_needed(question, sentence, before, around, earlier, corpus)
            found.append(
                _Candidate(
                    question,
                    source,
                    sentence,
                    text,
                    weights,
                    itself,
                    shares,
                    dict(itself),
                    dict(shares),
                    dict(anywhere),
                    f"{around} \n {before}",
                    f"{before} {text}" if POINTS_BACK.match(text) else text,
                    needed,
                    same_language=source.document.language == language,
                )
            )
    for one in found:
        one.gives = gives_what_is_wanted(
            question, one.text, one.source.document.language, one.share(one.itself), one.share(one.around), corpus
        )

    def first_look(one: _Candidate) -> float:
        itself = one.share(one.itself)
        covered = itself + 0.6 * (one.share(one.around) - itself)
        return covered - (one.needed is None) + 0.3 * (one.gives > 0)

    return sorted(found, key=lambda one: -first_look(one))[:_LOOKED_AT]


def _first_part(sentence: Sentence) -> str:
    """Return a sentence up to what it compares with: "412 tonnes in 2024, against 390 in 2023"."""
    return "" if sentence.header else _COMPARED.split(sentence.text, maxsplit=1)[0]


def _about_the_others(question: ParsedQuestion, own: Sequence[str], earlier: Iterable[Sentence]) -> list[str]:
    """Return the earlier sentences that have names which a sentence lacks, if it has another of the question."""
    lacking = [name for name in question.names if best_likeness(name, own) < SAME_SENSE]
    if len(lacking) == len(question.names):
        return []
    texts = (one.text for one in earlier if not one.header)
    return [text for text in texts if any(best_likeness(name, words_of(text)) >= SAME_SENSE for name in lacking)]


def _only_replaces(text: str, question: ParsedQuestion) -> bool:
    """Return whether a sentence says no more than which document another replaces, and nobody asks for that."""
    return _REPLACES_ANOTHER.match(text) is not None and _REPLACES.search(question.text) is None


def with_antecedent(evidence: Evidence) -> Evidence:
    """Return evidence that begins with "it" or "their" with the sentences back to what that stands for."""
    passage, sentence = evidence.source.passage, evidence.sentence
    if not POINTS_BACK.match(sentence.text) or sentence not in passage.sentences:
        return evidence
    first = index = passage.sentences.index(sentence)
    while first and not passage.sentences[first - 1].header and POINTS_BACK.match(passage.sentences[first].text):
        first -= 1
    if first == index:
        return evidence
    start = passage.sentences[first].start
    text = " ".join(passage.text[start - passage.start : sentence.end - passage.start].split())
    return replace(evidence, sentence=Sentence(text, start, sentence.end))


def _compare_by_meaning(question: ParsedQuestion, candidates: Sequence[_Candidate]) -> None:
    """Add scores from embeddings for words outside the glossary and for whole sentences."""
    asked = [word for word in candidates[0].weights if word not in question.names]
    missing = [word for word in asked if any(one.around[word] < SAME_SENSE for one in candidates)]
    own = [_vector_words(one.text) for one in candidates]
    around = [_vector_words(one.context) for one in candidates]
    others = sorted({word for words in (*own, *around) for word in words})
    if missing and others:
        alike = likenesses_by_vector(missing, others)
        column = {word: index for index, word in enumerate(others)}
        for one, words, words_around in zip(candidates, own, around, strict=True):
            for row, word in enumerate(missing):
                in_it = max((float(alike[row, column[other]]) for other in words), default=0.0)
                near = max((float(alike[row, column[other]]) for other in words_around), default=0.0)
                one.itself[word] = max(one.itself[word], in_it)
                one.around[word] = max(one.around[word], in_it, _FROM_BEFORE * near)
    known = [*question.names, *question.terms, *question.kinds, *(str(time.year) for time in question.times)]
    for one in candidates:
        if one.sentence.header:
            numbered = any(_numbers_of_the_same(question, one.text.split(";")[0]))
            first, *others = one.sentence.text.split(" | ")
            one.label = 1.0 if numbered else _how_known(first, known)
            if any(_names_all(question.names, cell) for cell in others):
                one.label = 1.0
    for word in asked:
        anywhere = max(candidates[0].anywhere[word], *(one.around[word] for one in candidates))
        for one in candidates:
            one.anywhere[word] = anywhere
    similarities = similarities_to(
        question.text,
        [
            "\n".join((one.source.document.title, one.source.passage.heading.split(" > ")[-1], one.continued))
            for one in candidates
        ],
    )
    similarities = [
        similarity if one.same_language else similarity + _OTHER_LANGUAGE
        for one, similarity in zip(candidates, similarities, strict=True)
    ]
    mean, best = sum(similarities) / len(similarities), max(similarities)
    for one, similarity in zip(candidates, similarities, strict=True):
        one.similarity, one.above_mean, one.below_best = similarity, similarity - mean, similarity - best


def _has_another_rank(question: ParsedQuestion, text: str) -> bool:
    """Return whether a sentence says "second" of what the question calls "first"."""
    given = ranks_in(text)
    return bool(question.ranks and given and not question.ranks & given)


def _numbered_things(text: str, *, at_the_start: bool = False) -> list[tuple[str, int]]:
    """Return the things that a text names by a number: "lot 2", or a cell "2" under the header "lot"."""
    return [
        (found[1], int(found[2]))
        for found in _NUMBERED_THING.finditer(text)
        if NUMBERED.search(f"{found[1]} ")
        and (not at_the_start or not text[: found.start()].rpartition(";")[2].strip())
    ]


def _numbers_of_the_same(question: ParsedQuestion, text: str) -> list[bool]:
    """Return whether each number with which a sentence or row begins is the one in the question."""
    return [
        number == other
        for thing, number in _numbered_things(question.text)
        for name, other in _numbered_things(text, at_the_start=True)
        if likeness(thing, name) >= SAME_SENSE
    ]


def _has_another_number(question: ParsedQuestion, text: str, around: str) -> bool:
    """Return whether a sentence is about lot 3, and nothing around it is about the lot of the question."""
    given = _numbered_things(text)
    return any(
        any(likeness(thing, name) >= SAME_SENSE for name, _ in given)
        and number not in (other for _, other in given)
        and re.search(rf"\b0*{number}\b", around) is None
        for thing, number in _numbered_things(question.text)
    )


def _how_known(cell: str, known: Sequence[str]) -> float:
    """Return the share of a cell's words, without units, that a question has."""
    words = words_of(re.sub(r"\(.*?\)", " ", cell))
    words = [word for word in words if not is_empty(word)]
    others = [word.lower() for word in known if not word[0].isdigit()]
    alike = likenesses_by_vector([word.lower() for word in words], others)
    close = alike.max(axis=1) if alike.size else [0.0] * len(words)
    return _mean(max(best_likeness(word, known), float(near)) for word, near in zip(words, close, strict=True))


def _names_all(names: Sequence[str], cell: str) -> bool:
    """Return whether a cell is a pair or list of the question's names: "Kosande-Senovar"."""
    return len(names) > 1 and all(best_likeness(name, words_of(cell)) == 1.0 for name in names)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _vector_words(text: str) -> list[str]:
    return sorted({word.lower() for word in content_words(text) if len(word) > 2})


def _announced(before: Sequence[Sentence]) -> str:
    """Return the last sentence with a colon at its end, which announces the lines of a list."""
    return next((one.text for one in reversed(before) if one.text.rstrip().endswith(":")), "")


def _is_of_the_time(question: ParsedQuestion, text: str, source: Source, announced: str) -> bool:
    own = times_in(text)
    around = (*times_in(source.document.title), *times_in(source.passage.heading), *times_in(announced))
    date = source.document.date
    for asked in question.times:
        if _OPEN_TIME.search(question.text[: asked.start]):
            continue
        if any(_answers_time(time, asked) for time in own):
            continue
        if own and not any(
            time.year is None or time.part or (asked.year is not None and time.year == asked.year) for time in own
        ):
            return False
        if any(_answers_time(time, asked) for time in around):
            continue
        if own or asked.part is not None or asked.day is not None or asked.year is None or date is None:
            return False
        if not TimePoint(date.year, date.month, date.day).is_within(asked):
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
