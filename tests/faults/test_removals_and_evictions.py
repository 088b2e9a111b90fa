"""A busy history whose replies are lost, a server that evicts, and removals across an outage."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter

from langchain_core.messages import HumanMessage

from ecowas_lc import IncompleteWarning, RedisAgent, RedisMemoryService, RedisSaver
from ecowas_lc.errors import EcowasError, StorageError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory.histories import APPEND
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import call
from tests.agents.conftest import dialogue, numbered, texts
from tests.faults.conftest import UNHURRIED
from tests.faults.load import Outcome, build_graph
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import running_server, wait_until

AOF = ("--appendonly", "yes", "--appendfsync", "always")
MORE_THAN_WAS_REMEMBERED = 1200
NOISE = b'{"role":"user","content":"x"}'


class Noise:
    """Others who append to one history, as fast as a connection takes it."""

    def __init__(self, server, place) -> None:
        self.count = 0
        self._server, self._place = server, place
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Noise:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        def op():
            while not self._stopping.is_set():
                yield tuple(
                    call(
                        APPEND,
                        self._place,
                        f"> 20000 {os.urandom(9).hex()}  0",
                        b"",
                        b'{"role":"user","content":"x"}',
                    )
                    for _ in range(200)
                )
                self.count += 200

        self._server.run(op())


def test_a_busy_history_with_a_lost_reply(flavour, connect, prefix, is_long, record_row):
    """If the reply to an append is lost, the retry is recognised even after thousands of other appends.

    So are messages with ids that have been trimmed since, in a short history.
    """
    rounds = 150 if is_long else 12
    key = Keys(prefix).history("a", "busy")
    with running_server(flavour) as server, running_proxy(server.port) as proxy:
        direct = connect(server.url, **UNHURRIED)
        memory = RedisMemoryService(server=connect(proxy.url, **UNHURRIED), prefix=prefix)
        reader = RedisMemoryService(server=direct, prefix=prefix)
        short = RedisChatMessageHistory("a", "short", server=memory.server, prefix=prefix, max_history=5)
        others = RedisChatMessageHistory("a", "short", server=direct, prefix=prefix, max_history=5)
        memory.append_to_history("a", "busy", {"role": "user", "content": "begun"})
        acknowledged: list[str] = []
        failed = 0
        seen: Counter[str] = Counter()
        with Noise(direct, (key, Keys(prefix).companion(key))) as noise:
            for n in range(rounds):
                mark = f"mark-{n}"
                proxy.cut_next("reply", after=0)
                accepting = threading.Thread(target=_keep_out, args=(proxy, noise))
                accepting.start()
                try:
                    memory.append_to_history("a", "busy", {"role": "user", "content": mark}, max_history=20000)
                    acknowledged.append(mark)
                except StorageError:  # on a slow machine, the retries may be over before that many other appends
                    failed += 1
                accepting.join()
                last = reader.get_conversation_history("a", "busy", last=20000)
                seen[mark] = sum(message["content"] == mark for message in last)
        for n in range(rounds):
            said = HumanMessage(f"short-{n}", id=f"short-{n}")
            short.add_messages([said])
            others.add_messages([HumanMessage("x", id=f"{n}-{k}") for k in range(300)])
            short.add_messages([said])  # its author doesn't know whether it was stored
            acknowledged.append(said.id)
            seen[said.id] = 1 + sum(message.id == said.id for message in short.messages)
    outcome = Outcome(
        f"{flavour}: a busy history with a lost reply ({proxy.cuts} of them)",
        len(acknowledged),
        sum(seen[mark] == 0 for mark in acknowledged),
        sum(times > 1 for times in seen.values()),
        failed,
        None,
        {},
    )
    record_row(outcome)
    outcome.assert_nothing_lost()
    assert proxy.cuts == rounds


def _keep_out(proxy, noise: Noise) -> None:
    wait_until(lambda: not proxy.is_armed("reply"), "the reply is lost")
    proxy.refuse()
    enough = noise.count + MORE_THAN_WAS_REMEMBERED
    wait_until(lambda: noise.count > enough, "others append")
    proxy.accept()


def test_eviction_with_allkeys_lru(flavour, connect, prefix, is_long, record_row):
    """Evicted data is lost, but nothing is doubled, no thread remains in part, and removals and
    exports report missing data.
    """
    count = 300 if is_long else 60
    options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "4mb")
    with running_server(flavour, *options) as server, server.client() as raw:
        memory = RedisMemoryService(server=connect(server.url, **UNHURRIED), prefix=prefix)
        saver = RedisSaver(server=memory.server, prefix=prefix)
        graph = build_graph(saver)
        acknowledged = failed = 0
        for n in range(count):
            for turn in range(2):
                message = {"role": "user", "content": f"{turn}" + "x" * 2000, "id": f"q{turn}"}
                config = {"configurable": {"thread_id": str(n)}}
                try:
                    memory.append_to_history("a", str(n), message)
                    graph.invoke({"messages": [HumanMessage(os.urandom(8000).hex(), id=str(turn))]}, config)
                    acknowledged += 1
                except StorageError:
                    failed += 1
        assert raw.info("stats")["evicted_keys"] > 20
        raw.config_set("maxmemory", 0)
        doubled = in_part = silent = 0
        for n in range(count):
            ids = [m["id"] for m in memory.get_conversation_history("a", str(n))]
            if ids:
                memory.append_to_history("a", str(n), {"role": "user", "content": "again", "id": ids[0]})
                doubled += [m["id"] for m in memory.get_conversation_history("a", str(n))].count(ids[0]) > 1
            state = graph.get_state({"configurable": {"thread_id": str(n)}})
            in_part += len(state.values.get("messages", [])) % 2
        for call_made in (lambda: list(saver.export_jsonl()), lambda: list(memory.export_jsonl())):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                call_made()
            silent += not any(warning.category is IncompleteWarning for warning in told)
        for n in range(count):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                memory.clear_session(str(n))
            is_left = bool(memory.get_conversation_history("a", str(n)))
            silent += is_left and not any(warning.category is IncompleteWarning for warning in told)
    outcome = Outcome(
        f"{flavour}: eviction with allkeys-lru ¹", acknowledged, in_part + silent, doubled, failed, None, {}
    )
    record_row(outcome)
    outcome.assert_nothing_lost()


def test_a_deletion_across_an_outage(flavour, prefix, is_long, record_row):
    """A journal does not restore what another process removed; later messages are kept, once.

    The messages were sent just before the server was killed, or while the process was cut off from it.
    """
    acknowledged = lost = doubled = failed = 0
    with running_server(flavour, *AOF) as server, running_proxy(server.port) as proxy:
        for n in range(12 if is_long else 2):
            place = f"{prefix}-{n}"
            is_cut_off = bool(n % 2)
            mine = RedisMemoryService(url=proxy.url if is_cut_off else server.url, prefix=place)
            with RedisMemoryService(url=server.url, prefix=place) as elsewhere:
                agents = [
                    RedisAgent(name, "s", max_history=40, model=numbered(), memory=mine)
                    for name in ("energy", "digital")
                ]
                for agent in agents:
                    agent.chat("secret?")
                if is_cut_off:
                    proxy.refuse()
                    for agent in agents:
                        agent.chat("held?")
                try:
                    elsewhere.clear_session("s")
                except EcowasError:
                    failed += 1
                if not is_cut_off:
                    server.kill()
                for agent in agents:
                    agent.chat("since?")
                server.start() if not is_cut_off else proxy.accept()
                for agent in agents:
                    wait_until(lambda agent=agent: agent.get_session_info()["backend"] == "redis", "the replay")
                for agent in agents:
                    agent.chat("after?")
                    found = Counter(texts(elsewhere.get_conversation_history(agent.agent_id, "s")))
                    expected = dialogue("since?", "after?")
                    acknowledged += len(expected)
                    lost += sum(not found[text] for text in expected)
                    doubled += sum(times - (text in expected) for text, times in found.items())
            mine.close()
    outcome = Outcome(f"{flavour}: a deletion across an outage", acknowledged, lost, doubled, failed, None, {})
    record_row(outcome)
    outcome.assert_nothing_lost()
