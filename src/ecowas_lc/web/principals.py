"""Who uses the service, and what a person or key may do."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from ecowas_lc.errors import ConfigurationError, CorruptDataError
from ecowas_lc.storage.keys import Keys


class Role(StrEnum):
    """What somebody does here; one may have several."""

    STAFF = "staff"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who is signed in. ``groups`` are those whose subjects they may use; ``None``: all.

    ``prefix`` is their organisation. ``csrf`` is the token that their browser must send along with each change;
    ``None`` for API keys, which no browser sends by itself.
    """

    name: str
    roles: frozenset[Role]
    prefix: str
    groups: frozenset[str] | None = None
    how: Literal["key", "link", "proxy"] = "key"
    csrf: str | None = None

    def may_use(self, groups: Collection[str]) -> bool:
        """Return whether all of these groups are among theirs."""
        return self.groups is None or self.groups.issuperset(groups)

    @property
    def is_admin(self) -> bool:
        """Whether everything of the organisation is theirs to use."""
        return Role.ADMIN in self.roles

    def as_json(self) -> dict[str, Any]:
        """Return what is stored of them."""
        return {
            "name": self.name,
            "roles": sorted(self.roles),
            "prefix": self.prefix,
            "groups": None if self.groups is None else sorted(self.groups),
        }


def principal_of(stored: bytes, how: Literal["key", "link", "proxy"], csrf: str | None = None) -> Principal:
    """Return whom :meth:`Principal.as_json` described.

    Raises:
        CorruptDataError: nobody is described.
    """
    try:
        found = json.loads(stored)
        roles, groups = found["roles"], found["groups"]  # no groups at all would be every group
        if not _are_texts(roles) or not (groups is None or _are_texts(groups)):
            raise TypeError("roles and groups are lists of text")
        return checked_principal(found["name"], roles, found["prefix"], groups, how, csrf)
    except (ValueError, TypeError, KeyError, RecursionError, ConfigurationError) as error:
        raise CorruptDataError(
            "What is stored of a key or a login can't be read. Remove the key and make a new one."
        ) from error


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def checked_principal(
    name: str,
    roles: Collection[str],
    prefix: str,
    groups: Collection[str] | None = None,
    how: Literal["key", "link", "proxy"] = "key",
    csrf: str | None = None,
) -> Principal:
    """Return a principal.

    Raises:
        ConfigurationError: the name is empty or too long, a role is unknown or there is none, or the prefix
            can't be used.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        raise ConfigurationError("A name has 1 to 200 printable characters.")
    known = [role.value for role in Role]
    for role in roles:
        if role not in known:
            raise ConfigurationError(f"There is no role {role!r}. Choose from: {', '.join(known)}.")
    if not roles:
        raise ConfigurationError(f"Give at least one role: {', '.join(known)}.")
    Keys(prefix)
    allowed = None if groups is None else frozenset(groups)
    return Principal(name, frozenset(map(Role, roles)), prefix, allowed, how, csrf)
