"""The passages that a search found, with their documents, and how frequent their words and names are."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecowas_lc.documents.document import Document, Passage, Sentence, sentences_of
from ecowas_lc.documents.facts import folded
from ecowas_lc.documents.terms import best_likeness, is_everyday, is_verb, names_in, words_of

if TYPE_CHECKING:
    from langchain_core.documents import Document as LangChainDocument

_LIGHT_WEIGHT = 0.25
_VERB_WEIGHT = 0.5
"""Weight of a verb; documents often use another verb for the same thing."""
_IN_MILLIONS = re.compile(
    r"\b(?:mi(?:lli|lh)[oõ]\w*|billions?|milliards?|mil) (?:d[e'’] ?)?([^\W\d_]{3,})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Source:
    """A passage with its document, as found by a search."""

    document: Document
    passage: Passage
    similarity: float = 0.0
    superseded: bool = False


class Corpus:
    """Frequencies of words and names over the given passages."""

    def __init__(self, sources: Iterable[Source]) -> None:
        sources = list(sources)
        texts = {
            f"{source.passage.document}/{source.passage.number}": source.passage.for_search for source in sources
        }
        self._words = [frozenset(map(folded, words_of(text))) for text in texts.values()]
        named = (names_in(" \n ".join(s.text for s in source.passage.sentences)) for source in sources)
        self._named = [frozenset(map(folded, names)) for names in named]
        self.names = frozenset().union(*self._named)
        self.currencies = frozenset(
            folded(found[1]) for text in texts.values() for found in _IN_MILLIONS.finditer(text)
        )
        """Words that follow "million", which includes the names of currencies."""
        titles = {source.document.id: f"{source.document.title} {source.document.issuer}" for source in sources}
        self._titles = [frozenset(map(folded, words_of(title))) for title in titles.values()]

    def weight(self, term: str) -> float:
        """Return a word's weight; rarer words weigh more."""
        having = sum(best_likeness(term, words) > 0 for words in self._words)
        rarity = math.log(1 + len(self._words) / (1 + having)) + 0.5
        if is_everyday(term):
            return _LIGHT_WEIGHT * rarity
        return _VERB_WEIGHT * rarity if is_verb(term) else rarity

    def has_not(self, term: str) -> bool:
        """Return whether a word occurs in no passage."""
        return not any(best_likeness(term, words) for words in self._words)

    def is_everywhere(self, name: str) -> bool:
        """Return whether most documents have a name in title or issuer, as they have the name of their union."""
        name = folded(name)
        return 2 * sum(name in words for words in self._titles) > len(self._titles)

    def is_common(self, name: str) -> bool:
        """Return whether a name occurs in several passages, as names of states do."""
        return sum(name in names for names in self._named) > 1


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
