"""Many processes, threads and event loops on one server at once; forks; exhausted pools."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import CheckpointConflictError, RedisUnavailableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from tests.faults.hour import conversations
from tests.faults.load import Outcome, build_graph
from tests.faults.test_sentinel import running_sentinel
from tests.fixtures.servers import running_server, wait_until

MESSAGE = {"role": "user", "content": "?"}
PLACES = ("graph", "history")

FORKER = """
import os, sys, json
from langchain_core.messages import HumanMessage
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from tests.faults.hour import conversations
from tests.faults.load import build_graph
url, prefix, processes, turns, used_before = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
saver = RedisSaver.from_url(url, prefix=prefix)
memory = RedisMemoryService(url=url, prefix=prefix)
graph = build_graph(saver)
if used_before:  # connections are open when the process forks
    memory.append_to_history("parent", "s", {"role": "user", "content": "before"})
    graph.get_state({"configurable": {"thread_id": "parent"}})
children = []
for child in range(processes):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            history = RedisChatMessageHistory("shared", "s", url=url, prefix=prefix)
            for n in range(turns):
                memory.append_to_history("all", "s", {"role": "user", "content": f"{child}.{n}"})
                history.add_messages([HumanMessage(f"{child}.{n}", id=f"{child}.{n}")])
                graph.invoke({"messages": [HumanMessage(f"{n}")]}, {"configurable": {"thread_id": f"p{child}"}})
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    children.append(pid)
if used_before:
    memory.append_to_history("parent", "s", {"role": "user", "content": "after"})
