"""Time per turn, and what must be reached: ``python -m benchmarks.savers [--turns 30,200,800] [--savers …]``."""

from __future__ import annotations

import statistics
from typing import Any

import ormsgpack
import redis

from benchmarks import part
from benchmarks.contenders import FLOOR, MEMORY, OURS, VALKEY, WITH_FLOOR
from benchmarks.pictures import bars
from benchmarks.places import counted, place
from benchmarks.report import Bound, Report, Table, against, figure, times
from benchmarks.work import build, config, run_turns, seconds
from benchmarks.workers import Bench, Worker, at, fresh, working

ROUNDS = {30: 7, 200: 4, 800: 2}
QUICK_ROUNDS = {30: 3, 200: 2, 800: 1}
THREADS = {30: 4}  # threads per round: a short thread ends too soon to be timed alone
LONGEST = 400  # what grows quadratically is not grown further
MOST_PER_TURN = {30: 1.25, 200: 1.15, 800: 0.9}
LINEAR = (MEMORY, OURS)


def one_thread(bench: Bench, turns: int, thread_id: str) -> float:
    """Return the milliseconds per turn of a thread that grows from empty to a number of turns."""
    graph = bench.graph
    bench.rehearse_chat(turns)
    taken = run_turns(graph, thread_id, turns)
    bench.saver.delete_thread(thread_id)
    return 1000 * taken / turns


