"""Many conversations at once, in threads and in asyncio: ``python -m benchmarks.concurrency [--at 1,10,100]``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import part
from benchmarks.contenders import FLOOR, IN_EACH_ROUND, MEMORY, OURS, WITH_FLOOR
from benchmarks.pictures import figure as drawing
from benchmarks.pictures import legend, lines, logarithmic, save, tidy
from benchmarks.report import Bound, Report, Table, against, figure
from benchmarks.work import build, config, question
from benchmarks.workers import ROUNDS_OF_OTHERS, Bench, TaskFailedError, fresh, working

TURNS = {1: 60, 10: 20, 100: 3, 1000: 1}  # of each conversation
LARGE = 100  # conversations; more of them are measured once with the other savers, which take long
MOST_SECONDS = 20  # for one of these measurements, as the one before lets expect

THREADS, ASYNCIO, RARELY = "threads", "asyncio", "asyncio with rare garbage collection"
RARE = 50_000, 20, 100  # thresholds of Python's garbage collector, which are 700, 10, 10 by default

# The least share of InMemorySaver's turns a second; and of the time of 99 of 100 turns, the most.
LEAST_SHARE = {(ASYNCIO, 100): 0.72, (ASYNCIO, 1000): 0.72, (THREADS, 100): 0.85}
LEAST_SHARE |= {(RARELY, 100): 0.72, (RARELY, 1000): 0.72}
MOST_OF_P99 = {(ASYNCIO, 1000): 1.3, (RARELY, 1000): 1.3}

Outcome = list[float]  # turns a second, then milliseconds that half and 99 of 100 turns took at most


def outcome(taken: float, latencies: list[float]) -> Outcome:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return [len(latencies) / taken, 1000 * cuts[49], 1000 * cuts[98]]


def in_threads(bench: Bench, name: str, conversations: int, turns: int) -> Outcome:
    """A thread for each conversation."""
    graph = bench.graph
    bench.rehearse_chat(turns)

    def converse(number: int) -> list[float]:
        taken = []
        for _ in range(turns):
            begun = time.perf_counter()
            graph.invoke(question(), config(f"{name}-{number}"))
            taken.append(time.perf_counter() - begun)
        return taken

    with ThreadPoolExecutor(conversations) as pool:
        begun = time.perf_counter()
        every = list(pool.map(converse, range(conversations)))
        taken = time.perf_counter() - begun
    for number in range(conversations):
        bench.saver.delete_thread(f"{name}-{number}")
    return outcome(taken, [each for some in every for each in some])


def in_asyncio(bench: Bench, name: str, conversations: int, turns: int) -> Outcome:
    """A task for each conversation, all on one event loop."""
    bench.rehearse_chat(max(3, turns))
    return asyncio.run(_in_asyncio(bench, name, conversations, turns))


async def _in_asyncio(bench: Bench, name: str, conversations: int, turns: int) -> Outcome:
    async with bench.contender.aopened(bench.url) as saver:
        graph = build(saver, asynchronous=True)

        async def converse(thread_id: str, turns: int) -> list[float]:
            taken = []
            for _ in range(turns):
                begun = time.perf_counter()
                await graph.ainvoke(question(), config(thread_id))
                taken.append(time.perf_counter() - begun)
            return taken

        await converse(f"{name}-warm", 3)
        begun = time.perf_counter()
        every = await asyncio.gather(*(converse(f"{name}-{number}", turns) for number in range(conversations)))
        taken = time.perf_counter() - begun
        for number in (*range(conversations), "warm"):
            await saver.adelete_thread(f"{name}-{number}")
    return outcome(taken, [each for some in every for each in some])


def in_asyncio_rarely(bench: Bench, name: str, conversations: int, turns: int) -> Outcome:
    """As :func:`in_asyncio`, with thresholds of the garbage collector as services with many requests set them."""
    usual = gc.get_threshold()
    gc.set_threshold(*RARE)
    try:
        return in_asyncio(bench, name, conversations, turns)
    finally:
        gc.set_threshold(*usual)


MODES = {THREADS: in_threads, ASYNCIO: in_asyncio, RARELY: in_asyncio_rarely}


def _is_measured(name: str, mode: str, size: int) -> bool:
    return mode != RARELY or (size >= LARGE and name in IN_EACH_ROUND)


def measure(options: part.Options) -> Report:
    names, left_out = part.chosen(options, *WITH_FLOOR)
    sizes = options.at or ([1, 10, 100] if options.quick else [1, 10, 100, 1000])
    rounds = options.rounds or (1 if options.quick else 3)
    found: dict[tuple[str, str, int], list[Outcome]] = {}
    failed: dict[tuple[str, str], str] = {}
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(working(names))
        for size in sizes:
            for number in range(rounds):
                for mode, task in MODES.items():
                    for worker in workers:
                        others = 1 if size > LARGE else ROUNDS_OF_OTHERS
                        if (worker.name, mode) in failed or not worker.takes_part(number, others):
                            continue
                        if not _is_measured(worker.name, mode, size):
                            continue
                        turns = TURNS.get(size, 1)
                        slowest = found.get((worker.name, mode, sizes[max(0, sizes.index(size) - 1)]), [[1e9]])
                        if number == 0 and size * turns / slowest[-1][0] > MOST_SECONDS:
                            failed[worker.name, mode] = f"{worker.name} with {size:,} in {mode}: takes too long"
                            continue
                        try:
                            outcomes = worker.do(task, fresh(f"{mode}-{size}-{number}"), size, turns)
                        except TaskFailedError as error:
                            failed[worker.name, mode] = str(error)[:160]
                            continue
                        found.setdefault((worker.name, mode, size), []).append(outcomes)
    report = Report(left_out=[*left_out, *dict.fromkeys(failed.values())])
    medians = {
        key: [statistics.median(each) for each in zip(*outcomes, strict=True)] for key, outcomes in found.items()
    }
    for mode in MODES:
        shown = [size for size in sizes if any((name, mode, size) in medians for name in names)]
        rows = []
        for name in names:
            cells = [_cell(medians.get((name, mode, size))) for size in shown]
            if mode != RARELY or name in IN_EACH_ROUND:
                rows.append([name, *cells])
        title = f"Conversations at once, in {mode}: turns a second (p50, p99 of a turn in ms)"
        report.tables.append(Table(title, ["saver", *(f"{size:,}" for size in shown)], rows))
    report.bounds += _bounds(found)
    _draw(options, medians, names, sizes)
    report.pictures["concurrency.png"] = (
        "Turns a second, and the time of 99 of 100 turns, against conversations at once"
    )
    return report


def _bounds(found: dict[tuple[str, str, int], list[Outcome]]) -> list[Bound]:
    bounds = []
    for what, number, at_most in (
        ("time per turn", 0, {key: 1 / share for key, share in LEAST_SHARE.items()}),
        ("time of 99 of 100 turns", 2, MOST_OF_P99),
    ):
        for (mode, size), most in at_most.items():
            mine, floor, theirs = (found.get((each, mode, size), []) for each in (OURS, FLOOR, MEMORY))
            if not mine or not theirs:
                continue
            ratio, least = (_ratio(some, theirs, number) if some else None for some in (mine, floor))
            assert ratio is not None
            name = f"{what}, {size:,} conversations in {mode}, against {MEMORY}"
            bounds.append(Bound(name, round(most, 2), ratio, " ×", least))
    return bounds


def _ratio(mine: list[Outcome], theirs: list[Outcome], number: int) -> float:
    ratio = against([each[number] for each in mine], [each[number] for each in theirs])
    return 1 / ratio if number == 0 else ratio  # turns a second are the better the more there are


def _cell(values: Outcome | None) -> str:
    return "–" if values is None else f"{figure(values[0])} ({figure(values[1])}, {figure(values[2])})"


def _draw(options: part.Options, medians: dict[Any, Outcome], names: list[str], sizes: list[int]) -> None:
    out, axes = drawing(2, 2, 860)
    places = [(mode, what) for what in (0, 2) for mode in (THREADS, ASYNCIO)]
    for axis, (mode, what) in zip(axes, places, strict=True):
        for name in names:
            known = [size for size in sizes if (name, mode, size) in medians]
            lines(axis, {name: (known, [medians[name, mode, size][what] for size in known])})
        logarithmic(axis, sizes, up=bool(what))
        if not what:
            axis.set_ylim(bottom=0)
        title = "Turns a second" if what == 0 else "99 of 100 turns took at most, ms"
        tidy(axis, f"{title}, {mode}", "conversations at once")
    legend(out, axes[0])
    save(out, options.pictures / "concurrency.png")


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--at", type=part.numbers, help="how many conversations")
    part.main(measure, arguments)
