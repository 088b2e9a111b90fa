"""The server of a memory service or a history, and the servers that a process shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecowas_lc import forks
from ecowas_lc._connection_settings import LONGEST_TIMEOUT, MOST_CONNECTIONS
from ecowas_lc._secret import Secret
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.settings import Settings, get_settings, usable_settings
from ecowas_lc.storage.addresses import Address
from ecowas_lc.storage.clients import ClientFactory
from ecowas_lc.storage.credentials import check_belongs_to_address, checked_provider
from ecowas_lc.storage.server import Server

_lock = forks.Lock()
_shared: dict[tuple[str | None, Settings, int], Server] = {}


def shared_server(
    url: str | None = None, settings: Settings | None = None, credential_provider: Any = None
) -> Server:
    """Return the process's shared server at ``url``; without a URL, the one that the settings name.

    Raises:
        ConfigurationError: The URL or the settings can't be used.
    """
    settings = settings or (get_settings() if url is None else usable_settings())
    key = (url, settings, id(credential_provider))  # the server keeps the provider alive, so its id stays unique
    with _lock:
        if key not in _shared:
            _shared[key] = (
                Server.from_settings(settings, credential_provider=credential_provider)
                if url is None
                else Server.from_url(url, settings=settings, credential_provider=credential_provider)
            )
        return _shared[key]


def server_from(
    host: str,
    port: int,
    db: int,
    password: str | None,
    *,
    username: str | None = None,
    url: str | None = None,
    client: Any = None,
    async_client: Any = None,
    server: Server | None = None,
    ssl: bool = False,
    ssl_ca_certs: str | Path | None = None,
    ssl_certfile: str | Path | None = None,
    ssl_keyfile: str | Path | None = None,
    socket_timeout: float | None = None,
    connect_timeout: float | None = None,
    max_connections: int | None = None,
    credential_provider: Any = None,
) -> Server:
    """Return the server that a constructor's arguments name.

    Raises:
        ConfigurationError: The arguments contradict each other or can't be used.
    """
    parts = (host, port, db, password, username, ssl) != ("localhost", 6379, 0, None, None, False)
    clients = client is not None or async_client is not None
    if parts + (url is not None) + clients + (server is not None) > 1:
        raise ConfigurationError("Pass only one of: url, client, server, or host, port, db and password.")
    if clients or server is not None:
        check_belongs_to_address(credential_provider)
    if server is not None:
        if not isinstance(server, Server):
            raise ConfigurationError(
                f"server must be another object's .server, not {type(server).__name__}. For an address, pass url=."
            )
        return server
    if clients:
        return Server.from_clients(client, async_client)
    given = {
        "redis_ssl_ca_certs": Path(ssl_ca_certs) if ssl_ca_certs else None,
        "redis_ssl_certfile": Path(ssl_certfile) if ssl_certfile else None,
        "redis_ssl_keyfile": Path(ssl_keyfile) if ssl_keyfile else None,
        "redis_socket_timeout": _positive(socket_timeout, "socket_timeout"),
        "redis_connect_timeout": _positive(connect_timeout, "connect_timeout"),
        "redis_max_connections": _positive(max_connections, "max_connections", MOST_CONNECTIONS, whole=True),
    }
    tls_files = [name for name in given if name.startswith("redis_ssl") and given[name]]
    if tls_files and not (ssl or (isinstance(url, str) and url.startswith("rediss"))):
        raise ConfigurationError(
            f"{tls_files[0].removeprefix('redis_')} is for TLS, and TLS is not asked for: pass ssl=True, or a "
            "rediss:// URL."
        )
    update = {name: value for name, value in given.items() if value is not None}
    settings = usable_settings().model_copy(update=update)
    if url is not None:
        return Server.from_url(url, settings=settings, credential_provider=credential_provider)
    if not isinstance(host, str) or not host:
        raise ConfigurationError(f"The Redis host must be text, not {host!r}.")
    if "://" in host:
        raise ConfigurationError("The Redis host is a URL. Pass it as url=, or only the name of the host.")
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        shown = port if isinstance(port, int) else type(port).__name__  # never a URL with a password in it
        raise ConfigurationError(f"The Redis port must be a number from 1 to 65535, not {shown}.")
    if isinstance(db, bool) or not isinstance(db, int) or db < 0:
        raise ConfigurationError(f"The Redis database must be a number, 0 or more, not {db!r}.")
    hidden = None if password is None else Secret(password)
    address = Address("single", hosts=((host, port),), db=db, username=username, password=hidden, tls=ssl)
    has_login = username is not None or password is not None
    credentials = checked_provider(credential_provider, has_login=has_login)
    return Server(ClientFactory(address, settings, credentials))


def _positive(number: Any, name: str, most: int = LONGEST_TIMEOUT, *, whole: bool = False) -> Any:
    kinds: Any = int if whole else (int, float)
    is_number = isinstance(number, kinds) and not isinstance(number, bool)
    if number is not None and not (is_number and 0 < number <= most):
        what = f"a whole number from 1 to {most}" if whole else f"a number of seconds above 0 and at most {most}"
        raise ConfigurationError(f"{name} must be {what}, not {number!r}.")
    return number
