"""``ecowas-lc docs``: manages the documents that answers are based on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ecowas_lc.cli.conversation import checked_groups
from ecowas_lc.cli.options import FAILED
from ecowas_lc.cli.screen import confirmed, counted, remark, say, show_rows, shown_progress
from ecowas_lc.cli.store import answering_server
from ecowas_lc.cli.terminal import one_line, out, show_json, write
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.settings import get_settings

if TYPE_CHECKING:
    from ecowas_lc.documents import Document, Documents

_MANY_FILES = 500


@contextmanager
def opened_documents() -> Iterator[Documents]:
    """Yield the documents on the settings' server, after checking that it answers."""
    from ecowas_lc.documents import Documents

    settings = get_settings()
    answering_server(settings).close()
    with Documents.from_settings(settings) as documents:
        yield documents


def add_documents(
    paths: Sequence[Path],
    *,
    groups: Sequence[str],
    title: str,
    issuer: str,
    date: str,
    language: str,
    supersedes: str,
    yes: bool,
    json: bool,
) -> None:
    """Add files and folders, and report the result for each; the command fails if it skipped one.

    Raises:
        InvalidInputError: A file does not exist, a date or language is not usable, or nothing could be added.
    """
    from ecowas_lc.documents.files import files_of

    files = len(files_of(paths))
    if files > _MANY_FILES and not confirmed(f"Add {files} files?", yes=yes):
        return
    if language and language not in ("en", "fr", "pt"):
        raise InvalidInputError(f"The language {language!r} is not one of en, fr and pt.")
    if title and files > 1:
        raise InvalidInputError("--title is for one document. Add the files one by one, or leave --title out.")
    day = _date_of(date)
    with opened_documents() as documents, shown_progress() as tell:
        report = documents.add(
            *paths,
            groups=checked_groups(groups),
            title=title,
            issuer=issuer,
            date=day,
            language=language,
            supersedes=supersedes,
            on_progress=lambda done, total, _: tell("documents", done, total),
        )
    if json:
        show_json(
            {
                "added": [_as_json(document) for document in report.added],
                "known": [_as_json(document) for document in report.known],
                "skipped": [asdict(skipped) for skipped in report.skipped],
            }
        )
    else:
        for document in report.added:
            say(f"{document.id}  {one_line(document.title)}")
        if report.known:
            remark(f"{counted(len(report.known), 'document')} already added, with the same text.")
    for skipped in report.skipped:
        remark(f"Skipped: {one_line(skipped.reason)}")
    if report.skipped and not (report.added or report.known):
        raise InvalidInputError("No document was added.")
    if report.skipped:
        raise typer.Exit(FAILED)


def list_documents(group: str | None, *, json: bool) -> None:
    """Show the documents, the last added first."""
    with opened_documents() as documents:
        found = [one for one in documents.all() if group is None or not one.groups or group in one.groups]
    if json:
        show_json([_as_json(document) for document in found])
        return
    if not found:
        remark("There are no documents. Add some: ecowas-lc docs add FILE…")
        return
    show_rows(
        ("document", "date", "language", "groups"),
        [
            (
                document.id,
                document.date.isoformat() if document.date else "",
                document.language,
                ", ".join(document.groups) or "every group",
            )
            for document in found
        ],
        ("title", [document.title for document in found]),
    )


def show_document(name: str, *, json: bool) -> None:
    """Show a document's text, or one page of it (``ID#3``).

    Raises:
        InvalidInputError: There is no such document or page.
    """
    identity, _, page = name.partition("#")
    with opened_documents() as documents:
        document = documents.get(identity)
        text = documents.text(identity) if not page else documents.page(identity, _page_of(page))
    if json:
        show_json({**_as_json(document), "text": text})
        return
    about = [document.issuer, document.date.isoformat() if document.date else "", document.name]
    out().print(one_line(document.title), style="bold", markup=False)
    out().print(one_line(" · ".join(filter(None, about))), style="dim", markup=False)
    write(f"\n{text}\n")


def search_documents(query: str, group: str | None, limit: int, *, json: bool) -> None:
    """Show the passages that match best."""
    with opened_documents() as documents:
        sources = documents.search(query, group=group, limit=limit)
    if json:
        show_json(
            [
                {
                    "document": source.document.id,
                    "file": source.document.name,
                    "title": source.document.title,
                    "page": source.passage.page,
                    "text": source.passage.text,
                }
                for source in sources
            ]
        )
        return
    if not sources:
        remark("No passage matches.")
    for source in sources:
        page = f"#{source.passage.page}" if source.passage.page else ""
        heading = f"{source.document.id}{page}  {one_line(source.document.title)}"
        out().print(heading, style="bold", markup=False, highlight=False)
        write(f"{source.passage.text}\n\n")


def remove_document(identity: str, *, yes: bool, json: bool) -> None:
    """Delete a document; later answers do not use it.

    Raises:
        InvalidInputError: There is no such document.
    """
    with opened_documents() as documents:
        document = documents.get(identity)
        if not confirmed(f"Remove {one_line(document.title)} ({identity})?", yes=yes):
            return
        documents.remove(identity)
    if json:
        show_json(_as_json(document))
    else:
        say(f"Removed {identity}.")


def reindex_documents(*, json: bool) -> None:
    """Rebuild the search index."""
    with opened_documents() as documents, shown_progress() as tell:
        passages = documents.reindex(lambda done, total, _: tell("documents", done, total))
    if json:
        show_json({"passages": passages})
    else:
        say(f"Indexed {counted(passages, 'passage')}.")


def _as_json(document: Document) -> dict[str, Any]:
    return {**asdict(document), "date": document.date and document.date.isoformat()}


def _date_of(text: str) -> dt.date | None:
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"The date {text!r} can't be read. Write it as 2026-03-27.") from None


def _page_of(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise InvalidInputError(f"{text!r} is not a page. Write the document's id and the page: 3f2a…#4.")
    return int(text)
