"""How terms are found in a question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.supervisor.routing.lexical import Term, Vocabulary, parse_term
from ecowas_lc.supervisor.routing.text import fold, words, words_in_place


def found(question: str, *terms: str) -> list[str]:
    return [match.term for match in Vocabulary(Term(term, "g") for term in terms).matches(question)]


def weight(question: str, term: Term) -> float:
    [match] = Vocabulary([term]).matches(question)
    return match.weights[term.label]


def test_case_accents_and_joins_make_no_difference() -> None:
    """Accents may be missing, and compounds may be written in several ways."""
    assert found("L'ÉLECTRICITE arrive", "électricité") == ["électricité"]
    assert found("Que faire de l'œuf ?", "oeuf") == ["oeuf"]
    assert found("mini grids and Mini-Grids", "mini-grids") == ["mini-grids", "mini-grids"]


def test_a_stem_finds_every_ending() -> None:
    """``electrif*`` finds electrify, electrified and electrification, and nothing that only contains it."""
    assert found("Electrified villages", "electrif*") == ["electrif*"]
    assert found("electrification", "electrif*") == ["electrif*"]
    assert found("unelectrified", "electrif*") == []


def test_a_phrase_may_hold_little_words() -> None:
    """Articles and prepositions may stand between the words of a phrase; other words may not."""
    assert found("les pertes sur le réseau", "pertes réseau") == ["pertes réseau"]
    assert found("les pertes du vieux réseau", "pertes réseau") == []


def test_the_longest_term_hides_those_within_it() -> None:
    """``data room`` refers to money and no longer to data."""
    assert found("the data room opens", "data", "data room") == ["data room"]
    assert found("data for the data room", "data", "data room") == ["data", "data room"]
    assert found("in the data room for the staff", "room", "room bank*", "data room") == ["data room"]


def test_a_term_that_needs_its_accents_gets_them() -> None:
    """``maïs`` is a crop, ``mais`` is French for but and Portuguese for more."""
    assert found("le maïs du voisin", "=maïs") == ["=maïs"]
    assert found("mais oui", "=maïs") == []


def test_a_term_weighs_less_in_another_language() -> None:
    """``data`` in a Portuguese question is more likely a date than data, but not certainly."""
    term = Term("data", "digital", "en")
    assert weight("What does the data show about us?", term) == 1
    assert 0 < weight("Qual é a data da reunião?", term) < 1
    assert weight("Qual é a data da reunião?", Term("data", "digital", "xx")) == 1
    assert weight("data", term) == 1


def test_one_term_may_point_to_several_labels_with_weights() -> None:
    """Each label keeps its own weight; of two weights, the higher one counts."""
    terms = [Term("tariff*^0.5", "energy"), Term("tariff*^2", "trade"), Term("tariff*", "energy")]
    [match] = Vocabulary(terms).matches("tariffs")
    assert match.weights == {"energy": 1.0, "trade": 2.0}


@pytest.mark.parametrize(
    "term", ["solar^", "solar^x", "solar^0", "solar^-1", "solar^nan", "solar^inf", "***", "^2"]
)
def test_a_term_that_can_not_be_read_is_named(term: str) -> None:
    """An error in a user's term is reported with the term."""
    with pytest.raises(InvalidInputError, match=r"[*^]"):
        parse_term(term)


@given(st.text(max_size=80))
def test_any_text_can_be_searched(text: str) -> None:
    """Whatever script or sign a question contains, the search ends and finds only what is in the text."""
    vocabulary = Vocabulary([Term("solar power", "energy"), Term("électri*", "energy"), Term("=maïs", "food")])
    for match in vocabulary.matches(text):
        assert 0 <= match.start < match.end <= len(words(text))


@given(st.text(alphabet="abcéïçœ '-_.9Ñß", max_size=40))
def test_folding_keeps_the_count_of_words(text: str) -> None:
    """Words with and without their accents have the same positions."""
    assert words(text) == [one.folded for one in words_in_place(text)]
    assert fold(fold(text)) == fold(text)
