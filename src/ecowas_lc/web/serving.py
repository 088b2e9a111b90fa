"""Runs the service with uvicorn: the one-time link, the log, and the end that lets runs go on."""

from __future__ import annotations

import asyncio
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
"""For requests that are being answered when the process ends, before its runs are waited for."""


class _Server(uvicorn.Server):
    """A server that ends streams as soon as it is asked to end, so that their readers go elsewhere."""

    def __init__(self, config: uvicorn.Config, web: Web) -> None:
        super().__init__(config)
        self._web = web

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no new runs."""
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
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: the address can't be used.
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
    """Return the URL at which a socket listens."""
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
    """Serve until the process is asked to end; runs under way are given some time, or left to other processes."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # ours shows no tokens
        proxy_headers=False,  # the gate looks at the peer's own address
        server_header=False,
        date_header=True,
        lifespan="on",
        timeout_graceful_shutdown=_HTTP_ENDS_SECONDS,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=65_536,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = _Server(config, app.state.web)
    if on_ready is not None:
        on_ready()
    server.run(sockets=[listener])
