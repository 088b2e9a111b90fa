"""Half an hour of turns, and the use of memory: ``python -m tests.faults.soak 1800``.

Conversations begin, grow and are deleted, sync in threads and async in an event loop, so that the stored data
stays bounded. Every few seconds it reads the memory of this process and of the server, and the number of blocks
that Python's objects occupy: leaks show there, and memory that the C library keeps free does not.

It prints a line a minute, then the medians of the second and the last tenth, and fails if memory has grown by
more than a tenth or the blocks by more than a fiftieth.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.storage.server import Server
from tests.faults.load import build_graph
from tests.fixtures.servers import running_server

TURNS = 20
SAMPLE_SECONDS = 5


class Soak:
    """Conversations one after the other until the time is up."""

    def __init__(self, url: str, seconds: float) -> None:
        self.server = Server.from_url(url)
        self.end = time.monotonic() + seconds
        self.turns = 0
        self._lock = threading.Lock()

    def talk(self, name: str) -> None:
        """Sync."""
        number = 0
        while time.monotonic() < self.end:
            number += 1
            thread = f"{name}-{number}"
            saver = RedisSaver(server=self.server)
            graph = build_graph(saver)
            history = RedisChatMessageHistory(name, thread, server=self.server, max_history=10)
            memory = RedisMemoryService(server=self.server)
            config: Any = {"configurable": {"thread_id": thread}}
            for n in range(TURNS):
                text = f"{thread} {n} " + "and so on " * 30
                graph.invoke({"messages": [HumanMessage(text)]}, config)
                history.add_messages([HumanMessage(text)])
                memory.set_session_data(thread, "n", n)
                self._count()
            assert len(graph.get_state(config).values["messages"]) == 2 * TURNS
            assert len(history.messages) == 10
            saver.delete_thread(thread)
            memory.clear_session(thread)

    async def atalk(self, name: str, end: float) -> None:
        """Async."""
        number = 0
        while time.monotonic() < end:
            number += 1
            thread = f"{name}-{number}"
            saver = RedisSaver(server=self.server)
            graph = build_graph(saver)
            history = RedisChatMessageHistory(name, thread, server=self.server, max_history=10)
            memory = AsyncRedisMemoryService(server=self.server)
            config: Any = {"configurable": {"thread_id": thread}}
            for n in range(TURNS):
                text = f"{thread} {n} " + "and so on " * 30
                await graph.ainvoke({"messages": [HumanMessage(text)]}, config)
                await history.aadd_messages([HumanMessage(text)])
                await memory.set_session_data(thread, "n", n)
                self._count()
            assert len((await graph.aget_state(config)).values["messages"]) == 2 * TURNS
            assert len(await history.aget_messages()) == 10
            await saver.adelete_thread(thread)
            await memory.clear_session(thread)

    def run_loops(self) -> None:
        """A new event loop every minute, as notebooks and servers that restart workers have."""
        number = 0
        while time.monotonic() < self.end:
            number += 1
            asyncio.run(self._two(number, min(self.end, time.monotonic() + 60)))

    async def _two(self, number: int, end: float) -> None:
        await asyncio.gather(*(self.atalk(f"async-{number}-{n}", end) for n in range(2)))

    def _count(self) -> None:
        with self._lock:
            self.turns += 1


def resident_bytes(pid: int) -> int:
    """The memory that a process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(seconds: float) -> int:
    """Run, print, judge."""
    with running_server("redis") as server, server.client() as admin:
        soak = Soak(server.url, seconds)
        talkers = [threading.Thread(target=soak.talk, args=(f"sync-{n}",), daemon=True) for n in range(2)]
        talkers.append(threading.Thread(target=soak.run_loops, daemon=True))
        for talker in talkers:
            talker.start()
        client, stored, live = [], [], []
        began = time.monotonic()
        while any(talker.is_alive() for talker in talkers):
            time.sleep(SAMPLE_SECONDS)
            client.append(resident_bytes(os.getpid()))
            stored.append(admin.info("memory")["used_memory"])
            live.append(sys.getallocatedblocks())
            if len(client) % (60 // SAMPLE_SECONDS) == 0:
                minutes = (time.monotonic() - began) / 60
                print(
                    f"{minutes:5.1f} min  {soak.turns:7d} turns  client {client[-1] / 2**20:6.1f} MiB  "
                    f"live blocks {live[-1]}  server {stored[-1] / 2**20:5.2f} MiB  keys {admin.dbsize()}  "
                    f"connections {len(admin.client_list())}",
                    flush=True,
                )
        assert time.monotonic() > soak.end, "a conversation failed: see above"
    tenth = max(1, len(client) // 10)
    grown = False
    for name, sizes in (("client", client), ("server", stored)):
        first, last = statistics.median(sizes[tenth : 2 * tenth]), statistics.median(sizes[-tenth:])
        print(f"{name}: {first / 2**20:.1f} MiB in the second tenth, {last / 2**20:.1f} MiB in the last")
        grown = grown or last > 1.1 * first
    first, last = statistics.median(live[tenth : 2 * tenth]), statistics.median(live[-tenth:])
    print(f"client's live blocks: {first:.0f} in the second tenth, {last:.0f} in the last")
    grown = grown or last > 1.02 * first
    print(f"{soak.turns} turns in {seconds:.0f} s, {soak.turns / seconds:.0f} a second")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
