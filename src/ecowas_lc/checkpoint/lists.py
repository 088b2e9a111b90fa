"""Lists worth sharing, and how one version of a list is told as edits of the version before."""

from __future__ import annotations

import struct
from typing import Any

from ecowas_lc.checkpoint.codec.elements import DIGEST_BYTES, digests_in
from ecowas_lc.checkpoint.codec.messages import SPECS

_KEEP, _NEW = 0, 1
_EDIT = struct.Struct(">BII")
_SAMPLE = 8
# A reference costs 16 bytes in the log and an element about 100 of the server's memory.
_WORTH_SHARING_BYTES = 128
_MOST_ITEMS = 2**20  # what the scripts take for a list; one of more is stored like other values


def is_worth_sharing(value: Any, size_of: Any) -> bool:
    """Whether a list's items are messages, or large enough on average to be stored once each."""
    if type(value) is not list or not value or len(value) > _MOST_ITEMS:
        return False
    if type(value[-1]) in SPECS or type(value[0]) in SPECS:
        return True
    step = max(1, len(value) // _SAMPLE)
    sample = value[::step][:_SAMPLE]
    # One large item among many small ones makes none of those worth it.
    total: int = sum(min(size_of(item), 4 * _WORTH_SHARING_BYTES) for item in sample)
    return total >= _WORTH_SHARING_BYTES * len(sample)


def edits(base: bytes, now: bytes) -> tuple[bytes, bytes]:
    """``now`` as edits of ``base`` (both are digests, joined): packed edits, and the digests that are new.

    An edit is its kind (0 keeps items of the base, 1 takes new digests), where from, and how many.
    """
    size = DIGEST_BYTES
    if now.startswith(base):
        kept, added = len(base) // size, (len(now) - len(base)) // size
        packed = _EDIT.pack(_KEEP, 0, kept) if kept else b""
        return packed + (_EDIT.pack(_NEW, 0, added) if added else b""), now[len(base) :]
    places: dict[bytes, int] = {}
    for place, digest in enumerate(digests_in(base)):
        places.setdefault(digest, place)
    runs: list[list[int]] = []  # kind, from, how many
    new: list[bytes] = []
    base_items = len(base) // size
    for digest in digests_in(now):
        if runs and runs[-1][0] == _KEEP:
            # An equal item may stand in several places: the one that goes on with the run is the right one.
            following = runs[-1][1] + runs[-1][2]
            if following < base_items and base[following * size : (following + 1) * size] == digest:
                runs[-1][2] += 1
                continue
        if (held := places.get(digest)) is not None:
            runs.append([_KEEP, held, 1])
        elif runs and runs[-1][0] == _NEW:
            new.append(digest)
            runs[-1][2] += 1
        else:
            runs.append([_NEW, len(new), 1])
            new.append(digest)
    return b"".join(_EDIT.pack(*run) for run in runs), b"".join(new)
