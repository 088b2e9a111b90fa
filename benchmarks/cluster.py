"""One server against a cluster of three primaries: ``python -m benchmarks.cluster``."""

from __future__ import annotations

import statistics

from benchmarks import part
from benchmarks.concurrency import in_asyncio, in_threads
from benchmarks.contenders import CLUSTER, OURS
from benchmarks.report import Report, Table, against, figure, times
from benchmarks.work import config, run_turns, seconds
from benchmarks.workers import Bench, fresh, working

SINGLE = OURS


def turns(bench: Bench, thread_id: str) -> float:
    """Milliseconds a turn of a thread of 30."""
    return 1000 * run_turns(bench.graph, thread_id, 30) / 30


def get_tuple(bench: Bench, thread_id: str) -> float:
    return 1000 * statistics.median(seconds(lambda: bench.saver.get_tuple(config(thread_id))) for _ in range(15))


def list_ten(bench: Bench, thread_id: str) -> float:
    listed = (seconds(lambda: list(bench.saver.list(config(thread_id), limit=10))) for _ in range(5))
    return 1000 * statistics.median(listed)


def list_all_threads(bench: Bench, thread_id: str) -> float:
    return 1000 * statistics.median(seconds(lambda: list(bench.saver.list(None, limit=10))) for _ in range(5))


def prune(bench: Bench, thread_id: str) -> float:
    return 1000 * seconds(lambda: bench.saver.prune([thread_id]))


def delete(bench: Bench, thread_id: str) -> float:
    return 1000 * seconds(lambda: bench.saver.delete_thread(thread_id))


def threads(bench: Bench, thread_id: str) -> float:
    """Milliseconds a turn, seen from outside."""
    return 1000 / in_threads(bench, f"{thread_id}-t", 10, 10)[0]


def tasks(bench: Bench, thread_id: str) -> float:
    return 1000 / in_asyncio(bench, f"{thread_id}-a", 10, 10)[0]


TASKS = {
    "a turn": turns,
    "get_tuple": get_tuple,
    "list(limit=10)": list_ten,
    "list of all threads, limit=10": list_all_threads,
    "prune": prune,
    "delete_thread": delete,
    "a turn, 10 threads at once": threads,
    "a turn, 10 tasks at once": tasks,
}


def measure(options: part.Options) -> Report:
    taken: dict[tuple[str, str], list[float]] = {}
    with working([SINGLE, CLUSTER]) as workers:
        for number in range(options.rounds or (2 if options.quick else 9)):
            for what, task in TASKS.items():
                for worker in workers:
                    taken.setdefault((what, worker.name), []).append(worker.do(task, fresh(str(number))))
    rows = []
    for what in TASKS:
        single, cluster = taken[what, SINGLE], taken[what, CLUSTER]
        cells = [figure(statistics.median(each)) for each in (single, cluster)]
        rows.append([what, *cells, times(against(cluster, single))])
    columns = ["milliseconds of", "one server", "3 primaries", "ratio"]
    return Report(tables=[Table("One server and a cluster of three primaries", columns, rows)])


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
