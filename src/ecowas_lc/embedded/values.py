"""What callers get: where the server is, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded server, at the time it was asked for."""

    socket: Path
    data_dir: Path
    pid: int

    @property
    def url(self) -> str:
        """The ``unix://`` URL that redis-py's ``from_url`` takes, with odd characters escaped."""
        return f"unix://{quote(str(self.socket))}"


@dataclass(frozen=True)
class ServerStatus:
    """How the embedded server of one data directory stands.

    ``kept`` says that it was started to stay until it is stopped, which also holds for the server that
    replaces it after a crash. ``users`` counts the processes that use it now, ``None`` where the operating
    system does not tell. ``uptime_seconds`` is ``None`` when the server is not running or does not answer.
    """

    running: bool
    kept: bool
    pid: int | None
    socket: Path
    data_dir: Path
    users: int | None
    uptime_seconds: int | None
