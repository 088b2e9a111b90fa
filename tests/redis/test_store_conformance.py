"""The store conformance suite, run on three stores: ours keeps every promise; the peers' failures are known."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from ecowas_lc import EncryptedRedisSerializer
from ecowas_lc.store import RedisStore
from ecowas_lc.testing.stores import CHECKS, Check, Report, Setup, Shell, run_check, validate
from ecowas_lc.testing.stores.checks import UnsupportedError
from tests.fixtures.servers import RunningCluster, RunningServer

numbers = itertools.count()
shells = pytest.mark.parametrize("shell", ["sync", "async"])
checks = pytest.mark.parametrize("check", CHECKS, ids=str)


def redis_store(url: str, prefix: str, **options: Any) -> Any:
    @contextlib.asynccontextmanager
    async def make(setup: Setup) -> AsyncIterator[BaseStore]:
        own = {"collection": f"c{next(numbers)}", "index": setup.index, "ttl": setup.ttl}
        async with RedisStore.from_url(url, prefix=prefix, **own, **options) as store:
            yield store

    return make


@shells
@checks
async def test_redis_store(server: RunningServer, prefix: str, check: Check, shell: Shell) -> None:
    """``RedisStore`` keeps each promise on every supported server, through both of its shells."""
    await run_check(check, redis_store(server.url, prefix), shell)


async def whole_report(name: str, make: Any) -> Report:
    report = await validate(name, make)
    assert report.conforms, str(report)
    assert not report.unsupported
    return report


async def test_redis_store_on_a_cluster(cluster: RunningCluster, prefix: str) -> None:
    """On a cluster, where namespaces are spread over the nodes, it keeps each promise, too."""
    await whole_report("cluster", redis_store(cluster.url, prefix))


async def test_redis_store_encrypted(redis_server: RunningServer, prefix: str) -> None:
    """With values, vectors and words encrypted, it keeps each promise, too."""
    encryption = EncryptedRedisSerializer(os.urandom(32))
    await whole_report("encrypted", redis_store(redis_server.url, prefix, encryption=encryption))


async def test_redis_store_with_vectors_in_32_bits(redis_server: RunningServer, prefix: str) -> None:
    """With copies that keep vectors in 32 bits, it keeps each promise, too."""

    @contextlib.asynccontextmanager
    async def make(setup: Setup) -> AsyncIterator[BaseStore]:
        index: Any = {**setup.index, "vectors": "float32"} if setup.index else None
        url, collection = redis_server.url, f"c{next(numbers)}"
        async with RedisStore.from_url(
            url, prefix=prefix, collection=collection, index=index, ttl=setup.ttl
        ) as store:
            yield store

    await whole_report("float32", make)


@contextlib.asynccontextmanager
async def in_memory(setup: Setup) -> AsyncIterator[BaseStore]:
    yield InMemoryStore(index=setup.index)


@contextlib.asynccontextmanager
async def sqlite(setup: Setup) -> AsyncIterator[BaseStore]:
    if setup.index and not hasattr(sqlite3.Connection, "enable_load_extension"):
        raise UnsupportedError("this Python's SQLite loads no extensions, so it has no vectors")
    if setup.shell == "sync":
        with SqliteStore.from_conn_string(":memory:", index=setup.index, ttl=setup.ttl) as store:
            store.setup()
            yield store
    else:
        async with AsyncSqliteStore.from_conn_string(":memory:", index=setup.index, ttl=setup.ttl) as store:
            await store.setup()
            yield store


IN_MEMORY_DIFFERS = {
    "a_change_of_the_callers_value_changes_nothing",
    "what_is_not_json_is_refused",
    "created_at_survives_updates",
    "filter_values_are_compared_as_they_are",
    "a_namespace_without_items_is_not_listed",
    "a_bad_operation_writes_nothing",
    "batches_check_namespaces_too",
    "each_put_decides_what_is_indexed",
}
SQLITE_DIFFERS = {
    "what_was_put_is_read",
    "what_is_not_json_is_refused",
    "created_at_survives_updates",
    "filter_values_are_compared_as_they_are",
    "a_bad_operation_writes_nothing",
    "each_put_decides_what_is_indexed",
    "an_item_without_the_text_is_kept",
}


@shells
@pytest.mark.parametrize("check", [check for check in CHECKS if check.capability != "ttl"], ids=str)
@pytest.mark.parametrize(
    ("make", "differs"), [(in_memory, IN_MEMORY_DIFFERS), (sqlite, SQLITE_DIFFERS)], ids=["in-memory", "sqlite"]
)
async def test_what_the_peers_do(make: Any, differs: set[str], check: Check, shell: Shell) -> None:
    """The suite accepts langgraph's own stores but for the differences that its README lists; it can fail, too."""
    try:
        if check.name in differs:
            with pytest.raises(Exception):  # noqa: B017, PT011
                await run_check(check, make, shell)
        else:
            await run_check(check, make, shell)
    except UnsupportedError:
        assert check.capability == "index"


def test_a_report_reads_as_text() -> None:
    """A report lists each capability with its passed checks, and each failed check with its reason."""
    report = Report("MyStore", {"ttl": ["a", "b"]}, {"ttl": [("c", "it expired")]}, ["search"])
    assert str(report).split("\n") == ["MyStore", "  ttl: 2 of 3", "    c: it expired", "  search: not supported"]
    assert not report.conforms
