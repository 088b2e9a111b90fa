"""Each operation at 10, 100 and 1,000 turns: ``python -m benchmarks.operations [--turns 10,100,1000]``."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import part
from benchmarks.contenders import MEMORY, OURS
from benchmarks.pictures import figure as drawing
from benchmarks.pictures import legend, lines, logarithmic, save, tidy
from benchmarks.places import counted
from benchmarks.report import Report, Table, figure
from benchmarks.work import config, run_turns, seconds
from benchmarks.workers import Bench, Worker, at, fresh, working

LONG = (MEMORY, OURS)  # only these grow past
LONGEST_OF_OTHERS = 100
READS = ("get_tuple", "list(limit=10)", "history walk")
CHANGES = ("copy_thread", "prune", "delete_thread")
COPIES = 3


def grow(bench: Bench, thread_id: str, turns: int) -> None:
    run_turns(bench.graph, thread_id, turns)


def reads(bench: Bench, thread_id: str) -> list[float]:
    """Milliseconds of each way to read."""
    saver, of_thread = bench.saver, config(thread_id)
    return [
        1000 * statistics.median(seconds(lambda: saver.get_tuple(of_thread)) for _ in range(3)),
        1000 * statistics.median(seconds(lambda: list(saver.list(of_thread, limit=10))) for _ in range(3)),
        1000 * seconds(lambda: list(saver.list(of_thread))),
    ]


def changes(bench: Bench, thread_id: str, spare_id: str | None) -> list[float | None]:
    """Milliseconds of what changes a thread, ``None`` where a saver can't; the threads are gone afterwards."""
    copies = [f"{thread_id}-{number}" for number in range(COPIES)]
    try:
        copying = [seconds(lambda copy=copy: bench.saver.copy_thread(thread_id, copy)) for copy in copies]
    except NotImplementedError:
        copying, copies = [], []
    try:
        pruning = [seconds(lambda each=each: bench.saver.prune([each])) for each in copies[1:] or [thread_id]]
    except NotImplementedError:
        pruning = []
    deleted = [each for each in (spare_id, *copies[:1]) if each] or [thread_id]
    deleting = [seconds(lambda each=each: bench.saver.delete_thread(each)) for each in deleted]
    for each in (thread_id, *copies):
        bench.saver.delete_thread(each)
    return [1000 * statistics.median(taken) if taken else None for taken in (copying, pruning, deleting)]


def read_once(bench: Bench, thread_id: str, what: str) -> None:
    saver, of_thread = bench.saver, config(thread_id)
    {
        "get_tuple": lambda: saver.get_tuple(of_thread),
        "list(limit=10)": lambda: list(saver.list(of_thread, limit=10)),
        "history walk": lambda: list(saver.list(of_thread)),
        "copy_thread": lambda: saver.copy_thread(thread_id, f"{thread_id}-c"),
        "prune": lambda: saver.prune([f"{thread_id}-c"]),
        "delete_thread": lambda: saver.delete_thread(f"{thread_id}-c"),
    }[what]()


def round_trips(worker: Worker, thread_id: str) -> list[str]:
    """Of each operation of ours."""
    out = []
    with counted(worker.url) as (url, relay), at(worker.name, url) as through:
        for _ in range(2):  # scripts are known from the second time on
            out = []
            for what in (*READS, *CHANGES):
                relay.reset_counts()
                through.do(read_once, thread_id, what)
                out.append(str(relay.round_trips))
    return out


def measure(options: part.Options) -> Report:
    names, left_out = part.chosen(options)
    sizes = options.turns = options.turns or ([10, 100] if options.quick else [10, 100, 1000])
    rounds = options.rounds or (2 if options.quick else 3)
    found: dict[str, dict[int, list[Any]]] = {name: {} for name in names}
    trips: dict[int, list[str]] = {}
    with working(names) as workers:
        for turns in sizes:
            racing = [each for each in workers if turns <= LONGEST_OF_OTHERS or each.name in LONG]
            thread = fresh(str(turns))
            spare = {worker.name: fresh(f"{turns}-spare") for worker in racing if worker.name not in LONG}
            for worker in racing:
                worker.do(grow, thread, turns)
                if worker.name in spare:
                    worker.do(grow, spare[worker.name], turns)
            taken = [{worker.name: worker.do(reads, thread) for worker in racing} for _ in range(rounds)]
            for worker in racing:
                if worker.name == OURS:
                    trips[turns] = round_trips(worker, thread)
                medians = [
                    statistics.median(each) for each in zip(*(one[worker.name] for one in taken), strict=True)
                ]
                found[worker.name][turns] = medians + worker.do(changes, thread, spare.get(worker.name))
    report = Report(left_out=left_out)
    columns = ["saver", "turns", *READS, *CHANGES]
    rows = []
    for name in names:
        for turns, cells in found[name].items():
            rows.append([name, str(turns), *("–" if each is None else figure(each) for each in cells)])
    note = f"–: the saver has no such method. Only InMemorySaver and RedisSaver go past {LONGEST_OF_OTHERS} turns."
    report.tables.append(Table("Milliseconds of each operation on a thread of so many turns", columns, rows, note))
    if trips:
        rows = [[str(turns), *cells] for turns, cells in trips.items()]
        report.tables.append(Table("Round trips of RedisSaver", ["turns", *READS, *CHANGES], rows))
    _draw(options, found)
    report.pictures["operations.png"] = "Milliseconds of six operations against the length of the thread"
    return report


def _draw(options: part.Options, found: dict[str, dict[int, list[Any]]]) -> None:
    out, axes = drawing(2, 3, 800)
    for number, (axis, what) in enumerate(zip(axes, (*READS, *CHANGES), strict=True)):
        curves = {
            name: (
                [t for t, cells in sizes.items() if cells[number]],
                [c[number] for c in sizes.values() if c[number]],
            )
            for name, sizes in found.items()
        }
        lines(axis, {name: curve for name, curve in curves.items() if curve[0]})
        logarithmic(axis, options.turns)
        tidy(axis, f"{what}, ms", "turns of the thread")
    legend(out, axes[0])
    save(out, options.pictures / "operations.png")


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--turns", type=part.numbers, help="lengths of threads")
    part.main(measure, arguments)
