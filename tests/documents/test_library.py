"""Documents in Redis: added, found across languages, superseded, removed; and the questions of the dossier."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from ecowas_lc.documents.answers import grounded_answer
from ecowas_lc.documents.library import Documents
from ecowas_lc.errors import InvalidInputError
from tests.documents.conftest import DOSSIER
from tests.fixtures.servers import RunningServer

QUESTIONS = [
    json.loads(line)
    for line in (files("ecowas_lc.twg") / "data" / "eval" / "grounding_dev.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]


@pytest.fixture
def documents(redis_server: RunningServer, prefix: str) -> Documents:
    return Documents.from_url(redis_server.url, prefix=prefix)


def squeezed(text: str) -> str:
    return re.sub(r"[\s|]+", " ", text)


def test_the_questions_of_the_dossier(documents: Documents) -> None:
    """Answerable questions get the right quotation, also across languages and from tables; the others get none."""
    documents.add(DOSSIER)
    right = declined = recalled = 0
    answerable = [question for question in QUESTIONS if question["answerable"]]
    for question in QUESTIONS:
        evidence, sources = documents.evidence(question["q"])
        if not question["answerable"]:
            declined += not evidence
            continue
        said = " ".join(one.sentence.text for one in evidence)
        quoted = any(
            squeezed(support["quote"]) in squeezed(one.sentence.text)
            for support in question["support"]
            for one in evidence
        )
        right += quoted and all(text in said for text in question["must_contain"])
        found = {source.document.name for source in sources[:5]}
        recalled += all(support["doc"] in found for support in question["support"])
    assert right / len(answerable) >= 0.95
    assert declined / (len(QUESTIONS) - len(answerable)) >= 0.95
    assert recalled / len(answerable) >= 0.95


def test_adding_again_changes_nothing(documents: Documents) -> None:
    """A document is known by its text, whatever its file is called."""
    first = documents.add(DOSSIER / "energie_tarifs_2025.txt")
    again = documents.add(DOSSIER / "energie_tarifs_2025.txt")
    assert [document.name for document in first.added] == ["energie_tarifs_2025.txt"]
    assert (again.added, again.known) == ((), first.added)
    assert documents.all() == first.added


def test_a_superseded_document_answers_only_for_its_time(documents: Documents) -> None:
    """The newer note answers, and the older one if the question asks for it, in whatever order they were added."""
    documents.add(DOSSIER / "energy_interconnection_2024.md", DOSSIER / "energy_interconnection_2025.md")
    [now], _ = documents.evidence("What is the rated capacity of the coastal line?")
    assert "420 MW" in now.sentence.text
    both, _ = documents.evidence("What capacity did the 2024 note give for the coastal line, and what is it now?")
    assert ["380 MW" in one.sentence.text for one in both] == [True, False]


def test_removing_a_document_removes_it_from_every_answer(documents: Documents) -> None:
    """After a removal, no search or answer uses the document, and the one that it replaced is valid again."""
    report = documents.add(DOSSIER / "energy_interconnection_2024.md", DOSSIER / "energy_interconnection_2025.md")
    documents.remove(report.added[1].id)
    assert [source.document.name for source in documents.search("coastal line capacity")] == [
        "energy_interconnection_2024.md"
    ]
    [one], _ = documents.evidence("What is the rated capacity of the coastal line?")
    assert "380 MW" in one.sentence.text
    with pytest.raises(InvalidInputError, match="no document"):
        documents.remove(report.added[1].id)


def test_groups_see_their_documents(documents: Documents, tmp_path: Path) -> None:
    """A group finds its own documents and those for every group, and no other's."""
    note = tmp_path / "note.md"
    note.write_text("# Note\n\nThe tariff review begins on 4 May 2026 in Kosande.\n", encoding="utf-8")
    documents.add(note)
    documents.add(DOSSIER / "digital_cables_2025.md")
    assert {source.document.name for source in documents.search("tariff cable", group="energy")} == {"note.md"}
    assert {source.document.name for source in documents.search("tariff cable", group="digital")} == {
        "note.md",
        "digital_cables_2025.md",
    }


