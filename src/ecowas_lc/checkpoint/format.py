"""Conversion of checkpoints to their stored form and back; no I/O and no knowledge of the transport.

A checkpoint's row holds everything except the channels' larger values. Channel names, node names and channel
versions are listed once; because they rarely change between steps, these lists are stored once per thread.
``channel_versions`` and ``versions_seen`` are pairs of positions in those lists. A shared list is stored as edits
of its previous version.
"""

from __future__ import annotations

import hmac
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.types import ERROR, _DeltaSnapshot

from ecowas_lc.checkpoint.client_cache import ClientCache, SeenList, ThreadMemo
from ecowas_lc.checkpoint.codec.elements import (
    DIGEST_BYTES,
    CheckpointRow,
    Collector,
    Digests,
    Elements,
    Sealer,
    digests_in,
    open_blob,
    pack_row,
    seal_blob,
    split_blob,
    split_row,
)
from ecowas_lc.checkpoint.codec.message_arrays import SPECS
from ecowas_lc.checkpoint.codec.recipes import Recipe
from ecowas_lc.checkpoint.configs import CheckpointPlace, channel_of, decode_part, encode_part, field_of
from ecowas_lc.checkpoint.entries import MESSAGES, About, about
from ecowas_lc.checkpoint.shared_values import Shared, SharedValues
from ecowas_lc.errors import CorruptDataError, DecryptionError, InvalidInputError, NotSerializableError
from ecowas_lc.storage.keys import id_bytes, id_text

_MAPPINGS = (dict, Mapping)  # dict alone would do but for its speed: asking the abstract class is slow
_MAPS = ("channel_values", "channel_versions", "versions_seen")
_REQUIRED = frozenset(("v", "id", "ts", *_MAPS))
_OWN = {"v", "id", "ts", "channel_values", "channel_versions", "versions_seen", "updated_channels"}


def check_whole(checkpoint: Any) -> None:
    """Check that a checkpoint has everything that langgraph's ``Checkpoint`` requires.

    Raises:
        InvalidInputError: A key is missing, or a value is not a mapping.
    """
    if not isinstance(checkpoint, _MAPPINGS):
        raise InvalidInputError(f"A checkpoint is a mapping, not a {type(checkpoint).__name__}.")
    if not checkpoint.keys() >= _REQUIRED:
        missing = sorted(_REQUIRED - checkpoint.keys())
        raise InvalidInputError(
            f"The checkpoint has no {' and no '.join(map(repr, missing))}. langgraph's empty_checkpoint() "
            "creates a complete one."
        )
    for name in _MAPS:
        if not isinstance(checkpoint[name], _MAPPINGS):
            raise InvalidInputError(
                f"The checkpoint's {name!r} must be a mapping, not a {type(checkpoint[name]).__name__}."
            )


def pack_envelope(
    checkpoint: Checkpoint, metadata: CheckpointMetadata, inline: dict[str, Any]
) -> tuple[list[Any], str]:
    """Return a checkpoint (without its id, which is its key) and its metadata as one list, and its names."""
    number_of: defaultdict[str, int] = defaultdict(count().__next__)  # channels and nodes by name, as they occur
    versions: defaultdict[Any, int] = defaultdict(count().__next__)
    current: list[int] = []
    for channel, version in checkpoint["channel_versions"].items():
        # Keyed by type as well: 1 and 1.0 are equal, but each must keep its type.
        current += number_of[channel], versions[type(version), version]
    seen: list[list[int]] = []
    for node, by_channel in checkpoint["versions_seen"].items():
        flat = [number_of[node]]
        for channel, version in by_channel.items():
            flat += number_of[channel], versions[type(version), version]
        seen.append(flat)
    updated = checkpoint.get("updated_channels")
    small: list[Any] = []
    for channel, value in inline.items():
        small += number_of[channel], value
    parts = [
        checkpoint["v"],
        checkpoint["ts"],
        current,
        seen,
        None if updated is None else [number_of[channel] for channel in updated],
        small,
        metadata,
        {key: checkpoint[key] for key in checkpoint.keys() - _OWN},  # type: ignore[literal-required]
        [version for _, version in versions],
    ]
    return parts, _names_text(tuple(number_of))


