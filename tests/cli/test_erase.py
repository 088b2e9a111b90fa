"""``ecowas-lc erase`` shows how much it will delete, asks, deletes it, and reports what it could not attribute."""

from __future__ import annotations

import json

import pytest

from ecowas_lc import RedisMemoryService, RedisStore
from tests.cli.conftest import Run
from tests.fixtures.servers import RunningServer


def test_erasing_a_user(
    run: Run, redis_server: RunningServer, prefix: str, environment: pytest.MonkeyPatch
) -> None:
    """Without a terminal it deletes only with ``--yes``; a second run finds nothing."""
    with RedisMemoryService(url=redis_server.url, prefix=prefix) as memory:
        memory.set_session_data("s", "user_id", "ama")
    store = RedisStore.from_url(redis_server.url, prefix=prefix)
    store.put(("ama", "notes"), "k", {"n": 1})
    refused = run("erase", "--user", "ama")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert store.get(("ama", "notes"), "k") is not None
    done = run("erase", "--user", "ama", "--yes")
    assert done.out == "Deleted 1 session and 1 item of ama.\n"
    assert store.get(("ama", "notes"), "k") is None
    assert run("erase", "--user", "ama").out == "Nothing belongs to ama.\n"
    store.put(("memories", "ama"), "k", {"n": 1})
    assert (
        run("erase", "--user", "ama").err
        == "Not attributed to any user: 1 items with the user as another label.\n"
    )
    assert run("erase", "--user", "ama", "--label", "1", "--yes").out == "Deleted 1 item of ama.\n"
    report = json.loads(run("erase", "--user", "ama", "--json").out)
    store.close()
    assert report["found"] == {"threads": 0, "sessions": 0, "items": 0}


def test_a_user_is_needed(run: Run) -> None:
    """Without a user, or with an empty one, nothing is done."""
    assert run("erase").code == 2
    assert run("erase", "--user", "").code == 2
