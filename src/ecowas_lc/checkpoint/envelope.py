"""A checkpoint's row: everything but the channels' larger values, in as few bytes as its repetitions allow.

Channel and node names are listed once (and, being the same from step to step, stored once per thread), channel
versions likewise; ``channel_versions`` and ``versions_seen`` are pairs of positions in those lists.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata

from ecowas_lc.errors import CorruptDataError

_OWN = {"v", "id", "ts", "channel_values", "channel_versions", "versions_seen", "updated_channels"}


def pack_envelope(
    checkpoint: Checkpoint, metadata: CheckpointMetadata, inline: dict[str, Any]
) -> tuple[list[Any], str]:
    """A checkpoint (but for its id, which is its key) and its metadata as one plain list, and its names."""
    names: dict[str, int] = {}
    versions: dict[Any, int] = {}
    place, number = names.setdefault, versions.setdefault
    current: list[int] = []
    for channel, version in checkpoint["channel_versions"].items():
        # Keyed by type too: 1 and 1.0 are equal, and come back as what they were.
        current += place(channel, len(names)), number((type(version), version), len(versions))
    seen: list[list[int]] = []
    for node, by_channel in checkpoint["versions_seen"].items():
        flat = [place(node, len(names))]
        for channel, version in by_channel.items():
            flat += place(channel, len(names)), number((type(version), version), len(versions))
        seen.append(flat)
    updated = checkpoint.get("updated_channels")
    small: list[Any] = []
    for channel, value in inline.items():
        small += place(channel, len(names)), value
    parts = [
        checkpoint["v"],
        checkpoint["ts"],
        current,
        seen,
        None if updated is None else [place(channel, len(names)) for channel in updated],
        small,
        metadata,
        {key: checkpoint[key] for key in checkpoint.keys() - _OWN},  # type: ignore[literal-required]
        [version for _, version in versions],
    ]
    return parts, _names_text(tuple(names))


@lru_cache(maxsize=512)
def _names_text(names: tuple[str, ...]) -> str:
    return json.dumps(names, separators=(",", ":"))


@lru_cache(maxsize=512)
def _names_of(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if type(names) is not list or not all(type(name) is str for name in names):
        raise CorruptDataError("A stored checkpoint has no list of names.")
    return tuple(names)


def unpack_envelope(parts: Any, checkpoint_id: str) -> tuple[Checkpoint, CheckpointMetadata]:
    """What :func:`pack_envelope` was given; ``channel_values`` holds the inline ones.

    Raises:
        CorruptDataError: it is not an envelope.
    """
    try:
        v, ts, channel_versions, seen, updated, inline, metadata, others, versions, names_text = parts
        names = _names_of(names_text)

        def by_channel(flat: list[int]) -> dict[str, Any]:
            return {names[flat[at]]: versions[flat[at + 1]] for at in range(0, len(flat), 2)}

        checkpoint: Any = {
            "v": v,
            "ts": ts,
            "id": checkpoint_id,
            "channel_values": {names[inline[at]]: inline[at + 1] for at in range(0, len(inline), 2)},
            "channel_versions": by_channel(channel_versions),
            "versions_seen": {names[node]: by_channel(flat) for node, *flat in seen},
            "updated_channels": None if updated is None else [names[at] for at in updated],
            **others,
        }
        if type(metadata) is not dict:
            raise CorruptDataError("A stored checkpoint has no metadata.")
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise CorruptDataError("A stored checkpoint is not in the storage format.") from error
    return checkpoint, metadata  # type: ignore[return-value]
