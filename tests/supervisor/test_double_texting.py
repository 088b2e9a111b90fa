"""Two concurrent runs on one thread: the second is refused or waits, in threads, tasks and processes alike."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import ConfigurationError, ThreadBusyError
from ecowas_lc.history import history_factory
from ecowas_lc.supervisor import build_supervisor, double_texting
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer, wait_until
from tests.supervisor.conftest import Graph, asked, in_thread


@pytest.fixture(params=["redis", "memory"])
def saver(request: pytest.FixtureRequest, redis_server: RunningServer, prefix: str) -> Any:
    return InMemorySaver() if request.param == "memory" else RedisSaver.from_url(redis_server.url, prefix=prefix)


def supervisor(saver: Any, script: Any = None, **options: Any) -> tuple[Graph, ScriptedModel]:
    model = ScriptedModel(script=by_speaker({"energy": script} if script else {}))
    return build_supervisor(model, router=FixedRouter(), checkpointer=saver, **options), model


def texts(graph: Graph, thread: str = "t") -> list[str]:
    return [message.text for message in graph.get_state(in_thread(thread)).values["messages"]]


def test_the_second_is_refused(saver: Any) -> None:
    """With "refuse" it raises a named error and stores nothing; other threads and the next turn are unaffected."""
    begun, go_on = threading.Event(), threading.Event()

    def script(messages: list[BaseMessage]) -> str:
        if "slow" in messages[-1].text:
            begun.set()
            assert go_on.wait(30)
        return "Done."

    graph, model = supervisor(saver, script, on_busy="refuse")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(graph.invoke, asked("energy: slow?"), in_thread("t"))
        assert begun.wait(30)
        with pytest.raises(ThreadBusyError, match="'t'"):
            graph.invoke(asked("energy: b?"), in_thread("t"))
        with pytest.raises(ThreadBusyError):
            asyncio.run(graph.ainvoke(asked("energy: b?"), in_thread("t")))
        graph.invoke(asked("energy: elsewhere?"), in_thread("u"))
        go_on.set()
        first.result(30)
    graph.invoke(asked("energy: c?"), in_thread("t"))
    assert texts(graph) == ["energy: slow?", "Done.", "energy: c?", "Done."]
    assert len(model.calls) == 3


def test_waiting_has_an_end(saver: Any) -> None:
    """With "queue" it waits as long as configured, then raises the same error."""
    begun, go_on = threading.Event(), threading.Event()

    def script(messages: list[BaseMessage]) -> str:
        begun.set()
        assert go_on.wait(30)
        return "Done."

    graph, _ = supervisor(saver, script, on_busy="queue", busy_wait_seconds=0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(graph.invoke, asked("energy: a?"), in_thread("t"))
        assert begun.wait(30)
        with pytest.raises(ThreadBusyError, match=r"waited 0\.1 seconds"):
            graph.invoke(asked("energy: b?"), in_thread("t"))
        go_on.set()
        first.result(30)


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_questions_at_once_are_answered_in_turn(redis_server: RunningServer, prefix: str, how: str) -> None:
    """Three questions posted at once leave six messages in the thread and in the history, none twice."""
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    histories = history_factory(redis_server.url, prefix=prefix)
    graph, model = supervisor(saver, "Done.", on_busy="queue", history_factory=histories)
    model.seconds = 0.05
    questions = [asked(f"energy: {number}?") for number in range(3)]
    if how == "threads":
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda question: graph.invoke(question, in_thread("t")), questions))
    else:

        async def all_at_once() -> None:
            await asyncio.gather(*(graph.ainvoke(question, in_thread("t")) for question in questions))

        asyncio.run(all_at_once())
    assert model.most_at_once == 1
    assert len(texts(graph)) == 6
    assert [message.text for message in histories("supervisor", "t").messages] == texts(graph)


HOLDING = """
import sys, time
from ecowas_lc import RedisSaver
assert RedisSaver.from_url(sys.argv[1], prefix=sys.argv[2]).leases.hold("t", "another process", 2.0)
print("held", flush=True)
time.sleep(60)
"""


def test_other_processes_are_told(redis_server: RunningServer, prefix: str) -> None:
    """Runs in other processes count as well; a killed one blocks others only for a short time."""
    graph, _ = supervisor(RedisSaver.from_url(redis_server.url, prefix=prefix), on_busy="refuse")
    command = [sys.executable, "-c", HOLDING, redis_server.url, prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        os.kill(other.pid, signal.SIGKILL)
    with pytest.raises(ThreadBusyError):
        graph.invoke(asked("energy: a?"), in_thread("t"))

    def is_free() -> bool:
        try:
            graph.invoke(asked("energy: a?"), in_thread("t"))
        except ThreadBusyError:
            return False
        return True

    wait_until(is_free, "the thread is free again")


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_long_run_keeps_its_thread(
    monkeypatch: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str, how: str
) -> None:
    """The lease is renewed for as long as the run lasts."""
    monkeypatch.setattr(double_texting, "_LEASE_SECONDS", 0.3)
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    graph, model = supervisor(saver, "Done.", on_busy="refuse")
    model.seconds = 1.2
    outcome: list[Any] = []

    def run() -> None:
        if how == "sync":
            outcome.append(graph.invoke(asked("energy: a?"), in_thread("t")))
        else:
            outcome.append(asyncio.run(graph.ainvoke(asked("energy: a?"), in_thread("t"))))

    running = threading.Thread(target=run)
    running.start()
    wait_until(lambda: bool(model.calls), "it has begun")
    taken = 0
    while running.is_alive():
        taken += saver.leases.hold("t", "other", 0.01) and not outcome and bool(running.is_alive())
        running.join(0.1)
    assert outcome
    assert taken <= 1, "others got the thread in the middle of the run"


def test_what_is_no_policy_is_refused() -> None:
    """A misspelt policy is found when the graph is built."""
    for options in ({"on_busy": "wait"}, {"busy_wait_seconds": 0}):
        with pytest.raises(ConfigurationError):
            supervisor(InMemorySaver(), **options)
