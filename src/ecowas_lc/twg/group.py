"""The definition of a technical working group, and the check that a graph can be built from some groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecowas_lc._display import Displayed
from ecowas_lc.errors import InvalidIdError, InvalidInputError

RESERVED_IDS = frozenset({"supervisor", "synthesise", "__start__", "__end__", "configurable"})
"""Ids that the graph uses for its own nodes or that LangGraph reserves."""

_FORBIDDEN_CHARACTERS = "|:"  # LangGraph's separators of namespaces


@dataclass(frozen=True, slots=True)
class TWG(Displayed):
    """One technical working group, as the user, its model and the routers see it.

    Groups compare by value; :func:`validate_groups` checks whether they can be used together.

    Attributes:
        id: The group's id, also the name of its graph node.
        name: The group's name for users.
        prompt: The group's system prompt.
        terms: For each language code (``"any"``: names and signs that are the same in all languages), the words
            that point to the group: plain (``"power pool"``), a stem (``"electrif*"``), or weighted
            (``"tariff*^0.5"``; 1 is normal).
        description: What the group covers, in one or two sentences; the semantic and the model router read it.
        documents: The group's own documents; its answers then rest on them.
    """

    id: str
    name: str
    prompt: str
    terms: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    description: str = ""
    documents: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.terms, Mapping):  # validate_groups reports anything else
            frozen = {
                language: (terms,) if isinstance(terms, str) else tuple(terms)
                for language, terms in self.terms.items()
            }
            object.__setattr__(self, "terms", frozen)


def validate_groups(groups: Iterable[TWG], *, reserved: Collection[str] = ()) -> tuple[TWG, ...]:
    """Return the groups as a tuple, in their order, if a graph and a router can be built from them.

    Args:
        groups: The groups.
        reserved: Further ids that are taken, such as a graph's own state keys.

    Raises:
        InvalidIdError: An id is empty, repeated, reserved, or can't be the name of a graph node.
        InvalidInputError: There is no group, an object that is not a :class:`TWG`, a blank prompt or name, or
            terms that are not text by language.
    """
    checked = tuple(groups)
    if not checked:
        raise InvalidInputError("There is no working group. Pass at least one TWG, or None for the default six.")
    seen: set[str] = set()
    for group in checked:
        if not isinstance(group, TWG):
            raise InvalidInputError(f"{group!r} is not a working group. Pass TWG(id, name, prompt, terms).")
        _check_id(group.id, RESERVED_IDS.union(reserved))
        if group.id in seen:
            raise InvalidIdError(f"Two working groups have the id {group.id!r}. Give each a different id.")
        seen.add(group.id)
        _check_text(group)
    return checked


def _check_id(group_id: object, reserved: Collection[str]) -> None:
    if not isinstance(group_id, str) or not group_id.strip():
        raise InvalidIdError(f"{group_id!r} is no id for a working group. Use a short text such as 'energy'.")
    if group_id in reserved or group_id.startswith("__"):
        raise InvalidIdError(f"The id {group_id!r} is taken by the graph itself. Choose another for the group.")
    if group_id != group_id.strip() or not group_id.isprintable():
        raise InvalidIdError(f"The id {group_id!r} has blanks around it or unprintable characters. Remove them.")
    if any(character in group_id for character in _FORBIDDEN_CHARACTERS):
        raise InvalidIdError(f"The id {group_id!r} holds '|' or ':', which LangGraph forbids. Use '_' or '-'.")


def _check_text(group: TWG) -> None:
    for label, text in (("name", group.name), ("prompt", group.prompt)):
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"The working group {group.id!r} has no {label}. Give it one.")
    if not isinstance(group.description, str):
        raise InvalidInputError(f"The description of the working group {group.id!r} is not text.")
    if not isinstance(group.terms, Mapping) or not all(
        isinstance(language, str) and all(isinstance(term, str) and term.strip() for term in terms)
        for language, terms in group.terms.items()
    ):
        raise InvalidInputError(
            f"The terms of the working group {group.id!r} are not text by language. "
            'Write them as {"en": ["solar", "grid*"], "fr": ["solaire*"]}.'
        )
