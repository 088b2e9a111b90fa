"""The words of questions and answers that a process has read; a thread is read again only if it has changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage

from ecowas_lc import forks
from ecowas_lc.checkpoint.entries import text_of
from ecowas_lc.storage.keys import id_bytes, id_text

if TYPE_CHECKING:
    from ecowas_lc.search.copies import WordCopy

_MOST_BYTES = 64 * 2**20
_EXCERPT_CHARACTERS, _BEFORE = 160, 50


class ThreadWords:
    """Words of threads, in memory only; thread-safe."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self.forget_parent()
        forks.register(self)

    def forget_parent(self) -> None:
        """Clear the index: another thread may have been in the middle of a change when this process was forked."""
        self._copy: WordCopy | None = None
        self._read: dict[str, tuple[str, frozenset[str]]] = {}  # the checkpoint that was read, and its speakers
        self._version = 0

    def check_installed(self) -> None:
        """Check that the packages for a search by words are installed.

        Raises:
            MissingExtraError: They are not installed.
        """
        from ecowas_lc.search.index import check_numpy
        from ecowas_lc.search.words import check_installed

        check_numpy()
        check_installed()

    def has(self, thread_id: str, state: str) -> bool:
        """Return whether the words of a thread in this state are known."""
        known = self._read.get(thread_id)
        return known is not None and known[0] == state

    def put(self, threads: Sequence[tuple[str, str, Sequence[BaseMessage]]]) -> None:
        """Add threads: id, state and messages."""
        from ecowas_lc.search.copies import WordCopy
        from ecowas_lc.search.words import row_of

        rows = [
            (
                thread_id,
                state,
                row_of([text_of(each) for each in messages]),
                frozenset(str(each.name) for each in messages if each.name),
            )
            for thread_id, state, messages in threads
        ]
        with self._lock:
            copy = self._copy = self._copy or WordCopy()
            for thread_id, state, row, speakers in rows:
                self._version += 1
                self._read[thread_id] = state, speakers
                if row:
                    copy.put([(id_bytes(thread_id), self._version, row)])
                else:
                    copy.remove(id_bytes(thread_id), self._version)

    def best(self, query: str, among: Collection[str], speaker: str | None) -> list[str]:
        """Return the ids of those threads that contain words of the query, best match first."""
        from ecowas_lc.search.words import query_of

        terms = query_of(query)
        with self._lock:
            if self._copy is None:
                return []
            found = [id_text(each.item_id) for each in self._copy.best(terms, len(self._copy))]
            known = dict(self._read)
        nobody: tuple[str, frozenset[str]] = "", frozenset()
        return [
            thread_id
            for thread_id in found
            if thread_id in among and (speaker is None or speaker in known.get(thread_id, nobody)[1])
        ]

    def excerpt(self, query: str, messages: Sequence[BaseMessage]) -> str:
        """Return the text with most words of the query, on one line; empty if no word occurs."""
        from ecowas_lc.search.words import query_of, terms_of, words_of

        asked = [set(terms) for terms in query_of(query)]
        best, text = 0, ""
        for message in messages:
            here = set().union(*(terms_of(word) for word in set(words_of(text_of(message)))))
            if (count := sum(bool(terms & here) for terms in asked)) > best:
                best, text = count, " ".join(text_of(message).split())
        return _around(text, asked)

    def shrink(self) -> None:
        """Clear the index if it takes too much memory; the next search reads what it needs."""
        with self._lock:
            if self._copy is not None and self._copy.nbytes() + 200 * len(self._read) > _MOST_BYTES:
                self._copy, self._read = None, {}


def _around(text: str, asked: Sequence[set[int]]) -> str:
    from ecowas_lc.search.words import terms_of, words_of

    if len(text) <= _EXCERPT_CHARACTERS:
        return text
    place = 0
    for word in text.split(" "):
        if any(terms & set(terms_of(each)) for each in words_of(word) for terms in asked):
            break
        place += len(word) + 1
    start = max(0, min(place - _BEFORE, len(text) - _EXCERPT_CHARACTERS))
    if start:
        start = text.find(" ", start) + 1 or start
    cut = text[start : start + _EXCERPT_CHARACTERS]
    return ("…" if start else "") + cut + ("…" if start + _EXCERPT_CHARACTERS < len(text) else "")
