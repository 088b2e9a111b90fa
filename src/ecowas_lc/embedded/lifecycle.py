"""Starts, finds, mends and stops the server; every caller ends up with the same one."""

from __future__ import annotations

import contextlib
import logging  # noqa: F401  Its fork hooks must be registered before ours, which is then waited for first.
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ecowas_lc.embedded import keeper, users
from ecowas_lc.embedded.binary import find_binary
from ecowas_lc.embedded.place import Place, find_place
from ecowas_lc.embedded.values import EmbeddedServer, ServerStatus
from ecowas_lc.embedded.wire import Answer, State, probe
from ecowas_lc.errors import EmbeddedServerError

if TYPE_CHECKING:
    from ecowas_lc.settings import Settings

START_SECONDS = 15.0
LOADING_SECONDS = 300.0  # reading a large log is progress, so it may take longer
UNREACHABLE_SECONDS = 3.0  # a server that runs opens its socket long before
LOG_BYTES = 1_000_000
_LOG_LINES = 12

# Also held while modules are imported on demand: a child forked meanwhile would wait for them for good.
_mutex = threading.RLock()


def use_server(settings: Settings | None = None) -> EmbeddedServer:
    """The embedded server, started or mended where needed; this process counts as a user until it ends.

    Cheap when the server runs (well under 5 ms), safe in threads and after a fork. Call it again after a
    connection error. It blocks while the server starts or reads its data.

    Raises:
        EmbeddedServerError: the binary is missing, the directory can't be used, or the server does not start.
        ConfigurationError: the settings can't be read.
    """
    return _use(settings, keep=False)


def start_server(settings: Settings | None = None) -> EmbeddedServer:
    """The embedded server, which now stays until :func:`stop_server`, whoever uses it.

    Raises:
        EmbeddedServerError: see :func:`use_server`.
    """
    return _use(settings, keep=True)


def stop_server(settings: Settings | None = None) -> bool:
    """Stop the server, kept or in use, and wait until it is down; ``False`` if none ran. The data stay.

    A process that still uses it gets a new one from its next :func:`use_server`.

    Raises:
        EmbeddedServerError: it does not come to an end, or the directory is not ours.
    """
    if sys.platform == "win32":
        return False
    with _mutex, _explained(place := find_place(_settings(settings))):
        if not place.data_dir.exists():
            return False
        place.prepare()
        with _starting(place, 2 * START_SECONDS):
            place.kept.unlink(missing_ok=True)
            return _stop(place)


def server_status(settings: Settings | None = None) -> ServerStatus:
    """How the server stands; starts nothing, and does not count as a use.

    Raises:
        EmbeddedServerError: the directory is not ours.
    """
    if sys.platform == "win32":
        raise EmbeddedServerError("There is no embedded server on Windows. Set REDIS_URL to a server.")
    with _mutex, _explained(place := find_place(_settings(settings))):
        answer = probe(place.socket)
        running = answer.state is not State.ABSENT or keeper.is_held(place.server_lock)
        return ServerStatus(
            running=running,
            kept=place.kept.exists(),
            pid=answer.pid or (_noted_pid(place) if running else None),
            socket=place.socket,
            data_dir=place.data_dir,
            users=users.count(place),
            uptime_seconds=answer.uptime_seconds,
        )


def is_available(settings: Settings | None = None) -> bool:
    """Whether a binary to run is there: the one that the settings name, else the extra's."""
    with _mutex:
        try:
            find_binary(_settings(settings).valkey_server)
        except EmbeddedServerError:
            return False
        return True


def _settings(settings: Settings | None) -> Settings:
    if settings is not None:
        return settings
    from ecowas_lc.settings import get_settings

    return get_settings()


def _use(given: Settings | None, *, keep: bool) -> EmbeddedServer:
    if sys.platform == "win32":
        find_binary(None)
    with _mutex:
        settings = _settings(given)
        place = find_place(settings)
        with _explained(place):
            return _use_at(place, settings, keep=keep)


def _use_at(place: Place, settings: Settings, *, keep: bool) -> EmbeddedServer:
    if not place.data_dir.exists():
        find_binary(settings.valkey_server)  # without one, leave no directories behind
    place.prepare()
    # A user first: once it holds its lock, no keeper ends the server under it.
    users.register(place, settings.linger_seconds)
    answer = _running(place, settings.valkey_server)
    if keep:
        place.kept.touch(mode=0o600)
    return EmbeddedServer(place.socket, place.data_dir, answer.pid or _noted_pid(place) or 0)


def _running(place: Place, override: Path | None) -> Answer:
    """Wait for the server's answer, mending what keeps it from answering."""
    begun, pause = time.monotonic(), 0.001
    limits = {State.LOADING: LOADING_SECONDS, State.SILENT: START_SECONDS, State.ABSENT: 3 * START_SECONDS}
    while True:
        answer = probe(place.socket)
        if answer.state is State.ABSENT or not keeper.is_held(place.keeper_lock):
            _mend(place, override)
        elif answer.state is State.READY:
            return answer
        if time.monotonic() - begun > limits.get(answer.state, START_SECONDS):
            raise EmbeddedServerError(
                f"The embedded server in {place.data_dir} runs (process {answer.pid or _noted_pid(place)}), but "
                f"{answer.state.value}{answer.complaint and ': '}{answer.complaint}. "
                "`ecowas-lc server stop` ends it; the next use starts a new one."
            )
        pause = _sleep(pause)


