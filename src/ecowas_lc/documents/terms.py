"""Comparable words: stems and meanings in English, French and Portuguese, and the names in a text.

Stems are Snowball's. Words of different languages are compared by the glossary in this package, and otherwise by
their spelling, since many are cognates.
"""

from __future__ import annotations

import difflib
import gzip
import itertools
import re
import tomllib
from collections.abc import Callable, Collection, Iterable
from functools import cache, lru_cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from ecowas_lc._extras import install_command
from ecowas_lc.documents.facts import MONTH_NAMES, UNIT_NAMES, folded
from ecowas_lc.errors import MissingExtraError
from ecowas_lc.search.words import stemmers

_DATA = files("ecowas_lc.documents")


@cache
def word_list(name: str) -> frozenset[str]:
    """Return one of the lists of ``words.toml``."""
    lists = tomllib.loads((_DATA / "words.toml").read_text(encoding="utf-8"))
    return frozenset(lists[name].split())


_ALIKE = 0.75
"""Minimum similarity, from 0 to 1, of two long words with the same beginning to count as cognates."""
SAME_SENSE = 0.85
"""Confidence of a sense shared in WordNet; a word has several senses."""
_OTHER_MEANING = 0.6
"""Confidence of a sense shared by words that have different meanings in the glossary."""
_VERB = "V"
_SHORT_STEM = 3
_SHARED_LETTERS, _SHARED_PART = 5, 0.5
"""Minimum shared beginning (letters, share) of two words that count as forms of one: produced, production."""
_ALIKE_AT_ONCE = 10
_ENOUGH_LETTERS = 5
_ALIKE_FROM_THE_START = 7
_PREFIX = re.compile(r"inter|trans|contr[ae]|super|micro|hydro|hidro|electr|elect")
_WORD = re.compile(r"[^\W_]+(?:['’](?=s\b)[^\W_]+)?")
_SPLIT_OFF = re.compile(
    r"(?<=[^\W\d_])-(?:t-)?(?:il|elle|ils|elles|on|ce|se|me|te|nos|vos|lhe|lhes|lo|la|los|las)\b"
)
# "sages-femmes", "weigh-bridge": one word; capitalised parts are names, and a prefix says little.
_COMPOUND = re.compile(r"\b[^\W\d_A-ZÀ-Ý][^\W\d_]{2,}(?:-[^\W\d_A-ZÀ-Ý][^\W\d_]{3,})+\b")
_ELISION = re.compile(r"\b(?:[dlcjmnstDLCJMNST]|[Qq]u|[Jj]usqu|[Ll]orsqu)['’](?=\w)")

# French nouns that look like words that say nothing: "mine d'or", "dans l'est du pays", "l'été 2025".
_DISGUISED = re.compile(
    r"\b(?:[dl]['’](or|été)|(?:à|de|dans|en|pour|sur|vers) (?:l['’](est)|(or)))\b", re.IGNORECASE
)
_DISGUISED_AS = {"or": "gold", "est": "east", "été": "summer"}

# Only the accent tells these nouns from words that say nothing: French "mais" and "thé", without it.
_ACCENTED = frozenset(["maïs", "thé", "thés"])

_INFINITIVE = re.compile(r"(?<=\w{3})(?:ar|er|ir)$")
_PAST = re.compile(r"(?<=\w{3})(?:ou|iu|eu|aram|eram|iram)$")

# Words that say nothing about a text's subject.
_EMPTY = word_list("empty")
# Parts of institutions' names in the three languages, which are translations of each other.
_INSTITUTIONS = word_list("institutions")


@lru_cache(maxsize=65536)
def stems(word: str) -> frozenset[str]:
    """Return a word in lower case without accents, and its stems in the three languages."""
    plain = folded(word)
    lowered = word.casefold()
    if lowered in _ACCENTED:
        return frozenset([lowered])
    found = {plain}
    for stemmer in _stemmers():
        found.add(folded(stemmer.stemWord(lowered)))
        found.add(stemmer.stemWord(plain))
    if ending := _PAST.search(plain):  # Snowball does not stem these forms of Portuguese verbs
        found.add(plain[: ending.start()])
    # "or" is the stem of "ore" in French, and gold.
    return frozenset(stem for stem in found if len(stem) > 2 or stem == plain)


@lru_cache(maxsize=65536)
def meanings(word: str) -> frozenset[int]:
    """Return the meanings of a word in the glossary: numbers that translations share."""
    glossary = _glossary()
    return frozenset().union(*_found(word, lambda stem: glossary.get(stem, frozenset())))


@lru_cache(maxsize=65536)
def senses(word: str) -> frozenset[str]:
    """Return all senses of a word in the English, French and Portuguese wordnets."""
    return frozenset(itertools.chain(*_found(word, _senses_of_stem)))


def _senses_of_stem(stem: str) -> list[str]:
    return [sense for thesaurus in _thesauri() for sense in thesaurus.get(stem, "").split()]


