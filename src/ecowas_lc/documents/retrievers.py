"""Documents that a LangChain retriever finds, as passages against which answers are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ecowas_lc.documents.document import Document, Passage, Sentence, sentences_of
from ecowas_lc.documents.evidence import Source

if TYPE_CHECKING:
    from langchain_core.documents import Document as LangChainDocument


def sources_of(found: Iterable[LangChainDocument], language_of: Callable[[str], str]) -> list[Source]:
    """Return retrieved documents as passages; ``source``, ``title`` and ``page`` of their metadata are kept."""
    return [_source_of(number, document, language_of) for number, document in enumerate(found)]


def _source_of(number: int, found: LangChainDocument, language_of: Callable[[str], str]) -> Source:
    text = found.page_content
    name = str(found.metadata.get("source") or found.metadata.get("title") or found.id or "document")
    identity = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    page = found.metadata.get("page")
    sentences = tuple(Sentence(text[start:end], start, end) for start, end in sentences_of(text))
    return Source(
        Document(identity, name, str(found.metadata.get("title") or name), language=language_of(text)),
        Passage(
            document=identity,
            number=number,
            text=text,
            start=0,
            end=len(text),
            page=page if isinstance(page, int) else None,
            sentences=sentences,
        ),
    )
