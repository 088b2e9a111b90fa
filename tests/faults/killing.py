"""Run as a program: kills an application at every step of its talk with Redis and starts it again.

Arguments: url, prefix, first, step. A process that has imported everything forks for each kill point; in the
child, the nth time that a command is about to be sent or its reply to be read is its last. Prints one JSON object
a line: ``{"points": …}`` for the uninterrupted runs, then ``{"n": …, "differs": …}`` for each point, first of
applications that await and then of others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from asyncio.selector_events import _SelectorSocketTransport
from functools import partial
from itertools import product
from typing import Any

import redis
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
    # Of asyncio's connections, the socket's own transport: whatever writes to it and reads from it.
    methods = (
        (redis.Connection, ("send_packed_command", "read_response")),
        (_SelectorSocketTransport, ("write", "writelines", "_read_ready")),
    )
    for cls, names in methods:
        for name in names:
            _count(cls, name, countdown)


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
    """Ask the unanswered questions, as an application does that starts again."""
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
    """Everything that an uninterrupted run and a killed one must have in common."""
    values = application(url, prefix).get_state(CONFIG).values
    histories = history_factory(url, prefix=prefix)
    texts = {speaker: [message.text for message in histories(speaker, "s").all_messages()] for speaker in SPEAKERS}
    reports = {group: report.get("answer") for group, report in values.get("reports", {}).items()}
    messages = [(message.type, message.text) for message in values["messages"]]
    return json.loads(json.dumps({"messages": messages, "reports": reports, "histories": texts}))


def durability_of(n: int) -> str:
    """Every third run writes its checkpoints asynchronously while it runs."""
    return "async" if n % 3 == 2 else "sync"


def run(url: str, prefix: str, n: int, *, awaits: bool) -> int:
    """One run, killed at its nth step (0 and below: never)."""
    countdown = Countdown(n)
    count_steps(countdown)
    graph = application(url, prefix)
    if awaits:
        asyncio.run(aconverse(graph, durability_of(n)))
    else:
        converse(graph, durability_of(n))
    return countdown.steps


def in_a_child(function: Any) -> tuple[int, Any]:
    """Run ``function`` in a separate process; return its result and how the process ended."""
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


def resumed(url: str, prefix: str, n: int, *, awaits: bool) -> dict[str, Any]:
    """The data after another process has continued from where the killed one stopped."""
    run(url, prefix, -n, awaits=awaits)
    return left(url, prefix)


def main(url: str, prefix: str, first: int, step: int) -> None:
    """See the module."""
    points: dict[tuple[bool, str], int] = {}
    expected = None
    for awaits, n in product((True, False), (0, -1)):  # of each durability
        place = f"{prefix}-{awaits}{n}"
        status, steps = in_a_child(partial(run, url, place, n, awaits=awaits))
        assert status == 0
        points[awaits, durability_of(n)] = steps
        _, found = in_a_child(partial(left, url, place))
        assert expected in (None, found)
        expected = found
    print(json.dumps({"points": sum(points.values()), "expected": expected}), flush=True)
    for awaits, n in product((True, False), range(first, max(points.values()) + 1, step)):
        if n > points[awaits, durability_of(n)]:
            continue
        place = f"{prefix}-{awaits}-{n}"
        status, _ = in_a_child(partial(run, url, place, n, awaits=awaits))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended, found = in_a_child(partial(resumed, url, place, n, awaits=awaits))
        differs = {} if found == expected else {"status": [status, ended], "found": found}
        print(json.dumps({"n": n, "awaits": awaits, "killed": killed, "differs": differs}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
