"""Serving the model from this process, or from a child process for the length of a ``with`` block."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from ecowas_lc.errors import ConfigurationError, ModelServerUnavailableError
from ecowas_lc.local_model.install import MODEL_NAME, require

DEFAULT_PORT = 11434  # Ollama's, so that every client's default address finds the model

_HOSTS = ("127.0.0.1", "localhost")
_STOP_SECONDS = 5.0
_LOG_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A running local model: its address and name, for ``ChatOllama(base_url=…, model=…)``, and its process id."""

    base_url: str
    model: str
    pid: int


@contextmanager
def running_local_model(
    port: int = 0, *, threads: int = 1, awkward: bool = False, timeout_seconds: float = 60.0
) -> Iterator[LocalModel]:
    """Run the local model in a child process for the length of the block, on 127.0.0.1.

    The child is ready when the block starts. It ends with the block, and also if this process ends in any other
    way, including SIGKILL.

    Args:
        port: The port; 0 uses a free one.
        threads: As for :func:`~ecowas_lc.local_model.serve`.
        awkward: As for :func:`~ecowas_lc.local_model.serve`.
        timeout_seconds: How long to wait for the model to load and answer (about 0.5 s if its file is in the disk
            cache).

    Raises:
        ConfigurationError: The number of threads can't be used.
        MissingExtraError: The engine or the weights are not installed; the message gives the commands.
        ModelServerUnavailableError: The child ended or was not ready in time; the message quotes its log.
    """
    check_threads(threads)
    require()
    command = [sys.executable, "-P", "-m", __package__, f"--port={port}", f"--threads={threads}"]
    command += ["--awkward"] if awkward else []
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,  # never written to: its end tells the child that this process is gone
            stdout=subprocess.PIPE,  # one line: the base URL, once it answers
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process, which then stops the child
        )
        try:
            base_url = _first_line(child, timeout_seconds)
            if not base_url:
                raise ModelServerUnavailableError(_why(child, log, timeout_seconds))
            yield LocalModel(base_url=base_url, model=MODEL_NAME, pid=child.pid)
        finally:
            _stop(child)


def _first_line(child: subprocess.Popen[bytes], timeout_seconds: float) -> str:
    """Return the first line of the child's output; empty if it ended, or wrote nothing in time."""
    assert child.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    read = child.stdout.readline
    # In a thread, because Windows can't wait for a pipe with a deadline.
    threading.Thread(target=lambda: lines.put(read()), daemon=True, name="local-model-start").start()
    try:
        return lines.get(timeout=timeout_seconds).decode().strip()
    except queue.Empty:
        return ""


def _why(child: subprocess.Popen[bytes], log: IO[bytes], timeout_seconds: float) -> str:
    try:
        what = f"ended with code {child.wait(timeout=1)} before it was ready"
    except subprocess.TimeoutExpired:
        what = f"was not ready within {timeout_seconds:g} s"
    log.seek(max(0, log.seek(0, 2) - _LOG_TAIL_BYTES))
    tail = log.read().decode(errors="replace").strip() or "(nothing)"
    return f"The local model {what}. Its log ends with:\n{tail}"


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    try:
        child.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def serve(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    threads: int = 1,
    awkward: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the local model until Ctrl-C or SIGTERM. Call it from the main thread.

    Args:
        host: ``127.0.0.1`` or ``localhost``; no other host is served.
        port: The port; 0 uses a free one.
        threads: The number of threads for computing. More threads read prompts faster if as many cores are free,
            and are many times slower if not, because llama.cpp's threads wait for each other at every step.
        awkward: Behave as inconveniently as a real Ollama, to test your application: one answer at a time, prompts
            that are too long are cut silently, answers continue past the window, and every change of ``num_ctx``
            loads the model again.
        on_ready: Called once, with the base URL, when the model is loaded and answers.

    Raises:
        ConfigurationError: Another host, an unusable port or number of threads, or a port that is in use.
        MissingExtraError: The engine or the weights are not installed; the message gives the commands.
        ModelServerUnavailableError: The weights can't be loaded.
    """
    check_threads(threads)
    if host not in _HOSTS:
        raise ConfigurationError(
            f"The local model is served on {_HOSTS[0]} only, not on {host!r}: it has no authentication. "
            "Use an Ollama server for other machines."
        )
    weights = require()
    with _listen(port) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"

        import uvicorn

        from ecowas_lc.local_model.app import create_app
        from ecowas_lc.local_model.engine import SLOTS, Engine

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if on_ready is not None:
                    on_ready(address)

        with Engine(weights, threads=threads, slots=1 if awkward else SLOTS) as engine:
            config = uvicorn.Config(
                create_app(engine, awkward=awkward),
                access_log=False,
                http="h11",
                lifespan="off",
                log_config=None,  # don't change the application's logging
                loop="asyncio",
                timeout_graceful_shutdown=1,
                ws="none",
            )
            with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
                Server(config).run(sockets=[listener])


def check_threads(threads: int) -> None:
    """Raise ConfigurationError unless ``threads`` is a valid number of threads."""
    if threads < 1:
        raise ConfigurationError(f"threads={threads} can't be used: pass 1 or more.")


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        if os.name == "posix":  # on other systems the option would let a second server share a port in use
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOSTS[0], port))
        listener.listen()  # reserves the port before the model is loaded
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"The local model can't listen on {_HOSTS[0]}:{port} ({error}). "
            "Choose another port, or 0 for any free one; if Ollama runs there, use that."
        ) from error
    return listener
