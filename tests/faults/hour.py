"""Run as a program: an hour's turns of a busy application, by many processes at once.

Arguments: url, prefix, processes, turns of each. Each process holds two conversations at a time, one by blocking
calls in a thread and one by awaited calls; a conversation is ``TURNS_A_THREAD`` turns long. A turn is a run of a
graph, and its question and answer go into the conversation's history as well. Prints one JSON object:
``{"acknowledged": {thread id: [turn, …]}, "failed": [text, …], "seconds": …}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.storage.server import Server
from tests.faults.load import TURNS_A_THREAD, build_graph


def conversations(process: int, how: str, turns: int) -> Iterator[tuple[str, range]]:
    """A process's conversations of one kind: their thread ids, and the numbers of their turns."""
    for first in range(0, turns, TURNS_A_THREAD):
        yield f"{process}-{how}-{first // TURNS_A_THREAD}", range(min(TURNS_A_THREAD, turns - first))


def talk(url: str, prefix: str, process: int, turns: int) -> dict[str, list[int]]:
    """One process's turns, half of them blocking and half awaited; returns the acknowledged ones."""
    server = Server.from_url(url)
    graph = build_graph(RedisSaver(server=server, prefix=prefix))
    acknowledged: dict[str, list[int]] = {}

    def question(n: int) -> HumanMessage:
        return HumanMessage(str(n), id=f"q{n}")

    def history(thread: str) -> RedisChatMessageHistory:
        return RedisChatMessageHistory("hour", thread, server=server, prefix=prefix)

    def blocking() -> None:
        for thread, numbers in conversations(process, "sync", turns // 2):
            for n in numbers:
                config: Any = {"configurable": {"thread_id": thread}}
                state = graph.invoke({"messages": [question(n)]}, config)
                history(thread).add_messages(state["messages"][-2:])
                acknowledged.setdefault(thread, []).append(n)

    async def awaited() -> None:
        for thread, numbers in conversations(process, "async", turns - turns // 2):
            for n in numbers:
                config: Any = {"configurable": {"thread_id": thread}}
                state = await graph.ainvoke({"messages": [question(n)]}, config)
                await history(thread).aadd_messages(state["messages"][-2:])
                acknowledged.setdefault(thread, []).append(n)

    async def both() -> None:
        await asyncio.gather(asyncio.to_thread(blocking), awaited())
        await server.aclose()

    asyncio.run(both())
    return acknowledged


def main(url: str, prefix: str, processes: str, turns: str) -> None:
    began = time.monotonic()
    pipes = []
    for process in range(int(processes)):
        reading, writing = os.pipe()
        if not os.fork():
            os.close(reading)
            try:
                said: Any = talk(url, prefix, process, int(turns))
            except BaseException:  # reported to the parent, whatever it was
                said = traceback.format_exc()
            with os.fdopen(writing, "w") as out:
                json.dump(said, out)
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    told = []
    for reading in pipes:
        with os.fdopen(reading) as text:
            told.append(json.loads(text.read() or '"a process died"'))
    acknowledged = {thread: turns for said in told if isinstance(said, dict) for thread, turns in said.items()}
    failed = [said for said in told if isinstance(said, str)]
    print(json.dumps({"acknowledged": acknowledged, "failed": failed, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
