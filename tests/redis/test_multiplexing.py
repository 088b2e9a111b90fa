"""Calls that share a connection: each gets its own reply, whatever happens to the others and the connection."""

from __future__ import annotations

import asyncio
import operator
import socket
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, TypedDict

import hiredis
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send
from redis.exceptions import InvalidResponse, NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import CheckpointConflictError, NotReplicatedError
from ecowas_lc.settings import Settings, load_settings
from ecowas_lc.storage import fast_path
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.clients import ClientFactory
from ecowas_lc.storage.multiplexing import UNSENT
from ecowas_lc.storage.server import Server
from tests.fixtures.forked import in_child
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import free_port, running_server, wait_until

ECHO = "return {KEYS[1], ARGV[1]}"
SHA = "0" * 40


@pytest.fixture(scope="module")
def echo(redis_server):
    """The digest of a script that returns its argument."""
    with redis_server.client() as raw:
        return raw.script_load(ECHO)


def settings_of(**given: Any) -> Settings:
    return Settings(**{"redis_socket_timeout": 20, "redis_connect_timeout": 20, **given}, _env_file=None)


@asynccontextmanager
async def opened(url, **given):
    client = ClientFactory(parse_url(url), settings_of(**given)).make_async()
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def connected(url, **given):
    client = ClientFactory(parse_url(url), settings_of(**given)).make()
    try:
        yield client
    finally:
        client.close()


def ask(client, sha, word):
    return client.execute_command("EVALSHA", sha, 1, b"k", word, NEVER_DECODE=True)


def answer(word):
    return [b"k", word if isinstance(word, bytes) else word.encode()]


# --- the benefit, counted ---


class Spread(TypedDict):
    answers: Annotated[list[str], operator.add]


def spreading(saver, width, work):
    builder = StateGraph(Spread)
    builder.add_node("spread", lambda state: {})
    builder.add_node("work", work)
    builder.add_edge(START, "spread")
    builder.add_conditional_edges("spread", lambda state: [Send("work", {}) for _ in range(width)], ["work"])
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


def config(thread):
    return {"configurable": {"thread_id": thread}}


async def test_fan_out_in_asyncio(redis_server, prefix):
    """A step of 100 tasks in asyncio takes at most 15 flushes in all: the tasks' writes are sent together."""

    async def work(state):
        return {"answers": ["a" * 200]}

    with running_proxy(redis_server.port) as proxy:
        async with RedisSaver.from_url(through(proxy, redis_server), prefix=prefix) as saver:
            await spreading(saver, 2, work).ainvoke({"answers": []}, config("warm"))
            proxy.reset_counts()
            found = await spreading(saver, 100, work).ainvoke({"answers": []}, config("t"))
            assert proxy.flushes <= 15
            assert len(found["answers"]) == 100
            stored = await spreading(saver, 100, work).aget_state(config("t"))
            assert stored.values == found


def test_fan_out_in_threads(redis_server, prefix, monkeypatch):
    """A step of 100 tasks in threads takes at most 40 flushes: the sending thread includes the others' calls."""
    monkeypatch.setattr(fast_path, "_PATIENCE_SECONDS", 5)  # a busy machine is no reason for another connection
    monkeypatch.setattr(fast_path, "_NEAR_SECONDS", 5)  # nor is it further away
    with (
        running_proxy(redis_server.port) as proxy,
        RedisSaver.from_url(through(proxy, redis_server), prefix=prefix) as saver,
    ):
        graph = spreading(saver, 100, lambda state: {"answers": ["a" * 200]})
        graph.invoke({"answers": []}, config("warm"))
        flushes = []
        for n in range(9):
            proxy.reset_counts()
            found = graph.invoke({"answers": []}, config(f"{n}"))
            flushes.append(proxy.flushes)
            assert len(found["answers"]) == 100
            assert graph.get_state(config(f"{n}")).values == found
        assert statistics.median(flushes) <= 40  # threads run when the system lets them


def totals(cluster):
    """How often a cluster's nodes have read what clients sent, and the most connections that one of them has."""
    flushes, connections = 0, []
    for node in cluster.nodes:
        with node.client() as raw:
            info = raw.info()
        flushes += info["total_reads_processed"]
        connections.append(info["connected_clients"] - 1)
    return flushes, max(connections)


