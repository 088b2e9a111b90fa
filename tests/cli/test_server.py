"""``server``: the embedded server from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecowas_lc.embedded import server_status, stop_server
from ecowas_lc.embedded.data_dir import find_place
from ecowas_lc.settings import Settings
from tests.cli.conftest import Ended, Run, process


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
    """Run in a separate process, because this one must not become a user of the server."""
    done = process("server", *arguments)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_start_status_stop(folder: Path) -> None:
    """A started server stays up while nobody uses it, and ends when stopped; the data is kept."""
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
    """If REDIS_URL is set, a remark says that conversations are stored there."""
    bare.setenv("REDIS_URL", "redis://localhost:1")
    ended = command("status")
    assert "REDIS_URL is set" in ended.err


def test_a_missing_binary(folder: Path, bare: pytest.MonkeyPatch) -> None:
    """Without the binary, the error says how to do without it, in one line, exit code 1."""
    bare.setenv("ECOWAS_LC_VALKEY_SERVER", "/no/such/valkey-server")
    ended = command("start")
    assert (ended.code, ended.out) == (1, "")
    assert "set REDIS_URL" in ended.err
    assert ended.err.count("\n") == 1


def test_stats_and_doctor_say_where(folder: Path) -> None:
    """If no server is named, ``stats`` and ``doctor`` show the socket and folder in use."""
    place = find_place(Settings(_env_file=None, data_dir=folder))
    figures = json.loads(process("stats", "--json").stdout)
    assert (figures["socket"], figures["data_dir"]) == (str(place.socket), str(place.data_dir))
    shown = process("stats").stdout
    assert f"socket {place.socket}\ndata in {place.data_dir}\n" in shown
    found = json.loads(process("doctor", "--json").stdout)["findings"]
    [about] = [finding["text"] for finding in found if finding["what"] == "place"]
    assert about == f"socket {place.socket}, data in {place.data_dir}"


PROGRAM = """
import asyncio, logging, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stdout)
from ecowas_lc import AsyncRedisMemoryService, RedisMemoryService, RedisSaver, history_factory
from tests.fixtures.forked import in_child, in_thread
for _ in range(2):
    with RedisMemoryService.from_settings() as memory, RedisSaver.from_settings() as saver:
        memory.get_all_agents()
        saver.ttl("t")
        in_thread(history_factory()("a", "s").info)
async def ask():
    async with AsyncRedisMemoryService.from_settings() as memory:
        await memory.get_all_agents()
asyncio.run(ask())
in_child(lambda: RedisMemoryService.from_settings().get_all_agents())
"""


def test_the_log_says_where_once(folder: Path) -> None:
    """A program that names no server gets one line, at INFO, with the socket and the folder that are used."""
    place = find_place(Settings(_env_file=None, data_dir=folder))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{PROGRAM}"],
        cwd=folder.parent, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if " ecowas_lc" in line]
    assert line.startswith("INFO ecowas_lc.embedded.lifecycle ")
    assert str(place.socket) in line
    assert str(place.data_dir) in line


def test_installing_runs_nothing_of_the_folder(bare: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    """Files in the working directory, such as pip.py or uv's settings, do not affect an installation."""
    for name in ("pip.py", "sitecustomize.py"):
        (tmp_path / name).write_text("open('RAN', 'w').close()")
    bare.chdir(tmp_path)
    report = tmp_path / "report"
    code = f"import os; open({str(report)!r}, 'w').write(os.getcwd())"
    commands = [[sys.executable, "-m", "pip", "--version"], [sys.executable, "-c", code]]
    bare.setattr("ecowas_lc.local_model.is_available", lambda: False)
    bare.setattr("ecowas_lc.local_model.install_command", lambda: commands)
    ended = run("local-model", "install")
    assert ended.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pip.py", "report", "sitecustomize.py"]
    assert Path(report.read_text()) != tmp_path