def _found(word: str, look_up: Callable[[str], Collection[Any]]) -> list[Collection[Any]]:
    """Look up a word's stems.

    Short stems are shared by unrelated words of other languages ("cas" of "cases" and of "casas"), so they count
    only if nothing else is found.
    """
    plain = folded(word)
    long = [stem for stem in stems(word) if len(stem) > _SHORT_STEM or stem == plain]
    return [found for stem in long if (found := look_up(stem))] or [look_up(stem) for stem in stems(word)]


@lru_cache(maxsize=65536)
def is_verb(word: str) -> bool:
    """Return whether a word is a verb in most of its senses."""
    found = senses(word)
    return sum(sense[0] == _VERB for sense in found) > len(found) / 2


# Endings of adjectives and participles.
_ADJECTIVE = re.compile(
    r"\w{3,}(?:[aiá]ble?s?|[áíai]ve(?:l|is)|eux|euse|oso|osa|ous|ful|less|ory|t?oires?|[tr]ório"
    r"|(?<!t)ée?s?|[^e]ed|[ai]d[oa]s?)$|\b\w{2}[ai]d[oa]s?$"
)
_PARTICIPLE = re.compile(r"\w{2,}(?:(?<!t)ée?s?|[^e]ed|[ai]d[oa]s?)$")


@lru_cache(maxsize=65536)
def is_everyday(word: str) -> bool:
    """Return whether a word is a verb of everyday use, or another word that a passage need not contain."""
    if is_person(word):  # "élève" has the stem of "élever"
        return is_light(word)
    if folded(word) in word_list("nouns"):
        return False
    return is_light(word) or not stems(word).isdisjoint(_everyday_stems())


@lru_cache(maxsize=65536)
def is_action(word: str) -> bool:
    """Return whether a word tells what somebody does, and not only that something is or takes place."""
    if is_light(word):
        return False
    if folded(word) in word_list("nouns"):
        return False
    irregular = folded(word) in word_list("irregular")
    return irregular or is_everyday(word) or is_verb(word) or _PARTICIPLE.search(word.lower()) is not None


@lru_cache(maxsize=65536)
def is_loose(word: str) -> bool:
    """Return whether a passage may well use another word instead: true of verbs and adjectives."""
    return is_verb(word) or folded(word) in word_list("irregular") or _ADJECTIVE.search(word.lower()) is not None


def is_empty(word: str) -> bool:
    """Return whether a word says nothing about a text's subject."""
    plain = folded(word)
    return (plain in _EMPTY or plain in MONTH_NAMES) and word.casefold() not in _ACCENTED


def is_light(word: str) -> bool:
    """Return whether a word asks or announces, and says little of the subject."""
    return folded(word) in word_list("light")


def is_institution(word: str) -> bool:
    """Return whether a word is part of institutions' names, which translate it or leave it out."""
    return folded(word) in _INSTITUTIONS


@lru_cache(maxsize=65536)
def is_thing(word: str) -> bool:
    """Return whether a word is a known noun that is no currency: "racks" is one, "dollars" and "maros" are not."""
    if folded(word) in word_list("currencies") or is_empty(word) or is_loose(word):
        return False
    known = [stem for stem in stems(word) if len(stem) > _SHORT_STEM]
    return any(stem in _glossary() or _senses_of_stem(stem) for stem in known)


@lru_cache(maxsize=65536)
def is_person(word: str) -> bool:
    """Return whether a word names persons: inhabitants, workers, patients."""
    return not stems(word).isdisjoint(_stems_for_persons())


@cache
def _stems_for_persons() -> frozenset[str]:
    return frozenset(stem for word in word_list("persons") for stem in stems(word))


@cache
def _everyday_stems() -> frozenset[str]:
    return frozenset(stem for word in word_list("everyday") for stem in stems(word))


@lru_cache(maxsize=262144)
def likeness(first: str, second: str) -> float:
    """Return the confidence that two words mean the same: 1 by stem or glossary, less by sense or spelling."""
    if is_empty(first) != is_empty(second):
        return 0.0
    if not stems(first).isdisjoint(stems(second)) or not meanings(first).isdisjoint(meanings(second)):
        return 1.0
    if not senses(first).isdisjoint(senses(second)):
        # The glossary tells apart what WordNet joins, such as a dean and a rector.
        return _OTHER_MEANING if meanings(first) and meanings(second) else SAME_SENSE
    a, b = folded(first), folded(second)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    prefix = _PREFIX.match(a)
    if shared >= _SHARED_LETTERS + (len(prefix[0]) - 2 if prefix else 0) and shared >= _SHARED_PART * max(
        len(a), len(b)
    ):
        return SAME_SENSE
    start = a[:_ALIKE_FROM_THE_START]
    if len(start) == _ALIKE_FROM_THE_START and b.startswith(start):
        return 0.9
    is_long = min(len(a), len(b)) >= _ENOUGH_LETTERS and a[:3] == b[:3]
    if is_long and difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() >= _ALIKE:
        return 0.9
    return 0.0


