"""The location of a server: its data directory and socket, private to the user, and the locks of its users."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import partial
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
class ServerPaths:
    """The paths of one embedded server."""

    data_dir: Path
    socket: Path

    @property
    def start_lock(self) -> Path:
        """Lock file; held exclusively by the process that starts, repairs or stops the server."""
        return self.data_dir / keeper.START_LOCK

    @property
    def users_lock(self) -> Path:
        """Lock file; shared by all processes that use the server. It contains the last arrival's linger time."""
        return self.data_dir / keeper.USERS_LOCK

    @property
    def keeper_lock(self) -> Path:
        """Lock file; held by the keeper. It contains the keeper's process id."""
        return self.data_dir / keeper.KEEPER_LOCK

    @property
    def server_lock(self) -> Path:
        """Lock file; held by the server. It contains the server's process id."""
        return self.data_dir / keeper.SERVER_LOCK

    @property
    def kept(self) -> Path:
        """File that exists while the server is to stay until it is stopped."""
        return self.data_dir / keeper.KEPT

    @property
    def log(self) -> Path:
        """Log file of server and keeper."""
        return self.data_dir / "server.log"

    def prepare(self) -> None:
        """Create the directories with mode 700, or check that only this user can write to them.

        Raises:
            EmbeddedServerError: One belongs to another user, or others can write to it.
        """
        _make_private(self.data_dir)
        if self.socket.parent != self.data_dir:
            _make_private(self.socket.parent)


def find_place(settings: Settings) -> ServerPaths:
    """Return the location that these settings name, which is the same for every process. Creates nothing."""
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
    return ServerPaths(data_dir, socket)


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
            # A home or project directory: don't change who may read it.
            raise _refused(directory, "holds other files and is open to other users")
        directory.chmod(0o700)


def _refused(directory: Path, reason: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"The embedded server can't use {directory}: it {reason}. Set ECOWAS_LC_DATA_DIR to a directory of "
        "your own (a new one is made, a short path is best), or REDIS_URL to a server."
    )


# The keeper makes users wait while it ends a server.
_PATIENCE_SECONDS = 4 * keeper.STOP_SECONDS


@dataclass(frozen=True)
class _Seat:
    descriptor: int
    file: tuple[int, int]
    pid: int
    linger_seconds: float


_seats: dict[Path, _Seat] = {}


def register(place: ServerPaths, linger_seconds: float) -> None:
    """Count this process as a user of the server until the process ends. Repeating the call costs nothing.

    Raises:
        EmbeddedServerError: The server is being ended but does not end.
    """
    seat = _seats.get(place.data_dir)
    if seat is not None and _is_good(seat, place):
        if seat.linger_seconds != linger_seconds:
            _arrive(place, seat.descriptor, linger_seconds)
        return
    while True:
        descriptor = keeper.open_lock(place.users_lock)
        try:
            if not keeper.wait_for(partial(keeper.try_lock, descriptor, shared=True), _PATIENCE_SECONDS):
                raise EmbeddedServerError(
                    f"The embedded server in {place.data_dir} is being stopped but has not exited. "
                    "Try again, or set REDIS_URL to a server that you run."
                )
            if _file(os.fstat(descriptor)) == _file_at(place.users_lock):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the directory was replaced in the meantime
    _arrive(place, descriptor, linger_seconds)
    if seat is not None and seat.descriptor != descriptor:
        _leave(seat)


def count(place: ServerPaths) -> int | None:
    """Return the number of processes that use the server; ``None`` if the kernel does not tell."""
    try:
        file = os.stat(place.users_lock)
    except FileNotFoundError:
        return 0
    where = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as table:
            rows = [line.split() for line in table]
    except OSError:
        rows = []
    # number, FLOCK, ADVISORY, READ, pid, device:inode, start, end
    users = {row[4] for row in rows if row[1] == "FLOCK" and row[3] == "READ" and row[5] == where}
    return len(users) or (None if _is_used(place) else 0)


def _is_used(place: ServerPaths) -> bool:
    descriptor = keeper.open_lock(place.users_lock)
    try:
        if keeper.try_lock(descriptor):
            keeper.unlock(descriptor)
            return False
        return True
    finally:
        os.close(descriptor)


def _arrive(place: ServerPaths, descriptor: int, linger_seconds: float) -> None:
    # One write of a fixed width, so that the keeper, which reads at any time, never sees half of it.
    os.pwrite(descriptor, f"{linger_seconds!r:<32}".encode(), 0)
    _seats[place.data_dir] = _Seat(descriptor, _file(os.fstat(descriptor)), os.getpid(), linger_seconds)


def _leave(seat: _Seat) -> None:
    """Close an inherited descriptor, unless its number now belongs to another file."""
    try:
        if _file(os.fstat(seat.descriptor)) == seat.file:
            os.close(seat.descriptor)  # the parent keeps the lock through its own descriptor
    except OSError:
        pass


def _is_good(seat: _Seat, place: ServerPaths) -> bool:
    """Return whether the descriptor is this process's own, still open, and of the current file."""
    try:
        open_file = _file(os.fstat(seat.descriptor))
    except OSError:  # a daemon closed its inherited descriptors
        return False
    return seat.pid == os.getpid() and open_file == seat.file == _file_at(place.users_lock)


def _file(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        return _file(os.stat(path))
    except FileNotFoundError:
        return None