async def counted(cluster, calls):
    """The result of calls, the flushes that they took, and the connections that are left."""
    asking = -(totals(cluster)[0] - totals(cluster)[0])
    before, _ = totals(cluster)
    found = await calls
    after, connections = totals(cluster)
    return found, after - before - asking, connections


async def test_fan_out_on_a_cluster(cluster, prefix):
    """A step of 100 tasks takes at most 25 flushes on a cluster of three in asyncio, and 80 in threads."""

    async def work(state):
        return {"answers": ["a" * 200]}

    of_others = totals(cluster)[1]
    async with RedisSaver.from_url(cluster.url, prefix=prefix) as saver:
        awaiting = spreading(saver, 100, work)
        blocking = spreading(saver, 100, lambda state: {"answers": ["a" * 200]})
        for n in range(2):  # the nodes know the scripts afterwards
            await awaiting.ainvoke({"answers": []}, config(f"warm{n}"))
        found, flushes, connections = await counted(cluster, awaiting.ainvoke({"answers": []}, config("t")))
        assert len(found["answers"]) == 100
        assert flushes <= 25
        assert connections - of_others <= 5  # 11 if each batch has its own; a busy machine opens another
        every = []
        for n in range(5):
            calls = asyncio.to_thread(blocking.invoke, {"answers": []}, config(f"{n}"))
            found, flushes, connections = await counted(cluster, calls)
            assert len(found["answers"]) == 100
            every.append(flushes)
        assert statistics.median(every) <= 80
        assert connections - of_others <= 10


async def test_a_hundred_conversations_on_a_cluster(cluster, prefix):
    """100 conversations in asyncio need less than three flushes each on a cluster, and few connections."""

    async def work(state):
        return {"answers": ["a"]}

    of_others = totals(cluster)[1]
    async with RedisSaver.from_url(cluster.url, prefix=prefix) as saver:
        graph = spreading(saver, 1, work)
        await graph.ainvoke({"answers": []}, config("warm"))
        turns = asyncio.gather(*(graph.ainvoke({"answers": []}, config(f"{n}")) for n in range(100)))
        _, flushes, connections = await counted(cluster, turns)
        assert flushes < 300
        assert connections - of_others <= 8


def through(proxy, server):
    """The server's URL with its login, through the proxy."""
    return server.url.replace(f":{server.port}", f":{proxy.port}")


async def test_a_hundred_conversations_share_one_connection(redis_server, prefix):
    """100 conversations in asyncio need less than one flush a turn each, and one connection."""

    async def work(state):
        return {"answers": ["a"]}

    with running_proxy(redis_server.port) as proxy:
        async with RedisSaver.from_url(through(proxy, redis_server), prefix=prefix) as saver:
            graph = spreading(saver, 1, work)
            await graph.ainvoke({"answers": []}, config("warm"))
            proxy.reset_counts()
            await asyncio.gather(*(graph.ainvoke({"answers": []}, config(f"{n}")) for n in range(100)))
            assert proxy.flushes < 100
            [entry] = saver._server._by_loop.values()
            assert len(connections_of(entry.client)) == 1


async def test_scripts_that_the_server_lacks_share_the_connection(redis_server, prefix):
    """100 conversations that begin at a server without any script need one connection."""

    async def work(state):
        return {"answers": ["a"]}

    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        graph = spreading(saver, 1, work)
        await graph.ainvoke({"answers": []}, config("warm"))
        with redis_server.client() as raw:
            raw.script_flush()
        await asyncio.gather(*(graph.ainvoke({"answers": []}, config(f"{n}")) for n in range(100)))
        [entry] = saver._server._by_loop.values()
        assert len(connections_of(entry.client)) == 1


async def test_one_conversation_costs_what_it_did(redis_server, prefix):
    """One conversation sends no more often than it has operations, in asyncio and in threads."""

    async def work(state):
        return {"answers": ["a"]}

    with running_proxy(redis_server.port) as proxy:
        async with RedisSaver.from_url(through(proxy, redis_server), prefix=prefix) as saver:
            graph, sync = spreading(saver, 1, work), spreading(saver, 1, lambda state: {"answers": ["a"]})
            await graph.ainvoke({"answers": []}, config("t"))
            await asyncio.to_thread(sync.invoke, {"answers": []}, config("u"))
            proxy.reset_counts()
            await graph.ainvoke({"answers": []}, config("t"))
            operations = 1 + 4 + 3  # one read, a checkpoint for each step and the input, and each task's writes
            assert proxy.flushes <= operations
            proxy.reset_counts()
            await asyncio.to_thread(sync.invoke, {"answers": []}, config("u"))
            assert proxy.flushes <= operations