print(json.dumps([os.waitpid(pid, 0)[1] for pid in children]))
"""


def outcome(fault, expected, found):
    counted = Counter(found)
    lost = sum(each not in counted for each in expected)
    return Outcome(fault, len(expected), lost, sum(n > 1 for n in counted.values()), 0, None, {})


@pytest.mark.parametrize("used_before", [0, 1], ids=["fork-after-import", "fork-after-use"])
def test_processes(redis_server, prefix, is_long, record_row, used_before):
    """32 processes, forked with connections open or not, write to shared histories and threads of their own."""
    processes, turns = (32, 20) if is_long else (32 if used_before else 4, 2)
    command = [
        sys.executable,
        "-c",
        FORKER,
        redis_server.url,
        prefix,
        str(processes),
        str(turns),
        str(used_before),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(eval(done.stdout)) == {0}, done.stderr[-2000:]
    expected = [f"{child}.{n}" for child in range(processes) for n in range(turns)]
    memory = RedisMemoryService(url=redis_server.url, prefix=prefix)
    appended = [m["content"] for m in memory.get_conversation_history("all", "s")]
    row = outcome(f"{processes} processes, forked after {'use' if used_before else 'import'}", expected, appended)
    record_row(row)
    row.assert_nothing_lost()
    history = RedisChatMessageHistory("shared", "s", url=redis_server.url, prefix=prefix)
    assert Counter(m.text for m in history.messages) == Counter(expected)
    for child in range(processes):
        one = [text for text in appended if text.startswith(f"{child}.")]
        assert one == [f"{child}.{n}" for n in range(turns)], "each process's messages are in its order"
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        state = build_graph(saver).get_state({"configurable": {"thread_id": "p0"}})
        assert state.values["turns"] == turns
    memory.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_forked_children_in_threads(kind, redis_server, cluster, prefix, is_long, record_row):
    """Children forked while all connections are in use write from threads, event loops and forks of their own."""
    children, turns = (16, 10) if is_long else (3, 1)
    url = redis_server.url if kind == "single" else cluster.url
    command = [sys.executable, "-m", "tests.faults.forking", url, prefix, str(children), str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert not told["failed"], told["failed"][0]
    memory = RedisMemoryService(url=url, prefix=prefix)
    appended = [message["content"] for message in memory.get_conversation_history("all", "s")]
    row = outcome(f"{children} forked children in threads, {kind}", told["acknowledged"], appended)
    record_row(row)
    row.assert_nothing_lost()
    assert set(appended) == set(told["acknowledged"])
    history = RedisChatMessageHistory("ids", "s", url=url, prefix=prefix)
    assert Counter(message.text for message in history.messages) == Counter(appended)
    memory.close()


# One turn a second for an hour: sixty people who each ask one question a minute.
BUSY_HOUR = 3600


@pytest.mark.timeout(900)
def test_an_hour_in_minutes(redis_server, prefix, is_long, record_row):
    """The turns of a busy hour by 32 processes at once, blocking and awaited, are each stored once, everywhere."""
    processes, turns = 32, -(-BUSY_HOUR // 32) if is_long else 4
    command = [sys.executable, "-m", "tests.faults.hour", redis_server.url, prefix, str(processes), str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert not told["failed"], told["failed"][0]
    threads = {
        thread: numbers
        for process in range(processes)
        for how, count in (("sync", turns // 2), ("async", turns - turns // 2))
        for thread, numbers in conversations(process, how, count)
    }
    assert {thread: list(numbers) for thread, numbers in threads.items()} == told["acknowledged"]
    expected = [f"{thread} {n} {where}" for thread, ns in threads.items() for n in ns for where in PLACES]
    found, read = [], {}
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        graph = build_graph(saver)
        for thread in threads:
            values = graph.get_state({"configurable": {"thread_id": thread}}).values
            history = RedisChatMessageHistory("hour", thread, url=redis_server.url, prefix=prefix)
            for where, messages in (("graph", values["messages"]), ("history", history.messages)):
                texts = [message.text for message in messages]
                read[thread, where] = values["turns"], texts
                found += [f"{thread} {text} {where}" for text in texts if text.isdigit()]
    kept = f"{len(expected) // 2} turns, blocking and awaited, by {processes} processes in {told['seconds']:.0f} s"
    row = outcome(kept, expected, found)
    record_row(row)
    row.assert_nothing_lost()
    for (thread, where), (count, texts) in read.items():
        assert count == len(threads[thread]), thread
        assert texts == [text for n in threads[thread] for text in (str(n), f"answer to {n}")], (thread, where)
    assert not is_long or len(expected) // 2 >= BUSY_HOUR


def test_threads(redis_server, connect, prefix, is_long, record_row):
    """500 threads share one service, one saver and ten connections; every turn is stored once."""
    count, turns = (500, 5) if is_long else (500, 1)
    server = connect(redis_server.url, redis_socket_timeout=30)
    memory = RedisMemoryService(server=server, prefix=prefix)
    graph = build_graph(RedisSaver(server=server, prefix=prefix))
    with redis_server.client() as raw:
        others = {each["id"] for each in raw.client_list()}  # other tests', not yet collected

    def work(number):
        for n in range(turns):
            memory.append_to_history("all", "s", {"role": "user", "content": f"{number}.{n}"})
            if number % 10 == 0:
                graph.invoke({"messages": [HumanMessage(str(n))]}, {"configurable": {"thread_id": str(number)}})

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    expected = [f"{number}.{n}" for number in range(count) for n in range(turns)]
    found = [m["content"] for m in memory.get_conversation_history("all", "s")]
    row = outcome(f"{count} threads on ten connections", expected, found)
    record_row(row)
    row.assert_nothing_lost()
    for number in range(0, count, 10):
        assert graph.get_state({"configurable": {"thread_id": str(number)}}).values["turns"] == turns
    with redis_server.client() as raw:
        ours = [
            c for c in raw.client_list() if c["id"] not in others and c["cmd"] in ("evalsha", "lrange", "eval")
        ]
        assert len(ours) <= 10


def test_event_loops(redis_server, connect, prefix, record_row):
    """Twenty event loops, eight at a time, use one object: each has its own connections, closed with the loop."""
    server = connect(redis_server.url)
    memory = AsyncRedisMemoryService(server=server, prefix=prefix)
    graph = build_graph(RedisSaver(server=server, prefix=prefix))

    async def turn(number):
        await asyncio.gather(
            *(
                memory.append_to_history("all", "s", {"role": "user", "content": f"{number}.{n}"})
                for n in range(5)
            ),
            graph.ainvoke({"messages": [HumanMessage("?")]}, {"configurable": {"thread_id": str(number)}}),
        )

    with redis_server.client() as raw:
        before = len(raw.client_list())
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: asyncio.run(turn(number)), range(20)))
        wait_until(lambda: len(raw.client_list()) <= before, "every loop's connections are closed")
    found = asyncio.run(memory.get_conversation_history("all", "s"))
    expected = [f"{number}.{n}" for number in range(20) for n in range(5)]
    row = outcome("20 event loops, one saver", expected, [m["content"] for m in found])
    record_row(row)
    row.assert_nothing_lost()


def test_event_loops_that_are_gone(redis_server, connect, prefix):
    """An object used in one event loop after another keeps none of the ended loops, nor their connections."""
    server = connect(redis_server.url)
    memory = AsyncRedisMemoryService(server=server, prefix=prefix)
    loops = []

    async def turn():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await memory.append_to_history("a", "s", MESSAGE)

    for _ in range(4):
        asyncio.run(turn())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None, None, None]


def test_two_writers_of_one_thread(redis_server, connect, prefix, record_row):
    """Two runs on one thread at once: without fencing, both are kept; with it, the second gets an error."""
    server = connect(redis_server.url)
    config = {"configurable": {"thread_id": "t"}}
    barrier = threading.Barrier(2)

    def attempt(options, writer):
        graph = build_graph(RedisSaver(server=server, prefix=prefix, **options))
        barrier.wait()
        done, told = [], 0
        for n in range(15):
            try:
                text = f"{writer}.{n}"
                graph.invoke({"messages": [HumanMessage(text, id=text)]}, config, durability="sync")
                done.append(text)
            except CheckpointConflictError:
                told += 1
        return done, told

    for options in ({}, {"fencing": True}):
        RedisSaver(server=server, prefix=prefix).delete_thread("t")
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda writer, options=options: attempt(options, writer), "ab"))
        saver = RedisSaver(server=server, prefix=prefix)
        stored = {
            message.text
            for found in saver.list(config)
            for message in found.checkpoint["channel_values"].get("messages", [])
        }
        written = [text for done, _ in results for text in done]
        assert set(written) <= stored, "no checkpoint of either was overwritten"
        if options:
            final = build_graph(saver).get_state(config).values["messages"]
            row = outcome(
                "two writers of one thread, fencing", written, [m.text for m in final if m.id in written]
            )
            record_row(row)
            row.assert_nothing_lost()
        else:
            assert not any(told for _, told in results)


@pytest.mark.parametrize("kind", ["single", "cluster", "sentinel"])
def test_used_up_pool_in_an_event_loop(kind, prefix, connect, cluster, tmp_path):
    """The limit also applies to awaited calls, and to clusters and Sentinel, whose pools do not wait."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server("redis"))
        urls = {"single": server.url, "cluster": cluster.url}
        if kind == "sentinel":
            port = stack.enter_context(running_sentinel(tmp_path, server))
            urls[kind] = f"redis+sentinel://127.0.0.1:{port}/main"
        nodes = cluster.nodes if kind == "cluster" else [server]
        admins = [stack.enter_context(node.client()) for node in nodes]

        def few(timeout):
            return connect(urls[kind], redis_max_connections=2, redis_socket_timeout=timeout)

        async def append(server, count):
            memory = AsyncRedisMemoryService(server=server, prefix=prefix)
            calls = [memory.append_to_history("a", "s", MESSAGE) for _ in range(count)]
            return await asyncio.gather(*calls, return_exceptions=True)

        assert sorted(asyncio.run(append(few(30), 100))) == list(range(1, 101)), "all waited"
        memory = RedisMemoryService(server=few(30), prefix=prefix)
        with ThreadPoolExecutor(20) as pool:
            held = list(pool.map(lambda n: memory.append_to_history("a", "s", MESSAGE), range(100)))
        assert sorted(held) == list(range(101, 201))

        async def ask():
            memory = AsyncRedisMemoryService(server=few(1), prefix=prefix)
            await memory.get_agent_state("a")
            for admin in admins:
                admin.execute_command("CLIENT", "PAUSE", 2500, "ALL")
            calls = [memory.get_agent_state("a") for _ in range(12)]
            return await asyncio.gather(*calls, return_exceptions=True)

        began = time.monotonic()
        errors = asyncio.run(ask())
        assert time.monotonic() - began < 4
        assert all(isinstance(error, RedisUnavailableError) for error in errors), errors
        assert any("REDIS_MAX_CONNECTIONS" in str(error) for error in errors), errors
        for admin in admins:
            admin.ping()  # replied after the pause, so that no other call gets it


def test_used_up_pool_waits_then_says_so(prefix):
    """If every connection is in use, a call waits for one; if none becomes free, the error names the limit."""
    with running_server("redis") as server:
        options = {"url": server.url, "prefix": prefix, "max_connections": 2}
        with RedisMemoryService(**options, socket_timeout=30) as memory, ThreadPoolExecutor(20) as pool:
            held = list(pool.map(lambda n: memory.append_to_history("a", "s", MESSAGE), range(200)))
            assert sorted(held) == list(range(1, 201)), "200 appends through two connections: all waited"
        with RedisMemoryService(**options, socket_timeout=1) as memory, server.client() as raw:
            memory.get_agent_state("a")
            raw.execute_command("CLIENT", "PAUSE", 2500, "ALL")
            with ThreadPoolExecutor(12) as pool:
                began = time.monotonic()
                errors = [f.exception() for f in [pool.submit(memory.get_agent_state, "a") for _ in range(12)]]
                assert time.monotonic() - began < 4
        assert all(isinstance(error, RedisUnavailableError) for error in errors), errors
        assert any("REDIS_MAX_CONNECTIONS" in str(error) for error in errors)
