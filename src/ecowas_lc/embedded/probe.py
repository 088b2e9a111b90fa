"""A check over its socket whether a server answers. It sends raw bytes, so that no client needs to be imported."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ANSWER_SECONDS = 1.0


class ServerState(Enum):
    """The states of a server."""

    ABSENT = "nothing listens on the socket"
    SILENT = "it accepts connections and does not answer"
    LOADING = "it is reading its data from disk"
    READY = "it answers"


@dataclass(frozen=True)
class ProbeResult:
    """A server's state and, if it reports them, its process id, its uptime and its error."""

    state: ServerState
    pid: int | None = None
    uptime_seconds: int | None = None
    complaint: str = ""


def probe(path: Path) -> ProbeResult:
    """Send ``PING`` and ``INFO`` to the server at ``path``; never raises, whatever the server's state."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            try:
                connection.sendall(b"PING\r\nINFO server\r\n")
                reply = _read(connection)
            except TimeoutError:
                return ProbeResult(ServerState.SILENT)
    except (TimeoutError, BlockingIOError):  # its queue of new connections is full
        return ProbeResult(ServerState.SILENT)
    except OSError:
        return ProbeResult(ServerState.ABSENT)
    if not reply:  # the server disconnected because it is shutting down
        return ProbeResult(ServerState.ABSENT)
    state, complaint = ServerState.SILENT, ""
    if reply.startswith(b"+PONG"):
        state = ServerState.READY
    elif reply.startswith(b"-LOADING"):
        state = ServerState.LOADING
    else:  # such as -BUSY while a script runs
        complaint = reply.partition(b"\r\n")[0][1:].decode(errors="replace")
    return ProbeResult(state, _field(reply, b"process_id"), _field(reply, b"uptime_in_seconds"), complaint)


def _read(connection: socket.socket) -> bytes:
    """Return both replies, or the part that arrived before the server disconnected."""
    reply = b""
    while not _is_complete(reply):
        chunk = connection.recv(16384)
        if not chunk:
            break
        reply += chunk
    return reply


def _is_complete(reply: bytes) -> bool:
    _, _, second = reply.partition(b"\r\n")
    head, end, body = second.partition(b"\r\n")
    if not end:
        return False
    return len(body) >= int(head[1:]) + 2 if head.startswith(b"$") else True


def _field(reply: bytes, name: bytes) -> int | None:
    found = re.search(rb"^" + name + rb":(\d+)\r$", reply, re.MULTILINE)
    return int(found[1]) if found else None
