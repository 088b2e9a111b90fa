"""Examples run as people run them: as programs, against a real server and a model server of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.ollama_stub import OllamaStub, serving_stub
from tests.fixtures.servers import RunningServer

ROOT = Path(__file__).parents[2]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ollama() -> Iterator[OllamaStub]:
    """A model server that always answers the same: the tests concern everything around the answer."""
    with serving_stub() as stub:
        yield stub


def environment_for(server: RunningServer, prefix: str, ollama: OllamaStub) -> dict[str, str]:
    """The environment of the programs: a server, a prefix, a model, and no setting of this machine."""
    ours = ("REDIS_", "OLLAMA_", "ECOWAS_LC_", "AGENT_", "LLM_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **inherited,
        "REDIS_URL": server.url,
        "ECOWAS_LC_PREFIX": prefix,
        "ECOWAS_LC_ROUTER": "lexical",
        "OLLAMA_BASE_URL": ollama.url,
        "OLLAMA_MODEL": "tiny",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def environment(redis_server: RunningServer, prefix: str, ollama: OllamaStub) -> dict[str, str]:
    """An environment of the test's own."""
    return environment_for(redis_server, prefix, ollama)


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run an example to its end: ``run("name.py", *arguments, NAME="value")``."""

    def program(name: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "examples" / name), *arguments],
            check=False,
            env=environment | {"PYTHONWARNINGS": "error"} | settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return program
