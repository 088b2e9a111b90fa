"""The saver's costs, counted: flushes, bytes and memory, which must not grow with the length of a thread."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.checkpoint.codec import elements
from ecowas_lc.errors import NotSerializableError
from ecowas_lc.storage import server as server_module
from tests.fixtures.proxy import Proxy, running_proxy
from tests.fixtures.servers import running_server
from tests.redis.writer import Writer, at, key_of

THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def proxy(redis_server: Any) -> Iterator[Proxy]:
    with running_proxy(redis_server.port) as proxy:
        yield proxy


def text(generator: random.Random, length: int) -> str:
    return "".join(generator.choices(string.ascii_lowercase + " ", k=length))


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    note: str


def conversation(checkpointer: Any, generator: random.Random) -> Any:
    """A chat of three supersteps a turn: questions of 200 characters, answers of 1,200."""
    builder = StateGraph(State).add_node("route", lambda state: {"note": "r"})
    builder.add_node("answer", lambda state: {"messages": [AIMessage(text(generator, 1200))]})
    builder.add_edge(START, "route").add_edge("route", "answer").add_edge("answer", END)
    return builder.compile(checkpointer=checkpointer)


def test_a_conversation_of_200_turns(proxy: Proxy, redis_server: Any, prefix: str) -> None:
    """At most 8 kB and 8 flushes a turn, at its end as at its beginning; 1.5 MB in all, growing only by turns."""
    generator = random.Random(9)
    sent, memory = [], [0]
    with RedisSaver.from_url(proxy.url, prefix=prefix) as saver, redis_server.client() as raw:
        graph = conversation(saver, generator)
        for turn in range(200):
            if turn % 50 == 0:
                proxy.reset_counts()
            graph.invoke({"messages": [HumanMessage(text(generator, 200))]}, THREAD)
            if turn % 50 == 49:
                sent.append(proxy.sent / 50)
                memory.append(raw.memory_usage(key_of(prefix), samples=0))
                assert proxy.flushes <= 8 * 50 + 20  # the first of all ask for the scripts
        assert len(graph.get_state(THREAD).values["messages"]) == 400
        assert len(raw.keys(f"{prefix}:*")) == 2
    assert max(sent) <= 8_000
    assert sent[-1] <= 1.05 * sent[1]
    assert memory[-1] <= 1_500_000
    steps = [after - before for before, after in itertools.pairwise(memory)]
    assert max(steps[1:]) <= 1.4 * min(steps[1:])  # a hash's table doubles now and then
    assert memory[-1] <= 4.5 * memory[1]


@pytest.mark.parametrize("encrypted", [False, True])
def test_one_flush_each(proxy: Proxy, prefix: str, encrypted: bool) -> None:
    """Putting, reading and deleting are one flush each, whatever the number of channels and their sizes."""
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    with RedisSaver.from_url(proxy.url, prefix=prefix, serde=serde, ttl=100, fencing=True) as saver:
        Writer(saver, "warm").put(None, {"run_id": "r"}, a=1)
        saver.put_writes(saver.get_tuple(at("warm")).config, [("a", 1)], "task")  # type: ignore[union-attr]
        saver.touch("warm")
        saver.delete_thread("warm")  # the scripts are known from here on
        writer = Writer(saver)
        channels = {f"c{number}": [HumanMessage(f"{number} {'x' * 200}")] for number in range(30)}
        channels |= {f"d{number}": {"x": f"{number} {'y' * 200}"} for number in range(30)}
        last: Any = None
        calls: dict[str, Callable[[], Any]] = {
            "put": lambda: writer.put(None, {"run_id": "r"}, **channels),
            "put again": lambda: writer.put(None, {"run_id": "r"}, c1=[*channels["c1"], HumanMessage("more")]),
            "put_writes": lambda: saver.put_writes(writer.config, list(channels.items()), "task"),
            "get_tuple": lambda: saver.get_tuple(at()),
            "get_tuple by id": lambda: saver.get_tuple(writer.config),
            "list": lambda: list(saver.list(at(), limit=10)),
            "touch": lambda: saver.touch("t"),
            "delete_thread": lambda: saver.delete_thread("t"),
        }
        for name, call in calls.items():
            proxy.reset_counts()
            last = call()
            assert proxy.flushes == 1, name
        assert last is None


@pytest.mark.parametrize("checkpoints", [10, 200])
def test_few_flushes_for_a_whole_thread(
    redis_server: Any, prefix: str, checkpoints: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation on a whole thread takes one flush for many checkpoints, not one for each."""
    flushes: list[Any] = []  # counted by the client: a server replies to a long one before it has all of it

    def counted(client: Any, batch: Any, *others: Any) -> Any:
        flushes.append(batch)
        return send(client, batch, *others)

    send = server_module._send
    monkeypatch.setattr(server_module, "_send", counted)
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        for name in ("warm", "t"):
            writer = Writer(saver, name)
            for number in range(checkpoints):
                writer.put(f"{number:036}", {"run_id": f"{name}-{number}"}, m=[HumanMessage(f"{number}" * 50)])
        hundreds = -(-checkpoints // 100)
        calls: dict[str, tuple[Callable[[str], Any], int]] = {
            "list": (lambda name: list(saver.list(at(name))), checkpoints // 20 + 1),
            "copy_thread": (lambda name: saver.copy_thread(name, f"{name}-copy"), 4 + hundreds),
            "delete_for_runs": (lambda name: saver.delete_for_runs([f"{name}-3"]), 5 + 2 * hundreds),
            "prune": (lambda name: saver.prune([f"{name}-copy"]), 2 + hundreds),
        }
        for name, (call, most) in calls.items():
            call("warm")
            flushes.clear()
            call("t")
            assert 1 <= len(flushes) <= most, name


async def test_one_flush_each_async(proxy: Proxy, prefix: str) -> None:
    """The async methods take the same number of flushes."""
    async with RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        writer = Writer(saver)
        await writer.aput(a=1)
        await saver.aput_writes(writer.config, [("a", 1)], "task")
        await saver.aget_tuple(at())
        await saver.adelete_thread("warm")
        for name, call in {
            "put": lambda: writer.aput(a=[HumanMessage("x" * 500)]),
            "put_writes": lambda: saver.aput_writes(writer.config, [("a", "x" * 500)], "task"),
            "get_tuple": lambda: saver.aget_tuple(at()),
            "delete_thread": lambda: saver.adelete_thread("t"),
        }.items():
            proxy.reset_counts()
            await call()
            assert proxy.flushes == 1, name
    await asyncio.sleep(0)


def test_what_is_equal_is_stored_once(redis_server: Any, prefix: str) -> None:
    """Equal long texts and messages of a thread, in lists, writes, values and objects, are stored once."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        long = text(random.Random(10), 50_000)
        writer = Writer(saver)
        for number in range(10):
            message = HumanMessage(long, id="same")
            nested = {"energy": [HumanMessage("short")] * 100 + [message]}
            last = writer.put(m=[message] * 3, d={"text": long, "n": number}, t=(number, Document(long)), h=nested)
            saver.put_writes(last, [("m", message), ("d", {"text": long})], f"task{number}")
        assert raw.memory_usage(key_of(prefix), samples=0) < 50_000 * 3


def test_more_channels_than_a_row_can_count(redis_server: Any, prefix: str) -> None:
    """A checkpoint of more than 65,535 channels with large values is refused, and nothing is stored."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        with pytest.raises(NotSerializableError, match="more than 65535 channels"):
            Writer(saver).put(**dict.fromkeys(map(str, range(65_536)), "x" * 1_000))
        assert saver.get_tuple(at()) is None


def test_memory_of_the_process_is_bounded(redis_server: Any, prefix: str) -> None:
    """A saver that serves thousands of threads remembers a bounded part of the data it has read."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        memo = saver._memo
        for number in range(5000):
            memo.thread(f"t{number}").saw([bytes([number % 256]) * 16])
        assert len(memo._threads) <= 4096
        thread = memo.thread("t")
        thread.saw(number.to_bytes(16, "big") for number in range(5000))
        assert len(thread.known) <= 1024
        assert (4999).to_bytes(16, "big") in thread.known


def test_reading_costs_what_is_new(proxy: Proxy, redis_server: Any, prefix: str) -> None:
    """No item of a known list is sent again, and of a longer list only the new items are."""
    generator = random.Random(11)
    messages: list[AnyMessage] = [AIMessage(text(generator, 1200), id=f"{number}") for number in range(400)]
    messages[7] = AIMessage("", id="7", tool_calls=[{"name": "f", "args": {"a": [1]}, "id": "c"}])
    messages[8] = HumanMessage([{"type": "text", "text": text(generator, 800)}], id="8")
    messages[9] = ToolMessage("x", id="9", tool_call_id="c", artifact=Document(text(generator, 800)))

    def received(saver: RedisSaver) -> int:
        proxy.reset_counts()
        read = saver.get_tuple(THREAD)
        assert read is not None
        assert read.checkpoint["channel_values"]["m"] == messages
        return proxy.received

    with (
        RedisSaver.from_url(proxy.url, prefix=prefix) as saver,
        RedisSaver.from_url(redis_server.url, prefix=prefix) as elsewhere,
    ):
        writer = Writer(elsewhere)
        writer.put(m=messages)
        whole = received(saver)
        assert whole > 400 * 1200
        assert received(saver) < 1500
        messages.append(AIMessage(text(generator, 1200), id="new"))
        writer.put(m=messages)
        assert received(saver) < 1500 + 1500 + 16 * 401
        del messages[:200]
        writer.put(m=messages)
        assert received(saver) < 1500 + 16 * 201
        assert received(saver) < 1500
        # The server has lost what the cache lists, so the cache must not be trusted.
        elsewhere.delete_thread("t")
        assert saver.get_tuple(THREAD) is None
        messages[:] = messages[:3]
        Writer(elsewhere).put(m=messages)
        assert received(saver) > 3 * 1200


def test_the_servers_work_does_not_grow(prefix: str) -> None:
    """A turn makes the server run as many commands after 10,000 turns as after 10, with those of its scripts."""
    generator = random.Random(12)
    with (
        running_server("redis") as alone,  # commands of others would be counted too
        RedisSaver.from_url(alone.url, prefix=prefix) as saver,
        alone.client() as raw,
    ):
        graph = conversation(saver, generator)

        def turn(thread: Any) -> dict[str, int]:
            raw.config_resetstat()
            graph.invoke({"messages": [HumanMessage(text(generator, 200))]}, thread)
            stats = raw.info("commandstats")
            counted = (
                "evalsha",
                "hget",
                "hset",
                "hmget",
                "hexists",
                "pexpire",
                "persist",
                "zadd",
                "pttl",
                "exists",
            )
            return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in counted}

        found = {}
        for turns in (10, 10_000):
            thread: Any = {"configurable": {"thread_id": f"{turns}"}}
            kinds = itertools.cycle((HumanMessage, AIMessage))
            before = [next(kinds)(f"message {number}", id=f"{number}") for number in range(2 * turns)]
            graph.update_state(thread, {"messages": before})
            found[turns] = [turn(thread) for _ in range(8)][2:]
        assert found[10][0]["hset"] > 0
        # a list asks for elements again if LangGraph's background store of the same elements arrived first,
        # so only the turns in which none did are comparable
        least = {turns: min(counts.pop("hexists") for counts in found[turns]) for turns in found}
        assert abs(least[10] - least[10_000]) <= 1, least
        # the log of a list is written in segments of 64: one turn in some begins another
        for few, many in zip(found[10], found[10_000], strict=True):
            assert all(abs(few[name] - many[name]) <= 1 for name in few), (few, many)


def test_first_turns_cost_what_later_ones_do(prefix: str) -> None:
    """A thread's first, second and thirtieth turn make the same number of calls, and send as much."""
    generator = random.Random(12)
    with (
        running_server("redis") as alone,
        RedisSaver.from_url(alone.url, prefix=prefix) as saver,
        alone.client() as raw,
    ):
        graph = conversation(saver, generator)

        def turn(thread: str) -> tuple[int, int, int]:
            raw.config_resetstat()
            graph.invoke(
                {"messages": [HumanMessage(text(generator, 200))]}, {"configurable": {"thread_id": thread}}
            )
            stats, network = raw.info("commandstats"), raw.info("stats")
            scripts = stats["cmdstat_evalsha"]["calls"] + stats.get("cmdstat_eval", {"calls": 0})["calls"]
            return scripts, network["total_net_input_bytes"], network["total_net_output_bytes"]

        turn("warm")  # the server has the scripts afterwards
        calls, sent, received = zip(*(turn("t") for _ in range(30)), strict=True)
        assert set(calls) == {calls[0]}
        # A step's writes and its checkpoint are sent at the same time, so sometimes both have the new message.
        assert max(sent) < 1.4 * min(sent), sent
        assert abs(min(sent[1:8]) - min(sent[-8:])) < 300, sent
        assert max(received) - min(received) < 1000, received  # most of it is the answer to INFO


class Heavy(TypedDict):
    load: Any
    note: int


KINDS: dict[str, Callable[[int], Any]] = {
    "bytes": lambda number: random.Random(number).randbytes(1_000_000),
    "text": lambda number: random.Random(number).randbytes(500_000).hex(),
    "dict": lambda number: {"nested": [random.Random(number).randbytes(1_000_000)]},
}


def carrying(saver: Any, kind: str, *, changing: bool) -> Any:
    """Two steps a turn; the first changes a value of 1 MB, or leaves it unchanged."""

    def change(state: Heavy) -> dict[str, Any]:
        return {"load": KINDS[kind](state["note"])} if changing or "load" not in state else {}

    builder = StateGraph(Heavy).add_node("change", change).add_node("rest", lambda state: {"note": 0})
    builder.add_edge(START, "change").add_edge("change", "rest").add_edge("rest", END)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("serde", [None, EncryptedRedisSerializer(b"k" * 32)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "asyncio"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_value_is_sent_once(
    proxy: Proxy, redis_server: Any, prefix: str, kind: str, serde: Any, *, is_async: bool
) -> None:
    """1 MB that changes each turn travels once, though writes and checkpoint race; unchanged, it never does.

    Neither is text or bytes that this process has written or read sent back to it.
    """
    async with RedisSaver.from_url(proxy.url, prefix=prefix, serde=serde) as saver:

        async def turn(graph: Any, number: int) -> tuple[int, int]:
            proxy.reset_counts()
            given = {"note": number}
            if is_async:
                await graph.ainvoke(given, THREAD)
            else:
                await asyncio.to_thread(graph.invoke, given, THREAD)
            return proxy.sent, proxy.received

        changing = carrying(saver, kind, changing=True)
        await turn(changing, 9)  # a new server gets the scripts with the first call of each
        for number in range(4):
            sent, received = await turn(changing, number)
            assert sent <= 1_030_000
            assert kind == "dict" or received < 10_000
        assert (await saver.aget_tuple(THREAD)).checkpoint["channel_values"]["load"] == KINDS[kind](3)
        same = carrying(saver, kind, changing=False)
        for number in range(2):
            sent, received = await turn(same, number)
            assert sent < 10_000
            assert kind == "dict" or received < 10_000
    async with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as elsewhere:
        for _ in range(2):
            assert (await elsewhere.aget_tuple(THREAD)).checkpoint["channel_values"]["load"] == KINDS[kind](3)


def test_a_large_value_is_hashed_once(redis_server: Any, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that a step's writes and its checkpoint hold are hashed once, and not in later turns."""
    hashed: list[int] = []

    class Counting:
        def __init__(self, data: bytes) -> None:
            self.inner = sha256(data)

        def update(self, data: bytes) -> None:
            hashed.append(len(data))
            self.inner.update(data)

        def digest(self) -> bytes:
            return self.inner.digest()

    monkeypatch.setattr(elements, "sha256", Counting)
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        for number, changing in enumerate((True, True, False, False)):
            carrying(saver, "bytes", changing=changing).invoke({"note": number}, THREAD)
        assert hashed == [1_000_000] * 2


FIRST_CALLS = """
import sys
import redis, redis.asyncio
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import StateGraph
redis.Redis.from_url(sys.argv[1]).ping()
before = set(sys.modules)
from ecowas_lc import RedisSaver
with RedisSaver.from_url(sys.argv[1], prefix=sys.argv[2]) as saver:
    thread = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    stored = saver.put(thread, empty_checkpoint(), {"source": "input", "step": -1, "parents": {}}, {})
    saver.put_writes(stored, [("a", 1)], "task")
    assert saver.get_tuple(thread).pending_writes
print(*(set(sys.modules) - before))
"""


def test_what_first_calls_load(redis_server: Any, prefix: str, tmp_path: Path) -> None:
    """Beyond langgraph and redis-py, first calls load only those of our modules that they use."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ECOWAS", "REDIS_"))}
    command = [sys.executable, "-c", FIRST_CALLS, redis_server.url, prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=env)
    loaded = done.stdout.split()
    others = {module.partition(".")[0] for module in loaded} - sys.stdlib_module_names
    assert others <= {"ecowas_lc", "lazy_loader", "langchain_core"}
    ours = {module for module in loaded if module.startswith("ecowas_lc.")}
    unused = ("settings", "embedded", "checkpoint.lease", "storage.backup_format", "storage.clusters")
    assert not ours & {f"ecowas_lc.{name}" for name in unused}
    assert len(ours) <= 39
