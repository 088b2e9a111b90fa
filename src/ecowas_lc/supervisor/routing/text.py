"""Text in the form that the routers compare: lower case, without accents, split into words."""

from __future__ import annotations

import re
import unicodedata
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
