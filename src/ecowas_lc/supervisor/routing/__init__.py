"""Routers: which working groups does a question concern?

    lexical     each group's own vocabulary; needs nothing
    semantic    sentence embeddings, any LangChain ``Embeddings`` or offline ones
    model       a chat model, held to the registered ids
    hybrid      the best of what is installed (the default)

Any object with ``route`` and ``aroute`` is a router. These here also take the conversation so far, a
:class:`PastTurn` for each turn.
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
    """Return the router called ``name`` for these groups (``None``: the summit's six).

    ``embeddings`` (``None``: the offline ones, where the extra ``semantic`` is installed) serve ``"semantic"``
    and ``"hybrid"``; ``model`` serves ``"model"`` and ``"hybrid"``. ``ask_model`` is for ``"hybrid"`` alone:
    whether it asks the model where the other routers are unsure (``None``: if ``ecowas-lc eval --model`` has
    measured that it helps).

    Raises:
        ConfigurationError: no router has this name, ``"model"`` was asked for without a chat model, or an argument
            is no embeddings or no chat model.
        MissingExtraError: ``"semantic"`` was asked for with neither embeddings nor the extra ``semantic``, or
            embeddings were given and numpy is not installed.
        InvalidIdError, InvalidInputError: the groups can't be used.
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
