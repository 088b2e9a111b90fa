"""The few sentences that the graph itself says, in the summit's three languages."""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "fr", "pt"]

_PHRASES: dict[str, dict[Language, str]] = {
    "agreements": {"en": "Agreements", "fr": "Points d'accord", "pt": "Pontos de acordo"},
    "conflicts": {"en": "Conflicts", "fr": "Points de désaccord", "pt": "Pontos de desacordo"},
    "open_questions": {"en": "Open questions", "fr": "Questions ouvertes", "pt": "Questões em aberto"},
    "in_short": {"en": "In short", "fr": "En bref", "pt": "Em resumo"},
    "without_tools": {
        "en": "(Answered without tools: the model can't call any.)",
        "fr": "(Réponse donnée sans outils : le modèle ne sait pas en appeler.)",
        "pt": "(Resposta dada sem ferramentas: o modelo não sabe chamá-las.)",
    },
    "missing": {
        "en": "Missing: the view of {name} ({reason}).",
        "fr": "Il manque l'avis de {name} ({reason}).",
        "pt": "Falta o parecer de {name} ({reason}).",
    },
    "failed": {
        "en": "it could not answer: {error}",
        "fr": "il n'a pas pu répondre : {error}",
        "pt": "não conseguiu responder: {error}",
    },
    "rejected": {
        "en": "its answer was not released",
        "fr": "sa réponse n'a pas été approuvée",
        "pt": "a sua resposta não foi aprovada",
    },
    "withheld": {
        "en": "The answer of {name} was not released.",
        "fr": "La réponse de {name} n'a pas été approuvée.",
        "pt": "A resposta de {name} não foi aprovada.",
    },
}

_WORD = re.compile(r"[^\W\d_]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


_COMMON_WORDS: dict[Language, frozenset[str]] = {
    "en": _words(
        """the of and to in is are what which how who when where does do can should for with on we our it this that
        a an be will would please tell between"""
    ),
    "fr": _words(
        """le la les des du de et est sont que qui quoi quel quelle quels quelles comment où pour avec sur nous
        notre nos un une dans au aux ce cette il elle peut faut entre combien pourquoi quand"""
    ),
    "pt": _words(
        """o os as das dos do da de e é são que quem qual quais como onde para com sobre nós nosso nossa nossos
        um uma no na nos nas em ao aos este esta isto ele ela pode entre quanto porquê quando"""
    ),
}


def language_of(text: str) -> Language:
    """Guess which of the three languages a text is in by its commonest words; English where nothing tells."""
    words = _WORD.findall(text.lower())
    scores = {language: sum(word in common for word in words) for language, common in _COMMON_WORDS.items()}
    best = max(scores.values())
    return next(language for language in ("en", "fr", "pt") if scores[language] == best)


def phrase(key: str, language: Language, **parts: str) -> str:
    """Return one of the graph's own sentences."""
    return _PHRASES[key][language].format(**parts)
