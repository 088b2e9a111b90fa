"""The keeper: a small program that runs one server, watches its users, and ends it when it has none.

It outlives the process that starts it, so it is run by its path, isolated and without ``site`` (``python -I -S
keeper.py DATA_DIR SOCKET BINARY``, with an empty ``BINARY`` to watch a server that lost its keeper). It imports
only the standard library and nothing of this package, so code that it shares with other modules is defined here.

Every lock is an flock: the kernel frees it with the last process that holds it, however that process ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

if sys.platform != "win32":
    import fcntl

START_LOCK = "start.lock"
USERS_LOCK = "users.lock"
KEEPER_LOCK = "keeper.lock"
SERVER_LOCK = "server.lock"
KEPT = "kept"

_NO_NOTE_SECONDS = 60.0  # the linger time if the starting process died before it wrote a note
STOP_SECONDS = 5.0  # for each of SHUTDOWN, SIGTERM and SIGKILL
_LOCK_SECONDS = 5.0
_POLL_SECONDS = 0.005


def open_lock(path: str | os.PathLike[str]) -> int:
    """Return a new descriptor of a lock file, which is created if missing. It does not lock it yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock if it is free; return whether it was."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release the lock for every process that inherited the descriptor, which closing it would not do."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_held(lock: int | str | os.PathLike[str]) -> bool:
    """Return whether a process holds the lock (a path, or a descriptor without the lock) exclusively."""
    if isinstance(lock, int):
        if try_lock(lock, shared=True):
            unlock(lock)
            return False
        return True
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return is_held(descriptor)
    finally:
        os.close(descriptor)


def write_note(descriptor: int, text: str) -> None:
    """Write one short line into a lock file; it is valid while the lock is held."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def read_pid(descriptor: int) -> int | None:
    """Return the process id in a lock file."""
    try:
        return int(os.pread(descriptor, 32, 0))
    except ValueError:
        return None


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for the condition; return whether it became true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def end_server(server_lock: int, socket_path: str) -> bool:
    """End the server so that its log is flushed, by force if it does not react; return whether it is down."""

    def is_down() -> bool:
        return not is_held(server_lock)

    if is_down() or (_ask_to_end(socket_path) and wait_for(is_down, STOP_SECONDS)):
        return True
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal_server(server_lock, number)
        if wait_for(is_down, STOP_SECONDS):
            return True
    return False


def _signal_server(server_lock: int, number: signal.Signals) -> None:
    pid = read_pid(server_lock)
    if pid is not None and _has_open(pid, server_lock):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _ask_to_end(socket_path: str) -> bool:
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(STOP_SECONDS)
            connection.connect(socket_path)
            connection.sendall(b"SHUTDOWN\r\n")
            return not connection.recv(1)  # the server disconnects; an answer means a refusal
    except OSError:
        return False


def _has_open(pid: int, descriptor: int) -> bool:
    """Return whether that process has our file open; a process id may be reused, or be another container's."""
    if not os.path.isdir("/proc/self/fd"):
        return True
    theirs = f"/proc/{pid}/fd"
    try:
        wanted = os.fstat(descriptor)
        for name in os.listdir(theirs):
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                if os.path.samestat(os.stat(f"{theirs}/{name}"), wanted):
                    return True
    except OSError:
        pass
    return False


def server_command(binary: str, directory: str, socket_path: str) -> list[str]:
    """Return the server's command line, with options that every Redis and Valkey since 6.2 supports."""
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "700",
        "dir": directory,
        "daemonize": "no",
        "protected-mode": "yes",
        "appendonly": "yes",
        # The server must not sync: with "everysec" it keeps acknowledged writes in its memory once a second, for
        # as long as the disk takes, and a SIGKILL in that moment loses them (4 of 4 tries). With "no" the kernel
        # has each write before it is acknowledged, and the keeper syncs to the disk: see `Keeper._flush`.
        "appendfsync": "no",
        "aof-use-rdb-preamble": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "always-show-logo": "no",
    }
    return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]


