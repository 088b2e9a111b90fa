"""Follow-ups are completed from the earlier question; a question with its own subject inherits nothing."""

from __future__ import annotations

import pytest

from ecowas_lc.documents.follow_up import completed_question, completed_questions

LINE = {
    "en": "What was the rated capacity of the coastal line in April 2025?",
    "fr": "Quelle était la capacité de la ligne côtière en avril 2025 ?",
    "pt": "Qual era a capacidade da linha costeira em abril de 2025?",
}
TARIFF = {
    "en": "What is the household tariff in Sorano?",
    "fr": "Quel est le tarif domestique au Sorano ?",
    "pt": "Qual é a tarifa doméstica em Sorano?",
}


@pytest.mark.parametrize(
    ("earlier", "follow_up", "completed"),
    [
        (LINE["en"], "And in 2024?", "What was the rated capacity of the coastal line in 2024?"),
        (LINE["en"], "What about March?", "What was the rated capacity of the coastal line in March 2025?"),
        (LINE["fr"], "Et en 2024 ?", "Quelle était la capacité de la ligne côtière en 2024?"),
        (LINE["pt"], "E em 2024?", "Qual era a capacidade da linha costeira em 2024?"),
        (TARIFF["en"], "And in Kandu?", "What is the household tariff in Kandu?"),
        (TARIFF["en"], "Kandu in 2023?", "Kandu in 2023?"),
        (TARIFF["fr"], "et pour le Kandu ?", "Quel est le tarif domestique au Kandu?"),
        (TARIFF["pt"], "e em Kandu?", "Qual é a tarifa doméstica em Kandu?"),
        ("How much rice did Mirabu import?", "And Talvera?", "How much rice did Talvera import?"),
        (TARIFF["en"], "And in Cabo Verde?", "What is the household tariff in Cabo Verde?"),
        ("Did Sorano sell Kandu gas?", "And Mirabu?", "Did Sorano sell Kandu gas Mirabu?"),
        (LINE["en"], "And on 3 March?", "What was the rated capacity of the coastal line in 3 March 2025?"),
    ],
)
def test_another_time_or_place_replaces_the_earlier_one(earlier: str, follow_up: str, completed: str) -> None:
    """A year replaces the year, a name the name; a single word that may be either is left as it is."""
    assert completed_question(follow_up, earlier) == completed


@pytest.mark.parametrize(
    ("earlier", "follow_up", "words"),
    [
        (LINE["en"], "Who operates it?", "Who operates coastal line"),
        (LINE["en"], "When did it enter service?", "When enter service coastal line"),
        (LINE["en"], "And the losses?", "losses coastal line April 2025"),
        (LINE["en"], "How about the inland line?", "capacity inland line April 2025"),
        (LINE["fr"], "Qui l'exploite ?", "Qui exploite ligne côtière"),
        (LINE["fr"], "Quand est-elle entrée en service ?", "Quand entrée service ligne côtière"),
        (LINE["fr"], "Et les pertes ?", "pertes ligne côtière avril 2025"),
        (LINE["fr"], "Et pour la ligne intérieure ?", "capacité ligne intérieure avril 2025"),
        (LINE["pt"], "Quando entrou em serviço?", "Quando entrou serviço linha costeira"),
        (LINE["pt"], "E as perdas?", "perdas linha costeira abril 2025"),
        (LINE["pt"], "E quanto à linha interior?", "capacidade linha interior abril 2025"),
    ],
)
def test_what_is_left_out_comes_from_the_earlier_question(earlier: str, follow_up: str, words: str) -> None:
    """A pronoun, a new aspect and another object of the same kind inherit the rest, in three languages."""
    completed = completed_question(follow_up, earlier)
    assert [word for word in words.split() if word not in completed] == []


@pytest.mark.parametrize("earlier", [LINE["en"], LINE["fr"], LINE["pt"]], ids=["en", "fr", "pt"])
@pytest.mark.parametrize(
    "question",
    [
        "What is the royalty on lithium concentrate in Talvera?",
        "And what is the royalty on lithium concentrate in Talvera?",
        "Where does Norvik Bank have its office?",
        "How long does it take to register a mine?",
        "Quelle est la redevance sur le lithium au Talvera ?",
        "Et quelle est la redevance sur le lithium au Talvera ?",
        "Combien de stations le Mirabu a-t-il construites ?",
        "Qual é a taxa sobre o lítio em Talvera?",
        "E qual é a taxa sobre o lítio em Talvera?",
        "Thank you!",
        "And you?",
        "Good morning!",
    ],
)
def test_a_subject_of_its_own_takes_nothing_over(earlier: str, question: str) -> None:
    """A question that names its subject, and small talk, are searched unchanged."""
    assert completed_question(question, earlier) == question


def test_follow_ups_follow_on_each_other() -> None:
    """A row of follow-ups is completed one from the other, past thanks; nothing comes from nowhere."""
    asked = [TARIFF["en"], "And in Kandu?", "Thanks!", "And in 2023?", "And in Mirabu?"]
    assert completed_questions(asked)[3:] == [
        "What is the household tariff in Kandu in 2023?",
        "What is the household tariff in Mirabu in 2023?",
    ]
    assert completed_questions(["And in 2023?"]) == ["And in 2023?"]
    assert completed_questions([]) == []
