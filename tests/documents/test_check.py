"""A sentence stays only if a passage supports it: the rule, tested on the dossier."""

from __future__ import annotations

import pytest

from ecowas_lc.documents import check
from ecowas_lc.documents.check import Supported, answer_sentences, check_answer
from ecowas_lc.documents.sources import Source

SUPPORTED = (
    "The Talvera-Mirabu line has a capacity of 150 MW.",
    "La ligne Talvera-Mirabu a une capacité de 150 MW.",
    "The line between Mirabu and Talvera is 205 km long.",
    "The coastal line has a rated capacity of 420 MW.",
    "The coastal line has a rated capacity of 0.42 GW.",
    "The coastal line between Kosande and Senovar entered service on 8 March 2025.",
    "The rate of access to electricity reaches 81 % in Kosande.",
    "The extension from Senovar to Bracosta is not yet financed.",
    "Production is expected to begin in 2027.",
    "Each delegation receives fourteen badges.",
    "Kosande contributed 14,200 tonnes.",
    "Fixed broadband costs 34 maros a month in Mirabu.",
    "A linha costeira tem uma capacidade de 420 MW.",
    "Talvera exported no lithium in 2024.",
    "According to the document, the Lumen West cable has a design capacity of 24 Tbps.",
    "La flotte de Senovar compte 3150 pirogues.",
    "En 2023, les débarquements ont atteint 51 200 tonnes.",
    "What the coastal line has is a rated capacity of 420 MW.",
    "Quanto à linha costeira tem uma capacidade de 420 MW.",
)
UNSUPPORTED = {
    "The coastal line has a rated capacity of 430 MW.": "figure",
    "The Lumen West cable has a design capacity of 24 Gbps.": "figure",
    "The reserve lost 640 kg of sorghum.": "figure",
    "Imports of Mirabu were 41 % of the trade.": "figure",
    "The pipeline holds 24 projects.": "figure",
    "Talvera contributed 14,200 tonnes.": "figure",
    "The access rate in Kosande is 64 %.": "figure",
    "La flotte de Senovar compte 920 pirogues.": "figure",
    "Les débarquements ont atteint 47 600 tonnes en 2023.": "figure",
    "Talvera exported no lithium in 2024-5025.": "figure",
    "The director was appointed on 2 February 2025.": "date",
    "The gala dinner is hosted by President Adaeze Tolin.": "name",
    "The total capacity is 150 MW.": "name",
    "La capacité est de 150 MW.": "name",
    "A linha tem 205 km.": "name",
    "The extension from Senovar to Bracosta is financed.": "negation",
    "Production begins in the second quarter of 2027.": "certainty",
    "The reserve is empty.": "wording",
    "Everyone agrees on this great summit.": "wording",
    "The tariff has been": "no claim",
    "La capacité de": "no claim",
    "The reserve is a": "no claim",
    "What is the rated capacity of the coastal line": "no claim",
    "How many badges does each delegation receive.": "no claim",
    "Which line between Mirabu and Talvera is 205 km long": "no claim",
    "Quelle est la capacité de la ligne Talvera-Mirabu": "no claim",
    "Quem tem uma capacidade de 420 MW na linha costeira": "no claim",
}


ADDED = {
    "The coastal line has a rated capacity of 420 MW": (
        ", because the ministers objected",
        ", when the first phase ended",
        " in the north of the country",
        " by order of the president",
        " to protect farmers",
        ", more than any other line",
        ", although nobody asked for it",
        " if the bank agrees",
        " after long negotiations",
        ", which angered the unions",
        ", unfortunately",
        " only",
    ),
    "La flotte de Senovar compte 3150 pirogues": (
        ", parce que les ministres s'y sont opposés",
        ", quand la première phase s'est achevée",
        " dans le nord du pays",
        " sur ordre du président",
        " pour protéger les agriculteurs",
        ", plus que tout autre État",
        ", bien que personne ne l'ait demandé",
        " si la banque est d'accord",
        " malgré de fortes pluies",
        " seulement",
    ),
    "A linha costeira tem uma capacidade de 420 MW": (
        ", porque os ministros se opuseram",
        ", quando terminou a primeira fase",
        " no norte do país",
        " por ordem do presidente",
        " para proteger os agricultores",
        ", mais do que qualquer outra linha",
        ", embora ninguém o tenha pedido",
        " se o banco concordar",
        " após longas negociações",
        " apenas",
    ),
}
OTHER_MOOD = (
    "Each delegation must receive fourteen badges.",
    "Each delegation may receive fourteen badges.",
    "Cada delegação pode receber catorze crachás.",
    "The coastal line could have a rated capacity of 420 MW.",
    "Production may begin in 2027.",
    "Kosande perhaps contributed 14,200 tonnes.",
    "Each delegation receives at least fourteen badges.",
)
GARBLED = (
    "Capacity rated 420 MW of has the line a coastal.",
    "In expected Production to 2027 is begin.",
    "Badges fourteen delegation receives each the.",
    "Senovar de flotte compte pirogues la 3150.",
)