class Keeper:  # pragma: no cover - it runs in an interpreter without site-packages, so without coverage
    """Runs or adopts the server of one data directory until it has had no users for the linger time."""

    def __init__(self, directory: str, socket_path: str, keeper_lock: int) -> None:
        self._directory = directory
        self._socket_path = socket_path
        self._keeper_lock = keeper_lock
        self._start_lock = open_lock(self._path(START_LOCK))
        self._users_lock = open_lock(self._path(USERS_LOCK))
        self._server_lock = open_lock(self._path(SERVER_LOCK))
        self._child: subprocess.Popen[bytes] | None = None
        self._told_to_end = False
        self._flushed: dict[str, int] = {}
        self._wakeup, wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler, signals write nothing to the pipe
        signal.signal(signal.SIGTERM, self._end_soon)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # reset the mask inherited from the starting thread

    def start(self, binary: str) -> bool:
        """Start the server, which from then on is the only holder of the server's lock; return whether it runs."""
        lock = open_lock(self._path(SERVER_LOCK))
        try:
            # Another process may be testing the lock, or the last child of a dead server may hold it.
            if not wait_for(lambda: try_lock(lock), _LOCK_SECONDS):
                self._say("another server still runs in this data directory")
                return False
            write_note(lock, "")
            try:
                self._child = subprocess.Popen(  # noqa: S603
                    server_command(binary, self._directory, self._socket_path),
                    stdin=subprocess.DEVNULL,
                    cwd="/",
                    # The server's sort order must not depend on the locale of the process that starts it.
                    env={**os.environ, "LC_ALL": "C"},
                    pass_fds=[lock],
                    start_new_session=True,
                )
            except OSError as error:
                self._say(f"{binary} can't be run: {error.strerror}")
                return False
            write_note(lock, str(self._child.pid))
        finally:
            os.close(lock)
        return True

    def run(self) -> None:
        """Watch until the server is gone or was ended."""
        idle_since: float | None = None
        arrival = 0
        while self._is_running() and not self._told_to_end:
            if self._is_displaced():
                # A normal shutdown would unlink the socket of the server that replaced this one.
                _signal_server(self._server_lock, signal.SIGKILL)
                return
            linger, last = self._last_arrival()
            if last != arrival or self._is_wanted():
                arrival, idle_since = last, None
            else:
                now = time.monotonic()
                idle_since = now if idle_since is None else idle_since
                if now - idle_since >= linger and self._retire(arrival):
                    return
            self._flush()
            self._sleep(linger)
        if self._told_to_end:
            self._end()

    def _flush(self) -> None:
        """Sync the log to the disk about once a second, so that a power failure loses no more than that."""
        folder = self._path("appendonlydir")
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                changed = os.stat(path).st_mtime_ns
                if self._flushed.get(name) != changed:
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
                    self._flushed[name] = changed

    def _retire(self, arrival: int) -> bool:
        """End the server unless a user has arrived; later arrivals wait, then start a new one."""
        if not try_lock(self._start_lock):
            return False
        try:
            if not try_lock(self._users_lock):
                return False
            try:
                if self._last_arrival()[1] != arrival or os.path.exists(self._path(KEPT)):
                    return False
                self._end()
                unlock(self._keeper_lock)
                return True
            finally:
                unlock(self._users_lock)
        finally:
            unlock(self._start_lock)

    def _end(self) -> None:
        if not end_server(self._server_lock, self._socket_path):
            self._say("the server could not be stopped")
        elif self._child is not None:
            self._child.wait()

    def _is_running(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            if self._child.returncode:
                self._say(f"the server exited with {self._child.returncode}")
            return False
        return is_held(self._server_lock)

    def _is_wanted(self) -> bool:
        if os.path.exists(self._path(KEPT)) or not try_lock(self._users_lock):
            return True
        unlock(self._users_lock)
        return False

    def _is_displaced(self) -> bool:
        """Return whether the data directory was removed or replaced while the server ran."""
        try:
            return not os.path.samestat(os.stat(self._path(USERS_LOCK)), os.fstat(self._users_lock))
        except FileNotFoundError:
            return True

    def _last_arrival(self) -> tuple[float, int]:
        """Return the last user's linger time, and a number that changes with every arrival."""
        try:
            linger = float(os.pread(self._users_lock, 64, 0))
        except ValueError:
            linger = _NO_NOTE_SECONDS
        return linger, os.fstat(self._users_lock).st_mtime_ns

    def _sleep(self, linger: float) -> None:
        # Only the end of a child process wakes the keeper early; it must poll an adopted server.
        longest = 1.0 if self._child is not None else 0.2
        select.select([self._wakeup], [], [], min(longest, max(0.05, linger / 10)))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _end_soon(self, *_: object) -> None:
        self._told_to_end = True

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{os.getpid()}:K {time.strftime('%d %b %Y %H:%M:%S')} keeper: {text}\n")
        sys.stderr.flush()


def main(directory: str, socket_path: str, binary: str) -> None:  # pragma: no cover - it runs where Keeper runs
    """Become the keeper; the started process returns as soon as it holds the keeper's lock."""
    os.umask(0o077)
    lock = open_lock(os.path.join(directory, KEEPER_LOCK))
    if not wait_for(lambda: try_lock(lock), _LOCK_SECONDS):
        return  # another keeper has it
    if os.fork():  # the starter waits for this process, so the keeper never becomes a zombie of a user's process
        os._exit(0)
    write_note(lock, str(os.getpid()))
    keeper = Keeper(directory, socket_path, lock)
    if not binary or keeper.start(binary):
        keeper.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
