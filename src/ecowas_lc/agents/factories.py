"""Agents by name: the supervisor, and one for each of the summit's working groups."""

from __future__ import annotations

from typing import Any

from ecowas_lc.agents.base import BaseAgent
from ecowas_lc.agents.supervisor import SupervisorAgent


def create_supervisor(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    auto_register: bool = True,
    **options: Any,
) -> SupervisorAgent:
    """A :class:`SupervisorAgent`; ``options`` are its further keyword arguments."""
    return SupervisorAgent(keep_history, session_id, use_redis, memory_ttl, auto_register, **options)


def create_energy_agent(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    **options: Any,
) -> BaseAgent:
    """An agent that answers as Energy & Infrastructure; ``options`` are :class:`BaseAgent`'s further arguments."""
    return _agent("energy", keep_history, session_id, use_redis, memory_ttl, options)


def create_agriculture_agent(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    **options: Any,
) -> BaseAgent:
    """An agent that answers as Agriculture & Food Systems; ``options``: see :func:`create_energy_agent`."""
    return _agent("agriculture", keep_history, session_id, use_redis, memory_ttl, options)


def create_minerals_agent(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    **options: Any,
) -> BaseAgent:
    """An agent that answers as Critical Minerals & Industrialization; ``options``: :func:`create_energy_agent`."""
    return _agent("minerals", keep_history, session_id, use_redis, memory_ttl, options)


def create_digital_agent(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    **options: Any,
) -> BaseAgent:
    """An agent that answers as Digital Economy & Transformation; ``options``: see :func:`create_energy_agent`."""
    return _agent("digital", keep_history, session_id, use_redis, memory_ttl, options)


def create_protocol_agent(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    **options: Any,
) -> BaseAgent:
    """An agent that answers as Protocol & Logistics; ``options``: see :func:`create_energy_agent`."""
    return _agent("protocol", keep_history, session_id, use_redis, memory_ttl, options)


def create_resource_mobilization_agent(
    keep_history: bool = True,
    session_id: str | None = None,
    use_redis: bool = False,
    memory_ttl: int | None = None,
    **options: Any,
) -> BaseAgent:
    """An agent that answers as Resource Mobilization; ``options``: see :func:`create_energy_agent`."""
    return _agent("resource_mobilization", keep_history, session_id, use_redis, memory_ttl, options)


def _agent(
    agent_id: str,
    keep_history: bool,
    session_id: str | None,
    use_redis: bool,
    memory_ttl: int | None,
    options: dict[str, Any],
) -> BaseAgent:
    return BaseAgent(
        agent_id,
        keep_history,
        session_id=session_id,
        use_redis=use_redis,
        memory_ttl=memory_ttl,
        **options,
    )
