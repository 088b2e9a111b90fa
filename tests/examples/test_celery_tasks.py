"""The tasks, run by a real worker with Redis as its broker."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ecowas_lc import RedisMemoryService, get_settings
from ecowas_lc.storage.addresses import parse_url
from tests.fixtures.servers import RunningServer, wait_until

pytestmark = pytest.mark.rights("allkeys", "allchannels", "+@all")  # Celery keeps its queue there, too


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A worker in a separate process; returns its log."""
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "examples.celery_tasks", "worker", "--concurrency", "1"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "--loglevel", "INFO"],
            env=environment,
            cwd=tmp_path,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            wait_until(lambda: process.poll() is not None or " ready." in log.read_text(), "the worker")
            assert process.poll() is None, log.read_text()
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture
def queue(environment: dict[str, str]) -> Iterator[Celery]:
    """A client of the queue, as another program would have it."""
    keys = {"global_keyprefix": f"{environment['ECOWAS_LC_PREFIX']}-celery:"}
    with Celery(broker=environment["REDIS_URL"], backend=environment["REDIS_URL"]) as app:
        app.conf.update(broker_transport_options=keys, result_backend_transport_options=keys)
        yield app
        gc.collect()  # results unsubscribe as they are collected: later the server is gone
        app.backend.client.connection_pool.disconnect()


def test_questions_and_the_clean_up(worker: Path, queue: Celery, redis_server: RunningServer, prefix: str) -> None:
    """The answer is returned and stored in its session; the clean-up deletes idle sessions with their threads."""

    def call(task: str, *arguments: Any) -> Any:
        return queue.send_task(f"ecowas.{task}", arguments).get(timeout=60)

    memory = RedisMemoryService(url=redis_server.url, prefix=prefix)
    answer = call("answer", "old", "How far does the power pool reach?")
    assert answer == {"answer": "Good morning.", "groups": ["energy"]}
    assert len(memory.get_conversation_history("supervisor", "old")) == 2
    memory.set_session_data("old", "language", "fr")
    assert memory.get_memory_stats()["threads"] == 1

    assert call("clean_up") == {"sessions": 1, "forgotten": 0}
    assert len(memory.get_conversation_history("supervisor", "old")) == 2
    assert call("clean_up", 0) == {"sessions": 1, "forgotten": 1}
    assert memory.get_session_infos() == []
    assert memory.get_session_data("old", "language") is None
    assert memory.get_memory_stats()["threads"] == 0

    with redis_server.client() as client:
        stray = [key for key in client.keys("*") if key.startswith((b"_kombu", b"celery"))]
    assert stray == [], "Celery's keys are under a prefix of their own"
    assert "Traceback" not in worker.read_text()


@pytest.fixture(autouse=True)
def own_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix that the example sets when it is imported ends with the test."""
    monkeypatch.setenv("ECOWAS_LC_PREFIX", "celery-example")


def test_the_broker_is_the_settings_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its URL contains the user and the password unchanged, whatever their characters."""
    from examples.celery_tasks import broker_url

    for name, value in {"HOST": "redis.example", "PORT": "6390", "DB": "2", "PASSWORD": "a/b@c:d"}.items():
        monkeypatch.setenv(f"REDIS_{name}", value)
    monkeypatch.delenv("REDIS_URL", raising=False)
    try:
        for user in ("", "me@home"):
            monkeypatch.setenv("REDIS_USERNAME", user)
            get_settings.cache_clear()
            address = parse_url(broker_url())
            assert (address.hosts, address.db) == ((("redis.example", 6390),), 2)
            assert (address.username or "", str(address.password)) == (user, "a/b@c:d")
    finally:
        get_settings.cache_clear()


def test_the_clean_up_is_due_every_night() -> None:
    """The schedule that ``--beat`` follows names an existing task."""
    from examples.celery_tasks import app

    [entry] = app.conf.beat_schedule.values()
    assert entry["task"] in app.tasks
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({2}, {30})
