"""One saver object for everything: sync and async, threads, event loops, processes, clients of any settings."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import ConfigurationError, InvalidInputError, StorageError
from ecowas_lc.settings import Settings
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, key_of

LONG = "word " * 60


async def use(saver: RedisSaver, thread_id: str, *, sync: bool = True) -> None:
    """Some of every operation, async and, if possible, sync."""
    writer = Writer(saver, thread_id)
    for step in range(3):
        last = await writer.aput(m=[HumanMessage(f"{step} {LONG}")], step=step)
        await saver.aput_writes(last, [("m", LONG)], "task")
    found = await saver.aget_tuple(at(thread_id))
    assert found is not None
    assert found.checkpoint["channel_values"]["step"] == 2
    assert found.pending_writes == [("task", "m", LONG)]
    assert len([each async for each in saver.alist(at(thread_id))]) == 3
    if sync:
        assert saver.get_tuple(at(thread_id)) == found
        assert len(list(saver.list(at(thread_id), limit=2))) == 2


def test_event_loops_one_after_the_other(redis_server: Any, prefix: str) -> None:
    """An object created outside of any loop serves loop after loop, and sync code in between, without warnings."""
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    for number in range(3):
        asyncio.run(use(saver, f"t{number}"))
        Writer(saver, f"s{number}").put(a=1)
    with asyncio.Runner() as runner:
        for number in range(2):
            runner.run(use(saver, f"r{number}"))
    saver.close()
    assert saver.get_tuple(at("t2")) is not None
    saver.close()


def test_loops_at_once_in_threads(redis_server: Any, prefix: str) -> None:
    """Several threads, each with its own loop, share one object at the same time."""
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: asyncio.run(use(saver, f"t{number}")), range(12)))
    assert len(list(saver.list(None))) == 36
    saver.close()


def test_threads_on_one_thread_of_messages(redis_server: Any, prefix: str) -> None:
    """Many threads that write to the same langgraph thread at once lose nothing and leave it whole."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        first = Writer(saver).put(m=[HumanMessage(LONG)])
        barrier = threading.Barrier(8)

        def work(number: int) -> None:
            writer = Writer(saver)
            barrier.wait(30)
            messages = [HumanMessage(LONG)]
            for step in range(15):
                messages = [*messages, HumanMessage(f"{number} {step} {LONG}")]
                writer.put(m=messages)
                saver.put_writes(first, [("m", f"{number} {step} {LONG}")], f"task {number} {step}")
                assert saver.get_tuple(at()) is not None

        with ThreadPoolExecutor(8) as pool:
            for outcome in [pool.submit(work, number) for number in range(8)]:
                outcome.result(60)
        listed = list(saver.list(at()))
        assert len(listed) == 8 * 15 + 1
        assert len(saver.get_tuple(first).pending_writes) == 120  # type: ignore[union-attr, arg-type]
        assert_whole(raw.hgetall(key_of(prefix)))


def test_a_forked_process(redis_server: Any, prefix: str) -> None:
    """A child process uses its parent's object, and both continue."""
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    writer = Writer(saver)
    writer.put(m=[HumanMessage(LONG)])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            writer.put(m=[HumanMessage(LONG), HumanMessage("child")])
            asyncio.run(use(saver, "child"))
            status = 0
        finally:
            os._exit(status)
    Writer(saver, "parent").put(m=[HumanMessage(LONG)])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert saver.get_tuple(at()).checkpoint["channel_values"]["m"][-1] == HumanMessage("child")  # type: ignore[union-attr]
    versions = {each.checkpoint["channel_versions"]["m"] for each in saver.list(None)}
    assert len(versions) == len(list(saver.list(None)))
    saver.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_clients_of_any_settings(
    server: Any, prefix: str, protocol: int, decode: bool, encrypted: bool
) -> None:
    """Clients that decode replies, or use the newer protocol, work as well."""
    options: Any = {"host": "127.0.0.1", "port": server.port, "decode_responses": decode, "protocol": protocol}
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    with redis.Redis(**options) as client:
        async with redis.asyncio.Redis(**options) as async_client:
            saver = RedisSaver(client, async_client=async_client, prefix=prefix, serde=serde, ttl=100)
            await use(saver, "tünï")
            last = Writer(saver).put(None, {"run_id": "r"}, a=1)
            assert saver.get_delta_channel_history(config=last, channels=["a"]) == {"a": {"writes": []}}
            saver.copy_thread("tünï", "copy")
            await saver.acopy_thread("tünï", "copy 2")
            assert [each.config["configurable"]["thread_id"] async for each in saver.alist(None, limit=4)] == [
                *["copy 2"] * 3,
                "copy",
            ]
            await saver.aprune(["tünï"])
            await saver.adelete_for_runs(["r", "none"])
            assert saver.get_tuple(at()) is None
            assert await saver.attl("copy") is not None


