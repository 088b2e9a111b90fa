"""Text as the routers compare it: in lower case, without accents, split into words, misspelt words corrected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

_WORD = re.compile(r"[^\W_]+")
_WORD_IN_PLACE = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")  # an accent may be a separate character
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss"})


class Word(NamedTuple):
    """A word of a text: folded, in lower case with its accents, and its position in the text."""

    folded: str
    accented: str
    start: int
    end: int


def fold(text: str) -> str:
    """Return ``text`` in lower case with its accents removed and ligatures spelt out."""
    lowered = text.lower()
    if lowered.isascii():
        return lowered
    decomposed = unicodedata.normalize("NFKD", lowered.translate(_LIGATURES))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words(text: str) -> list[str]:
    """Return the folded words of ``text``; hyphens, apostrophes and all other signs separate words."""
    return _WORD.findall(fold(text))


def words_in_place(text: str, start: int = 0, end: int | None = None) -> list[Word]:
    """Return the words of a part of ``text`` with their positions in the whole text."""
    found = _WORD_IN_PLACE.finditer(text, start, len(text) if end is None else end)
    return [Word(fold(one.group()), _accented(one.group()), one.start(), one.end()) for one in found]


def level(text: str) -> str:
    """Return ``text`` folded character by character, so that every character keeps its position."""
    lowered = text.lower()
    if lowered.isascii() and len(lowered) == len(text):
        return lowered
    return "".join(one if len(one := fold(character)) == 1 else character for character in text)


def _accented(word: str) -> str:
    return unicodedata.normalize("NFC", word.lower().translate(_LIGATURES))


SHORTEST, _LONGEST = 6, 40
"""Shorter words are one typing error away from too many others."""

_LONG = 7
"""From this length on, any single error is corrected; in a shorter word only a missing letter."""


_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn")  # English, Portuguese; French
_VOWELS = ("ae", "ie", "ou", "td", "mn", "vw")
_CONFUSED = frozenset(frozenset(pair) for row in (*_ROWS, *_VOWELS) for pair in pairwise(row))
_SOUND = str.maketrans("zykq", "sicc")
_TWICE = re.compile(r"(.)\1")


class Spelling:
    """Words to correct to, and words that are correct as they are.

    A typing error is an extra letter, a missing letter, two swapped letters, or a letter replaced by its neighbour
    on the keyboard: "competing" is not "computing". Letters that sound alike, and single for double letters, do
    not count as errors. The first letter must be correct, because people rarely mistype it.
    """

    def __init__(self, words: Iterable[str], right: Collection[str]) -> None:
        self._right = right
        self._near: dict[str, list[tuple[str, str]]] = {}
        for word in dict.fromkeys(words):
            if len(word) >= SHORTEST and word.isalpha():
                spoken = _spoken(word)
                for form in _shortened(spoken):
                    self._near.setdefault(form, []).append((spoken, word))

    def corrected(self, word: str) -> str:
        """Return the word that this one stands for; the word itself if it is correct, or similar to no other."""
        if not SHORTEST <= len(word) <= _LONGEST or not word.isalpha() or word in self._right:
            return word
        spoken = _spoken(word)
        for form in _shortened(spoken) if len(word) >= _LONG else (spoken,):
            for other, written in self._near.get(form, ()):
                if written[0] == word[0] and len(written) >= _LONG and _is_one_slip(spoken, other):
                    return written
        return word


def _spoken(word: str) -> str:
    return _TWICE.sub(r"\1", word.replace("ph", "f").translate(_SOUND))


def _shortened(word: str) -> Iterator[str]:
    """Yield the word, and the word without each of its letters except the first."""
    yield word
    for place in range(1, len(word)):
        yield word[:place] + word[place + 1 :]


def _is_one_slip(word: str, other: str) -> bool:
    start = 0
    while start < min(len(word), len(other)) and word[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(word), len(other)) - start and word[-1 - end] == other[-1 - end]:
        end += 1
    left, right = word[start : len(word) - end], other[start : len(other) - end]
    if len(left) == len(right) == 1:
        return len(word) >= _LONG and frozenset((left, right)) in _CONFUSED
    return max(len(left), len(right)) <= 1 or (len(left) == len(right) == 2 and left == right[::-1])
