"""The supervisor on a real server: sessions that outlive processes, however they end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from langgraph.types import Command

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from tests.fixtures.scripted_model import speaker_of
from tests.fixtures.servers import RunningServer
from tests.supervisor.conftest import Ask, in_thread
from tests.supervisor.crashing import supervisor


def texts(server: RunningServer, prefix: str, agent: str) -> list[str]:
    history = RedisChatMessageHistory(agent, "s", url=server.url, prefix=prefix)
    return [message.text for message in history.messages]


@pytest.mark.timeout(300)
@pytest.mark.rights("allkeys")  # a prefix for each place to die in
@pytest.mark.parametrize(
    ("how", "durability", "least"),
    [
        ("sync", "sync", 20),
        ("async", "sync", 20),
        ("sync", "async", 20),
        ("async", "async", 20),
        ("sync", "exit", 5),
    ],
)
def test_a_killed_process_repeats_nothing(
    redis_server: RunningServer, prefix: str, how: str, durability: str, least: int
) -> None:
    """SIGKILL after any write of a turn: nothing that Redis acknowledged runs again, and the outcome is the same.

    The turn has two groups, tools with side effects, a held answer and a synthesis.
    """
    command = [sys.executable, "-m", "tests.supervisor.crash_run", redis_server.url, prefix, how, durability]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    *broken, places = done.stdout.splitlines()
    assert broken == [], done.stderr[-3000:]
    assert int(places.removeprefix("places ")) >= least


HELD = """
import sys
from tests.supervisor.conftest import asked, in_thread
from tests.supervisor.crashing import supervisor
graph, _ = supervisor(sys.argv[1], sys.argv[2], interrupt_before_release=["protocol"])
graph.invoke(asked("energy+protocol: a?"), in_thread("s"))
"""


def test_a_held_answer_is_released_in_another_process(ask: Ask, redis_server: RunningServer, prefix: str) -> None:
    """The process that asked has ended; its thread never expires, and days later another takes the decision."""
    command = [sys.executable, "-c", HELD, redis_server.url, prefix]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert texts(redis_server, prefix, "protocol") == []
    graph, model = supervisor(redis_server.url, prefix, interrupt_before_release=["protocol"])
    assert isinstance(graph.checkpointer, RedisSaver)
    assert graph.checkpointer.ttl("s") is None
    [request] = graph.get_state(in_thread("s")).interrupts
    assert (request.value["group"], request.value["answer"]) == ("protocol", "protocol speaks.")
    result = ask(graph, Command(resume={"action": "edit", "text": "By precedence."}), "s")
    assert [speaker_of(prompt) for prompt in model.calls] == ["synthesis"]
    assert set(result["synthesis"]["views"]) == {"energy", "protocol"}
    assert texts(redis_server, prefix, "protocol") == ["energy+protocol: a?", "By precedence."]


def test_everything_in_a_thread_can_be_read_back(ask: Ask, redis_server: RunningServer, prefix: str) -> None:
    """Every turn of every kind passes the strict checkpointer, and another graph continues it."""
    held: dict[str, Any] = {"interrupt_before_release": ["protocol"], "num_ctx": 1024}
    graph, _ = supervisor(redis_server.url, prefix, **held)
    for question in ("hello", "energy: a?", "energy+digital: b?", "energy+protocol: c?"):
        ask(graph, question, "s")
    assert [i.value["group"] for i in graph.get_state(in_thread("s")).interrupts] == ["protocol"]

    later, model = supervisor(redis_server.url, prefix, **held)
    result = ask(later, Command(resume="approve"), "s")
    assert result["reports"]["protocol"]["released"] == "approved"
    for turn in range(6):
        result = ask(later, f"energy: {turn} " + "and so on " * 12, "s")
    assert later.get_state(in_thread("s")).values["summary"]["text"]
    assert len(result["messages"]) == 20
    assert model.calls
