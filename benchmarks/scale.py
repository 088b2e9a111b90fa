"""What large numbers take, from costs per operation, checked on clusters: ``python -m benchmarks.scale``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import redis
from langgraph.store.base import PutOp
from tests.fixtures.servers import running_cluster, running_server

from benchmarks import part
from benchmarks.report import Bound, Report, Table, figure
from benchmarks.work import build, run_turns, text
from ecowas_lc import RedisSaver, RedisStore

SHORT, LONG = 20, 60  # turns of the threads that are measured
CLUSTERS = (3, 6)
MOST_OFF = 1.25  # what a cluster takes, against the model, or the other way round
THREADS, TURNS, CONVERSATIONS, SECONDS, ITEMS = 1_000_000, 200, 10_000, 30, 100_000_000
GIGABYTES_OF_A_PRIMARY, SHARE_OF_A_CORE = 24, 0.5  # of 32 GB and a core, what is planned to be used
ITEM_CHARACTERS = 200
IDLE_SECONDS = 3.0
COMMANDS = 3_000


@dataclass(frozen=True)
class Used:
    """What one server has used so far."""

    seconds: float
    bytes: int
    microseconds: float
    commands: int
    sent: int
    received: int

    @classmethod
    def of(cls, client: redis.Redis) -> Used:
        found = client.info("all")
        return cls(
            time.monotonic(),
            sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000)),
            1e6 * (found["used_cpu_user"] + found["used_cpu_sys"]),
            found["total_commands_processed"],
            found["total_net_input_bytes"],
            found["total_net_output_bytes"],
        )

    def since(self, before: Used) -> Used:
        return Used(*(getattr(self, name) - getattr(before, name) for name in Used.__dataclass_fields__))


@dataclass(frozen=True)
class Cost:
    """What a turn takes of all servers, of the busiest of them, and what a thread takes that has no turns yet."""

    bytes_of_a_turn: float
    bytes_of_a_thread: float
    microseconds: float
    busiest: float
    commands: float
    sent: float
    received: float


@contextmanager
def servers(primaries: int) -> Iterator[tuple[str, list[redis.Redis]]]:
    """The URL of one server or of a cluster, and a client of each primary."""
    with ExitStack() as stack:
        if primaries == 1:
            nodes = [stack.enter_context(running_server("valkey"))]
            url = nodes[0].url
        else:
            cluster = stack.enter_context(running_cluster("valkey", primaries=primaries))
            nodes, url = cluster.nodes, cluster.url
        yield url, [stack.enter_context(node.client()) for node in nodes]


def used_idle(clients: list[redis.Redis]) -> list[float]:
    """Microseconds of CPU that each server takes in a second without any work."""
    before = [Used.of(client) for client in clients]
    time.sleep(IDLE_SECONDS)
    spent = [Used.of(client).since(was) for client, was in zip(clients, before, strict=True)]
    return [each.microseconds / each.seconds for each in spent]


def grown(saver: RedisSaver, clients: list[redis.Redis], threads: int, turns: int) -> list[Used]:
    """Return what each server used while threads ran, each with ``turns`` turns. Idle use is subtracted."""
    graph = build(saver)
    idle = used_idle(clients)
    before = [Used.of(client) for client in clients]
    # One after the other: calls of several conversations travel together, the more of them the fewer servers there
    # are, and a server takes less CPU for commands that arrive together.
    for number in range(threads):
        run_turns(graph, f"{turns}-{number}", turns)
    used = [Used.of(client).since(was) for client, was in zip(clients, before, strict=True)]
    return [
        replace(each, microseconds=each.microseconds - rate * each.seconds)
        for each, rate in zip(used, idle, strict=True)
    ]


def cost(primaries: int, threads: int) -> Cost:
    """Measure threads of two lengths: the difference is what turns take."""
    with servers(primaries) as (url, clients), RedisSaver.from_url(url) as saver:
        run_turns(build(saver), "warm", 3)
        short, long = (grown(saver, clients, threads, turns) for turns in (SHORT, LONG))
    more = threads * (LONG - SHORT)

    def total(name: str, of: list[Used]) -> float:
        return float(sum(getattr(each, name) for each in of))

    def a_turn(name: str) -> float:
        return (total(name, long) - total(name, short)) / more

    return Cost(
        a_turn("bytes"),
        total("bytes", short) / threads - SHORT * a_turn("bytes"),
        total("microseconds", long) / (threads * LONG),
        max(each.microseconds for each in long) / (threads * LONG),
        total("commands", long) / (threads * LONG),
        total("sent", long) / (threads * LONG),
        total("received", long) / (threads * LONG),
    )


def microseconds_of_a_command() -> float:
    """What a small command of its own takes of a server: on clusters, the index of threads needs some."""
    with servers(1) as (_, [client]):
        [idle] = used_idle([client])
        before = Used.of(client)
        for number in range(COMMANDS):
            client.zadd("index", {f"{number % 100}": number})
        used = Used.of(client).since(before)
    return (used.microseconds - idle * used.seconds) / COMMANDS


def bytes_of_an_item(items: int) -> float:
    """What an item of a store takes."""
    with servers(1) as (url, [client]), RedisStore.from_url(url) as store:
        sizes = []
        for first in (0, items):
            for start in range(first, first + items, 500):
                store.batch(
                    [
                        PutOp(("users", f"u{number // 20}"), f"k{number}", {"text": text(ITEM_CHARACTERS)})
                        for number in range(start, min(first + items, start + 500))
                    ]
                )
            sizes.append(Used.of(client).bytes)
    return (sizes[1] - sizes[0]) / items


def measure(options: part.Options) -> Report:
    threads = options.rounds or (12 if options.quick else 36)
    one = cost(1, threads)
    command = microseconds_of_a_command()
    found = {primaries: cost(primaries, threads) for primaries in CLUSTERS}
    item = bytes_of_an_item(2_000 if options.quick else 20_000)
    report = Report()
    rows = [
        ["memory of a turn, kB", *(figure(each.bytes_of_a_turn / 1000) for each in (one, *found.values()))],
        ["server CPU of a turn, \u00b5s", *(figure(each.microseconds) for each in (one, *found.values()))],
        ["of this, on the busiest primary, \u00b5s", *(figure(each.busiest) for each in (one, *found.values()))],
        [
            "commands of a turn, those of scripts included",
            *(figure(each.commands) for each in (one, *found.values())),
        ],
        ["sent to the servers a turn, kB", *(figure(each.sent / 1000) for each in (one, *found.values()))],
        ["received a turn, kB", *(figure(each.received / 1000) for each in (one, *found.values()))],
    ]
    columns = ["", "one server", *(f"{primaries} primaries" for primaries in CLUSTERS)]
    report.tables.append(Table("What a turn takes", columns, rows))
    for primaries, each in found.items():
        for what, measured, expected in (
            ("memory", each.bytes_of_a_turn, one.bytes_of_a_turn),
            ("CPU", each.microseconds, one.microseconds + command * (each.commands - one.commands)),
        ):
            off = max(measured / expected, expected / measured)
            report.bounds.append(
                Bound(f"{what} of a turn on {primaries} primaries, off the model", MOST_OFF, off, " \u00d7")
            )
    report.tables.append(_planned(one, found[max(found)], item))
    return report


def _planned(one: Cost, cluster: Cost, item: float) -> Table:
    gigabytes = THREADS * (one.bytes_of_a_thread + TURNS * one.bytes_of_a_turn) / 1e9
    turns = CONVERSATIONS / SECONDS
    cores = turns * cluster.microseconds / 1e6
    items = ITEMS * item / 1e9

    def primaries(needed: float, each: float) -> str:
        return str(max(1, -int(-needed // each)))

    rows = [
        [
            f"{THREADS:,} threads of {TURNS} turns",
            f"{gigabytes:,.0f} GB",
            "\u2013",
            "\u2013",
            primaries(gigabytes, GIGABYTES_OF_A_PRIMARY),
        ],
        [
            f"{CONVERSATIONS:,} conversations, a turn every {SECONDS} s",
            "\u2013",
            f"{turns * cluster.commands:,.0f} commands/s, {cores:.2f} cores",
            f"{turns * (cluster.sent + cluster.received) * 8 / 1e6:.0f} Mbit/s",
            primaries(cores, SHARE_OF_A_CORE),
        ],
        [
            f"{ITEMS:,} items of a store, {ITEM_CHARACTERS} characters each",
            f"{items:,.0f} GB",
            "\u2013",
            "\u2013",
            primaries(items, GIGABYTES_OF_A_PRIMARY),
        ],
    ]
    note = (
        f"A primary is planned with {GIGABYTES_OF_A_PRIMARY} of 32 GB for data and half a core; "
        "replicas take the same again. Threads: questions of 200 characters, answers of 1,200."
    )
    return Table("What large numbers take", ["", "memory", "commands, CPU", "network", "primaries"], rows, note)


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
