"""``server``: the embedded server from the command line."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecowas_lc.embedded import server_status, stop_server
from ecowas_lc.settings import Settings
from tests.cli.conftest import Ended, process


@pytest.fixture
def folder(bare: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory with a short path, whose server is stopped with the test."""
    root = Path(tempfile.mkdtemp(prefix="elc-", dir="/tmp"))
    data = root / "data"
    bare.setenv("ECOWAS_LC_DATA_DIR", str(data))
    yield data
    stop_server(Settings(_env_file=None, data_dir=data))
    shutil.rmtree(root)


def command(*arguments: str) -> Ended:
    """Run in a process of its own: this one must not become a user of the server."""
    done = process("server", *arguments)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_start_status_stop(folder: Path) -> None:
    """A server that was started stays when nobody uses it, and is gone when it was stopped; the data stay."""
    assert command("status").code == 1
    assert not folder.exists(), "looking makes nothing"

    started = json.loads(command("start", "--json").out)
    assert started["data_dir"] == str(folder)
    status = command("status", "--json")
    assert status.code == 0
    found = json.loads(status.out)
    assert (found["running"], found["kept"], found["pid"]) == (True, True, started["pid"])
    assert found["socket"] == started["socket"]

    again = command("start")
    assert again.code == 0
    assert f"process {started['pid']}" in again.out
    assert f"redis-cli -s {started['socket']}" in again.out

    assert json.loads(command("stop", "--json").out) == {"stopped": True}
    assert not server_status(Settings(_env_file=None, data_dir=folder)).running
    assert (folder / "appendonlydir").is_dir()
    ended = command("stop")
    assert (ended.code, ended.out) == (0, "It was not running.\n")


def test_a_server_that_is_not_used_is_said(folder: Path, bare: pytest.MonkeyPatch) -> None:
    """Where REDIS_URL is set, a remark says that conversations are kept there."""
    bare.setenv("REDIS_URL", "redis://localhost:1")
    ended = command("status")
    assert "REDIS_URL is set" in ended.err


def test_a_missing_binary(folder: Path, bare: pytest.MonkeyPatch) -> None:
    """Without the binary the error says how to do without it, in one line, exit code 1."""
    bare.setenv("ECOWAS_LC_VALKEY_SERVER", "/no/such/valkey-server")
    ended = command("start")
    assert (ended.code, ended.out) == (1, "")
    assert "set REDIS_URL" in ended.err
    assert ended.err.count("\n") == 1
