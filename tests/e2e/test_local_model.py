"""The small local model from the command line: served in one process, asked by another."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.e2e.conftest import House
from tests.fixtures.servers import DEADLINE_SECONDS

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


def test_served_and_asked(bare_house: House) -> None:
    """``local-model serve`` prints its address, which is all that other programs need; Ctrl-C ends it."""
    serving = subprocess.Popen(
        [sys.executable, "-P", "-m", "ecowas_lc.cli", "local-model", "serve", "--port", "0"],
        cwd=bare_house.folder,
        env=bare_house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        said = serving.stdout.readline()
        assert said.startswith("smollm2:135m is served at http://127.0.0.1:")
        url = said.split(" is served at ")[1].split(";")[0]
        house = replace(bare_house, environment=bare_house.environment | {"OLLAMA_BASE_URL": url})
        done = house.ecowas("doctor", "--json")
        assert done.returncode == 0, done.stdout
        texts = {finding["what"]: finding["text"] for finding in json.loads(done.stdout)["findings"]}
        assert texts["model"] == "smollm2:135m is available"
        serving.send_signal(signal.SIGINT)
        _, err = serving.communicate(timeout=DEADLINE_SECONDS)
        assert (serving.returncode, err) == (0, "")
    finally:
        serving.kill()
        serving.wait(DEADLINE_SECONDS)


def test_a_port_that_is_taken(bare_house: House) -> None:
    """A port in use is refused: one line, exit code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = bare_house.ecowas("local-model", "serve", "--port", str(port))
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_installing_what_is_there(bare_house: House) -> None:
    """``local-model install`` does nothing if everything is installed, and says so."""
    done = bare_house.ecowas("local-model", "install")
    assert (done.returncode, done.stdout) == (0, "")
    assert "already installed" in done.stderr
