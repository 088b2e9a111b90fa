"""The list of documents, the search in them, and a document as their pages show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from ecowas_lc.web.permissions import Permission
from ecowas_lc.web.reader import Reader

_PASSAGES = 10
_LONGEST_PASSAGE = 600
_LONGEST_SEARCH = 500


async def documents_page(
    one: Reader, search: str = "", group: str = "", *, status: int = 200, problem: str | None = None
) -> Response:
    """Return the list of documents, or the passages that match a search.

    Args:
        one: The reader.
        search: Words to search for; if empty, the documents are listed.
        group: Only documents that this group can cite; if empty or unknown, all.
        status: The response's status.
        problem: What went wrong before, if something did.
    """
    groups = one.speakers.groups
    group = group if group in {each.id for each in groups} else ""
    search = search.strip()[:_LONGEST_SEARCH]
    documents = [
        _shown(one, each)
        for each in await one.service.documents(one.by)
        if not group or not each["groups"] or group in each["groups"]
    ]
    passages = []
    if search:
        found = await one.service.search_documents(one.by, search, group=group or None, limit=_PASSAGES)
        passages = [{**_shown(one, each), "passage": _shortened(each["passage"])} for each in found]
    return await one.page(
        "documents.html",
        "documents",
        status,
        documents=documents,
        passages=passages,
        filters={"search": search, "group": group},
        groups=groups,
        may_change=one.may(Permission.CHANGE_DOCUMENTS),
        is_installed=one.service.organisation.documents is not None,
        problem=problem,
    )


async def document_page(one: Reader, document: str) -> Response:
    """Return a document with its text."""
    found = await one.service.document(one.by, document)
    return await one.page(
        "document.html",
        "documents",
        document={**_shown(one, found), "text": found["text"]},
        may_change=one.may(Permission.CHANGE_DOCUMENTS),
    )


def _shown(one: Reader, document: Mapping[str, Any]) -> dict[str, Any]:
    page = document.get("page")
    about = (
        document["name"] if document["name"] != document["title"] else None,
        document["issuer"],
        document["date"],
        one.texts("chat.page", n=page) if page else None,
    )
    return {
        "id": document["document"],
        "title": document["title"],
        "language": document["language"],
        "about": " · ".join(str(each) for each in about if each),
        "href": one.url("/document", document=document["document"]),
        "groups": [one.speakers[name] for name in document["groups"]],
    }


def _shortened(passage: str) -> str:
    if len(passage) <= _LONGEST_PASSAGE:
        return passage
    return passage[:_LONGEST_PASSAGE].rsplit(maxsplit=1)[0] + " …"