async def test_python_calls_of_one_caller(redis_server, echo):
    """A single call makes at most as many Python calls as before calls could share a connection."""

    def counted(frame, event, argument):
        count[0] += event == "call"

    async with opened(redis_server.url) as client:
        await ask(client, echo, "warm")
        count = [0]
        sys.setprofile(counted)
        try:
            for _ in range(100):
                await ask(client, echo, "a")
        finally:
            sys.setprofile(None)
    assert count[0] / 100 <= 60


class Talk(TypedDict):
    messages: Annotated[list[Any], add_messages]


async def test_function_calls_of_a_turn(redis_server, prefix):
    """A turn in asyncio makes at most 1,500 function calls more than with a saver that sends nothing anywhere."""

    async def answering(state):
        return {"messages": [AIMessage("answer " * 20)]}

    def counted(frame, event, argument):
        count[0] += event in ("call", "c_call")

    async def calls(saver):
        builder = StateGraph(Talk)
        builder.add_node("answer", answering)
        builder.add_edge(START, "answer")
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({"messages": [HumanMessage("warm")]}, config("warm"))
        count[0] = 0
        sys.setprofile(counted)
        try:
            for _ in range(20):
                await graph.ainvoke({"messages": [HumanMessage("question " * 10)]}, config("t"))
        finally:
            sys.setprofile(None)
        return count[0] / 20

    count = [0]
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        ours = await calls(saver)
    memory = await calls(InMemorySaver())
    assert ours - memory <= 1500


# --- each call its own reply ---

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["echo", "error", "long", "large", "other", "cancelled", "together"]), st.integers(0, 6)
    ),
    min_size=1,
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_replies_come_to_who_asked(redis_server, echo, steps):
    """Small, large, refused and cancelled calls, in any order and at any moment, each get their own reply."""

    async def one(client, number, what, pause):
        word = f"{number}.{what}".encode()
        for _ in range(pause):
            await asyncio.sleep(0)
        if what == "error":
            with pytest.raises(NoScriptError):
                await ask(client, SHA, word)
        elif what == "other":
            assert await client.execute_command("ECHO", word) == word
        elif what == "cancelled":
            task = asyncio.create_task(ask(client, echo, word))
            for _ in range(pause):
                await asyncio.sleep(0)
            task.cancel()
            [found] = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(found, asyncio.CancelledError) or found == answer(word)
        else:
            word = word * {"long": 20_000, "large": 9_000}.get(what, 1)
            assert await ask(client, echo, word) == answer(word)

    async def main():
        async with opened(redis_server.url, redis_max_connections=2) as client:
            async with asyncio.timeout(20):
                await asyncio.gather(*(one(client, number, *step) for number, step in enumerate(steps)))
            assert len(connections_of(client)) <= 2

    asyncio.run(main())


def test_replies_come_to_which_thread_asked(redis_server, echo):
    """Sixteen threads over two connections, with errors and large commands among them: each gets its own reply."""

    def work(number):
        for n in range(60):
            word = f"{number}.{n}".encode()
            if n % 7 == number % 7:
                with pytest.raises(NoScriptError):
                    ask(client, SHA, word)
            elif n % 11 == 0:
                assert ask(client, echo, word * 20_000) == answer(word * 20_000)
            elif n % 13 == 0:
                assert client.execute_command("ECHO", word) == word
            else:
                assert ask(client, echo, word) == answer(word)

    with connected(redis_server.url, redis_max_connections=2) as client, ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
        assert len(client.connection_pool._connections) <= 2
        assert client.connection_pool._queue._senders == 0


def connections_of(client):
    pool = client.connection_pool
    return [*pool._available_connections, *pool._in_use_connections]


