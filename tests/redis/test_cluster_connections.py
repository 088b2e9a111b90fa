"""Connections to the nodes of a cluster, when something happens to them during a call."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import Connection

from ecowas_lc.memory import RedisMemoryService
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
