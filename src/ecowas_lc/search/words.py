"""Text as searchable words: stems of English, French and Portuguese, with and without accents.

The language of a text is unknown, and many texts mix languages, so a word stands for its stems in all three. These
are mostly the same, and a word of the query is found by any stem that it shares with the text. Terms are 64-bit
digests of stems. A text's row is its length in words, followed by each term and its frequency.
"""

from __future__ import annotations

import re
import struct
import threading
import unicodedata
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from ecowas_lc import forks
from ecowas_lc._extras import install_command
from ecowas_lc.errors import MissingExtraError

LANGUAGES = ("english", "french", "portuguese")
_WORD = re.compile(r"[^\W_]+")
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ß": "ss"})
_LONGEST_WORD = 64
_MOST_TIMES = 255


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, with their accents; all other characters separate words."""
    lowered = unicodedata.normalize("NFC", text.lower().translate(_LIGATURES))
    return [word[:_LONGEST_WORD] for word in _WORD.findall(lowered)]


def fold(word: str) -> str:
    """Return a word without its accents."""
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(character for character in decomposed if not unicodedata.combining(character))


@lru_cache(maxsize=65_536)
def terms_of(word: str) -> tuple[int, ...]:
    """Return the terms that a word stands for.

    Raises:
        MissingExtraError: The extra ``search`` is not installed.
    """
    plain = fold(word)
    stems: set[str] = set()
    for stemmer in stemmers():
        stems |= {fold(stemmer.stemWord(word)), stemmer.stemWord(plain)}
    return tuple(sorted(_digest(stem) for stem in stems))


def row_of(texts: list[str]) -> bytes:
    """Return the row of an item with these texts; empty if they have no words."""
    counts: Counter[int] = Counter()
    length = 0
    for text in texts:
        for word in words_of(text):
            length += 1
            counts.update(terms_of(word))
    if not counts:
        return b""
    terms = sorted(counts)
    times = bytes(min(counts[term], _MOST_TIMES) for term in terms)
    return struct.pack(f"<I{len(terms)}Q", length, *terms) + times


def query_of(text: str) -> list[tuple[int, ...]]:
    """Return the terms of each word of a query, without duplicate words."""
    return list(dict.fromkeys(terms_of(word) for word in words_of(text)))


def check_installed() -> None:
    """Check that the stemmer is installed.

    Raises:
        MissingExtraError: It is not installed.
    """
    stemmers()


class _Stemmers:
    """The stemmers of each thread, one for each of ``LANGUAGES``: a stemmer keeps state between its steps."""

    def __init__(self) -> None:
        self._of_thread = threading.local()
        forks.register(self)

    def forget_parent(self) -> None:
        """Make new stemmers in a forked child."""
        self._of_thread = threading.local()

    def __call__(self) -> tuple[Any, ...]:
        """Return the stemmers of this thread.

        Raises:
            MissingExtraError: The extra ``search`` is not installed.
        """
        found: tuple[Any, ...] | None = getattr(self._of_thread, "stemmers", None)
        if found is not None:
            return found
        try:
            import snowballstemmer
        except ImportError:
            raise MissingExtraError(
                f'Searching by words needs a stemmer. Run: {install_command("search")}, or set "words": False in '
                "the index configuration."
            ) from None
        self._of_thread.stemmers = found = tuple(snowballstemmer.stemmer(language) for language in LANGUAGES)
        return found


stemmers = _Stemmers()


def _digest(stem: str) -> int:
    return int.from_bytes(blake2b(stem.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
