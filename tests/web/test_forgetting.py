"""Clearing and erasing remove the runs that the service stored, with their questions and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest

from ecowas_lc import AsyncRedisMemoryService, RedisMemoryService, erase
from ecowas_lc.settings import Settings
from ecowas_lc.web.runs import Run
from tests.fixtures.servers import DEADLINE_SECONDS, RunningServer
from tests.web.conftest import Desk

SECRET = "energy: what does Ottokar earn?"


def by_api(desk: Desk, server: RunningServer, session: str) -> None:
    desk.client.delete(f"/api/sessions/{session}", headers=desk.key("root", "admin")).raise_for_status()


def by_memory_service(desk: Desk, server: RunningServer, session: str) -> None:
    with RedisMemoryService(url=server.url, prefix=desk.prefix) as memory:
        memory.clear_session(session)


def by_erasure(desk: Desk, server: RunningServer, session: str) -> None:
    options = {"url": server.url, "prefix": desk.prefix, "settings": Settings()}
    assert erase("ama", dry_run=True, **options).found["runs"] == 1
    assert erase("ama", **options).found["runs"] == 1
    assert "runs" not in erase("ama", **options).found


def holding(server: RunningServer, prefix: str, text: str) -> list[bytes]:
    """Return the keys below a prefix that hold a text, whatever their type."""
    with server.client() as raw:
        return [key for key in raw.scan_iter(f"{prefix}:*") if text.encode() in (raw.dump(key) or b"")]


def test_a_reader_of_a_run_that_was_removed_is_done(desk: Desk) -> None:
    """The stream of a run that another process drives ends once the run's events are removed."""
    driver = desk.web.service_of(desk.prefix).driver
    run = Run("r" * 32, "s", "ask", "ama", given={"question": "?", "question_id": "q"}, began=time.time())
    desk.web.server.run(driver.programs.start_op(run, "queue"))

    async def read() -> list[str]:
        found = []
        async with asyncio.timeout(DEADLINE_SECONDS), aclosing(driver.follow(run, beat_seconds=0.05)) as events:
            async for event in events:
                if event is not None:
                    found.append(event.type)
                elif found:
                    async with AsyncRedisMemoryService(url=desk.url, prefix=desk.prefix) as memory:
                        await memory.clear_session("s")
        return found

    assert desk.client.portal.call(read) == ["begun"]


@pytest.mark.parametrize("removed", [by_api, by_memory_service, by_erasure])
def test_a_finished_run_is_removed_with_its_session(
    desk: Desk, redis_server: RunningServer, removed: Callable[[Desk, RunningServer, str], None]
) -> None:
    """No key of the session's runs remains, finished or not; the runs of other sessions do."""
    ama, kofi = desk.key("ama", "staff"), desk.key("kofi", "staff")
    answer = desk.ask(ama, SECRET, session="s")
    other = desk.ask(kofi, "energy: and Syldavia?", session="other")
    assert (answer["status"], other["status"]) == ("done", "done")
    with redis_server.client() as raw:
        runs = [key for key in raw.scan_iter(f"{desk.prefix}:run*") if b"{s}" in key]
        assert runs
    removed(desk, redis_server, "s")
    with redis_server.client() as raw:
        left = list(raw.scan_iter(f"{desk.prefix}:run*"))
    assert not [key for key in left if b"{s}" in key or answer["run"].encode() in key]
    assert [key for key in left if other["run"].encode() in key]
    if removed is not by_memory_service:  # which leaves the thread to the saver
        assert holding(redis_server, desk.prefix, "Ottokar") == []