@pytest.mark.parametrize("decode", [False, True])
async def test_cluster_clients(cluster: Any, prefix: str, decode: bool) -> None:
    """Cluster clients that the caller created work as well."""
    node = cluster.nodes[0]
    options: Any = {"host": "127.0.0.1", "port": node.port, "decode_responses": decode}
    client = redis.RedisCluster(**options)
    async_client = redis.asyncio.RedisCluster(**options)
    saver = RedisSaver(client, async_client=async_client, prefix=prefix)
    for number in range(6):
        await use(saver, f"t{number}")
    assert len(list(saver.list(None))) == 18
    await saver.adelete_thread("t3")
    assert len([each async for each in saver.alist(None)]) == 15
    await async_client.aclose()
    client.close()


async def test_a_sync_client_alone(redis_server: Any, prefix: str) -> None:
    """With only a sync client, the async methods work too and do not block the loop."""
    with redis_server.client() as client:
        saver = RedisSaver(client, prefix=prefix)
        await asyncio.gather(*(use(saver, f"t{number}") for number in range(5)))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        for number in range(5):
            await Writer(saver, f"u{number}").aput(a=number)
        ticking.cancel()
        assert ticks > 5
        await saver.aclose()
        assert client.ping()  # the caller closes the clients that the caller created


async def test_an_async_client_alone(redis_server: Any, prefix: str) -> None:
    """With only an async client, passed in either place, sync methods say what is missing."""
    async with redis.asyncio.Redis(host="127.0.0.1", port=redis_server.port) as client:
        for saver in (RedisSaver(client, prefix=prefix), RedisSaver(async_client=client, prefix=prefix)):
            await use(saver, "t", sync=False)
            with pytest.raises(StorageError, match="client="):
                saver.get_tuple(at())
            await saver.adelete_thread("t")


async def test_managers_and_plain_use(redis_server: Any, prefix: str) -> None:
    """A saver can be used plainly, with ``with`` and with ``async with``; a closed one reopens when it is used."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        Writer(saver).put(a=1)
    assert saver.get_tuple(at()) is not None
    saver.close()
    async with RedisSaver.from_conn_string(redis_server.url, prefix=prefix) as saver:
        await use(saver, "other")
    assert await saver.aget_tuple(at("other")) is not None
    await saver.aclose()
    with pytest.raises(KeyError):
        async with saver:
            raise KeyError
    saver.close()


async def test_a_cancelled_call_leaves_the_object_usable(redis_server: Any, prefix: str) -> None:
    """The reply to a cancelled call never reaches another call."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        for number in range(20):
            await Writer(saver, f"t{number}").aput(a=number)
        for round_ in range(20):
            calls = [asyncio.create_task(saver.aget_tuple(at(f"t{number}"))) for number in range(20)]
            for _ in range(round_ % 5):
                await asyncio.sleep(0)
            for number in range(0, 20, 2):
                calls[number].cancel()
            for number, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
                if not isinstance(outcome, asyncio.CancelledError):
                    assert outcome.checkpoint["channel_values"] == {"a": number}  # type: ignore[union-attr]


def test_from_settings(redis_server: Any, prefix: str) -> None:
    """The settings name the server and the prefix; options win over them."""
    settings = Settings(redis_url=redis_server.url, ECOWAS_LC_PREFIX=prefix)  # type: ignore[arg-type, call-arg]
    with RedisSaver.from_settings(settings) as saver:
        Writer(saver).put(a=1)
        assert str(redis_server.port) in repr(saver)
        assert prefix in repr(saver)
    with RedisSaver.from_settings(settings, prefix=f"{prefix}x", ttl=5) as saver:
        assert saver.get_tuple(at()) is None


REFUSED: dict[str, Callable[[], Any]] = {
    "no client": RedisSaver,
    "a client of another kind": lambda: RedisSaver(object()),
    "an async client that is sync": lambda: RedisSaver(async_client=redis.Redis()),
    "allow beside a serde": lambda: RedisSaver(
        redis.Redis(), serde=EncryptedRedisSerializer(b"k" * 32), allow=[int]
    ),
    "a prefix with a pattern": lambda: RedisSaver(redis.Redis(), prefix="a*"),
    "an empty prefix": lambda: RedisSaver(redis.Redis(), prefix=""),
    "a URL of another kind": lambda: RedisSaver.from_url("http://localhost"),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_arguments_that_contradict(make: Callable[[], Any]) -> None:
    """Impossible combinations are refused when the object is created, not when it is first used."""
    with pytest.raises((ConfigurationError, InvalidInputError)):
        make()
