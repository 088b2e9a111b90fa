"""Where the time of one turn goes, and its floor: ``python -m benchmarks.turn [--turns 30,200]``.

The floor is the same graph with no checkpointer, plus serialising what a turn adds and reading what a turn reads
with langgraph's own serializer, plus as many round trips of as many bytes that do nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import Counter
from typing import Any

import redis
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pyinstrument import Profiler

from benchmarks import part
from benchmarks.contenders import MEMORY, OURS
from benchmarks.pictures import NEUTRAL, save, style, tidy
from benchmarks.pictures import figure as drawing
from benchmarks.report import Report, Table, figure
from benchmarks.work import ANSWER_CHARACTERS, QUESTION_CHARACTERS, build, config, question, seconds, text
from benchmarks.workers import Bench, fresh, working

COPIES = 6  # of a thread, that a profile goes on with
WINDOW = 10  # turns that are timed, once a thread is as long as it should be
TRIPS, TRIP_BYTES = 8, 700  # as counted: 5.6 kB in 8 round trips

# Whose the time is: the innermost of these packages that a stack is in.
OWNERS = {
    "ecowas_lc": "ecowas_lc",
    "redis": "redis-py",
    "hiredis": "redis-py",
    "langgraph": "langgraph",
    "langchain_core": "langchain-core",
    "langsmith": "langchain-core",
    "pydantic": "langchain-core",
    "asyncio": "event loop",
}
# Calls in which the kernel runs the server, or nothing.
_SOCKET = ("socket.send", "socket.recv", "socket.recv_into", "epoll.poll", "socket.sendmsg")
GRAPH, SERIALISING, TRIPPING = "the graph, no checkpointer", "serialising, reading", "round trips"


def graph_alone(bench: Bench, turns: int) -> float:
    """Milliseconds a turn of the same graph with no checkpointer, given all messages each time."""
    graph = build(None)
    kinds = ((HumanMessage, QUESTION_CHARACTERS), (AIMessage, ANSWER_CHARACTERS))
    messages: list[Any] = [
        kind(text(length), id=f"{number}{length}") for number in range(turns) for kind, length in kinds
    ]
    graph.invoke({"messages": messages})
    taken = [
        seconds(lambda: graph.invoke({"messages": [*messages, *question()["messages"]]})) for _ in range(WINDOW)
    ]
    return 1000 * statistics.median(taken)


def serialising(bench: Bench, turns: int) -> float:
    """Milliseconds to serialise what a turn adds, and to read the list that a turn begins with."""
    serializer = JsonPlusSerializer()
    kinds = ((HumanMessage, QUESTION_CHARACTERS), (AIMessage, ANSWER_CHARACTERS))
    every = [kind(text(length), id=f"{number}{length}") for number in range(turns) for kind, length in kinds]
    stored = serializer.dumps_typed(every)
    envelope = {"id": "x" * 36, "ts": "x" * 32, "channel_versions": dict.fromkeys("abcdef", "x" * 36)}

    def once() -> None:
        serializer.loads_typed(stored)
        for message in every[-2:]:
            serializer.dumps_typed([message])
        for _ in range(3):
            serializer.dumps_typed(envelope)

    return 1000 * statistics.median(seconds(once) for _ in range(WINDOW))


def round_trips(bench: Bench, turns: int) -> float:
    """Return the milliseconds of empty round trips with the given numbers of bytes."""
    with redis.Redis.from_url(bench.url) as client:
        payload = b"x" * TRIP_BYTES
        client.echo(payload)

        def once() -> None:
            for _ in range(TRIPS):
                client.echo(payload)

        return 1000 * statistics.median(seconds(once) for _ in range(10 * WINDOW))


def prepare(bench: Bench, thread_id: str, turns: int) -> None:
    for _ in range(turns):
        bench.graph.invoke(question(), config(thread_id))


def some_turns(bench: Bench, thread_id: str) -> float:
    """Milliseconds a turn, at the length that the thread has."""
    taken = [seconds(lambda: bench.graph.invoke(question(), config(thread_id))) for _ in range(WINDOW)]
    return 1000 * statistics.median(taken)


def profile(bench: Bench, thread_id: str, turns: int) -> dict[str, float]:
    """Return the shares of a turn's time by whose code runs, in asyncio, where one thread does all the work.

    The whole profile goes to a file next to the results.
    """
    return asyncio.run(_profile(bench, thread_id, turns))


async def _profile(bench: Bench, thread_id: str, turns: int) -> dict[str, float]:
    profiler = Profiler(interval=0.0005, async_mode="disabled")
    async with bench.contender.aopened(bench.url) as saver:
        graph = build(saver, asynchronous=True)
        for number in range(COPIES + 1):
            copy = f"{thread_id}-{number}"
            await saver.acopy_thread(thread_id, copy)
            with profiler if number else contextlib.nullcontext():  # the first only warms up
                for _ in range(WINDOW):
                    await graph.ainvoke(question(), config(copy))
            await saver.adelete_thread(copy)
    (part.RESULTS / f"turn-{turns}.txt").write_text(
        profiler.output_text(unicode=True, color=False), encoding="utf-8"
    )
    shares: Counter[str] = Counter()
    if profiler.last_session:
        for stack, taken in profiler.last_session.frame_records:
            shares[_owner(stack)] += taken
    total = sum(shares.values())
    return {owner: value / total for owner, value in shares.most_common()}


def _owner(stack: list[str]) -> str:
    for frame in reversed(stack):
        function, _, place = frame.partition("\0")
        if function in _SOCKET:
            return "sending, waiting"
        path = place.split("\0")[0].split("/")
        for name, owner in OWNERS.items():
            if name in path:
                return owner
    return "Python"


FLOOR = {GRAPH: graph_alone, SERIALISING: serialising, TRIPPING: round_trips}


def measure(options: part.Options) -> Report:
    rounds = options.rounds or (2 if options.quick else 7)
    floors: dict[int, dict[str, float]] = {}
    turns_of: dict[int, dict[str, float]] = {}
    shares: dict[int, dict[str, float]] = {}
    with working([MEMORY, OURS]) as [memory, ours]:
        for turns in options.turns:
            thread = fresh(str(turns))
            taken: dict[str, list[float]] = {}
            for worker in (memory, ours):
                worker.do(prepare, thread, turns)
            for _ in range(rounds):
                for what, task in FLOOR.items():
                    taken.setdefault(what, []).append(ours.do(task, turns))
                for worker in (memory, ours):
                    taken.setdefault(worker.name, []).append(worker.do(some_turns, thread))
            medians = {what: statistics.median(each) for what, each in taken.items()}
            floors[turns] = {what: medians[what] for what in FLOOR}
            turns_of[turns] = {name: medians[name] for name in (MEMORY, OURS)}
            shares[turns] = ours.do(profile, thread, turns)
    report = Report()
    rows = []
    for turns in options.turns:
        floor = sum(floors[turns].values())
        own = turns_of[turns]
        cells = [*floors[turns].values(), floor, own[OURS], own[MEMORY]]
        rows.append([str(turns), *map(figure, cells), f"{own[OURS] / floor:.2f} ×"])
    columns = ["turns", *FLOOR, "floor, all three", "RedisSaver", "InMemorySaver", "RedisSaver to floor"]
    note = (
        "Serialising and reading is langgraph's own serializer: what a turn adds, and the list that it begins "
        f"with; round trips are {TRIPS} of {TRIP_BYTES} bytes that do nothing."
    )
    report.tables.append(
        Table("Milliseconds of one turn, by the number of turns in the thread, and its floor", columns, rows, note)
    )
    owners = list(dict.fromkeys(owner for each in shares.values() for owner in each))
    rows = [
        [owner, *(f"{100 * shares[turns].get(owner, 0):.0f} %" for turns in options.turns)] for owner in owners
    ]
    columns = ["whose code runs", *(f"at {turns} turns" for turns in options.turns)]
    note = (
        "Sampled by pyinstrument, in asyncio, where one thread does everything; sending and waiting is time in "
        "the system, in which the server works, or other processes do. The whole profiles are written to "
        "`build/bench`."
    )
    report.tables.append(Table("Where the time of a turn goes", columns, rows, note))
    _draw(options, floors, turns_of, shares, owners)
    report.pictures["turn.png"] = "A turn compared with its floor, and its shares by whose code runs"
    return report


def _draw(
    options: part.Options,
    floors: dict[int, dict[str, float]],
    turns_of: dict[int, dict[str, float]],
    shares: dict[int, dict[str, float]],
    owners: list[str],
) -> None:
    out, [left, right] = drawing(1, 2, 560)
    ticks = [f"{turns} turns" for turns in options.turns]
    floor_styles = dict(zip(FLOOR, (("#009E73", ""), ("#E69F00", ".."), ("#CC79A7", "xx")), strict=True))
    for number, turns in enumerate(options.turns):
        below = 0.0
        for what, value in floors[turns].items():
            colour, hatch = floor_styles[what]
            _bar(left, 3.6 * number, value, below, colour, hatch, what)
            below += value
        for place, name in enumerate((OURS, MEMORY)):
            colour, _, hatch = style(name)
            _bar(left, 3.6 * number + 1 + place, turns_of[turns][name], 0.0, colour, hatch, name)
        below = 0.0
        for index, owner in enumerate(owners):
            value = 100 * shares[turns].get(owner, 0)
            colour = NEUTRAL[index % len(NEUTRAL)][0]
            drawn = _bar(right, number, value, below, colour, "", owner)
            if value >= 4:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                right.bar_label(drawn, [f"{value:.0f} %"], label_type="center", fontsize=10.5, bbox=box)
            below += value
    left.set_xticks([3.6 * number + 1 for number in range(len(ticks))], ticks)
    right.set_xticks(range(len(ticks)), ticks)
    tidy(left, "Milliseconds of one turn, and its floor", "")
    tidy(right, "Where the time of a turn goes, %", "")
    for axis, place in ((left, "upper left"), (right, "center left")):
        named = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        beside = {"bbox_to_anchor": (1.0, 0.5), "reverse": True} if axis is right else {}
        axis.legend(list(named.values()), list(named), fontsize=10, frameon=False, loc=place, **beside)
    save(out, options.pictures / "turn.png")


def _bar(axis: Any, at: float, value: float, below: float, colour: str, hatch: str, label: str) -> Any:
    return axis.bar(at, value, bottom=below, color=colour, hatch=hatch, edgecolor="white", width=0.8, label=label)


if __name__ == "__main__":
    arguments = part.parser(__doc__)
    arguments.add_argument("--turns", type=part.numbers, default=[30, 200], help="lengths of threads")
    part.main(measure, arguments)
