"""The number of tokens that a model accepts; Ollama silently cuts longer prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ecowas_lc.llm.models import is_chat_ollama

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_ollama import ChatOllama

    from ecowas_lc.llm.guarded import GuardedChatOllama


def effective_context(model: BaseChatModel, num_ctx: int | None = None) -> int | None:
    """Return the number of tokens that prompt and answer may take together.

    For ``ChatOllama``, this is the context that our requests ask for explicitly, whatever other clients made the
    server load: ``num_ctx``, passed here or set on the model; else the Modelfile's; else
    ``OLLAMA_CONTEXT_LENGTH``; else 4,096. It is never more than the model was trained for, because Ollama allots
    no more. For other models: ``num_ctx``, else what their ``profile`` says.

    Args:
        model: The chat model.
        num_ctx: Context in tokens to ask for.

    Returns:
        The number of tokens, or ``None`` if it is unknown.

    Raises:
        ModelServerUnavailableError: The server does not answer.
        ModelNotFoundError: The server does not have the model.
    """
    if not is_chat_ollama(model):
        return num_ctx or _from_profile(model)
    return _asking_for(model, num_ctx).context()


async def aeffective_context(model: BaseChatModel, num_ctx: int | None = None) -> int | None:
    """Return what :func:`effective_context` returns, without blocking the event loop."""
    if not is_chat_ollama(model):
        return num_ctx or _from_profile(model)
    return await _asking_for(model, num_ctx).acontext()


def held_to(model: BaseChatModel, num_ctx: int | None) -> BaseChatModel:
    """Return an Ollama model with the guard, and with ``num_ctx`` if given; return other models unchanged."""
    return _asking_for(model, num_ctx) if is_chat_ollama(model) else model


def within_context(model: BaseChatModel, num_ctx: int, num_predict: int) -> BaseChatModel:
    """Return the model limited to a context of ``num_ctx`` tokens and answers of at most ``num_predict`` tokens.

    Only ``ChatOllama`` can be limited; other models are returned unchanged. A smaller ``num_predict`` of the
    model's own is kept. Stating the context in each request keeps the server from choosing another one later.
    """
    if not is_chat_ollama(model):
        return model
    held = _asking_for(model, num_ctx)
    own = held.num_predict
    if own is None or own < 0 or own > num_predict:
        own = num_predict
    return held if held.num_predict == own else held.model_copy(update={"num_predict": own})


def _asking_for(model: ChatOllama, num_ctx: int | None) -> GuardedChatOllama:
    from ecowas_lc.llm.guarded import guarded

    held = guarded(model)
    if num_ctx is None or held.num_ctx == num_ctx:
        return held
    return held.model_copy(update={"num_ctx": num_ctx})


def _from_profile(model: BaseChatModel) -> int | None:
    profile = getattr(model, "profile", None)
    length = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
    return length if isinstance(length, int) and length > 0 else None
