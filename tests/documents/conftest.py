"""The dossier, read once."""

from __future__ import annotations

import pytest

from ecowas_lc._language import language_of
from ecowas_lc.documents.document import DOSSIER, ReadDocument, read_document
from ecowas_lc.documents.files import read_file
from ecowas_lc.documents.sources import Source


@pytest.fixture(scope="session")
def dossier() -> list[ReadDocument]:
    return [read_document(read_file(path), language_of=language_of) for path in sorted(DOSSIER.iterdir())]


@pytest.fixture(scope="session")
def sources(dossier: list[ReadDocument]) -> list[Source]:
    return [Source(read.document, passage) for read in dossier for passage in read.passages]
