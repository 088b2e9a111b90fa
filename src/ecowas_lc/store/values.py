"""What an item holds, as bytes: JSON, sealed where the store encrypts, bound to the item it belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ecowas_lc.errors import CorruptDataError, NotSerializableError
from ecowas_lc.memory.json_values import from_json, to_json
from ecowas_lc.search.place import Collection
from ecowas_lc.storage.keys import id_bytes


class Sealer(Protocol):
    """What encrypts: the saver's, of :class:`~ecowas_lc.EncryptedRedisSerializer`."""

    def seal(self, payload: bytes, context: bytes) -> bytes:
        """``payload`` encrypted and bound to ``context``."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What :meth:`seal` sealed in the same context."""
        ...


@dataclass(frozen=True, slots=True)
class Contents:
    """Turns the parts of a collection's items into bytes and back; without a sealer nothing is encrypted."""

    at: Collection
    sealer: Sealer | None = None

    def encode_value(self, value: object, item_id: bytes) -> bytes:
        """A value as stored.

        Raises:
            NotSerializableError: it is not a JSON object that comes back the same.
        """
        if not isinstance(value, Mapping):
            raise NotSerializableError(
                f'An item\'s value must be a dict like {{"text": "…"}}, not {type(value).__name__}.'
            )
        with contextlib.suppress(RecursionError):  # refused below, with the reason
            value = _plain(value)
        return self.seal(to_json(value, "value"), item_id, b"v")

    def decode_value(self, raw: bytes, item_id: bytes) -> dict[str, Any]:
        """The value of an item.

        Raises:
            CorruptDataError: what is stored is not a JSON object.
            DecryptionError: it was sealed with another key or for another item.
        """
        value = from_json(self.open(raw, item_id, b"v"), self.at.item(item_id))
        if not isinstance(value, dict):
            raise CorruptDataError("A stored item's value is not a JSON object. Delete the item, or put it again.")
        return value

    def seal(self, payload: bytes, item_id: bytes, part: bytes) -> bytes:
        """A part of an item as stored; nothing stays nothing."""
        return self.sealer.seal(payload, self._context(item_id, part)) if self.sealer and payload else payload

    def open(self, raw: bytes, item_id: bytes, part: bytes) -> bytes:
        """What :meth:`seal` made."""
        return self.sealer.open(raw, self._context(item_id, part)) if self.sealer else raw

    def _context(self, item_id: bytes, part: bytes) -> bytes:
        return b"\0".join((b"item", id_bytes(self.at.keys.prefix), id_bytes(self.at.name), part, item_id))


def _plain(value: object) -> Any:
    """``value`` with its tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
