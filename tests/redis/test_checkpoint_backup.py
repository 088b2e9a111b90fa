"""Threads as JSON Lines and back: byte for byte, streaming, repeatable, and never in part."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc import IncompleteWarning, RedisMemoryService
from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.checkpoint.backup import add_to_digest, new_digest
from ecowas_lc.checkpoint.codec.elements import pack_row, split_row
from ecowas_lc.errors import (
    CorruptDataError,
    DecryptionError,
    FormatVersionError,
    InvalidInputError,
    RedisRefusedError,
    RedisUnavailableError,
    StorageError,
    TypeNotAllowedError,
    WrongTypeError,
)
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import running_server
from tests.redis.stored import assert_whole
from tests.redis.test_checkpoint_upkeep import everything, grow
from tests.redis.writer import Writer, at, key_of

LONG = "word " * 60
KEY = b"k" * 32


@dataclasses.dataclass
class Plan:
    """A class that no allowlist of these tests names."""

    text: str


@pytest.fixture
def saver(server: Any, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def other(server: Any, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_url(server.url, prefix=f"{prefix}-other") as saver:
        yield saver


@pytest.fixture
def raw(server: Any) -> Iterator[Any]:
    with server.client() as client:
        yield client


def records(lines: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def threads_in(lines: Any) -> list[str]:
    return [record["thread"] for record in records(lines) if record.get("type") == "thread"]


def leftovers(raw: Any, prefix: str) -> list[bytes]:
    return list(raw.scan_iter(f"{prefix}*:copy:*"))


def changed(line: str, **fields: Any) -> str:
    return json.dumps({**json.loads(line), **fields})


def test_a_thread_comes_back_to_the_byte(saver: RedisSaver, other: RedisSaver, raw: Any, prefix: str) -> None:
    """Namespaces, values, pending writes and runs are restored byte by byte, and the thread continues."""
    for ns in ("", "a", "b:c"):
        grow(saver, ns=ns)
    grow(saver, "u")
    lines = list(saver.export_jsonl())
    assert not any("\n" in line for line in lines)
    report = other.import_jsonl(lines)
    assert (report.written, report.unchanged, report.kept, report.passed_over) == (2, 0, (), 0)
    for thread in ("t", "u"):
        there = raw.hgetall(key_of(f"{prefix}-other", thread))
        assert there == raw.hgetall(key_of(prefix, thread))
        assert_whole(there, exact=True)
        assert everything(other, thread) == everything(saver, thread)
    assert [each.config["configurable"]["thread_id"] for each in other.list(None)] == [
        each.config["configurable"]["thread_id"] for each in saver.list(None)
    ]
    other.delete_for_runs(["run0"])
    assert len(everything(other, "u")) == 4, "the index of runs came along"
    Writer(other, "u").put("9999", m=[HumanMessage(LONG)])
    assert_whole(raw.hgetall(key_of(f"{prefix}-other", "u")))
    assert leftovers(raw, prefix) == []


def test_expiry_pin_and_order(saver: RedisSaver, other: RedisSaver, prefix: str) -> None:
    """Times to live count from the import, pinned threads stay pinned, and the order of threads is kept."""
    for thread in ("pinned", "mortal", "eternal"):
        grow(saver, thread, steps=1)
    saver.pin("pinned")
    with RedisSaver(server=saver._server, prefix=prefix, ttl=500) as brief:
        brief.touch("mortal")
    with RedisSaver(server=other._server, prefix=f"{prefix}-other", ttl=9) as importer:
        importer.import_jsonl(saver.export_jsonl())
        assert (importer.ttl("pinned"), importer.ttl("eternal")) == (None, None)
        assert 490 < importer.ttl("mortal") <= 500  # type: ignore[operator]
        importer.touch("pinned")
        assert importer.ttl("pinned") is None
    assert threads_in(other.export_jsonl()) == threads_in(saver.export_jsonl()) == ["eternal", "mortal", "pinned"]


def test_importing_again_changes_nothing(saver: RedisSaver, other: RedisSaver, raw: Any, prefix: str) -> None:
    """An import can be repeated, with or without ``overwrite``, as after one that was interrupted."""
    for thread in ("t", "u"):
        grow(saver, thread)
    lines = list(saver.export_jsonl())
    half = len(lines) - 2

    def broken() -> Iterator[str]:
        yield from lines[:half]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        other.import_jsonl(broken())
    assert [each.config["configurable"]["thread_id"] for each in other.list(None, limit=9)] == ["u"] * 6
    assert all(0 < raw.ttl(key) <= 3600 for key in leftovers(raw, prefix)), "what was cut off goes by itself"
    assert (other.import_jsonl(lines).written, other.import_jsonl(lines).unchanged) == (1, 2)
    assert other.import_jsonl(lines, overwrite=True).unchanged == 2
    assert len(leftovers(raw, prefix)) == 1


def test_what_differs_stays_unless_told_otherwise(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A thread that has continued since is kept and named in the report; ``overwrite`` restores the export."""
    grow(saver, steps=3)
    lines, before = list(saver.export_jsonl()), raw.hgetall(key_of(prefix))
    grow(saver, steps=5)
    after = raw.hgetall(key_of(prefix))
    report = saver.import_jsonl(lines)
    assert (report.written, report.unchanged, report.kept) == (0, 0, ("thread t",))
    assert raw.hgetall(key_of(prefix)) == after
    assert saver.import_jsonl(lines, overwrite=True).written == 1
    assert raw.hgetall(key_of(prefix)) == before
    Writer(saver).put("9999", m=[HumanMessage(LONG)])
    assert_whole(raw.hgetall(key_of(prefix)))


