"""The contents of an item as bytes: JSON, encrypted if the store encrypts, and bound to the item."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ecowas_lc.errors import CorruptDataError, NotSerializableError
from ecowas_lc.memory.json_values import from_json, to_json
from ecowas_lc.search.place import Collection
from ecowas_lc.storage.keys import id_bytes


class ItemSealer(Protocol):
    """An object that encrypts, such as the saver's :class:`~ecowas_lc.EncryptedRedisSerializer`."""

    def seal(self, payload: bytes, context: bytes) -> bytes:
        """Return ``payload`` encrypted and bound to ``context``."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the payload that :meth:`seal` encrypted in the same context."""
        ...


@dataclass(frozen=True, slots=True)
class Contents:
    """Converts the parts of a collection's items to bytes and back; without a sealer nothing is encrypted."""

    at: Collection
    sealer: ItemSealer | None = None

    def encode_value(self, value: object, item_id: bytes) -> bytes:
        """Return a value as stored bytes.

        Raises:
            NotSerializableError: It is not a JSON object, or would not be the same after a round trip through
                JSON.
        """
        if not isinstance(value, Mapping):
            raise NotSerializableError(
                f'An item\'s value must be a dict like {{"text": "…"}}, not {type(value).__name__}.'
            )
        with contextlib.suppress(RecursionError):  # refused below, with the reason
            value = _plain(value)
        return self.seal(to_json(value, "value"), item_id, b"v")

    def decode_value(self, raw: bytes, item_id: bytes) -> dict[str, Any]:
        """Return the value of an item.

        Raises:
            CorruptDataError: The stored bytes are not a JSON object.
            DecryptionError: The value was encrypted with another key or for another item.
        """
        value = from_json(self.open(raw, item_id, b"v"), self.at.item(item_id))
        if not isinstance(value, dict):
            raise CorruptDataError("A stored item's value is not a JSON object. Delete the item, or put it again.")
        return value

    def seal(self, payload: bytes, item_id: bytes, part: bytes) -> bytes:
        """Return a part of an item as stored bytes; an empty part stays empty."""
        return self.sealer.seal(payload, self._context(item_id, part)) if self.sealer and payload else payload

    def open(self, raw: bytes, item_id: bytes, part: bytes) -> bytes:
        """Return the part that :meth:`seal` encrypted."""
        return self.sealer.open(raw, self._context(item_id, part)) if self.sealer else raw

    def _context(self, item_id: bytes, part: bytes) -> bytes:
        return b"\0".join((b"item", id_bytes(self.at.keys.prefix), id_bytes(self.at.name), part, item_id))


def _plain(value: object) -> Any:
    """Return ``value`` with its tuples as lists, as in JSON."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
