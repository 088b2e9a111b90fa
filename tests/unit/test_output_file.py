"""Output files are complete or untouched, and never replace a device, a pipe or a link."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ecowas_lc._output_file import output_file


def write(path: Path, text: bytes = b"new", **options: bool) -> None:
    with output_file(path, **options) as file:
        file.write(text)


def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    """Until the block has ended, the file has its old contents; then the new ones, with its old mode."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with output_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_lost_when_it_goes_wrong(tmp_path: Path, error: BaseException) -> None:
    """A full disk or Ctrl-C leaves the file unchanged, or absent, and no temporary file."""
    old, none = tmp_path / "old", tmp_path / "none"
    old.write_bytes(b"old")
    for path in (old, none):
        with pytest.raises(type(error)):
            _break_off(path, error)
    assert old.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old"]


def _break_off(path: Path, error: BaseException) -> None:
    with output_file(path) as file:
        file.write(b"half")
        raise error


def test_modes(tmp_path: Path) -> None:
    """A new file has the usual mode; a private one only its owner can read, whatever was there before."""
    write(tmp_path / "usual")
    assert stat.S_IMODE((tmp_path / "usual").stat().st_mode) == 0o666 & ~_umask()
    write(tmp_path / "usual", private=True)
    assert stat.S_IMODE((tmp_path / "usual").stat().st_mode) == 0o600


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_links_are_written_through(tmp_path: Path) -> None:
    """A link stays a link, to an existing or a new file; so does a link to a link in another folder."""
    there, later = tmp_path / "there", tmp_path / "later"
    there.write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    links = {tmp_path / "one": "there", tmp_path / "two": "later", tmp_path / "folder/three": "../one"}
    for link, target in links.items():
        link.symlink_to(target)
    for link in links:
        write(link, link.name.encode())
        assert link.is_symlink()
    assert (there.read_bytes(), later.read_bytes()) == (b"three", b"two")


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """The reader of a named pipe gets the text, and the pipe stays."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(20)
    assert read == [b"new"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_pipe_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reader, an error says so after a while, and the pipe is unchanged."""
    monkeypatch.setattr("ecowas_lc._output_file._PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="nobody reads this pipe"):
        write(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)


def test_a_pipe_that_can_not_be_opened(tmp_path: Path) -> None:
    """An error of the system, here that no more files may be open, is reported as it is and without a wait."""
    os.mkfifo(tmp_path / "pipe")
    code = """
import resource
from pathlib import Path
from tests.unit.test_output_file import write
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
try:
    write(Path("pipe"))
except OSError as error:
    print(error.strerror)
finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout == "Too many open files\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_of_ones_own_is_written_to(tmp_path: Path) -> None:
    """A device stays a device, also behind a link: root can't lose /dev/null."""
    null, link = tmp_path / "null", tmp_path / "link.png"
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    link.symlink_to(null)
    for path in (null, link):
        write(path)
        assert stat.S_ISCHR(null.lstat().st_mode)
    assert link.is_symlink()


def test_the_systems_devices_are_written_to() -> None:
    """/dev/null accepts everything, /dev/full nothing, and both still exist."""
    write(Path("/dev/null"))
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"))
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)
    assert stat.S_ISCHR(os.lstat("/dev/full").st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_is_written_to(tmp_path: Path, name: str) -> None:
    """What a shell wrote to a file before stays in it: the open file is written to, not reopened or replaced."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"from tests.unit.test_output_file import write; from pathlib import Path; write(Path({name!r}))"
    for redirected in (tmp_path / "file", None):
        command = [sys.executable, "-c", f"import os; os.write(1, b'before '); {code}; os.write(1, b' after')"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        if redirected is None:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=tmp_path, env=environment)
            assert done.stdout == b"before new after"
        else:
            with redirected.open("wb") as file:
                subprocess.run(command, stdout=file, check=True, cwd=tmp_path, env=environment)
            assert redirected.read_bytes() == b"before new after"


def test_what_can_not_be_written(tmp_path: Path) -> None:
    """A folder, a missing folder and links in a circle are errors of the system, and change nothing."""
    (tmp_path / "circle").symlink_to("circle")
    for path in (tmp_path, tmp_path / "none" / "file", tmp_path / "circle"):
        with pytest.raises(OSError, match=r"Is a directory|No such file|symbolic links"):
            write(path)
    assert os.listdir(tmp_path) == ["circle"]


def test_a_file_without_permission_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file could replace it, but its owner made it read-only."""
    file = tmp_path / "file"
    file.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError), output_file(file):
        pass
    assert file.read_text() == "old"