@lru_cache(maxsize=512)
def _names_text(names: tuple[str, ...]) -> str:
    return json.dumps(names, separators=(",", ":"))


@lru_cache(maxsize=512)
def _names_of(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if type(names) is not list or not all(type(name) is str for name in names):
        raise CorruptDataError("A stored checkpoint has no list of names.")
    return tuple(names)


def unpack_envelope(parts: Any, checkpoint_id: str) -> tuple[Checkpoint, CheckpointMetadata]:
    """Return what :func:`pack_envelope` packed; ``channel_values`` has the inline values.

    Raises:
        CorruptDataError: It is not an envelope.
    """
    try:
        v, ts, channel_versions, seen, updated, inline, metadata, others, versions, names_text = parts
        names = _names_of(names_text)

        def by_channel(flat: list[int]) -> dict[str, Any]:
            return {names[flat[at]]: versions[flat[at + 1]] for at in range(0, len(flat), 2)}

        checkpoint: Any = {
            **others,
            "v": v,
            "ts": ts,
            "id": checkpoint_id,
            "channel_values": {names[inline[at]]: inline[at + 1] for at in range(0, len(inline), 2)},
            "channel_versions": by_channel(channel_versions),
            "versions_seen": {names[node]: by_channel(flat) for node, *flat in seen},
            "updated_channels": None if updated is None else [names[at] for at in updated],
        }
        if type(metadata) is not dict:
            raise CorruptDataError("A stored checkpoint has no metadata.")
    except CorruptDataError:
        raise
    except Exception as error:  # json alone can raise four classes, and a stored value's methods others
        raise CorruptDataError("A stored checkpoint is not in the storage format.") from error
    return checkpoint, metadata  # type: ignore[return-value]


_KEEP, _NEW = 0, 1
_EDIT = struct.Struct(">BII")
_SAMPLE = 8
# A reference costs 16 bytes in the log, and an element about 100 bytes of the server's memory.
_WORTH_SHARING_BYTES = 128
_MOST_ITEMS = 2**20  # limit of the scripts for a list; a longer list is stored like other values


def is_worth_sharing(value: Any, size_of: Any, most: int = _MOST_ITEMS) -> bool:
    """Return whether a list has at most ``most`` items, and they are messages or large enough on average."""
    if type(value) is not list or not value or len(value) > most:
        return False
    if type(value[-1]) in SPECS or type(value[0]) in SPECS:
        return True
    step = max(1, len(value) // _SAMPLE)
    sample = value[::step][:_SAMPLE]
    # One large item among many small ones does not make the small ones worth sharing.
    total: int = sum(min(size_of(item), 4 * _WORTH_SHARING_BYTES) for item in sample)
    return total >= _WORTH_SHARING_BYTES * len(sample)


def edits(base: bytes, now: bytes) -> tuple[bytes, bytes]:
    """Return ``now`` as edits of ``base`` (both are joined digests): the packed edits, and the new digests.

    An edit has a kind (0 keeps items of the base, 1 takes new digests), a start and a count.
    """
    size = DIGEST_BYTES
    if now.startswith(base):
        kept, added = len(base) // size, (len(now) - len(base)) // size
        packed = _EDIT.pack(_KEEP, 0, kept) if kept else b""
        return packed + (_EDIT.pack(_NEW, 0, added) if added else b""), now[len(base) :]
    places: dict[bytes, int] = {}
    for place, digest in enumerate(digests_in(base)):
        places.setdefault(digest, place)
    runs: list[list[int]] = []  # kind, start, count
    new: list[bytes] = []
    base_items = len(base) // size
    for digest in digests_in(now):
        if runs and runs[-1][0] == _KEEP:
            # Equal items may occur in several places: prefer the one that continues the current run.
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


_PLAIN, _LIST = b"p", b"l"
# Only in answers: a list that the client already has, a value already answered, the beginning of such a list.
_KNOWN, _SENT, _BEGINNING = b"k", b"s", b"b"
_SENT_AT = struct.Struct(">II")
_BEGINNING_AT = struct.Struct(">III")
_BARE, _SNAPSHOT = b"b", b"d"
# Smaller values are stored in every checkpoint's row: a separate field would cost more.
_INLINE_TEXT = 64
_MOST_FIELDS = 65_535  # their count is stored in 2 bytes
_MOST_KNOWN = 64  # lists that a page names as known: each call of a subgraph has a namespace of its own
_FEW_BYTES = 2**20  # of elements, that are not worth being searched for what is not needed any more


class ListValue(NamedTuple):
    """A channel's list as digests of its items; ``wrapper``: bare, or in a delta channel's snapshot.

    ``mark`` identifies the list, and proves that it is complete and belongs to this place.
    """

    channel: str
    wrapper: bytes
    digests: bytes
    mark: bytes
    recipes: dict[Recipe, bytes]  # its items' digests by recipe


@dataclass(slots=True, eq=False, repr=False)
class CheckpointDraft:
    """The data that one ``put`` stores: the row, its value fields, new values and the elements they may need."""

    row: bytes
    fields: list[bytes]
    values: dict[bytes, bytes | ListValue]
    elements: Collector
    row_references: list[bytes]
    idle: frozenset[bytes] = frozenset()  # the members of ``fields`` that belong to idle delta channels
    lacking: tuple[bytes, ...] = ()  # delta channels whose value is an ancestor's plus the writes since then
    has_delta: bool = False


@dataclass(eq=False, repr=False)
class Found:
    """One checkpoint as the server returned it."""

    place: CheckpointPlace
    row: bytes
    values: list[bytes] = field(default_factory=list)
    writes: list[bytes] = field(default_factory=list)
    is_latest: bool = True  # in its namespace

    @cached_property
    def parts(self) -> CheckpointRow:
        """The parts of the row; see :func:`split_row`."""
        return split_row(self.row)


_Batch = tuple[str, str, list[tuple[int, str, Any]]]


class Neighbours:
    """What checkpoints of a thread that are read page by page have in common; it holds about what a page does."""

    __slots__ = ("_held_by", "elements", "lists", "made", "values")

    def __init__(self) -> None:
        self.elements: Elements | None = None
        self.made: dict[bytes, Any] = {}  # items of lists by digest, each one object for all
        self.values: dict[bytes, tuple[bytes, Shared]] = {}  # as they are stored, by field
        self.lists: dict[bytes, SeenList] = {}  # that the next page need not bring again, by mark
        self._held_by: Counter[bytes] = Counter()  # how many checkpoints of the page hold a field

    def turn_to(self, page: list[Found], elements: Elements) -> None:
        """Go on with the next page and the elements that came with it."""
        if self.elements is None:
            self.elements = elements
        else:
            listed = {digest for seen in self.lists.values() for digest in digests_in(seen.digests)}
            kept = self.elements.excerpt(*listed)
            if len(self.elements) > 2 * len(kept) + _FEW_BYTES:
                self.elements = kept
                self.made = {digest: self.made[digest] for digest in listed}
            self.elements.add(elements)
        self._held_by = Counter(name for found in page for name in found.parts.fields)
        self.values = {name: held for name, held in self.values.items() if name in self._held_by}
        lists: dict[tuple[str | None, str], SeenList] = {}
        for found in page:
            for name, stored in zip(found.parts.fields, found.values, strict=True):
                if stored[:1] == _LIST:
                    lists[found.place.namespace, channel_of(name)] = SeenList(name, stored[2:18], stored[18:])
        self.lists = {seen.mark: seen for seen in [*lists.values()][-_MOST_KNOWN:]}

    def share(self, name: bytes, stored: bytes) -> bool:
        """Whether to make a value once for all: a list, or what several checkpoints of the page hold."""
        return stored[:1] == _LIST or self._held_by[name] > 1


class Format:
    """The storage format of one saver: its serializer and, if values are encrypted, its sealer."""

    def __init__(self, serializer: Any, sealer: Sealer | None, prefix: str, memo: ClientCache) -> None:
        self.serializer = serializer
        self.sealer = sealer
        self.memo = memo
        self._prefix = id_bytes(prefix)
        self.shares = bool(getattr(serializer, "shares", False))

    def context(self, thread_id: str, *parts: bytes) -> bytes:
        """Return the unambiguous context of an encrypted payload: prefix, thread and location in it."""
        if self.sealer is None:
            return b""
        return b"".join(
            len(part).to_bytes(4, "big") + part for part in (self._prefix, id_bytes(thread_id), *parts)
        )

    def collector(self, thread_id: str) -> Collector:
        """Return a collector for one write to a thread."""
        if self.sealer is None:
            return Collector(b"", None, self.memo.seen(), b"")
        # Encrypted digests are keyed by thread, so one thread's digests are useless to another.
        key = self.sealer.digest_key(self.context(thread_id))
        return Collector(self.context(thread_id, b"e"), self.sealer, Digests(), key)

    def elements(self, thread_id: str, digests: list[bytes], bodies: list[bytes]) -> Elements:
        """Return the elements of one read of a thread."""
        if len(digests) != len(bodies):
            raise CorruptDataError("A stored value refers to half an element.")
        return Elements(dict(zip(digests, bodies, strict=True)), self.context(thread_id, b"e"), self.sealer)

    # --- writing ---

    def draft(
        self,
        place: CheckpointPlace,
        parent: str,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        absent: Collection[bytes] = (),
    ) -> CheckpointDraft:
        """Return a checkpoint ready to send, with its new values serialised.

        Args:
            place: Where to store it.
            parent: The parent checkpoint's id.
            checkpoint: The checkpoint.
            metadata: Its metadata.
            new_versions: The versions of the channels that changed.
            absent: Fields that the server lacks.

        Raises:
            NotSerializableError: A value could not be read back the same.
        """
        shared = self.collector(place.thread_id)
        inline: dict[str, Any] = {}
        fields: list[bytes] = []
        values: dict[bytes, bytes | ListValue] = {}
        versions = checkpoint["channel_versions"]
        ns = place.ns
        items_left = _MOST_ITEMS - sum(
            len(value)
            for channel, value in checkpoint["channel_values"].items()
            if type(value) is list and channel not in new_versions
        )
        for channel, value in checkpoint["channel_values"].items():
            version = versions.get(channel)
            if version is None or _is_small(value):
                inline[channel] = value
                continue
            name = field_of(ns, channel, version)
            fields.append(name)
            if channel in new_versions:
                stored = values[name] = self.value(place, name, channel, value, shared, items_left)
                if isinstance(stored, ListValue):
                    items_left -= len(stored.digests) // DIGEST_BYTES
        # langgraph passes a delta channel's value only from time to time. As long as the channel's version is the
        # one it was stored under, the stored value is current: the row lists it, so that readers find it.
        idle: set[bytes] = set()
        lacking: list[bytes] = []
        counted = list(_delta_counters(metadata))
        for channel, updates in counted:
            version = versions.get(channel)
            if version is None or channel in checkpoint["channel_values"]:
                continue
            name = field_of(ns, channel, version)
            if updates == 0 and channel not in new_versions and name not in absent:
                fields.append(name)
                idle.add(name)
            else:
                lacking.append(encode_part(channel))
        if len(fields) > _MOST_FIELDS:
            raise NotSerializableError(f"A checkpoint of more than {_MOST_FIELDS} channels can't be stored.")
        header = pack_row(id_bytes(parent), fields)
        parts, names = pack_envelope(checkpoint, metadata, inline)
        blob, references = self.serializer.dump_row(parts, names, shared if self.shares else None)
        if self.sealer is not None:
            blob = seal_blob(blob, self.sealer, self.context(place.thread_id, b"c", ns, place.id, header))
        return CheckpointDraft(
            header + blob, fields, values, shared, references, frozenset(idle), tuple(lacking), bool(counted)
        )

    def value(
        self,
        place: CheckpointPlace,
        name: bytes,
        channel: str,
        value: Any,
        shared: Collector,
        most_items: int = _MOST_ITEMS,
    ) -> bytes | ListValue:
        """Return one channel's stored value: a list worth sharing as digests, anything else as a blob."""
        wrapper, items = _BARE, value
        if type(value) is _DeltaSnapshot:
            wrapper, items = _SNAPSHOT, value.value
        if self.shares and is_worth_sharing(items, lambda item: len(self.serializer.dump(item)), most_items):
            before = self.memo.thread(place.thread_id).base_of(place.namespace or "", channel)
            if place.namespace:
                wrapper = wrapper.upper()  # upper case: in the whole thread's log; see docs/storage-format.md
            listed, recipes = self.serializer.dump_items(items, shared, before.recipes)
            if not self.serializer.repeats_too_much(listed, shared):
                digests = b"".join(listed)
                return ListValue(channel, wrapper, digests, mark_of(name, wrapper, digests, shared.key), recipes)
        blob: bytes = self.serializer.dump(value, shared if self.shares else None)
        if self.sealer is not None:
            blob = seal_blob(blob, self.sealer, self.context(place.thread_id, b"v", name))
        return blob

    def batch(
        self, place: CheckpointPlace, writes: Any, task_id: str, task_path: str
    ) -> tuple[bytes, Collector, list[bytes]]:
        """Return a batch of pending writes, the elements it may need, and those it refers to."""
        shared = self.collector(place.thread_id)
        rows = [
            [WRITES_IDX_MAP.get(channel, position), channel, repr(value) if _is_failure(channel, value) else value]
            for position, (channel, value) in enumerate(writes)
        ]
        blob, references = self.serializer.dump_batch(task_id, task_path, rows, shared if self.shares else None)
        if self.sealer is not None:
            blob = seal_blob(blob, self.sealer, self.context(place.thread_id, b"w", place.ns, place.id))
        return blob, shared, references

    def entry(
        self, place: CheckpointPlace, checkpoint: Checkpoint, new_versions: ChannelVersions, memo: ThreadMemo
    ) -> bytes:
        """Return a checkpoint's entry for lists of threads; empty if it is not in the thread's own namespace."""
        if place.namespace:
            return b""
        version = checkpoint["channel_versions"].get(MESSAGES)
        known, blob = memo.entry
        if version is None or version != known or MESSAGES in new_versions:
            blob = self.serializer.dump(list(about(checkpoint["channel_values"])))
            memo.entry = version, blob
        id_ = place.id
        blob = seal_blob(blob, self.sealer, self.context(place.thread_id, b"t", id_))
        return len(id_).to_bytes(2, "big") + id_ + blob

    # --- reading ---

    def load_entry(self, place: CheckpointPlace, raw: bytes | None) -> About | None:
        """Return what :meth:`entry` wrote; ``None`` if there is none for this checkpoint."""
        head = len(place.id).to_bytes(2, "big") + place.id
        if raw is None or not raw.startswith(head):
            return None
        context = self.context(place.thread_id, b"t", place.id)
        parts = self.serializer.load(open_blob(raw[len(head) :], self.sealer, context))
        match parts:
            case [str() | None as title, int() | None as messages, int() | None as turns, *_]:
                return About(title, messages, turns)
        raise CorruptDataError("The stored lists of a thread are not in the storage format.")

    def checkpoint(
        self, found: Found, elements: Elements, neighbours: Neighbours | None = None
    ) -> CheckpointTuple:
        """Return a checkpoint in langgraph's form; it shares values with ``neighbours`` until you look at them.

        Raises:
            CorruptDataError: The stored data does not follow the storage format.
            TypeNotAllowedError: A stored value names a class that is not allowed.
        """
        place = found.place
        assert place.checkpoint_id is not None
        if neighbours is not None:
            assert neighbours.elements is not None
            elements = neighbours.elements
        elements.reset_counts()
        row = found.parts
        checkpoint, metadata = self.envelope(found, elements)
        values = checkpoint["channel_values"]
        shared: dict[str, Shared] = {}
        for name, stored in zip(row.fields, found.values, strict=True):
            channel = channel_of(name)
            if neighbours is not None and neighbours.share(name, stored):
                shared[channel] = self._shared_value(place, name, stored, elements, neighbours)
                values[channel] = shared[channel].value
            else:
                values[channel] = self.load_value(place, name, stored, elements)
        if shared:
            checkpoint["channel_values"] = SharedValues(values, shared)
        return CheckpointTuple(
            config=place.config(place.checkpoint_id),
            checkpoint=checkpoint,
            metadata=metadata,
            parent_config=place.config(id_text(row.parent)) if row.parent else None,
            pending_writes=self.pending_writes(found, elements),
        )

    def envelope(self, found: Found, elements: Elements) -> tuple[Checkpoint, CheckpointMetadata]:
        """Return a checkpoint with only its inline values, and its metadata."""
        place = found.place
        row = found.parts
        context = self.context(place.thread_id, b"c", place.ns, place.id, row.header)
        parts = self.serializer.load(open_blob(row.blob, self.sealer, context), elements)
        return unpack_envelope(parts, place.checkpoint_id or "")

    def _shared_value(
        self, place: CheckpointPlace, name: bytes, stored: bytes, elements: Elements, neighbours: Neighbours
    ) -> Shared:
        """Return one channel's value, made once for all checkpoints that hold it."""
        held = neighbours.values.get(name)
        if held is not None and held[0] == stored:
            return held[1]
        value = self.load_value(place, name, stored, elements, neighbours.made)
        shared = Shared(value, lambda: self.load_value(place, name, stored, elements.counted_anew()))
        neighbours.values[name] = stored, shared
        return shared

    def load_value(
        self,
        place: CheckpointPlace,
        name: bytes,
        stored: bytes,
        elements: Elements,
        made: dict[bytes, Any] | None = None,
    ) -> Any:
        """Return one channel's value from its stored form; ``made``: list items to use again."""
        if stored[:1] == _LIST:
            wrapper, mark, digests = stored[1:2], stored[2:18], stored[18:]
            self._check_mark(place.thread_id, mark, name, wrapper, digests)
            items = self.serializer.load_items(digests_in(digests), elements, made)
            return _DeltaSnapshot(items) if wrapper.lower() == _SNAPSHOT else items
        if stored[:1] != _PLAIN:
            raise CorruptDataError(f"The value of channel {channel_of(name)!r} of a stored checkpoint is missing.")
        context = self.context(place.thread_id, b"v", name)
        return self.serializer.load(open_blob(stored[1:], self.sealer, context), elements)

    def _check_mark(self, thread_id: str, mark: bytes, name: bytes, wrapper: bytes, digests: bytes) -> None:
        keys = self.sealer.mark_keys(self.context(thread_id)) if self.sealer else [b""]
        if any(hmac.compare_digest(mark, mark_of(name, wrapper, digests, key)) for key in keys):
            return
        message = f"The stored list of channel {channel_of(name)!r} was moved or changed"
        if self.sealer is not None:
            raise DecryptionError(f"{message}, or written with a key that was not given.")
        raise CorruptDataError(f"{message}.")

    def references(self, found: Found) -> list[bytes]:
        """Return the digests of the elements that a checkpoint's row and its pending writes refer to."""
        blobs = (found.parts.blob, *found.writes)
        return [digest for blob in blobs for digest in split_blob(blob)[0]]

    def expand(self, found: Found, known: dict[bytes, SeenList]) -> None:
        """Replace the short form of known lists in the server's answer with the lists.

        Raises:
            CorruptDataError: The answer refers to a list that was not declared as known.
        """
        for at, stored in enumerate(found.values):
            if stored[:1] == _KNOWN:
                seen = known.get(stored[2:18])
                if seen is None:
                    raise CorruptDataError("The server assumes that a list is known, but it is not.")
                found.values[at] = _LIST + stored[1:] + seen.digests

    def lists_of(
        self, found: Found, elements: Elements, read: CheckpointTuple, known: dict[bytes, SeenList]
    ) -> dict[tuple[str, str], SeenList]:
        """Return the lists of a checkpoint that was read, except those already known."""
        lists: dict[tuple[str, str], SeenList] = {}
        for name, stored in zip(found.parts.fields, found.values, strict=True):
            mark, digests = stored[2:18], stored[18:]
            if stored[:1] == _LIST and mark not in known:
                channel = channel_of(name)
                items = read.checkpoint["channel_values"][channel]
                items = items.value if type(items) is _DeltaSnapshot else items
                recipes = self.serializer.recipes_of(items, digests_in(digests), elements)
                if self.sealer is not None:
                    # Digests made with a former key, or without a key, must be replaced by the next write.
                    key = self.sealer.digest_key(self.context(found.place.thread_id))
                    recipes = recipes if mark == mark_of(name, stored[1:2], digests, key) else {}
                lists[found.place.namespace or "", channel] = SeenList(name, mark, digests, recipes)
        return lists

    def pending_writes(self, found: Found, elements: Elements) -> list[PendingWrite]:
        """Return the pending writes of a checkpoint, in the order in which a run applies them."""
        kept: dict[tuple[str, int], tuple[str, str, Any]] = {}
        for task_id, task_path, rows in self._stored_batches(found, elements):
            for position, channel, value in rows:
                # A task's ordinary writes are written once; newer errors, interrupts and resumes replace old ones.
                if position < 0 or (task_id, position) not in kept:
                    kept[task_id, position] = (task_path, channel, value)
        order = sorted(kept, key=lambda key: writes_sort_key(kept[key][0], *key))
        return [(task_id, *kept[task_id, position][1:]) for task_id, position in order]

    def batches(self, found: Found, elements: Elements) -> list[tuple[str, str, list[tuple[str, Any]]]]:
        """Return the batches of pending writes as they were put: task id, task path, writes."""
        return [
            (task_id, task_path, [(channel, value) for _, channel, value in rows])
            for task_id, task_path, rows in self._stored_batches(found, elements)
        ]

    def _stored_batches(self, found: Found, elements: Elements) -> list[_Batch]:
        place = found.place
        elements.reset_counts()
        context = self.context(place.thread_id, b"w", place.ns, place.id)
        batches: list[_Batch] = []
        for batch in found.writes:
            parts = self.serializer.load(open_blob(batch, self.sealer, context), elements)
            try:
                task_id, task_path, rows = parts
                checked = [(int(position), str(channel), value) for position, channel, value in rows]
            except Exception as error:  # code of a stored value's class can raise anything
                raise CorruptDataError("Stored pending writes are not in the storage format.") from error
            batches.append((str(task_id), str(task_path), checked))
        return batches


def found_in(thread_id: str, answer: Any) -> list[Found]:
    """Return the checkpoints in an answer of the read script.

    Raises:
        CorruptDataError: It refers to something that it does not hold.
    """
    try:
        for _, _, _, values, _, _ in answer:
            for at, value in enumerate(values):
                if value[:1] == _SENT:
                    row, position = _SENT_AT.unpack(value[1:])
                    values[at] = answer[row][3][position]
                elif value[:1] == _BEGINNING:
                    row, position, size = _BEGINNING_AT.unpack(value[18:])
                    values[at] = _LIST + value[1:18] + answer[row][3][position][18 : 18 + size]
    except (IndexError, struct.error):
        raise CorruptDataError("The server's answer refers to a value that it does not contain.") from None
    return [
        Found(CheckpointPlace(thread_id, decode_part(ns), id_text(id_)), row, values, writes, bool(is_latest))
        for ns, id_, row, values, writes, is_latest in answer
    ]


def mark_of(name: bytes, wrapper: bytes, digests: bytes, key: bytes) -> bytes:
    """Return the mark of a list value; ``key`` is the thread's digest key if values are encrypted."""
    mark = blake2b(len(name).to_bytes(2, "big") + name + wrapper, digest_size=16, key=key, person=b"list")
    mark.update(digests)
    return mark.digest()


def _delta_counters(metadata: CheckpointMetadata) -> Iterator[tuple[str, int]]:
    """Yield the delta channels without a new snapshot, with the number of writes since their last one."""
    counters: Any = metadata.get("counters_since_delta_snapshot")
    for channel, counter in counters.items() if isinstance(counters, _MAPPINGS) else ():
        if isinstance(channel, str) and isinstance(counter, (list, tuple)) and counter:
            yield channel, counter[0]


def _is_small(value: Any) -> bool:
    kind = type(value)
    return (
        value is None
        or kind is bool
        or kind is int
        or kind is float
        or (kind is str and len(value) <= _INLINE_TEXT)
    )


def _is_failure(channel: str, value: Any) -> bool:
    # A task's exception is stored as text for people to read, as in every saver, because it can't be recreated.
    return channel == ERROR and isinstance(value, BaseException)
