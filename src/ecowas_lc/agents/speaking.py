"""Who an agent is, by its id, and the model that speaks for it."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel

from ecowas_lc.agents.turn import AskedOrRouted
from ecowas_lc.errors import InvalidInputError
from ecowas_lc.llm import chat_model, make_chat_model
from ecowas_lc.settings import Settings
from ecowas_lc.supervisor.desk import Desk
from ecowas_lc.supervisor.limits import Slots
from ecowas_lc.supervisor.prompts import supervisor_prompt
from ecowas_lc.supervisor.state import SUPERVISOR
from ecowas_lc.supervisor.tokens import count_tokens
from ecowas_lc.twg import default_groups, summit_description


@dataclass(frozen=True, slots=True)
class Persona:
    """A speaker's name and system prompt."""

    name: str
    prompt: str


def persona_of(agent_id: str, prompt: str | None = None) -> Persona:
    """The working group with this id; else the supervisor; else an assistant. ``prompt`` replaces its own.

    Raises:
        InvalidInputError: ``prompt`` is blank.
    """
    if prompt is not None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InvalidInputError("The prompt of an agent is empty. Say who it is, or leave prompt= out.")
    group = next((group for group in default_groups() if group.id == agent_id), None)
    if group is not None:
        return Persona(group.name, prompt or group.prompt)
    if agent_id == SUPERVISOR:
        return Persona("Supervisor", prompt or supervisor_prompt(default_groups()))
    return Persona(agent_id, prompt or _assistant_prompt(agent_id))


def model_of(model: BaseChatModel | str | None, settings: Settings) -> BaseChatModel:
    """A chat model as it is, or the one on Ollama with this name (``None``: the settings').

    Raises:
        ConfigurationError: it is not a chat model, or its name is empty.
    """
    if model is None:
        return make_chat_model(settings)
    if isinstance(model, str) and model.strip():
        return make_chat_model(settings, model=model)
    return chat_model(model)


def desk_of(model: BaseChatModel) -> Desk:
    """What is needed to speak with a model alone: its window, and prompts that fit."""
    return Desk(
        model=model,
        groups={},
        router=AskedOrRouted(None),
        tools={},
        history_factory=None,
        held=frozenset(),
        slots=Slots(None),
        group_timeout=None,
        max_hops=1,
        max_repeats=1,
        counter=count_tokens,
    )


def _assistant_prompt(agent_id: str) -> str:
    return (
        f"You are {agent_id}, an assistant to those who prepare a summit.\n\n{summit_description()}\n\n"
        "Answer briefly and in the language of the question. Say when you do not know; never invent "
        "commitments, figures or declarations of member states."
    )
