"""Run as a program: kills an application at every step of its talk with Redis and starts it again.

Arguments: url, prefix, first, step. A process that has imported everything forks for each kill point; in the
child, the nth time that a command is about to be sent or its reply to be read is its last. Prints one JSON object
a line: ``{"points": …}`` for the uninterrupted run, then ``{"n": …, "differs": …}`` for each point.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from typing import Any

import redis
import redis.asyncio
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import history_factory
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker

QUESTIONS = ("energy: a?", "energy+digital: b?", "hello", "digital+minerals+energy: c?", "protocol: d?")
SPEAKERS = ("supervisor", "energy", "digital", "minerals", "protocol")
SYNTHESIS = {"views": {"energy": "E.", "digital": "D.", "minerals": "M."}, "answer": "So."}
CONFIG: Any = {"configurable": {"thread_id": "s"}}


class Countdown:
    """Counts steps, and kills the process at the last one as the kernel would; 0: never."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.steps = 0

    def __call__(self) -> None:
        self.steps += 1
        if self.steps == self.n:
            os.kill(os.getpid(), signal.SIGKILL)


def count_steps(countdown: Countdown) -> None:
    """Make every connection of this process count: before a command leaves, and before its reply is read."""
    plain = (redis.Connection, ("send_packed_command", "read_response"))
    for cls, names in (plain, (asyncio.StreamWriter, ("write", "writelines"))):
        for name in names:
            _count(cls, name, countdown)
    read = redis.asyncio.Connection.read_response

    async def read_counted(self: Any, *args: Any, **options: Any) -> Any:
        countdown()
        return await read(self, *args, **options)

    redis.asyncio.Connection.read_response = read_counted  # type: ignore[assignment]


def _count(cls: Any, name: str, countdown: Countdown) -> None:
    method = getattr(cls, name)

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        countdown()
        return method(self, *args, **options)

    setattr(cls, name, counted)


def application(url: str, prefix: str) -> Any:
    """A supervisor with a checkpointer and histories on one server."""
    saver = RedisSaver.from_url(url, prefix=prefix)
    model = ScriptedModel(script=by_speaker({"synthesis": SYNTHESIS}), structured=True)
    histories = history_factory(url, prefix=prefix)
    return build_supervisor(model, router=FixedRouter(), checkpointer=saver, history_factory=histories)


def converse(graph: Any, durability: str) -> None:
    """Ask what has not been answered yet, as an application does that starts again."""
    for position, question in enumerate(QUESTIONS):
        state = graph.get_state(CONFIG)
        asked = any(message.id == f"q{position}" for message in state.values.get("messages", []))
        if state.tasks:
            graph.invoke(None, CONFIG, durability=durability)
            asked = any(m.id == f"q{position}" for m in graph.get_state(CONFIG).values["messages"])
        if not asked:
            message = HumanMessage(question, id=f"q{position}")
            graph.invoke({"messages": [message]}, CONFIG, durability=durability)


async def aconverse(graph: Any, durability: str) -> None:
    """The same with ``await``."""
    for position, question in enumerate(QUESTIONS):
        state = await graph.aget_state(CONFIG)
        asked = any(message.id == f"q{position}" for message in state.values.get("messages", []))
        if state.tasks:
            await graph.ainvoke(None, CONFIG, durability=durability)
            asked = any(m.id == f"q{position}" for m in (await graph.aget_state(CONFIG)).values["messages"])
        if not asked:
            message = HumanMessage(question, id=f"q{position}")
            await graph.ainvoke({"messages": [message]}, CONFIG, durability=durability)


def left(url: str, prefix: str) -> dict[str, Any]:
    """All that an uninterrupted run and one that was killed must have in common."""
    values = application(url, prefix).get_state(CONFIG).values
    histories = history_factory(url, prefix=prefix)
    texts = {speaker: [message.text for message in histories(speaker, "s").all_messages()] for speaker in SPEAKERS}
    reports = {group: report.get("answer") for group, report in values.get("reports", {}).items()}
    messages = [(message.type, message.text) for message in values["messages"]]
    return json.loads(json.dumps({"messages": messages, "reports": reports, "histories": texts}))


def run(url: str, prefix: str, n: int) -> int:
    """One run, killed at its nth step; even ones await, and every third writes checkpoints as it goes on."""
    countdown = Countdown(n)
    count_steps(countdown)
    graph = application(url, prefix)
    durability = "async" if n % 3 == 2 else "sync"
    if n % 2:
        converse(graph, durability)
    else:
        asyncio.run(aconverse(graph, durability))
    return countdown.steps


def in_a_child(function: Any) -> tuple[int, Any]:
    """What ``function`` returns in a process of its own, and how that ended."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        code = 1
        try:
            os.write(write, json.dumps(function()).encode())
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return status, json.loads(text) if text else None


def resumed(url: str, prefix: str, n: int) -> dict[str, Any]:
    """What is left after another process went on where the killed one was."""
    run(url, prefix, -n)
    return left(url, prefix)


def main(url: str, prefix: str, first: int, step: int) -> None:
    """See the module."""
    points = 0
    expected = None
    for n, name in ((0, "await"), (-1, "plain")):
        status, steps = in_a_child(lambda n=n, name=name: run(url, f"{prefix}-{name}", n))
        assert status == 0
        points = max(points, steps)
        _, found = in_a_child(lambda name=name: left(url, f"{prefix}-{name}"))
        assert expected in (None, found)
        expected = found
    print(json.dumps({"points": points, "expected": expected}), flush=True)
    for n in range(first, points + 1, step):
        place = f"{prefix}-{n}"
        status, _ = in_a_child(lambda n=n, place=place: run(url, place, n))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended, found = in_a_child(lambda n=n, place=place: resumed(url, place, n))
        differs = {} if found == expected else {"status": [status, ended], "found": found}
        print(json.dumps({"n": n, "killed": killed, "differs": differs}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
