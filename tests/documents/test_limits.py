"""Documents at their limits: files that are too large, odd markup, answers without evidence, missing extras."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from ecowas_lc.documents import answer_formats, document, files, terms, word_vectors
from ecowas_lc.documents.answers import grounded_answer
from ecowas_lc.documents.facts import quantities_in
from ecowas_lc.documents.files import UnreadableDocumentError
from ecowas_lc.errors import MissingExtraError


def test_files_that_can_not_be_read_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a pipe, one that is too large, and one with too much text have a message each."""
    file = tmp_path / "note.txt"
    with pytest.raises(UnreadableDocumentError, match="can't be read: No such file"):
        files.read_file(file)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UnreadableDocumentError, match=r"pipe\.txt is a pipe or a device"):
        files.read_file(tmp_path / "pipe.txt")
    file.write_text("Five words are in here.")
    monkeypatch.setattr(files, "MOST_CHARACTERS", 10)
    with pytest.raises(UnreadableDocumentError, match="more than 10 characters"):
        files.read_file(file)
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    with pytest.raises(UnreadableDocumentError, match="has 23 bytes; the limit is 10"):
        files.read_file(file)


def pdf(*objects: str) -> bytes:
    """A PDF of these objects, the first of which is the catalogue."""
    made, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(made))
        made += f"{number} 0 obj\n{each}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    locked = " /Encrypt 4 0 R /ID [<00><00>]" if len(objects) > 3 else ""
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer <</Size {size} /Root 1 0 R{locked}>>\n"
    return made + f"{end}startxref\n{len(made)}\n%%EOF".encode()


_CATALOGUE = "<</Type /Catalog /Pages 2 0 R>>"
_EMPTY_PAGE = "<</Type /Page /Parent 2 0 R /MediaBox [0 0 99 99]>>"
_LOCK = f"<</Filter /Standard /V 1 /R 2 /P -4 /O <{'5a' * 32}> /U <{'5b' * 32}>>>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pdf(_CATALOGUE, "<</Type /Pages /Count 1 /Kids [3 0 R]>>", _EMPTY_PAGE), "has no text"),
        (pdf(_CATALOGUE, "<</Type /Pages /Count 2 /Kids [3 0 R 9 0 R]>>", _EMPTY_PAGE), "is damaged"),
        (pdf(_CATALOGUE, "<</Type /Pages /Count 1 /Kids [3 0 R]>>", _EMPTY_PAGE, _LOCK), "is encrypted"),
    ],
    ids=["scanned", "damaged", "encrypted"],
)
def test_a_pdf_without_readable_text_says_why(content: bytes, said: str) -> None:
    """A scanned PDF, one with a missing page and one with a password: each error says what to do."""
    with pytest.raises(UnreadableDocumentError, match=rf"paper\.pdf {said}"):
        files.read_bytes(content, "paper.pdf")


def test_paragraphs_of_a_pdf_end_with_a_short_line() -> None:
    """A PDF has no blank lines between paragraphs."""
    lines = [
        "A long line of a paragraph that goes on",
        "and ends.",
        "Another long line of the next paragraph",
        "ends.",
    ]
    found = [block.text for block in files._blocks_of_lines(lines, is_markdown=False, page=1)]
    assert found == [" ".join(lines[:2]), " ".join(lines[2:])]


def test_dates_that_do_not_exist_are_none() -> None:
    """A document's date is its first real one."""
    assert document._date_of("30 February 2024") is None
    assert str(document._date_of("29 February 2023 or 3 March 2023")) == "2023-03-03"


def test_odd_markup_is_read_as_text() -> None:
    """Front matter that is a list, blocks in a table's cells, and words broken at the end of a line."""
    found = files.read_bytes(b"---\n- a\n---\nThe text.\n", "note.md")
    assert "The text." in [block.text for block in found.blocks]
    table = b"<table><tr><td><p>One</p></td><td><div><p>Two</p></div></td></tr></table>"
    assert " ".join(block.text for block in files.read_bytes(table, "note.html").blocks).count("Two") == 1
    assert files._rejoined(["inter-", "connection"]) == ["interconnection"]


def test_answers_without_a_check_or_evidence() -> None:
    """With the check off nothing changes; with flags, a sentence without evidence is marked."""
    given: dict[str, Any] = {"evidence": (), "sources": (), "language": "en"}
    assert grounded_answer("It is so.", mode="off", **given).text == "It is so."
    flagged = grounded_answer("The line cost 4 million dollars.", mode="flag", **given).text
    assert flagged.startswith("The line cost 4 million dollars. ")


def test_citations_that_are_none_are_left_out() -> None:
    """Notes of other kinds and marks that the text lacks are skipped, and an address that is none is no link."""
    citation: Any = {"number": 1, "start": 0, "end": 3, "cited_text": "", "title": "", "file": "", "page": None}
    assert list(answer_formats._pieces("abc", [citation])) == ["abc"]
    note = {"type": "citation", "extras": {"number": "one"}}
    message = AIMessage([{"type": "text", "text": "- a", "annotations": [note]}])
    assert answer_formats.citations_in(message) == []
    assert answer_formats.answer_as_markdown(message).endswith("a")
    assert answer_formats._address(citation, lambda _: "http://[") is None


def test_words_and_figures_in_rare_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points may separate thousands, what is replaced may have a date, and a long question counts by its end."""
    [quantity] = quantities_in("1.200.500,5 MW")
    assert max(quantity.values) > 1e9
    assert document._replaced_by((), "the circular of 3 March 2024").date.year == 2024
    assert word_vectors.likenesses_by_vector([], ["a"]).shape == (0, 1)
    monkeypatch.setattr(word_vectors, "_kept", {})
    asked = "How long is the canal? " * 500
    assert word_vectors.similarities_to(asked, ["mill"]) == word_vectors.similarities_to(asked[-1500:], ["mill"])
    monkeypatch.setattr(word_vectors, "_kept", {})
    monkeypatch.setattr(word_vectors, "_MOST_KEPT", 2)
    assert len(word_vectors.vectors_of(["canal", "bridge", "mill", "canal"])) == 4
    assert [text for text, _ in word_vectors._kept] == ["bridge", "mill"], "the oldest is dropped"
    monkeypatch.setattr(terms, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="snowballstemmer"):
        terms._stemmers()
