"""Expiry: a thread expires whole or not at all, and no result shows expired data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.keys import Keys
from tests.fixtures.servers import wait_until
from tests.redis.writer import Writer, at, id_of, key_of

LONG = "word " * 60


@pytest.fixture
def raw(server: Any) -> Iterator[Any]:
    with server.client() as client:
        yield client


def saver_of(server: Any, prefix: str, **options: Any) -> RedisSaver:
    return RedisSaver.from_url(server.url, prefix=prefix, **options)


def shorten(raw: Any, key: str) -> None:
    raw.pexpire(key, 50_000)


def test_every_write_renews_the_whole(server: Any, prefix: str, raw: Any) -> None:
    """Each checkpoint and each pending write renews the thread's one key; reading does not, unless asked to."""
    key = key_of(prefix)
    with (
        saver_of(server, prefix, ttl=100) as saver,
        saver_of(server, prefix, ttl=100, refresh_on_read=True) as other,
    ):
        writer = Writer(saver)
        last = writer.put(a=[HumanMessage(LONG)])
        assert 90_000 < raw.pttl(key) <= 100_000
        writes = {
            "put": lambda: writer.put(a=2),
            "put_writes": lambda: saver.put_writes(last, [("a", LONG)], "task"),
            "touch": lambda: saver.touch("t"),
            "get with refresh": lambda: other.get_tuple(at()),
            "list with refresh": lambda: list(other.list(at())),
            "history with refresh": lambda: other.get_delta_channel_history(config=at(), channels=["a"]),
        }
        for name, write in writes.items():
            shorten(raw, key)
            write()
            assert raw.pttl(key) > 90_000, name
        reads = {
            "get": lambda: saver.get_tuple(at()),
            "list": lambda: list(saver.list(at())),
            "ttl": lambda: saver.ttl("t"),
            "prune": lambda: saver.prune(["t"]),
            "delete_for_runs": lambda: saver.delete_for_runs(["none"]),
            "nothing there": lambda: other.get_tuple(at(checkpoint_id="gone")),
        }
        for name, read in reads.items():
            shorten(raw, key)
            read()
            assert raw.pttl(key) <= 50_000, name


def test_pin_unpin_touch_ttl(server: Any, prefix: str, raw: Any) -> None:
    """A pinned thread never expires, whatever is written, until it is unpinned; a missing thread is an error."""
    with saver_of(server, prefix, ttl=100) as saver:
        for method in (saver.pin, saver.unpin, saver.touch):
            assert method("t") is False
        assert saver.ttl("t") == -1
        writer = Writer(saver)
        writer.put(a=1)
        assert 90 < (saver.ttl("t") or 0) <= 100
        assert saver.pin("t")
        assert saver.ttl("t") is None
        last = writer.put(a=2)
        saver.put_writes(last, [("a", 1)], "task")
        assert saver.touch("t")
        saver.prune(["t"])
        assert saver.ttl("t") is None
        saver.copy_thread("t", "copy")
        assert 90 < (saver.ttl("copy") or 0) <= 100
        assert saver.unpin("t")
        assert 90 < (saver.ttl("t") or 0) <= 100
    with saver_of(server, prefix) as endless:
        assert endless.touch("t")
        assert 90 < (endless.ttl("t") or 0) <= 100
        endless.copy_thread("t", "copy 2")
        assert endless.ttl("copy 2") is None


async def test_async_expiry(server: Any, prefix: str) -> None:
    """The async methods do the same."""
    async with saver_of(server, prefix, ttl=100) as saver:
        assert await saver.attl("t") == -1
        assert not await saver.apin("t")
        await Writer(saver).aput(a=1)
        assert await saver.apin("t")
        assert await saver.attl("t") is None
        assert await saver.aunpin("t")
        assert await saver.atouch("t")
        assert 90 < (await saver.attl("t") or 0) <= 100


def test_a_saver_without_ttl_keeps_what_it_writes(server: Any, prefix: str, raw: Any) -> None:
    """A write without a ttl does not expire because an earlier writer had one."""
    with saver_of(server, prefix, ttl=100) as short, saver_of(server, prefix) as endless:
        writer = Writer(short)
        writer.put(a=1)
        writer.saver = endless
        last = writer.put(a=2)
        assert endless.ttl("t") is None
        writer.saver = short
        writer.put(a=3)
        assert endless.ttl("t") is not None
        endless.put_writes(last, [("a", 1)], "task")
        assert endless.ttl("t") is None


