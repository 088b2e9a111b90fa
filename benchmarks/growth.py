"""One thread that grows to 1,000 turns, against turn number: ``python -m benchmarks.growth [--turns 1000]``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import part
from benchmarks.contenders import CONTENDERS, MEMORY, OURS
from benchmarks.pictures import figure as drawing
from benchmarks.pictures import legend, lines, save, tidy
from benchmarks.places import counted
from benchmarks.report import Report, Table, figure
from benchmarks.work import run_turns
from benchmarks.workers import Bench, Worker, at, fresh, working

WINDOW = 20
LINEAR = (OURS, MEMORY)  # memory holds the quadratic sum too, but a process has room for it
THREAD = fresh("growth")


@dataclass
class Curve:
    """What was seen of one saver, after each window of turns."""

    turns: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    kilobytes_sent: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)


def stored(bench: Bench) -> int:
    return bench.contender.stored(bench.url)


def some_turns(bench: Bench, thread_id: str) -> float:
    """Milliseconds a turn."""
    return 1000 * run_turns(bench.graph, thread_id, WINDOW) / WINDOW


def forget(bench: Bench, thread_id: str) -> None:
    bench.saver.delete_thread(thread_id)


def time_and_room(workers: list[Worker], most: dict[str, int]) -> dict[str, Curve]:
    """All savers, a window of turns each in turn."""
    curves = {worker.name: Curve() for worker in workers}
    for worker in workers:
        some = fresh("growth-warm")
        worker.do(some_turns, some)
        worker.do(forget, some)
    before = {worker.name: worker.do(stored) for worker in workers}
    for turns in range(WINDOW, max(most.values()) + 1, WINDOW):
        for worker in workers:
            if turns <= most[worker.name]:
                curve = curves[worker.name]
                curve.turns.append(turns)
                curve.milliseconds.append(worker.do(some_turns, THREAD))
                curve.megabytes.append((worker.do(stored) - before[worker.name]) / 1e6)
    for worker in workers:
        worker.do(forget, THREAD)
    return curves


def travel(workers: list[Worker], curves: dict[str, Curve]) -> None:
    """Each saver again, through a relay that counts."""
    for worker in workers:
        if CONTENDERS[worker.name].needs in ("nothing", "file"):
            continue
        with counted(worker.url) as (url, relay), at(worker.name, url) as through:
            through.do(some_turns, f"{THREAD}-warm")
            curve = curves[worker.name]
            for _ in curve.turns:
                relay.reset_counts()
                through.do(some_turns, f"{THREAD}-counted")
                curve.kilobytes_sent.append(relay.sent / WINDOW / 1000)
                curve.round_trips.append(relay.round_trips / WINDOW)
            for thread in (f"{THREAD}-warm", f"{THREAD}-counted"):
                through.do(forget, thread)


def draw(path: Path, curves: dict[str, Curve]) -> None:
    out, axes = drawing(2, 2, 900)
    ours = curves.get(OURS) or next(iter(curves.values()))
    across = "turn of the thread"
    every = max(1, len(ours.turns) // 12)
    shown = {
        "Milliseconds a turn": ("milliseconds", 3.0),
        "Megabytes stored": ("megabytes", 12.0),
        "Kilobytes sent a turn": ("kilobytes_sent", 20.0),
        "Round trips a turn": ("round_trips", 4.0),
    }
    for axis, (title, (name, room)) in zip(axes, shown.items(), strict=True):
        every_curve = {
            saver: (curve.turns[: len(getattr(curve, name))], getattr(curve, name))
            for saver, curve in curves.items()
        }
        lines(axis, {saver: curve for saver, curve in every_curve.items() if curve[1]}, every)
        top = room * max(getattr(ours, name), default=1)
        highest = max(value for _, values in every_curve.values() for value in values)
        axis.set_ylim(0, min(top, 1.08 * highest))
        axis.set_xlim(0, 1.02 * max(ours.turns))
        tidy(axis, title + (", cut off above" if highest > top else ""), across)
    legend(out, axes[0])
    save(out, path)


def measure(options: part.Options) -> Report:
    names, left_out = part.chosen(options)
    turns = options.turns or (200 if options.quick else 1000)
    longest = min(turns, 100 if options.quick else 200)
    most = {name: turns if name in LINEAR else longest for name in names}
    with ExitStack() as stack:
        workers = stack.enter_context(working(names))
        curves = time_and_room(workers, most)
        travel(workers, curves)
    draw(options.pictures / "growth.png", curves)
    marks = sorted({100, longest, turns // 2, turns} & set(range(WINDOW, turns + 1, WINDOW)))
    rows = []
    for name, curve in curves.items():
        for turn in marks:
            if turn in curve.turns:
                at_ = curve.turns.index(turn)
                travelled = [
                    figure(each[at_]) if each else "–" for each in (curve.kilobytes_sent, curve.round_trips)
                ]
                rows.append(
                    [name, str(turn), figure(curve.milliseconds[at_]), figure(curve.megabytes[at_]), *travelled]
                )
    columns = ["saver", "turn", "ms a turn", "MB stored", "kB sent a turn", "round trips a turn"]
    note = (
        f"The last {WINDOW} turns before each. InMemorySaver stores in its own process. The storage of the "
        f"others grows quadratically, so they were stopped after {longest} turns."
    )
    report = Report(left_out=left_out)
    report.tables.append(Table(f"One thread that grows to {turns:,} turns", columns, rows, note))
    report.pictures["growth.png"] = (
        "Milliseconds a turn, megabytes stored, kilobytes sent and round trips against the turn of a thread: "
        "RedisSaver's storage grows linearly, that of the others quadratically"
    )
    return report


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--turns", type=int, help="how far the thread grows")
    part.main(measure, arguments)
