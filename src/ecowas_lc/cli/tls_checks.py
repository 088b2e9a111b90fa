"""What ``doctor`` looks at in an encrypted connection: the protocol, and how long the certificate is good for."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from typing import Any

from ecowas_lc.cli.findings import Finding, ok, warning
from ecowas_lc.storage.server import Server

_SOON_DAYS = 14


def examine_tls(server: Server) -> Iterator[Finding]:
    """Yield what there is to say about the connection to the server, or to a cluster's first primary."""
    client = server.client
    if server.is_cluster:
        client = client.get_redis_connection(client.get_primaries()[0])
    protocol, certificate = _handshake(client.connection_pool)
    if not certificate:
        yield ok("Redis", "privacy", protocol or "TLS")
        return
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    text = f"{protocol}; the certificate was checked and is good for {days:.0f} days"
    if days < _SOON_DAYS:
        mend = "renew the server's certificate: redis-cli CONFIG SET tls-cert-file FILE takes it without a restart"
        yield warning("Redis", "privacy", f"{text} only", mend)
    else:
        yield ok("Redis", "privacy", text)


def _handshake(pool: Any) -> tuple[str, dict[str, Any]]:
    """The protocol's name and the checked certificate; nothing where the connection does not tell."""
    connection = pool.get_connection()
    try:
        with contextlib.suppress(AttributeError):  # redis-py keeps its socket to itself
            return connection._sock.version(), connection._sock.getpeercert() or {}
        return "", {}
    finally:
        pool.release(connection)
