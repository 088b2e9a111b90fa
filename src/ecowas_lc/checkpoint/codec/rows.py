"""The parts of a stored row that the server reads too: links, value fields, blobs."""

from __future__ import annotations

from dataclasses import dataclass

from ecowas_lc.checkpoint.codec.elements import Sealer, pack_blob, split_blob
from ecowas_lc.errors import CorruptDataError

_SAME = 0xFFFF


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint's row, split: the ids it links to, the fields of its larger values, its blob."""

    parent: bytes
    fields: tuple[bytes, ...]
    blob: bytes
    header: bytes  # parent and fields as they are stored, which encryption binds to the blob


def pack_row(parent: bytes, fields: list[bytes]) -> bytes:
    """The header of a row: the parent's id and the names of its value fields. The blob follows it."""
    parts = [len(parent).to_bytes(2, "big"), parent, len(fields).to_bytes(2, "big")]
    for name in fields:
        parts += len(name).to_bytes(2, "big"), name
    return b"".join(parts)


def split_row(row: bytes) -> Row:
    """A stored row: the server's link to the checkpoint before it, then :func:`pack_row`, then the blob.

    Raises:
        CorruptDataError: it is shorter than it says.
    """
    link = int.from_bytes(row[:2], "big")
    start = at = 2 if link == _SAME else 2 + link
    size = int.from_bytes(row[at : at + 2], "big")
    parent = row[at + 2 : at + 2 + size]
    at += 2 + size
    count = int.from_bytes(row[at : at + 2], "big")
    at += 2
    fields = []
    for _ in range(count):
        size = int.from_bytes(row[at : at + 2], "big")
        fields.append(row[at + 2 : at + 2 + size])
        at += 2 + size
        if at > len(row):
            break
    if at > len(row) or len(row) < 6:
        raise CorruptDataError("A stored checkpoint is cut short.")
    return Row(parent, tuple(fields), row[at:], row[start:at])


def seal_blob(blob: bytes, sealer: Sealer | None, context: bytes) -> bytes:
    """``blob`` with its payload encrypted; its references stay readable, for the server, and are bound to it."""
    if sealer is None:
        return blob
    references, payload = split_blob(blob)
    return pack_blob(references, sealer.seal(payload, context + b"".join(references)))


def open_blob(blob: bytes, sealer: Sealer | None, context: bytes) -> bytes:
    """What :func:`seal_blob` sealed in the same context."""
    if sealer is None:
        return blob
    references, payload = split_blob(blob)
    return pack_blob(references, sealer.open(payload, context + b"".join(references)))
