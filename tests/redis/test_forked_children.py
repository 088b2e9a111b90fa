"""Processes forked while their threads are in the middle of calls: every thread of a child can work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc import RedisSaver
from ecowas_lc.agents import BaseAgent
from ecowas_lc.agents.outage import _last_try
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.supervisor.routing import get_router
from tests.faults.test_sentinel import running_sentinel
from tests.fixtures.forked import WAYS, Child, busy_threads
from tests.fixtures.scripted_model import ScriptedModel
from tests.fixtures.servers import RunningCluster, RunningServer, free_port, running_server, wait_until

CONFIG: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
CONNECTIONS = 2
BUSY = 4  # threads, more than there are connections, so that all of these are taken when the process is forked


@pytest.fixture(scope="module")
def sentinel_url(redis_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_sentinel(tmp_path_factory.mktemp("sentinel"), redis_server) as port:
        sentinel = RunningServer("redis", port, Path())

        def knows() -> bool:
            with sentinel.client() as client:
                return bool(client.ping())

        wait_until(lambda: _quietly(knows), "a Sentinel")
        yield f"redis+sentinel://127.0.0.1:{port}/main/0"


def _quietly(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except Exception:
        return False


@pytest.fixture(params=["single", "Sentinel", "cluster"])
def url(request: pytest.FixtureRequest, redis_server: RunningServer) -> str:
    """One server, the same behind a Sentinel, and a cluster."""
    if request.param == "single":
        return redis_server.url
    if request.param == "Sentinel":
        return str(request.getfixturevalue("sentinel_url"))
    cluster: RunningCluster = request.getfixturevalue("cluster")
    return cluster.url


def test_every_thread_of_a_child_works(url: str, prefix: str) -> None:
    """A child forked while all connections are in use has all of them free, in each of its threads."""
    memory = RedisMemoryService(url=url, prefix=prefix, max_connections=CONNECTIONS, socket_timeout=5)
    saver = RedisSaver(server=memory.server, prefix=prefix)

    async def awaited() -> list[Any]:
        there = AsyncRedisMemoryService(server=memory.server, prefix=prefix)
        return await asyncio.gather(
            *(there.get_session_data("s", "k") for _ in range(4 * CONNECTIONS)), saver.aget_tuple(CONFIG)
        )

    def work() -> list[Any]:
        memory.append_to_history("child", "s", {"role": "user", "content": "?"})
        return [memory.get_session_data("s", "k"), saver.get_tuple(CONFIG), *asyncio.run(awaited())]

    memory.set_session_data("s", "k", 1)
    asyncio.run(awaited())
    with busy_threads(lambda: memory.append_to_history("parent", "s", {"role": "user", "content": "?"}, 5), BUSY):
        for way, forked in WAYS.items():
            # asyncio.run closes the worker's loop, so that work with its own loop can't run inside another's
            expected = [1, None, *[1] * 4 * CONNECTIONS, None]
            assert forked(work) == expected, way
    assert len(memory.get_conversation_history("child", "s")) == len(WAYS)
    memory.close()


def test_routers(prefix: str) -> None:
    """A child forked while other threads route questions can route them, too."""
    router = get_router("hybrid")
    question = "How much solar power flows between Ghana and Togo and who pays for the lines?"
    groups = router.route(question).groups
    with busy_threads(lambda: router.route(question), 2):
        for way, forked in WAYS.items():
            assert forked(lambda: router.route(question).groups) == groups, way


def test_embeddings_on_several_threads() -> None:
    """The same holds if the user gave the embeddings several threads, which a child does not inherit."""
    code = (
        "from tests.fixtures.forked import WAYS\n"
        "from ecowas_lc.supervisor.routing.embedding import OfflineEmbeddings\n"
        "embeddings = OfflineEmbeddings(); embeddings.embed_query('solar')\n"
        "for way, forked in WAYS.items():\n"
        "    assert len(forked(lambda: embeddings.embed_query('solar'))) == 384, way\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def outage(port: int) -> tuple[str, str]:
    """An agent's outage, from a thread and from an awaited call."""
    url = f"redis://localhost:{port}/0"

    def kind_of(call: Callable[[], Any]) -> str:
        try:
            call()
        except Exception as error:
            return type(error).__name__
        return "nothing"

    async def ask() -> None:
        async with AsyncRedisMemoryService(url=url, connect_timeout=2) as memory:
            await memory.get_conversation_history("a", "s")

    return (
        kind_of(lambda: RedisChatMessageHistory("a", "s", url=url).messages),
        kind_of(lambda: asyncio.run(ask())),
    )


