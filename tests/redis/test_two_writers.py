"""Two writers of one thread: the checks of ``ecowas_lc.testing.savers``, on ours and on langgraph's savers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.testing.savers import CHECKS, Check, run_check, validate


@pytest.mark.parametrize("shell", ["sync", "async"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_ours(server: Any, prefix: str, check: Check, encrypted: bool, shell: Any) -> None:
    """Two savers, with connections and caches of their own, keep every promise."""

    @asynccontextmanager
    async def savers() -> AsyncIterator[Any]:
        serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
        async with (
            RedisSaver.from_url(server.url, prefix=prefix, serde=serde) as one,
            RedisSaver.from_url(server.url, prefix=prefix, serde=serde) as other,
        ):
            yield one, other

    await run_check(check, savers, shell)


async def test_a_cluster(cluster: Any, prefix: str) -> None:
    """On a cluster they keep every promise as well."""

    @asynccontextmanager
    async def savers() -> AsyncIterator[Any]:
        async with (
            RedisSaver.from_url(cluster.url, prefix=prefix) as one,
            RedisSaver.from_url(cluster.url, prefix=prefix) as other,
        ):
            await one.adelete_thread("thread")
            yield one, other

    assert await validate(savers) == {}


async def test_what_was_found_in_others(tmp_path: Path) -> None:
    """The module's description of langgraph's savers must stay true."""

    class Numbering(InMemorySaver):
        get_next_version = BaseCheckpointSaver.get_next_version  # type: ignore[assignment]

    @asynccontextmanager
    async def sqlite() -> AsyncIterator[Any]:
        with SqliteSaver.from_conn_string(str(tmp_path / f"{uuid4()}.db")) as one:
            yield one, one

    @asynccontextmanager
    async def memory() -> AsyncIterator[Any]:
        saver = InMemorySaver()
        yield saver, saver

    @asynccontextmanager
    async def numbering() -> AsyncIterator[Any]:
        saver = Numbering()
        yield saver, saver

    assert await validate(memory) == {}
    assert await validate(sqlite, ("sync",)) == {}
    failed = await validate(numbering)
    assert {name.partition(" ")[0] for name in failed} == {"values_of_forks_keep_apart", "lists_grow_side_by_side"}
