"""The service under test: in this process for logic, in separate processes for what outlives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ecowas_lc.settings import load_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.server import Server
from ecowas_lc.web import create_app
from ecowas_lc.web.access import add_key_op
from ecowas_lc.web.app import Web
from ecowas_lc.web.principals import checked_principal
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import DEADLINE_SECONDS, RunningServer, free_port, wait_until

ROOT = Path(__file__).parents[2]


def make_key(url: str, prefix: str, name: str, *roles: str, groups: Any = None, organisation: str = "") -> str:
    """An API key of a user."""
    server = Server.from_url(url)
    try:
        owner = checked_principal(name, roles, organisation or prefix, groups)
        return server.run(add_key_op(Keys(prefix), owner))
    finally:
        server.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass
class Desk:
    """A service in this process, with a client."""

    app: FastAPI
    client: TestClient
    url: str
    prefix: str

    @property
    def web(self) -> Web:
        return self.app.state.web

    def key(self, name: str, *roles: str, groups: Any = None, organisation: str = "") -> dict[str, str]:
        """The headers of a user with a key."""
        return bearer(make_key(self.url, self.prefix, name, *roles, groups=groups, organisation=organisation))

    def ask(self, who: dict[str, str], question: str, **more: Any) -> dict[str, Any]:
        answer = self.client.post("/api/chat", json={"question": question, **more}, headers=who)
        assert answer.status_code == 200, answer.text
        return answer.json()


def scripted(**answers: Any) -> ScriptedModel:
    given = {
        "energy": "Energy says so.",
        "digital": "Digital says so.",
        "supervisor": "Hello.",
        "synthesis": {"views": {"energy": "E.", "digital": "D."}, "answer": "Both say so."},
        **answers,
    }
    return ScriptedModel(script=by_speaker(given), structured=True)


@contextmanager
def desk_on(server: RunningServer, prefix: str, *, app_for: Any = None, **options: Any) -> Iterator[Desk]:
    settings = load_settings(redis_url=server.url, prefix=prefix, **options.pop("settings", {}))
    options = {"model": scripted(), "router": FixedRouter(), "lease_seconds": 1.0, **options}
    app = create_app(settings, **options)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield Desk(app, client, server.url, prefix)


@pytest.fixture
def desk(redis_server: RunningServer, prefix: str) -> Iterator[Desk]:
    """A service whose group `digital` is held for review."""
    with desk_on(redis_server, prefix, held=("digital",)) as found:
        yield found


@dataclass
class Process:
    """A service in a separate process."""

    popen: subprocess.Popen[str]
    address: str
    log: Path

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.kill()
        self.popen.wait(DEADLINE_SECONDS)

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.popen.wait(DEADLINE_SECONDS)


@dataclass
class Processes:
    """Services on the same data, a key for them, and the folder where their model waits for permission."""

    url: str
    prefix: str
    folder: Path
    headers: dict[str, str] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)

    def start(self, count: int = 1, **options: Any) -> list[Process]:
        """Start processes at the same time. A busy machine may pass a run to any of them, so they are alike."""
        fresh = []
        for _ in range(count):
            log = self.folder / f"log{len(self.started)}"
            given = {"url": self.url, "prefix": self.prefix, "folder": str(self.folder), "port": free_port()}
            with log.open("w") as errors:
                popen = subprocess.Popen(
                    [sys.executable, "-m", "tests.web.program", json.dumps({**given, **options})],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            fresh.append(Process(popen, "", log))
            self.started.append(fresh[-1])
        for process in fresh:
            assert process.popen.stdout is not None
            process.address = process.popen.stdout.readline().strip()
            assert process.address, process.log.read_text()
        return fresh

    def ask(self, process: Process, question: str, **more: Any) -> httpx.Response:
        body = {"question": question, **more}
        return httpx.post(f"{process.address}/api/runs", json=body, headers=self.headers, timeout=30)

    def events(
        self, process: Process, run: str, after: str = "", until: Callable[[Any], bool] | None = None
    ) -> list[Any]:
        """The events of a run after an id, as (id, event, data): to its end, or until a given one."""
        headers = {**self.headers, **({"Last-Event-ID": after} if after else {})}
        found = []
        with httpx.stream(
            "GET", f"{process.address}/api/runs/{run}/events", headers=headers, timeout=30
        ) as answer:
            assert answer.status_code == 200, answer.read()
            for event in parsed(answer.iter_lines()):
                found.append(event)
                if until is not None and until(event):
                    break
        return found

    def calls(self) -> list[str]:
        """Who was asked, in order."""
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []

    def wait_held(self) -> None:
        try:
            wait_until((self.folder / "held").exists, "the model is in the middle of its message")
        except TimeoutError as error:
            for process in self.started:
                error.add_note(process.log.read_text())
            raise

    def begin_anew(self) -> None:
        """Forget the model's requests, and hold it again."""
        for name in ("held", "go", "calls"):
            (self.folder / name).unlink(missing_ok=True)

    def go(self) -> None:
        (self.folder / "go").touch()


def parsed(lines: Iterator[str]) -> Iterator[tuple[str, str, Any]]:
    """The events of a stream: id, name and data."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
            fields = {}
        else:
            fields = {}


@contextmanager
def processes_on(url: str, prefix: str, folder: Path) -> Iterator[Processes]:
    found = Processes(url, prefix, folder, bearer(make_key(url, prefix, "ama", "staff")))
    with ExitStack() as stack:
        try:
            yield found
        finally:
            if "COVERAGE_PROCESS_CONFIG" in os.environ:  # what a killed process has run is not counted
                found.go()
                for process in found.started:
                    process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    for process in found.started:
                        process.popen.wait(10)
            for process in found.started:
                if process.popen.poll() is None:
                    process.popen.kill()
                process.popen.wait(DEADLINE_SECONDS)
                assert process.popen.stdout is not None
                stack.callback(process.popen.stdout.close)


@pytest.fixture
def processes(redis_server: RunningServer, prefix: str, tmp_path: Path) -> Iterator[Processes]:
    with processes_on(redis_server.url, prefix, tmp_path) as found:
        yield found
