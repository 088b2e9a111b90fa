"""Chat histories side by side: ``python -m benchmarks.histories``.

langchain-redis needs a server with RedisJSON and Search: where ``BENCH_REDIS_STACK_URL`` names one it is run too,
otherwise its recorded figure is quoted as such.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from benchmarks.work import server, text
from ecowas_lc import RedisChatMessageHistory

MESSAGES, LAST, ROUNDS = 1000, 20, 5
RECORDED = "langchain-redis 0.2.6 (recorded elsewhere, not run here): 22.8 ms to read 1,000 messages"


def makers(url: str) -> dict[str, Callable[[str], Any]]:
    """How to make a history of each library that is installed and has a server."""
    out: dict[str, Callable[[str], Any]] = {
        "ecowas_lc": lambda session: RedisChatMessageHistory("bench", session, url=url),
    }
    try:
        from langchain_community.chat_message_histories import RedisChatMessageHistory as Community
    except ImportError:
        print("langchain-community is not installed: left out")
    else:
        out["langchain-community"] = lambda session: Community(session, url=url, ttl=86400)
    if stack := os.environ.get("BENCH_REDIS_STACK_URL"):
        from langchain_redis import RedisChatMessageHistory as LangchainRedis

        out["langchain-redis"] = lambda session: LangchainRedis(session_id=session, redis_url=stack)
    else:
        print(RECORDED)
    return out


def measured(client: redis.Redis, work: Callable[[], Any]) -> tuple[float, float, float]:
    """Milliseconds, commands of the client, kB both ways."""
    client.config_resetstat()
    begun = time.perf_counter()
    work()
    taken = time.perf_counter() - begun
    stats, commands = client.info("stats"), client.info("commandstats")
    inner = {"cmdstat_info", "cmdstat_config|resetstat"}
    # What a script calls on the server travels nowhere: where scripts ran, they are the client's commands.
    scripts = sum(commands.get(name, {"calls": 0})["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval"))
    every = sum(figures["calls"] for name, figures in commands.items() if name not in inner)
    kilobytes = (stats["total_net_input_bytes"] + stats["total_net_output_bytes"]) / 1000
    return 1000 * taken, scripts or every, kilobytes


def main() -> None:
    """Run each work in turn, and print medians."""
    warnings.simplefilter("ignore")  # langchain-community announces its own end
    messages: list[BaseMessage] = [
        (HumanMessage, AIMessage)[number % 2](text(200), id=f"m{number}") for number in range(MESSAGES)
    ]
    figures: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with server("redis") as (url, client):
        every = makers(url)
        for round_ in range(ROUNDS):
            for name, make in every.items():
                history = make(f"{name}-{round_}")
                works = {
                    "append one by one": lambda history=history: [history.add_message(m) for m in messages],
                    "read whole": lambda history=history: history.messages,
                    f"read the last {LAST}": lambda name=name, history=history: last(name, url, history),
                }
                for what, work in works.items():
                    figures.setdefault((what, name), []).append(measured(client, work))
    print(f"{MESSAGES} messages of 200 characters, medians of {ROUNDS} rounds taken in turn:")
    for (what, name), rows in sorted(figures.items()):
        milliseconds, commands, kilobytes = (statistics.median(row[i] for row in rows) for i in range(3))
        print(f"  {what:20} {name:22} {milliseconds:8.1f} ms  {commands:6.0f} commands  {kilobytes:8.1f} kB")


def last(name: str, url: str, history: Any) -> list[BaseMessage]:
    """The last messages: a windowed read where there is one, else the whole."""
    if name != "ecowas_lc":
        return list(history.messages[-LAST:])
    windowed = RedisChatMessageHistory("bench", history.session_id, url=url, max_messages=LAST)
    return windowed.messages


if __name__ == "__main__":
    main()
