"""Whether a sentence is about what a question names, itself or because it continues the sentences before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ecowas_lc.documents.document import Sentence
from ecowas_lc.documents.facts import MONTH_NAMES, UNIT_NAMES, folded
from ecowas_lc.documents.question import ParsedQuestion
from ecowas_lc.documents.sources import Corpus
from ecowas_lc.documents.terms import (
    SAME_SENSE,
    best_likeness,
    content_words,
    is_verb,
    likeness,
    names_in,
    words_of,
)

_BY_ITSELF = 0.3
BY_ITSELF_WITHOUT_NAME = 0.6
"""Share of the words that the sentence itself needs if a name occurs only in the sentence before."""

LABELLED = re.compile(r"\W*[^\W\d_a-z][\w' -]{1,40} ?:")
"""The beginning of a line of a list: "Tamble: 310 lorries a day"."""
# "La société en détient 55 pour cent": of what the sentence before is about.
_OF_IT = re.compile(r"\b(?:en|y) ([^\W\d_]+)", re.IGNORECASE)
POINTS_BACK = re.compile(
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
_BEGINS_DEFINITE = re.compile(r"\W*(?:(?:[Tt]he|[Ll][ae]s?|[AO]s?)\s+|[Ll]['’])([a-zà-ÿ-]{3,})\b")
_THE_NAMED = re.compile(
    r"\b(?:[Tt]he|[Ll][ae]|[AaOo]|[Dd][ao]|[Nn][ao]|[Dd]u|[Aa]u)\s+([A-ZÀ-Ý][\w-]+)\b(?! (?:[A-ZÀ-Ý]))"
)


def text_before(sentences: Sequence[Sentence], index: int, corpus: Corpus) -> str:
    """Return the sentences that a sentence continues: two, or back to the one that its pronoun stands for.

    Sentences that name nothing continue the one before them.
    """
    before = [one for one in sentences[:index] if not one.header]
    first = max(0, len(before) - 2)
    while first and not _names_something(before[first].text, corpus):
        first -= 1
    if POINTS_BACK.match(sentences[index].in_words):
        first = max(0, len(before) - 1)
        while first and POINTS_BACK.match(before[first].text):
            first -= 1
    return " ".join(one.text for one in before[first:])


def share_needed(
    question: ParsedQuestion,
    sentence: Sentence,
    before: str,
    around: str,
    earlier: Sequence[Sentence],
    corpus: Corpus,
) -> float | None:
    """Return the share of the question that a sentence must contain; ``None`` if it is about other names."""
    text = sentence.in_words
    own = words_of(text)
    needed = _BY_ITSELF
    asked = {folded(name) for name in question.names}
    has_only_asked = any(likeness(name, word) >= SAME_SENSE for name in question.names for word in own) and (
        asked.issuperset(map(folded, names_in(text, known=corpus.names)))
    )
    for name in question.names:
        if any(likeness(name, word) >= SAME_SENSE for word in own):
            continue
        stands_before = any(likeness(name, word) >= SAME_SENSE for word in words_of(before))
        if stands_before and POINTS_BACK.match(text):
            continue
        stands_around = any(likeness(name, word) >= SAME_SENSE for word in words_of(around))
        if _has_short_form(question, name, text) and (
            stands_around or any(best_likeness(name, words_of(one.text)) == 1.0 for one in earlier)
        ):
            continue
        if has_only_asked:  # "Nuvoa | 153,000" in a note about Ponte
            goes_on = any(likeness(name, word) >= SAME_SENSE for one in earlier for word in words_of(one.text))
        elif sentence.header:
            goes_on = stands_before and not names_in(sentence.text, known=corpus.names)
        else:
            takes_up = _takes_up(text, before, corpus) or (
                question.wanted == "who" and _begins_with_its_noun(text, corpus)
            )
            subject = before if POINTS_BACK.match(text) else text
            goes_on = (stands_before and takes_up) or _is_the_named(subject, name, earlier)
        if not stands_around and not goes_on:
            return None
        if not stands_around:
            needed = BY_ITSELF_WITHOUT_NAME
        if corpus.is_everywhere(name):
            continue
        rivals = {folded(other) for other in names_in(text, known=corpus.names)} - asked
        if any(corpus.is_common(rival) for rival in rivals):
            return None
    return needed


def _is_the_named(text: str, name: str, earlier: Sequence[Sentence]) -> bool:
    """Return whether a sentence begins with "the mine", and the last mine before it has the name."""
    begins = _BEGINS_DEFINITE.match(text)
    if begins is None:
        return False
    for sentence in reversed(earlier):
        words = words_of(sentence.text)
        if best_likeness(begins[1], words) == 1.0:
            if best_likeness(name, words) >= SAME_SENSE:
                return True
            if names_in(f"a {sentence.text}"):
                return False
    return False


def _has_short_form(question: ParsedQuestion, name: str, text: str) -> bool:
    """Return whether a sentence says "the Levy" for "Community Solidarity Levy"."""
    return any(
        found[1] in question.names
        and re.search(rf"\b{re.escape(name)} (?:(?:d[aeo]s?|of) )?{found[1]}\b", question.text)
        for found in _THE_NAMED.finditer(text)
    )


def _takes_up(text: str, before: str, corpus: Corpus) -> bool:
    """Return whether a sentence continues the one before: it names nothing, or repeats its noun."""
    first = next(iter(words_of(text)), "")
    if LABELLED.match(text) or (first[:1].isupper() and folded(first) in corpus.names):
        return False
    if not _names_something(text, corpus) or any(is_verb(found[1]) for found in _OF_IT.finditer(text)):
        return True
    earlier = content_words(before)
    return any(best_likeness(found[1], earlier) > 0 for found in _DEFINITE.finditer(text) if found[1].islower())


def _begins_with_its_noun(text: str, corpus: Corpus) -> bool:
    """Return whether a sentence begins with a noun, such as "The dredging", and no name in it is a common one."""
    return _BEGINS_DEFINITE.match(text) is not None and not any(
        corpus.is_common(folded(name)) for name in names_in(text, known=corpus.names)
    )


def _names_something(text: str, corpus: Corpus) -> bool:
    """Return whether a sentence has a capitalised word other than its first, months and units."""
    first, *others = words_of(text) or [""]
    return folded(first) in corpus.names or any(
        word[0].isupper() and folded(word) not in MONTH_NAMES and word.lower() not in UNIT_NAMES for word in others
    )
