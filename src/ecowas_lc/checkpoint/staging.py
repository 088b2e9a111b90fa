"""Threads in the making: written beside the place that they are for, in its cluster slot, gone by themselves.

No stored byte names its thread, so fields are moved as they are, whatever the format holds in them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from ecowas_lc.storage.keys import Keys, id_text
from ecowas_lc.storage.ops import Batch, command

STORED_FORMATS = (b"1", b"1.1")
"""What this version reads; it writes the second where namespaces of a thread share their lists."""
REMOVALS = b"D"  # the field that remembers removals, which is no part of what a thread holds
BESIDE_SECONDS = 3600  # what was cut off is gone by then

_CHUNK_FIELDS = 1000

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Beside(Keys):
    """Keys whose threads stand beside those that they are for."""

    token: str = ""

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """Places that nobody else uses."""
        return cls(keys.prefix, uuid.uuid4().hex)

    def thread(self, thread_id: str) -> bytes:
        """See :meth:`Keys.thread`."""
        return Keys.thread(self, thread_id) + b":copy:" + self.token.encode()


def beside_calls(key: bytes, fields: Iterable[Field]) -> Batch:
    """The calls that write fields beside."""
    words = [word for field in fields for word in field]
    return command("HSET", key, *words), command("EXPIRE", key, BESIDE_SECONDS)


def chunks(fields: Iterable[Field], most_bytes: int = 4 * 2**20) -> Iterator[list[Field]]:
    """As many fields at a time as one command, or one line, should carry."""
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
    """A hash as the server answers it, which is a dict or a flat list by protocol and client."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def runs_in(names: Iterable[bytes]) -> list[str]:
    """The runs that these fields of a thread are marks of."""
    return [id_text(name[1:]) for name in names if name.startswith(b"r")]
