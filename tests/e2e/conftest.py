"""The whole product as a newcomer has it: processes, the embedded server, a real model over HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ecowas_lc.embedded import server_status, stop_server
from ecowas_lc.local_model import LocalModel
from ecowas_lc.settings import Settings
from tests.cli.conftest import OURS
from tests.fixtures.servers import need, system_program

SECONDS = 240.0
"""The longest that any process here may take, on loaded cores."""


@dataclass(frozen=True)
class House:
    """A folder to work in, an environment, and the embedded server's data."""

    folder: Path
    environment: dict[str, str]
    settings: Settings

    @property
    def socket(self) -> Path:
        return server_status(self.settings).socket

    def ecowas(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, in a separate process."""
        return self.python("-m", "ecowas_lc.cli", *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end."""
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ecowas_lc.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def redis_cli(self, *arguments: str) -> str:
        """The output of ``redis-cli`` on the embedded server."""
        program = system_program("redis-cli")
        if program is None:
            need("redis-cli (Debian package redis-tools)")
        assert program is not None
        command = [program, "-s", str(self.socket), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout


@pytest.fixture(scope="module")
def bare_house() -> Iterator[House]:
    """An environment in which only the data directory is ours; its server is stopped automatically."""
    root = Path(tempfile.mkdtemp(prefix="elc-", dir="/tmp"))  # pytest's own are too long for a socket
    data, folder = root / "data", root / "work"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {"ECOWAS_LC_DATA_DIR": str(data), "COLUMNS": "100"}
    settings = Settings(_env_file=None, data_dir=data)
    yield House(folder, environment, settings)
    stop_server(settings)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def house(bare_house: House, local_model: LocalModel) -> House:
    """The same with the real local model, served over HTTP, as its model server."""
    served = {"OLLAMA_BASE_URL": local_model.base_url, "OLLAMA_MODEL": local_model.model}
    return House(bare_house.folder, bare_house.environment | served, bare_house.settings)
