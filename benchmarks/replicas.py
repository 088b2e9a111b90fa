"""What waiting for replicas costs: ``python -m benchmarks.replicas``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from langchain_core.messages import HumanMessage
from tests.fixtures.servers import running_cluster, running_server, wait_until

from benchmarks import part
from benchmarks.report import Report, Table, against, figure, times
from benchmarks.work import build, run_turns, seconds
from ecowas_lc import RedisChatMessageHistory, RedisSaver

ASKED, WAITING = "", "?wait_replicas=1"
APPENDS, TURNS = 200, 20


@contextmanager
def one_server() -> Iterator[str]:
    """The URL of a server that has a replica."""
    with running_server("redis", "--repl-diskless-sync-delay", "0") as primary, running_server("redis") as replica:
        with replica.client() as admin:
            admin.replicaof("127.0.0.1", primary.port)
        with primary.client() as admin:
            wait_until(lambda: admin.info("replication").get("slave0", {}).get("state") == "online", "the replica")
        yield primary.url


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of three primaries that each have a replica."""
    with running_cluster(replicas=1) as nodes:
        yield nodes.url


def append(history: RedisChatMessageHistory, saver: RedisSaver, name: str) -> float:
    """Milliseconds an append."""
    messages = [HumanMessage("?" * 200, id=f"{name}-{number}") for number in range(APPENDS)]
    return 1000 * seconds(lambda: [history.add_message(message) for message in messages]) / APPENDS


def turn(history: RedisChatMessageHistory, saver: RedisSaver, name: str) -> float:
    """Milliseconds a turn of a graph."""
    return 1000 * run_turns(build(saver), name, TURNS) / TURNS


TASKS: dict[str, Callable[..., float]] = {"an append": append, "a turn": turn}
PLACES = {"one server, one replica": one_server, "three primaries, a replica each": cluster}


def measure(options: part.Options) -> Report:
    rows: list[list[Any]] = []
    for where, place in PLACES.items():
        taken: dict[tuple[str, str], list[float]] = {}
        with ExitStack() as stack:
            url = stack.enter_context(place())
            pairs = {
                how: (
                    RedisChatMessageHistory("bench", f"session-{len(how)}", url=url + how),
                    stack.enter_context(RedisSaver.from_url(url + how)),
                )
                for how in (ASKED, WAITING)
            }
            for number in range(1 + (options.rounds or (3 if options.quick else 15))):
                for what, task in TASKS.items():
                    for how, pair in pairs.items():
                        found = task(*pair, f"{number}{how}")
                        if number:  # the first time opens connections
                            taken.setdefault((what, how), []).append(found)
        for what in TASKS:
            asked, waiting = taken[what, ASKED], taken[what, WAITING]
            cells = [figure(statistics.median(each)) for each in (asked, waiting)]
            rows.append([f"{what}, {where}", *cells, times(against(waiting, asked))])
    columns = ["milliseconds of", "as Redis answers", "wait_replicas=1", "ratio"]
    return Report(tables=[Table("Waiting for a replica", columns, rows)])


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
