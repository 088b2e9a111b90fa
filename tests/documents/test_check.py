"""A sentence stays only if a passage supports it: the rule, tested on the dossier."""

from __future__ import annotations

import pytest

from ecowas_lc.documents.check import Supported, answer_sentences, check_answer
from ecowas_lc.documents.evidence import Source

SUPPORTED = (
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
    "The director was appointed on 2 February 2025.": "date",
    "The gala dinner is hosted by President Adaeze Tolin.": "name",
    "The extension from Senovar to Bracosta is financed.": "negation",
    "Production begins in the second quarter of 2027.": "certainty",
    "The reserve is empty.": "wording",
    "Everyone agrees on this great summit.": "wording",
    "The tariff has been": "no claim",
    "La capacité de": "no claim",
    "The reserve is a": "no claim",
}


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
