"""Adding, listing, searching and deleting the documents under one prefix of Redis or Valkey."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ecowas_lc._display import Displayed
from ecowas_lc.documents.document import (
    Document,
    Passage,
    ReadDocument,
    Sentence,
    read_document,
)
from ecowas_lc.documents.evidence import Evidence
from ecowas_lc.documents.facts import TimePoint
from ecowas_lc.documents.files import files_of, read_file
from ecowas_lc.documents.follow_up import find_all_evidence
from ecowas_lc.documents.sources import Corpus, Source
from ecowas_lc.documents.terms import meaning_marks, words_alike
from ecowas_lc.errors import InvalidInputError, UnreadableDocumentError
from ecowas_lc.settings import Settings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from ecowas_lc.store.redis_store import RedisStore

_COLLECTION = "grounding"
_ABOUT, _TEXTS, _PASSAGES = "about", "texts", "passages"
_EVERY_GROUP = "every group"
_AT_ONCE = 32
_PAGE = 500
FOUND_AT_ONCE = 12
"""Number of passages from which a question is answered."""
_MARKS = "\n\u241f"

FileProgress = Callable[[int, int, str], None]
"""Called with the number of files done, their total, and the name of the last one."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was skipped, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class AddReport:
    """The results of adding files."""

    added: tuple[Document, ...] = ()
    known: tuple[Document, ...] = ()
    """Documents that were already stored with the same text."""
    skipped: tuple[Skipped, ...] = ()


