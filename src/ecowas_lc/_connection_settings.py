"""The defaults of the settings of connections to Redis, and whether the settings may differ from them.

Where nothing is set, a call that names its own server does not wait for pydantic-settings to load, which takes
longer than the rest of the saver.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

ENV_FILE = ".env"
LONGEST_TIMEOUT = 10**9
"""Seconds, about thirty years. Timeouts of sockets and locks overflow above ten times as much."""
MOST_CONNECTIONS = 100_000
"""redis-py reserves a place for each connection in advance."""
LONGEST_TTL = 10**10
"""Seconds, about three centuries. Redis refuses times that overflow its clock."""


class ConnectionSettings(NamedTuple):
    """The defaults of the settings that have the same names in :class:`~ecowas_lc.Settings`."""

    redis_max_connections: int = 10
    redis_socket_timeout: float = 10.0
    redis_connect_timeout: float = 5.0
    redis_ssl_ca_certs: Path | None = None
    redis_ssl_certfile: Path | None = None
    redis_ssl_keyfile: Path | None = None
    wait_replicas: int = 0


DEFAULTS = ConnectionSettings()
_VARIABLES = frozenset(map(str.upper, ConnectionSettings._fields))


def may_be_set() -> bool:
    """Return whether the process's settings must be read: if not, they are :data:`DEFAULTS`."""
    if "ecowas_lc.settings" in sys.modules or os.path.lexists(ENV_FILE):
        return True
    # Names that start like ours may be misspelt: the settings warn about them.
    return any(name in _VARIABLES or name.startswith("ECOWAS") for name in map(str.upper, os.environ))
