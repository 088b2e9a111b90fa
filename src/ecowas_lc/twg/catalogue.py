"""The summit's own six groups, read from the data files beside this module."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from ecowas_lc.twg.group import TWG, validate_groups

DATA = files("ecowas_lc.twg") / "data"
GROUP_IDS = ("energy", "agriculture", "minerals", "digital", "protocol", "resource_mobilization")


@cache
def default_groups() -> tuple[TWG, ...]:
    """Return the summit's six technical working groups, in the order in which they are presented."""
    return validate_groups(_read_group(group_id) for group_id in GROUP_IDS)


@cache
def summit_description() -> str:
    """Return a short English text on ECOWAS and its 2026 summit, for prompts that need the setting."""
    return (DATA / "summit.md").read_text(encoding="utf-8").strip()


def split_terms(text: str) -> tuple[str, ...]:
    """Split a data file's list of terms, separated by commas or line ends; ``#`` starts a comment."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    return tuple(term.strip() for line in lines for term in line.split(",") if term.strip())


def _read_group(group_id: str) -> TWG:
    folder = DATA / "groups"
    fields = tomllib.loads((folder / f"{group_id}.toml").read_text(encoding="utf-8"))
    return TWG(
        id=fields["id"],
        name=fields["name"],
        prompt=(folder / f"{group_id}.md").read_text(encoding="utf-8").strip(),
        terms={language: split_terms(text) for language, text in fields["terms"].items()},
        description=" ".join(fields["description"].split()),
    )
