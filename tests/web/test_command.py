"""``ecowas-lc serve``, ``access`` and ``audit``, as a user runs them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from ecowas_lc import web
from ecowas_lc.cli import main
from ecowas_lc.errors import MissingExtraError
from ecowas_lc.settings import get_settings
from ecowas_lc.web.serving import _Server
from tests.fixtures.forked import in_child
from tests.fixtures.servers import DEADLINE_SECONDS, RunningServer, closed_port


@pytest.fixture
def environment(redis_server: RunningServer, prefix: str) -> dict[str, str]:
    """A server, and the address of a model server that does not run."""
    known = {name: value for name, value in os.environ.items() if not re.match(r"(REDIS|OLLAMA|ECOWAS)_", name)}
    return {
        **known,
        "REDIS_URL": redis_server.url,
        "ECOWAS_LC_PREFIX": prefix,
        "OLLAMA_BASE_URL": f"http://127.0.0.1:{closed_port()}",
        "COLUMNS": "40",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ecowas_lc.cli", *arguments]


def ran(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def pipes(errors: Any) -> dict[str, Any]:
    return {"stdout": subprocess.PIPE, "stderr": errors, "text": True}


@contextmanager
def serving(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[tuple[str, Any, Path]]:
    """The first line, the process, and its log."""
    log = folder / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command("serve", *arguments), env=environment, cwd=folder, **pipes(errors)) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline(), process, log
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(DEADLINE_SECONDS)


def test_serve_without_a_model_server(environment: dict[str, str], tmp_path: Path) -> None:
    """The first line is only the link; it signs in once; the page says what is missing; a question
    fails with advice; the log has no token; Ctrl-C ends it at once; the audit lists the actions.
    """
    with serving(environment, tmp_path, "--port", "0") as (line, process, log):
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/sign-in\?token=([\w-]{40,})\n", line)
        assert found, line + log.read_text()
        address, token = found.groups()
        with httpx.Client(base_url=address, timeout=30) as client:
            assert client.get("/api/me").status_code == 401
            health = client.get("/health").json()
            assert (health["redis"], health["model"]) == (True, False)
            signed = client.get(f"/sign-in?token={token}")
            assert (signed.status_code, signed.headers["location"]) == (303, "/")
            system = client.get("/api/system", params={"checks": True}).json()
            assert "No model server answers" in system["model"]["note"]
            assert {finding["area"] for finding in system["checks"]} >= {"Redis", "Model"}
            headers = {"X-CSRF-Token": client.get("/api/me").json()["csrf_token"]}
            answer = client.post("/api/chat", json={"question": "hello"}, headers=headers)
            assert answer.status_code == 502
            assert "ollama serve" in answer.json()["detail"]
            assert "server" not in answer.headers
            assert client.get("/sign-in", params={"token": token}).status_code == 403
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) in (0, 130, -signal.SIGINT)
        assert process.stdout.read() == ""
    said = log.read_text()
    assert token not in said
    assert "/sign-in?token=hidden" in said
    assert "Traceback" not in said
    lines = json.loads(ran(environment, tmp_path, "audit", "--json").stdout)
    assert [line["what"] for line in lines] == ["ask", "sign in"]
    assert "sign in" in ran(environment, tmp_path, "audit").stdout


def test_others_need_a_key_or_a_proxy(environment: dict[str, str], tmp_path: Path) -> None:
    """On an address that others can reach, the service does not start if no one could sign in."""
    refused = ran(environment, tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "ecowas-lc access add" in " ".join(refused.stderr.split())
    made = ran(environment, tmp_path, "access", "add", "ama", "--role", "operator", "--json")
    key = json.loads(made.stdout)["key"]
    listed = ran(environment, tmp_path, "access", "list", "--json").stdout
    assert json.loads(listed)["keys"][0]["name"] == "ama"
    assert key not in listed
    with serving(environment, tmp_path, "--host", "0.0.0.0", "--port", "0", "--no-link") as (line, _, log):
        assert re.fullmatch(r"http://0\.0\.0\.0:\d+\n", line), line + log.read_text()
        address = line.strip().replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{address}/metrics", headers={"X-API-Key": key}, timeout=30).status_code == 200
        assert httpx.get(f"{address}/api/sessions", headers={"X-API-Key": key}, timeout=30).status_code == 403
        assert ran(environment, tmp_path, "access", "remove", "ama", "--yes").returncode == 0
        assert httpx.get(f"{address}/metrics", headers={"X-API-Key": key}, timeout=30).status_code == 401


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without FastAPI the command says what to install, and so does the package."""
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve"]) == 1
    assert "pip install" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(MissingExtraError, match="extra web"):
        web.check_installed()


BAD_INPUT = [
    ("serve", "--certificate", "x.pem"),
    ("serve", "--host", "no.such.host.invalid"),
    ("serve", "--hold", "nobody"),
    ("access", "add", "ama"),
    ("access", "add", "ama", "--role", "king"),
    ("access", "add", "", "--role", "staff"),
    ("access", "add", "ama", "--role", "staff", "--group", "nobody"),
    ("access", "add", "ama", "--role", "staff", "--organisation", "a:b"),
]


@pytest.mark.parametrize("arguments", BAD_INPUT, ids=" ".join)
def test_bad_input_is_named(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    """An invalid option is one clear line with exit code 2, and nothing is stored or served."""
    for name in ("REDIS_URL", "ECOWAS_LC_PREFIX", "OLLAMA_BASE_URL"):
        monkeypatch.setenv(name, environment[name])
    get_settings.cache_clear()
    try:
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Unexpected" not in said.err
    finally:
        get_settings.cache_clear()


def test_collecting_garbage_stops_no_reader() -> None:
    """With hundreds of open answers, a full collection takes 0.3 s: a server excludes long-lived objects."""

    def started() -> tuple[bool, bool]:
        server = _Server(uvicorn.Config(lambda: None, lifespan="off", ws="none"), web=None)  # type: ignore[arg-type]
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        asyncio.run(server.startup(sockets=[]))
        return gc.get_freeze_count() > 10_000, gc.get_threshold()[2] > 10

    assert in_child(started) == (True, True)
