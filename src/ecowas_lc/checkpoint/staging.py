"""Staging copies of threads: written under another key in the same cluster slot, and expiring by themselves.

No stored byte names its thread, so fields are moved unchanged, whatever the format stores in them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from ecowas_lc.storage.keys import Keys, id_text
from ecowas_lc.storage.ops import Batch, command

STORED_FORMATS = (b"1", b"1.1")
"""The formats that this version reads; it writes the second if namespaces of a thread share their lists."""
REMOVALS = b"D"  # the field that records removals; not part of a thread's contents
STAGING_SECONDS = 3600  # after which an interrupted copy expires

_CHUNK_FIELDS = 1000

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class StagingKeys(Keys):
    """Keys for staging copies of threads."""

    token: str = ""

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """Return keys that no other copy uses."""
        return cls(keys.prefix, uuid.uuid4().hex)

    def thread(self, thread_id: str) -> bytes:
        """Return the key of a staging copy; see :meth:`Keys.thread`."""
        return Keys.thread(self, thread_id) + b":copy:" + self.token.encode()


def staging_calls(key: bytes, fields: Iterable[Field]) -> Batch:
    """Return the calls that write fields to a staging copy."""
    words = [word for field in fields for word in field]
    return command("HSET", key, *words), command("EXPIRE", key, STAGING_SECONDS)


def chunks(fields: Iterable[Field], most_bytes: int = 4 * 2**20) -> Iterator[list[Field]]:
    """Yield the fields in groups that fit in one command, or in one line."""
    some: list[Field] = []
    size = 0
    for name, value in fields:
        some.append((name, value))
        size += len(name) + len(value)
        if size > most_bytes or len(some) >= _CHUNK_FIELDS:
            yield some
            some, size = [], 0
    if some:
        yield some


def fields_of(reply: Any) -> dict[bytes, bytes]:
    """Return a hash from the server's answer, which is a dict or a flat list, depending on protocol and client."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def runs_in(names: Iterable[bytes]) -> list[str]:
    """Return the runs that these marker fields of a thread name."""
    return [id_text(name[1:]) for name in names if name.startswith(b"r")]
