"""The technical working groups, as data: who they are, what they know, which words point to them."""

from __future__ import annotations

from ecowas_lc.twg.catalogue import default_groups, general_cues, summit_description
from ecowas_lc.twg.group import RESERVED_IDS, TWG, validate_groups
from ecowas_lc.twg.questions import (
    EVALUATION_SETS,
    TURN_KINDS,
    ExampleTurn,
    LabelledQuestion,
    evaluation_set,
    example_questions,
    example_turns,
    load_questions,
    prompt_examples,
)

__all__ = [
    "EVALUATION_SETS",
    "RESERVED_IDS",
    "TURN_KINDS",
    "TWG",
    "ExampleTurn",
    "LabelledQuestion",
    "default_groups",
    "evaluation_set",
    "example_questions",
    "example_turns",
    "general_cues",
    "load_questions",
    "prompt_examples",
    "summit_description",
    "validate_groups",
]
