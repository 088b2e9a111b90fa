"""The few sentences that the graph itself says, in the summit's three languages."""

from __future__ import annotations

from ecowas_lc.supervisor.language import Language

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


def phrase(key: str, language: Language, **parts: str) -> str:
    """Return one of the graph's own sentences."""
    return _PHRASES[key][language].format(**parts)
