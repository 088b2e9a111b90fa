"""Data directories of their own for tests, and processes that use the server there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from ecowas_lc.embedded import ServerStatus, data_dir, keeper, server_status, stop_server
from ecowas_lc.embedded.data_dir import ServerPaths, find_place
from ecowas_lc.settings import Settings
from tests.fixtures.servers import DEADLINE_SECONDS, wait_until

PROGRAM = str(Path(__file__).with_name("program.py"))


@dataclass
class User:
    """A running process that uses the server."""

    process: subprocess.Popen[str]

    def server(self) -> dict[str, Any]:
        """The reply of ``use_server``; waits for it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the user ended with {self.process.wait(DEADLINE_SECONDS)}"
        return json.loads(line)

    def leave(self) -> None:
        """End as a program does that has nothing left to do."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(DEADLINE_SECONDS) == 0

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)

    def dispose(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@dataclass
class Home:
    """One data directory and the processes that use its server."""

    data_dir: Path
    linger_seconds: float = 60.0
    binary: Path | None = None
    users: list[User] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(
            _env_file=None,
            data_dir=self.data_dir,
            linger_seconds=self.linger_seconds,
            valkey_server=self.binary,
        )

    @property
    def place(self) -> ServerPaths:
        return find_place(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ECOWAS_LC_DATA_DIR": str(self.data_dir),
            "ECOWAS_LC_LINGER_SECONDS": str(self.linger_seconds),
            **({"ECOWAS_LC_VALKEY_SERVER": str(self.binary)} if self.binary else {}),
        }

    def run(self, *arguments: str, **options: Any) -> User:
        """Start a Python process with this home's environment, away from any ``.env``."""
        user = User(
            subprocess.Popen(
                [sys.executable, *arguments],
                stdin=options.pop("stdin", subprocess.PIPE),
                stdout=subprocess.PIPE,
                text=True,
                env=self.environment,
                cwd=self.data_dir.parent,
                **options,
            )
        )
        self.users.append(user)
        return user

    def user(self) -> User:
        """Start a process that uses the server until told to exit."""
        if self.binary is not None:
            return self.run(PROGRAM)
        return self.run(PROGRAM, str(self.data_dir), str(self.linger_seconds))

    def status(self) -> ServerStatus:
        return server_status(self.settings)

    def wait_until_down(self) -> None:
        """Wait until server and keeper have ended."""
        wait_until(lambda: not self.status().running, "the server ends")
        wait_until(lambda: not keeper.is_held(self.place.keeper_lock), "the keeper ends")

    def keeper_pid(self) -> int:
        """The keeper's process id; waits until it has noted it."""
        wait_until(lambda: self.place.keeper_lock.read_text() != "", "the keeper notes its process id")
        assert keeper.is_held(self.place.keeper_lock)
        return int(self.place.keeper_lock.read_text())

    def server_pid(self) -> int:
        pid = self.status().pid
        assert pid is not None
        return pid

    def dispose(self) -> None:
        """End users and server, the latter by its process id if it can't be done in order."""
        for user in self.users:
            user.dispose()
        try:
            status = self.status() if self.data_dir.is_dir() else None
            if status is not None and status.running:
                try:
                    stop_server(self.settings)
                except BaseException:
                    assert status.pid is not None
                    os.kill(status.pid, signal.SIGKILL)
                    raise
        finally:
            seat = data_dir._seats.pop(self.place.data_dir, None)
            if seat is not None and seat.pid == os.getpid():
                os.close(seat.descriptor)


@pytest.fixture
def make_home() -> Iterator[Callable[..., Home]]:
    """Makes homes; their servers and users are ended with the test, however it ends."""
    root = Path(tempfile.mkdtemp(prefix="elc-", dir="/tmp"))  # pytest's own are too long for a socket
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)

        def make(name: str = "data", **options: Any) -> Home:
            home = Home(root / name, **options)
            stack.callback(home.dispose)
            return home

        yield make


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """A home with nothing in it and the default linger time."""
    return make_home()


@pytest.fixture
def connect() -> Iterator[Callable[[str], redis.Redis]]:
    """Makes redis-py clients from URLs."""
    with contextlib.ExitStack() as stack:
        yield lambda url: stack.enter_context(redis.Redis.from_url(url, socket_timeout=DEADLINE_SECONDS))
