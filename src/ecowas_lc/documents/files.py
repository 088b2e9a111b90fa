"""Reading files as text: PDF, DOCX, Markdown, HTML and plain text, as headings, paragraphs and table rows.

The content of files is untrusted: scripts and styles are dropped, and sizes are limited before anything is
unpacked. A file that cannot be read raises :class:`UnreadableDocumentError` with the reason, so that the other
files of a folder can still be added.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ecowas_lc._extras import install_command
from ecowas_lc.errors import InvalidInputError, MissingExtraError, UnreadableDocumentError

MOST_BYTES = 50_000_000
MOST_CHARACTERS = 10_000_000
_MOST_UNPACKED = 200_000_000
_EXTRA = "documents"

BlockKind = Literal["heading", "paragraph", "header", "row"]


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a document: a heading with its level, a paragraph, a table's header or one of its rows."""

    kind: BlockKind
    text: str
    level: int = 0
    page: int | None = None
    """The page that it is on, from 1; ``None`` if the format has no pages."""


@dataclass(frozen=True, slots=True)
class FileText:
    """A file's text, and its metadata (a title, a language, front matter)."""

    name: str
    blocks: tuple[Block, ...]
    told: dict[str, str]


class FoundFile(NamedTuple):
    """A file, and the folder in which it was found, if it was not named itself."""

    path: Path
    folder: Path | None = None


def read_file(path: Path, folder: Path | None = None) -> FileText:
    """Read a file, which must not be outside ``folder``, wherever its name links to.

    Raises:
        UnreadableDocumentError: The file cannot be opened, is too large, encrypted, scanned, damaged, not UTF-8,
            outside the folder, or of a format that is not supported; the message says which.
        MissingExtraError: The extra ``documents`` is not installed.
    """
    try:
        if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
            raise UnreadableDocumentError(
                f"{path.name} is a link to a file outside the folder. If you want it, add that file itself."
            )
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            what = "a folder that can't be read" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
            raise UnreadableDocumentError(f"{path.name} is {what}.")
        if about.st_size > MOST_BYTES:
            raise UnreadableDocumentError(
                f"{path.name} has {about.st_size:,} bytes; the limit is {MOST_BYTES:,}. Split it."
            )
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableDocumentError(f"{path.name} can't be read: {error.strerror or error}.") from error
    return read_bytes(content, path.name)


def read_bytes(content: bytes, name: str) -> FileText:
    """Read a file's content, whose format follows from the extension of ``name``.

    Raises:
        UnreadableDocumentError, MissingExtraError: As for :func:`read_file`.
    """
    if len(content) > MOST_BYTES:
        raise UnreadableDocumentError(f"{name} has {len(content):,} bytes; the limit is {MOST_BYTES:,}. Split it.")
    reader = _READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise UnreadableDocumentError(
            f"{name} is of a format that is not supported. Use one of: {', '.join(sorted(_READERS))}."
        )
    blocks, told = reader(content, name)
    kept = tuple(block for block in blocks if block.text)
    if sum(len(block.text) for block in kept) > MOST_CHARACTERS:
        raise UnreadableDocumentError(f"{name} has more than {MOST_CHARACTERS:,} characters of text. Split it.")
    if not any(block.kind != "heading" for block in kept):
        raise UnreadableDocumentError(f"{name} contains no text.")
    return FileText(name, kept, told)


def files_of(paths: Iterable[str | Path]) -> list[FoundFile]:
    """Return files, what has the name of a supported file in folders, and the folders that can't be read.

    Raises:
        InvalidInputError: There is no such file or folder.
    """
    found: list[FoundFile] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InvalidInputError(f"There is no file or folder {path}.")
        if path.is_dir():
            found += [FoundFile(file, path) for file in sorted(_files_in(path))]
        else:
            found.append(FoundFile(path))
    return found


def _files_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    for inner, _, names in os.walk(folder, onerror=lambda error: found.append(Path(error.filename))):
        paths = (Path(inner, name) for name in names)
        found.extend(path for path in paths if is_supported(path))
    return found


def is_supported(path: Path) -> bool:
    """Return whether files with this extension are supported."""
    return path.suffix.lower() in _READERS


_Read = tuple[Iterable[Block], dict[str, str]]


def _text(content: bytes, name: str) -> str:
    for encoding, mark in (("utf-8-sig", b""), ("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff")):
        if content.startswith(mark):
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError:
                continue
            if "\x00" not in text:
                return text
    raise UnreadableDocumentError(f"{name} is not UTF-8 text. Save it as UTF-8 and add it again.")