def test_an_answer_is_checked_quoted_or_declined(documents: Documents) -> None:
    """Unsupported sentences are removed; if none remains, the documents are quoted or the answer is declined."""
    documents.add(DOSSIER)
    question = "How many tonnes of cereals did the regional reserve hold at the end of June 2025?"
    evidence, sources = documents.evidence(question, group="agriculture")
    said = "The physical reserve held 52,300 tonnes of cereals on 30 June 2025. It will soon hold 90,000 tonnes."
    answer = grounded_answer(said, evidence=evidence, sources=sources, language="en")
    assert answer.text == "The physical reserve held 52,300 tonnes of cereals on 30 June 2025. [1]"
    assert [one.reason for one in answer.removed] == ["figure"]
    [span] = answer.citations
    assert answer.text[span.start : span.end] == said[: span.end]
    [annotation] = answer.as_message().content_blocks[0]["annotations"]
    assert annotation["type"] == "citation"
    assert "52,300" in annotation["cited_text"]

    nonsense = grounded_answer("The reserve is empty.", evidence=evidence, sources=sources, language="fr")
    assert nonsense.quoted
    assert "52,300" in nonsense.text
    assert "(en anglais)" in nonsense.text

    evidence, sources = documents.evidence("Combien de têtes de bétail transhument chaque année ?")
    declined = grounded_answer("Environ 4 millions.", evidence=evidence, sources=sources, language="fr")
    assert declined.declined
    assert declined.text.startswith("Les documents ne le disent pas.")
    assert "4 millions" not in declined.text


def test_a_replaced_document_that_is_added_later_is_superseded(documents: Documents, tmp_path: Path) -> None:
    """Which of two documents counts does not depend on which was added first."""
    newer, older = tmp_path / "a.md", tmp_path / "b.md"
    newer.write_text(
        "# Circular\n\nDate: 1 April 2025\n\nThis circular cancels the circular of 3 May 2022.\n\n"
        "A berth costs 42 talers.\n"
    )
    older.write_text("# Circular\n\nDate: 3 May 2022\n\nA berth costs 36 talers.\n")
    for path in (newer, older):
        documents.add(path)
    evidence, sources = documents.evidence("How much does a berth cost?")
    assert {source.document.name for source in sources if source.superseded} == {"b.md"}
    assert ["42 talers" in one.sentence.text for one in evidence] == [True]


def test_words_of_another_language_are_found_that_no_glossary_lists(documents: Documents, tmp_path: Path) -> None:
    """Words that share a sense in the wordnets find passages of another language and answer from them."""
    (tmp_path / "a.txt").write_text("O lamantim tem 312 quilos.\n\nQuem conduzir sem capacete paga 40 talers.\n")
    (tmp_path / "b.txt").write_text("The council met in May.\n\nThe library has 900 books.\n")
    documents.add(tmp_path)
    assert documents.search("helmet")[0].document.name == "a.txt"


def test_documents_that_differ_are_both_quoted(documents: Documents) -> None:
    """If two documents give different figures, both are shown with their dates."""
    documents.add(DOSSIER / "minerals_lithium_2025.md", DOSSIER / "minerais_transparencia_2024.txt")
    evidence, sources = documents.evidence("What is the royalty on lithium concentrate in Talvera?")
    answer = grounded_answer("", evidence=evidence, sources=sources, language="en")
    assert answer.text.startswith("The documents differ:")
    assert "6 per cent" in answer.text
    assert "5 por cento" in answer.text
    assert "2024-11-22" in answer.text


def test_files_that_can_not_be_read_are_named(documents: Documents, tmp_path: Path) -> None:
    """A bad file is named with the reason, and the others are added."""
    (tmp_path / "latin.txt").write_bytes("Les réserves".encode("latin-1"))
    (tmp_path / "empty.md").write_text("# Title only\n", encoding="utf-8")
    (tmp_path / "fake.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "fake.docx").write_bytes(b"PK nothing")
    (tmp_path / "good.txt").write_text("The mill of Esra grinds 40 tonnes a day.\n", encoding="utf-8")
    (tmp_path / "ignored.bin").write_bytes(b"x")
    report = documents.add(tmp_path)
    assert [document.name for document in report.added] == ["good.txt"]
    assert {skipped.name for skipped in report.skipped} == {"latin.txt", "empty.md", "fake.pdf", "fake.docx"}
    with pytest.raises(InvalidInputError, match="no file or folder"):
        documents.add(tmp_path / "nowhere")
