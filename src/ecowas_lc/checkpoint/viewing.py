"""Reading checkpoints to look at them, also those that hold objects of classes that are not allowed."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from ecowas_lc.checkpoint.client_cache import Memo
from ecowas_lc.checkpoint.codec.allowlist import Allowlist, spelt
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.checkpoint.saver import RedisSaver
from ecowas_lc.errors import TypeNotAllowedError


@dataclasses.dataclass(frozen=True)
class Unimported:
    """What is stored of an object whose class is another application's."""

    name: str
    data: Any


class ViewingSerializer(Serializer):
    """Reads every value; objects of classes that are not allowed become :class:`Unimported`."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = _Viewing(self.allowed)


class _Viewing(Allowlist):
    def __init__(self, known: Allowlist) -> None:
        super().__init__()
        self._known = known

    def find(self, name: str) -> type:
        try:
            return self._known.find(name)
        except TypeNotAllowedError:
            # What is put together by calling `_make` with what is stored, whatever that is.
            make = classmethod(lambda cls, data: Unimported(spelt(name), data))
            return type("Unimported", (tuple,), {"_fields": (), "_make": make})


def viewed(saver: Any) -> Any:
    """Return a saver on the same connections that reads every value; another library's saver as it is.

    The saver that was given does not see what this one reads, and nothing can be written with it.
    """
    if not isinstance(saver, RedisSaver) or not isinstance(saver.serde, Serializer):
        return saver
    serde = copy.copy(saver.serde)
    serde.allowed = _Viewing(serde.allowed)
    viewing = copy.copy(saver)
    viewing.serde = serde
    viewing._memo = Memo()
    viewing._context = None
    return viewing
