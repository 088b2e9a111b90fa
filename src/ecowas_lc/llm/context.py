"""How many tokens a model really takes in: Ollama cuts longer prompts without a word."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecowas_lc.errors import (
    ContextOverflowError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
)
from ecowas_lc.llm.faults import named_errors
from ecowas_lc.llm.models import is_chat_ollama

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

DEFAULT_CONTEXT = 4096
"""Tokens that Ollama allots (without a large graphics card) where nobody said otherwise."""

_LEAST_CONTEXT = 2048  # of the models that are in use
_BYTES_AROUND_A_MESSAGE = 32  # its role and marks


def effective_context(model: BaseChatModel, num_ctx: int | None = None) -> int | None:
    """Return the tokens that prompt and answer may take together, or ``None`` where nobody says.

    For ``ChatOllama``: ``num_ctx``, here or on the model; else what the model's file sets; else what the server
    allots once it has loaded the model (``OLLAMA_CONTEXT_LENGTH``, memory), which this loads if need be; never
    more than the model was trained for, as Ollama gives no more whatever it is asked for. For other models:
    ``num_ctx``, else what their ``profile`` says.

    Raises:
        ModelServerUnavailableError: the server does not answer.
        ModelNotFoundError: the server does not have the model.
    """
    if not is_chat_ollama(model):
        return num_ctx or _from_profile(model)
    asked = num_ctx or model.num_ctx
    probe = _probe(model.model, asked)
    reply: Any = None
    try:
        while True:
            method, arguments = probe.send(reply)
            with named_errors(model):
                reply = getattr(model._client, method)(**arguments)
    except StopIteration as stop:
        return int(stop.value)
    except ModelError as error:
        return _believed(asked, error)


async def aeffective_context(model: BaseChatModel, num_ctx: int | None = None) -> int | None:
    """Return what :func:`effective_context` returns, without blocking the event loop."""
    if not is_chat_ollama(model):
        return num_ctx or _from_profile(model)
    asked = num_ctx or model.num_ctx
    probe = _probe(model.model, asked)
    reply: Any = None
    try:
        while True:
            method, arguments = probe.send(reply)
            with named_errors(model):
                reply = await getattr(model._async_client, method)(**arguments)
    except StopIteration as stop:
        return int(stop.value)
    except ModelError as error:
        return _believed(asked, error)


def _believed(asked: int | None, error: ModelError) -> int:
    """Return what the caller asked for where a server does not tell, as some with Ollama's protocol don't."""
    if asked is None:
        raise error
    raise_unless_untold(error)
    return asked


def raise_unless_untold(error: ModelError) -> None:
    """Raise an error of :func:`effective_context`, unless it is a server's that merely does not tell."""
    if isinstance(error, (ModelServerUnavailableError, ModelNotFoundError, ModelTimeoutError)):
        raise error


def within_context(model: BaseChatModel, num_ctx: int, num_predict: int) -> BaseChatModel:
    """Return the model held to a context of ``num_ctx`` tokens and answers of ``num_predict`` at most.

    Only ``ChatOllama`` can be held to it; others come back unchanged. A shorter ``num_predict`` of its own stays.
    Asking for the context by name keeps the server from choosing another one later.
    """
    if not is_chat_ollama(model):
        return model
    own = model.num_predict
    if own is None or own < 0 or own > num_predict:
        own = num_predict
    if (model.num_ctx, model.num_predict) == (num_ctx, own):
        return model
    return model.model_copy(update={"num_ctx": num_ctx, "num_predict": own})


def is_surely_short(messages: Sequence[BaseMessage], num_ctx: int | None) -> bool:
    """Return whether a prompt fits whatever the context: no token is shorter than a byte."""
    size = sum(
        len(message.text.encode("utf-8", "surrogatepass")) + _BYTES_AROUND_A_MESSAGE for message in messages
    )
    return size < min(num_ctx or _LEAST_CONTEXT, _LEAST_CONTEXT)


def check_fits(messages: Sequence[BaseMessage], context: int | None, name: str) -> None:
    """Do nothing where a prompt may fit the context of the model ``name``, or nobody knows that.

    Raises:
        ContextOverflowError: it does not, at four characters a token, as English has; few languages need less.
    """
    from langchain_core.messages.utils import count_tokens_approximately

    tokens = count_tokens_approximately(messages)
    if context is not None and tokens >= context:
        raise ContextOverflowError(
            f"The prompt does not fit the model {name}: it takes about {tokens} tokens, and prompt and answer may "
            f"take {context} together. Ask less at once, or raise num_ctx."
        )


def _probe(name: str, asked: int | None) -> Generator[tuple[str, dict[str, Any]], Any, int]:
    """Find the context by calls to Ollama's client: yields (method, arguments), receives replies."""
    shown = yield "show", {"model": name}
    trained = _trained_length(shown.modelinfo or {})
    length = asked or _parameter(shown.parameters or "", "num_ctx")
    if length is None:
        length = _allotted((yield "ps", {}), name)
    if length is None:
        yield "chat", {"model": name, "messages": []}  # loads the model, generates nothing
        length = _allotted((yield "ps", {}), name)
    length = length or DEFAULT_CONTEXT
    return min(length, trained) if trained else length


def _trained_length(model_info: Mapping[str, Any]) -> int | None:
    found = [v for k, v in model_info.items() if k.endswith(".context_length") and isinstance(v, int) and v > 0]
    return min(found) if found else None


def _parameter(parameters: str, name: str) -> int | None:
    """Read one whole number from the lines of a model file's parameters ("num_ctx    8192")."""
    for line in parameters.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit() and int(words[1]) > 0:
            return int(words[1])
    return None


def _allotted(processes: Any, name: str) -> int | None:
    """Return the context of a loaded model; servers before 0.10 don't tell."""
    tagged = name if ":" in name else f"{name}:latest"
    for process in processes.models:
        if (process.model or process.name) in (name, tagged) and process.context_length:
            return int(process.context_length)
    return None


def _from_profile(model: BaseChatModel) -> int | None:
    profile = getattr(model, "profile", None)
    length = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
    return length if isinstance(length, int) and length > 0 else None
