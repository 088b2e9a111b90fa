"""Text as the routers compare it: lower case, without accents, cut into words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

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


# Words that are common in one of the languages and hardly ever seen in the two others.
_COMMON = {
    "en": frozenset(
        words(
            """the of and is are was were what which how who whom where when why does did can could should would
            will must for with on our we it its this that these those an be been by from have has they their there
            us you your my about into than tell give please"""
        )
    ),
    "fr": frozenset(
        words(
            """le les des du est sont qui quoi quel quelle quels quelles comment où pourquoi avec sur nous notre
            nos une dans aux ce cette ces il elle ils peut faut entre combien quand l d au et pour qu vous votre
            sans chez donnez être avons ont leur leurs un je"""
        )
    ),
    "pt": frozenset(
        words(
            """o os das dos do da e são quem qual quais como onde com sobre nos nosso nossa nossos um uma na nas em
            ao aos este esta isto pode quanto quantos quantas porque quando para pelo pela não há ser mais foi deve
            devem uns seu sua temos"""
        )
    ),
}


def guess_language(folded_words: Iterable[str]) -> str | None:
    """Return ``"en"``, ``"fr"`` or ``"pt"`` when common words leave no doubt, else ``None``."""
    counts = dict.fromkeys(_COMMON, 0)
    for word in folded_words:
        for language, common in _COMMON.items():
            counts[language] += word in common
    first, second, _ = sorted(counts, key=counts.__getitem__, reverse=True)
    return first if counts[first] > counts[second] else None
