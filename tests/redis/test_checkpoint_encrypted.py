"""Encryption: stored data is unreadable, moved data can't be opened, keys rotate, equal texts look different."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import ConfigurationError, CorruptDataError, DecryptionError
from tests.redis.stored import assert_whole, read
from tests.redis.writer import Writer, at, key_of

KEY, OTHER = b"k" * 32, b"o" * 32
SECRET = "the minister's telephone number " * 20


def saver_of(server: Any, prefix: str, serde: Any = None) -> RedisSaver:
    return RedisSaver.from_url(server.url, prefix=prefix, serde=serde or EncryptedRedisSerializer(KEY))


@pytest.fixture
def saver(redis_server: Any, prefix: str) -> Iterator[RedisSaver]:
    with saver_of(redis_server, prefix) as saver:
        yield saver


@pytest.fixture
def raw(redis_server: Any) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


def fill(saver: RedisSaver, thread_id: str = "t", ns: str = "") -> list[Any]:
    """A thread with every kind of stored thing, each kind more than once and of different lengths."""
    writer = Writer(saver, thread_id, ns)
    messages: list[Any] = []
    configs = []
    for step in range(3):
        messages = [*messages, HumanMessage(f"{step}{SECRET}", id=f"{step}"), AIMessage(f"short {step}")]
        configs.append(
            writer.put(f"{step:04}", {"note": SECRET}, m=messages, d={"t": f"{step}{SECRET}"}, s=(step, "x"))
        )
        saver.put_writes(configs[-1], [("m", [f"{step}{SECRET}"]), ("s", step)], f"task{step}")
    return configs


def everything(saver: RedisSaver, thread_id: str = "t") -> list[Any]:
    return [
        (each.checkpoint["channel_values"], each.metadata, each.pending_writes)
        for each in saver.list(at(thread_id, ns=None))
    ]


def test_nothing_is_readable(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Redis holds no text, name or number of the state in clear, except ids and channel names."""
    fill(saver)
    stored = b"".join(itertools.chain(*raw.hgetall(key_of(prefix)).items()))
    for text in (b"minister", b"short", b"note", b"loop", b"task1", b"HumanMessage", b"2026-01-01"):
        assert text not in stored
    assert everything(saver)[0][0]["d"] == {"t": f"2{SECRET}"}


