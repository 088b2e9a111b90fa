"""Routers: which working groups does a question concern?

    lexical     each group's own vocabulary; needs nothing
    semantic    sentence embeddings, any LangChain ``Embeddings`` or offline ones
    model       a chat model, held to the registered ids
    hybrid      the best of what is installed (the default)

Any object with ``route`` and ``aroute`` is a router.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor.routing.decision import RouteDecision, Router
from ecowas_lc.supervisor.routing.lexical import LexicalRouter
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
) -> Router:
    """Return the router called ``name`` for these groups (``None``: the summit's six).

    Raises:
        ConfigurationError: no router has this name, or ``"model"`` was asked for without a model.
        MissingExtraError: ``"semantic"`` was asked for with neither embeddings nor the extra ``semantic``.
        InvalidIdError, InvalidInputError: the groups can't be used.
    """
    if name not in ROUTERS:
        raise ConfigurationError(f"There is no router {name!r}. Choose one of: {', '.join(ROUTERS)}.")
    if name == "semantic":
        from ecowas_lc.supervisor.routing.semantic import SemanticRouter  # brings numpy

        return SemanticRouter(groups, embeddings)
    return LexicalRouter(groups)


__all__ = ["ROUTERS", "RouteDecision", "Router", "get_router"]
