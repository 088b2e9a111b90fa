"""Private directories and sockets, and their location."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
import redis

from ecowas_lc.embedded import data_dir as data_dir_module
from ecowas_lc.embedded import stop_server, use_server
from ecowas_lc.embedded.data_dir import find_place
from ecowas_lc.errors import EmbeddedServerError
from ecowas_lc.settings import Settings
from tests.embedded.conftest import Home

Connect = Callable[[str], redis.Redis]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def stranger() -> int:
    """The id of another user, to whom files can be assigned."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    return 65534


def test_nobody_else_can_reach_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directory and socket have mode 700, whatever the umask; no file inside is open to others."""
    old = os.umask(0)
    try:
        server = use_server(home.settings)
    finally:
        os.umask(old)
    assert mode(home.data_dir) == 0o700
    assert mode(server.socket) == 0o700
    assert stat.S_ISSOCK(server.socket.lstat().st_mode)
    for file in home.data_dir.rglob("*"):
        assert mode(file) & 0o077 == 0, file


def test_default_is_the_users_data_directory() -> None:
    """With nothing set, data are in a folder of the user's data directory."""
    data_dir = find_place(Settings(_env_file=None, data_dir=None)).data_dir
    assert data_dir == Path(os.path.realpath(platformdirs.user_data_dir("ecowas-lc"))) / "valkey"


def test_long_path(make_home: Callable[..., Home], connect: Connect) -> None:
    """If the data directory's path is long, all processes use the same socket in a short private directory."""
    home = make_home("d" * 120)
    server = use_server(home.settings)
    try:
        assert len(os.fsencode(server.socket)) < 100
        assert server.data_dir == home.data_dir
        assert mode(server.socket.parent) == 0o700
        assert home.user().server()["socket"] == str(server.socket)
        assert connect(server.url).ping()
        assert make_home("e" * 120).place.socket != server.socket
    finally:
        stop_server(home.settings)
        server.socket.parent.rmdir()


@pytest.mark.parametrize("length", [99, 100])
def test_socket_path_is_under_100_bytes(length: int) -> None:
    """The limit counts bytes, not characters, and is kept exactly."""
    name = "é" + "x" * (length - len(b"/tmp/" + "é".encode() + b"/server.sock"))
    place = find_place(Settings(_env_file=None, data_dir=Path("/tmp") / name))
    assert (place.socket.parent == place.data_dir) == (length < 100)
    assert len(os.fsencode(place.socket)) < 100


def test_symbolic_links_lead_to_the_same_server(make_home: Callable[..., Home]) -> None:
    """A data directory reached by another path is the same one."""
    home = make_home()
    server = use_server(home.settings)
    link = home.data_dir.with_name("link")
    link.symlink_to(home.data_dir)
    assert use_server(make_home("link").settings) == server


def test_odd_characters(make_home: Callable[..., Home], connect: Connect) -> None:
    """Spaces, quotes, percent signs and accents in the path reach server and URL intact."""
    home = make_home("a b'\"%20?#é")
    server = use_server(home.settings)
    client = connect(server.url)
    client.set("a", "1")
    assert client.config_get("dir")["dir"] == str(home.data_dir)
    stop_server(home.settings)
    assert connect(use_server(home.settings).url).get("a") == b"1"


def test_empty_directory_is_made_private(home: Home) -> None:
    """A directory that the user created for it is made private."""
    home.data_dir.mkdir()
    home.data_dir.chmod(0o755)
    use_server(home.settings)
    assert mode(home.data_dir) == 0o700


def test_directory_with_other_files_is_left_alone(home: Home) -> None:
    """A directory that is open to others and contains other things, such as a home, is refused and unchanged."""
    home.data_dir.mkdir()
    (home.data_dir / "letter.txt").write_text("Dear all")
    home.data_dir.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"holds other files.*ECOWAS_LC_DATA_DIR"):
        use_server(home.settings)
    assert mode(home.data_dir) == 0o755
    assert os.listdir(home.data_dir) == ["letter.txt"]


def test_directory_that_others_can_write_is_refused(home: Home) -> None:
    """Files that others could have put into the data directory are not trusted."""
    use_server(home.settings)
    stop_server(home.settings)
    home.data_dir.chmod(0o770)
    with pytest.raises(EmbeddedServerError, match="can be written by other users"):
        use_server(home.settings)
    home.data_dir.chmod(0o700)


def test_directory_of_another_user_is_refused(home: Home, stranger: int) -> None:
    """Another user's data directory is refused, even by root, whose files would lock that user out."""
    home.data_dir.mkdir(mode=0o700)
    os.chown(home.data_dir, stranger, stranger)
    with pytest.raises(EmbeddedServerError, match=f"belongs to another user .uid {stranger}"):
        use_server(home.settings)
    with pytest.raises(EmbeddedServerError, match="belongs to another user"):
        stop_server(home.settings)
    assert os.listdir(home.data_dir) == []


@pytest.fixture
def short_root(make_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /tmp, and every data directory's path too long."""
    root = make_home("short").data_dir
    root.mkdir()
    monkeypatch.setattr(data_dir_module, "SHORT_ROOT", root)
    monkeypatch.setattr(data_dir_module, "SOCKET_PATH_LIMIT", 10)
    return root


def test_short_directory_of_another_user_is_refused(home: Home, short_root: Path, stranger: int) -> None:
    """A short directory that another user created beforehand is refused."""
    short = home.place.socket.parent
    assert short.parent == short_root
    short.mkdir(mode=0o700)
    os.chown(short, stranger, stranger)
    with pytest.raises(EmbeddedServerError, match="belongs to another user"):
        use_server(home.settings)


def test_short_directory_behind_a_link_is_refused(home: Home, short_root: Path) -> None:
    """A symbolic link in the short directory's place is not followed."""
    elsewhere = short_root / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    home.place.socket.parent.symlink_to(elsewhere)
    with pytest.raises(EmbeddedServerError, match="is not a directory"):
        use_server(home.settings)
    assert os.listdir(elsewhere) == []


def test_short_directory_that_others_can_write_is_refused(home: Home, short_root: Path) -> None:
    """A short directory with something in it that others could have put there is refused."""
    short = home.place.socket.parent
    short.mkdir()
    (short / "server.sock").touch()
    short.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="can be written by other users"):
        use_server(home.settings)


def test_path_that_can_not_be_a_directory(make_home: Callable[..., Home]) -> None:
    """A path below a file, or to a file, is a named error that says what to set."""
    home = make_home("file")
    home.data_dir.write_text("")
    with pytest.raises(EmbeddedServerError, match=r"is not a directory.*ECOWAS_LC_DATA_DIR.*REDIS_URL"):
        use_server(home.settings)
    with pytest.raises(EmbeddedServerError, match=r"Not a directory.*ECOWAS_LC_DATA_DIR.*REDIS_URL"):
        use_server(make_home("file/below").settings)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a file system where root can't write")
def test_directory_without_permission(make_home: Callable[..., Home]) -> None:
    """If nothing can be written, the error says what to set."""
    home = make_home()
    home.data_dir = Path("/proc/ecowas-lc")
    with pytest.raises(EmbeddedServerError, match=r"can't be used.*ECOWAS_LC_DATA_DIR"):
        use_server(home.settings)
