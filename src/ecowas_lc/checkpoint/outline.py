"""A thread in outline: which checkpoints there are, and what delta channels need of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ecowas_lc.checkpoint.codec.rows import split_row
from ecowas_lc.checkpoint.ops import Context
from ecowas_lc.checkpoint.place import Place, channel_of
from ecowas_lc.checkpoint.reading import found_elements, read_call
from ecowas_lc.storage.keys import id_text
from ecowas_lc.storage.ops import Op

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Outlined:
    """A checkpoint without its larger values: where it is, what it extends, which channels it has values for."""

    place: Place
    parent: str
    metadata: Mapping[str, Any]
    channels: frozenset[str]
    versioned: frozenset[str]

    @property
    def counted(self) -> frozenset[str]:
        """Delta channels, which langgraph counts the updates of, but for those with a snapshot here."""
        return frozenset(self.metadata.get("counters_since_delta_snapshot") or ())


def outline_op(at: Context, thread_id: str) -> Op[list[Outlined]]:
    """All checkpoints of a thread, without their larger values, newest first."""
    place = Place(thread_id, None)
    out: list[Outlined] = []
    start = "latest"
    while True:
        [answer] = yield (
            read_call(at, place, start=start, along="prev", limit=_PAGE, writes=False, values=False),
        )
        page, elements = found_elements(at, thread_id, answer)
        for found in page:
            row = split_row(found.row)
            checkpoint, metadata = at.format.envelope(found, elements)
            out.append(
                Outlined(
                    found.place,
                    id_text(row.parent),
                    metadata,
                    frozenset(checkpoint["channel_values"]) | {channel_of(name) for name in row.fields},
                    frozenset(checkpoint["channel_versions"]),
                )
            )
        if len(page) < _PAGE:
            return out
        start, place = "before", Place(thread_id, None, out[-1].place.checkpoint_id)


def with_what_they_need(kept: Iterable[Outlined], every: list[Outlined]) -> set[Place]:
    """The places of ``kept`` and of the ancestors that their delta channels are rebuilt from.

    A delta channel's value is that of the nearest ancestor that has one plus the writes since.
    """
    by_place = {(each.place.namespace, each.place.checkpoint_id): each for each in every}
    delta: dict[str | None, set[str]] = {}
    for each in every:
        delta.setdefault(each.place.namespace, set()).update(each.counted)
    places = set()
    for each in kept:
        wanted = (delta[each.place.namespace] & each.versioned) - each.channels
        cursor, met = each, {each.place}
        while wanted:
            parent = by_place.get((cursor.place.namespace, cursor.parent))
            if parent is None or parent.place in met:
                break
            met.add(parent.place)
            wanted -= parent.channels
            cursor = parent
        places |= met
    return places
