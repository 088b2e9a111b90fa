"""Payloads back to values: nothing is imported or constructed that is not allowed, whatever stands there."""

from __future__ import annotations

from typing import Any

import ormsgpack

from ecowas_lc.checkpoint.codec.allowlist import Allowlist
from ecowas_lc.checkpoint.codec.elements import TEXT, VALUE, Elements, is_sealed
from ecowas_lc.checkpoint.codec.messages import unpack_array
from ecowas_lc.checkpoint.codec.types import put_together
from ecowas_lc.checkpoint.codec.writer import MAP, MESSAGE_ARRAY, OBJECT, REFERENCE, SURROGATES
from ecowas_lc.errors import CorruptDataError, DecryptionError, EcowasError


class Reader:
    """Unpacks one blob."""

    __slots__ = ("_allowed", "_elements", "_failure", "_is_element", "_references")

    def __init__(
        self, allowed: Allowlist, references: list[bytes], elements: Elements | None, is_element: bool = False
    ) -> None:
        self._allowed = allowed
        self._references = references
        self._elements = elements
        self._is_element = is_element
        self._failure: EcowasError | None = None

    def unpack(self, payload: bytes) -> Any:
        """A payload's value.

        Raises:
            CorruptDataError: it is not in the storage format.
            TypeNotAllowedError: it names a class that is not allowed; nothing was imported.
        """
        try:
            return ormsgpack.unpackb(payload, ext_hook=self._hook)
        except EcowasError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            if self._failure is not None:
                raise self._failure from None
            if is_sealed(payload):
                raise DecryptionError(
                    "A stored value is encrypted: read it with serde=EncryptedRedisSerializer(…) and its key."
                ) from error
            raise CorruptDataError("A stored value is not in the storage format.") from error

    def _hook(self, code: int, data: bytes) -> Any:
        try:
            if code == REFERENCE:
                return self._reference(data)
            if code == SURROGATES:
                return data.decode("utf-8", "surrogatepass")
            inner = self.unpack(data)
            if code == MESSAGE_ARRAY:
                return unpack_array(inner, None)
            if code == MAP:
                return dict(inner)
            if code == OBJECT:
                return put_together(inner[0], inner[1], self._allowed)
        except EcowasError as error:
            self._failure = error
            raise
        except (ValueError, TypeError, IndexError) as error:
            self._failure = CorruptDataError("A stored value is not in the storage format.")
            raise self._failure from error
        raise CorruptDataError(f"A stored value has an extension type {code} that this version does not know.")

    def _reference(self, data: bytes) -> Any:
        index = int.from_bytes(data, "big")
        if self._elements is None or index >= len(self._references):
            raise CorruptDataError("A stored value refers to an element that it does not list.")
        digest = self._references[index]
        kind, references, payload = self._elements.get(digest)
        if kind == TEXT:
            return self._elements.text(digest)
        if kind != VALUE or self._is_element:
            # Elements are written with references to texts alone: chains of values could unfold without end.
            raise CorruptDataError("A stored value refers to an element of the wrong kind.")
        return Reader(self._allowed, references, self._elements, is_element=True).unpack(payload)
