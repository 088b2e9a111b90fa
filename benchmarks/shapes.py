"""Wide and heavy steps: many tasks at once, and values of 1 MB: ``python -m benchmarks.shapes``."""

from __future__ import annotations

import asyncio
import operator
import os
import statistics
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from benchmarks import part
from benchmarks.contenders import CONTENDERS, FLOOR, MEMORY, OURS, WITH_FLOOR
from benchmarks.places import counted
from benchmarks.report import Bound, Report, Table, against, figure, times
from benchmarks.work import config, seconds, text
from benchmarks.workers import Bench, Worker, at, fresh, working

FEW, MANY = 6, 100
LARGE = 1_000_000
STEPS = 5
MOST_FLUSHES = {"asyncio": 15, "threads": 40}


class Spread(TypedDict):
    width: int
    answers: Annotated[list[str], operator.add]


class Heavy(TypedDict):
    load: bytes
    note: str


def _work(state: Any) -> dict[str, Any]:
    return {"answers": [text(200)]}


async def _awork(state: Any) -> dict[str, Any]:
    return _work(state)


def spreading(saver: Any, *, asynchronous: bool = False) -> Any:
    """Return a node that starts this number of tasks at once, each of which answers 200 characters."""
    builder = StateGraph(Spread)
    builder.add_node("spread", lambda state: {})
    builder.add_node("work", _awork if asynchronous else _work)
    builder.add_edge(START, "spread")
    builder.add_conditional_edges(
        "spread", lambda state: [Send("work", {}) for _ in range(state["width"])], ["work"]
    )
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


def carrying(saver: Any) -> Any:
    """Two nodes: one that changes a value of 1 MB when it is told to, and one that does not."""
    builder = StateGraph(Heavy)
    builder.add_node("change", lambda state: {"load": os.urandom(LARGE)} if state["note"] == "change" else {})
    builder.add_node("rest", lambda state: {"note": text(10)})
    builder.add_edge(START, "change").add_edge("change", "rest").add_edge("rest", END)
    return builder.compile(checkpointer=saver)


def spread(bench: Bench, thread_id: str, width: int) -> float:
    """Milliseconds of one run."""
    bench.rehearse(f"{width} tasks", lambda saver, own: spreading(saver).invoke({"width": width}, config(own)))
    graph = spreading(bench.saver)
    return 1000 * seconds(lambda: graph.invoke({"width": width}, config(thread_id)))


def flushes_in_threads(bench: Bench, thread_id: str, url: str) -> int:
    """How often ours sends in one step of many tasks in threads."""
    return asyncio.run(_flushes(bench, thread_id, url, asynchronous=False))


def flushes_in_asyncio(bench: Bench, thread_id: str, url: str) -> int:
    """How often ours sends in one step of many tasks in asyncio."""
    return asyncio.run(_flushes(bench, thread_id, url, asynchronous=True))


async def _flushes(bench: Bench, thread_id: str, url: str, *, asynchronous: bool) -> int:
    with counted(url) as (through, relay):
        async with bench.contender.aopened(through) as saver:
            graph = spreading(saver, asynchronous=asynchronous)
            for width in (2, MANY):
                relay.reset_counts()
                if asynchronous:
                    await graph.ainvoke({"width": width}, config(f"{thread_id}-{width}"))
                else:
                    await asyncio.to_thread(graph.invoke, {"width": width}, config(f"{thread_id}-{width}"))
            sent = relay.flushes
            for width in (2, MANY):
                await saver.adelete_thread(f"{thread_id}-{width}")
    return sent


def carry(bench: Bench, thread_id: str, note: str) -> float:
    """Milliseconds a turn, of some; the thread's first turn brings 1 MB, whatever is asked."""
    _rehearse(bench, note)
    graph = carrying(bench.saver)
    taken = [seconds(lambda: graph.invoke({"note": note}, config(thread_id))) for _ in range(STEPS)]
    return 1000 * statistics.median(taken)


def begin(bench: Bench, thread_id: str, note: str) -> None:
    _rehearse(bench, note)
    carrying(bench.saver).invoke({"note": "change"}, config(thread_id))


def _rehearse(bench: Bench, note: str) -> None:
    def work(saver: Any, thread_id: str) -> None:
        graph = carrying(saver)
        for each in ("change", *[note] * STEPS):
            graph.invoke({"note": each}, config(thread_id))

    bench.rehearse(note, work)


