"""A program that forks while its threads write, and whose children write from their own threads.

``python -m tests.faults.forking URL PREFIX CHILDREN TURNS``; it prints what was acknowledged, and what failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from tests.faults.load import build_graph
from tests.fixtures.forked import Child, in_child

THREADS = 3
CONNECTIONS = 3
_FAR_OUT_SECONDS = 100.0


class Program:
    """What parent and children write with: one service, saver and history, created before the first fork."""

    def __init__(self, url: str, prefix: str, turns: int) -> None:
        self.memory = RedisMemoryService(url=url, prefix=prefix, max_connections=CONNECTIONS, socket_timeout=30)
        self.prefix, self.turns = prefix, turns
        self.graph = build_graph(RedisSaver(server=self.memory.server, prefix=prefix))
        self.history = RedisChatMessageHistory("ids", "s", server=self.memory.server, prefix=prefix)

    def write(self, who: str) -> list[str]:
        """Write some messages and return the acknowledged ones, which must be all of them."""
        done = []
        for n in range(self.turns):
            text = f"{who}.{n}"
            self.memory.append_to_history("all", "s", {"role": "user", "content": text})
            self.history.add_messages([HumanMessage(text, id=text)])
            self.graph.invoke({"messages": [HumanMessage(text, id=text)]}, {"configurable": {"thread_id": who}})
            done.append(text)
        return done

    async def awrite(self, who: str) -> list[str]:
        """Do the same as :meth:`write`, in an event loop and in one of its worker threads."""
        memory = AsyncRedisMemoryService(server=self.memory.server, prefix=self.prefix)
        done = []
        for n in range(self.turns):
            text = f"{who}.async.{n}"
            await memory.append_to_history("all", "s", {"role": "user", "content": text})
            await self.history.aadd_messages([HumanMessage(text, id=text)])
            done.append(text)
        return done + await asyncio.to_thread(self.write, f"{who}.to_thread")

    def child(self, who: str) -> list[str]:
        """Write from threads of a child, from an event loop, and from a thread of a child of the child."""

        def grandchild() -> list[str]:
            return self.at_once([lambda: self.write(f"{who}.grandchild")])

        works = [lambda n=n: self.write(f"{who}.{n}") for n in range(THREADS)]
        return self.at_once([*works, lambda: asyncio.run(self.awrite(who)), lambda: list(in_child(grandchild))])

    def at_once(self, works: list[Callable[[], list[str]]]) -> list[str]:
        """Do works in a thread each."""
        told: list[Any] = []

        def run(work: Callable[[], list[str]]) -> None:
            try:
                told.append(work())
            except BaseException:
                told.append(traceback.format_exc())

        threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_FAR_OUT_SECONDS)
        assert len(told) == len(works), "a thread is not done"
        for each in told:
            assert isinstance(each, list), each
        return [text for each in told for text in each]


def main(url: str, prefix: str, children: str, turns: str) -> None:
    """Fork under load."""
    program = Program(url, prefix, int(turns))
    acknowledged, failed = program.write("before"), []
    stop = threading.Event()
    lock = threading.Lock()

    def keep_on(number: int) -> None:
        rounds = 0
        while not stop.is_set():
            try:
                done = program.write(f"parent.{number}.{rounds}")
            except BaseException:
                with lock:
                    failed.append(traceback.format_exc())
                return
            with lock:
                acknowledged.extend(done)
            rounds += 1

    # More of them than connections, so that all of these are taken when the process is forked.
    busy = [threading.Thread(target=keep_on, args=(number,), daemon=True) for number in range(2 * CONNECTIONS)]
    for thread in busy:
        thread.start()
    forked = [Child(lambda who=f"child.{number}": program.child(who)) for number in range(int(children))]
    for child in forked:
        try:
            acknowledged += child.result(_FAR_OUT_SECONDS)
        except AssertionError as error:
            failed.append(str(error))
    stop.set()
    for thread in busy:
        thread.join(_FAR_OUT_SECONDS)
    print(json.dumps({"acknowledged": acknowledged, "failed": failed}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