@pytest.mark.parametrize("way", WAYS)
def test_outages_in_a_child(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing server at the default address is a named error in each thread of a child, without waiting."""
    monkeypatch.setattr("ecowas_lc.storage.error_translation._UNLESS_SET", f"localhost:{(port := free_port())}")
    assert WAYS[way](lambda: outage(port)) == ("RedisUnavailableError", "RedisUnavailableError")


def test_what_waits_is_the_parents(prefix: str) -> None:
    """A child repeats no work that its parent has pending: it deletes nothing, and doubles nothing,
    neither when it ends nor when it uses the same agent.
    """
    with running_server("redis") as server:
        memory = RedisMemoryService(url=server.url, prefix=prefix, socket_timeout=2, connect_timeout=2)
        model = ScriptedModel(script=lambda messages: f"Answer to: {messages[-1].text}")
        agent = BaseAgent("energy", session_id="s", use_redis=True, model=model, memory=memory)
        agent.chat("old?")
        server.kill()
        agent.reset_history()
        agent.chat("held?")
        link = agent._keeping.link
        assert link is not None
        assert link.holds
        begin, go = os.pipe()

        def child() -> list[str]:
            held = link.holds
            os.read(begin, 1)  # until the server is back and has the parent's backlog
            _last_try()
            agent.chat("child?")
            return [str(held), *(message["content"] for message in agent.history)]

        forked = Child(child)
        server.start()
        wait_until(lambda: link.is_up and not link.holds, "the replay")
        agent.chat("important?")
        os.write(go, b"x")
        expected = [text for asked in ("held?", "important?", "child?") for text in (asked, f"Answer to: {asked}")]
        assert forked.result() == ["0", *expected]
        assert [message["content"] for message in memory.get_conversation_history("energy", "s")] == expected
        os.close(begin)
        os.close(go)
        memory.close()


def test_a_forked_child_of_an_outage_finds_the_server(prefix: str) -> None:
    """A child forked in an outage, without the parent's thread that tries the server, finds it when it is back."""
    with running_server("redis") as server:
        memory = RedisMemoryService(url=server.url, prefix=prefix, socket_timeout=2, connect_timeout=2)
        model = ScriptedModel(script=lambda messages: "yes")
        agent = BaseAgent("energy", session_id="s", use_redis=True, model=model, memory=memory)
        agent.chat("before?")
        server.kill()
        agent.chat("in the outage?")
        begin, go = os.pipe()

        def child() -> str:
            os.read(begin, 1)
            agent.chat("after?")
            return str(agent.get_session_info()["backend"])

        forked = Child(child)
        server.start()
        os.write(go, b"x")
        assert forked.result() == "redis"
        os.close(begin)
        os.close(go)
        memory.close()


def test_histories_of_a_shared_url(redis_server: RunningServer, prefix: str) -> None:
    """Histories that share a process's server by its URL are each written once, by parent and children."""
    history = RedisChatMessageHistory("shared", "s", url=redis_server.url, prefix=prefix)
    for number, forked in enumerate(WAYS.values()):
        forked(lambda n=number: history.add_messages([HumanMessage(f"{n}", id=f"{n}")]))
    assert [message.text for message in history.messages] == [str(number) for number in range(len(WAYS))]
