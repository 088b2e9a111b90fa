"""Who uses a server: each process holds a shared lock for as long as it lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecowas_lc.embedded import keeper
from ecowas_lc.embedded.place import Place
from ecowas_lc.errors import EmbeddedServerError

# The keeper holds users back while it ends a server.
_PATIENCE_SECONDS = 4 * keeper.STOP_SECONDS


@dataclass(frozen=True)
class _Seat:
    descriptor: int
    file: tuple[int, int]
    pid: int
    linger_seconds: float


_seats: dict[Path, _Seat] = {}


def register(place: Place, linger_seconds: float) -> None:
    """Count this process among the server's users until it ends; again is free.

    Raises:
        EmbeddedServerError: the server is being ended and does not come to an end.
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
                    f"The embedded server in {place.data_dir} is being stopped and does not come to an end. "
                    "Try again, or set REDIS_URL to a server of your own."
                )
            if _file(os.fstat(descriptor)) == _file_at(place.users_lock):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the directory was replaced meanwhile
    _arrive(place, descriptor, linger_seconds)
    if seat is not None and seat.descriptor != descriptor:
        _leave(seat)


def count(place: Place) -> int | None:
    """How many processes use the server; ``None`` where only the kernel knows and does not tell."""
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


def _is_used(place: Place) -> bool:
    descriptor = keeper.open_lock(place.users_lock)
    try:
        if keeper.try_lock(descriptor):
            keeper.unlock(descriptor)
            return False
        return True
    finally:
        os.close(descriptor)


def _arrive(place: Place, descriptor: int, linger_seconds: float) -> None:
    # One write of a fixed width: the keeper reads at any time and never sees half of it.
    os.pwrite(descriptor, f"{linger_seconds!r:<32}".encode(), 0)
    _seats[place.data_dir] = _Seat(descriptor, _file(os.fstat(descriptor)), os.getpid(), linger_seconds)


def _leave(seat: _Seat) -> None:
    """Give up an inherited descriptor, unless that number has become another file's."""
    try:
        if _file(os.fstat(seat.descriptor)) == seat.file:
            os.close(seat.descriptor)  # the lock stays with the parent, which has it open
    except OSError:
        pass


def _is_good(seat: _Seat, place: Place) -> bool:
    """Whether it is this process's own, still open, and on the file that is there now."""
    try:
        open_file = _file(os.fstat(seat.descriptor))
    except OSError:  # a daemon closed what it had inherited
        return False
    return seat.pid == os.getpid() and open_file == seat.file == _file_at(place.users_lock)


def _file(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        return _file(os.stat(path))
    except FileNotFoundError:
        return None