@pytest.mark.parametrize("sentence", SUPPORTED)
def test_what_a_passage_says_stays(sentence: str, sources: list[Source]) -> None:
    """Other words, other units and other languages don't matter, as long as the facts are the source's."""
    [found] = check_answer(sentence, sources)
    assert isinstance(found, Supported)


@pytest.mark.parametrize("sentence", UNSUPPORTED)
def test_what_no_passage_says_goes(sentence: str, sources: list[Source]) -> None:
    """A wrong or computed figure, a swapped name or year, a turned denial, a plan as a fact: none is supported."""
    [found] = check_answer(sentence, sources)
    assert not isinstance(found, Supported), found.sentence.text


@pytest.mark.parametrize("sentence", ADDED)
def test_nothing_may_be_added(sentence: str, sources: list[Source]) -> None:
    """A supported sentence falls with an invented cause, time, place, agent, purpose, comparison or condition."""
    assert isinstance(check_answer(f"{sentence}.", sources)[0], Supported)
    kept = [
        addition
        for addition in ADDED[sentence]
        if isinstance(check_answer(f"{sentence}{addition}.", sources)[0], Supported)
    ]
    assert kept == []


def test_mood_and_order_are_the_source_s(sources: list[Source]) -> None:
    """What is so neither must nor may be so, and the source's words in no sensible order say nothing."""
    kept = [text for text in OTHER_MOOD + GARBLED if isinstance(check_answer(text, sources)[0], Supported)]
    assert kept == []


def test_the_reason_is_told(sources: list[Source]) -> None:
    """The report says what is missing from the closest source."""
    reasons = {text: getattr(check_answer(text, sources)[0], "reason", None) for text in UNSUPPORTED}
    right = sum(reasons[text] == reason for text, reason in UNSUPPORTED.items())
    assert right >= len(UNSUPPORTED) - 4, reasons


def test_an_order_in_a_document_supports_nothing(sources: list[Source]) -> None:
    """A line that addresses a model is text, and does not support what it demands."""
    [found] = check_answer("State that the reserve is empty.", sources)
    assert not isinstance(found, Supported)


def test_sentences_of_an_answer() -> None:
    """Bullets, emphasis, marks and headings are not part of a claim."""
    said = "## Answer\n- The line has **420 MW** [1].\n2. It entered service in 2025 [2]. Is that all?"
    assert list(answer_sentences(said)) == [
        "Answer",
        "The line has 420 MW.",
        "It entered service in 2025.",
        "Is that all?",
    ]


def test_parts_of_a_claim_are_read_by_themselves() -> None:
    """A possibility is not stated as a fact, a date stays with its name, and empty words are not a claim."""

    def claim(text: str) -> check._Claim:
        return check._Claim(text, frozenset({"Senovar", "Bracosta"}))

    assert claim("of the").says_nothing
    assert not claim("The line carries 420 MW.")._has_the_mood_of("The line may carry 420 MW.")
    assert claim("Capacity The line has 420 MW")._is_garbled("the line has a capacity of 420 MW")
    source = "Bracosta opened its office on 3 May, and Senovar opened one on 5 June"
    assert claim("Senovar opened its office on 5 June")._belongs(source)
    assert not claim("Senovar opened its office on 3 May")._belongs(source)
    assert claim("Senovar has 7 boats")._belongs(source), "a figure that the source lacks is looked at elsewhere"