async def test_a_cancelled_call_leaves_the_line(redis_server, echo):
    """Cancelled calls occupy no connection, sent or not: their replies are read and dropped."""
    async with opened(redis_server.url) as client:
        await ask(client, echo, "warm")
        number = await client.client_id()
        for n in range(30):
            tasks = [asyncio.create_task(ask(client, echo, f"{n}.{each}")) for each in range(6)]
            for _ in range(n % 4):
                await asyncio.sleep(0)
            for task in tasks[n % 2 :: 2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await ask(client, echo, f"{n}") == answer(f"{n}")
        assert await client.client_id() == number
        assert len(connections_of(client)) == 1


async def test_calls_that_are_cancelled_before_they_are_sent_leave_an_idle_line(redis_server, echo):
    """If all replies are read before the next flush, and nothing is left to send, the connection is free."""
    async with opened(redis_server.url, redis_max_connections=1) as client, asyncio.timeout(15):
        pool = client.connection_pool
        await ask(client, echo, "warm")
        line, received = pool._line, pool._line.data_received
        waiting, ping = [], hiredis.pack_command(("PING",))

        def receive(data):
            waiting.append(line.ask(ping))
            waiting[-1].cancel()
            received(data)

        line.data_received = receive
        first = line.ask(ping)
        alone = asyncio.create_task(pool.get_connection())
        assert await first == b"PONG"
        connection = await alone
        assert connection is line.connection
        assert waiting[0].cancelled()
        await pool.release(connection)
        assert await ask(client, echo, "next") == answer("next")


# --- a line that breaks, or is late ---


@pytest.mark.parametrize("last", ["script", "command", "pipeline"])
async def test_a_connection_that_was_closed_while_idle(redis_server, echo, last):
    """A connection that the server closed between two calls is reopened at once."""
    async with opened(redis_server.url) as client, asyncio.timeout(15):
        await ask(client, echo, "warm")
        number = await client.client_id()
        if last == "script":
            await ask(client, echo, "a")
        elif last == "pipeline":
            await client.pipeline(transaction=False).execute_command("PING").execute_command("PING").execute()
        with redis_server.client() as raw:
            raw.client_kill_filter(_id=number)
        assert await asyncio.gather(ask(client, echo, "b"), ask(client, echo, "c")) == [answer("b"), answer("c")]
        with redis_server.client() as raw:
            raw.client_kill_filter(_id=await client.client_id())
        [connection] = client.connection_pool._at_hand
        await asyncio.to_thread(wait_until, connection._reader.at_eof, "the event loop hears of it")
        assert await ask(client, echo, "d") == answer("d")


async def test_a_line_that_breaks(redis_server, echo):
    """Calls in progress when their connection breaks are repeated, each once as far as its caller sees."""
    with running_proxy(redis_server.port) as proxy:
        async with opened(through(proxy, redis_server)) as client:
            await ask(client, echo, "warm")
            for what in ("command", "reply"):
                for after in (0, 1, 40, 700):
                    proxy.cut_next(what, after)
                    words = [f"{what}.{after}.{n}" for n in range(40)]
                    found = await asyncio.gather(*(ask(client, echo, word) for word in words))
                    assert found == [answer(word) for word in words]
            assert proxy.cuts == 8


async def test_a_line_that_breaks_before_a_flush(redis_server, echo):
    """Calls that wait for the next flush when their connection breaks are not sent on it, but on another."""
    async with opened(redis_server.url) as client, asyncio.timeout(15):
        await ask(client, echo, "warm")
        line = client.connection_pool._line
        calls = [asyncio.create_task(ask(client, echo, f"{n}")) for n in range(3)]
        left = asyncio.create_task(ask(client, echo, "left"))
        await asyncio.sleep(0)
        assert (len(line._sent), len(line._unsent)) == (1, 3)
        left.cancel()
        line.connection_lost(ConnectionResetError())
        assert await asyncio.gather(*calls) == [answer(f"{n}") for n in range(3)]
        assert left.cancelled()


def test_a_line_that_breaks_in_threads(redis_server, echo):
    """The same for threads that send for each other."""
    with running_proxy(redis_server.port) as proxy, connected(through(proxy, redis_server)) as client:
        client.connection_pool._queue.most = 1
        with ThreadPoolExecutor(20) as pool:
            for what in ("command", "reply"):
                for after in (0, 1, 40, 300):
                    proxy.cut_next(what, after)
                    words = [f"{what}.{after}.{n}" for n in range(40)]
                    found = list(pool.map(lambda word: ask(client, echo, word), words))
                    assert found == [answer(word) for word in words]
        assert proxy.cuts == 8
        assert client.connection_pool._queue._senders == 0


async def test_each_call_has_its_own_timeout(redis_server, echo):
    """Of the calls on one connection, only the one that waited too long fails; its reply reaches no other call."""
    with running_proxy(redis_server.port) as proxy:
        async with opened(through(proxy, redis_server), redis_socket_timeout=2) as client:
            await ask(client, echo, "warm")
            loop = asyncio.get_running_loop()
            proxy.hold()
            begun = loop.time()
            old = asyncio.create_task(ask(client, echo, "old"))
            await asyncio.wait([old], timeout=1.2)
            young = asyncio.create_task(ask(client, echo, "young"))
            with pytest.raises(RedisTimeoutError, match="Timeout reading from 127"):
                await old
            assert 1.9 <= loop.time() - begun < 3.1
            assert not young.done()
            proxy.release()
            assert await young == answer("young")
            assert await ask(client, echo, "new") == answer("new")


async def test_a_server_that_hangs(redis_server, echo):
    """Calls to a hanging server fail by their timeout, also later ones, and all succeed afterwards."""
    with running_proxy(redis_server.port) as proxy:
        async with opened(through(proxy, redis_server), redis_socket_timeout=0.5) as client:
            await ask(client, echo, "warm")
            proxy.hold()
            found = await asyncio.gather(*(ask(client, echo, f"{n}") for n in range(50)), return_exceptions=True)
            assert {type(error) for error in found} == {RedisTimeoutError}
            assert len({id(error) for error in found}) == 50, "an error of its own for each"
            proxy.release()
            assert await ask(client, echo, "a") == answer("a")


def test_a_server_that_hangs_in_threads(redis_server, echo):
    """The same holds for threads, and none of them waits for the others' timeouts as well."""
    with (
        running_proxy(redis_server.port) as proxy,
        connected(through(proxy, redis_server), redis_socket_timeout=0.5, redis_max_connections=3) as client,
    ):
        client.connection_pool._queue.most = 1

        def failed(number):
            begun = time.monotonic()
            with pytest.raises(redis.RedisError):
                ask(client, echo, f"{number}")
            return time.monotonic() - begun

        ask(client, echo, "warm")
        proxy.hold()
        with ThreadPoolExecutor(12) as pool:
            assert max(pool.map(failed, range(12))) < 5
        proxy.release()
        assert ask(client, echo, "a") == answer("a")
        assert client.connection_pool._queue._senders == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_sender_that_is_interrupted(redis_server, echo, monkeypatch, error):
    """An interruption of a thread that sends for others does not reach them: they repeat their calls."""
    with connected(redis_server.url) as client:
        pool = client.connection_pool
        ask(client, echo, "warm")
        pool._queue.most = 1
        monkeypatch.setattr(fast_path, "_PATIENCE_SECONDS", 5)
        [connection] = pool._connections
        sending, read = threading.Event(), connection.read_response

        def interrupted(**options):
            if threading.current_thread() is not first:
                return read(**options)
            monkeypatch.setattr(connection, "read_response", read)
            raise error

        taken = pool._queue.take

        def take(call):
            if threading.current_thread() is first:
                sending.set()
                wait_until(lambda: len(pool._queue._calls) == 5, "the others wait")
            return taken(call)

        monkeypatch.setattr(connection, "read_response", interrupted)
        monkeypatch.setattr(pool._queue, "take", take)
        raised = []

        def interrupt():
            try:
                ask(client, echo, "interrupted")
            except BaseException as found:
                raised.append(type(found))

        first = threading.Thread(target=interrupt)
        first.start()
        assert sending.wait(20)
        with ThreadPoolExecutor(5) as others:
            found = list(others.map(lambda n: ask(client, echo, f"{n}"), range(5)))
        first.join(20)
        assert found == [answer(f"{n}") for n in range(5)]
        assert raised == [error]
        assert pool._queue._senders == 0


def test_a_thread_that_gives_up_waiting(redis_server, echo, monkeypatch):
    """A thread whose wait is interrupted leaves the queue, and no other waits for it to send."""
    with connected(redis_server.url, redis_max_connections=1) as client:
        pool = client.connection_pool
        ask(client, echo, "warm")
        queue = pool._queue
        busy = fast_path.ThreadCall(b"")
        assert queue.enter(busy)  # some thread sends
        call = fast_path.ThreadCall(b"x")
        assert not queue.enter(call)

        class Interrupted:
            def acquire(self, **options):
                raise KeyboardInterrupt

            def release(self):
                pass

        call.woken = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            pool._is_to_send(call, queue)
        late = fast_path.ThreadCall(b"y")
        assert not queue.enter(late)
        late.woken = Interrupted()
        queue.leave()  # it is to send now, and is interrupted before it does
        with pytest.raises(KeyboardInterrupt):
            pool._is_to_send(late, queue)
        assert ask(client, echo, "on") == answer("on")
        assert queue._senders == 0


def test_a_thread_whose_call_was_sent_waits_for_its_reply(redis_server, echo):
    """A call that another thread has sent is not sent again, however late its reply: its sender has a timeout."""
    with connected(redis_server.url, redis_max_connections=1) as client:
        pool = client.connection_pool
        ask(client, echo, "warm")
        queue, held = pool._queue, pool.get_connection()
        sender, call = fast_path.ThreadCall(b"x"), fast_path.ThreadCall(b"y")
        assert queue.enter(sender)
        assert not queue.enter(call)
        assert queue.take(sender) == [sender, call]
        waits = []

        class Late:
            def acquire(self, **options):
                waits.append(options.get("timeout"))
                return not options

        call.woken = Late()
        assert pool._is_to_send(call, queue) is False
        assert waits == [fast_path._PATIENCE_SECONDS, pool.timeout, None]
        queue.leave()
        pool.release(held)
        assert ask(client, echo, "on") == answer("on")
        assert queue._senders == 0


async def test_waiting_for_a_connection(redis_server, echo):
    """If all connections are in use, each call waits for its own timeout, not for those of earlier calls."""
    async with opened(redis_server.url, redis_max_connections=1, redis_socket_timeout=0.5) as client:
        held = await client.connection_pool.get_connection()
        loop = asyncio.get_running_loop()

        async def waited():
            begun = loop.time()
            with pytest.raises(redis.ConnectionError, match="No connection available"):
                await ask(client, echo, "?")
            return loop.time() - begun

        taken = await asyncio.gather(*(waited() for _ in range(20)))
        assert min(taken) > 0.45
        assert max(taken) < 3
        await client.connection_pool.release(held)
        assert await ask(client, echo, "!") == answer("!")


async def test_a_caller_that_comes_late_to_a_line(redis_server, echo):
    """Before a caller uses the connection that was opened for it, another may take it, and then uses it alone."""
    async with opened(redis_server.url, redis_max_connections=2) as client:
        pool = client.connection_pool
        line = await pool._next_line()
        connection = await pool.get_connection()
        assert connection is line.connection
        assert await line.ask(hiredis.pack_command(("PING",))) is UNSENT
        assert await ask(client, echo, "another") == answer("another")
        await connection.send_command("ECHO", "mine")
        assert await connection.read_response() == b"mine"
        await pool.release(connection)


async def test_closing_while_calls_are_under_way(redis_server, echo):
    """A closed client opens a connection again; a call in progress is repeated."""
    async with opened(redis_server.url) as client, asyncio.timeout(15):
        await ask(client, echo, "warm")
        calls = [asyncio.create_task(ask(client, echo, f"{n}")) for n in range(20)]
        await asyncio.sleep(0)
        await client.connection_pool.disconnect()
        assert await asyncio.gather(*calls) == [answer(f"{n}") for n in range(20)]
        await client.aclose()
        assert await ask(client, echo, "again") == answer("again")
        assert len(connections_of(client)) == 1


# --- a long call delays no other ---


class Scripted:
    """A server of a test's own, which answers ``replies(number of the connection, last word)`` to each script."""

    def __init__(self, replies):
        self._replies = replies
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, len(self.connections)))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection, number):
        reader = hiredis.Reader()
        try:
            while data := connection.recv(65536):
                reader.feed(data)
                while command := reader.gets():
                    reply = self._replies(number, command[-1]) if command[0] == b"EVALSHA" else b"+OK\r\n"
                    connection.sendall(reply)
        except OSError:
            pass

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()
        for thread in self._threads:
            thread.join(20)


