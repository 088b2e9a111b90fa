"""An independent reader of stored threads, written only from docs/storage-format.md.

It imports nothing of the package, so the document must describe what the package writes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """A checkpoint's row."""

    previous: bytes
    parent: bytes
    fields: list[bytes]
    references: list[bytes]
    payload: bytes


@dataclass
class Stored:
    """A thread's hash, taken apart."""

    namespaces: list[bytes]
    latest: dict[bytes, bytes]
    rows: dict[tuple[bytes, bytes], Row] = field(default_factory=dict)
    values: dict[bytes, Any] = field(default_factory=dict)  # ('p', references, payload) or ('l', wrapper, digests)
    writes: dict[tuple[bytes, bytes], list[tuple[list[bytes], bytes]]] = field(default_factory=dict)
    elements: dict[bytes, tuple[list[bytes], bytes]] = field(default_factory=dict)
    logs: dict[bytes, bytes] = field(default_factory=dict)
    runs: set[bytes] = field(default_factory=set)
    entry: bytes | None = None  # the blob of what lists show of the thread, if it is about the latest checkpoint


def u16(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 2], "big")


def blob(raw: bytes) -> tuple[list[bytes], bytes]:
    """A blob's references and payload."""
    count = u16(raw, 0)
    end = 2 + 16 * count
    assert len(raw) >= end
    return [raw[at : at + 16] for at in range(2, end, 16)], raw[end:]


def row(raw: bytes) -> Row:
    at = 2
    previous = None
    if (size := u16(raw, 0)) != 0xFFFF:
        previous = raw[at : at + size]
        at += size
    size = u16(raw, at)
    parent = raw[at + 2 : at + 2 + size]
    at += 2 + size
    count = u16(raw, at)
    at += 2
    fields = []
    for _ in range(count):
        size = u16(raw, at)
        fields.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    references, payload = blob(raw[at:])
    return Row(parent if previous is None else previous, parent, fields, references, payload)


def log_of(name: bytes, wrapper: bytes) -> bytes:
    """The list log of a value: its namespace's and channel's, or with a wrapper in capitals the thread's."""
    space_and_channel = name.rpartition(b"\0")[0]
    return b"\0" + space_and_channel.partition(b"\0")[2] if wrapper.isupper() else space_and_channel


def read(fields: dict[bytes, bytes]) -> Stored:
    """A thread from its hash's fields."""
    assert fields[b"format"] in (b"1", b"1.1")
    namespaces = []
    space = fields.get(b"N")
    while space is not None:
        assert space not in namespaces
        namespaces.append(space)
        space = fields.get(b"M" + space)
    stored = Stored(namespaces, {space: fields[b"L" + space] for space in namespaces})
    segments: dict[bytes, dict[int, bytes]] = {}
    batches: dict[tuple[bytes, bytes], dict[int, bytes]] = {}
    for name, raw in fields.items():
        kind, rest = name[:1], name[1:]
        if name in (b"format", b"pinned", b"N", b"S"):
            continue
        if name == b"T":
            size = u16(raw, 0)
            assert blob(raw[2 + size :])[0] == []
            if raw[2 : 2 + size] == stored.latest.get(b""):
                stored.entry = raw[2 + size :]
            continue
        if kind == b"c":
            space, _, id_ = rest.partition(b"\0")
            stored.rows[space, id_] = row(raw)
        elif kind == b"w":
            checkpoint, _, number = rest.rpartition(b"\0")
            space, _, id_ = checkpoint.partition(b"\0")
            batches.setdefault((space, id_), {})[int(number)] = raw
        elif kind == b"e":
            assert len(rest) == 16
            stored.elements[rest] = blob(raw)
        elif kind == b"g":
            log, _, number = rest.rpartition(b"\0")
            assert len(raw) % 16 == 0
            segments.setdefault(log, {})[int(number)] = raw
        elif kind == b"r":
            stored.runs.add(rest)
        elif kind == b"n":
            assert int(raw) > 0
        else:
            assert kind in b"LMvDk", name
    for place, numbered in batches.items():
        assert sorted(numbered) == list(range(len(numbered))), "batches are numbered from 0 without a gap"
        stored.writes[place] = [blob(numbered[number]) for number in range(len(numbered))]
    for name, raw in fields.items():
        if name[:1] != b"v":
            continue
        if raw[:1] == b"p":
            stored.values[name[1:]] = ("p", *blob(raw[1:]))
            continue
        assert raw[:1] == b"l"
        log = log_of(name[1:], raw[1:2])
        assert raw[1:2] in (b"b", b"d") or fields[b"format"] == b"1.1"
        digests = []
        for at in range(18, len(raw), 8):
            start, length = struct.unpack(">II", raw[at : at + 8])
            assert start + length <= int(fields[b"n" + log])
            for number in range(start, start + length):
                held = segments[log][number // 64]
                digests.append(held[16 * (number % 64) : 16 * (number % 64) + 16])
                assert len(digests[-1]) == 16
        stored.values[name[1:]] = ("l", raw[1:2], digests)
    return stored


def assert_whole(fields: dict[bytes, bytes], *, exact: bool = False) -> Stored:
    """Every link leads somewhere; with ``exact`` also: nothing is stored that nothing needs."""
    stored = read(fields)
    chained = set()
    for space in stored.namespaces:
        id_ = stored.latest[space]
        while id_:
            chained.add((space, id_))
            previous = stored.rows[space, id_].previous
            assert previous < id_, "each link leads to an older checkpoint"
            id_ = previous
    assert chained == set(stored.rows), "each checkpoint is in its namespace's chain"
    wanted = []
    for each in stored.rows.values():
        assert set(each.fields) <= set(stored.values), "each value that a row names is there"
        wanted += each.references
    for value in stored.values.values():
        wanted += value[1] if value[0] == "p" else value[2]
    for batches in stored.writes.values():
        for references, _ in batches:
            wanted += references
    met = set()
    while wanted:
        digest = wanted.pop()
        if digest not in met:
            met.add(digest)
            wanted += stored.elements[digest][0]  # KeyError: an element that something refers to is missing
    if exact:
        assert met == set(stored.elements), "each element is referred to"
        named = {name for each in stored.rows.values() for name in each.fields}
        assert named == set(stored.values), "each value is named by a row"
        assert set(stored.writes) <= set(stored.rows), "each batch of writes has its checkpoint"
        spaces = {name[1:] for name in fields if name[:1] in b"LM" and name not in (b"N",)}
        assert spaces == set(stored.namespaces)
        logs = {log_of(name, value[1]) for name, value in stored.values.items() if value[0] == "l"}
        assert {name[1:] for name in fields if name[:1] == b"n"} == logs
        noted = {tuple(name[1:].split(b"\0", 1)) for name in fields if name[:1] == b"k"}
        assert noted <= set(stored.rows), "each note is of a checkpoint"
        assert {name[1:].rpartition(b"\0")[0] for name in fields if name[:1] == b"g"} == logs
    return stored
