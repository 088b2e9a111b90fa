"""Listing: exact for any ids, filters and bounds, over one thread or all, and never by scanning the server."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import running_server
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, id_of, key_of

WEIRD = [
    "plain",
    "Plain",
    "PLAIN",
    "*",
    "?",
    "[a-z]",
    "a:b",
    "a",
    "b",
    ":",
    "a:b:c",
    "{a}",
    "{",
    "}",
    "a}b{c",
    "%3A",
    "%",
    "a%3Ab",
    "new\nline",
    "\r\n",
    "tab\there",
    " ",
    "  two  ",
    "\0",
    "a\0b",
    "\x7f",
    "ünïcödé",
    "u\u0308",
    "ü",
    "日本語",
    "🦜🔗",
    "\ud800",
    "'\"\\",
    "$(reboot)",
    "../../etc/passwd",
    "x" * 5000,
    "x" * 4999 + "y",
    "None",
    "0",
    "-1",
    "index:threads",
    "checkpoint",
]


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(server.url, prefix=prefix, serde=serde) as saver:
        yield saver


def test_any_thread_id(saver: RedisSaver) -> None:
    """Threads with any ids are separate, listed by exactly these ids, and deleted one by one."""
    for number, thread_id in enumerate(WEIRD):
        last = Writer(saver, thread_id).put(n=number, text=[HumanMessage(thread_id)])
        saver.put_writes(last, [("n", number)], thread_id, thread_id)
    listed = [each.config["configurable"]["thread_id"] for each in saver.list(None)]
    assert listed == WEIRD[::-1]
    for number, thread_id in enumerate(WEIRD):
        [found] = saver.list(at(thread_id))
        assert found.checkpoint["channel_values"] == {"n": number, "text": [HumanMessage(thread_id)]}
        assert found.pending_writes == [(thread_id, "n", number)]
        assert found.config["configurable"]["thread_id"] == thread_id
    for number, thread_id in enumerate(WEIRD):
        saver.delete_thread(thread_id)
        assert saver.get_tuple(at(thread_id)) is None
        assert len(list(saver.list(None))) == len(WEIRD) - number - 1


def test_any_other_id(saver: RedisSaver) -> None:
    """Namespaces, checkpoints, channels, tasks and runs may be called anything, too."""
    names = [name for name in WEIRD if len(name) < 1000]
    for number, name in enumerate(names):
        writer = Writer(saver, ns=name)
        last = writer.put(name, {"run_id": name}, **{name: [HumanMessage(name)], f"{name}x": (number,)})
        saver.put_writes(last, [(name, number), ("", name)], name, name)
    for number, name in enumerate(names):
        [found] = saver.list(at(ns=name))
        assert found == saver.get_tuple(at(ns=name, checkpoint_id=name)) == saver.get_tuple(at(ns=name))
        assert found.checkpoint["channel_values"] == {name: [HumanMessage(name)], f"{name}x": (number,)}
        assert found.pending_writes == [(name, name, number), (name, "", name)]
        assert found.metadata["run_id"] == name.replace("\0", "") or found.metadata["run_id"] == name
    assert len(list(saver.list(at(ns=None)))) == len(names)
    saver.prune(["t"])
    assert len(list(saver.list(at(ns=None)))) == len(names)
    saver.copy_thread("t", "copy")
    assert len(list(saver.list(at("copy", ns=None)))) == len(names)
    saver.delete_for_runs(["*", "a:b", "%"])
    assert {each.config["configurable"]["checkpoint_ns"] for each in saver.list(at(ns=None))} == {*names} - {
        "*",
        "a:b",
        "%",
    }


def test_bounds_and_filters(saver: RedisSaver) -> None:
    """Every combination of thread, namespace, filter, before and limit returns the same as in memory."""
    memory = InMemorySaver()
    generator = random.Random(7)
    ids = [f"{number:03}" for number in range(45)]
    for number, id_ in enumerate(generator.sample(ids, len(ids))):
        thread_id, ns = generator.choice(["a", "b"]), generator.choice(["", "", "sub", "SUB"])
        metadata = {
            "source": generator.choice(["loop", "input"]),
            "step": number % 5,
            "nested": {"a": [number % 3, None]},
            "flag": number % 2 == 0,
        }
        checkpoint, new = Writer(saver).draft(id_, a=[number])
        for each in (saver, memory):
            each.put(at(thread_id, ns=ns), checkpoint, metadata, new)
    configs = [
        at("a"),
        at("b"),
        at("a", ns="sub"),
        at("a", ns="SUB"),
        at("b", ns=None),
        at("a", "010"),
        at("none"),
    ]
    filters = [
        None,
        {},
        {"source": "loop"},
        {"step": 3, "flag": True},
        {"nested": {"a": [1, None]}},
        {"no": 1},
        {"no": None},
    ]
    befores = [None, at("a", "020"), at("a", "0195"), at("x", "zzz"), at("x", ""), at("a", "005")]
    for config, wanted, before, limit in itertools.product(configs, filters, befores, [None, 0, 2, 100]):
        options: Any = {"filter": wanted, "before": before, "limit": limit}
        ours = [(each.config, each.metadata) for each in saver.list(config, **options)]
        theirs = [(each.config, each.metadata) for each in memory.list(config, **{**options, "limit": None})]
        theirs.sort(key=lambda each: id_of(each[0]), reverse=True)  # memory lists namespace by namespace
        assert ours == theirs[: len(theirs) if limit is None else limit], (config, options)


async def test_async_listing(server: Any, prefix: str) -> None:
    """The async method lists the same as the sync one."""
    async with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        for number in range(50):
            await Writer(saver, f"t{number % 25}", ns="" if number < 25 else "sub").aput(a=number)
        for config in (None, at("t3"), at("t3", ns=None)):
            for options in ({}, {"limit": 7}, {"filter": {"step": 0}}, {"before": at("x", "0")}):
                ours = [each async for each in saver.alist(config, **options)]  # type: ignore[arg-type]
                assert ours == list(saver.list(config, **options))  # type: ignore[arg-type]


def test_pages(saver: RedisSaver) -> None:
    """More checkpoints than fit a page, in namespaces with the same ids, are listed once each and in order."""
    for number in range(130):
        for ns in ("", "a", "b"):
            if number % 3 or not ns:
                Writer(saver, ns=ns).put(f"{number // 2:04}" if ns == "b" else f"{number:04}", a=number)
    everything = [
        (id_of(each.config), each.config["configurable"]["checkpoint_ns"]) for each in saver.list(at(ns=None))
    ]
    assert [id_ for id_, _ in everything] == sorted((id_ for id_, _ in everything), reverse=True)
    assert len(set(everything)) == len(everything) == 130 + 86 + 65
    bounded = saver.list(at(ns=None), limit=45)
    assert [(id_of(each.config), each.config["configurable"]["checkpoint_ns"]) for each in bounded] == everything[
        :45
    ]


def test_all_threads_while_others_write_and_expire(saver: RedisSaver, server: Any, prefix: str) -> None:
    """Threads that are written to, expire or are deleted while all are listed hide no other thread."""
    for number in range(65):
        Writer(saver, f"t{number:02}").put(a=number)
    seen: list[str] = []
    with server.client() as raw:
        for position, found in enumerate(saver.list(None)):
            seen.append(found.config["configurable"]["thread_id"])
            if position == 5:
                Writer(saver, "t02").put(a=0)  # far behind: moves to the front
                raw.delete(key_of(prefix, "t50"), key_of(prefix, "t10"), key_of(prefix, "t58"))
                saver.delete_thread("t30")
                Writer(saver, "new").put(a=0)
    gone = {"t50", "t10", "t58", "t30"}
    expected = {f"t{number:02}" for number in range(65)} - gone
    assert expected - set(seen) == set()
    assert set(seen) - expected <= {"new", "t58"}
    assert seen.count("t03") == 1


def test_many_threads_of_one_moment(saver: RedisSaver, server: Any, prefix: str) -> None:
    """Threads last written to at the very same time are all listed, however many they are."""
    with server.client() as raw:
        for number in range(90):
            Writer(saver, f"t{number:02}").put(a=number)
        raw.zadd(f"{prefix}:index:threads", {f"t{number:02}": 1700000000.125 for number in range(90)})
    assert sorted(each.config["configurable"]["thread_id"] for each in saver.list(None)) == [
        f"t{number:02}" for number in range(90)
    ]


def test_all_threads_on_a_cluster(cluster: Any, prefix: str) -> None:
    """On a cluster, where threads live on several servers, all are listed, in the order of their last writes."""
    with RedisSaver.from_url(cluster.url, prefix=prefix) as saver:
        for number in range(50):
            Writer(saver, f"t{number:02}").put(a=number)
        listed = [each.config["configurable"]["thread_id"] for each in saver.list(None)]
        assert listed == [f"t{number:02}" for number in range(49, -1, -1)]
        saver.delete_thread("t20")
        assert len(list(saver.list(None, filter={"step": 0}))) == 49


def test_no_scanning_and_nothing_dangerous(prefix: str) -> None:
    """Everything a saver can do is done without KEYS, SCAN and other commands that walk or endanger a server."""
    with (
        running_server("redis") as server,
        RedisSaver.from_url(server.url, prefix=prefix, ttl=100) as saver,
        server.client() as raw,
    ):
        dangerous = {name.decode().lower() for name in raw.execute_command("ACL", "CAT", "dangerous")}
        dangerous |= {name.decode().lower() for name in raw.execute_command("ACL", "CAT", "admin")}
        raw.config_resetstat()
        for number in range(30):
            writer = Writer(saver, f"t{number}")
            for step in range(3):
                last = writer.put(None, {"run_id": f"run{step}"}, a=[HumanMessage("x" * 300)])
                saver.put_writes(last, [("a", 1)], "task")
        assert len(list(saver.list(None))) == 90
        assert len(list(saver.list(None, filter={"step": 2}, limit=5))) == 5
        saver.get_delta_channel_history(config=at("t1"), channels=["b"])
        saver.copy_thread("t1", "copy")
        saver.delete_for_runs(["run0", "no such run"])
        saver.prune(["t2", "t3"], keep_last=1)
        for method in (saver.pin, saver.unpin, saver.touch, saver.ttl, saver.delete_thread):
            method("t4")
        used = {name.partition("_")[2].partition("|")[0] for name in raw.info("commandstats")}
    mine = used - {"config", "acl", "info", "client", "hello", "command"}
    assert mine & (dangerous | {"scan", "hscan", "zscan", "sscan", "keys", "randomkey"}) == set()
    assert {"evalsha", "hget", "hset", "unlink"} <= mine


def test_limits_are_limits_on_the_server_too(redis_server: Any, prefix: str) -> None:
    """A small limit reads little: one flush for a thread, and no more threads than it takes."""
    with running_proxy(redis_server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        for number in range(60):
            Writer(saver, f"t{number}").put(a=[HumanMessage("x" * 5000)])
        writer = Writer(saver, "long")
        for number in range(60):
            writer.put(a=[HumanMessage(f"{number}" * 2000)])
        assert len(list(saver.list(None, limit=1))) == 1  # the scripts are known from here on
        proxy.reset_counts()
        assert len(list(saver.list(at("long"), limit=10))) == 10
        assert proxy.flushes == 1
        few = proxy.received
        proxy.reset_counts()
        assert len(list(saver.list(at("long")))) == 60
        assert few < proxy.received / 3
        proxy.reset_counts()
        assert len(list(saver.list(None, limit=3))) == 3
        assert proxy.flushes == 2


def test_a_thousand_namespaces(redis_server: Any, prefix: str) -> None:
    """A thread that subgraphs left a thousand namespaces in is listed, pruned and copied without long pauses."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        for number in range(1000):
            for step in range(2):
                Writer(saver, ns=f"node:{number}").put(f"{number:06}-{step}", a=number)
        raw.config_set("slowlog-log-slower-than", 0)
        raw.execute_command("SLOWLOG", "RESET")
        assert len(list(saver.list(at(ns=None), limit=30))) == 30
        saver.prune(["t"])
        slowest = max(entry[2] for entry in raw.execute_command("SLOWLOG", "GET", 128)) / 1000
        raw.config_set("slowlog-log-slower-than", 10_000)
        assert slowest < 1000, f"a script held the server for {slowest} ms"
        stored = assert_whole(raw.hgetall(key_of(prefix)), exact=True)
        assert len(stored.rows) == len(stored.namespaces) == 1000
        assert id_of(saver.get_tuple(at(ns="node:500")).config) == "000500-1"