def forget(bench: Bench, thread_id: str) -> None:
    bench.saver.delete_thread(thread_id)


WIDE, CHANGED, UNCHANGED = f"fan-out to {MANY}", "1 MB, changed each turn", "1 MB, unchanged"
WORKS: dict[str, tuple[Callable[..., float], Any]] = {
    f"fan-out to {FEW}": (spread, FEW),
    WIDE: (spread, MANY),
    CHANGED: (carry, "change"),
    UNCHANGED: (carry, "keep"),
}
MOST_OF_MEMORY = {WIDE: 1.15, CHANGED: 2.0, UNCHANGED: 1.5}  # the time of a turn, against InMemorySaver
MOST_KILOBYTES = 1_030  # sent, if 1 MB changes each turn


def travelled(worker: Worker) -> dict[str, tuple[float, float]]:
    """Round trips and kB sent a run, of each work."""
    if CONTENDERS[worker.name].needs in ("nothing", "file"):
        return {}
    out = {}
    with counted(worker.url) as (url, relay), at(worker.name, url) as through:
        for number, (what, (task, argument)) in enumerate(WORKS.items()):
            thread = fresh(f"counted-{number}")
            through.do(spread, f"{thread}-warm", argument if task is spread else 2)
            if task is carry:
                through.do(begin, thread, argument)
            relay.reset_counts()
            through.do(task, thread, argument)
            runs = 1 if task is spread else STEPS
            out[what] = relay.round_trips / runs, relay.sent / runs / 1000
            for each in (thread, f"{thread}-warm"):
                through.do(forget, each)
    return out


def measure(options: part.Options) -> Report:
    names, left_out = part.chosen(options, *WITH_FLOOR)
    rounds = options.rounds or (2 if options.quick else 7)
    taken: dict[tuple[str, str], list[float]] = {}
    with working(names) as workers:
        for worker in workers:
            worker.do(spread, fresh("warm"), 2)
            worker.do(forget, fresh("warm"))
        for number in range(rounds):
            for what, (task, argument) in WORKS.items():
                for worker in (each for each in workers if each.takes_part(number)):
                    thread = fresh(f"{number}")
                    if task is carry:
                        worker.do(begin, thread, argument)
                    taken.setdefault((worker.name, what), []).append(worker.do(task, thread, argument))
                    worker.do(forget, thread)
        passed = {worker.name: travelled(worker) for worker in workers}
        flushes = {
            mode: worker.do(task, fresh(f"flushes-{mode}"), worker.url)
            for worker in workers
            if worker.name == OURS
            for mode, task in (("asyncio", flushes_in_asyncio), ("threads", flushes_in_threads))
        }
    rows = []
    for name in names:
        cells = []
        for what in WORKS:
            cell = f"{figure(statistics.median(taken[name, what]))} ms"
            if MEMORY in names:
                cell += f", {times(against(taken[name, what], taken[MEMORY, what]))}"
            cells.append(cell)
        rows.append([name, *cells])
    report = Report(left_out=left_out)
    report.tables.append(Table("Milliseconds a turn, and the ratio to InMemorySaver", ["saver", *WORKS], rows))
    rows = [
        [
            name,
            *(f"{figure(sent[what][0])}, {figure(sent[what][1])} kB" if what in sent else "–" for what in WORKS),
        ]
        for name, sent in passed.items()
    ]
    report.tables.append(Table("Round trips a turn, and what was sent", ["saver", *WORKS], rows))
    if {OURS, MEMORY} <= set(names):
        for what, most in MOST_OF_MEMORY.items():
            ratio = against(taken[OURS, what], taken[MEMORY, what])
            floor = against(taken[FLOOR, what], taken[MEMORY, what]) if FLOOR in names else None
            report.bounds.append(Bound(f"{what}, against {MEMORY}", most, ratio, " ×", floor))
    if OURS in passed:
        report.bounds.append(Bound(f"sent, {CHANGED}", MOST_KILOBYTES, passed[OURS][CHANGED][1], " kB"))
    report.bounds += [
        Bound(f"flushes of a {WIDE}, in {mode}", MOST_FLUSHES[mode], sent) for mode, sent in flushes.items()
    ]
    return report


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
