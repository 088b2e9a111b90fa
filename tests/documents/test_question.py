"""How a question is interpreted: what it asks for, and a second question in the same sentence."""

from __future__ import annotations

from importlib.resources import files

import pytest

from ecowas_lc.documents.question import AnswerKind, read_question
from ecowas_lc.documents.terms import content_words, likeness


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("How many people were on board when the ferry ran aground?", "quantity"),
        ("Que montante garantiu o banco?", "quantity"),
        ("What do farmers have to pay each season?", "quantity"),
        ("Qu'est-ce qui a provoqué la panne ?", "why"),
        ("What made the council choose Sorano?", "why"),
        ("Em que datas é proibida a pesca?", "time"),
        ("Which firm is laying the cable?", "who"),
        ("What was the name of the ship?", "who"),
        ("Onde decorre a sessão?", "where"),
        ("Que país acolhe a sessão?", "who"),
        ("What is the total bill for the cable?", "quantity"),
    ],
)
def test_the_first_question_word_says_what_is_asked_for(text: str, wanted: AnswerKind) -> None:
    """A question asks for the kind of answer that its first question word names, whatever else it contains."""
    assert read_question(text).wanted == wanted


@pytest.mark.parametrize(
    ("text", "kinds", "subject"),
    [
        ("Who pays for the school meals, and until when?", ("who", "time"), "meals"),
        ("Quelle est la capacité du barrage et quand a-t-il ouvert ?", ("quantity", "time"), "barrage"),
        ("Onde vai ter lugar a sessão, e em que dia?", ("where", "time"), "sessão"),
    ],
)
def test_a_second_question_is_about_the_same_thing(text: str, kinds: tuple[str, str], subject: str) -> None:
    """Two questions in one sentence are answered one by one, and the second has the subject of the first."""
    question = read_question(text)
    assert question.then is not None
    assert (question.wanted, question.then.wanted) == kinds
    assert subject in question.terms
    assert subject in question.then.terms


@pytest.mark.parametrize(
    "text",
    [
        "The ministry and the charity do not agree on the number of cases: what does each say?",
        "How has the cost of the canal changed between the two versions of the note?",
        "Quel bilan donnent respectivement le ministère et l'hôpital ?",
        "What coverage do the bureau and the ministry report?",
        "The two bureaus publish different totals for trade. What are the two figures?",
    ],
)
def test_a_question_can_ask_for_both_sides(text: str) -> None:
    """Words that ask for each side's figure are no part of the subject."""
    question = read_question(text)
    assert question.asks_for_both
    assert not {"versions", "respectivement", "agree", "different", "figures"} & set(question.terms)


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("How many cattle died during the campaign?", "cattle"),
        ("How many fraud cases were reported?", "fraud"),
        ("Combien d'élèves fréquentent les cantines ?", "élèves"),
        ("What is the park's capacity?", "capacity"),
        ("What were the dam's annual losses in 2024?", "losses"),
    ],
)
def test_the_noun_that_is_counted(text: str, head: str) -> None:
    """What is counted is a noun: no verb after it, and not the cases of something."""
    assert read_question(text).head == head


def test_what_is_counted_is_no_measure() -> None:
    """A unit in the name of a thing ("poids lourd") does not limit the answers; a duration does."""
    times = read_question("Combien de fois un poids lourd est-il contrôlé ?")
    assert times.counts
    assert not times.families
    months = read_question("En combien de temps une variété est-elle admise ?")
    assert not months.counts
    assert "month" in months.families


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("cases", "habitantes", False),  # "cas" is the stem of "casas" too
        ("gold", "ore", False),  # "or" is the stem of "ore" in French
        ("casas", "houses", True),
        ("eau", "water", True),
        ("weighbridge", "báscula", True),
        ("midwives", "sages-femmes", True),
        ("maize", "maïs", True),
        ("maize", "mais", False),
        ("intérieure", "interconnection", False),
        ("transmissor", "transmitir", True),  # alike beyond the prefix
    ],
)
def test_stems_of_other_languages_are_no_likeness(first: str, second: str, alike: bool) -> None:
    """A short stem that an unrelated word has in another language is no likeness; a shared meaning is."""
    assert (likeness(first, second) > 0) is alike


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("une mine d'or", ["mine", "gold"]),
        ("des pièces en or ou en argent", ["pièces", "gold", "argent"]),
        ("dans l'est du pays", ["east", "pays"]),
        ("l'été 2025", ["summer"]),
        ("elle l'est plus qu'elle ne l'a été", []),
        (
            "le Fonds a versé, alors que plusieurs autres, malgré tout, n'ont rien versé",
            ["Fonds", "versé", "malgré"],
        ),
        ("antes de outras, contudo, alguns já pagaram", ["pagaram"]),
        ("several others, however, have always paid", ["paid"]),
    ],
)
def test_function_words_say_nothing(text: str, words: list[str]) -> None:
    """Some French nouns look like function words: gold, east and summer."""
    assert content_words(text) == words


def test_the_glossary_has_single_words_in_three_languages() -> None:
    """A form of several words would give its meaning to each of them: "pomme de terre" to every "terre"."""
    text = (files("ecowas_lc.documents") / "glossary.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            columns = [[form.strip() for form in column.split(",")] for column in line.split("|")]
            assert len(columns) == 3, line
            assert all(form and " " not in form for column in columns for form in column), line
