"""Functions that create agents by name: the supervisor and one agent for each of the summit's working groups."""

from __future__ import annotations

from typing import Any, Protocol

from ecowas_lc.agents.base_agent import BaseAgent
from ecowas_lc.agents.supervisor import SupervisorAgent


class AgentFactory(Protocol):
    """A function that creates a working group's agent; ``options`` are further :class:`BaseAgent` arguments."""

    def __call__(
        self,
        keep_history: bool = True,
        session_id: str | None = None,
        use_redis: bool = False,
        memory_ttl: int | None = None,
        **options: Any,
    ) -> BaseAgent:
        """Create the agent."""
        ...


def create_supervisor(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    auto_register: bool = True,
    **options: Any,
) -> SupervisorAgent:
    """Create a :class:`SupervisorAgent`.

    Args:
        keep_history: Whether the supervisor remembers the session.
        session_id: The session to join. Generated if omitted.
        use_redis: Whether to keep the session on the Redis server that the settings name.
        memory_ttl: Seconds after which an idle session expires.
        auto_register: Whether all groups can be asked from the start.
        **options: Further keyword arguments of :class:`SupervisorAgent`.

    Returns:
        The supervisor.
    """
    return SupervisorAgent(keep_history, session_id, use_redis, memory_ttl, auto_register, **options)


def agent_factory(group_id: str) -> AgentFactory:
    """Return a function that creates the agent of the working group ``group_id``."""

    def create(
        keep_history: bool = True,
        session_id: str | None = None,
        use_redis: bool = False,
        memory_ttl: int | None = None,
        **options: Any,
    ) -> BaseAgent:
        return BaseAgent(
            group_id,
            keep_history,
            session_id=session_id,
            use_redis=use_redis,
            memory_ttl=memory_ttl,
            **options,
        )

    create.__name__ = create.__qualname__ = f"create_{group_id}_agent"
    create.__doc__ = f"Make the agent of the group {group_id!r}; ``options`` are BaseAgent's further arguments."
    return create


create_energy_agent = agent_factory("energy")
create_agriculture_agent = agent_factory("agriculture")
create_minerals_agent = agent_factory("minerals")
create_digital_agent = agent_factory("digital")
create_protocol_agent = agent_factory("protocol")
create_resource_mobilization_agent = agent_factory("resource_mobilization")
