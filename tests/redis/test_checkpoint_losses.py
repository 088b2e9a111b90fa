"""A thread that is lost, foreign, damaged or too large during writes: no gap, no foreign exception, no harm."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import (
    CorruptDataError,
    FormatVersionError,
    InvalidInputError,
    RedisRefusedError,
    TypeNotAllowedError,
    WrongTypeError,
)
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import running_server
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, id_of, key_of

LONG = "word " * 60


@pytest.fixture
def saver(server: Any, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def fresh(server: Any, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def raw(server: Any) -> Any:
    with server.client() as client:
        yield client


def expire(raw: Any, saver: RedisSaver, prefix: str) -> None:
    raw.pexpireat(key_of(prefix), 1)


def delete(raw: Any, saver: RedisSaver, prefix: str) -> None:
    saver.delete_thread("t")


def remove(raw: Any, saver: RedisSaver, prefix: str) -> None:
    raw.delete(key_of(prefix))


def lose_everything(raw: Any, saver: RedisSaver, prefix: str) -> None:
    raw.delete(*raw.keys(f"{prefix}:*"))  # what FLUSHALL does, limited to this test's data


def prune(raw: Any, saver: RedisSaver, prefix: str) -> None:
    saver.prune(["t"])


def lose_the_index(raw: Any, saver: RedisSaver, prefix: str) -> None:
    raw.delete(f"{prefix}:index:threads")


def forget_scripts(raw: Any, saver: RedisSaver, prefix: str) -> None:
    raw.script_flush()


LOSSES = [expire, delete, remove, lose_everything, prune, lose_the_index, forget_scripts]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_lost_under_a_live_writer(
    server: Any, prefix: str, raw: Any, loss: Callable[..., None], encrypted: bool
) -> None:
    """Whatever the server loses between two steps, the next checkpoint is whole, for its writer and for others."""
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    options: dict[str, Any] = {"prefix": prefix, "serde": serde}
    with RedisSaver.from_url(server.url, **options) as saver, RedisSaver.from_url(server.url, **options) as fresh:
        writer = Writer(saver)
        messages: list[Any] = []
        for step in range(4):
            messages = [*messages, HumanMessage(f"{step} {LONG}", id=f"q{step}"), AIMessage(f"short {step}")]
            values = {"messages": messages, "document": {"text": LONG * 10, "n": [step]}, "small": step}
            if step:
                loss(raw, fresh, prefix)
            # Only the messages are new: the server had the document's value before.
            last = writer.put(**(values if step == 0 else {"messages": messages, "small": step}))
            saver.put_writes(last, [("messages", [messages[-1], LONG])], f"task{step}")
            expected = {**values, "document": {"text": LONG * 10, "n": [0]}}
            for reader in (saver, fresh):
                found = reader.get_tuple(at())
                assert found.checkpoint["channel_values"] == expected
                assert found.pending_writes == [(f"task{step}", "messages", [messages[-1], LONG])]
            assert_whole(raw.hgetall(key_of(prefix)))
        assert [each.config["configurable"]["thread_id"] for each in fresh.list(None, limit=1)] == ["t"]


@pytest.mark.parametrize("loss", [delete, lose_everything], ids=lambda loss: loss.__name__)
def test_lost_before_pending_writes(
    saver: RedisSaver, fresh: RedisSaver, raw: Any, prefix: str, loss: Callable[..., None]
) -> None:
    """Pending writes whose elements the server has lost are sent whole."""
    writer = Writer(saver)
    last = writer.put(messages=[HumanMessage(LONG)])
    saver.put_writes(last, [("messages", [HumanMessage(LONG)]), ("text", LONG)], "one")
    loss(raw, fresh, prefix)
    saver.put_writes(last, [("messages", [HumanMessage(LONG)]), ("text", LONG)], "two")
    writer.config = at()
    writer.put(id_of(last), messages=[HumanMessage(LONG)])
    found = fresh.get_tuple(last)
    assert found.pending_writes == [("two", "messages", [HumanMessage(LONG)]), ("two", "text", LONG)]


def test_writes_that_arrive_after_the_thread_was_deleted(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Late writes restore no deleted thread: nothing shows, a copy may take its place, and they expire."""
    writer = Writer(saver)
    last = writer.put(a=1)
    saver.delete_thread("t")
    saver.put_writes(last, [("a", LONG)], "late")
    assert saver.get_tuple(at()) is None
    assert list(saver.list(None)) == []
    assert saver.ttl("t") == -1
    assert not saver.pin("t")
    assert 0 < raw.pttl(key_of(prefix)) <= 3_600_000
    Writer(saver, "other").put(a=2)
    saver.copy_thread("other", "t")
    assert saver.get_tuple(at()).checkpoint["channel_values"] == {"a": 2}
    assert raw.pttl(key_of(prefix)) == -1


