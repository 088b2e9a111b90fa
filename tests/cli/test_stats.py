"""``stats``: once, or repeatedly."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from ecowas_lc import RedisMemoryService, RedisStore
from ecowas_lc.search.place import bucket_of
from tests.cli.conftest import Run
from tests.fixtures.servers import DEADLINE_SECONDS, RunningServer

MESSAGE = {"role": "user", "content": "Hello"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "ecowas_lc.cli", "stats", *arguments]


@pytest.fixture
def memory(redis_server: RunningServer, prefix: str, environment: pytest.MonkeyPatch) -> RedisMemoryService:
    memory = RedisMemoryService(url=redis_server.url, prefix=prefix)
    memory.append_to_history("energy", "s", MESSAGE)
    return memory


@pytest.mark.rights("+info", "+dbsize")
def test_once(run: Run, memory: RedisMemoryService, redis_server: RunningServer, prefix: str) -> None:
    """The server's contents and this prefix's share of them, in both output formats."""
    lines = run("stats").out.splitlines()
    assert lines[0] == f"127.0.0.1:{redis_server.port}, prefix {prefix}"
    assert ["sessions", "1"] in [line.split() for line in lines]
    figures = json.loads(run("stats", "--json").out)
    assert (figures["sessions"], figures["threads"], figures["items"]) == (1, 0, 0)
    assert figures["used_memory_bytes"] > 0
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store, redis_server.client() as raw:
        for number in range(3):
            store.put(("docs",), str(number), {})
        assert json.loads(run("stats", "--json").out)["items"] == 3
        raw.delete(*store._at.bucket(bucket_of(("docs",))))
        assert json.loads(run("stats", "--json").out)["items"] == 0


def test_watching_for_programs(memory: RedisMemoryService) -> None:
    """``--watch --json`` prints a line per refresh without buffering; Ctrl-C ends it."""
    watching = subprocess.Popen(
        command("--watch", "--every", "0.1", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["sessions"] == 1
    memory.append_to_history("energy", "another", MESSAGE)
    end = time.monotonic() + DEADLINE_SECONDS
    while json.loads(watching.stdout.readline())["sessions"] != 2:
        assert time.monotonic() < end
    watching.send_signal(signal.SIGINT)
    _, complaints = watching.communicate(timeout=DEADLINE_SECONDS)
    assert (watching.returncode, complaints) == (130, "")


def test_watching_on_a_terminal(memory: RedisMemoryService) -> None:
    """On a terminal, the figures are updated in place, with the change since the command started."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    watching = subprocess.Popen(
        command("--watch", "--every", "0.1"), stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    shown = ""

    def until(pattern: str) -> None:
        nonlocal shown
        end = time.monotonic() + DEADLINE_SECONDS
        while not re.search(pattern, shown):
            assert time.monotonic() < end, shown
            shown += os.read(ours, 4096).decode(errors="replace")

    until("sessions .*1")
    memory.append_to_history("energy", "another", MESSAGE)
    until(r"sessions .*2.*\(\+1\)")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(DEADLINE_SECONDS) == 130
    os.close(ours)
