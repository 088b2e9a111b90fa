"""Correction of misspelt words, up to one typing error."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

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
    if abs(len(word) - len(other)) > 1:
        return False
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
