"""``-o FILE`` of every command: devices, pipes and links are written to, files are replaced by complete ones."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run, process
from tests.fixtures.servers import RunningServer

COMMANDS = {
    "sessions export": ["sessions", "export", "-o"],
    "threads export": ["threads", "export", "-o"],
    "graph": ["graph", "-o"],
    "eval": ["eval", "--router", "lexical", "--picture"],
}
EACH = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@pytest.fixture
def stored(environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str) -> None:
    """A history of 20 kB, so that exports have something to write."""
    with redis_server.client() as client:
        client.rpush(f"{prefix}:history:energy:s", f'{{"role": "user", "content": "{"x" * 20_000}"}}')
        for index, member in (
            ("sessions", "s"),
            ("agents", "energy"),
            ("sessions:energy", "s"),
            ("session-agents:s", "energy"),
        ):
            client.zadd(f"{prefix}:index:{index}", {member: 9e12})


@EACH
def test_a_link_to_a_device(run: Run, stored: None, tmp_path: Path, command: list[str]) -> None:
    """Output to a link is written to its target; neither the link nor a device is replaced."""
    link = tmp_path / "link.png"
    link.symlink_to("/dev/null")
    ended = run(*command, str(link))
    assert (ended.code, link.is_symlink()) == (0, True), ended.err
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@EACH
def test_a_link_to_a_file(run: Run, stored: None, tmp_path: Path, command: list[str]) -> None:
    """The file behind a link is replaced, and the link remains."""
    link, file = tmp_path / "link.png", tmp_path / "file.png"
    file.write_bytes(b"old")
    link.symlink_to("file.png")
    ended = run(*command, str(link))
    assert (ended.code, link.is_symlink()) == (0, True), ended.err
    assert file.read_bytes() != b"old"


@EACH
@pytest.mark.parametrize("old", [b"old", None], ids=["a file was there", "no file was there"])
def test_a_full_disk(stored: None, tmp_path: Path, command: list[str], old: bytes | None) -> None:
    """When the disk is full, one line says so, the previous file is unchanged, and no other file remains."""
    file = tmp_path / "file.png"
    if old is not None:
        file.write_bytes(old)

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    ended = _in_little_room(no_room, *command, str(file))
    if command[0] == "threads":  # there is none, so that nothing needs room
        assert ended.returncode == 0
        return
    assert ended.returncode == 1, ended.stderr
    assert "can't be written: File too large." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ("was not changed" in ended.stderr) is (old is not None)
    assert [path.name for path in tmp_path.iterdir()] == ([] if old is None else ["file.png"])
    assert old is None or file.read_bytes() == old


def _in_little_room(limit: Callable[[], None], *command: str) -> subprocess.CompletedProcess[str]:
    # Coverage's own data file is too large for the limit, and its complaint is not this command's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["MPLCONFIGDIR"] = environment.get("MPLCONFIGDIR", str(Path.home() / ".config/matplotlib"))
    return process(*command, preexec_fn=limit, env=environment)


@EACH
def test_where_it_can_not_be_written(run: Run, stored: None, tmp_path: Path, command: list[str]) -> None:
    """A folder, and a file in a folder that is missing, are refused before any work is done."""
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("folder.png", "it is a folder"), ("none/file.png", "there is no folder")):
        ended = run(*command, str(tmp_path / name))
        assert (ended.code, ended.out) == (2, "")
        assert reason in ended.err
