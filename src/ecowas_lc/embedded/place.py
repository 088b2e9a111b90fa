"""Where a server lives: its data directory, its socket, and that nobody else can reach either."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecowas_lc.embedded import keeper
from ecowas_lc.errors import EmbeddedServerError

if TYPE_CHECKING:
    from ecowas_lc.settings import Settings

SOCKET_PATH_LIMIT = 100  # bytes; the kernel's own is 108 on Linux, 104 on macOS, with the final NUL
# Not tempfile.gettempdir(): TMPDIR differs between the processes that must agree on the path.
SHORT_ROOT = Path("/tmp")  # noqa: S108


@dataclass(frozen=True)
class Place:
    """The paths of one embedded server."""

    data_dir: Path
    socket: Path

    @property
    def start_lock(self) -> Path:
        """Held exclusively by whoever starts, repairs or stops the server."""
        return self.data_dir / keeper.START_LOCK

    @property
    def users_lock(self) -> Path:
        """Shared by every using process; holds the last arrival's linger time."""
        return self.data_dir / keeper.USERS_LOCK

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper; holds its process id."""
        return self.data_dir / keeper.KEEPER_LOCK

    @property
    def server_lock(self) -> Path:
        """Held by the server itself; holds its process id."""
        return self.data_dir / keeper.SERVER_LOCK

    @property
    def kept(self) -> Path:
        """There while the server is to stay until it is stopped."""
        return self.data_dir / keeper.KEPT

    @property
    def log(self) -> Path:
        """What server and keeper have to say."""
        return self.data_dir / "server.log"

    def prepare(self) -> None:
        """Make the directories, mode 700, or see that nobody else has a hand in them.

        Raises:
            EmbeddedServerError: one belongs to another user, or others can write to it.
        """
        _make_private(self.data_dir)
        if self.socket.parent != self.data_dir:
            _make_private(self.socket.parent)


def find_place(settings: Settings) -> Place:
    """The place that these settings name; the same for every process, and nothing is created."""
    if settings.data_dir is None:
        from platformdirs import user_data_path

        chosen = user_data_path("ecowas-lc", appauthor=False) / "valkey"
    else:
        chosen = settings.data_dir.expanduser()
    data_dir = Path(os.path.realpath(chosen))  # one server, whatever symbolic links lead to it
    socket = data_dir / "server.sock"
    if len(os.fsencode(socket)) >= SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        socket = SHORT_ROOT / f"ecowas-lc-{os.geteuid()}-{name}" / "server.sock"
    return Place(data_dir, socket)


def _make_private(directory: Path) -> None:
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(directory, "is not a directory")
    if found.st_uid != os.geteuid():
        raise _refused(directory, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        entries = os.listdir(directory)
        if entries and found.st_mode & 0o022:
            raise _refused(
                directory, "can be written by other users and is not empty (`chmod 700` it if you trust it)"
            )
        if entries and keeper.USERS_LOCK not in entries:
            # Somebody's home or project: closing it to others is not ours to decide.
            raise _refused(directory, "holds other files and is open to other users")
        directory.chmod(0o700)


def _refused(directory: Path, reason: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"The embedded server can't use {directory}: it {reason}. Set ECOWAS_LC_DATA_DIR to a directory of "
        "your own (a new one is made, a short path is best), or REDIS_URL to a server."
    )
