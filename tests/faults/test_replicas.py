"""A call that waits for replicas returns when they have its write, also if it is repeated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import NotReplicatedError, RedisTimeoutError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from tests.faults.load import build_graph
from tests.fixtures.servers import running_server, wait_until

CONFIG = {"configurable": {"thread_id": "t"}}
MESSAGE = {"role": "user", "content": "?", "id": "1"}
RUN = "r"


@pytest.fixture(scope="module", params=["redis", "valkey"])
def pair(request):
    """A primary and its only replica. WAIT counts different writes on the two."""
    kind = request.param
    with running_server(kind, "--repl-diskless-sync-delay", "0") as primary, running_server(kind) as replica:
        with replica.client() as admin:
            admin.replicaof("127.0.0.1", primary.port)
        with primary.client() as admin:
            wait_until(lambda: admin.info("replication").get("slave0", {}).get("state") == "online", "the replica")
            yield primary, replica


@contextlib.contextmanager
def stopped(server):
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


class Places:
    """Something of everything."""

    def __init__(self, server, prefix):
        self.saver = RedisSaver(server=server, prefix=prefix)
        self.memory = RedisMemoryService(server=server, prefix=prefix)
        self.awaiting = AsyncRedisMemoryService(server=server, prefix=prefix)
        self.history = RedisChatMessageHistory("a", "h", server=server, prefix=prefix)
        self.graph = build_graph(self.saver)

    def write(self):
        for n in range(2):
            run = {"configurable": {"thread_id": "t", "run_id": RUN}}
            self.graph.invoke({"messages": [HumanMessage("?", id=str(n))]}, run)
        self.history.add_messages([HumanMessage("?")])
        self.memory.append_to_history("a", "s", MESSAGE)
        self.memory.append_to_history("b", "s", MESSAGE)
        self.memory.set_session_data("s", "k", 1)
        self.memory.save_agent_state("a", {"n": 1})


# How each is deleted, and what remains of it.
DELETIONS = {
    "thread": (lambda at: at.saver.delete_thread("t"), lambda at: list(at.saver.list(CONFIG))),
    "thread, awaited": (
        lambda at: asyncio.run(at.saver.adelete_thread("t")),
        lambda at: list(at.saver.list(CONFIG)),
    ),
    "thread, pruned": (
        lambda at: at.saver.prune(["t"], strategy="delete"),
        lambda at: list(at.saver.list(CONFIG)),
    ),
    "thread, shortened": (lambda at: at.saver.prune(["t"]), lambda at: list(at.saver.list(CONFIG))[1:]),
    "runs": (lambda at: at.saver.delete_for_runs([RUN]), lambda at: list(at.saver.list(CONFIG))),
    "history": (lambda at: at.history.clear(), lambda at: at.history.messages),
    "history, awaited": (lambda at: asyncio.run(at.history.aclear()), lambda at: at.history.messages),
    "conversation": (
        lambda at: at.memory.clear_conversation_history("a", "s"),
        lambda at: at.memory.get_conversation_history("a", "s"),
    ),
    "data": (
        lambda at: at.memory.delete_session_data("s", "k"),
        lambda at: at.memory.get_all_session_data("s"),
    ),
    "session": (
        lambda at: at.memory.clear_session("s"),
        lambda at: at.memory.get_all_session_data("s") or at.memory.get_conversation_history("b", "s"),
    ),
    "session, awaited": (
        lambda at: asyncio.run(at.awaiting.clear_session("s")),
        lambda at: at.memory.get_all_agents_for_session("s"),
    ),
    "agent": (
        lambda at: at.memory.clear_all_agent_data("a"),
        lambda at: at.memory.get_agent_state("a") or at.history.messages,
    ),
}


@pytest.mark.parametrize("what", DELETIONS)
def test_a_deletion_again(what, pair, connect, prefix):
    """A deletion that was not replicated is repeated: the repeated call waits as well, though nothing remains."""
    primary, replica = pair
    delete, left = DELETIONS[what]
    Places(connect(primary.url), prefix).write()
    for n in range(4):
        # On a new connection each time, as from a restarted process.
        places = Places(connect(f"{primary.url}?wait_replicas=1", redis_socket_timeout=0.3), prefix)
        assert n or left(places)
        # A busy machine may not even report it in time.
        with stopped(replica), pytest.raises((NotReplicatedError, RedisTimeoutError)):
            delete(places)
    patient = Places(connect(f"{primary.url}?wait_replicas=1", redis_socket_timeout=40), prefix)
    delete(patient)
    assert not left(patient)
    with primary.client() as here, replica.client() as there:
        assert set(there.scan_iter(f"{prefix}:*")) == set(here.scan_iter(f"{prefix}:*"))
