"""The summit's six groups, and the words that count against any group, from the data files in this folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from ecowas_lc.twg.group import TWG, validate_groups

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
