"""Agents as objects: one for each working group, and the supervisor that asks them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecowas_lc.agents.base import BaseAgent
    from ecowas_lc.agents.factories import (
        create_agriculture_agent,
        create_digital_agent,
        create_energy_agent,
        create_minerals_agent,
        create_protocol_agent,
        create_resource_mobilization_agent,
        create_supervisor,
    )
    from ecowas_lc.agents.redis_agent import RedisAgent
    from ecowas_lc.agents.supervisor import SupervisorAgent

_HOMES = {"BaseAgent": "base", "RedisAgent": "redis_agent", "SupervisorAgent": "supervisor"}

__all__ = [
    "BaseAgent",
    "RedisAgent",
    "SupervisorAgent",
    "create_agriculture_agent",
    "create_digital_agent",
    "create_energy_agent",
    "create_minerals_agent",
    "create_protocol_agent",
    "create_resource_mobilization_agent",
    "create_supervisor",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'factories')}"), name)