def test_a_default_is_the_least(server: Any, prefix: str, raw: Any) -> None:
    """A default time to live applies to new threads; threads that live longer, or forever, are unchanged."""
    key = key_of(prefix)
    with (
        saver_of(server, prefix) as endless,
        saver_of(server, prefix, default_ttl=100, refresh_on_read=True) as saver,
    ):
        writer = Writer(saver)

        def use() -> None:
            last = writer.put(a=[HumanMessage(LONG)])
            saver.put_writes(last, [("a", LONG)], "task")
            saver.get_tuple(at())
            saver.touch("t")

        use()
        assert 90_000 < raw.pttl(key) <= 100_000
        shorten(raw, key)
        use()
        assert 90_000 < raw.pttl(key) <= 100_000, "renewed"
        raw.pexpire(key, 500_000)
        use()
        assert raw.pttl(key) > 400_000, "it lives longer"
        writer.saver = endless
        writer.put(a=1)
        writer.saver = saver
        use()
        assert raw.pttl(key) == -1, "stored without an expiry"
        saver.copy_thread("t", "copy")
        assert 90 < (saver.ttl("copy") or 0) <= 100, "a copy is new"
        saver.delete_thread("t")
        use()
        assert 90_000 < raw.pttl(key) <= 100_000, "it is new again"
        assert saver.pin("t")
        assert saver.unpin("t")
        assert 90_000 < raw.pttl(key) <= 100_000
    with saver_of(server, prefix, ttl=10, default_ttl=100) as short:
        writer.saver = short
        writer.put(a=1)
        assert raw.pttl(key) <= 10_000, "ttl wins"


def test_expired_threads_never_show(server: Any, prefix: str, raw: Any) -> None:
    """No result contains expired threads; a listing removes them from the index and shows all others."""
    with saver_of(server, prefix, ttl=1000) as saver:
        for number in range(70):
            Writer(saver, f"t{number:02}").put(a=[HumanMessage(LONG)], n=number)
        for number in (number for number in range(70) if number % 3):
            raw.pexpire(key_of(prefix, f"t{number:02}"), 5)
        wait_until(lambda: not raw.exists(key_of(prefix, "t68")), "expiry")
        assert saver.get_tuple(at("t01")) is None
        assert list(saver.list(at("t01"))) == []
        assert saver.ttl("t01") == -1
        alive = [f"t{number:02}" for number in range(69, -1, -3)]
        assert raw.zcard(f"{prefix}:index:threads") == 70
        assert [each.config["configurable"]["thread_id"] for each in saver.list(None)] == alive
        assert raw.zcard(f"{prefix}:index:threads") == len(alive)
        Writer(saver, "t01").put(a=1)
        assert len(list(saver.list(None, filter={"step": 0}))) == len(alive) + 1


def test_expired_threads_leave_the_index_without_a_listing(server: Any, prefix: str, raw: Any) -> None:
    """New threads remove the names of expired ones, whatever their characters, and no name of a living one."""
    ids = [f"user:{number} {{%}}\n\x7f é" for number in range(40)]
    with saver_of(server, prefix, ttl=100) as saver:
        for id_ in ids:
            Writer(saver, id_).put(a=1)
        raw.delete(*(Keys(prefix).thread(id_) for id_ in ids[::2]))  # as if they had expired
        for number in range(200):
            Writer(saver, f"new {number}").put(a=1)
    names = {name.decode() for name in raw.zrange(f"{prefix}:index:threads", 0, -1)}
    assert names >= {*ids[1::2], *(f"new {number}" for number in range(200))}
    assert len(names.intersection(ids[::2])) < 10, "20 if nothing removes them; about 1 remains"


