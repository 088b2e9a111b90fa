"""The groups that can be asked: the registered groups, the agents that answer for them, and their router."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.pregel import Pregel

from ecowas_lc.agents.turn import AskedOrRouted
from ecowas_lc.errors import ConfigurationError, InvalidInputError, UnknownGroupError
from ecowas_lc.supervisor.graph import RESERVED_IDS
from ecowas_lc.supervisor.grounding import grounding_of, unread_documents
from ecowas_lc.supervisor.model_calls import Agent
from ecowas_lc.supervisor.routing import ROUTERS, Router, get_router
from ecowas_lc.twg import TWG, validate_groups


class Registry:
    """The groups of one supervisor; ``version`` changes whenever they change.

    Raises:
        InvalidIdError, InvalidInputError: The groups are not usable.
        ConfigurationError: There is no router of this name.
    """

    def __init__(
        self,
        groups: Sequence[TWG],
        router: str | Router,
        model: BaseChatModel,
        *,
        auto_register: bool,
        documents: Any = None,
    ) -> None:
        if isinstance(router, str) and router not in ROUTERS:
            raise ConfigurationError(f"There is no router {router!r}. Choose one of: {', '.join(ROUTERS)}.")
        self._known = {group.id: group for group in validate_groups(groups, reserved=RESERVED_IDS)}
        self.groups = dict(self._known) if auto_register else {}
        self.agents: dict[str, Agent | Pregel[Any, Any, Any, Any]] = {}
        self.version = 0
        self._given = router
        self._model = model
        self._documents = documents
        self._router: tuple[int, AskedOrRouted] | None = None

    @property
    def nodes(self) -> tuple[TWG, ...]:
        """The groups to build a graph from, which needs at least one: all known groups if none is registered."""
        return tuple((self.groups or self._known).values())

    @property
    def router(self) -> AskedOrRouted:
        """The router over the registered groups; it chooses no group if none is registered."""
        if self._router is None or self._router[0] != self.version:
            found: Router | None = None
            if self.groups and isinstance(self._given, str):
                found = get_router(self._given, groups=tuple(self.groups.values()), model=self._model)
            elif self.groups and not isinstance(self._given, str):
                found = self._given
            self._router = self.version, AskedOrRouted(found)
        return self._router[1]

    @property
    def router_name(self) -> str:
        """The router's name."""
        return self._given if isinstance(self._given, str) else type(self._given).__name__

    def register(
        self,
        agent_id: str,
        agent: Agent | Pregel[Any, Any, Any, Any] | None,
        name: str | None,
        description: str,
        terms: Mapping[str, Sequence[str]] | None,
    ) -> None:
        """Register a group and the agent that answers for it; see :meth:`SupervisorAgent.register_agent`."""
        if agent is not None and not (isinstance(agent, Pregel) or callable(getattr(agent, "chat", None))):
            raise InvalidInputError(
                f"{agent!r} can't answer: it has no method chat(prompt), and is not a compiled graph."
            )
        group = self.groups.get(agent_id) or self._known.get(agent_id)
        if group is None and agent is None:
            raise UnknownGroupError(
                f"There is no working group {agent_id!r}. Available: {', '.join(self._known)}. "
                "For another, pass the agent that answers for it."
            )
        title = name or (group.name if group else str(getattr(agent, "name", None) or agent_id))
        entered = TWG(
            agent_id,
            title,
            group.prompt if group else f"You are {title}.",
            terms or (group.terms if group else {}),
            description or (group.description if group else ""),
            None if group is None else group.documents,
        )
        if agent is not None:
            self._check_agent(entered)
        validate_groups([entered], reserved=RESERVED_IDS)
        self.groups[agent_id] = entered
        self.agents.pop(agent_id, None)
        if agent is not None:
            self.agents[agent_id] = agent
        self.version += 1

    def _check_agent(self, group: TWG) -> None:
        grounding = grounding_of((group,), self._documents)
        if grounding is not None and grounding.serves(group.id):
            raise unread_documents(group.id, "is answered by an agent")

    def named(self, agent_ids: Iterable[str]) -> list[str]:
        """Return the given ids without duplicates, after checking that all are registered.

        Raises:
            UnknownGroupError: An id is not registered; the message lists the registered ones.
            InvalidInputError: No id is given.
        """
        asked = [agent_ids] if isinstance(agent_ids, str) else list(dict.fromkeys(agent_ids))
        if not asked:
            raise InvalidInputError("No groups were given. Pass the ids of the groups to ask.")
        for agent_id in asked:
            if agent_id not in self.groups:
                known = ", ".join(self.groups) or "none yet; register_agent adds one"
                raise UnknownGroupError(f"There is no working group {agent_id!r}. Available: {known}.")
        return asked