def _clean(text: str) -> str:
    """Return text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# --- Markdown and plain text ---

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r"(=+|-+)\s*$")
_ROW = re.compile(r"\s*\|.*\|\s*$")
_ROW_LINE = re.compile(r"[\s|:-]+$")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_BULLET = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")


def _markdown(content: bytes, name: str) -> _Read:
    text = _text(content, name).replace("\r\n", "\n").replace("\r", "\n")
    told: dict[str, str] = {}
    if found := _FRONT_MATTER.match(text):
        told = _front_matter(found[1], name)
        text = text[found.end() :]
    return list(_blocks_of_lines(text.split("\n"), is_markdown=not name.lower().endswith(".txt"))), told


_PAIR = re.compile(r"(\w[\w ]*?)\s*:\s+([^\s\[{&*!|>%@`].*?)\s*")


def _front_matter(text: str, name: str) -> dict[str, str]:
    yaml = _library("yaml")
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:  # most often a title with a colon, which YAML requires to be quoted
        found = {pair[1]: pair[2] for pair in map(_PAIR.fullmatch, text.splitlines()) if pair}
        if not found:
            raise UnreadableDocumentError(
                f"The front matter of {name} is not YAML. Correct it or remove it."
            ) from None
    if not isinstance(found, dict):
        return {}
    return {str(key).casefold(): _clean(str(value)) for key, value in found.items() if value is not None}


_SHORT = 0.75
"""Minimum length of a line inside a paragraph, as a share of the longest line."""
_FEW_LINES = 4


def _blocks_of_lines(lines: list[str], *, is_markdown: bool, page: int | None = None) -> Iterator[Block]:
    paragraph: list[str] = []

    def ended() -> Iterator[Block]:
        if paragraph:
            text = _clean(" ".join(paragraph))
            paragraph.clear()
            is_title = not is_markdown and len(text) <= 160 and text.upper().split("(")[0] == text.split("(")[0]
            yield Block(
                "heading" if is_title and text != text.lower() else "paragraph", text, 1 if is_title else 0, page
            )

    in_table = False
    full = max(map(len, lines), default=0)
    columns = [line.strip().strip("|").count("|") for line in lines]
    for index, line in enumerate(lines):
        beside = (*columns[max(0, index - 1) : index], *columns[index + 1 : index + 2])
        if _ROW.match(line) or (columns[index] and columns[index] in beside):
            yield from ended()
            if not _ROW_LINE.match(line):
                cells = " | ".join(_clean(cell) for cell in line.strip().strip("|").split("|"))
                yield Block("row" if in_table else "header", cells, page=page)
                in_table = True
            continue
        in_table = False
        if is_markdown and (found := _HEADING.match(line)):
            yield from ended()
            yield Block("heading", _clean(_plain(found[2])), len(found[1]), page)
        elif is_markdown and paragraph and _UNDERLINE.match(line):
            text = _clean(" ".join(paragraph))
            paragraph.clear()
            yield Block("heading", text, 1 if line[0] == "=" else 2, page)
        elif not line.strip():
            yield from ended()
        elif found := _BULLET.match(line):
            yield from ended()
            paragraph.append(_plain(line[found.end() :]) if is_markdown else line[found.end() :])
        elif _is_label(line):
            yield from ended()
            if len(line) < _SHORT * full or len(lines) < _FEW_LINES:
                yield Block("paragraph", _clean(line), 0, page)
            else:  # a paragraph that starts like a label continues on the next line
                paragraph.append(line)
        else:
            paragraph.append(_plain(line) if is_markdown else line)
            # The last line of a paragraph is short, and so is each row of a table that a PDF contains as lines.
            if page is not None and len(line) < _SHORT * full and len(lines) >= _FEW_LINES:
                yield from ended()
    yield from ended()


def _is_label(line: str) -> bool:
    """Return whether a line has the form ``Issuer: …`` and is therefore not part of a paragraph."""
    return re.match(r"\s*[^\W\d_][\w' ]{1,24}\s*:\s+\S", line) is not None and len(line) < 200


def _plain(text: str) -> str:
    """Return a line of Markdown without emphasis, links, images and code marks."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"(\*\*|__|`|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w))", "", text)


# --- HTML ---

_HTML_BLOCKS = ("h1", "h2", "h3", "h4", "h5", "h6", "p", "li", "tr", "blockquote", "pre", "dt", "dd", "figcaption")
_HTML_DROPPED = ("script", "style", "noscript", "template", "iframe", "object", "svg", "head", "nav")


def _html(content: bytes, name: str) -> _Read:
    soup = _library("bs4").BeautifulSoup(_text(content, name), "html.parser")
    told = {}
    if soup.html is not None and soup.html.get("lang"):
        told["language"] = str(soup.html["lang"])[:2].lower()
    if soup.title is not None and soup.title.string:
        told["title"] = _clean(soup.title.string)
    for element in soup(_HTML_DROPPED):
        element.decompose()
    return list(_html_blocks(soup)), told


def _html_blocks(soup: Any) -> Iterator[Block]:
    headed: set[int] = set()
    for element in soup.find_all(_HTML_BLOCKS):
        if element.name == "tr":
            cells = " | ".join(_clean(cell.get_text(" ")) for cell in element.find_all(["td", "th"]))
            table = id(element.find_parent("table"))
            is_first = table not in headed
            headed.add(table)
            yield Block("header" if is_first else "row", cells)
        elif element.find_parent("tr") is not None or element.find(_HTML_BLOCKS) is not None:
            continue  # its children are blocks themselves
        elif element.name[0] == "h" and element.name[1:].isdigit():
            yield Block("heading", _clean(element.get_text(" ")), int(element.name[1:]))
        else:
            yield Block("paragraph", _clean(element.get_text(" ")))


# --- DOCX ---


def _docx(content: bytes, name: str) -> _Read:
    docx = _library("docx")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MOST_UNPACKED:
                raise UnreadableDocumentError(f"{name} unpacks to more than {_MOST_UNPACKED:,} bytes.")
        document = docx.Document(io.BytesIO(content))
        blocks = list(_docx_blocks(document))
    except UnreadableDocumentError:
        raise
    except Exception as error:  # the library has many error classes without a common base
        raise UnreadableDocumentError(f"{name} is damaged, encrypted or not a DOCX file.") from error
    title = document.core_properties.title
    return blocks, {"title": _clean(title)} if title else {}


def _docx_blocks(document: Any) -> Iterator[Block]:
    for item in document.iter_inner_content():
        if hasattr(item, "rows"):
            for number, row in enumerate(item.rows):
                cells = " | ".join(_clean(cell.text) for cell in row.cells)
                yield Block("row" if number else "header", cells)
            continue
        style = item.style.name if item.style is not None else ""
        if style == "Title" or style.startswith("Heading"):
            level = style.rpartition(" ")[2]
            yield Block("heading", _clean(item.text), int(level) if level.isdigit() else 1)
        else:
            yield Block("paragraph", _clean(item.text))


# --- PDF ---


def _pdf(content: bytes, name: str) -> _Read:
    pdfium = _library("pypdfium2")
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnreadableDocumentError(
                f"{name} is encrypted. Save it without a password and add it again."
            ) from None
        raise UnreadableDocumentError(f"{name} is damaged or not a PDF file.") from error
    try:
        title = document.get_metadata_value("Title")
        blocks: list[Block] = []
        for number in range(len(document)):
            page = document[number]
            text_page = page.get_textpage()
            lines = text_page.get_text_bounded().replace("\r\n", "\n").replace("\ufffe", "").split("\n")
            text_page.close()
            page.close()
            blocks += _blocks_of_lines(_rejoined(lines), is_markdown=False, page=number + 1)
    except pdfium.PdfiumError as error:
        raise UnreadableDocumentError(f"{name} is damaged: {error}") from error
    finally:
        document.close()
    if not blocks:
        raise UnreadableDocumentError(
            f"{name} has no text: it may be scanned. Run it through OCR and add it again."
        )
    return blocks, {"title": _clean(title)} if title else {}


def _rejoined(lines: list[str]) -> list[str]:
    """Return a page's lines with hyphenated words rejoined."""
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].endswith("-") and line[:1].islower():
            joined[-1] = joined[-1][:-1] + line
        else:
            joined.append(line)
    return joined


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise MissingExtraError(f"Reading documents needs {name}. Run: {install_command(_EXTRA)}") from None


_READERS: dict[str, Callable[[bytes, str], _Read]] = {
    ".pdf": _pdf,
    ".docx": _docx,
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _markdown,
    ".html": _html,
    ".htm": _html,
}
