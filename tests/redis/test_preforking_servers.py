"""Real servers that load an application and then fork: gunicorn with threads, and a Celery worker."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.fixtures.servers import RunningServer, free_port, running_server, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own_server() -> Iterator[RunningServer]:
    """A server without limits: Celery keeps its queue there, too."""
    with running_server("redis") as server:
        yield server


@contextmanager
def running(
    command: list[str], server: RunningServer, prefix: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this environment, ended with all its children."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("REDIS", "ECOWAS"))}
    environment |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port), "ECOWAS_LC_PREFIX": prefix}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            cwd=log.parent,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def test_gunicorn(own_server: RunningServer, prefix: str, tmp_path: Path) -> None:
    """``gunicorn --preload --threads`` answers each request, in any worker and thread."""
    port, log = free_port(), tmp_path / "log"
    command = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--preload", "--workers", "2", "--threads", "3"]
    command += ["--timeout", "300", "--graceful-timeout", "1", "tests.fixtures.preforked:app"]

    def answer(_: int) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as reply:
            told: dict[str, Any] = json.load(reply)
            return told

    with running(command, own_server, prefix, log) as process:
        wait_until(
            lambda: process.poll() is not None or log.read_text().count("Booting worker") == 2, "both workers"
        )
        assert process.poll() is None, log.read_text()[-3000:]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(answer, range(12)))
    assert {tuple(each["groups"]) for each in answers} == {("energy",)}
    assert process.pid not in {each["pid"] for each in answers}


def test_celery(own_server: RunningServer, prefix: str, tmp_path: Path) -> None:
    """A Celery worker's forked processes answer, in the task's thread, in others and in an event loop's."""
    log = tmp_path / "log"
    command = ["celery", "-A", "tests.fixtures.preforked_tasks", "worker", "--pool", "prefork"]
    command += ["--concurrency", "2", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    with (
        running(command, own_server, prefix, log) as process,
        Celery(broker=own_server.url, backend=own_server.url) as queue,
    ):
        wait_until(lambda: process.poll() is not None or " ready." in log.read_text(), "the worker")
        assert process.poll() is None, log.read_text()[-3000:]
        tasks = [queue.send_task("everything") for _ in range(4)]
        answers = [task.get(timeout=40) for task in tasks]
        del tasks
        gc.collect()  # results unsubscribe as they are collected: later the server is gone
    assert [each["groups"] for each in answers] == [[["energy"]] * 3] * 4
    assert process.pid not in {each["pid"] for each in answers}
