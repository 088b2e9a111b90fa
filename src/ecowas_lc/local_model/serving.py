"""Serving the model from this process: the address rule, the port, and uvicorn."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.local_model.install import require

DEFAULT_PORT = 11434  # Ollama's, so that every client's default address finds the model

_HOSTS = ("127.0.0.1", "localhost")


def serve(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    threads: int = 1,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the local model until Ctrl-C or SIGTERM; call it from the main thread.

    Args:
        host: ``127.0.0.1`` or ``localhost``; nothing else is served.
        port: 0 takes a free one.
        threads: for computing. More than one read prompts faster where as many cores are free, and are
            many times slower where they are not: llama.cpp's threads wait for each other at every step.
        on_ready: is called once, with the base URL, when the model is loaded and answers.

    Raises:
        ConfigurationError: another host, a port or number of threads that can't be, or a port that is taken.
        MissingExtraError: the engine or the weights are not installed; the message gives the commands.
        ModelServerUnavailableError: the weights can't be loaded.
    """
    check_threads(threads)
    if host not in _HOSTS:
        raise ConfigurationError(
            f"The local model is served on {_HOSTS[0]} alone, not on {host!r}: it has no authentication. "
            "Use an Ollama server for other machines."
        )
    weights = require()
    with _listen(port) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"

        import uvicorn

        from ecowas_lc.local_model.app import create_app
        from ecowas_lc.local_model.engine import Engine

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if on_ready is not None:
                    on_ready(address)

        with Engine(weights, threads=threads) as engine:
            config = uvicorn.Config(
                create_app(engine),
                access_log=False,
                http="h11",
                lifespan="off",
                log_config=None,  # the application's logging is not ours to set up
                loop="asyncio",
                timeout_graceful_shutdown=1,
                ws="none",
            )
            with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
                Server(config).run(sockets=[listener])


def check_threads(threads: int) -> None:
    """Raise ConfigurationError unless ``threads`` is a number of threads."""
    if threads < 1:
        raise ConfigurationError(f"threads={threads} can't be: give 1 or more.")


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        if os.name == "posix":  # elsewhere the option would let a second server share a live port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOSTS[0], port))
        listener.listen()  # the port is ours before the model is loaded
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"The local model can't listen on {_HOSTS[0]}:{port} ({error}). "
            "Choose another port, or 0 for any free one; if Ollama runs there, use that."
        ) from error
    return listener