def best_likeness(word: str, others: Iterable[str]) -> float:
    """Return the highest likeness of a word to any of the others."""
    others = list(others)
    whole = max((likeness(word, other) for other in others), default=0.0)
    if whole < 1 and "-" in word:  # all parts of a compound together mean what it means
        parts = [part for part in word.split("-") if len(part) > 2]
        whole = max(whole, min((best_likeness(part, others) for part in parts), default=0.0))
    return whole


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text; hyphens, apostrophes and pronouns after a hyphen separate words."""
    return [re.sub(r"['’]s$", "", word) for word in _WORD.findall(_split(text))]


def _split(text: str) -> str:
    """Return a text without elided words and pronouns after a hyphen, and with clear words for ambiguous ones."""
    text = _DISGUISED.sub(lambda found: " " + _DISGUISED_AS[found[found.lastindex or 0].lower()], text)
    return _SPLIT_OFF.sub(" ", _ELISION.sub(" ", text))


def content_words(text: str) -> list[str]:
    """Return the words that tell a text's subject, without duplicates, dates, numbers and function words."""
    found: dict[str, str] = {}
    compounds = [match[0] for match in _COMPOUND.finditer(_split(text))]
    for word in [*words_of(_COMPOUND.sub(" ", text)), *compounds]:
        plain = folded(word)
        if len(plain) > 1 and not is_empty(word) and not plain[0].isdigit():
            found.setdefault(plain, word)
    return list(found.values())


def names_in(text: str, *, known: Iterable[str] = ()) -> list[str]:
    """Return the proper names of a text, word by word: capitalised inside a sentence, or ``known`` at its start.

    Words of institutions' names (Agency, Fundo) are left out, since they differ between languages.
    """
    known_names = {folded(name) for name in known}
    found: dict[str, str] = {}
    for match in _WORD.finditer(_ELISION.sub(lambda elided: " " * len(elided[0]), text)):
        word = re.sub(r"['’]s$", "", match[0])
        plain = folded(word)
        if not word[0].isupper() or plain in _INSTITUTIONS | _EMPTY | MONTH_NAMES or word.lower() in UNIT_NAMES:
            continue
        before = text[: match.start()].rstrip(" «“\"'(|-")
        starts = not before or before[-1] in ".!?:;…\n" or (text[match.start() - 1 : match.start()] == "|")
        inner = any(letter.isupper() for letter in word[1:])
        if starts and not inner and plain not in known_names:
            continue
        found.setdefault(plain, word)
    return list(found.values())


def _stemmers() -> tuple[Any, ...]:
    if find_spec("snowballstemmer") is None:
        raise MissingExtraError(f"Comparing words needs snowballstemmer. Run: {install_command('documents')}")
    return stemmers()


@cache
def _thesauri() -> tuple[dict[str, str], ...]:
    """Return the senses of each stem, by language."""
    found = []
    for language in ("en", "fr", "pt"):
        packed = (_DATA / "wordnet" / f"{language}.txt.gz").read_bytes()
        lines = gzip.decompress(packed).decode().splitlines()
        found.append(dict(line.split(" ", 1) for line in lines))
    return tuple(found)


@cache
def _stems_of_senses() -> dict[str, list[str]]:
    """Return the stems that have each sense, in all three languages."""
    found: dict[str, list[str]] = {}
    for thesaurus in _thesauri():
        for stem, its_senses in thesaurus.items():
            for sense in its_senses.split():
                found.setdefault(sense, []).append(stem)
    return found


def words_alike(text: str) -> str:
    """Return words of the three languages that share a sense with a text's words, as additional search words.

    A word with many senses says little, so only the words for its most frequent senses are returned.
    """
    stems_of = _stems_of_senses()
    found: dict[str, None] = {}
    for word in content_words(text):
        own: dict[str, int] = {}
        for sense in senses(word):
            for stem in stems_of.get(sense, ()):
                own[stem] = own.get(stem, 0) + 1
        for stem in sorted(own, key=lambda each: (-own[each], each))[:_ALIKE_AT_ONCE]:
            found.setdefault(stem)
    return " ".join(found)


@cache
def _glossary() -> dict[str, frozenset[int]]:
    text = (_DATA / "glossary.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: dict[str, set[int]] = {}
    for number, line in enumerate(lines):
        for language, forms in zip(_stemmers(), line.split("|"), strict=True):
            for word in re.findall(r"[^\W_]+(?:-[^\W_]+)*", forms):
                plain = folded(word)
                if is_empty(word):
                    continue
                if word in _ACCENTED:
                    found.setdefault(word, set()).add(number)
                    continue
                forms_of_it = {plain, folded(language.stemWord(word)), language.stemWord(plain)}
                if ending := _INFINITIVE.search(plain):
                    forms_of_it.add(plain[: ending.start()])
                for stem in forms_of_it:
                    found.setdefault(stem, set()).add(number)
    return {stem: frozenset(numbers) for stem, numbers in found.items()}


def meaning_marks(text: str) -> str:
    """Return a mark for each meaning of a text's words, so that a word index finds translations."""
    found = {number for word in content_words(text) for number in meanings(word)}
    return " ".join(f"meaning{number}" for number in sorted(found))