class Documents(Displayed):
    """Documents that answers are based on, stored under one prefix of Redis or Valkey.

    Words are indexed in English, French and Portuguese with their translations, so that a question in one of these
    languages finds a document in another. With ``embeddings``, passages are also found by meaning, but adding each
    one takes the time of embedding it.

    Args:
        store: The store of the documents; :meth:`from_url` and :meth:`from_settings` create one.
        language_of: A function that returns the language of a text (``"en"``, ``"fr"`` or ``"pt"``).

    Raises:
        RedisUnavailableError, RedisRefusedError: The server is unavailable or refuses access (from any method).
    """

    def __init__(self, store: RedisStore, *, language_of: Callable[[str], str] | None = None) -> None:
        self._store = store
        self._language_of = language_of or _guess_language

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "ecowas",
        embeddings: Embeddings | None = None,
        credential_provider: Any = None,
    ) -> Self:
        """Return the documents under a prefix of the server at a URL.

        Args:
            url: The server's URL, such as ``"redis://localhost:6379"``.
            prefix: The prefix of all keys.
            embeddings: LangChain embeddings, to find passages by meaning as well.
            credential_provider: A credential provider of redis-py.
        """
        from ecowas_lc.store.redis_store import RedisStore

        return cls(
            RedisStore.from_url(
                url,
                credential_provider=credential_provider,
                prefix=prefix,
                collection=_COLLECTION,
                index=_index_of(embeddings),
            )
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        embeddings: Embeddings | None = None,
        credential_provider: Any = None,
    ) -> Self:
        """Return the documents under the settings' prefix, on the settings' server.

        Args:
            settings: The settings to use. Defaults to those of the environment.
            embeddings: LangChain embeddings, to find passages by meaning as well.
            credential_provider: A credential provider of redis-py.
        """
        from ecowas_lc.store.redis_store import RedisStore

        return cls(
            RedisStore.from_settings(
                settings,
                credential_provider=credential_provider,
                collection=_COLLECTION,
                index=_index_of(embeddings),
            )
        )

    @classmethod
    def from_server(
        cls,
        server: Any,
        *,
        prefix: str = "ecowas",
        embeddings: Embeddings | None = None,
        collection: str = _COLLECTION,
    ) -> Self:
        """Return the documents under a prefix of a server that is already connected.

        Args:
            server: The ``.server`` of another object, to share its connections.
            prefix: The prefix of every key.
            embeddings: LangChain embeddings, to find passages by meaning as well.
            collection: The name of these documents under the prefix.
        """
        from ecowas_lc.store.redis_store import RedisStore

        return cls(RedisStore(server=server, prefix=prefix, collection=collection, index=_index_of(embeddings)))

    # --- adding and removing ---

    def add(
        self,
        *paths: str | Path,
        groups: Sequence[str] = (),
        title: str = "",
        issuer: str = "",
        date: dt.date | None = None,
        language: str = "",
        supersedes: str = "",
        on_progress: FileProgress | None = None,
    ) -> AddReport:
        """Add files, and all files in folders.

        Files that cannot be read are listed in the report, and the others are added.

        Args:
            paths: Files and folders; folders are searched recursively.
            groups: The ids of the groups that may read the documents. If empty, those that a document states, or
                every group.
            title: The title. It replaces the one that the file states, as the next three do.
            issuer: The issuer.
            date: The date.
            language: The language: ``"en"``, ``"fr"`` or ``"pt"``.
            supersedes: The id of a document that these replace.
            on_progress: Called after each file.

        Returns:
            The documents added, those already stored, and the files skipped.

        Raises:
            InvalidInputError: There is no such file or folder, or no document has the id ``supersedes``.
        """
        files = files_of(paths)
        if supersedes:
            self.get(supersedes)
        added, known, skipped = [], [], []
        for number, (path, folder) in enumerate(files, start=1):
            try:
                read = read_document(
                    read_file(path, folder),
                    language_of=self._language_of,
                    groups=groups,
                    title=title,
                    issuer=issuer,
                    date=date,
                    language=language,
                )
            except UnreadableDocumentError as error:
                skipped.append(Skipped(path.name, str(error)))
            else:
                if self._item(_ABOUT, read.document.id) is not None:
                    known.append(read.document)
                else:
                    added.append(self._store_document(read, supersedes))
            if on_progress is not None:
                on_progress(number, len(files), path.name)
        return AddReport(tuple(added), tuple(known), tuple(skipped))

    def remove(self, document_id: str) -> Document:
        """Delete a document with its passages, so that later answers do not use it.

        Args:
            document_id: The document's id.

        Returns:
            The deleted document.

        Raises:
            InvalidInputError: There is no such document.
        """
        document = self.get(document_id)
        for scope in document.groups or (_EVERY_GROUP,):
            self._store.clear((_PASSAGES, scope, document_id))
        self._store.delete((_TEXTS,), document_id)
        for older in document.supersedes:
            if item := self._item(_ABOUT, older):
                item.pop("superseded_by", None)
                self._store.put((_ABOUT,), older, item, index=False)
        self._store.delete((_ABOUT,), document_id)
        return document

    def clear(self) -> None:
        """Delete every document."""
        self._store.clear(())

    # --- reading ---

    def all(self) -> tuple[Document, ...]:
        """Return every document, the last added first."""
        return tuple(_document_of(item.value) for item in self._about())

    def get(self, document_id: str) -> Document:
        """Return one document.

        Args:
            document_id: The document's id.

        Raises:
            InvalidInputError: There is no such document.
        """
        if (found := self._item(_ABOUT, document_id)) is None:
            raise InvalidInputError(
                f"There is no document {document_id!r}. `ecowas-lc docs list` shows the documents."
            )
        return _document_of(found)

    def text(self, document_id: str) -> str:
        """Return the text of a document.

        Args:
            document_id: The document's id.

        Raises:
            InvalidInputError: There is no such document.
        """
        self.get(document_id)
        found = self._item(_TEXTS, document_id)
        return "" if found is None else str(found["text"])

    def page(self, document_id: str, number: int) -> str:
        """Return the text of one page.

        Args:
            document_id: The document's id.
            number: The number of the page, from 1.

        Raises:
            InvalidInputError: There is no such document or page.
        """
        document = self.get(document_id)
        found = [passage.text for passage in self._passages(document) if passage.page == number]
        if not found:
            pages = f"It has pages 1 to {document.pages}." if document.pages else "It has no pages."
            raise InvalidInputError(f"The document {document_id!r} has no text on page {number}. {pages}")
        return "\n\n".join(found)

    def reindex(self, on_progress: FileProgress | None = None) -> int:
        """Rebuild the index of every passage, for example after changing the embeddings.

        Args:
            on_progress: Called with the number of documents done, their total, and the last one's name.

        Returns:
            The number of passages.
        """
        documents = self.all()
        count = 0
        for number, document in enumerate(documents, start=1):
            passages = self._passages(document)
            for scope in document.groups or (_EVERY_GROUP,):
                self._store_passages(scope, passages)
            count += len(passages)
            if on_progress is not None:
                on_progress(number, len(documents), document.name)
        return count

    def search(self, query: str, *, group: str | None = None, limit: int = FOUND_AT_ONCE) -> list[Source]:
        """Return the passages that match best.

        Args:
            query: A question or words.
            group: Search only documents that this group may read; ``None`` means all.
            limit: Maximum number of passages.

        Returns:
            The passages, best first.
        """
        marked = _marked(query)
        pages = [self._store.search(prefix, query=marked, limit=limit) for prefix in _scopes(group)]
        return _found(pages, self._about(), limit)

    async def asearch(self, query: str, *, group: str | None = None, limit: int = FOUND_AT_ONCE) -> list[Source]:
        """Return what :meth:`search` returns, without blocking the event loop."""
        marked = _marked(query)
        pages = [await self._store.asearch(prefix, query=marked, limit=limit) for prefix in _scopes(group)]
        about: list[Any] = []
        while page := await self._store.asearch((_ABOUT,), limit=_PAGE, offset=len(about)):
            about += page
        return _found(pages, about, limit)

    def evidence(self, question: str, *, group: str | None = None) -> tuple[list[Evidence], list[Source]]:
        """Return the sentences that answer a question, and the passages found.

        Args:
            question: The question.
            group: Search only documents that this group may read; ``None`` means all.

        Returns:
            The sentences, best first (empty if the documents do not answer the question), and the passages.
        """
        sources = self.search(question, group=group)
        return find_all_evidence(question, sources, Corpus(sources)), sources

    def close(self) -> None:
        """Close the connections that this object opened."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r})"

    # --- stored forms ---

    def _store_document(self, read: ReadDocument, supersedes: str) -> Document:
        others = [(_document_of(item.value), item.value) for item in self._about()]
        replaced_date = read.replaced.date if read.replaced is not None else None
        older = (
            [supersedes]
            if supersedes
            else [other.id for other, _ in others if _is_replaced(other, read.document, replaced_date)]
        )
        document = replace(read.document, supersedes=tuple(older))
        # A document that is already stored may replace this one.
        newer = [
            (other, value)
            for other, value in others
            if not supersedes and _is_replaced(read.document, other, _time_of(value.get("replaces")))
        ]
        scopes = document.groups or (_EVERY_GROUP,)
        for scope in scopes:
            self._store_passages(scope, read.passages)
        self._store.put((_TEXTS,), document.id, {"text": read.text}, index=False)
        # Written last, so that an incomplete document is never read.
        about = _stored_document(document)
        if replaced_date is not None and not supersedes:
            about["replaces"] = [replaced_date.year, replaced_date.month, replaced_date.day]
        for other, value in newer:
            about["superseded_by"] = other.id
            supersedes_too = [*value.get("supersedes", ()), document.id]
            self._store.put((_ABOUT,), other.id, {**value, "supersedes": supersedes_too}, index=False)
        self._store.put((_ABOUT,), document.id, about, index=False)
        for replaced in older:
            if item := self._item(_ABOUT, replaced):
                self._store.put((_ABOUT,), replaced, {**item, "superseded_by": document.id}, index=False)
        return document

    def _store_passages(self, scope: str, passages: Sequence[Passage]) -> None:
        from langgraph.store.base import PutOp

        for first in range(0, len(passages), _AT_ONCE):
            self._store.batch(
                PutOp((_PASSAGES, scope, passage.document), f"{passage.number:06d}", _stored_passage(passage))
                for passage in passages[first : first + _AT_ONCE]
            )

    def _passages(self, document: Document) -> list[Passage]:
        """Return a document's passages, in order."""
        place = (_PASSAGES, (document.groups or (_EVERY_GROUP,))[0], document.id)
        found: list[Passage] = []
        while page := self._store.search(place, limit=_PAGE, offset=len(found)):
            found += [_passage_of(item.value) for item in page]
        return sorted(found, key=lambda passage: passage.number)

    def _item(self, kind: str, key: str) -> dict[str, Any] | None:
        item = self._store.get((kind,), key)
        return None if item is None else dict(item.value)

    def _about(self) -> list[Any]:
        found: list[Any] = []
        while page := self._store.search((_ABOUT,), limit=_PAGE, offset=len(found)):
            found += page
        return found


