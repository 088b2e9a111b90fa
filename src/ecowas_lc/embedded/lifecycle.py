"""The operations on the embedded server and their results; every caller reaches the same server."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ecowas_lc import forks
from ecowas_lc.embedded import data_dir, keeper, starting
from ecowas_lc.embedded.data_dir import ServerPaths, find_place
from ecowas_lc.embedded.probe import ServerState, probe
from ecowas_lc.embedded.starting import find_binary
from ecowas_lc.errors import EmbeddedServerError

if TYPE_CHECKING:
    from ecowas_lc.settings import Settings


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded server, as of the call that returned it."""

    socket: Path
    data_dir: Path
    pid: int

    @property
    def url(self) -> str:
        """The ``unix://`` URL for redis-py's ``from_url``, with special characters escaped."""
        return f"unix://{quote(str(self.socket))}"


@dataclass(frozen=True)
class ServerStatus:
    """The status of the embedded server of one data directory.

    ``kept`` means that the server was started to stay until it is stopped; this also holds for the server that
    replaces it after a crash. ``users`` is the number of processes that use it now, ``None`` if the operating
    system does not tell. ``uptime_seconds`` is ``None`` if the server is not running or does not answer.
    """

    running: bool
    kept: bool
    pid: int | None
    socket: Path
    data_dir: Path
    users: int | None
    uptime_seconds: int | None


# A child forked in the meantime would hold the start lock forever. The barrier also covers imports on demand,
# whose import lock a child would wait for.
_mutex = forks.ForkBarrier()
_announced: set[Path] = set()  # folders whose use this process, or its parent, has already logged
log = logging.getLogger(__name__)


def use_server(settings: Settings | None = None) -> EmbeddedServer:
    """Return the embedded server, started or repaired if necessary; this process counts as a user until it ends.

    The call is cheap if the server runs (well under 5 ms), and safe in threads and after a fork. Call it again
    after a connection error. It blocks while the server starts or reads its data.

    Raises:
        EmbeddedServerError: The binary is missing, the directory can't be used, or the server does not start.
        ConfigurationError: The settings can't be read.
    """
    return _use(settings, keep=False)


def start_server(settings: Settings | None = None) -> EmbeddedServer:
    """Return the embedded server, which then stays until :func:`stop_server`, with or without users.

    Raises:
        EmbeddedServerError: The binary is missing, the directory can't be used, or the server does not start.
    """
    return _use(settings, keep=True)


def stop_server(settings: Settings | None = None) -> bool:
    """Stop the server, even if it is kept or in use, and wait until it is down. The data stays.

    A process that still uses it gets a new one from its next :func:`use_server`.

    Returns:
        Whether a server ran.

    Raises:
        EmbeddedServerError: The server does not end, or the directory belongs to another user.
    """
    if sys.platform == "win32":
        return False
    with _mutex, _explained(place := find_place(_settings(settings))):
        if not place.data_dir.exists():
            return False
        place.prepare()
        with starting.hold_start_lock(place, 2 * starting.START_SECONDS):
            place.kept.unlink(missing_ok=True)
            return starting.stop(place)


def server_status(settings: Settings | None = None) -> ServerStatus:
    """Return the status of the server. It starts nothing, and does not count as a use.

    Raises:
        EmbeddedServerError: The directory can't be read, or this is Windows.
    """
    if sys.platform == "win32":
        raise EmbeddedServerError("There is no embedded server on Windows. Set REDIS_URL to a server.")
    with _mutex, _explained(place := find_place(_settings(settings))):
        answer = probe(place.socket)
        running = answer.state is not ServerState.ABSENT or keeper.is_held(place.server_lock)
        return ServerStatus(
            running=running,
            kept=place.kept.exists(),
            pid=answer.pid or (starting.noted_pid(place) if running else None),
            socket=place.socket,
            data_dir=place.data_dir,
            users=data_dir.count(place),
            uptime_seconds=answer.uptime_seconds,
        )


def is_available(settings: Settings | None = None) -> bool:
    """Return whether there is a binary to run: the one that the settings name, else the extra's."""
    # Without the lock, because it is called while errors are translated, and must not wait for a starting server.
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


def _use_at(place: ServerPaths, settings: Settings, *, keep: bool) -> EmbeddedServer:
    if not place.data_dir.exists():
        find_binary(settings.valkey_server)  # without one, leave no directories behind
    place.prepare()
    # Register as a user first: once this process holds its lock, no keeper ends the server.
    data_dir.register(place, settings.linger_seconds)
    answer = starting.wait_until_running(place, settings.valkey_server)
    if keep:
        place.kept.touch(mode=0o600)
    if place.data_dir not in _announced:
        _announced.add(place.data_dir)
        log.info("The embedded server stores the data: socket %s, folder %s.", place.socket, place.data_dir)
    return EmbeddedServer(place.socket, place.data_dir, answer.pid or starting.noted_pid(place) or 0)


@contextlib.contextmanager
def _explained(place: ServerPaths) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded server's directory {place.data_dir} can't be used: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Set ECOWAS_LC_DATA_DIR to a directory that "
            "you own on a local disk, or REDIS_URL to a server."
        ) from error
