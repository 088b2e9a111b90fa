"""The data that is computed from the data files and shipped with them."""

from __future__ import annotations

import pytest

from ecowas_lc.supervisor.routing import lexical
from ecowas_lc.supervisor.routing.build import fit_lexical_constants
from ecowas_lc.supervisor.routing.embedding import (
    SHIPPED,
    OfflineEmbeddings,
    example_vectors,
    stored_digest,
    text_digest,
)
from ecowas_lc.twg import example_questions

REBUILD = "run: python -m ecowas_lc.supervisor.routing.build"
TEXTS = [example.question for example in example_questions()]


def test_the_shipped_vectors_are_of_the_shipped_questions() -> None:
    """If you edit the examples, rebuild the vectors; otherwise every user would compute them for 40 seconds."""
    assert stored_digest(SHIPPED) == text_digest(TEXTS), REBUILD


def test_the_shipped_vectors_are_the_offline_models() -> None:
    """The vectors are the model's for the questions, within the precision of 8 bits."""
    shipped = example_vectors(OfflineEmbeddings(), TEXTS)
    now = OfflineEmbeddings().embed_documents(TEXTS[::400])
    for row, vector in zip(shipped[::400], now, strict=True):
        assert float(row @ vector) == pytest.approx(1, abs=0.01), REBUILD


def test_the_lexical_constants_are_those_of_the_data() -> None:
    """The constants in the code follow from the example questions, within the noise of a few new terms."""
    shipped = (lexical.OWN, lexical.RIVAL, lexical.GENERAL, lexical.ELSEWHERE, lexical.BIAS)
    assert fit_lexical_constants() == pytest.approx(shipped, abs=0.5), REBUILD
