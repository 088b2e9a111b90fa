"""The stored format is the one in docs/storage-format.md: its tables, and an independent reader's results."""

from __future__ import annotations

import hmac
import re
from functools import partial
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.checkpoint.codec import elements
from ecowas_lc.checkpoint.codec.message_arrays import SPECS
from ecowas_lc.checkpoint.codec.types import BUILTIN_BY_NAME
from tests.redis.stored import Stored, read
from tests.redis.writer import Writer, at, key_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "storage-format.md").read_text(encoding="utf-8")
KEY = bytes(range(32))
LONG = "word " * 60


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_every_type_name_is_documented() -> None:
    """The names of objects that are written are those of the table, no more and no fewer."""
    rows = [line.split("|")[1] for line in section("Type names").splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == {*BUILTIN_BY_NAME, "ndarray"}


def test_every_message_class_is_documented() -> None:
    """Class codes, and the order of the fields, are those of the table."""
    fields: dict[int, list[str]] = {}
    for line in section("Messages").splitlines():
        if not re.match(r"\| \d", line):
            continue
        _, code, name, told, _ = line.split("|")
        spec = next(spec for spec in SPECS.values() if spec.cls.__name__ == name.strip(" `"))
        assert spec.code == int(code)
        own = re.findall(r"`([^`]+)`", told)
        if same := re.search(r"as (\d+)", told):
            own = fields[int(same[1])] + own
        if "the same" in told:
            own = fields[spec.code - 1] + own
        fields[spec.code] = own
        assert list(spec.names) == own, name
    assert len(fields) == len(SPECS)


def thread(redis_server: Any, prefix: str, serde: Any = None) -> tuple[dict[bytes, bytes], Stored]:
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver, redis_server.client() as raw:
        writer = Writer(saver, "tünï", "sub%\0")
        last = writer.put("0001", m=[HumanMessage(LONG), {"text": LONG * 2}], d={"x": 1.5})
        saver.put_writes(last, [("m", [LONG])], "task", "~path")
        fields = raw.hgetall(key_of(prefix, "tünï"))
    return fields, read(fields)


def test_digests_and_marks(redis_server: Any, prefix: str) -> None:
    """Digests and marks are the hashes that the document defines."""
    fields, stored = thread(redis_server, prefix)
    elements = {name[1:]: value for name, value in fields.items() if name[:1] == b"e"}
    assert len(elements) >= 3
    for digest, blob in elements.items():
        assert sha256(blob).digest()[:16] == digest
    [name] = [name for name, value in stored.values.items() if value[0] == "l"]
    _, wrapper, digests = stored.values[name]
    mark = blake2b(digest_size=16, person=b"list")
    mark.update(len(name).to_bytes(2, "big") + name + wrapper + b"".join(digests))
    assert fields[b"v" + name][2:18] == mark.digest()
    assert name == b"sub%25%00\0m\0i" + name.rpartition(b"i")[2]
    assert stored.namespaces == [b"sub%25%00"]


def test_a_thread_of_an_earlier_version_goes_on(
    redis_server: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elements whose digests are of another hash are read, and neither stored again nor lost by what follows."""
    messages = [HumanMessage(f"{number} {LONG}", id=f"{number}") for number in range(50)]
    large = bytes(range(256)) * 400
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, monkeypatch.context() as earlier:
        earlier.setattr(elements, "sha256", partial(blake2b, digest_size=16))
        Writer(saver).put("0001", messages=messages, load=large)
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        before = raw.hgetall(key_of(prefix))
        assert sum(name[:1] == b"e" for name in before) == 101  # texts and messages, and the bytes
        found = saver.get_tuple(at())
        values = found.checkpoint["channel_values"]
        assert values == {"messages": messages, "load": large}
        added = [*values["messages"], HumanMessage(f"50 {LONG}", id="50")]
        following = {
            **found.checkpoint,
            "id": "0002",
            "channel_values": {**values, "messages": added},
            "channel_versions": {**found.checkpoint["channel_versions"], "messages": "2"},
        }
        saver.put(found.config, following, {}, {"messages": "2"})
        after = raw.hgetall(key_of(prefix))
        assert {name: after.get(name) for name in before if name[:1] == b"e"}.items() <= before.items()
        assert sum(name[:1] == b"e" for name in after) == 103
        assert saver.get_tuple(at()).checkpoint["channel_values"] == {"messages": added, "load": large}


def parts(*all_: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in all_)


def test_another_reader_opens_what_is_encrypted(redis_server: Any, prefix: str) -> None:
    """The key and the document are enough to open every sealed payload, and to compute digests and marks."""
    serde = EncryptedRedisSerializer({"2026": KEY})
    fields, stored = thread(redis_server, prefix, serde)
    cipher = AESGCM(hmac.new(KEY, b"ecowas_lc payloads\x01", "sha256").digest())
    secret = hmac.new(KEY, b"ecowas_lc digests\x01", "sha256").digest()
    thread_parts = (prefix.encode(), "tünï".encode())
    digest_key = blake2b(parts(*thread_parts), key=secret, digest_size=32).digest()

    def opened(payload: bytes, context: bytes, references: list[bytes]) -> bytes:
        assert payload[:7] == b"\xc1\x01\x042026"
        more = payload[:7] + context + b"".join(references)
        return cipher.decrypt(payload[7:19], payload[19:], more)

    ns = b"sub%25%00"
    [((space, id_), row)] = stored.rows.items()
    assert (space, id_) == (ns, b"0001")
    whole = fields[b"c" + ns + b"\x000001"]
    header = whole[2 : len(whole) - len(row.payload) - 16 * len(row.references) - 2]
    envelope = ormsgpack.unpackb(opened(row.payload, parts(*thread_parts, b"c", ns, id_, header), row.references))
    assert len(envelope) == 10
    [(name, (_, references, payload))] = [item for item in stored.values.items() if item[1][0] == "p"]
    assert ormsgpack.unpackb(opened(payload, parts(*thread_parts, b"v", name), references)) == {"x": 1.5}
    [[(references, payload)]] = stored.writes.values()
    batch = opened(payload, parts(*thread_parts, b"w", ns, id_), references)
    assert ormsgpack.unpackb(batch, ext_hook=lambda code, data: (code, data))[:2] == ["task", "~path"]
    for digest, (references, payload) in stored.elements.items():
        clear = opened(payload, parts(*thread_parts, b"e") + digest, references)
        blob = len(references).to_bytes(2, "big") + b"".join(references) + clear
        assert blake2b(blob, key=digest_key, digest_size=16).digest() == digest
        assert clear[:1] in (b"s", b"m", b"x")
    [(name, (_, wrapper, digests))] = [item for item in stored.values.items() if item[1][0] == "l"]
    mark = blake2b(digest_size=16, key=digest_key, person=b"list")
    mark.update(len(name).to_bytes(2, "big") + name + wrapper + b"".join(digests))
    assert fields[b"v" + name][2:18] == mark.digest()


@pytest.mark.parametrize("prefix_", ["ecowas", "other"])
def test_keys(redis_server: Any, prefix: str, prefix_: str) -> None:
    """A thread is one key, its id encoded as the document says; the indexes are those of the table."""
    with RedisSaver.from_url(redis_server.url, prefix=f"{prefix}{prefix_}") as saver, redis_server.client() as raw:
        Writer(saver, "a:{b}%\n*é").put(None, {"run_id": "r:1"}, a=1)
        assert sorted(raw.keys(f"{prefix}{prefix_}:*")) == [
            f"{prefix}{prefix_}:checkpoint:{{a%3A%7Bb%7D%25%0A*é}}".encode(),
            f"{prefix}{prefix_}:index:runs:r%3A1".encode(),
            f"{prefix}{prefix_}:index:threads".encode(),
        ]
        assert raw.zrange(f"{prefix}{prefix_}:index:threads", 0, -1) == ["a:{b}%\n*é".encode()]
