"""The command, run in this process against real servers and a model server of known words, or as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from ecowas_lc.cli import main, options
from ecowas_lc.settings import get_settings
from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.servers import RunningServer

OURS = ("REDIS_", "OLLAMA_", "ECOWAS_LC_", "AGENT_", "SUPERVISOR_", "LLM_")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and its output."""

    code: int
    out: str
    err: str


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """An environment without settings of ours, in a folder without ``.env``."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()
    options._debugging = False


@pytest.fixture(scope="session")
def shared_stub() -> Iterator[OllamaStub]:
    with serving_stub() as stub:
        yield stub


@pytest.fixture
def stub(shared_stub: OllamaStub) -> Iterator[OllamaStub]:
    """A model server whose model answers ``Good morning.``, and the requests it received."""
    fresh = OllamaStub()
    fresh.url = shared_stub.url
    shared_stub.__dict__.update(vars(fresh))
    yield shared_stub
    shared_stub.released.set()


@pytest.fixture
def environment(
    bare: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str, stub: OllamaStub
) -> pytest.MonkeyPatch:
    """An environment that names a real Redis, a prefix of this test's own and the model server."""
    bare.setenv("REDIS_URL", redis_server.url)
    bare.setenv("ECOWAS_LC_PREFIX", prefix)
    bare.setenv("ECOWAS_LC_ROUTER", "lexical")
    bare.setenv("OLLAMA_BASE_URL", stub.url)
    bare.setenv("OLLAMA_MODEL", "tiny")
    return bare


def raising(error: BaseException) -> Any:
    """A function that raises an error."""

    def function(*_: Any, **__: Any) -> None:
        raise error

    return function


Run = Callable[..., Ended]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process: ``run("ask", "…", stdin="…")``."""

    def command(*arguments: str, stdin: str = "", on_terminal: bool = False) -> Ended:
        get_settings.cache_clear()
        options._debugging = False
        typed = StringIO(stdin)
        typed.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", typed if on_terminal else StringIO(stdin))
        capfd.readouterr()
        code = main(list(arguments))
        said = capfd.readouterr()
        return Ended(code, said.out, said.err)

    return command


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process, with this process's environment."""
    command = [sys.executable, "-P", "-m", "ecowas_lc.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]
