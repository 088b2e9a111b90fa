"""Runs the service with uvicorn: the one-time link, the log, and a graceful shutdown."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from ecowas_lc.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ecowas_lc.web.app import Web

log = logging.getLogger("ecowas_lc.web")

_HTTP_ENDS_SECONDS = 3
"""How long requests have to end at shutdown, before the runs get their time."""

_GC_THRESHOLDS = (20_000, 20, 20)
"""When to collect garbage. With Python's own thresholds, hundreds of open answers make a full collection of 0.3 s
every few seconds, and all readers wait meanwhile."""


class _Server(uvicorn.Server):
    """A server that ends its streams as soon as it shuts down, so that readers reconnect to another process."""

    def __init__(self, config: uvicorn.Config, web: Web) -> None:
        super().__init__(config)
        self._web = web

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and keep the garbage collector from going through everything again and again."""
        await super().startup(sockets=sockets)
        gc.collect()
        gc.freeze()  # what was imported stays until the process ends
        gc.set_threshold(*_GC_THRESHOLDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new runs."""
        loop = asyncio.get_running_loop() if _is_in_loop() else None
        if loop is not None:
            loop.call_soon_threadsafe(self._web.begin_draining)
        super().handle_exit(sig, frame)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable only from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ConfigurationError: The address can't be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"Can't listen on {host}:{port}: {error.strerror or error}. Choose another --host or --port."
        ) from None
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def serve(
    app: FastAPI,
    listener: socket.socket,
    *,
    certificate: str | None = None,
    key: str | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve until the process is told to stop. Running answers may then end, or continue in other processes."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the service's own access log shows no tokens
        proxy_headers=False,  # the gate needs the address of the direct peer
        server_header=False,
        date_header=True,
        lifespan="on",
        timeout_graceful_shutdown=_HTTP_ENDS_SECONDS,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=65_536,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ws="none",  # events are sent as server-sent events; older uvicorns load a deprecated part of websockets
    )
    server = _Server(config, app.state.web)
    if on_ready is not None:
        on_ready()
    server.run(sockets=[listener])