def _mend(place: Place, override: Path | None) -> None:
    """See to it that a server listens and that a keeper watches over it."""
    with _starting(place, START_SECONDS, unless_running=True) as is_ours:
        if not is_ours:
            return
        begun, pause = time.monotonic(), 0.001
        log_start: int | None = None
        attempts = 0
        unreachable_since: float | None = None
        while True:
            has_keeper = keeper.is_held(place.keeper_lock)
            answer = probe(place.socket)
            if answer.state is not State.ABSENT:
                if has_keeper:
                    return
                if keeper.is_held(place.server_lock):
                    _start_keeper(place, None)
                elif probe(place.socket).state is not State.ABSENT:  # nor is it one that has just ended
                    raise EmbeddedServerError(
                        f"Process {answer.pid} answers at {place.socket}, and is not the embedded server that "
                        "belongs there. Stop it, or set ECOWAS_LC_DATA_DIR to another directory."
                    )
            elif keeper.is_held(place.server_lock):
                unreachable_since = unreachable_since or time.monotonic()
                if time.monotonic() - unreachable_since > UNREACHABLE_SECONDS:  # somebody removed its socket
                    _stop(place)
                    begun, unreachable_since = time.monotonic(), None
            elif not has_keeper:
                if attempts == 2:  # the first may have been killed by whoever killed its predecessor
                    raise _not_started(place, log_start)
                log_start = _start_keeper(place, find_binary(override))
                attempts += 1
            if time.monotonic() - begun > START_SECONDS:
                raise _not_started(place, log_start)
            pause = _sleep(pause)


def _start_keeper(place: Place, binary: Path | None) -> int:
    """Start a keeper, which starts a server unless ``binary`` is ``None``; where its part of the log begins."""
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
            start_new_session=True,  # Ctrl-C in the user's terminal is not meant for it
        )
        try:
            process.wait(START_SECONDS)  # it forks as soon as it holds its lock
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise _not_started(place, log_start) from None
    finally:
        os.close(log)
    return log_start


def _interpreter() -> str:
    """A Python to run the keeper with; under a server such as uWSGI, ``sys.executable`` is none."""
    for path in (sys.executable, os.path.join(sys.exec_prefix, "bin", "python3")):
        if path and os.path.basename(path).lower().startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return path
    raise EmbeddedServerError(
        "The embedded server needs a Python interpreter to watch over it, and none is found in "
        f"{sys.exec_prefix}. Set REDIS_URL to a Redis or Valkey server."
    )


def _stop(place: Place) -> bool:
    server_lock = keeper.open_lock(place.server_lock)
    try:
        # A keeper without a server is about to start one or about to end.
        keeper.wait_for(
            lambda: keeper.is_held(server_lock) or not keeper.is_held(place.keeper_lock), keeper.STOP_SECONDS
        )
        if not keeper.is_held(server_lock):
            return False
        if not keeper.end_server(server_lock, str(place.socket)):
            raise EmbeddedServerError(
                f"The embedded server (process {keeper.read_pid(server_lock)}) does not come to an end. "
                f"Its log is {place.log}."
            )
    finally:
        os.close(server_lock)
    keeper.wait_for(lambda: not keeper.is_held(place.keeper_lock), keeper.STOP_SECONDS)
    return True


@contextlib.contextmanager
def _starting(place: Place, seconds: float, *, unless_running: bool = False) -> Iterator[bool]:
    """Hold the start lock; with ``unless_running`` give up, yielding ``False``, once a server is in order."""
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


def _is_in_order(place: Place) -> bool:
    return probe(place.socket).state is not State.ABSENT and keeper.is_held(place.keeper_lock)


def _noted_pid(place: Place) -> int | None:
    if not keeper.is_held(place.server_lock):
        return None
    lock = keeper.open_lock(place.server_lock)
    try:
        return keeper.read_pid(lock)
    finally:
        os.close(lock)


def _not_started(place: Place, log_start: int | None) -> EmbeddedServerError:
    with contextlib.suppress(OSError), open(place.log, "rb") as file:
        file.seek(log_start or 0)
        lines = file.read(LOG_BYTES).decode(errors="replace").splitlines()[-_LOG_LINES:]
        return EmbeddedServerError(
            "\n    ".join([f"The embedded server did not start. Its log, {place.log}, ends:", *lines])
        )
    return EmbeddedServerError(f"The embedded server in {place.data_dir} did not start, and left no log.")


@contextlib.contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded server's directory {place.data_dir} can't be used: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Set ECOWAS_LC_DATA_DIR to a directory of your "
            "own on a local disk, or REDIS_URL to a server."
        ) from error


def _sleep(pause: float) -> float:
    time.sleep(pause)
    return min(pause * 1.5, 0.02)


def _forget_other_threads() -> None:
    global _mutex
    # Also held while modules are imported on demand: a child forked meanwhile would wait for them for good.


_mutex = threading.RLock()


if sys.platform != "win32":
    # Never fork while another thread is at it: the child would hold the start lock for good.
    os.register_at_fork(
        before=lambda: _mutex.acquire(),
        after_in_parent=lambda: _mutex.release(),
        after_in_child=_forget_other_threads,
    )
