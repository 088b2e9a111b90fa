"""Checkpointers side by side: ``python -m benchmarks.savers [--quick]``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import ormsgpack
import redis
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.work import build, config, run_turns, server, timed
from ecowas_lc.checkpoint import RedisSaver

MEMORY, OURS = "InMemorySaver", "ecowas_lc RedisSaver"
SCRIPTS = ("cmdstat_evalsha", "cmdstat_eval")


def interleaved(names: list[str], url: str, valkey_url: str, turns: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a turn of each saver in each round: a process of its own each, in turn.

    In one process each saver would pay for the others' objects, which Python's collector walks.
    """
    out: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds):
        for name in names:
            one = [sys.executable, "-m", "benchmarks.savers", "--one", name, "--turns", str(turns)]
            one += ["--url", url, "--valkey-url", valkey_url, "--thread", f"{name}-{turns}-{round_}"]
            out[name].append(float(subprocess.run(one, check=True, capture_output=True, text=True).stdout))
    return out


def one(make: Callable[[], Any], turns: int, thread_id: str) -> float:
    """Milliseconds a turn of one thread, after a few turns of another."""
    graph = build(make())
    run_turns(graph, f"{thread_id}-warm", 3)
    return 1000 * run_turns(graph, thread_id, turns) / turns


def peers(url: str, valkey_url: str | None) -> dict[str, Callable[[], Any]]:
    """The savers that are installed and have a server."""
    makers: dict[str, Callable[[], Any]] = {
        MEMORY: InMemorySaver,
        OURS: lambda: RedisSaver.from_url(url),
    }
    if valkey_url:
        try:
            from langgraph_checkpoint_aws import ValkeySaver
            from valkey import Valkey
        except ImportError:
            pass
        else:
            makers["ValkeySaver (langgraph-checkpoint-aws)"] = lambda: ValkeySaver(Valkey.from_url(valkey_url))
    return makers


def used_memory(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def footprint(make: Callable[[], Any], client: redis.Redis, turns: int) -> dict[str, float]:
    """Server memory, bytes sent and commands of one thread."""
    client.flushall()
    graph = build(make())
    run_turns(graph, "warm", 2)
    client.delete(*client.keys("*"))
    client.config_resetstat()
    before = used_memory(client)
    run_turns(graph, "thread", turns)
    stats = client.info("stats")
    commands = client.info("commandstats")
    client.memory_purge()
    return {
        "MB": (used_memory(client) - before) / 1e6,
        "kB sent/turn": float(stats["total_net_input_bytes"]) / turns / 1000,
        "round trips/turn": sum(
            figures["calls"]
            for command, figures in commands.items()
            if command in ("cmdstat_evalsha", "cmdstat_eval")
        )
        / turns,
        "keys": len(client.keys("*")),
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    for hidden in ("--one", "--url", "--valkey-url", "--thread"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--turns", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(one(peers(given.url, given.valkey_url)[given.one], given.turns, given.thread))
        return
    with ExitStack() as stack:
        url, client = stack.enter_context(server("redis"))
        valkey_url, _ = stack.enter_context(server("valkey"))
        makers = peers(url, valkey_url)
        print("Time per turn against InMemorySaver, one thread growing to so many turns (medians):")
        for turns, rounds in ((30, 9), (200, 5), (800, 3)):
            names = list(makers) if turns <= 200 else [MEMORY, OURS]
            times = interleaved(names, url, valkey_url, turns, 3 if given.quick else rounds)
            for name, taken in times.items():
                ratio = statistics.median(mine / theirs for mine, theirs in zip(taken, times[MEMORY], strict=True))
                print(f"  {turns:4} turns  {name:40} {statistics.median(taken):7.2f} ms  {ratio:5.2f} x")
        print("Footprint of our thread:")
        small, large = (footprint(makers[OURS], client, turns) for turns in (200, 800))
        for key, value in small.items():
            print(f"  {key:18} {value:8.2f} after 200 turns, {large[key]:8.2f} after 800")
        print(f"  memory of 800 turns / of 200: {large['MB'] / small['MB']:.2f}")
        reads(makers)
        ints(url, client)


def reads(makers: dict[str, Callable[[], Any]]) -> None:
    """``get_tuple`` and ``list`` of a thread of 400 messages."""
    print("Reading a thread of 400 messages, against InMemorySaver:")
    both = {}
    for name in (MEMORY, OURS):
        saver = makers[name]()
        run_turns(build(saver), "read", 200)
        both[name] = saver
    works = {
        "get_tuple": lambda saver: saver.get_tuple(config("read")),
        "list(limit=10)": lambda saver: list(saver.list(config("read"), limit=10)),
    }
    for what, work in works.items():
        ratios, mine = [], []
        for _ in range(7):
            theirs = timed(lambda work=work: work(both[MEMORY]), 5)
            ours = timed(lambda work=work: work(both[OURS]), 5)
            ratios.append(ours / theirs)
            mine.append(ours)
        print(f"  {what:16} {1000 * statistics.median(mine):7.2f} ms  {statistics.median(ratios):5.2f} x")


def ints(url: str, client: redis.Redis) -> None:
    """What a plain list of 200,000 numbers costs, against its msgpack."""
    client.flushall()
    values = list(range(200_000))
    graph = build(RedisSaver.from_url(url))
    graph.update_state(config("ints"), {"note": values})
    stored = sum(client.memory_usage(key, samples=0) or 0 for key in client.keys("*"))
    print(f"A list of 200,000 ints: {stored / len(ormsgpack.packb(values)):.2f} x its msgpack")


if __name__ == "__main__":
    main()
