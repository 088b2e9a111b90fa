"""Run as a program: a turn on Redis, in children that die after their nth write and others that continue it.

Arguments: url, prefix, sync or async, durability. For each point of death it prints the broken rules, then the
number of points. Each child is forked from a process that has imported everything and has no threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.types import Command

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.supervisor.conftest import Graph, asked, in_thread

SPEAKERS = ("supervisor", "energy", "digital")
_TOKEN = re.compile(r"«[^»]+»")


class Ledger:
    """A log file of finished tasks and acknowledged writes, one per line; kills after the nth write."""

    def __init__(self, path: Path, dies_after: int) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._left = dies_after
        self._stored: set[str] = set()

    def ran(self, what: str) -> str:
        os.write(self._file, f"ran «{what}»\n".encode())
        return f"«{what}»"

    def wrote(self, value: object, config: Any = None, checkpoint_id: str | None = None) -> None:
        """Log a write; with ``durability="async"`` it counts once the writes that it depends on are stored too."""
        place = (config or {}).get("configurable", {})
        parents = dict(place.get("checkpoint_map") or {})
        stands_on = {*parents.values(), *([place["checkpoint_id"]] if place.get("checkpoint_id") else [])}
        for token in dict.fromkeys(_TOKEN.findall(repr(value))) if stands_on <= self._stored else ():
            os.write(self._file, f"ack {token}\n".encode())
        if checkpoint_id is not None:
            self._stored.add(checkpoint_id)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def crashing_saver(url: str, prefix: str, ledger: Ledger) -> RedisSaver:
    class Saver(RedisSaver):
        def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            done = super().put(config, checkpoint, metadata, new_versions)
            ledger.wrote(checkpoint["channel_values"], config, checkpoint["id"])
            return done

        async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            done = await super().aput(config, checkpoint, metadata, new_versions)
            ledger.wrote(checkpoint["channel_values"], config, checkpoint["id"])
            return done

        def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            super().put_writes(config, writes, task_id, task_path)
            ledger.wrote(writes, config)

        async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            await super().aput_writes(config, writes, task_id, task_path)
            ledger.wrote(writes, config)

    return Saver.from_url(url, prefix=prefix)


def crashing_histories(url: str, prefix: str, ledger: Ledger) -> Callable[[str, str], Any]:
    class History(RedisChatMessageHistory):
        def add_messages(self, messages: Sequence[BaseMessage], **options: Any) -> None:
            super().add_messages(messages, **options)
            ledger.wrote("")

        async def aadd_messages(self, messages: Sequence[BaseMessage], **options: Any) -> None:
            await super().aadd_messages(messages, **options)
            ledger.wrote("")

    return lambda agent, session: History(agent, session, url=url, prefix=prefix)


def supervisor(url: str, prefix: str, ledger: Ledger) -> Graph:
    """Return a graph with two groups, one with tools that do something, the other held back, and a synthesis."""

    @tool
    def pay(to: str) -> str:
        """Pay a person."""
        return ledger.ran(f"pay {to}")

    @tool
    def look_up(what: str) -> str:
        """Look something up."""
        return ledger.ran(f"look up {what}")

    def energy(messages: list[BaseMessage]) -> AIMessage:
        results = [message for message in messages if isinstance(message, ToolMessage)]
        told = ledger.ran(f"energy {len(results)}")
        if results:
            return AIMessage(f"{told} after {' '.join(sorted(result.text for result in results))}")
        calls = [
            {"name": "pay", "args": {"to": "Accra"}, "id": "c1"},
            {"name": "look_up", "args": {"what": "tariff"}, "id": "c2"},
        ]
        return AIMessage(told, tool_calls=calls)

    model = ScriptedModel(
        script=by_speaker(
            {
                "energy": energy,
                "digital": lambda _: ledger.ran("digital"),
                "synthesis": lambda _: {
                    "views": {"energy": "E.", "digital": "D."},
                    "answer": f"{ledger.ran('synthesis')} So.",
                },
            }
        ),
        structured=True,
        tools=True,
    )
    return build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=crashing_saver(url, prefix, ledger),
        history_factory=crashing_histories(url, prefix, ledger),
        tools={"energy": [pay, look_up]},
        interrupt_before_release=["digital"],
    )


def turn(graph: Graph, how: str, durability: Any) -> None:
    """Ask if nothing has been asked, decide on what waits, and continue what is unfinished, until it is done."""
    config = in_thread("s")

    def run(given: Any) -> None:
        if how == "sync":
            graph.invoke(given, config, durability=durability)
        else:
            asyncio.run(graph.ainvoke(given, config, durability=durability))

    for _ in range(6):
        state = graph.get_state(config)
        if state.interrupts:
            run(Command(resume={one.id: "approve" for one in state.interrupts}))
        elif state.metadata is None:
            run(asked("energy+digital: a?"))
        elif not state.tasks and state.values.get("messages"):
            return
        else:
            run(None)
    raise AssertionError(f"the turn does not come to its end: {graph.get_state(config).next}")


def outcome(url: str, prefix: str) -> dict[str, Any]:
    saver = RedisSaver.from_url(url, prefix=prefix)
    found = saver.get_tuple(in_thread("s"))  # type: ignore[arg-type]
    assert found is not None
    told = {
        speaker: [m.text for m in RedisChatMessageHistory(speaker, "s", url=url, prefix=prefix).messages]
        for speaker in SPEAKERS
    }
    return {"thread": [m.text for m in found.checkpoint["channel_values"]["messages"]], **told}


def child(work: Callable[[], None]) -> int:
    """Do something in a forked process; how it ended."""
    if (pid := os.fork()) == 0:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def broken_rules(lines: list[str]) -> list[str]:
    """Return what ran although the server had already acknowledged it."""
    acknowledged: set[str] = set()
    again: list[str] = []
    for line in lines:
        kind, _, what = line.partition(" ")
        if kind == "ack":
            acknowledged.add(what)
        elif what in acknowledged:
            again.append(what)
    return again


def main(url: str, prefix: str, how: str, durability: str) -> None:
    folder = Path(tempfile.mkdtemp())
    expected: str | None = None
    for n in range(200):  # 0: an uninterrupted run, to compare with
        place, ledger, result = f"{prefix}-{n}", folder / f"ledger{n}", folder / f"result{n}"

        def asks(dies_after: int, place: str = place, ledger: Path = ledger) -> None:
            turn(supervisor(url, place, Ledger(ledger, dies_after)), how, durability)

        def looks(place: str = place, result: Path = result) -> None:
            result.write_text(json.dumps(outcome(url, place)))

        died = child(lambda n=n, asks=asks: asks(n))  # type: ignore[misc]
        if died not in (0, -signal.SIGKILL):
            print(f"{n}: ended with {died}")
        if died:
            goes_on = child(lambda asks=asks: asks(0))  # type: ignore[misc]
            if goes_on:
                print(f"{n}: going on ended with {goes_on}")
        child(looks)
        found = result.read_text() if result.exists() else "nothing"
        expected = expected or found
        if found != expected:
            print(f"{n}: {found} instead of {expected}")
        for what in broken_rules(ledger.read_text().splitlines()):
            print(f"{n}: {what} ran again")
        if n and not died:
            break
    print(f"places {n - 1}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
