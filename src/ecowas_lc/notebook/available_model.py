"""A model for notebooks that is available on every machine: Ollama's, or the small local one."""

from __future__ import annotations

import atexit
import sys
from contextlib import ExitStack
from typing import Any

from ecowas_lc import forks
from ecowas_lc.errors import ModelError
from ecowas_lc.llm import LLMService, make_chat_model, safe_url
from ecowas_lc.llm.guarded import GuardedChatOllama
from ecowas_lc.local_model import MODEL_NAME, LocalModel, running_local_model
from ecowas_lc.settings import get_settings

_DEFAULT_ADDRESS_SECONDS = 3.0


class _Started:
    """The local model of this process, which ends with the process."""

    def __init__(self) -> None:
        forks.register(self)
        self.forget_parent()

    def forget_parent(self) -> None:
        """Discard the model after a fork: the parent's model ends with the parent."""
        self.model: LocalModel | None = None
        self._lock = forks.Lock()

    def get(self) -> LocalModel:
        """Return the model, starting it on the first call."""
        with self._lock:
            if self.model is None:
                stack = ExitStack()
                self.model = stack.enter_context(running_local_model(threads=2))
                atexit.register(stack.close)
            return self.model


_STARTED = _Started()


def chat_model(**options: Any) -> GuardedChatOllama:
    """Return a chat model that answers on this machine, and print which one it is.

    It is the settings' model if Ollama has it. If you have set no address and Ollama does not answer or lacks the
    model, the small local model is started. It ends with this process, and its answers are meaningless.

    Args:
        **options: Options of ``ChatOllama``, such as ``num_predict``; see :func:`~ecowas_lc.make_chat_model`.

    Returns:
        The model.

    Raises:
        ModelError: The server at the address that you have set does not answer, or lacks the model.
        MissingExtraError: The local model is not installed; the message gives the commands to install it.
    """
    settings = get_settings()
    seconds = settings.llm_timeout if settings.ollama_is_set else _DEFAULT_ADDRESS_SECONDS
    try:
        LLMService(settings=settings, timeout=min(seconds, settings.llm_timeout)).check()
    except ModelError:
        if settings.ollama_is_set:
            raise
        local = _STARTED.get()
        _say(f"Ollama is not ready, so the small test model {local.model} answers: ignore what it says.")
        return make_chat_model(settings, model=local.model, base_url=local.base_url, **options)
    if settings.ollama_model == MODEL_NAME:
        _say(f"The small test model {MODEL_NAME} answers: ignore what it says.")
    else:
        _say(f"{settings.ollama_model} answers at {safe_url(settings.ollama_base_url)}.")
    return make_chat_model(settings, **options)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
