"""Routers, which decide which working groups a question concerns.

    lexical     each group's own vocabulary; requires nothing
    semantic    sentence embeddings, any LangChain ``Embeddings`` or offline ones
    model       a chat model, restricted to the registered ids
    hybrid      the best of what is installed (the default)

Any object with ``route`` and ``aroute`` is a router. The routers in this package also take the conversation so
far, one :class:`PastTurn` for each turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor.routing.decision import (
    ConversationRouter,
    PastTurn,
    RouteDecision,
    Router,
    with_conversation,
)
from ecowas_lc.supervisor.routing.embedding import check_embeddings
from ecowas_lc.supervisor.routing.hybrid import HybridRouter
from ecowas_lc.supervisor.routing.lexical import LexicalRouter
from ecowas_lc.supervisor.routing.model import ModelRouter
from ecowas_lc.twg import TWG

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

ROUTERS = ("lexical", "semantic", "model", "hybrid")


def get_router(
    name: str,
    *,
    groups: Sequence[TWG] | None = None,
    model: BaseChatModel | None = None,
    embeddings: Embeddings | None = None,
    ask_model: bool | None = None,
) -> ConversationRouter:
    """Return the router with this name.

    Args:
        name: ``"lexical"``, ``"semantic"``, ``"model"`` or ``"hybrid"``.
        groups: The working groups; ``None`` means the summit's six.
        model: A chat model for ``"model"`` and ``"hybrid"``.
        embeddings: LangChain embeddings for ``"semantic"`` and ``"hybrid"``; ``None`` means the offline ones, if
            the extra ``semantic`` is installed.
        ask_model: Whether ``"hybrid"`` asks the model if the other routers are unsure. ``None`` means only if
            ``ecowas-lc eval --model`` has measured that it helps.

    Returns:
        The router.

    Raises:
        ConfigurationError: No router has this name, ``"model"`` is requested without a chat model, or an argument
            is not embeddings or not a chat model.
        MissingExtraError: ``"semantic"`` is requested without embeddings or the extra ``semantic``, or embeddings
            are given and numpy is not installed.
        InvalidIdError, InvalidInputError: The groups are not usable.
    """
    if name == "lexical":
        return LexicalRouter(groups)
    if name == "semantic":
        check_embeddings(embeddings)
        from ecowas_lc.supervisor.routing.semantic import SemanticRouter

        return SemanticRouter(groups, embeddings)
    if name == "model":
        if model is None:
            raise ConfigurationError("The router 'model' needs a chat model. Pass model=, such as ChatOllama(…).")
        return ModelRouter(model, groups)
    if name == "hybrid":
        return HybridRouter(groups, embeddings=embeddings, model=model, ask_model=ask_model)
    raise ConfigurationError(f"There is no router {name!r}. Choose one of: {', '.join(ROUTERS)}.")


__all__ = [
    "ROUTERS",
    "ConversationRouter",
    "PastTurn",
    "RouteDecision",
    "Router",
    "get_router",
    "with_conversation",
]