def _guess_language(text: str) -> str:
    from ecowas_lc._language import language_of

    return language_of(text)


def _index_of(embeddings: Embeddings | None) -> Any:
    if embeddings is None:
        return {"fields": ["search"], "embed": None}
    return {"fields": ["search"], "embed": _without_marks(embeddings), "mode": "both"}


def _without_marks(embeddings: Embeddings) -> Embeddings:
    from langchain_core.embeddings import Embeddings as Base

    class WithoutMarks(Base):
        """Embeds texts without the marks for their words' meanings."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return embeddings.embed_documents([text.partition(_MARKS)[0] for text in texts])

        def embed_query(self, text: str) -> list[float]:
            return embeddings.embed_query(text.partition(_MARKS)[0])

    return WithoutMarks()


def _scopes(group: str | None) -> list[tuple[str, ...]]:
    return [(_PASSAGES,)] if group is None else [(_PASSAGES, _EVERY_GROUP), (_PASSAGES, group)]


def _found(pages: Sequence[Sequence[Any]], about: Sequence[Any], limit: int) -> list[Source]:
    """Return hits as passages with their documents, best first; incomplete documents are left out."""
    described = {item.key: item.value for item in about}
    found: dict[tuple[str, int], Source] = {}
    for hit in sorted((hit for page in pages for hit in page), key=lambda hit: -(hit.score or 0.0)):
        if (value := described.get(hit.value["document"])) is not None:
            source = Source(_document_of(value), _passage_of(hit.value), superseded="superseded_by" in value)
            found.setdefault((source.document.id, source.passage.number), source)
    return list(found.values())[:limit]


def _is_replaced(older: Document, newer: Document, date: TimePoint | None) -> bool:
    """Return whether a document has the date and the groups of the one that another says it replaces."""
    return (
        date is not None
        and date.year is not None
        and older.id != newer.id
        and older.date is not None
        and TimePoint(older.date.year, older.date.month, older.date.day).is_within(date)
        and (not older.groups or not newer.groups or bool(set(older.groups) & set(newer.groups)))
    )


def _time_of(stored: Any) -> TimePoint | None:
    return TimePoint(*stored) if isinstance(stored, list) and len(stored) == 3 else None


def _marked(query: str) -> str:
    """Return a query with marks for its words' meanings, and with the words for them in the three languages."""
    return f"{query}{_MARKS}{meaning_marks(query)} {words_alike(query)}"


def _stored_document(document: Document) -> dict[str, Any]:
    return {**asdict(document), "date": document.date and document.date.isoformat()}


def _document_of(value: dict[str, Any]) -> Document:
    fields = {name: value[name] for name in Document.__dataclass_fields__ if name in value}
    fields["date"] = dt.date.fromisoformat(value["date"]) if value.get("date") else None
    for name in ("groups", "supersedes"):
        fields[name] = tuple(value.get(name, ()))
    return Document(**fields)


def _stored_passage(passage: Passage) -> dict[str, Any]:
    text = passage.for_search
    return {
        "document": passage.document,
        "number": passage.number,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "heading": passage.heading,
        "page": passage.page,
        "sentences": [[s.text, s.start, s.end, list(s.header)] for s in passage.sentences],
        "search": text + _MARKS + meaning_marks(text),
    }


def _passage_of(value: dict[str, Any]) -> Passage:
    return Passage(
        document=value["document"],
        number=value["number"],
        text=value["text"],
        start=value["start"],
        end=value["end"],
        heading=value["heading"],
        page=value["page"],
        sentences=tuple(
            Sentence(text, start, end, tuple(header)) for text, start, end, header in value["sentences"]
        ),
    )
