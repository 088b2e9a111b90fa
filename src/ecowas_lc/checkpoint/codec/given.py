"""Serializers that users bring along."""

from __future__ import annotations

from typing import Any

import ormsgpack

from ecowas_lc.checkpoint.codec.elements import Collector, Elements, pack_blob, split_blob
from ecowas_lc.errors import CorruptDataError, EcowasError


class GivenSerializer:
    """A langgraph serializer that the user chose, used as it is: its values are opaque, so nothing is shared."""

    shares = False

    def __init__(self, serde: Any) -> None:
        self.serde = serde

    def dump(self, value: Any, shared: Collector | None = None) -> bytes:
        """``value`` as a blob that holds the serializer's type and bytes."""
        kind, data = self.serde.dumps_typed(value)
        return pack_blob([], ormsgpack.packb([kind, bytes(data)]))

    def dump_row(self, parts: list[Any], names: str, shared: Collector | None = None) -> bytes:
        """A checkpoint's envelope as a blob."""
        return self.dump([*parts, names])

    def dump_batch(self, task_id: str, task_path: str, rows: list[list[Any]], shared: Collector | None) -> bytes:
        """A batch of pending writes as a blob."""
        return self.dump([task_id, task_path, rows])

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """What :meth:`dump` was given."""
        try:
            kind, data = ormsgpack.unpackb(split_blob(blob)[1])
        except (ValueError, TypeError) as error:
            raise CorruptDataError("A stored value was not written with this serializer.") from error
        try:
            return self.serde.loads_typed((kind, data))
        except EcowasError:
            raise
        except Exception as error:
            raise CorruptDataError(
                f"A stored value can't be read with {type(self.serde).__name__}: {error}. "
                "Give the saver the serde, and the key, that it was written with."
            ) from error