@contextmanager
def scripted(replies):
    server = Scripted(replies)
    try:
        yield server
    finally:
        server.close()


def said(number, word):
    return b"*2\r\n$%d\r\n%d\r\n$%d\r\n%s\r\n" % (len(str(number)), number, len(word), word)


async def test_a_long_reply_holds_up_nobody():
    """While a long reply arrives, calls use another connection, and return to one connection afterwards."""
    go_on = threading.Event()

    def replies(number, word):
        if word != b"long":
            return said(number, word)
        server.connections[number - 1].sendall(b"$200000\r\n" + b"x" * 100_000)
        assert go_on.wait(20)
        return b"x" * 100_000 + b"\r\n"

    with scripted(replies) as server:
        async with opened(server.url) as client, asyncio.timeout(20):
            await ask(client, SHA, "warm")
            long = asyncio.create_task(ask(client, SHA, "long"))
            line = client.connection_pool._line
            await asyncio.to_thread(wait_until, lambda: line.is_behind_a_long_reply, "the reply begins")
            assert await asyncio.gather(*(ask(client, SHA, f"{n}") for n in range(10))) == [
                [b"2", f"{n}".encode()] for n in range(10)
            ]
            assert not long.done()
            go_on.set()
            assert await long == b"x" * 200_000
            assert len(connections_of(client)) == 2


