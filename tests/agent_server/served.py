"""A graph for the Agent Server with a tool and a held group; its model answers by script."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage

from ecowas_lc import build_supervisor
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker


def tariff(country: str) -> str:
    """Look up a tariff."""
    return f"{country}: 0.13"


def energy(messages: list[Any]) -> Any:
    if messages[-1].type == "tool":
        return "Done."
    return AIMessage("", tool_calls=[{"name": "tariff", "args": {"country": "Ghana"}, "id": "c1"}])


def graph() -> Any:
    return build_supervisor(
        ScriptedModel(script=by_speaker({"energy": energy}), tools=True),
        router=FixedRouter(),
        tools={"energy": [tariff]},
        interrupt_before_release=["protocol"],
    )
