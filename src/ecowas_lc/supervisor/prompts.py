"""Prompts for the models, and the graph's own sentences in English, French and Portuguese."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ecowas_lc._language import Language
from ecowas_lc.twg import TWG, summit_description

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


WITHOUT_TOOLS = (
    "You have no tools for this question: answer from what you know, and say what you could not look up."
)

SUMMARISE = (
    "You keep the minutes of a conversation between a user and the supervisor of the ECOWAS summit's "
    "working groups. Write in at most 120 words what must be remembered: what was asked, what was answered, "
    "figures and names given, what was left open. Add nothing of your own. Write in the language of the "
    "conversation. Answer with the minutes only."
)


def supervisor_prompt(groups: Sequence[TWG]) -> str:
    """Return the system prompt for questions that concern no group."""
    names = "; ".join(group.name for group in groups)
    return (
        "You are the supervisor of the technical working groups that prepare a summit.\n\n"
        f"{summit_description()}\n\n"
        f"The working groups are: {names}.\n\n"
        "Greetings, questions about the summit itself and anything that concerns no group you answer "
        "yourself, in two or three sentences, diplomatically and in the language of the question. Say when "
        "you do not know, and which group could be asked; never invent commitments, figures or declarations "
        "of member states."
    )


def with_summary(prompt: str, summary: str) -> str:
    """Return a system prompt followed by the summary of the earlier conversation."""
    if not summary:
        return prompt
    return f"{prompt}\n\nEarlier in this conversation, in short (it may be incomplete):\n{summary}"


def synthesis_prompt(names: Mapping[str, str], missing: Sequence[str]) -> str:
    """Return the system prompt for combining several groups' answers as JSON."""
    return (
        f"{_synthesis_task(names, missing)}\n\n"
        "Answer in JSON. views: for each group its view in one or two sentences. agreements: what two or "
        "more groups both say. conflicts: where their answers contradict or hinder each other, naming the "
        "groups. open_questions: what their answers leave undecided. An empty list is right where there is "
        "nothing. answer: two or three sentences that answer the user's question from the groups' answers."
    )


def plain_synthesis_prompt(names: Mapping[str, str], missing: Sequence[str]) -> str:
    """Return the system prompt for combining several groups' answers as prose."""
    return (
        f"{_synthesis_task(names, missing)}\n\n"
        "Write a short text: name each group with its view in one or two sentences, then say where they "
        "agree, where they conflict, what stays open, and answer the user's question in two or three "
        "sentences."
    )


def synthesis_request(question: str, answers: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Return the user's question and the groups' answers as one message."""
    parts = "\n\n".join(f"Answer of {names[group]} ({group}):\n{text}" for group, text in answers.items())
    return f"Question of the user:\n{question}\n\n{parts}"


def synthesis_schema(names: Mapping[str, str]) -> dict[str, object]:
    """Return the JSON schema for combining these groups' answers."""
    sentences = {"type": "array", "items": {"type": "string"}, "maxItems": 4}
    properties: dict[str, object] = {
        "views": {
            "type": "object",
            "properties": {
                group: {"type": "string", "description": f"{view_of(name)}."} for group, name in names.items()
            },
            "required": list(names),
            "additionalProperties": False,
        },
        "agreements": {**sentences, "description": "What two or more groups both say."},
        "conflicts": {**sentences, "description": "Where the groups contradict or hinder each other."},
        "open_questions": {**sentences, "description": "What the answers leave undecided."},
        "answer": {"type": "string", "description": "Two or three sentences that answer the user's question."},
    }
    return {
        "title": "synthesis",
        "description": "What several working groups' answers come to.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def view_of(name: str) -> str:
    """Return the schema's placeholder for a group's view; weak models repeat it instead of writing a view."""
    return f"The view of {name}"


def summary_request(summary: str, conversation: str) -> str:
    """Return one message with the conversation to summarise."""
    before = f"Minutes so far:\n{summary}\n\n" if summary else ""
    return f"{before}Conversation to add to the minutes:\n{conversation}"


def _synthesis_task(names: Mapping[str, str], missing: Sequence[str]) -> str:
    absent = f" No answer came from {', '.join(missing)}: do not guess theirs." if missing else ""
    return (
        "You are the supervisor of the ECOWAS summit's working groups. Bring together the answers of "
        f"{', '.join(names.values())}.{absent} Use only what they say; never invent commitments, figures or "
        "declarations of member states. Be diplomatic and balanced. Write in the language of the question."
    )