async def test_a_large_command_has_its_own_connection():
    """A command of more than 64 kB is not sent on the line that others use at that moment."""
    with scripted(lambda number, word: said(number, word[:5])) as server:
        async with opened(server.url) as client:
            await ask(client, SHA, "warm")
            small = [asyncio.create_task(ask(client, SHA, f"{n}")) for n in range(3)]
            await asyncio.sleep(0)
            assert await ask(client, SHA, b"large" * 20_000) == [b"2", b"large"]
            assert {(await each)[0] for each in small} == {b"1"}


def test_a_slow_sender_holds_up_nobody(monkeypatch):
    """A thread whose sender waits for a long reply takes another connection after a moment."""
    sent, go_on = threading.Event(), threading.Event()

    def replies(number, word):
        if word == b"slow":
            sent.set()
            assert go_on.wait(20)
        return said(number, word)

    with scripted(replies) as server, connected(server.url) as client, ThreadPoolExecutor(1) as pool:
        ask(client, SHA, "warm")
        client.connection_pool._queue.most = 1
        slow = pool.submit(ask, client, SHA, "slow")
        assert sent.wait(20)
        assert ask(client, SHA, "quick") == [b"2", b"quick"]
        assert not slow.done()
        go_on.set()
        assert slow.result(20) == [b"1", b"slow"]


