"""What ``list`` was asked for and how far it has got; and a walk over the index of threads that misses none."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple

from ecowas_lc.checkpoint.ops import Context
from ecowas_lc.checkpoint.place import Place, checkpoint_id_of, place_of
from ecowas_lc.checkpoint.reading import Entry, forget_thread_op, list_page_op, threads_page_op
from ecowas_lc.storage.keys import id_text
from ecowas_lc.storage.ops import Op

_PAGE = 20
_SWEEPS = 3  # not as long as there is something new: threads may be begun faster than they are read
T = TypeVar("T")

# Programs to run, one after the other, and what they give on the way: whoever walks runs what is yielded, sends
# the result back, and hands a list on.
Walk = Generator["Op[Any] | list[T]", Any, None]


def next_page(walk: Walk[T]) -> Generator[Op[Any], Any, list[T] | None]:
    """The programs that a walk has to run until it gives its next page, and the page; ``None`` at its end."""
    answer: Any = None
    while True:
        try:
            step = walk.send(answer)
        except StopIteration:
            return None
        if isinstance(step, list):
            return step
        answer = yield step


def page_op(walk: Walk[T]) -> Op[list[T] | None]:
    """The walk's next page, brought about by one program; ``None`` at its end."""
    pages = next_page(walk)
    answer: Any = None
    while True:
        try:
            step = pages.send(answer)
        except StopIteration as end:
            return cast("list[T] | None", end.value)
        answer = yield from step


def walk_threads(at: Context, page: int = _PAGE) -> Walk[Entry]:
    """Every thread of the index, page by page, most recently written first.

    A thread that is written to while the walk is on its way moves to the front of the index: it comes at the end.
    """
    met: set[bytes] = set()
    above = b"-inf"
    for _ in range(_SWEEPS):
        start, newest, at_start, any_fresh = b"+inf", b"", 0, False
        while True:
            entries = yield threads_page_op(at, start=start, above=above, count=page + at_start)
            newest = newest or (entries[0][1] if entries else b"")
            fresh = [entry for entry in entries if entry[0] not in met]
            met.update(member for member, _ in fresh)
            if fresh:
                any_fresh = True
                yield fresh
            if len(entries) < page + at_start:
                break
            start = entries[-1][1]
            # Those of one score that have been met come again on the next page, which has room for them.
            at_start = sum(1 for _, score in entries if score == start)
        if not any_fresh:
            return
        above = newest


class Query:
    """One call of ``list``."""

    def __init__(
        self,
        at: Context,
        config: RunnableConfig | None,
        wanted: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        self._at = at
        self._place = place_of(config, every_namespace=True) if config is not None else None
        self._wanted = dict(wanted or {})
        self._before = checkpoint_id_of(before)
        self._left = limit

    def walk(self) -> Walk[CheckpointTuple]:
        """The checkpoints, page by page."""
        if self._place is not None:
            yield from self._thread(self._place)
            return
        threads = walk_threads(self._at)
        while self._wants_more() and (page := (yield from next_page(threads))) is not None:
            for entry in page:
                found = yield from self._thread(Place(id_text(entry[0]), None))
                if not found:
                    yield forget_thread_op(self._at, entry)
                if not self._wants_more():
                    return

    def _wants_more(self) -> bool:
        return self._left is None or self._left > 0

    def _thread(self, place: Place) -> Generator[Op[Any] | list[CheckpointTuple], Any, bool]:
        """One thread's checkpoints; whether it had any of those that were looked at."""
        found = False
        before = self._before
        while self._wants_more():
            size = _PAGE if self._left is None or self._wanted else min(_PAGE, self._left)
            wanted = self._matches if self._wanted else None
            tuples, before = yield list_page_op(self._at, place, before=before, limit=size, wanted=wanted)
            found = found or bool(tuples) or before is not None
            if self._left is not None:
                tuples = tuples[: self._left]
                self._left -= len(tuples)
            yield tuples
            if before is None:
                return found
        return True

    def _matches(self, metadata: CheckpointMetadata) -> bool:
        return all(metadata.get(key) == value for key, value in self._wanted.items())
