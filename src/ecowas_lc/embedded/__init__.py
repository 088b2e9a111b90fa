"""An embedded Valkey server: data on disk, a socket that only its user can reach, nothing to configure.

One server runs for each data directory, shared by every process that calls :func:`use_server`. It is on
nobody's network, is not ended by Ctrl-C, stays while a process uses it and ``ECOWAS_LC_LINGER_SECONDS``
longer, and after :func:`start_server` until :func:`stop_server`.

The data directory (``ECOWAS_LC_DATA_DIR``, else ``valkey`` in the user's data directory) has mode 700 and::

    appendonlydir/   the data: Valkey's append-only log
    server.sock      the socket; in /tmp/ecowas-lc-<uid>-<digest>/ where the path would exceed 99 bytes
    server.log       what server and keeper say; emptied at a start once it exceeds 1 MB
    kept             there from start_server() to stop_server()
    start.lock       held by whoever starts, mends or stops the server
    users.lock       shared by all users for as long as they live; notes the last one's linger time
    keeper.lock      held by the keeper; notes its process id
    server.lock      held by the server; notes its process id

The locks are the truth, not the process ids: the kernel frees them when a process ends, SIGKILL included.
The server inherits ``server.lock`` alone, so that no second one can write to the same log, even while the
first one hangs or finishes unseen. The keeper is a small process that starts the server and ends it when
it can lock ``users.lock`` for itself; it keeps that lock until the server is down, and users take theirs
before they look for the server, so that nobody is handed one that is about to go.

Writes reach the kernel before they are acknowledged, so that killing every process loses none, and the disk
about a second later: the keeper sees to that, because a server that does it itself (``appendfsync everysec``)
holds acknowledged writes back in its memory meanwhile.
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