def test_a_server_that_is_far(redis_server, echo):
    """Threads of a server that takes long to answer don't wait for each other while there are connections."""
    with running_proxy(redis_server.port) as proxy:
        proxy.delay_seconds = 0.02
        with connected(through(proxy, redis_server)) as client, ThreadPoolExecutor(5) as pool:
            for _ in range(3):
                list(pool.map(lambda n: ask(client, echo, f"{n}"), range(20)))
            assert client.connection_pool._queue.most == 10
            assert len(client.connection_pool._connections) == 5


def test_more_threads_than_connections(redis_server, echo):
    """Forty threads on two connections to a server that is far send for each other instead of one by one."""
    with (
        running_proxy(redis_server.port) as proxy,
        connected(through(proxy, redis_server), redis_max_connections=2) as client,
        ThreadPoolExecutor(40) as pool,
    ):
        proxy.delay_seconds = 0.02
        proxy.reset_counts()
        found = list(pool.map(lambda n: ask(client, echo, f"{n}"), range(200)))
        assert found == [answer(f"{n}") for n in range(200)]
        assert proxy.flushes < 100


# --- answers that are none ---


@pytest.mark.parametrize("garbage", [b"?!\r\n", b"+one\r\n+too many\r\n"])
async def test_answers_out_of_step(garbage):
    """If a server does not speak Redis' protocol, its connection is closed, and no other call fails."""

    def replies(number, word):
        return garbage if number == 1 and word == b"odd" else said(number, word)

    with scripted(replies) as server:
        async with opened(server.url) as client, asyncio.timeout(20):
            assert await ask(client, SHA, "warm") == [b"1", b"warm"]
            odd = asyncio.create_task(ask(client, SHA, "odd"))
            if garbage.startswith(b"?"):
                with pytest.raises(InvalidResponse):
                    await odd
            else:
                assert await odd == b"one"
            assert await ask(client, SHA, "next") == [b"2", b"next"]


