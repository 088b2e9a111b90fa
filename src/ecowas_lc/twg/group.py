"""The definition of a technical working group, the check of a set of groups, and the summit's six groups.

The six groups, and the words that count against any group, are data files in this package.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
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
        raise InvalidIdError(f"{group_id!r} is not an id for a working group. Use a short text such as 'energy'.")
    if group_id in reserved or group_id.startswith("__"):
        raise InvalidIdError(f"The id {group_id!r} is taken by the graph itself. Choose another for the group.")
    if group_id != group_id.strip() or not group_id.isprintable():
        raise InvalidIdError(f"The id {group_id!r} has blanks around it or unprintable characters. Remove them.")
    if any(character in group_id for character in _FORBIDDEN_CHARACTERS):
        raise InvalidIdError(f"The id {group_id!r} contains '|' or ':', which LangGraph forbids. Use '_' or '-'.")


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


DATA = files("ecowas_lc.twg") / "data"


@cache
def default_groups() -> tuple[TWG, ...]:
    """Return the summit's six technical working groups, in their order of presentation."""
    return validate_groups(group for _, group in sorted(_read_groups(), key=lambda found: found[0]))


@cache
def summit_description() -> str:
    """Return a short English text on ECOWAS and its 2026 summit, for prompts that need the setting."""
    return _unwrapped((DATA / "summit.md").read_text(encoding="utf-8"))


@cache
def general_cues() -> Mapping[str, tuple[str, ...]]:
    """Return the terms that count against any group (greetings, the summit in general, …), by kind.

    Terms under ``"neutral"`` have no effect themselves; they hide shorter terms within them.
    """
    kinds = tomllib.loads((DATA / "cues.toml").read_text(encoding="utf-8"))
    return {kind: split_terms(content["terms"]) for kind, content in kinds.items()}


def split_terms(text: str) -> tuple[str, ...]:
    """Split a data file's list of terms, which commas or line ends separate; ``#`` starts a comment."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    return tuple(term.strip() for line in lines for term in line.split(",") if term.strip())


def _unwrapped(text: str) -> str:
    """Return each paragraph as a single line, because small models copy the line breaks of their prompts."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _read_groups() -> Iterator[tuple[int, TWG]]:
    """Yield each group of the folder with its position."""
    for file in (DATA / "groups").iterdir():
        if not file.name.endswith(".toml"):
            continue
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
        prompt = (DATA / "groups" / f"{fields['id']}.md").read_text(encoding="utf-8")
        yield (
            fields["place"],
            TWG(
                id=fields["id"],
                name=fields["name"],
                prompt=_unwrapped(prompt),
                terms={language: split_terms(text) for language, text in fields["terms"].items()},
                description=" ".join(fields["description"].split()),
            ),
        )
