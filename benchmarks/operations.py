"""Each operation at 10, 100 and 1,000 turns: ``python -m benchmarks.operations [--turns 10,100,1000]``."""

from __future__ import annotations

import statistics
from itertools import zip_longest
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks import part
from benchmarks.contenders import MEMORY, OURS
from benchmarks.pictures import figure as drawing
from benchmarks.pictures import legend, lines, logarithmic, save, tidy
from benchmarks.places import counted
from benchmarks.report import Bound, Report, Table, figure
from benchmarks.work import config, run_turns, seconds
from benchmarks.workers import Bench, Worker, at, fresh, working

LONG = (MEMORY, OURS)  # only these grow past
LONGEST_OF_OTHERS = 100
READS = ("get_tuple", "list(limit=10)", "history walk")
CHANGES = ("copy_thread", "prune", "delete_thread")
COPIES = 3
WALKED_OFTEN = 100  # turns; a longer walk of InMemorySaver takes a minute and more, so it is timed once
MOST_MILLISECONDS = {"list(limit=10)": 60, "history walk": 6_000}  # of a thread of 1,000 turns
MOST_READ = 2.0  # bytes of a first get_tuple, against those of the values as langgraph serialises them


def grow(bench: Bench, thread_id: str, turns: int) -> None:
    run_turns(bench.graph, thread_id, turns)


def reads(bench: Bench, thread_id: str, walks: bool) -> list[float]:
    """Milliseconds of each way to read; without ``walks``, all but the last."""
    saver, of_thread = bench.saver, config(thread_id)
    return [
        1000 * statistics.median(seconds(lambda: saver.get_tuple(of_thread)) for _ in range(3)),
        1000 * statistics.median(seconds(lambda: list(saver.list(of_thread, limit=10))) for _ in range(3)),
        *([1000 * seconds(lambda: list(saver.list(of_thread)))] if walks else []),
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


def bytes_of(bench: Bench, thread_id: str) -> int:
    """How long a thread's latest checkpoint is, serialised by langgraph."""
    found = bench.saver.get_tuple(config(thread_id))
    return len(JsonPlusSerializer().dumps_typed([found.checkpoint, found.metadata])[1])


def first_read(worker: Worker, thread_id: str) -> tuple[int, int, int]:
    """What a first get_tuple of a new process takes: round trips, bytes received, bytes of the checkpoint."""
    with counted(worker.url) as (url, relay), at(worker.name, url) as new:
        new.do(read_once, fresh("nothing"), "get_tuple")  # connects
        relay.reset_counts()
        new.do(read_once, thread_id, "get_tuple")
        return relay.round_trips, relay.received, new.do(bytes_of, thread_id)


def measure(options: part.Options) -> Report:
    names, left_out = part.chosen(options)
    sizes = options.turns = options.turns or ([10, 100] if options.quick else [10, 100, 1000])
    rounds = options.rounds or (2 if options.quick else 3)
    found: dict[str, dict[int, list[Any]]] = {name: {} for name in names}
    trips: dict[int, list[str]] = {}
    first: dict[int, tuple[int, int, int]] = {}
    with working(names) as workers:
        for turns in sizes:
            racing = [each for each in workers if turns <= LONGEST_OF_OTHERS or each.name in LONG]
            thread = fresh(str(turns))
            spare = {worker.name: fresh(f"{turns}-spare") for worker in racing if worker.name not in LONG}
            for worker in racing:
                worker.do(grow, thread, turns)
                if worker.name in spare:
                    worker.do(grow, spare[worker.name], turns)
            taken: dict[str, list[list[float]]] = {worker.name: [] for worker in racing}
            for number in range(rounds):
                walks = number == 0 or turns <= WALKED_OFTEN
                for worker in racing:
                    taken[worker.name].append(worker.do(reads, thread, walks))
            for worker in racing:
                if worker.name == OURS:
                    trips[turns] = round_trips(worker, thread)
                    first[turns] = first_read(worker, thread)
                each_call = zip_longest(*taken[worker.name])
                medians = [statistics.median(each for each in call if each is not None) for call in each_call]
                found[worker.name][turns] = medians + worker.do(changes, thread, spare.get(worker.name))
    report = Report(left_out=left_out)
    columns = ["saver", "turns", *READS, *CHANGES]
    rows = []
    for name in names:
        for turns, cells in found[name].items():
            rows.append([name, str(turns), *("–" if each is None else figure(each) for each in cells)])
    note = f"–: the saver has no such method. Only InMemorySaver and RedisSaver go past {LONGEST_OF_OTHERS} turns."
    report.tables.append(
        Table("Milliseconds per operation, by the number of turns in the thread", columns, rows, note)
    )
    if trips:
        rows = [[str(turns), *cells] for turns, cells in trips.items()]
        report.tables.append(Table("Round trips of RedisSaver", ["turns", *READS, *CHANGES], rows))
        longest = max(first)
        for what, most in MOST_MILLISECONDS.items():
            measured = found[OURS][longest][READS.index(what)]
            report.bounds.append(Bound(f"{what} of {longest:,} turns", most, measured, " ms"))
        number, received, size = first[longest]
        what = f"first get_tuple of {longest:,} turns in a new process"
        report.bounds += [
            Bound(f"{what}: round trips", 1, number),
            Bound(f"{what}: bytes, against the checkpoint's", MOST_READ, received / size, " ×"),
        ]
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
