"""Detection of the summit's three languages, by common words, letters and endings."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

Language = Literal["en", "fr", "pt"]
LANGUAGES: tuple[Language, ...] = ("en", "fr", "pt")

_WORD = re.compile(r"[^\W\d_]+")
_COMMON_WORDS: dict[Language, str] = {
    "en": """the of and is are was were what which how who whom where when why does did can could should would
        will must for with on our we it its this that these those an be been by from have has they their
        there us you your my about into than tell give please hello hi hey thanks thank good morning evening
        to in i do at not let me any all between if or as a""",
    "fr": """le les des du est sont qui quoi quel quelle quels quelles comment pourquoi avec sur nous notre nos
        une dans aux ce cette ces il elle ils peut faut entre combien quand l d j c n s m t qu au et pour
        vous votre sans chez donnez être avons ont leur leurs un je bonjour bonsoir salut merci oui moi mon
        ma mes tu te la à ne pas plus que où par y en on""",
    "pt": """o os das dos do da de e é são quem qual quais como onde com sobre nosso nossa nossos um uma na nas
        no em ao aos à às este esta isto pode quanto quantos quantas porque quando para pelo pela não há ser
        mais foi deve devem uns seu sua temos que olá obrigado obrigada bom boa dia noite tarde por me meu
        minha tu você nos se ou já entre a as""",
}
_LETTERS: dict[Language, str] = {"en": "", "fr": "èùûîëïœêâôàçé", "pt": "ãõáíóúâêôàçé"}
_ENDINGS: dict[Language, re.Pattern[str]] = {
    "en": re.compile(r"(?:ed|ing|tions?|[kswydt])$"),
    "fr": re.compile(r"(?:ments?|tions?|ents|és|e[rsz]|ir|eurs?|aux|[eétx])$"),
    "pt": re.compile(r"(?:ão|ões|ães|dade|mente|[ao]s|[ae]m|[aei]r|[ao])$"),
}
_COMMON_WORD, _LETTER, _ENDING = 1.0, 0.5, 0.1
_NO_DOUBT = 0.5


def _plain(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


# Each word in its correct spelling, and as typed without accents.
COMMON_WORDS: dict[Language, frozenset[str]] = {
    language: frozenset(form for word in words.split() for form in (word, _plain(word)))
    for language, words in _COMMON_WORDS.items()
}


def language_of(text: str) -> Language:
    """Return the most likely language of a text; English if there is no evidence."""
    return _ranked(text)[0][1]


def guess_language(text: str) -> Language | None:
    """Return the language of a text, or ``None`` if it is uncertain."""
    (first, language), (second, _), _ = _ranked(text)
    return language if first - second >= _NO_DOUBT else None


def _ranked(text: str) -> list[tuple[float, Language]]:
    words = _WORD.findall(unicodedata.normalize("NFC", text.lower()))
    scores: list[tuple[float, Language]] = [
        (sum(_score(word, language) for word in words), language) for language in LANGUAGES
    ]
    return sorted(scores, key=lambda found: -found[0])


@lru_cache(maxsize=8192)
def _score(word: str, language: Language) -> float:
    """Return the evidence of a word for a language."""
    return (
        _COMMON_WORD * (word in COMMON_WORDS[language])
        + _LETTER * any(letter in _LETTERS[language] for letter in word)
        + _ENDING * (_ENDINGS[language].search(word) is not None)
    )
