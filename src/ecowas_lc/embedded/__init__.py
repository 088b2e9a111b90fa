"""An embedded Valkey server: data on disk, a socket that only its user can reach, no configuration.

One server runs per data directory, shared by all processes that call :func:`use_server`. It is not reachable over
a network, and Ctrl-C does not end it. It stays while a process uses it and ``ECOWAS_LC_LINGER_SECONDS`` longer;
after :func:`start_server` it stays until :func:`stop_server`.

The data directory (``ECOWAS_LC_DATA_DIR``, else ``valkey`` in the user's data directory) has mode 700 and
contains::

    appendonlydir/   the data: Valkey's append-only log
    server.sock      the socket; in /tmp/ecowas-lc-<uid>-<digest>/ where the path would exceed 99 bytes
    server.log       the log of server and keeper; emptied at a start once it exceeds 1 MB
    kept             exists from start_server() to stop_server()
    start.lock       held by the process that starts, repairs or stops the server
    users.lock       shared by all users for as long as they live; notes the last one's linger time
    keeper.lock      held by the keeper; notes its process id
    server.lock      held by the server; notes its process id

The locks, not the process ids, show what is running: the kernel frees a lock when its process ends, even by
SIGKILL. The server inherits only ``server.lock``, so that no second server can write to the same log, even while
the first one hangs or is still shutting down. The keeper is a small process that starts the server, and ends it
when it can lock ``users.lock`` for itself. It keeps that lock until the server is down, and users take theirs
before they look for the server, so that no user connects to a server that is about to end.

Writes reach the kernel before they are acknowledged, so that killing all processes loses none. They reach the disk
about a second later. The keeper flushes them, because a server that does so itself (``appendfsync everysec``)
temporarily holds acknowledged writes back in its memory.
"""

from __future__ import annotations

from ecowas_lc.embedded.lifecycle import (
    EmbeddedServer,
    ServerStatus,
    is_available,
    server_status,
    start_server,
    stop_server,
    use_server,
)

__all__ = [
    "EmbeddedServer",
    "ServerStatus",
    "is_available",
    "server_status",
    "start_server",
    "stop_server",
    "use_server",
]
