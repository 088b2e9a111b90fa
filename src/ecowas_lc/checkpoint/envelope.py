"""A checkpoint's row: everything but the channels' larger values, in as few bytes as its repetitions allow.

Channel and node names are listed once (and, being the same from step to step, stored once per thread), channel
versions likewise; ``channel_versions`` and ``versions_seen`` are pairs of positions in those lists.
"""

from __future__ import annotations

import json
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

    def position(of: Any, among: dict[Any, int]) -> int:
        return among.setdefault(of, len(among))

    def pairs(by_channel: Any) -> list[int]:
        flat: list[int] = []
        for channel, version in by_channel.items():
            flat += position(channel, names), position((type(version), version), versions)
        return flat

    channel_versions = pairs(checkpoint["channel_versions"])
    seen = [
        [position(node, names), *pairs(by_channel)] for node, by_channel in checkpoint["versions_seen"].items()
    ]
    updated = checkpoint.get("updated_channels")
    parts = [
        checkpoint["v"],
        checkpoint["ts"],
        channel_versions,
        seen,
        None if updated is None else [position(channel, names) for channel in updated],
        [part for channel, value in inline.items() for part in (position(channel, names), value)],
        dict(metadata),
        {key: value for key, value in checkpoint.items() if key not in _OWN},
        [version for _, version in versions],
    ]
    return parts, json.dumps(list(names), separators=(",", ":"))


def unpack_envelope(parts: Any, checkpoint_id: str) -> tuple[Checkpoint, CheckpointMetadata]:
    """What :func:`pack_envelope` was given; ``channel_values`` holds the inline ones.

    Raises:
        CorruptDataError: it is not an envelope.
    """
    try:
        v, ts, channel_versions, seen, updated, inline, metadata, others, versions, names_text = parts
        names = json.loads(names_text)

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