def test_every_byte_is_guarded(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Any stored value that is changed, cut or swapped with another of its kind no longer opens."""
    configs = fill(saver)
    key = key_of(prefix)
    fields = raw.hgetall(key)
    kinds = {kind: sorted(name for name in fields if name[:1] == kind) for kind in (b"c", b"v", b"w", b"e")}

    def read_all() -> list[Any]:
        return [everything(saver), *map(saver.get_tuple, configs)]

    expected = read_all()
    for kind, names in kinds.items():
        for name in names:
            value = fields[name]
            changed = [value[:-1], value[:-1] + bytes([value[-1] ^ 1])]
            changed += [fields[each] for each in names if fields[each] != value]
            for bad in changed:
                raw.hset(key, name, bad)
                with pytest.raises(CorruptDataError):
                    read_all()
            raw.hset(key, name, value)
            assert kind
    assert read_all() == expected


def test_references_are_guarded_too(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """The data that a stored value refers to can't be exchanged for other data of the same thread."""
    fill(saver)
    key = key_of(prefix)
    fields = raw.hgetall(key)
    elements = read(fields).elements
    holders = [name for name in fields if name[:1] == b"e" and elements[name[1:]][0]]
    holders += [name for name in fields if name[:1] in b"cw" and b"\0" in name]
    tried = 0
    for name in holders:
        value = fields[name]
        for digest in elements:
            place = value.find(digest)
            for other in elements if place >= 0 else ():
                if other != digest:
                    raw.hset(key, name, value[:place] + other + value[place + 16 :])
                    with pytest.raises(CorruptDataError):
                        everything(saver)
                    tried += 1
        raw.hset(key, name, value)
    assert tried > 40
    assert len(everything(saver)) == 3


def test_lists_are_guarded_too(saver: RedisSaver, redis_server: Any, raw: Any, prefix: str) -> None:
    """A list can't be shortened, reordered or extended by an item of another list of the same thread."""
    with saver_of(redis_server, prefix) as writer:  # which knows the list, and would not read it again
        fill(writer)
    key = key_of(prefix)
    fields = raw.hgetall(key)
    [log] = [name for name in fields if name[:1] == b"g"]
    segment = fields[log]
    digests = [segment[place : place + 16] for place in range(0, len(segment), 16)]
    assert len(digests) == 6
    for forged in (
        [digests[1], digests[0], *digests[2:]],
        [digests[0], digests[0], *digests[2:]],
        [digests[0], next(iter(read(fields).elements)), *digests[2:]],
    ):
        if forged == digests:
            continue
        raw.hset(key, log, b"".join(forged))
        with pytest.raises(DecryptionError, match="moved or changed"):
            saver.get_tuple(at())
    raw.hset(key, log, segment)
    [newest] = [b"v" + name for name in read(fields).rows[b"", b"0002"].fields if name.startswith(b"\0m\0")]
    raw.hset(key, newest, fields[newest][:-4] + (4).to_bytes(4, "big"))
    with pytest.raises(DecryptionError, match="moved or changed"):
        saver.get_tuple(at())


@pytest.mark.parametrize("where", ["thread", "namespace", "prefix"])
def test_nothing_opens_elsewhere(saver: RedisSaver, redis_server: Any, raw: Any, prefix: str, where: str) -> None:
    """Stored bytes that are put under another thread, namespace or prefix do not open there."""
    fill(saver)
    fill(saver, ns="sub")
    source = key_of(prefix)
    fields = raw.hgetall(source)
    if where == "thread":
        raw.copy(source, key_of(prefix, "elsewhere"))
        with pytest.raises(DecryptionError):
            saver.get_tuple(at("elsewhere"))
    elif where == "prefix":
        raw.copy(source, key_of(f"{prefix}x"))
        with saver_of(redis_server, f"{prefix}x") as other, pytest.raises(DecryptionError):
            other.get_tuple(at())
    else:
        raw.hset(source, b"csub\x000002", fields[b"c\x000002"])
        with pytest.raises(DecryptionError):
            saver.get_tuple(at(ns="sub"))
    assert saver.get_tuple(at()).checkpoint["channel_values"]["s"] == (2, "x")


def test_copying_seals_anew(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A copied thread is sealed for its own place, shares no ciphertext with its source, and is complete."""
    fill(saver)
    fill(saver, ns="sub")
    saver.copy_thread("t", "copy")
    assert everything(saver, "copy") == everything(saver)
    ours, theirs = (raw.hgetall(key_of(prefix, thread_id)) for thread_id in ("t", "copy"))
    assert_whole(theirs)
    assert not {name for name in ours if name[:1] == b"e"} & {name for name in theirs if name[:1] == b"e"}
    for kind in (b"c", b"v", b"w"):
        values = {value for name, value in ours.items() if name[:1] == kind and value[:1] != b"l"}
        assert not values & set(theirs.values())
    raw.delete(key_of(prefix))
    assert len(everything(saver, "copy")) == 6


def test_equal_texts_are_shared_and_can_not_be_told(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Equal texts of one thread are stored once; of two threads they have nothing in common."""
    for thread_id in ("a", "b"):
        writer = Writer(saver, thread_id)
        for _ in range(3):
            last = writer.put(m=[HumanMessage(SECRET)], n=[HumanMessage(SECRET)], d={"x": SECRET})
            saver.put_writes(last, [("m", SECRET)], "task")
    a, b = (read(raw.hgetall(key_of(prefix, thread_id))).elements for thread_id in ("a", "b"))
    long = [digest for digest, (_, payload) in a.items() if len(payload) > 500]
    assert len(long) == 1
    assert not a.keys() & b.keys()


def test_sealed_sizes_stay_linear(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Sharing works under encryption: fifty turns take fifty times as much as one, not more."""
    writer = Writer(saver)
    messages: list[Any] = []
    sizes = []
    for turn in range(60):
        messages = [*messages, HumanMessage(f"{turn}{SECRET}")]
        writer.put(m=messages)
        sizes.append(raw.memory_usage(key_of(prefix), samples=0))
    assert sizes[-1] - sizes[29] < 1.6 * (sizes[29] - sizes[0])


def test_keys_rotate(redis_server: Any, raw: Any, prefix: str) -> None:
    """With a new key, old threads are read with their old key and continued with the new one."""
    with saver_of(redis_server, prefix, EncryptedRedisSerializer({"2025": KEY}, current="2025")) as old:
        fill(old)
        before = everything(old)
    both = EncryptedRedisSerializer({"2025": KEY, "2026": OTHER}, current="2026")
    with saver_of(redis_server, prefix, both) as rotating:
        assert everything(rotating) == before
        writer = Writer(rotating)
        latest = rotating.get_tuple(at())
        writer.config, writer.number = latest.config, 9
        writer.versions, writer.values = latest.checkpoint["channel_versions"], latest.checkpoint["channel_values"]
        writer.put("0009", m=[*writer.values["m"], HumanMessage(SECRET)], d={"t": "new"}, s=(9, "x"))
        rotating.copy_thread("t", "copy")
        rotating.prune(["t"])
    with saver_of(redis_server, prefix, EncryptedRedisSerializer({"2026": OTHER})) as new:
        assert len(new.get_tuple(at()).checkpoint["channel_values"]["m"]) == 7
        assert len(everything(new, "copy")) == 4
    refusals = [({"2025": KEY}, "'2026', which was not passed"), ({"2026": KEY}, "the key is wrong")]
    for keys, message in refusals:
        wrong = saver_of(redis_server, prefix, EncryptedRedisSerializer(keys))
        with wrong, pytest.raises(DecryptionError, match=message):
            wrong.get_tuple(at())


def test_from_plain_to_encrypted(redis_server: Any, raw: Any, prefix: str) -> None:
    """Plain threads are refused unless you allow them; then they are read and continued encrypted."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as plain:
        fill(plain)
        before = everything(plain)
    with saver_of(redis_server, prefix) as strict:
        for call in (
            lambda: strict.get_tuple(at()),
            lambda: everything(strict),
            lambda: strict.copy_thread("t", "x"),
        ):
            with pytest.raises(DecryptionError, match="accept_plaintext=True"):
                call()
    with saver_of(redis_server, prefix, EncryptedRedisSerializer(KEY, accept_plaintext=True)) as migrating:
        assert everything(migrating) == before
        migrating.copy_thread("t", "copy")
        writer = Writer(migrating)
        writer.config = migrating.get_tuple(at()).config
        writer.put("0009", m=before[0][0]["m"], d={"t": SECRET})
        migrating.prune(["t"])
    with saver_of(redis_server, prefix) as strict:
        assert everything(strict, "copy") == before
        assert strict.get_tuple(at()).checkpoint["channel_values"]["m"] == before[0][0]["m"]
        assert b"minister" not in b"".join(raw.hvals(key_of(prefix)))
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as plain, pytest.raises(CorruptDataError):
        plain.get_tuple(at())


def test_langgraphs_own_encryption(redis_server: Any, raw: Any, prefix: str) -> None:
    """langgraph's EncryptedSerializer, whose output differs each time, works unchanged."""
    serde = EncryptedSerializer.from_pycryptodome_aes(key=os.urandom(32))
    with saver_of(redis_server, prefix, serde) as saver:
        fill(saver)
        values, metadata, writes = everything(saver)[0]
        assert values["m"][-1] == AIMessage("short 2")
        assert metadata["note"] == SECRET
        assert writes == [("task2", "m", [f"2{SECRET}"]), ("task2", "s", 2)]
        saver.copy_thread("t", "copy")
        saver.prune(["t"])
        assert everything(saver)[0] == everything(saver, "copy")[0]
        assert b"minister" not in b"".join(raw.hvals(key_of(prefix)))
    other_key = EncryptedSerializer.from_pycryptodome_aes(key=os.urandom(32))
    with (
        saver_of(redis_server, prefix, other_key) as other,
        pytest.raises(CorruptDataError, match="Pass the saver the serde, and the key"),
    ):
        other.get_tuple(at())


@pytest.mark.parametrize("size", [16, 24, 32])
def test_key_sizes(size: int) -> None:
    """AES keys of all sizes work; the repr shows none of them."""
    key = os.urandom(size)
    serializer = EncryptedRedisSerializer({"a": key}, current="a")
    assert serializer.sealer.open(serializer.sealer.seal(b"x", b"here"), b"here") == b"x"
    assert repr(serializer) == "EncryptedRedisSerializer(current='a')"
    assert key.hex() not in repr(vars(serializer.sealer))


@pytest.mark.parametrize(
    ("keys", "current"),
    [
        (b"short", None),
        ("text" * 8, None),
        ({"a": KEY, "b": OTHER}, None),
        ({"a": KEY}, "b"),
        ({}, None),
        ({"x" * 256: KEY}, None),
    ],
    ids=str,
)
def test_what_is_no_key(keys: Any, current: str | None) -> None:
    """Keys of another length, or a current key that is not listed, are refused at once and not shown."""
    with pytest.raises(ConfigurationError) as refused:
        EncryptedRedisSerializer(keys, current=current)
    assert "kkkk" not in str(refused.value)


def test_allowlists_and_encryption(saver: RedisSaver) -> None:
    """Classes that langgraph adds to the allowlist at compile time are allowed under encryption as well."""
    wider = saver.with_allowlist({("tests.redis.test_checkpoint_encrypted", "Marker")})
    Writer(wider).put(a=Marker())
    assert isinstance(wider.get_tuple(at()).checkpoint["channel_values"]["a"], Marker)
    assert isinstance(wider.serde, EncryptedRedisSerializer)


@dataclass
class Marker:
    x: int = 1