def test_writes_that_arrive_before_their_checkpoint(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Writes may arrive before a thread's first checkpoint: both are stored in the end, and neither expires."""
    saver.put_writes(at(checkpoint_id="0001"), [("a", LONG)], "early")
    Writer(saver).put("0001", a=1)
    assert saver.get_tuple(at()).pending_writes == [("early", "a", LONG)]
    assert raw.pttl(key_of(prefix)) == -1


def test_late_writes_go_with_the_next_pruning(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Writes for a deleted checkpoint are removed by the next pruning; those for a future one stay."""
    writer = Writer(saver)
    configs = [writer.put(f"{number:04}", a=number) for number in range(4)]
    saver.prune(["t"])
    saver.put_writes(configs[0], [("a", LONG)], "late")
    saver.put_writes(at(checkpoint_id="0009"), [("b", LONG * 2)], "early")
    writer.put("0004", a=4)
    saver.prune(["t"])
    stored = assert_whole(raw.hgetall(key_of(prefix)))
    assert set(stored.writes) == {(b"", b"0009")}
    writer.put("0009", a=9)
    assert saver.get_tuple(at()).pending_writes == [("early", "b", LONG * 2)]
    assert_whole(raw.hgetall(key_of(prefix)), exact=False)


async def test_scripts_forgotten_everywhere(cluster: Any, prefix: str) -> None:
    """SCRIPT FLUSH, or a failover to a server without the scripts, takes only a second flush."""
    async with RedisSaver.from_url(cluster.url, prefix=prefix) as saver:
        writer = Writer(saver)
        for step in range(3):
            for node in cluster.nodes:
                with node.client() as client:
                    client.script_flush()
            last = await writer.aput(messages=[HumanMessage(LONG)], n=step)
            await saver.aput_writes(last, [("a", 1)], "task")
            for node in cluster.nodes:
                with node.client() as client:
                    client.script_flush()
            assert (await saver.aget_tuple(at())).checkpoint["channel_values"]["n"] == step
            assert len([each async for each in saver.alist(at())]) == step + 1
            await saver.aprune(["other"])
            await saver.acopy_thread("t", f"copy{step}")
        await saver.adelete_thread("t")
        assert await saver.aget_tuple(at()) is None


@pytest.mark.parametrize("where", ["reply", "command"])
def test_a_cut_connection_writes_once(server: Any, prefix: str, raw: Any, where: str) -> None:
    """Commands whose reply is lost are sent again and take effect once: checkpoints, order and writes."""
    with running_proxy(server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        writer = Writer(saver)
        messages: list[Any] = []
        for step in range(4):
            messages = [*messages, HumanMessage(f"{step} {LONG}")]
            proxy.cut_next(where, 0)
            last = writer.put(f"{step:04}", messages=messages)
            proxy.cut_next(where, 0)
            saver.put_writes(last, [("a", step), ("b", [LONG])], "task")
        assert proxy.cuts == 8
        stored = assert_whole(raw.hgetall(key_of(prefix)))
        assert [len(batches) for batches in stored.writes.values()] == [1] * 4
        assert [id_of(each.config) for each in saver.list(at())] == ["0003", "0002", "0001", "0000"]
        assert saver.get_tuple(last).checkpoint["channel_values"]["messages"] == messages


CALLS: dict[str, Callable[[RedisSaver], Any]] = {
    "get_tuple": lambda saver: saver.get_tuple(at()),
    "get_tuple by id": lambda saver: saver.get_tuple(at(checkpoint_id="0002")),
    "list": lambda saver: list(saver.list(at())),
    "list everywhere": lambda saver: list(saver.list(at(ns=None))),
    "list filtered": lambda saver: list(saver.list(at(), filter={"step": 1})),
    "list before": lambda saver: list(saver.list(at(), before=at(checkpoint_id="0002"))),
    "put": lambda saver: Writer(saver).put("0009", messages=[HumanMessage(LONG)], text=LONG),
    "put late": lambda saver: Writer(saver).put("0000", a=1),
    "put again": lambda saver: Writer(saver).put("0002", a=1),
    "put_writes": lambda saver: saver.put_writes(at(checkpoint_id="0002"), [("a", LONG)], "x"),
    "copy from": lambda saver: saver.copy_thread("t", f"copy{random.getrandbits(40)}"),
    "prune": lambda saver: saver.prune(["t"]),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["run1"]),
    "history": lambda saver: saver.get_delta_channel_history(config=at(), channels=["messages", "small", "none"]),
    "pin": lambda saver: saver.pin("t"),
    "unpin": lambda saver: saver.unpin("t"),
    "touch": lambda saver: saver.touch("t"),
    "ttl": lambda saver: saver.ttl("t"),
    "delete_thread": lambda saver: saver.delete_thread("t"),
    "prune away": lambda saver: saver.prune(["t"], strategy="delete"),
}


def fill(saver: RedisSaver) -> None:
    """A thread with something of every kind in it."""
    writer = Writer(saver)
    messages = [HumanMessage(LONG), AIMessage("short", additional_kwargs={"a": LONG}), {"text": LONG}]
    for step in range(3):
        messages = [*messages, HumanMessage(f"{step}")]
        values = {
            "messages": messages,
            "document": {"n": step, "text": LONG * 20},
            "small": step,
            "t": (step, b"x"),
        }
        last = writer.put(f"{step + 1:04}", {"run_id": f"run{step}"}, **values)
        saver.put_writes(last, [("a", (1, LONG)), ("b", [HumanMessage(LONG)])], "task")
    Writer(saver, ns="sub").put("0004", a=[HumanMessage(LONG)])


def contents(raw: Any, key: str) -> Any:
    # A hash's dump depends on how far the server has got in making room for it.
    return raw.hgetall(key) if raw.type(key) == b"hash" else raw.dump(key)


FOREIGN: dict[str, Callable[[Any, str], Any]] = {
    "string": lambda raw, key: raw.set(key, "somebody's"),
    "list": lambda raw, key: raw.rpush(key, "somebody's"),
    "set": lambda raw, key: raw.sadd(key, "somebody's"),
    "hash": lambda raw, key: raw.hset(key, mapping={"name": "somebody's", "N": "x"}),
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
def test_somebody_elses_data(saver: RedisSaver, raw: Any, prefix: str, foreign: Callable[[Any, str], Any]) -> None:
    """Another program's data at a thread's key is refused by name, by every method, and left unchanged."""
    key = key_of(prefix)
    foreign(raw, key)
    raw.zadd(f"{prefix}:index:runs:run1", {"t": 1})
    before = contents(raw, key)
    for call in CALLS.values():
        with pytest.raises(WrongTypeError, match=r"was not changed|is not a thread"):
            call(saver)
        assert contents(raw, key) == before
    Writer(saver, "other").put(a=1)
    with pytest.raises(WrongTypeError, match=r"was not changed|is not a thread"):
        saver.copy_thread("other", "t")
    assert contents(raw, key) == before
    for index in ("index:threads", "index:runs:run1"):
        raw.delete(f"{prefix}:{index}")
        raw.set(f"{prefix}:{index}", "somebody's")
        with pytest.raises(WrongTypeError):
            Writer(saver, "third").put(None, {"run_id": "run1"}, a=1)
        raw.delete(f"{prefix}:{index}")
    assert not raw.exists(key_of(prefix, "third"))


def test_a_newer_format(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A thread in a newer format is refused by every method with advice, and is unchanged."""
    fill(saver)
    key = key_of(prefix)
    raw.hset(key, "format", "2")
    before = contents(raw, key)
    for name, call in CALLS.items():
        with pytest.raises(FormatVersionError, match="Upgrade ecowas_lc"):
            call(saver)
        assert contents(raw, key) == before, name


def damaged(value: bytes, generator: random.Random) -> Iterator[bytes]:
    yield b""
    yield value[: len(value) // 2]
    yield value[:-1]
    yield value + b"\xff"
    yield b"\xff" * max(1, len(value))
    yield generator.randbytes(max(1, len(value)))
    for _ in range(2):
        at_ = generator.randrange(len(value)) if value else 0
        yield value[:at_] + generator.randbytes(1) + value[at_ + 1 :]


SERDES: dict[str, Callable[[], Any]] = {
    "plain": lambda: None,
    "encrypted": lambda: EncryptedRedisSerializer(b"k" * 32),
    "given": JsonPlusSerializer,
}
READS = ("get_tuple", "list everywhere", "list filtered", "history")
EXPECTED = (CorruptDataError, TypeNotAllowedError, FormatVersionError, WrongTypeError)


@pytest.mark.parametrize("serde", SERDES.values(), ids=SERDES.keys())
def test_garbage_in_every_field(redis_server: Any, prefix: str, serde: Callable[[], Any]) -> None:
    """Damage to any stored field causes an error of ours, or none: never another library's exception."""
    options: dict[str, Any] = {"prefix": prefix, "serde": serde()}
    generator = random.Random(4)
    key = key_of(prefix)
    wrong = 0
    with RedisSaver.from_url(redis_server.url, **options) as saver, redis_server.client() as raw:
        fill(saver)
        for name, value in sorted(raw.hgetall(key).items()):
            for bad in damaged(value, generator):
                raw.hset(key, name, bad)
                for call in READS:
                    try:
                        CALLS[call](saver)
                    except EXPECTED as error:
                        wrong += isinstance(error, CorruptDataError)
                    except BaseException as error:
                        raise AssertionError(f"{name!r} as {bad!r}: {call}") from error
            raw.hset(key, name, value)
        assert CALLS["get_tuple"](saver).checkpoint["channel_values"] == {
            "small": 2,
            **saver.get_tuple(at(checkpoint_id="0003")).checkpoint["channel_values"],
        }
    assert wrong > 50


@pytest.mark.parametrize("kind", [b"c", b"v", b"w", b"e", b"g", b"n", b"L", b"M", b"N"], ids=bytes.decode)
def test_writing_to_a_damaged_thread(redis_server: Any, prefix: str, kind: bytes) -> None:
    """On a thread with a damaged or missing field, every method raises an error of ours or does its work."""
    generator = random.Random(5)
    key, spare = key_of(prefix), key_of(prefix, "spare")
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        fill(saver)
        raw.copy(key, spare)
        names = [name for name in raw.hkeys(key) if name[:1] == kind]
        assert names
        for name in generator.sample(names, min(2, len(names))):
            for bad in (None, b"", generator.randbytes(30), raw.hget(spare, name)[:-1]):
                for label, call in CALLS.items():
                    raw.copy(spare, key, replace=True)
                    if bad is None:
                        raw.hdel(key, name)
                    else:
                        raw.hset(key, name, bad)
                    try:
                        call(saver)
                    except EXPECTED:
                        pass
                    except BaseException as error:
                        raise AssertionError(f"{name!r} as {bad!r}: {label}") from error


CIRCLES: dict[str, Callable[[Any, str, dict[bytes, bytes]], Any]] = {
    "two checkpoints": lambda raw, key, fields: raw.hset(key, b"c\x000001", fields[b"c\x000003"]),
    "itself": lambda raw, key, fields: raw.hset(key, b"c\x000002", b"\0\x040002" + fields[b"c\x000002"][2:]),
    "namespaces": lambda raw, key, fields: raw.hset(key, b"M", b"sub"),
    "a namespace": lambda raw, key, fields: raw.hset(key, b"Msub", b"sub"),
}


@pytest.mark.parametrize("circle", CIRCLES.values(), ids=CIRCLES.keys())
def test_links_in_a_circle(saver: RedisSaver, raw: Any, prefix: str, circle: Callable[..., Any]) -> None:
    """Circular links end in an error: no script loops, which would block the server for everyone."""
    fill(saver)
    key = key_of(prefix)
    spare = key_of(prefix, "spare")
    circle(raw, key, raw.hgetall(key))
    raw.copy(key, spare)
    wrong = 0
    for label, call in CALLS.items():
        raw.copy(spare, key, replace=True)
        try:
            call(saver)
        except EXPECTED:
            wrong += 1
        except BaseException as error:
            raise AssertionError(label) from error
    assert wrong >= 2


async def test_a_checkpoint_that_extends_itself(redis_server: Any, prefix: str) -> None:
    """A checkpoint that replaces itself, as tools that rewrite metadata do, sends no walk into a circle."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        writer = Writer(saver)
        first = writer.put("0001", a=[HumanMessage(LONG)])
        found = saver.get_tuple(first)
        delta = {"counters_since_delta_snapshot": {"b": [1, 1]}}
        await saver.aput(found.config, found.checkpoint, {**found.metadata, **delta}, {})
        again = await saver.aget_tuple(first)
        assert again.checkpoint == found.checkpoint
        assert id_of(again.parent_config) == "0001"
        assert await saver.aget_delta_channel_history(config=first, channels=["b"]) == {"b": {"writes": []}}
        assert len([each async for each in saver.alist(at())]) == 1
        saver.prune(["t"])
        saver.copy_thread("t", "copy")
        assert saver.get_tuple(at("copy")).checkpoint == found.checkpoint


def test_a_full_server(prefix: str) -> None:
    """A server out of memory refuses by name and changes nothing; reading, deleting and pruning still work."""
    with (
        running_server("redis", "--maxmemory-policy", "noeviction") as server,
        RedisSaver.from_url(server.url, prefix=prefix) as saver,
        server.client() as raw,
    ):
        writer = Writer(saver)
        for number in range(20):
            last = writer.put(messages=[HumanMessage(f"{number} {LONG}")], text=f"{number} {LONG}")
        before = raw.hgetall(key_of(prefix))
        raw.config_set("maxmemory", 1)
        with pytest.raises(RedisRefusedError, match="out of memory"):
            copy.copy(writer).put(messages=[HumanMessage("more")])
        with pytest.raises(RedisRefusedError, match="out of memory"):
            saver.put_writes(last, [("a", 1)], "task")
        with pytest.raises(RedisRefusedError, match="out of memory"):
            saver.copy_thread("t", "copy")
        assert raw.hgetall(key_of(prefix)) == before
        assert saver.get_tuple(at()).checkpoint["channel_values"]["text"] == f"19 {LONG}"
        assert len(list(saver.list(at()))) == 20
        saver.prune(["t"])
        assert len(list(saver.list(at()))) == 1
        assert_whole(raw.hgetall(key_of(prefix)), exact=True)
        saver.delete_thread("t")
        assert saver.get_tuple(at()) is None


def test_evicted(prefix: str) -> None:
    """A thread that the server evicted is stored again, whole, or refused: never in part."""
    with (
        running_server("redis", "--maxmemory-policy", "allkeys-random", "--maxmemory", "3mb") as server,
        RedisSaver.from_url(server.url, prefix=prefix) as saver,
    ):
        writers = [Writer(saver, f"t{number}") for number in range(30)]
        messages: list[Any] = []
        seen = 0
        for step in range(12):
            messages = [*messages, HumanMessage(f"{step} {LONG * 20}")]
            for writer in writers:
                last = writer.put(messages=messages, text=writer.values.get("text", LONG * 10))
                found = saver.get_tuple(last)
                seen += found is not None
                assert found is None or found.checkpoint["channel_values"]["messages"] == messages
        with server.client() as raw:
            assert raw.info("stats")["evicted_keys"] > 0
        assert seen > 300


def test_ids_that_are_none(saver: RedisSaver) -> None:
    """An invalid id, list of ids or target of a write is refused before anything is sent."""
    for config in ({}, {"configurable": {}}, at(""), at(None), at(b"x"), at(True), at(1.5)):
        with pytest.raises(InvalidInputError, match="thread id"):
            saver.get_tuple(config)
    for config in (at(ns=1), at(checkpoint_id=5), at(ns="x" * 60_001), at(checkpoint_id="x" * 60_001)):  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError):
            saver.get_tuple(config)
    with pytest.raises(InvalidInputError, match="checkpoint_id"):
        saver.put_writes(at(), [("a", 1)], "task")
    with pytest.raises(InvalidInputError, match="empty"):
        saver.put(at(), {**Writer(saver).draft()[0], "id": ""}, {}, {})
    with pytest.raises(InvalidInputError, match="list of run ids"):
        saver.delete_for_runs("run")
    with pytest.raises(InvalidInputError, match="list of thread ids"):
        saver.prune("t")
    with pytest.raises(InvalidInputError, match="longer than"):
        Writer(saver).put(**{"c" * 60_001: LONG})
    assert saver.get_tuple(at(ns=None)) is None


@pytest.mark.parametrize("key", ["v", "id", "ts", "channel_values", "channel_versions", "versions_seen"])
async def test_checkpoints_that_lack_something(redis_server: Any, prefix: str, key: str) -> None:
    """A hand-made checkpoint with a missing or wrong part is refused, and the error names the part."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        whole: Any = empty_checkpoint()
        cut = {name: value for name, value in whole.items() if name != key}
        for checkpoint in (cut, *([{**whole, key: 7}] if isinstance(whole[key], dict) else []), None):
            match = "mapping" if checkpoint is not cut else repr(key)
            with pytest.raises(InvalidInputError, match=match):
                saver.put(at(), checkpoint, {}, {})  # type: ignore[arg-type]
            with pytest.raises(InvalidInputError, match=match):
                await saver.aput(at(), checkpoint, {}, {})  # type: ignore[arg-type]
        assert saver.get_tuple(at()) is None
