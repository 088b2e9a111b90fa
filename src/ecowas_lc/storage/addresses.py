"""Server addresses: parsing them from URLs, and showing them without secrets."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from ecowas_lc._secret import Secret
from ecowas_lc.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379, "": 6379}


class Address(NamedTuple):
    """One server, Sentinel group or cluster; ``str()`` names it for messages, without secrets."""

    kind: str  # "single", "unix", "sentinel", "cluster"
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    options: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"  # options may hold a password too

    def __str__(self) -> str:
        if self.kind == "unix":
            return self.path
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{hosts} (service {self.service})" if self.kind == "sentinel" else hosts


def parse_url(url: str) -> Address:
    """Read ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` and ``redis+cluster://`` URLs.

    ``redis+sentinel://user:password@host:port,host:port/service/db`` and
    ``redis+cluster://host:port,host:port``; with ``rediss+`` either speaks TLS.

    Raises:
        ConfigurationError: The URL can't be used; the message never shows its user or password.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"The Redis URL must be text, not {type(url).__name__}.")
    url = Secret(url)
    try:
        return _parsed(url)
    except ConfigurationError as error:
        # Raised outside the except block: the original error and its frames contain pieces of the URL.
        error.__context__ = None
        raise error.with_traceback(None) from None


def _parsed(url: str) -> Address:
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ConfigurationError(
            f"The Redis URL must start with one of {', '.join(f'{known}://' for known in SCHEMES)}; "
            "an ordinary one is redis://localhost:6379/0."
        )
    base, _, mode = scheme.partition("+")
    rest, _, query = rest.partition("?")
    authority, slash, tail = rest.partition("/")
    credentials, _, hosts_text = authority.rpartition("@")
    username, colon, password = credentials.partition(":")
    options: dict[str, str] = {name: Secret(text) for name, text in parse_qsl(query)}
    if base == "unix":
        path = unquote(slash + tail) if not hosts_text else unquote(hosts_text + slash + tail)
        if not path.startswith("/"):
            raise ConfigurationError("A unix:// URL needs an absolute path: unix:///run/redis.sock.")
        return Address(
            kind="unix",
            path=path,
            db=_db(options.pop("db", "0")),
            username=unquote(username) or None,
            password=Secret(unquote(password)) if colon else None,
            options=tuple(options.items()),
        )
    parts = [unquote(part) for part in tail.split("/") if part]
    service = ""
    if mode == "sentinel":
        if not parts:
            raise ConfigurationError(
                "A redis+sentinel:// URL names its service: redis+sentinel://host:port,host:port/service/db"
            )
        service = parts.pop(0)
    if len(parts) > 1 or (mode == "cluster" and parts):
        raise ConfigurationError(
            "The Redis URL has a path that can't be used: at most /db may end it, as in redis://host:6379/0. "
            "In a password write / as %2F."
        )
    return Address(
        kind=mode or "single",
        hosts=tuple(_host(text, _DEFAULT_PORTS[mode]) for text in hosts_text.split(",")),
        service=service,
        db=_db(parts[0] if parts else options.pop("db", "0")),
        username=unquote(username) or None,
        password=Secret(unquote(password)) if colon else None,
        tls=base == "rediss",
        options=tuple(options.items()),
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "localhost", parts.port or default_port
    except ValueError:
        raise ConfigurationError(
            "The Redis URL has a host or port that can't be read: write redis://host:port/0. "
            "In a password write / as %2F."
        ) from None


def _db(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(
            "The Redis URL's database must be a number, 0 or more, as in redis://host:6379/0."
        )
    return int(text)
