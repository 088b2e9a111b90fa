"""Models on Ollama: chat models, a plain chat service, the effective context window, named errors.

Only this package imports ``ChatOllama``, and only when a model is first created.
"""

from __future__ import annotations

from ecowas_lc._secret import safe_url
from ecowas_lc.llm.faults import named_error, named_errors
from ecowas_lc.llm.models import chat_model, make_chat_model
from ecowas_lc.llm.service import LLMService, get_llm_service
from ecowas_lc.llm.tokens import aeffective_context, effective_context, held_to, within_context

__all__ = [
    "LLMService",
    "aeffective_context",
    "chat_model",
    "effective_context",
    "get_llm_service",
    "held_to",
    "make_chat_model",
    "named_error",
    "named_errors",
    "safe_url",
    "within_context",
]
