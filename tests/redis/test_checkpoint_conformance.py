"""The public conformance suite of langgraph checkpointers, through async and through sync methods."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from tests.fixtures.servers import COMMANDS

CAPABILITIES = {
    "put",
    "put_writes",
    "get_tuple",
    "list",
    "delete_thread",
    "copy_thread",
    "delete_for_runs",
    "prune",
}


class ThroughSync(BaseCheckpointSaver[Any]):
    """The suite knows async methods only: this passes each on to the sync one."""

    def __init__(self, saver: RedisSaver) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver

    async def aget_tuple(self, config: Any) -> Any:
        return self.saver.get_tuple(config)

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[Any]:
        for item in self.saver.list(config, **options):
            yield item

    async def aput(self, *args: Any) -> Any:
        return self.saver.put(*args)

    async def aput_writes(self, *args: Any, **options: Any) -> None:
        self.saver.put_writes(*args, **options)

    async def adelete_thread(self, thread_id: str) -> None:
        self.saver.delete_thread(thread_id)

    async def acopy_thread(self, source: str, target: str) -> None:
        self.saver.copy_thread(source, target)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        self.saver.delete_for_runs(run_ids)

    async def aprune(self, thread_ids: Any, **options: Any) -> None:
        self.saver.prune(thread_ids, **options)


@pytest.fixture(params=["async", "sync"])
def shell(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["plain", "encrypted", "langgraph-encrypted"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "encrypted":
        return {"serde": EncryptedRedisSerializer(os.urandom(32))}
    if request.param == "langgraph-encrypted":
        return {"serde": EncryptedSerializer.from_pycryptodome_aes(key=os.urandom(16))}
    return {}


async def assert_conforms(url: str, shell: str, **options: Any) -> None:
    @checkpointer_test(name="RedisSaver")
    async def registered() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        async with RedisSaver.from_url(url, **options) as saver:
            yield saver if shell == "async" else ThroughSync(saver)

    report = await validate(registered)
    failures = [line for result in report.results.values() for line in result.failures or []]
    assert failures == []
    assert {name for name, result in report.results.items() if result.passed} == CAPABILITIES


async def test_conforms_on_one_server(server: Any, prefix: str, shell: str, options: dict[str, Any]) -> None:
    """All capabilities hold on Redis 7.0 and Valkey 9, encrypted or not, through both kinds of method."""
    await assert_conforms(server.url, shell, prefix=prefix, **options)


async def test_conforms_on_a_cluster(cluster: Any, prefix: str, shell: str, options: dict[str, Any]) -> None:
    """All capabilities hold on three primaries: a thread's keys share a slot, and nothing crosses slots."""
    await assert_conforms(cluster.url, shell, prefix=prefix, **options)


@pytest.fixture
def acl_user(redis_server: Any, prefix: str) -> Iterator[str]:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", prefix, "on", ">pass", f"~{prefix}:*", *COMMANDS.split())
        yield f"redis://{prefix}:pass@127.0.0.1:{redis_server.port}/0"
        client.execute_command("ACL", "DELUSER", prefix)


async def test_conforms_for_a_restricted_user(acl_user: str, prefix: str, shell: str) -> None:
    """A user with ~{prefix}:* and the commands that the documentation lists is enough for everything."""
    await assert_conforms(acl_user, shell, prefix=prefix)
