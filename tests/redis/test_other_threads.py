"""Other data on a server costs nothing: commands and bytes are the same with ten others as with a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc import RedisChatMessageHistory, RedisMemoryService
from ecowas_lc.checkpoint import RedisSaver
from tests.fixtures.proxy import Proxy, running_proxy
from tests.redis.writer import Writer, at

FEW, MANY = 10, 1000
MESSAGE = {"role": "user", "content": "x" * 100}
# The cost of a sorted-set command hardly depends on the set's size; ranges also state their maximum.
QUICK = {"ZADD", "ZREM", "ZSCORE", "ZCARD", "EXPIRE", "PEXPIREAT", "PERSIST", "EXISTS", "ZREMRANGEBYSCORE"}

# An append looks for ids of its history to forget, whatever else is stored.
ONCE_A_SECOND = Counter(ZREMRANGEBYSCORE=1, ZCOUNT=1)


@dataclass
class Cost:
    """The commands that one call made a server execute, including those in scripts."""

    commands: Counter[str]
    on_indexes: list[list[str]]
    flushes: int
    sent: int
    received: int


class Crowd:
    """A saver and a memory service among others' threads and sessions, and the cost of calls there."""

    def __init__(self, url: str, proxy: Proxy, raw: Any, prefix: str, stack: ExitStack) -> None:
        self.proxy, self.raw, self.prefix = proxy, raw, prefix
        self.saver = stack.enter_context(RedisSaver.from_url(proxy.url, prefix=prefix))
        self.memory = stack.enter_context(RedisMemoryService(url=proxy.url, prefix=prefix))
        self.history = RedisChatMessageHistory(
            "agent", "s1", server=self.memory.server, prefix=prefix, max_messages=5
        )
        self._others_saver = stack.enter_context(RedisSaver.from_url(url, prefix=prefix))
        self._others_memory = stack.enter_context(RedisMemoryService(url=url, prefix=prefix))
        self._others = 0
        for number in range(30):
            self.memory.append_to_history("agent", f"s{number % 3}", MESSAGE)

    def fill(self, others: int) -> None:
        """Add threads, runs, agents and sessions of others up to a number."""
        for number in range(self._others, others):
            Writer(self._others_saver, f"other{number:05}").put(None, {"run_id": f"run{number:05}"}, a=number)
            self._others_memory.append_to_history(f"other{number:05}", "s", MESSAGE)
        self._others = others

    def thread(self, thread_id: str) -> Writer:
        """A thread of three checkpoints by one run, called like itself."""
        writer = Writer(self.saver, thread_id)
        for number in range(3):
            writer.put(f"{number:036}", {"run_id": thread_id}, messages=[HumanMessage("y" * 300, id="1")] * number)
        return writer

    def cost(self, call: Callable[[], Any]) -> Cost:
        with self.raw.monitor() as monitor:
            self.proxy.reset_counts()
            call()
            flushes, sent, received = self.proxy.flushes, self.proxy.sent, self.proxy.received
            self.raw.echo("that was it")
            seen: list[list[str]] = []
            while not seen or seen[-1][1:] != ["that", "was", "it"]:
                seen.append(monitor.next_command()["command"].split(" "))
        del seen[-1]
        shared = {f"{self.prefix}:index:{name}" for name in ("threads", "sessions", "agents")}
        on_indexes = [words for words in seen if len(words) > 1 and words[1] in shared]
        return Cost(Counter(words[0].upper() for words in seen), on_indexes, flushes, sent, received)


@pytest.fixture
def crowd(redis_server: Any, prefix: str) -> Iterator[Crowd]:
    with ExitStack() as stack:
        proxy = stack.enter_context(running_proxy(redis_server.port))
        raw = stack.enter_context(redis_server.client())
        yield Crowd(redis_server.url, proxy, raw, prefix, stack)


def calls(crowd: Crowd, turn: str) -> dict[str, Callable[[], Any]]:
    """Every call, on threads that are like those of another turn."""
    saver, memory = crowd.saver, crowd.memory
    threads = {name: crowd.thread(f"{name}-{turn}") for name in ("read", "prune", "copy", "runs", "gone", "write")}
    pending = [("a", 1)]
    return {
        "put": lambda: threads["write"].put(f"{9:036}", {"run_id": f"write-{turn}"}, a=1),
        "put_writes": lambda: saver.put_writes(threads["write"].config, pending, "task"),
        "get_tuple": lambda: saver.get_tuple(at(f"read-{turn}")),
        "list of a thread": lambda: list(saver.list(at(f"read-{turn}"), limit=10)),
        "list of all": lambda: list(saver.list(None, limit=3)),
        "copy_thread": lambda: saver.copy_thread(f"copy-{turn}", f"made-{turn}"),
        "prune": lambda: saver.prune([f"prune-{turn}"]),
        "delete_for_runs": lambda: saver.delete_for_runs([f"runs-{turn}"]),
        "delete_thread": lambda: saver.delete_thread(f"gone-{turn}"),
        "sessions of an agent": lambda: memory.get_all_sessions_for_agent("agent"),
        "append": lambda: memory.append_to_history("agent", "s1", MESSAGE, max_history=5),
        "append of a new session": lambda: memory.append_to_history("agent", f"s-{turn}", MESSAGE),
        "clear of a session": lambda: memory.clear_conversation_history("agent", f"s-{turn}"),
        "the last messages": lambda: crowd.history.messages,
        "extend_ttl": lambda: memory.extend_ttl("agent", "s1"),
    }


def test_the_same_with_few_others_and_with_many(crowd: Crowd) -> None:
    """Commands on the server, flushes and bytes of each call are the same, and no index of all is walked."""
    crowd.fill(FEW)
    for call in calls(crowd, "warm").values():
        call()
    costs = []
    for others, turn in ((FEW, "once"), (MANY, "more")):
        crowd.fill(others)
        costs.append({name: crowd.cost(call) for name, call in calls(crowd, turn).items()})
    few, many = costs
    for name, cost in many.items():
        assert cost.commands - ONCE_A_SECOND == few[name].commands - ONCE_A_SECOND, name
        assert cost.flushes == few[name].flushes, name
        assert abs(cost.sent - few[name].sent) <= 0.05 * few[name].sent + 16, name
        assert abs(cost.received - few[name].received) <= 0.05 * few[name].received + 32, name
        for words in cost.on_indexes:
            assert words[0].upper() in QUICK or _takes(words) <= 50, (name, words)
    assert any(cost.on_indexes for cost in many.values())


def _takes(words: list[str]) -> float:
    """How much of an index a range takes at most."""
    if "LIMIT" in words:
        return int(words[-1])
    if words[0].upper() in ("ZRANGE", "ZREVRANGE") and int(words[3]) >= 0:
        return int(words[3]) - int(words[2]) + 1
    return float("inf")
