"""The model that answers: the user's own Ollama if it is available, else the small local model, stated openly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecowas_lc.errors import ModelError, ModelServerUnavailableError, ModelTimeoutError
from ecowas_lc.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_DEFAULT_ADDRESS_SECONDS = 3.0
_LOCAL_ANSWER_TOKENS = 160  # a model this small has nothing to add after that
_LOCAL_TEMPERATURE = 0.3  # it loses track at higher temperatures


@dataclass(frozen=True)
class ChosenModel:
    """A chat model that answers, its name and address, and what the user should know about the choice."""

    chat: BaseChatModel
    name: str
    base_url: str
    is_local: bool
    note: str = ""


@contextmanager
def chosen_model(settings: Settings, *, for_demo: bool = False) -> Iterator[ChosenModel]:
    """Yield the model to ask.

    If ``OLLAMA_BASE_URL`` is set, only that server is used; else Ollama at its default address; else the small
    local model, in a process that ends with the block. With ``for_demo``, the local model is also used if Ollama
    lacks the default model, which the user did not choose.

    Raises:
        ModelServerUnavailableError, ModelNotFoundError: No usable model answers; the message says what to do.
    """
    from ecowas_lc.llm import make_chat_model, safe_url
    from ecowas_lc.local_model import MODEL_NAME

    unchosen = "ollama_model" not in settings.model_fields_set
    try:
        name = _served(settings, unchosen=unchosen)
    except ModelError as error:
        is_down = isinstance(error, ModelServerUnavailableError | ModelTimeoutError)
        if settings.ollama_is_set or not (is_down or (for_demo and unchosen)):
            raise
        with _started_local_model(error) as base_url:
            at = safe_url(settings.ollama_base_url)
            why = f"No Ollama answers at {at}" if is_down else f"Ollama at {at} lacks {settings.ollama_model}"
            yield _local_model(settings, base_url, f"{why}, so ")
        return
    if name == MODEL_NAME and is_local_server(settings):
        yield _local_model(settings, settings.ollama_base_url, note=unchosen)
        return
    yield ChosenModel(make_chat_model(settings), name, safe_url(settings.ollama_base_url), is_local=False)


def _served(settings: Settings, *, unchosen: bool) -> str:
    """Return the model to ask at the settings' address: the configured one, or else the local one.

    Raises:
        ModelError: Neither is available.
    """
    from ecowas_lc.llm import LLMService
    from ecowas_lc.local_model import MODEL_NAME

    seconds = settings.llm_timeout if settings.ollama_is_set else _DEFAULT_ADDRESS_SECONDS
    service = LLMService(settings=settings, timeout=min(seconds, settings.llm_timeout))
    if service.list_models() == [MODEL_NAME] and unchosen and is_local_server(settings):
        return MODEL_NAME
    service.check()
    return settings.ollama_model


def is_local_server(settings: Settings) -> bool:
    """Return whether the small local model's server answers at the settings' address, by its own statement.

    An Ollama server may have a model of the same name, which then answers with the settings that you asked for.
    """
    from ecowas_lc.llm import make_chat_model
    from ecowas_lc.llm.guarded import version_of
    from ecowas_lc.local_model import SERVER_NAME

    seconds = min(settings.llm_timeout, _DEFAULT_ADDRESS_SECONDS)
    return version_of(make_chat_model(settings, timeout=seconds)).get("server") == SERVER_NAME


@contextmanager
def _started_local_model(instead_of: ModelError) -> Iterator[str]:
    """Run the local model while the block runs, and yield its address.

    Raises:
        ModelServerUnavailableError: The local model is not installed.
    """
    from ecowas_lc.local_model import is_available, running_local_model

    if not is_available():
        raise ModelServerUnavailableError(
            f"{instead_of} Or install the small local model: `ecowas-lc local-model install`."
        ) from instead_of
    with running_local_model() as served:
        yield served.base_url


def _local_model(settings: Settings, base_url: str, why: str = "", *, note: bool = True) -> ChosenModel:
    from ecowas_lc.llm import make_chat_model, safe_url
    from ecowas_lc.local_model import MODEL_NAME

    chat = make_chat_model(
        settings,
        model=MODEL_NAME,
        base_url=base_url,
        temperature=min(settings.llm_temperature, _LOCAL_TEMPERATURE),
        num_predict=_LOCAL_ANSWER_TOKENS,
    )
    words = (
        f"{why}the small local model {MODEL_NAME} answers: its answers are weak and may be wrong. "
        "For better answers, use Ollama: ollama pull qwen2.5:3b && export OLLAMA_MODEL=qwen2.5:3b"
    )
    said = words[0].upper() + words[1:] if note else ""
    return ChosenModel(chat, MODEL_NAME, safe_url(base_url), is_local=True, note=said)
