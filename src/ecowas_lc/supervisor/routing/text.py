"""Text as the routers compare it: lower case, without accents, cut into words."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss"})


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


def accented_words(text: str) -> list[str]:
    """Return the words of ``text`` in lower case with their accents, cut as :func:`words` cuts them."""
    return _WORD.findall(unicodedata.normalize("NFC", text.lower().translate(_LIGATURES)))