def per_turn(workers: list[Worker], turns: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a turn of each saver in each round."""
    racing = [worker for worker in workers if turns <= LONGEST or worker.name in LINEAR]
    taken: dict[str, list[float]] = {worker.name: [] for worker in racing}
    for number in range(rounds):
        for worker in (worker for worker in racing if worker.takes_part(number)):
            every = range(THREADS.get(turns, 1))
            threads = [worker.do(one_thread, turns, fresh(f"{turns}-{number}-{each}")) for each in every]
            taken[worker.name].append(statistics.median(threads))
    return taken


def grow(bench: Bench, thread_id: str, turns: int) -> None:
    run_turns(bench.graph, thread_id, turns)


def stored(bench: Bench) -> int:
    return bench.contender.stored(bench.url)


def footprint(turns: tuple[int, ...]) -> tuple[list[list[str]], dict[int, float], float]:
    """What one thread of ours takes: rows of a table, megabytes by turns, most kB sent a turn."""
    rows, megabytes, most = [], {}, 0.0
    with place("redis") as direct, counted(direct) as (url, relay), at(OURS, url) as worker:
        worker.do(grow, "bench-warm", 1)
        with redis.Redis.from_url(direct) as client:
            for number in turns:
                client.flushdb()
                before = worker.do(stored)
                relay.reset_counts()
                worker.do(grow, "bench", number)
                sent, trips = relay.sent / number / 1000, relay.round_trips / number
                megabytes[number] = (worker.do(stored) - before) / 1e6
                most = max(most, sent)
                keys = len(client.keys("*"))
                rows.append([str(number), figure(megabytes[number]), figure(sent), figure(trips), str(keys)])
    return rows, megabytes, most


def read_tuple(bench: Bench, thread_id: str) -> float:
    return statistics.median(seconds(lambda: bench.saver.get_tuple(config(thread_id))) for _ in range(9)) * 1000


def read_list(bench: Bench, thread_id: str) -> float:
    listed = [seconds(lambda: list(bench.saver.list(config(thread_id), limit=10))) for _ in range(9)]
    return statistics.median(listed) * 1000


def reading(rounds: int) -> tuple[list[list[str]], dict[str, float]]:
    """Reading a thread of 400 messages: rows, and ratios to memory."""
    rows, ratios = [], {}
    with working([MEMORY, OURS]) as workers:
        for worker in workers:
            worker.do(grow, "bench", 200)
        for what, task in {"get_tuple": read_tuple, "list(limit=10)": read_list}.items():
            taken: dict[str, list[float]] = {worker.name: [] for worker in workers}
            for _ in range(rounds):
                for worker in workers:
                    taken[worker.name].append(worker.do(task, "bench"))
            ratios[what] = against(taken[OURS], taken[MEMORY])
            medians = {name: statistics.median(values) for name, values in taken.items()}
            rows.append([what, figure(medians[MEMORY]), figure(medians[OURS]), times(ratios[what])])
    return rows, ratios


def numbers_kept(bench: Bench) -> float:
    """What a plain list of 200,000 numbers takes, against its msgpack."""
    values = list(range(200_000))
    build(bench.saver).update_state(config("bench-numbers"), {"note": values})
    with redis.Redis.from_url(bench.url) as client:
        sizes = [client.memory_usage(key, samples=0) or 0 for key in client.keys("*")]
    return sum(sizes) / len(ormsgpack.packb(values))


def measure(options: part.Options) -> Report:
    names, left_out = part.chosen(options, *WITH_FLOOR)
    if MEMORY not in names:
        names.insert(0, MEMORY)
    options.turns = options.turns or ([30, 200] if options.quick else [30, 200, 800])
    report = Report(left_out=left_out)
    medians: dict[int, dict[str, float]] = {}
    ratios: dict[int, dict[str, float]] = {}
    with working(names) as workers:
        for turns in options.turns:
            rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS).get(turns, 3)
            taken = per_turn(workers, turns, rounds)
            medians[turns] = {name: statistics.median(each) for name, each in taken.items()}
            ratios[turns] = {name: against(taken[name], taken[MEMORY]) for name in taken}
            if OURS in taken and turns in MOST_PER_TURN:
                what = f"time per turn at {turns} turns, against InMemorySaver"
                floor = ratios[turns].get(FLOOR)
                report.bounds.append(Bound(what, MOST_PER_TURN[turns], ratios[turns][OURS], " ×", floor))
            if OURS in taken and VALKEY in taken and turns == 200:
                what = "time per turn at 200 turns, against ValkeySaver"
                report.bounds.append(Bound(what, 0.8, against(taken[OURS], taken[VALKEY]), " ×"))
    columns = ["saver", *(f"{turns} turns" for turns in options.turns)]
    rows: list[list[Any]] = []
    for name in names:
        cells = [(medians[turns].get(name), ratios[turns].get(name)) for turns in options.turns]
        rows.append([name, *(f"{figure(ms)} ms, {times(ratio)}" if ms and ratio else "–" for ms, ratio in cells)])
    report.tables.append(Table("Milliseconds a turn, and the ratio to InMemorySaver", columns, rows))
    title = "Time per turn against InMemorySaver, by the number of turns in the thread"
    bars(options.pictures / "savers.png", title, {f"{turns} turns": each for turns, each in ratios.items()})
    report.pictures["savers.png"] = f"{title}, as bars; the table has the figures"
    if OURS in names and not options.only_time:
        _rest(report, options)
    return report


def _rest(report: Report, options: part.Options) -> None:
    rows, megabytes, most = footprint((200, 800))
    columns = ["turns", "MB on the server", "kB sent a turn", "round trips a turn", "keys"]
    report.tables.append(Table("Storage of one thread of RedisSaver", columns, rows))
    reads, ratios = reading(options.rounds or (3 if options.quick else 7))
    columns = ["call", "InMemorySaver, ms", "RedisSaver, ms", "ratio"]
    report.tables.append(Table("Reading a thread of 400 messages", columns, reads))
    with working([OURS]) as [worker]:
        kept = worker.do(numbers_kept)
    report.bounds += [
        Bound("server memory after 200 turns", 1.5, megabytes[200], " MB"),
        Bound("server memory after 800 turns, against 200", 4.5, megabytes[800] / megabytes[200], " ×"),
        Bound("sent a turn, on average", 8, most, " kB"),
        Bound("get_tuple of 400 messages, against InMemorySaver", 1.3, ratios["get_tuple"], " ×"),
        Bound("list(limit=10) of 400 messages, against InMemorySaver", 1.5, ratios["list(limit=10)"], " ×"),
        Bound("a list of 200,000 numbers, against its msgpack", 1.3, kept, " ×"),
    ]


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--turns", type=part.numbers, help="lengths of threads (default: 30,200,800)")
    arguments.add_argument("--only-time", action="store_true", help="time per turn, and nothing else")
    part.main(measure, arguments)
