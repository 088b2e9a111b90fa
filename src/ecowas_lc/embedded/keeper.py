"""The keeper: a small program that runs one server, watches who uses it, and ends it when nobody does.

It outlives the process that starts it, so it is run by its path, isolated and without ``site``
(``python -I -S keeper.py DATA_DIR SOCKET BINARY``, with an empty ``BINARY`` to watch over a server that
lost its keeper). It imports the standard library alone and nothing of this package; what it shares with
the other modules is therefore written here.

Every lock is an flock: the kernel frees it with the last process that holds it, however that one ends.
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

_NO_NOTE_SECONDS = 60.0  # how long to stay where the process that started the server died before it noted anything
STOP_SECONDS = 5.0  # for each of SHUTDOWN, SIGTERM and SIGKILL
_LOCK_SECONDS = 5.0
_POLL_SECONDS = 0.005


def open_lock(path: str | os.PathLike[str]) -> int:
    """A new descriptor of a lock file, which is made where it is missing; nothing is locked yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let go for every process that inherited the descriptor, which closing it would not."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_held(lock: int | str | os.PathLike[str]) -> bool:
    """Whether some process holds the lock (a path, or a descriptor that does not hold it) exclusively."""
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
    """Put one short line into a lock file; it means something while the lock is held."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def read_pid(descriptor: int) -> int | None:
    """The process id noted in a lock file."""
    try:
        return int(os.pread(descriptor, 32, 0))
    except ValueError:
        return None


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def end_server(server_lock: int, socket_path: str) -> bool:
    """End the server so that its log is flushed, by force where it does not listen; whether it is down."""

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
            return not connection.recv(1)  # it hangs up; an answer is a refusal
    except OSError:
        return False


def _has_open(pid: int, descriptor: int) -> bool:
    """Whether that process has our file open: a process id may be reused, or be another container's."""
    if not os.path.isdir("/proc/self/fd"):
        return True
    theirs = f"/proc/{pid}/fd"
    try:
        wanted = os.fstat(descriptor)
        for name in os.listdir(theirs):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(os.stat(f"{theirs}/{name}"), wanted):
                    return True
    except OSError:
        pass
    return False


def server_command(binary: str, directory: str, socket_path: str) -> list[str]:
    """The server's command line; only options that every Redis and Valkey since 6.2 has."""
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "700",
        "dir": directory,
        "daemonize": "no",
        "protected-mode": "yes",
        "appendonly": "yes",
        # Never by the server: with "everysec" it holds acknowledged writes back in its memory for as long as the
        # disk takes, once a second, where a SIGKILL loses them (4 of 4 tries in that moment). With "no" each is
        # with the kernel before it is acknowledged, and the keeper sees to the disk: see `Keeper._flush`.
        "appendfsync": "no",
        "aof-use-rdb-preamble": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "always-show-logo": "no",
    }
    return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]


class Keeper:
    """Runs or adopts the server of one data directory until nobody has used it for the linger time."""

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
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written to the pipe
        signal.signal(signal.SIGTERM, self._end_soon)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the starting thread's comes down to us

    def start(self, binary: str) -> bool:
        """Start the server, which alone holds the server's lock from then on; whether it runs."""
        lock = open_lock(self._path(SERVER_LOCK))
        try:
            # Another process may be looking whether it is held; a dead server's last child may hold it.
            if not wait_for(lambda: try_lock(lock), _LOCK_SECONDS):
                self._say("another server still runs in this data directory")
                return False
            write_note(lock, "")
            try:
                self._child = subprocess.Popen(  # noqa: S603
                    server_command(binary, self._directory, self._socket_path),
                    stdin=subprocess.DEVNULL,
                    cwd="/",
                    # How it sorts for all must not depend on the locale of whoever came first.
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
                # Ended in order, it would unlink the socket of the server that took its place.
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
        """Bring the log to the disk, about once a second, so that a power cut loses no more than that."""
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
        """End the server unless somebody came; whoever comes from now on waits, then starts a new one."""
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
            self._say("the server could not be ended")
        elif self._child is not None:
            self._child.wait()

    def _is_running(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            if self._child.returncode:
                self._say(f"the server ended with {self._child.returncode}")
            return False
        return is_held(self._server_lock)

    def _is_wanted(self) -> bool:
        if os.path.exists(self._path(KEPT)) or not try_lock(self._users_lock):
            return True
        unlock(self._users_lock)
        return False

    def _is_displaced(self) -> bool:
        """Whether the data directory was removed or replaced while the server ran."""
        try:
            return not os.path.samestat(os.stat(self._path(USERS_LOCK)), os.fstat(self._users_lock))
        except FileNotFoundError:
            return True

    def _last_arrival(self) -> tuple[float, int]:
        """The linger time that the last user brought, and a number that changes with every arrival."""
        try:
            linger = float(os.pread(self._users_lock, 64, 0))
        except ValueError:
            linger = _NO_NOTE_SECONDS
        return linger, os.fstat(self._users_lock).st_mtime_ns

    def _sleep(self, linger: float) -> None:
        # Only the end of a child wakes it early: a server that it adopted has to be looked at.
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


def main(directory: str, socket_path: str, binary: str) -> None:
    """Become the keeper; the process that was started returns as soon as the keeper's lock is held."""
    os.umask(0o077)
    lock = open_lock(os.path.join(directory, KEEPER_LOCK))
    if not wait_for(lambda: try_lock(lock), _LOCK_SECONDS):
        return  # another keeper has it
    if os.fork():  # the starter waits for this process: the keeper never is a zombie of a user's process
        os._exit(0)
    write_note(lock, str(os.getpid()))
    keeper = Keeper(directory, socket_path, lock)
    if not binary or keeper.start(binary):
        keeper.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
