"""The serializer (msgpack with an allowlist, exact, with references) and the adapter of a user's serializer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

import ormsgpack

from ecowas_lc.checkpoint.codec.allowlist import Allow, Allowlist
from ecowas_lc.checkpoint.codec.elements import (
    MESSAGE,
    MOST_REPEATED,
    PLAIN_TEXT,
    TEXT,
    VALUE,
    Collector,
    Elements,
    pack_blob,
    split_blob,
)
from ecowas_lc.checkpoint.codec.message_arrays import SPECS, pack_array, unpack_array
from ecowas_lc.checkpoint.codec.msgpack import FIRST_REFERENCE, LARGE, BlobReader, BlobWriter, is_large_bytes
from ecowas_lc.checkpoint.codec.recipes import Recipe, made, recipe_of, unchanged
from ecowas_lc.errors import CorruptDataError, EcowasError


class GivenSerializer:
    """A langgraph serializer that the user chose, used unchanged: its values are opaque, so nothing is shared."""

    shares = False

    def __init__(self, serde: Any) -> None:
        self.serde = serde

    def dump(self, value: Any, shared: Collector | None = None) -> bytes:
        """Return ``value`` as a blob with the serializer's type and bytes."""
        kind, data = self.serde.dumps_typed(value)
        return pack_blob([], ormsgpack.packb([kind, bytes(data)]))

    def dump_row(self, parts: list[Any], names: str, shared: Collector | None) -> tuple[bytes, list[bytes]]:
        """Return a checkpoint's envelope as a blob, and its references: none."""
        return self.dump([*parts, names]), []

    def dump_batch(
        self, task_id: str, task_path: str, rows: list[list[Any]], shared: Collector | None
    ) -> tuple[bytes, list[bytes]]:
        """Return a batch of pending writes as a blob, and its references: none."""
        return self.dump([task_id, task_path, rows]), []

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """Return the value that :meth:`dump` serialised."""
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
                "Pass the saver the serde, and the key, that it was written with."
            ) from error


