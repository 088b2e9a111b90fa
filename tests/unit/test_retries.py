"""Retries are redis-py's own, with random waits: clients of a restarted server don't return all at once."""

from __future__ import annotations

from typing import Any

import pytest

from ecowas_lc.settings import Settings
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.clients import ClientFactory


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///s.sock", "redis+sentinel://h/main"])
@pytest.mark.parametrize("shell", ["make", "make_async"])
def test_waits_differ(url: str, shell: str) -> None:
    """Three retries, sync and async, wait for random times of at most two seconds together."""
    client: Any = getattr(ClientFactory(parse_url(url), Settings(_env_file=None)), shell)()
    retry = client.connection_pool.connection_kwargs["retry"]
    tries = retry.get_retries()
    assert tries == 3
    waits = [[retry._backoff.compute(failures) for failures in range(1, tries + 1)] for _ in range(50)]
    assert all(len(set(column)) > 1 for column in zip(*waits, strict=True))
    assert max(map(sum, waits)) < 2
