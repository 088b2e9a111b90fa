"""Checkpointers side by side: ``python -m benchmarks.savers [--quick]``."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import ormsgpack
import redis
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.work import build, config, run_turns, server, timed
from ecowas_lc.checkpoint import RedisSaver

BLOCK = 10
SCRIPTS = ("cmdstat_evalsha", "cmdstat_eval")


def interleaved(makers: dict[str, Callable[[], Any]], turns: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a turn of each saver in each round, taking turns in blocks so that a noisy moment hits all."""
    out: dict[str, list[float]] = {name: [] for name in makers}
    for round_ in range(rounds):
        graphs = {name: build(make()) for name, make in makers.items()}
        spent = dict.fromkeys(makers, 0.0)
        for graph in graphs.values():
            run_turns(graph, f"warm-{round_}", 2)
        for done in range(0, turns, BLOCK):
            for name, graph in graphs.items():
                spent[name] += run_turns(graph, f"thread-{round_}", min(BLOCK, turns - done))
        for name, seconds in spent.items():
            out[name].append(1000 * seconds / turns)
    return out


def peers(url: str, valkey_url: str | None) -> dict[str, Callable[[], Any]]:
    """The savers that are installed and have a server."""
    makers: dict[str, Callable[[], Any]] = {
        "InMemorySaver": InMemorySaver,
        "ecowas_lc RedisSaver": lambda: RedisSaver.from_url(url),
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


def footprint(name: str, make: Callable[[], Any], client: redis.Redis, turns: int) -> dict[str, float]:
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    with ExitStack() as stack:
        url, client = stack.enter_context(server("redis"))
        valkey_url, _ = stack.enter_context(server("valkey"))
        makers = peers(url, valkey_url)
        print("Time per turn against InMemorySaver, one thread growing to so many turns (medians):")
        for turns, rounds in ((30, 5 if quick else 15), (200, 2 if quick else 5), (800, 1 if quick else 3)):
            chosen = makers if turns <= 200 else dict(list(makers.items())[:2])
            times = interleaved(chosen, turns, rounds)
            base = times["InMemorySaver"]
            for name, taken in times.items():
                ratio = statistics.median(mine / theirs for mine, theirs in zip(taken, base, strict=True))
                print(f"  {turns:4} turns  {name:40} {statistics.median(taken):7.2f} ms  {ratio:5.2f} x")
        print("Footprint of our thread:")
        small = footprint("ours", makers["ecowas_lc RedisSaver"], client, 200)
        large = footprint("ours", makers["ecowas_lc RedisSaver"], client, 800)
        for key, value in small.items():
            print(f"  {key:18} {value:8.2f} after 200 turns, {large[key]:8.2f} after 800")
        print(f"  memory of 800 turns / of 200: {large['MB'] / small['MB']:.2f}")
        reads(makers)
        ints(url, client)


def reads(makers: dict[str, Callable[[], Any]]) -> None:
    """``get_tuple`` and ``list`` of a thread of 400 messages."""
    print("Reading a thread of 400 messages, against InMemorySaver:")
    both = {}
    for name in ("InMemorySaver", "ecowas_lc RedisSaver"):
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
            theirs = timed(lambda work=work: work(both["InMemorySaver"]), 5)
            ours = timed(lambda work=work: work(both["ecowas_lc RedisSaver"]), 5)
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
