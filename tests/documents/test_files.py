"""Each format yields its text, headings, tables and pages, and nothing that is not text."""

from __future__ import annotations

import datetime as dt
import io
import zipfile

import docx
import pytest

from ecowas_lc._language import language_of
from ecowas_lc.documents.document import read_document, sentences_of
from ecowas_lc.documents.files import MOST_BYTES, MOST_CHARACTERS, read_bytes
from ecowas_lc.errors import UnreadableDocumentError

PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R 6 0 R]/Count 2>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj
4 0 obj<</Length 70>>stream
BT /F 12 Tf 20 200 Td (The first page speaks of 12 wells.) Tj ET      \nendstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
6 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 7 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj
7 0 obj<</Length 70>>stream
BT /F 12 Tf 20 200 Td (The second page speaks of 15 wells.) Tj ET     \nendstream endobj
trailer<</Root 1 0 R>>
"""


def test_a_pdf_has_pages() -> None:
    """A passage knows the page it stands on, and no passage spans two."""
    read = read_document(read_bytes(PDF, "wells.pdf"), language_of=language_of)
    assert [(passage.page, passage.text) for passage in read.passages] == [
        (1, "The first page speaks of 12 wells."),
        (2, "The second page speaks of 15 wells."),
    ]
    assert read.document.pages == 2


def test_a_docx_has_headings_and_tables() -> None:
    """Headings head passages, and a row of a table is a sentence with its column names."""
    document = docx.Document()
    document.add_heading("Wells", 1)
    document.add_paragraph("Issuer: Water Board")
    document.add_paragraph("The board drilled 12 wells.")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        (c for row in table.rows for c in row.cells), ("place", "depth", "Esra", "40 m"), strict=True
    ):
        cell.text = text
    packed = io.BytesIO()
    document.save(packed)
    read = read_document(read_bytes(packed.getvalue(), "wells.docx"), language_of=language_of)
    [passage] = read.passages
    assert (passage.heading, read.document.issuer) == ("Wells", "Water Board")
    assert [sentence.in_words for sentence in passage.sentences] == [
        "The board drilled 12 wells.",
        "place: Esra; depth: 40 m",
    ]


@pytest.mark.parametrize("name", ["wells.md", "wells.txt"])
@pytest.mark.parametrize("line", ["", "--- | ---\n"])
def test_a_table_needs_no_outer_bars(name: str, line: str) -> None:
    """Lines that follow each other and have equally many bars are a table; a single bar in a sentence is none."""
    text = f"# Wells\n\nThe board (a|b) drilled 12 wells.\n\nplace | depth\n{line}Esra | 40 m\nOsk | 55 m\n"
    [passage] = read_document(read_bytes(text.encode(), name), language_of=language_of).passages
    assert [sentence.in_words for sentence in passage.sentences][-3:] == [
        "The board (a|b) drilled 12 wells.",
        "place: Esra; depth: 40 m",
        "place: Osk; depth: 55 m",
    ]


def test_html_is_text_alone() -> None:
    """Scripts, styles and the head are not part of a document."""
    body = b"<body><h1>Puits</h1><p>Douze puits.</p><script>x()</script></body>"
    page = b"<html lang='fr'><head><title>Puits</title></head>" + body
    file = read_bytes(page, "puits.html")
    assert [(block.kind, block.text) for block in file.blocks] == [
        ("heading", "Puits"),
        ("paragraph", "Douze puits."),
    ]
    assert file.told == {"language": "fr", "title": "Puits"}


@pytest.mark.parametrize(
    ("text", "issuer", "date", "group"),
    [
        ("Issuer: Board\nDate: 14 May 2025\nGroup: energy\n\nText.", "Board", dt.date(2025, 5, 14), "energy"),
        (
            "Émetteur : Office\nDate : 1er mars 2025\nGroupe : digital\n\nTexte.",
            "Office",
            dt.date(2025, 3, 1),
            "digital",
        ),
        (
            "Emissor: Gabinete\nData: 2 de abril de 2025\nGrupo: protocol\n\nTexto.",
            "Gabinete",
            dt.date(2025, 4, 2),
            "protocol",
        ),
        (
            "---\nissuer: Board\ndate: 2025-05-14\ngroup: energy\n---\nText.",
            "Board",
            dt.date(2025, 5, 14),
            "energy",
        ),
    ],
)
def test_what_a_document_says_of_itself(text: str, issuer: str, date: dt.date, group: str) -> None:
    """Leading lines in three languages, and front matter, name issuer, date and group."""
    read = read_document(read_bytes(text.encode(), "note.md"), language_of=language_of)
    assert (read.document.issuer, read.document.date, read.document.groups) == (issuer, date, (group,))
    assert len(read.passages) == 1
    assert read.text.startswith("Text")


def test_spans_are_those_of_the_text() -> None:
    """The offsets of a passage and its sentences are their positions in the document's text."""
    text = "# A\n\nOne sentence. Dr. Tolin came at 3.5 km. A third!\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    read = read_document(read_bytes(text.encode(), "a.md"), language_of=language_of)
    for passage in read.passages:
        assert read.text[passage.start : passage.end] == passage.text
        for sentence in passage.sentences:
            assert read.text[sentence.start : sentence.end] == sentence.text
    assert [sentence.text for sentence in read.passages[0].sentences] == [
        "One sentence.",
        "Dr. Tolin came at 3.5 km.",
        "A third!",
        "1 | 2",
    ]


def test_sentences_end_where_they_end() -> None:
    """Initials, abbreviations and decimals end no sentence."""
    text = "Mr. A. Diallo paid approx. 3.5 million. Is it so? « Oui. » Yes."
    assert [text[start:end] for start, end in sentences_of(text)] == [
        "Mr. A. Diallo paid approx. 3.5 million.",
        "Is it so?",
        "« Oui. »",
        "Yes.",
    ]


def bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"word/{number}.xml", b"\0" * 80_000_000)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"\xff\xfenot utf-16\xd8", "a.txt", "not UTF-8"),
        ("é".encode("latin-1"), "a.txt", "not UTF-8"),
        (b"", "a.md", "no text"),
        (b"text", "a.odt", "not supported"),
        (b"%PDF-1.4", "a.pdf", "damaged"),
        (b"PK\x03\x04", "a.docx", "damaged"),
        (b"---\na: [\n---\ntext", "a.md", "not YAML"),
        (b"x" * (MOST_BYTES + 1), "a.txt", "Split it"),
        (b"word " * (MOST_CHARACTERS // 4), "a.txt", "Split it"),
    ],
)
def test_bad_files_are_named(content: bytes, name: str, said: str) -> None:
    """A file that can't be used is an error that names the file and the reason."""
    with pytest.raises(UnreadableDocumentError, match=rf"{name}.*{said}"):
        read_bytes(content, name)


def test_a_zip_bomb_is_not_unpacked() -> None:
    """The unpacked size of a DOCX is checked before anything is unpacked."""
    with pytest.raises(UnreadableDocumentError, match="unpacks to more than"):
        read_bytes(bomb(), "bomb.docx")


def test_front_matter_with_a_colon_in_its_title_is_read() -> None:
    """A title with a colon is no YAML without quotation marks, and people write it; the document is read."""
    text = "---\ntitle: Digital charter: a review\ndate: 2025-05-30\n---\nThe portal had 61 visits.\n"
    assert read_bytes(text.encode(), "a.md").told == {"title": "Digital charter: a review", "date": "2025-05-30"}