async def test_a_server_that_refuses_for_a_while():
    """A server that is still loading is asked again, as redis-py does; replies beside that one count."""
    asked = []

    def replies(number, word):
        asked.append(word)
        return b"-LOADING data\r\n" if word == b"b" and asked.count(b"b") == 1 else said(number, word)

    with scripted(replies) as server:
        async with opened(server.url) as client, asyncio.timeout(20):
            await ask(client, SHA, "warm")
            found = await asyncio.gather(*(ask(client, SHA, word) for word in ("a", "b", "c")))
            assert [word for _, word in found] == [b"a", b"b", b"c"]
            assert asked.count(b"a") == asked.count(b"c") == 1
            assert asked.count(b"b") == 2


# --- calls with a separate connection ---


async def test_waiting_for_replicas_holds_up_nobody(redis_server, prefix):
    """A write that waits for replicas uses a separate connection: reads are answered meanwhile."""
    settings = load_settings(redis_socket_timeout=4.0, wait_replicas=1)
    server = Server.from_url(redis_server.url, settings=settings)
    saver = RedisSaver(server=server, prefix=prefix)
    try:
        assert await saver.aget_tuple(config("t")) is None
        first = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        write = asyncio.create_task(saver.aput(first, empty_checkpoint(), {}, {}))
        while not (await asyncio.sleep(0.001) or await saver.aget_tuple(config("t"))):
            assert not write.done()
        assert not write.done(), "reads waited for the replicas"
        with pytest.raises(NotReplicatedError):
            await write
    finally:
        await saver.aclose()


async def test_health_checks(redis_server, echo):
    """With redis-py's health checks in the URL, calls use separate connections, which are checked."""
    async with opened(f"{redis_server.url}?health_check_interval=1") as client:
        found = await asyncio.gather(*(ask(client, echo, f"{n}") for n in range(30)))
        assert found == [answer(f"{n}") for n in range(30)]
        assert client.connection_pool._line is None


async def test_fencing_on_a_shared_line(redis_server, prefix):
    """Of runs that extend the same checkpoint at the same moment one wins, and no other call notices."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix, fencing=True) as saver:
        stored = []
        for n in range(10):
            first = {"configurable": {"thread_id": f"{n}", "checkpoint_ns": ""}}
            stored.append(await saver.aput(first, empty_checkpoint(), {}, {}))
        puts = [saver.aput(stored[n // 2], empty_checkpoint(), {}, {}) for n in range(20)]
        found = await asyncio.gather(*puts, return_exceptions=True)
        for pair in zip(found[::2], found[1::2], strict=True):
            assert [type(each) for each in pair].count(CheckpointConflictError) == 1
        [entry] = saver._server._by_loop.values()
        assert len(connections_of(entry.client)) == 1


async def test_a_fork_while_calls_are_under_way(redis_server, prefix):
    """A child forked while its parent's calls share a connection makes its own calls, and so does the parent."""
    with running_proxy(redis_server.port) as proxy:
        async with RedisSaver.from_url(through(proxy, redis_server), prefix=prefix) as saver:
            await saver.aget_tuple(config("warm"))
            saver.get_tuple(config("warm"))
            queue = saver._server.client.connection_pool._queue
            proxy.delay_seconds = 0.1
            calls = [asyncio.create_task(saver.aget_tuple(config(f"{n}"))) for n in range(20)]
            threads = [asyncio.create_task(asyncio.to_thread(saver.get_tuple, config(f"{n}"))) for n in range(4)]
            await asyncio.to_thread(wait_until, lambda: queue._senders, "a thread sends")
            proxy.delay_seconds = 0
            assert in_child(lambda: (saver.get_tuple(config("c")), queue._senders)) == (None, 0)
            assert await asyncio.gather(*calls, *threads) == [None] * 24


async def test_over_tls(certificates, prefix):
    """Calls share a line over TLS as well."""
    files = {
        "--tls-cert-file": certificates / "server.crt",
        "--tls-key-file": certificates / "server.key",
        "--tls-ca-cert-file": certificates / "ca.crt",
    }
    port = free_port()
    options = [str(word) for pair in files.items() for word in pair]
    with running_server("redis", *options, "--tls-port", str(port), "--tls-auth-clients", "no") as server:
        with server.client() as raw:
            sha = raw.script_load(ECHO)
        given = {"redis_ssl_ca_certs": certificates / "ca.crt"}
        async with opened(f"rediss://127.0.0.1:{port}", **given) as client:
            await ask(client, sha, "warm")
            words = [f"{n}" * 500 for n in range(100)]
            found = await asyncio.gather(*(ask(client, sha, word) for word in words))
            assert found == [answer(word) for word in words]
            assert len(connections_of(client)) == 1