_LONG_NAMES = 48
_MANY = 1024  # items from which a list is checked for repetitions
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Serializer:
    """Strict, exact serialisation of graph state.

    ``allow`` names the classes that may be written and read in addition to Python's, LangChain's messages and
    langgraph's types; see :class:`~ecowas_lc.checkpoint.codec.allowlist.Allowlist`. It is also a plain langgraph
    serializer (``dumps_typed``, ``loads_typed``) that you can pass to other savers.
    """

    shares = True  # equal items and long texts of a thread are stored once

    def __init__(self, allow: Allow = ()) -> None:
        self.allowed = Allowlist(allow)

    def with_allowed(self, allow: Any) -> Serializer:
        """Return a serializer that also allows these classes.

        Args:
            allow: Classes, or their names, such as ``"app.models.Order"``.
        """
        clone = Serializer()
        clone.allowed = self.allowed.extended(allow)
        return clone

    # langgraph calls this through BaseCheckpointSaver.with_allowlist in its strict mode.
    with_msgpack_allowlist = with_allowed

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return ``("ecowas", bytes)``, without references to other data."""
        return "ecowas", self.dump(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value that :meth:`dumps_typed` serialised.

        Raises:
            CorruptDataError: The bytes are not from :meth:`dumps_typed`.
            TypeNotAllowedError: A class in them is not allowed; nothing was imported.
        """
        if data[0] != "ecowas":
            raise CorruptDataError(f"This value was written by another serializer ({data[0]!r}).")
        return self.load(data[1])

    def dump(self, value: Any, shared: Collector | None = None) -> bytes:
        """Return ``value`` as a blob; with ``shared``, its long texts become elements.

        Raises:
            NotSerializableError: It holds data that could not be read back the same.
        """
        if shared is not None and is_large_bytes(value):
            return pack_blob([shared.add_bytes(value)], FIRST_REFERENCE)
        writer = BlobWriter(self.allowed, shared)
        payload = writer.pack(writer.lift(value))
        if shared is not None and len(payload) >= LARGE:
            return pack_blob([shared.add(VALUE, writer.references, payload)], FIRST_REFERENCE)
        return pack_blob(writer.references, payload)

    def dump_batch(
        self, task_id: str, task_path: str, rows: list[list[Any]], shared: Collector | None
    ) -> tuple[bytes, list[bytes]]:
        """Return a batch of pending writes (index, channel, value) as a blob, and its references.

        Large values become elements. On the next step the channel of a write often has the same value, which is
        then stored only once.
        """
        writer = BlobWriter(self.allowed, shared)
        if shared is not None:
            rows = [[*row[:2], writer.large(row[2])] for row in rows]
        return pack_blob(writer.references, writer.pack([task_id, task_path, rows])), writer.references

    def dump_row(self, parts: list[Any], names: str, shared: Collector | None) -> tuple[bytes, list[bytes]]:
        """Return a checkpoint's envelope as a blob, and its references.

        ``names``, the same in every step, become an element.
        """
        writer = BlobWriter(self.allowed, shared)
        listed = writer.lift_text(names) if len(names) >= _LONG_NAMES else names
        return pack_blob(writer.references, writer.pack([*parts, listed])), writer.references

    def dump_items(
        self, items: list[Any], shared: Collector, known: Mapping[Recipe, bytes] = _NOTHING
    ) -> tuple[list[bytes], dict[Recipe, bytes]]:
        """Return the digests of a list's items, each a separate element, and the digests by recipe.

        ``known``: the digests by recipe of an earlier version of the list.
        """
        # In each step, nearly all messages of a long thread have been seen before. A recipe has everything that
        # the element is made of, so a message that was changed in place is detected.
        kept = unchanged(items, known)
        recipes: dict[Recipe, bytes] = dict(islice(known.items(), kept))
        digests = list(recipes.values())
        seen = shared.seen.messages
        for item in islice(items, kept, None):
            recipe = recipe_of(item)
            if recipe is None:
                digest = self._dump_item(item, shared)
                recipe = shared.excerpt(digest)
            else:
                digest = known.get(recipe) or seen.get(recipe) or self._dump_recipe(recipe, item, shared)
            digests.append(digest)
            recipes[recipe] = digest
        shared.add_source(digests, items, self._dump_item)
        return digests, recipes

    def repeats_too_much(self, digests: list[bytes], shared: Collector) -> bool:
        """Return whether reading a list of these items would be refused because of too many repetitions."""
        if len(digests) <= _MANY or len(set(digests)) == len(digests):
            return False
        repeated = sum((times - 1) * shared.weight(digest) for digest, times in Counter(digests).items())
        return repeated > MOST_REPEATED

    def _dump_recipe(self, recipe: Recipe, item: Any, shared: Collector) -> bytes:
        digest = self._dump_item(item, shared)
        if type(recipe) is tuple:
            shared.seen.messages[recipe] = digest
            shared.seen.characters += len(recipe[3]) if len(recipe) == 4 else 0
        return digest

    def _dump_item(self, item: Any, shared: Collector) -> bytes:
        spec = SPECS.get(type(item))
        if spec is None:
            return self._dump_value(item, shared)
        writer = BlobWriter(self.allowed, shared)
        payload = writer.pack(writer.lift_array(pack_array(item, spec)))
        return shared.add(MESSAGE, writer.references, payload)

    def _dump_value(self, item: Any, shared: Collector) -> bytes:
        if type(item) is str and (digest := shared.add_text(item)) is not None:
            return digest
        writer = BlobWriter(self.allowed, shared)
        payload = writer.pack(writer.lift(item))
        return shared.add(VALUE, writer.references, payload)

    def load(self, blob: bytes, elements: Elements | None = None) -> Any:
        """Return the value that :meth:`dump` serialised."""
        references, payload = split_blob(blob)
        return BlobReader(self.allowed, references, elements).unpack(payload)

    def load_items(
        self, digests: list[bytes], elements: Elements, made: dict[bytes, Any] | None = None
    ) -> list[Any]:
        """Return the items that :meth:`dump_items` serialised, as new objects at each call.

        With ``made``, which holds items by digest, only those that it lacks are new: they are added to it.
        """
        if len(digests) > _MANY and len(set(digests)) < len(digests):
            for digest, times in Counter(digests).items():
                elements.count_repeated((times - 1) * elements.weight(digest))
        if made is None:
            return self._load_items(digests, elements)
        lacking = [digest for digest in dict.fromkeys(digests) if digest not in made]
        made.update(zip(lacking, self._load_items(lacking, elements), strict=True))
        return [made[digest] for digest in digests]

    def _load_items(self, digests: list[bytes], elements: Elements) -> list[Any]:
        out = []
        recipes = elements.recipes
        plain = elements.plain or {}
        texts = elements.texts
        unpack = ormsgpack.unpackb
        for digest in digests:
            recipe = recipes.get(digest)
            if recipe is not None:
                out.append(made(recipe) if type(recipe) is tuple else self._remade(digest, recipe))
                continue
            blob = plain.get(digest)
            if blob is not None and blob[:2] == b"\x00\x01" and blob[18:19] == MESSAGE:
                reference = blob[2:18]
                text = texts.get(reference)
                raw = plain.get(reference, b"") if text is None else PLAIN_TEXT
                if raw[:3] == PLAIN_TEXT:
                    try:
                        if text is None:
                            text = texts[reference] = raw[3:].decode()
                        out.append(unpack_array(unpack(blob[19:]), text))
                        continue
                    except Exception:  # noqa: S110 - extension types, or corrupt: the slow path decides
                        pass
            out.append(self._load_item(digest, elements))
        return out

    def recipes_of(self, items: list[Any], digests: list[bytes], elements: Elements) -> dict[Recipe, bytes]:
        """Return the digests by recipe of a list's items that were just read."""
        recipes: dict[Recipe, bytes] = {}
        for item, digest in zip(items, digests, strict=True):
            recipe = elements.recipes.get(digest) or recipe_of(item) or elements.excerpt(digest)
            recipes[recipe] = digest
        return recipes

    def _remade(self, digest: bytes, recipe: str | Elements) -> Any:
        return recipe if isinstance(recipe, str) else self._load_item(digest, recipe)

    def _load_item(self, digest: bytes, elements: Elements) -> Any:
        kind, references, payload = elements.get(digest)
        if kind == MESSAGE:
            array = BlobReader(self.allowed, references, elements, is_element=True).unpack(payload)
            # Only a nil content means the first reference; all others are used by their index.
            first = type(array) is list and len(array) > 1 and array[1] is None and references
            return unpack_array(array, elements.text(references[0]) if first else None)
        if kind == TEXT:
            return elements.text(digest)
        if kind == VALUE:
            return BlobReader(self.allowed, references, elements, is_element=True).unpack(payload)
        raise CorruptDataError("A stored list refers to an element of an unknown kind.")
