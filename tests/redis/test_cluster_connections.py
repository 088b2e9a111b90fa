"""Connections to the nodes of a cluster, when something happens to them during a call."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import redis.asyncio
from redis.connection import Connection
from redis.exceptions import MaxConnectionsError

from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.settings import Settings
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.clients import ClientFactory
from ecowas_lc.storage.clusters import NodePools
from ecowas_lc.storage.server import Server
from tests.fixtures.servers import RunningCluster


@pytest.mark.parametrize("when", ["while it reads", "while it connects"])
def test_another_thread_closes_a_connection(
    cluster: RunningCluster, prefix: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose connection another thread closed, as old redis-py does after a failover, is sent once more."""
    memory = RedisMemoryService(url=cluster.url, prefix=prefix)
    memory.set_session_data("s", "key", 1)
    place = "read_response" if when == "while it reads" else "connect"
    real = getattr(Connection, place)
    broken: list[str] = []

    def once(self: Connection, *args: Any, **options: Any) -> Any:
        if broken:
            return real(self, *args, **options)
        broken.append(when)
        self.disconnect()
        parser: Any = None
        return parser.feed  # what redis-py meets: its parser is gone

    monkeypatch.setattr(Connection, place, once)
    assert memory.get_session_data("s", "key") == 1
    assert broken == [when]
    memory.close()


def test_a_reply_that_was_not_read_is_nobodys(
    cluster: RunningCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between a command and its reply closes the connection, so that no later call gets the reply."""
    memory = RedisMemoryService(url=cluster.url, prefix=prefix)
    memory.set_session_data("s", "key", 1)
    memory.set_session_data("s", "other", 2)
    interrupted: list[Connection] = []

    def interrupt(self: Connection, *_: Any, **__: Any) -> Any:
        interrupted.append(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            memory.get_session_data("s", "key")
    [connection] = interrupted
    assert connection._sock is None
    assert memory.get_session_data("s", "other") == 2
    memory.close()


def _misled(client: Any) -> None:
    """Make a client believe that every slot is served by the next node."""
    slots = client.nodes_manager.slots_cache
    primaries = {nodes[0].name: nodes[0] for nodes in slots.values()}
    ring = list(primaries)
    after = {name: primaries[ring[(number + 1) % len(ring)]] for number, name in enumerate(ring)}
    for slot, nodes in slots.items():
        slots[slot] = [after[nodes[0].name]]


async def test_a_connection_is_closed_while_slots_are_looked_for(
    cluster: RunningCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for moved slots whose connection another caller closed is made once more, in threads and tasks."""
    broken: list[str] = []
    nothing: Any = None

    def once(real: Any, name: str) -> Any:
        def execute(self: Any, *args: Any, **options: Any) -> Any:
            if args[0] != "EXISTS" or name in broken:
                return real(self, *args, **options)
            broken.append(name)
            return nothing.writelines  # what redis-py meets: its connection has no stream any more

        return execute

    for kind in (redis.RedisCluster, redis.asyncio.RedisCluster):
        monkeypatch.setattr(kind, "execute_command", once(kind.execute_command, kind.__module__))
    server = Server.from_url(cluster.url)
    memory = RedisMemoryService(server=server, prefix=prefix)
    awaiting = AsyncRedisMemoryService(server=server, prefix=prefix)
    memory.set_session_data("s", "key", 1)
    _misled(server.client)
    assert memory.get_session_data("s", "key") == 1
    assert await awaiting.get_session_data("s", "key") == 1
    [here] = server._by_loop.values()
    _misled(here.client)
    assert await awaiting.get_session_data("s", "key") == 1
    assert broken == ["redis.cluster", "redis.asyncio.cluster"]
    await server.aclose()


async def test_too_many_callers_look_for_slots() -> None:
    """A caller that can't look up moved slots in time gets a connection error; the others are not affected."""
    pools = NodePools(lambda host, port: None, 1, 0.01)
    with pools.finding(), pytest.raises(MaxConnectionsError), pools.finding():
        pass
    async with pools.finding_async():
        with pytest.raises(MaxConnectionsError):
            async with pools.finding_async():
                pass
    with pools.finding():
        pass


async def test_a_node_that_the_cluster_has_just_got(cluster: RunningCluster) -> None:
    """A redirection to an unknown node adds that node."""
    factory = ClientFactory(parse_url(cluster.url), Settings(_env_file=None))
    client, blocking = await factory.make_async().initialize(), factory.make()
    for one in (client, blocking):
        made = [one.get_node(node_name="127.0.0.1:1"), one.get_node("127.0.0.1", 1)]
        assert made[0] is made[1]
        assert (made[0].host, made[0].port) == ("127.0.0.1", 1)
    blocking.close()
    await client.close_connections()


async def test_without_pools_of_our_own(
    cluster: RunningCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If connections of the installed redis-py can't be shared, its own clients are used for every node."""
    monkeypatch.setattr("ecowas_lc.storage.clients.IS_USABLE", False)
    monkeypatch.setattr("ecowas_lc.storage.clients.IS_USABLE_ASYNC", False)
    with RedisMemoryService(url=cluster.url, prefix=prefix) as memory:
        for number in range(8):
            memory.set_session_data(f"s{number}", "key", number)
    async with AsyncRedisMemoryService(url=cluster.url, prefix=prefix) as elsewhere:
        assert [await elsewhere.get_session_data(f"s{number}", "key") for number in range(8)] == list(range(8))
