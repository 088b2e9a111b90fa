"""One organisation's part of the service: the data under its prefix, and the graph that uses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig

from ecowas_lc.agents.turn import AskedOrRouted
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import history_factory
from ecowas_lc.memory import AsyncRedisMemoryService
from ecowas_lc.settings import Settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.nodes import ALLOWED
from ecowas_lc.supervisor.routing import PastTurn, RouteDecision, Router, get_router
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph
from ecowas_lc.twg import TWG, default_groups
from ecowas_lc.web.problems import NotAllowedError

if TYPE_CHECKING:
    from ecowas_lc.documents import Documents

_DOCUMENTS_KNOWN_SECONDS = 30.0


class PermittedRouter(AskedOrRouted):
    """A router that returns the groups chosen for the run, and none that its user may not ask."""

    def route(
        self, question: str, config: RunnableConfig | None = None, *, conversation: Sequence[PastTurn] = ()
    ) -> RouteDecision:
        """Return the groups for a question."""
        return _permitted(super().route(question, config, conversation=conversation), config)

    async def aroute(
        self, question: str, config: RunnableConfig | None = None, *, conversation: Sequence[PastTurn] = ()
    ) -> RouteDecision:
        """Return the groups for a question without blocking the event loop."""
        return _permitted(await super().aroute(question, config, conversation=conversation), config)


def _permitted(decision: RouteDecision, config: RunnableConfig | None) -> RouteDecision:
    allowed = (config or {}).get("configurable", {}).get(ALLOWED)
    if allowed is None or not decision.groups:
        return decision
    found = tuple(group for group in decision.groups if group in allowed)
    if not found:
        raise NotAllowedError(
            f"The question concerns {', '.join(decision.groups)}. You may ask: {', '.join(allowed) or 'no group'}."
        )
    return RouteDecision(found, decision.source, decision.reason)


class Organisation:
    """The data stored under one prefix, and the graph that answers from it."""

    def __init__(
        self,
        prefix: str,
        server: Server,
        settings: Settings,
        model: BaseChatModel,
        *,
        groups: Sequence[TWG] | None = None,
        router: str | Router | None = None,
        held: Collection[str] | Literal["all"] = (),
    ) -> None:
        self.prefix = prefix
        self.server = server
        self.settings = settings
        self.keys = Keys(prefix)
        self.groups = {group.id: group for group in (default_groups() if groups is None else groups)}
        self.saver = RedisSaver(server=server, prefix=prefix, default_ttl=settings.redis_memory_ttl)
        self.memory = AsyncRedisMemoryService(server=server, prefix=prefix, default_ttl=settings.redis_memory_ttl)
        self.held = held
        self._router = settings.router if router is None else router
        self._model = model
        self._graphs: dict[bool, SupervisorGraph] = {}
        self._documents: Documents | None = None
        self._has_documents: tuple[float, bool] = (0.0, False)

    def _graph(self, *, with_documents: bool) -> SupervisorGraph:
        if with_documents not in self._graphs:
            standing, router = list(self.groups.values()), self._router
            if isinstance(router, str):
                router = get_router(router, groups=standing, model=self._model)
            self._graphs[with_documents] = build_supervisor(
                self._model,
                groups=standing,
                router=PermittedRouter(router),
                checkpointer=self.saver,
                history_factory=history_factory(server=self.server, prefix=self.prefix),
                interrupt_before_release=self.held,
                documents=self.documents if with_documents else None,
            )
        return self._graphs[with_documents]

    @property
    def documents(self) -> Documents | None:
        """The organisation's documents, or ``None`` if the extra for searching them is not installed."""
        if self._documents is None and find_spec("snowballstemmer") and find_spec("numpy"):
            from ecowas_lc.documents import Documents

            self._documents = Documents.from_server(self.server, prefix=self.prefix)
        return self._documents

    def documents_changed(self) -> None:
        """Check for documents again when the next question is asked."""
        self._has_documents = (0.0, False)

    async def prepare(self) -> None:
        """Build the graph in a thread. This is slow, and the event loop has to renew leases meanwhile."""
        await self._made(with_documents=False)

    async def graph(self) -> SupervisorGraph:
        """Return the graph. Its answers cite the organisation's documents, if it has any."""
        documents = self.documents
        if documents is None:
            return await self._made(with_documents=False)
        until, has = self._has_documents
        if time.monotonic() > until:
            has = bool(await asyncio.to_thread(documents.all))
            self._has_documents = time.monotonic() + _DOCUMENTS_KNOWN_SECONDS, has
        return await self._made(with_documents=has)

    async def _made(self, *, with_documents: bool) -> SupervisorGraph:
        if with_documents not in self._graphs:
            return await asyncio.to_thread(self._graph, with_documents=with_documents)
        return self._graphs[with_documents]

    async def run(self, op: Any) -> Any:
        """Run a program on the server."""
        return await self.server.arun(op)
