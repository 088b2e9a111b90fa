"""What other threads and sessions on the server cost: ``python -m benchmarks.neighbours [--others 10,1000]``."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Callable
from typing import Any

import redis
from langchain_core.messages import HumanMessage
from tests.redis.writer import Writer

from benchmarks import part
from benchmarks.contenders import OURS
from benchmarks.pictures import NEUTRAL, logarithmic, save, tidy
from benchmarks.pictures import figure as drawing
from benchmarks.places import place
from benchmarks.report import Report, Table, figure
from benchmarks.work import build, config, question, run_turns, seconds
from benchmarks.workers import Bench, at

TURNS, SESSIONS = 10, 10  # of the thread and the agent that are looked at
TIMES = 15


def fill(bench: Bench, begin: int, end: int) -> None:
    """Threads of a run each, and sessions of an agent each, that are not looked at."""
    from ecowas_lc import RedisMemoryService

    with RedisMemoryService(url=bench.url) as memory:
        for number in range(begin, end):
            Writer(bench.saver, f"other-{number}").put(None, {"run_id": f"other-run-{number}"}, note="x" * 100)
            memory.append_to_history(f"other-{number}", "session", {"role": "user", "content": "x" * 100})


def prepare(bench: Bench) -> None:
    from ecowas_lc import RedisMemoryService

    run_turns(bench.graph, "thread", TURNS)
    with RedisMemoryService(url=bench.url) as memory:
        for number in range(SESSIONS):
            memory.append_to_history("agent", f"session-{number}", {"role": "user", "content": "x" * 100})


def each_operation(bench: Bench) -> dict[str, list[float]]:
    """Of each operation: milliseconds, commands on the server, and microseconds they took there; medians."""
    from ecowas_lc import RedisMemoryService

    saver = bench.saver
    graph = build(saver)
    doomed: list[str] = []

    def run(what: str) -> str:
        name = f"{what}-{uuid.uuid4().hex}"
        doomed.append(name)
        writer = Writer(saver, name)
        for number in range(4):
            writer.put(None, {"run_id": name}, messages=[HumanMessage(str(number))])
        return name

    with RedisMemoryService(url=bench.url) as memory, redis.Redis.from_url(bench.url) as client:
        works: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
            "a turn": (lambda: None, lambda _: graph.invoke(question(), config("turns"))),
            "get_tuple": (lambda: None, lambda _: saver.get_tuple(config("thread"))),
            "list of a thread": (lambda: None, lambda _: list(saver.list(config("thread"), limit=10))),
            "list of all, limit=10": (lambda: None, lambda _: list(saver.list(None, limit=10))),
            "prune": (lambda: run("prune"), lambda name: saver.prune([name])),
            "delete_for_runs": (lambda: run("runs"), lambda name: saver.delete_for_runs([name])),
            "delete_thread": (lambda: run("delete"), saver.delete_thread),
            "sessions of an agent": (lambda: None, lambda _: memory.get_all_sessions_for_agent("agent")),
            "append to a history": (
                lambda: None,
                lambda _: memory.append_to_history("agent", "session-0", {"role": "user", "content": "x" * 100}),
            ),
        }
        out = {}
        for what, (before, work) in works.items():
            taken, commands, microseconds = [], [], []
            for _ in range(TIMES):
                given = before()
                client.config_resetstat()
                taken.append(1000 * seconds(lambda work=work, given=given: work(given)))
                seen = _served(client)
                commands.append(seen[0])
                microseconds.append(seen[1])
            out[what] = [statistics.median(each) for each in (taken, commands, microseconds)]
        saver.delete_thread("turns")
        for name in doomed:
            saver.delete_thread(name)
    return out


def _served(client: redis.Redis) -> tuple[int, float]:
    """Commands since the reset, those that scripts called among them, and the time of the outermost."""
    stats = client.info("commandstats")
    own = ("cmdstat_info", "cmdstat_config|resetstat", "cmdstat_client|setinfo", "cmdstat_hello")
    kept = {name: figures for name, figures in stats.items() if name not in own}
    scripts = sum(figures["usec"] for name, figures in kept.items() if name.startswith("cmdstat_eval"))
    return sum(figures["calls"] for figures in kept.values()), scripts or sum(
        figures["usec"] for figures in kept.values()
    )


def measure(options: part.Options) -> Report:
    sizes = options.others or ([10, 1000, 10_000] if options.quick else [10, 1000, 100_000])
    found: dict[int, dict[str, list[float]]] = {}
    with place("redis") as url, at(OURS, url) as worker:
        worker.do(prepare)
        held = 0
        for size in sizes:
            worker.do(fill, held, size)
            held = size
            worker.do(each_operation)  # warm
            found[size] = worker.do(each_operation)
    rows = []
    for what in found[sizes[0]]:
        cells = [found[size][what] for size in sizes]
        rows.append([what, *(f"{figure(ms)} ms, {commands:.0f}, {figure(us)} µs" for ms, commands, us in cells)])
    columns = ["", *(f"{size:,} others" for size in sizes)]
    title = "By the number of other threads and sessions: time, commands on the server, and their time there"
    report = Report(tables=[Table(title, columns, rows, f"Medians of {TIMES}.")])
    _draw(options, sizes, found)
    report.pictures["neighbours.png"] = (
        "Milliseconds of nine operations with 10 to 100,000 other threads: level lines"
    )
    return report


def _draw(options: part.Options, sizes: list[int], found: dict[int, dict[str, list[float]]]) -> None:
    out, [axis] = drawing(1, 1, 620)
    for number, what in enumerate(found[sizes[0]]):
        colour, mark = NEUTRAL[number % len(NEUTRAL)]
        values = [found[size][what][0] for size in sizes]
        axis.plot(sizes, values, color=colour, marker=mark, label=what)
    logarithmic(axis, sizes)
    tidy(axis, "Milliseconds of each operation", "other threads on the server")
    out.legend(loc="outside right upper", fontsize=11, frameon=False)
    save(out, options.pictures / "neighbours.png")


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--others", type=part.numbers, help="how many other threads")
    part.main(measure, arguments)
