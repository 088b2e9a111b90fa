"""Middleware for LangChain's ``create_agent`` that keeps Ollama from silently cutting prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_ollama import ChatOllama

from ecowas_lc.errors import MissingExtraError
from ecowas_lc.llm.guarded import guarded

StateT, ContextT, ResponseT = TypeVar("StateT"), TypeVar("ContextT"), TypeVar("ResponseT")

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
else:
    try:
        from langchain.agents.middleware import AgentMiddleware
    except ImportError:  # the name can still be imported, as every public name can without extras

        class AgentMiddleware(Generic[StateT, ContextT, ResponseT]):
            """Stand in for LangChain's class if langchain is not installed."""

            def __init__(self, *_: Any, **__: Any) -> None:
                raise MissingExtraError(
                    "GuardedContextMiddleware is for LangChain's create_agent. Run: pip install langchain"
                )


class GuardedContextMiddleware(AgentMiddleware[Any, Any, Any]):
    """Middleware that gives an agent's models the safeguards of :class:`~ecowas_lc.GuardedChatOllama`.

    Each request to a ``ChatOllama`` states its context, and a prompt that does not fit raises
    :class:`~ecowas_lc.ContextOverflowError`, also LangChain's error of that name, instead of being cut by Ollama.
    Place it after middleware that shortens the conversation or chooses the model. Models of other providers are
    called unchanged.

    Example:
        >>> create_agent(ChatOllama(model="qwen3:4b"), middleware=[GuardedContextMiddleware()])
    """

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> Any:
        """Call the model with the guard."""
        return handler(_guarded(request))

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> Any:
        """Call the model with the guard, without blocking the event loop."""
        return await handler(_guarded(request))


def _guarded(request: ModelRequest) -> ModelRequest:
    model = request.model
    return request.override(model=guarded(model)) if isinstance(model, ChatOllama) else request
