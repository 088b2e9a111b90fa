"""The model as a child process that lives as long as a ``with`` block, and never longer than its parent."""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from ecowas_lc.errors import ModelServerUnavailableError
from ecowas_lc.local_model.install import MODEL_NAME, require
from ecowas_lc.local_model.serving import check_threads

_STOP_SECONDS = 5.0
_LOG_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A local model that answers: what ``ChatOllama(base_url=…, model=…)`` needs, and its process id."""

    base_url: str
    model: str
    pid: int


@contextmanager
def running_local_model(port: int = 0, *, threads: int = 1, timeout_seconds: float = 60.0) -> Iterator[LocalModel]:
    """Run the local model in a child process for the length of the block, on 127.0.0.1.

    The child is ready when the block starts. It ends with the block, and also when this process dies in any
    way, SIGKILL included.

    Args:
        port: 0 takes a free one.
        threads: as for :func:`~ecowas_lc.local_model.serve`.
        timeout_seconds: the longest wait for the model to load and answer (about 0.5 s when its file is in
            the disk cache).

    Raises:
        ConfigurationError: a number of threads that can't be.
        MissingExtraError: the engine or the weights are not installed; the message gives the commands.
        ModelServerUnavailableError: the child ended or was not ready in time; the message quotes its log.
    """
    check_threads(threads)
    require()
    command = [sys.executable, "-P", "-m", __package__, f"--port={port}", f"--threads={threads}"]
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
    """What the child says first; empty if it ended, or said nothing in time."""
    assert child.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    read = child.stdout.readline
    # A thread, because Windows can't wait for a pipe with a deadline.
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
