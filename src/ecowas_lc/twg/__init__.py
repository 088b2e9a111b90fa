"""The technical working groups as data: who they are, their prompts, and the words that point to them."""

from __future__ import annotations

from ecowas_lc.twg.group import (
    RESERVED_IDS,
    TWG,
    default_groups,
    general_cues,
    summit_description,
    validate_groups,
)
from ecowas_lc.twg.questions import (
    DIALOGUE_SETS,
    EVALUATION_SETS,
    TURN_KINDS,
    Dialogue,
    ExampleTurn,
    LabelledQuestion,
    LabelledTurn,
    evaluation_dialogues,
    evaluation_set,
    example_questions,
    example_turns,
    load_dialogues,
    load_questions,
    prompt_examples,
)

__all__ = [
    "DIALOGUE_SETS",
    "EVALUATION_SETS",
    "RESERVED_IDS",
    "TURN_KINDS",
    "TWG",
    "Dialogue",
    "ExampleTurn",
    "LabelledQuestion",
    "LabelledTurn",
    "default_groups",
    "evaluation_dialogues",
    "evaluation_set",
    "example_questions",
    "example_turns",
    "general_cues",
    "load_dialogues",
    "load_questions",
    "prompt_examples",
    "summit_description",
    "validate_groups",
]
