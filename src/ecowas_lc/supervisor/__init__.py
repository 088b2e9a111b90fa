"""The supervisor: finds the working groups a question concerns, asks them, brings their answers together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecowas_lc.supervisor.as_tools import twg_tools
    from ecowas_lc.supervisor.graph import build_supervisor
    from ecowas_lc.supervisor.state import (
        Decision,
        Report,
        Summary,
        SupervisorInput,
        SupervisorOutput,
        SupervisorState,
        Synthesis,
    )

# the routers live in this package too and are used without langgraph: nothing is imported before it is asked for
_HOMES = {
    "Decision": "state",
    "Report": "state",
    "Summary": "state",
    "SupervisorInput": "state",
    "SupervisorOutput": "state",
    "SupervisorState": "state",
    "Synthesis": "state",
    "build_supervisor": "graph",
    "twg_tools": "as_tools",
}

__all__ = [
    "Decision",
    "Report",
    "Summary",
    "SupervisorInput",
    "SupervisorOutput",
    "SupervisorState",
    "Synthesis",
    "build_supervisor",
    "twg_tools",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
