"""The program that collects what a delta channel is rebuilt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from ecowas_lc.checkpoint.codec.rows import split_row
from ecowas_lc.checkpoint.format import Found
from ecowas_lc.checkpoint.ops import Context
from ecowas_lc.checkpoint.place import Place, channel_of
from ecowas_lc.checkpoint.reading import found_elements, read_call
from ecowas_lc.storage.keys import id_text
from ecowas_lc.storage.ops import Op

_PAGE = 200


def delta_history_op(at: Context, place: Place, channels: Sequence[str]) -> Op[dict[str, DeltaChannelHistory]]:
    """For each channel, the writes since the nearest ancestor that has a value for it, and that value."""
    collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    remaining = set(channels)
    met: set[Place] = set()
    start, cursor = ("at" if place.checkpoint_id else "latest"), place
    is_target = True  # what is pending on the checkpoint itself comes after it
    while remaining:
        [answer] = yield (
            read_call(at, cursor, start=start, along="parent", limit=_PAGE, writes=True, values=False),
        )
        page, elements = found_elements(at, place.thread_id, answer)
        seeded: list[tuple[str, Found]] = []
        for found in page:
            if found.place in met:
                break
            met.add(found.place)
            if is_target:
                is_target = False
                continue
            for write in reversed(at.format.pending_writes(found, elements)):
                if write[1] in remaining:
                    collected[write[1]].append(write)
            inline = at.format.envelope(found, elements)[0]["channel_values"]
            held = {channel_of(name) for name in split_row(found.row).fields}
            for channel in sorted(remaining & (held | set(inline))):
                if channel in inline:
                    seeds[channel] = inline[channel]
                else:
                    seeded.append((channel, found))
                remaining.discard(channel)
            if not remaining:
                break
        for channel, found in seeded:
            yield from _seed_op(at, found.place, channel, seeds)
        parent = id_text(split_row(page[-1].row).parent) if page else ""
        start, cursor = "at", Place(place.thread_id, place.namespace, parent)
        if len(page) < _PAGE or not parent or cursor in met:
            break
    return {channel: _history(channel, collected, seeds) for channel in channels}


def _history(channel: str, collected: dict[str, list[PendingWrite]], seeds: dict[str, Any]) -> DeltaChannelHistory:
    entry: DeltaChannelHistory = {"writes": collected[channel][::-1]}
    if channel in seeds:
        entry["seed"] = seeds[channel]
    return entry


def _seed_op(at: Context, place: Place, channel: str, seeds: dict[str, Any]) -> Op[None]:
    [answer] = yield (read_call(at, place, start="at", along="", limit=1, writes=False),)
    page, elements = found_elements(at, place.thread_id, answer)
    for found in page:
        for name, stored in zip(split_row(found.row).fields, found.values, strict=True):
            if channel_of(name) == channel:
                seeds[channel] = at.format.load_value(place, name, stored, elements)
