"""The language of a question, which the graph's own sentences and the groups' words depend on."""

from __future__ import annotations

import pytest

from ecowas_lc._language import LANGUAGES, guess_language, language_of
from ecowas_lc.twg import evaluation_set, example_questions

ORDINARY = ("dev", "validation")  # the hard sets mix languages on purpose


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the price of the land?", "en"),
        ("Quel est le prix de la terre ?", "fr"),
        ("Qual é o preço da terra?", "pt"),
        ("Qual e o preco da terra?", "pt"),
        ("Que países exportam eletricidade?", "pt"),
        ("Que signifie mon rêve ?", "fr"),
        ("Bonjour", "fr"),
        ("Olá!", "pt"),
        ("BOM DIA", "pt"),
    ],
)
def test_the_language_of_a_question(text: str, language: str) -> None:
    """Common words reveal a language, with or without accents, and so do letters and endings."""
    assert language_of(text) == language
    assert guess_language(text) in (language, None)


@pytest.mark.parametrize("text", ["", "cobalt", "WAPP 2026", "電力"])
def test_doubt_is_no_guess(text: str) -> None:
    """A wrong guess would weaken the right terms, so an unclear language counts as English."""
    assert guess_language(text) is None
    assert language_of(text) == "en"


def test_questions_of_all_three_languages_are_told_apart() -> None:
    """In each language, 98 of 100 questions are recognised, and hardly any confident guess is wrong."""
    every = [*example_questions(), *(q for name in ORDINARY for q in evaluation_set(name))]
    questions = [question for question in every if question.question[0].isupper()]  # not mere keywords
    for language in LANGUAGES:
        asked = [question.question for question in questions if question.language == language]
        assert sum(language_of(text) == language for text in asked) >= 0.98 * len(asked)
        assert sum(guess_language(text) not in (language, None) for text in asked) <= 0.005 * len(asked)