def test_the_index_keeps_a_thread_that_comes_back(server: Any, prefix: str, raw: Any) -> None:
    """A thread that is written again between a listing's reading and its clean-up stays in the index."""
    from ecowas_lc.checkpoint.reading import forget_thread_op

    with saver_of(server, prefix) as saver:
        Writer(saver).put(a=1)
        raw.delete(key_of(prefix))
        [member], score = raw.zrange(f"{prefix}:index:threads", 0, -1), raw.zscore(f"{prefix}:index:threads", "t")
        tidying = forget_thread_op(saver._at, (member, repr(score).encode()))
        next(tidying)
        Writer(saver).put(a=2)  # the thread is written again while the reply "missing" is on its way
        [forget] = tidying.send([0])
        saver._server.run(iter_once(forget))
        assert [each.checkpoint["channel_values"] for each in saver.list(None)] == [{"a": 2}]


def iter_once(call: Any) -> Any:
    yield (call,)


@pytest.mark.parametrize("encrypted", [False, True])
def test_runs_are_found_as_long_as_their_threads_live(server: Any, prefix: str, raw: Any, encrypted: bool) -> None:
    """A run whose index has expired, or never knew of a copy, is still found in every thread that holds it."""
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    with saver_of(server, prefix, ttl=100, serde=serde) as saver:
        for thread_id in ("a", "b", "c"):
            writer = Writer(saver, thread_id)
            for step in range(6):
                run_id = f"run {step // 2} {'other' if thread_id == 'c' else ''}"
                writer.put(None, {"run_id": run_id}, n=[HumanMessage(f"{step} {LONG}")])
        saver.pin("a")
        saver.copy_thread("a", "copy")
        assert raw.ttl(f"{prefix}:index:runs:run 1 ") > 86_400
        assert sorted(raw.zrange(f"{prefix}:index:runs:run 1 ", 0, -1)) == [b"a", b"b", b"copy"]
        raw.delete(f"{prefix}:index:runs:run 1 ")
        saver.delete_for_runs(["run 1 ", "no such run"])
        for thread_id, left in (("a", 4), ("b", 4), ("copy", 4), ("c", 6)):
            kept = list(saver.list(at(thread_id)))
            assert len(kept) == left, thread_id
            fields = raw.hkeys(key_of(prefix, thread_id))
            assert (b"rrun 1 " in fields) is False
            assert [name for name in fields if name.startswith(b"r")]
        saver.delete_for_runs(["run 0 ", "run 2 "])
        assert [each.config["configurable"]["thread_id"] for each in saver.list(None, limit=1)] == ["c"]
        assert raw.exists(key_of(prefix, "a"), key_of(prefix, "b"), key_of(prefix, "copy")) == 0


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e11, True, "60", 10**12], ids=repr)
def test_what_is_no_ttl(ttl: Any, prefix: str) -> None:
    """A ttl that is not a number of seconds above 0, or too large for a clock, is refused at once."""
    with pytest.raises(InvalidInputError, match="ttl"):
        RedisSaver.from_url("redis://localhost", ttl=ttl)
    with pytest.raises(InvalidInputError, match="default_ttl"):
        RedisSaver.from_url("redis://localhost", default_ttl=ttl)


def test_the_longest_and_the_shortest_ttl(server: Any, prefix: str) -> None:
    """The server accepts the smallest and largest values that are allowed."""
    for number, ttl in enumerate((0.0001, 1, 10_000_000_000)):
        with saver_of(server, prefix, ttl=ttl) as saver:
            last = Writer(saver, f"t{number}").put(a=1)
            assert ttl < 1 or id_of(saver.get_tuple(at(f"t{number}")).config) == id_of(last)


@pytest.mark.parametrize("way", ["get", "list", "history", "async"])
def test_reading_gives_no_expiry(server: Any, prefix: str, raw: Any, way: str) -> None:
    """A thread that was stored without an expiry keeps none when a saver that renews on reading reads it."""
    with saver_of(server, prefix) as writer, saver_of(server, prefix, ttl=2, refresh_on_read=True) as reader:
        config = Writer(writer).put(a=1)
        if way == "get":
            reader.get_tuple(at())
        elif way == "list":
            list(reader.list(None))
        elif way == "history":
            reader.get_delta_channel_history(config=config, channels=["a"])
        else:
            asyncio.run(reader.aget_tuple(at()))
        assert raw.pttl(key_of(prefix)) == -1
        assert reader.ttl("t") is None