def test_some_threads(saver: RedisSaver) -> None:
    """Only the requested threads are exported, in that order; missing ones are left out; progress is reported."""
    for thread in ("a", "b", "c:{d}\ud800"):
        grow(saver, thread, steps=1)
    told: list[tuple[int, int]] = []
    lines = saver.export_jsonl(["c:{d}\ud800", "none", "a"], on_progress=lambda *how: told.append(how))
    assert threads_in(lines) == ["c:{d}\ud800", "a"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    list(saver.export_jsonl(on_progress=lambda *how: told.append(how)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InvalidInputError, match="a list of thread ids"):
        saver.export_jsonl("a")


def test_memory_is_bounded(saver: RedisSaver, other: RedisSaver) -> None:
    """Exporting and importing a thread of 30 MB takes a few megabytes of this process's memory."""
    for number in range(30):
        Writer(saver, ns=str(number)).put(x=bytes(2**20))
    tracemalloc.start()
    try:
        assert other.import_jsonl(saver.export_jsonl()).written == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 22 * 2**20
    assert len(everything(other)) == 30


def test_an_export_is_of_one_moment(saver: RedisSaver, other: RedisSaver, raw: Any, prefix: str) -> None:
    """A write made while its thread is being exported is included whole or not at all."""
    grow(saver, steps=60)
    before = raw.hgetall(key_of(prefix))
    lines = saver.export_jsonl()
    first = list(itertools.islice(lines, 3))
    grow(saver, steps=70)
    saver.prune(["t"])
    other.import_jsonl(itertools.chain(first, lines))
    assert raw.hgetall(key_of(f"{prefix}-other")) == before


def test_an_export_that_was_left_lying(saver: RedisSaver, other: RedisSaver, raw: Any, prefix: str) -> None:
    """An interrupted export leaves a copy that expires in ten minutes; an export whose copy is gone says so."""
    grow(saver, steps=60)
    lines = saver.export_jsonl()
    first = list(itertools.islice(lines, 3))
    [copy] = leftovers(raw, prefix)
    assert 0 < raw.ttl(copy) <= 600
    raw.delete(copy)
    with pytest.raises(StorageError, match="took too long"):
        first += lines
    with pytest.raises(CorruptDataError, match="is incomplete: the file has been truncated"):
        other.import_jsonl(first)
    assert leftovers(raw, prefix) != [copy]


def test_no_class_is_needed_and_none_is_imported(saver: RedisSaver, other: RedisSaver) -> None:
    """A thread with classes that are not allowed is moved unchanged; reading it still requires the allowlist."""
    with RedisSaver(server=saver._server, prefix=saver._keys.prefix, allow=[Plan]) as trusting:
        Writer(trusting).put(plan=Plan(LONG))
        other.import_jsonl(saver.export_jsonl())
        with pytest.raises(TypeNotAllowedError, match="was not imported"):
            other.get_tuple(at())
    with RedisSaver(server=other._server, prefix=other._keys.prefix, allow=[Plan]) as trusting:
        assert trusting.get_tuple(at()).checkpoint["channel_values"]["plan"] == Plan(LONG)  # type: ignore[union-attr]


def test_encrypted_threads_stay_encrypted(server: Any, prefix: str, raw: Any) -> None:
    """Backup and restore need no key; the file is unreadable, and its data can be opened only in place."""
    serde = EncryptedRedisSerializer(KEY)
    with (
        RedisSaver.from_url(server.url, prefix=prefix, serde=serde) as owner,
        RedisSaver.from_url(server.url, prefix=prefix) as operator,
        RedisSaver.from_url(server.url, prefix=f"{prefix}-other") as elsewhere,
    ):
        grow(owner)
        before = everything(owner)
        lines = list(operator.export_jsonl())
        contents = [record["fields"] for record in records(lines) if record.get("type") == "thread-contents"]
        assert b"word" not in b"".join(
            base64.b64decode(part) for fields in contents for pair in fields for part in pair
        )
        operator.delete_thread("t")
        assert operator.import_jsonl(lines).written == 1
        assert everything(owner) == before
        with pytest.raises(DecryptionError, match=f"encrypted for the prefix '{prefix}'"):
            elsewhere.import_jsonl(lines)
        assert elsewhere.get_tuple(at()) is None


def test_on_a_cluster(cluster: Any, prefix: str) -> None:
    """Threads of every slot are exported and imported."""
    with (
        RedisSaver.from_url(cluster.url, prefix=prefix) as saver,
        RedisSaver.from_url(cluster.url, prefix=f"{prefix}-other") as other,
    ):
        for number in range(12):
            grow(saver, f"t{number}", steps=2)
        lines = list(saver.export_jsonl())
        assert other.import_jsonl(lines).written == 12
        assert other.import_jsonl(lines, overwrite=True).unchanged == 12
        for number in range(12):
            assert everything(other, f"t{number}") == everything(saver, f"t{number}")
        assert len(list(other.list(None))) == 24


def test_for_a_restricted_user(server: Any, prefix: str, raw: Any) -> None:
    """``~prefix:*`` without dangerous and admin commands is enough; to export, reading is, without scripts too."""
    rights = ("on", ">pass", f"~{prefix}:*")
    raw.execute_command("ACL", "SETUSER", f"{prefix}w", *rights, "+@all", "-@dangerous", "-@admin")
    raw.execute_command("ACL", "SETUSER", f"{prefix}r", *rights, "+@all", "-@dangerous", "-@admin", "-@write")
    try:
        with (
            RedisSaver.from_url(f"redis://{prefix}w:pass@127.0.0.1:{server.port}/0", prefix=prefix) as saver,
            RedisSaver.from_url(f"redis://{prefix}r:pass@127.0.0.1:{server.port}/0", prefix=prefix) as reader,
        ):
            grow(saver)
            before = everything(saver)
            lines = list(saver.export_jsonl())
            assert sorted(map(str, records(reader.export_jsonl(["t"]))[1].items())) == sorted(
                map(str, records(lines)[1].items())
            )
            from_reader = list(reader.export_jsonl())
            saver.delete_thread("t")
            assert saver.import_jsonl(lines).written == 1
            assert saver.import_jsonl(from_reader).unchanged == 1
            assert everything(saver) == before
            with pytest.raises(RedisRefusedError):
                reader.import_jsonl(lines, overwrite=True)
            raw.execute_command("ACL", "SETUSER", f"{prefix}r", "-@scripting")
            saver.put_writes(at("writes", "1"), [("a", 1)], "task")  # of no checkpoint yet
            assert len(list(reader.export_jsonl(["writes", "t", "never"]))) == len(from_reader)
    finally:
        raw.execute_command("ACL", "DELUSER", f"{prefix}w", f"{prefix}r")


def test_a_full_server_can_be_backed_up() -> None:
    """A server that refuses writes because its memory is full can still be exported."""
    with running_server("redis") as full, RedisSaver.from_url(full.url) as saver:
        grow(saver)
        with full.client() as client:
            client.config_set("maxmemory", "1")
            lines = list(saver.export_jsonl())
            client.config_set("maxmemory", "0")
        saver.delete_thread("t")
        assert saver.import_jsonl(lines).written == 1


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_connection_that_breaks(server: Any, prefix: str, raw: Any, saver: RedisSaver, cut: int) -> None:
    """Wherever the connection breaks, the old or the new thread is stored, and the import can be repeated."""
    grow(saver, steps=8)
    lines, before = list(saver.export_jsonl()), raw.hgetall(key_of(prefix))
    grow(saver, steps=9)
    now = raw.hgetall(key_of(prefix))
    with running_proxy(server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as through:

        def breaking() -> Iterator[str]:
            for number, line in enumerate(lines):
                if number == cut:
                    proxy.refuse()
                    proxy.cut_all()
                yield line

        with pytest.raises(RedisUnavailableError):
            through.import_jsonl(breaking(), overwrite=True)
    assert raw.hgetall(key_of(prefix)) == now
    assert saver.import_jsonl(lines, overwrite=True).written == 1
    assert raw.hgetall(key_of(prefix)) == before


def spoil_value(line: str) -> str:
    fields = json.loads(line)["fields"]
    fields[0][1] = base64.b64encode(base64.b64decode(fields[0][1]) + b"!").decode()
    return changed(line, fields=fields)


BAD: dict[str, tuple[Callable[[list[str]], list[str]], type[Exception], str]] = {
    "no JSON": (lambda ls: [ls[0], "{nonsense"], CorruptDataError, "Line 2 can't be imported: it is not JSON"),
    "no object": (lambda ls: [ls[0], "[1]"], CorruptDataError, "Line 2 .* not a JSON object"),
    "too deep": (lambda ls: [ls[0], "[" * 100_000], CorruptDataError, "Line 2"),
    "no header": (lambda ls: ls[1:], CorruptDataError, "Line 1 .* does not name the format"),
    "nothing": (lambda ls: [], CorruptDataError, "nothing to import"),
    "newer file": (
        lambda ls: [changed(ls[0], version=2)],
        FormatVersionError,
        "reads up to 1. Install a newer ecowas_lc",
    ),
    "newer thread": (
        lambda ls: [ls[0], changed(ls[1], storage_format="99"), *ls[2:]],
        FormatVersionError,
        "storage format '99'.* Upgrade",
    ),
    "cut short": (lambda ls: ls[:-1], CorruptDataError, "'t' is incomplete"),
    "cut and joined": (lambda ls: [*ls[:-1], *ls], CorruptDataError, "'t' is incomplete"),
    "begun twice": (lambda ls: [*ls[:2], ls[1]], CorruptDataError, "'t' is incomplete"),
    "not begun": (lambda ls: [ls[0], *ls[2:]], CorruptDataError, "Line 2 .* has not started"),
    "a line lost": (lambda ls: [*ls[:2], ls[-1]], CorruptDataError, "is damaged"),
    "a value damaged": (lambda ls: [*ls[:2], spoil_value(ls[2]), *ls[3:]], CorruptDataError, "damaged"),
    "a count damaged": (lambda ls: [ls[0], changed(ls[1], fields=1), *ls[2:]], CorruptDataError, "is incomplete"),
    "no base64": (lambda ls: [*ls[:2], changed(ls[2], fields=[["é", "x"]]), ls[-1]], CorruptDataError, "Line 3"),
    "no pairs": (lambda ls: [*ls[:2], changed(ls[2], fields=[1]), ls[-1]], CorruptDataError, "Line 3"),
    "unknown": (lambda ls: [ls[0], '{"type": "threat"}'], CorruptDataError, "Line 2 .* there is no record type"),
    "no thread id": (lambda ls: [ls[0], changed(ls[1], thread=""), *ls[2:]], CorruptDataError, "Line 2"),
    "endless ttl": (lambda ls: [ls[0], changed(ls[1], ttl_seconds=1e300), *ls[2:]], CorruptDataError, "ttl"),
    "no ttl": (lambda ls: [ls[0], changed(ls[1], ttl_seconds=float("nan")), *ls[2:]], CorruptDataError, "ttl"),
    "no time": (lambda ls: [ls[0], changed(ls[1], last_activity="x"), *ls[2:]], CorruptDataError, "Line 2"),
}


@pytest.mark.parametrize(("spoil", "error", "message"), BAD.values(), ids=BAD)
def test_bad_lines(
    saver: RedisSaver, other: RedisSaver, raw: Any, prefix: str, spoil: Any, error: Any, message: str
) -> None:
    """Unusable lines are named by their number; they create no thread."""
    grow(saver)
    with pytest.raises(error, match=message):
        other.import_jsonl(spoil(list(saver.export_jsonl())))
    assert raw.exists(key_of(f"{prefix}-other")) == 0
    assert list(other.list(None)) == []


def test_the_export_of_something_else(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A thread of a newer version, and another program's data at a thread's key, are named and left unchanged."""
    grow(saver)
    lines = list(saver.export_jsonl())
    raw.hset(key_of(prefix), "format", "2")
    with pytest.warns(IncompleteWarning, match="'t' can't be read and was left out"):
        assert len(list(saver.export_jsonl())) == 1
    with pytest.raises(FormatVersionError):
        saver.import_jsonl(lines, overwrite=True)
    raw.delete(key_of(prefix))
    raw.hset(key_of(prefix), "theirs", "2")
    with pytest.raises(WrongTypeError):
        saver.import_jsonl(lines, overwrite=True)
    raw.delete(key_of(prefix))
    raw.set(key_of(prefix), "theirs")
    with pytest.raises(WrongTypeError):
        saver.import_jsonl(lines, overwrite=True)
    assert raw.get(key_of(prefix)) == b"theirs"


CLAIMS = {
    "a list of a gigabyte of references": lambda fields: replace_list(fields, struct.pack(">II", 0, 64) * 250_000),
    "a list of milliards of items": lambda fields: replace_list(fields, struct.pack(">II", 0, 2**32 - 1)),
    "a value named 65,000 times": lambda fields: name_often(fields, 65_000),
    "five lists of a million items": lambda fields: name_lists(fields, 5),
    "a value that refers to more than it lists": lambda fields: claim_references(fields, b"v"),
    "an element that does": lambda fields: claim_references(fields, b"e"),
    "pending writes that do": lambda fields: claim_references(fields, b"w"),
}


def row_of(fields: dict[bytes, bytes]) -> tuple[bytes, bytes, Any]:
    [name] = [name for name in fields if name.startswith(b"c")]
    row = split_row(fields[name])
    return name, fields[name][: -len(row.header) - len(row.blob)], row


def replace_list(fields: dict[bytes, bytes], pieces: bytes) -> None:
    [name] = [name for name, value in fields.items() if name.startswith(b"v") and value.startswith(b"l")]
    fields[name] = fields[name][:18] + pieces


def name_often(fields: dict[bytes, bytes], times: int) -> None:
    name, link, row = row_of(fields)
    fields[name] = link + pack_row(row.parent, [row.fields[0]] * times) + row.blob


def name_lists(fields: dict[bytes, bytes], count: int) -> None:
    replace_list(fields, struct.pack(">II", 0, 64) * 16_384)
    name, link, row = row_of(fields)
    [first] = [field for field in row.fields if fields[b"v" + field].startswith(b"l")]
    names = [first + b"%d" % number for number in range(count)]
    fields.update({b"v" + each: fields[b"v" + first] for each in names})
    fields[name] = link + pack_row(row.parent, names) + row.blob


def claim_references(fields: dict[bytes, bytes], kind: bytes) -> None:
    for name, value in list(fields.items()):
        if name.startswith(kind) and not value.startswith(b"l"):
            fields[name] = value[:1] * (kind == b"v") + b"\xff\xff" + value[2:40]


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_claims_more_than_it_is(
    saver: RedisSaver, other: RedisSaver, server: Any, raw: Any, prefix: str, claim: str
) -> None:
    """A few bytes that claim to be gigabytes are refused on import and, if they are stored, on reading.

    Neither takes the server's memory, or longer than a call may take.
    """
    config = Writer(saver).put(m=[HumanMessage(LONG)] * 64, d={"text": LONG, "n": list(range(200))})
    saver.put_writes(config, [("m", [LONG, "x" * 100])], "task")
    [head, begin, *contents, end] = list(saver.export_jsonl())
    fields = {
        base64.b64decode(name): base64.b64decode(value)
        for line in contents
        for name, value in json.loads(line)["fields"]
    }
    CLAIMS[claim](fields)
    digest = new_digest()
    add_to_digest(digest, list(fields.items()))
    pairs = [[base64.b64encode(part).decode() for part in pair] for pair in fields.items()]
    lines = [
        head,
        changed(begin, fields=len(fields)),
        changed(contents[0], fields=pairs),
        changed(end, digest=digest.hexdigest()),
    ]
    before = raw.info("memory")["used_memory_peak"]
    with pytest.raises(CorruptDataError, match="claims more than any thread"):
        other.import_jsonl(lines)
    assert other.get_tuple(at()) is None
    raw.hset(key_of(f"{prefix}-other"), mapping=fields)
    for read in (lambda: other.get_tuple(at()), lambda: list(other.list(at()))):
        with pytest.raises(CorruptDataError):
            read()
    assert raw.info("memory")["used_memory_peak"] < before + 150 * 2**20
    other.delete_thread("t")


def test_one_file_for_everything(saver: RedisSaver, other: RedisSaver, server: Any, prefix: str) -> None:
    """Histories and threads share a file; each side restores its own and says how much it passed over."""
    grow(saver)
    with (
        RedisMemoryService(url=server.url, prefix=prefix) as memory,
        RedisMemoryService(url=server.url, prefix=f"{prefix}-other") as elsewhere,
    ):
        memory.append_to_history("energy", "t", {"role": "user", "content": "Hello"})
        memory.save_agent_state("energy", 1)
        lines = [*memory.export_jsonl(), *saver.export_jsonl()]
        report = elsewhere.import_jsonl(lines)
        assert (report.written, report.passed_over) == (2, 1)
        report = other.import_jsonl(lines)
        assert (report.written, report.passed_over) == (1, 2)
        assert elsewhere.get_conversation_history("energy", "t") == [{"role": "user", "content": "Hello"}]
    assert everything(other) == everything(saver)


async def test_async(saver: RedisSaver, server: Any, prefix: str) -> None:
    """In asyncio, another saver imports a saver's stream, and the result of the sync export."""
    grow(saver)
    async with (
        RedisSaver.from_url(server.url, prefix=prefix) as source,
        RedisSaver.from_url(server.url, prefix=f"{prefix}-other") as target,
    ):
        assert (await target.aimport_jsonl(source.aexport_jsonl())).written == 1
        assert (await target.aimport_jsonl(list(source.export_jsonl()), overwrite=True)).unchanged == 1
        assert everything(target) == everything(saver)
