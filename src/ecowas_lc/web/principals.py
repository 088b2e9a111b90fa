"""Users of the service and their roles."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from ecowas_lc.errors import ConfigurationError, CorruptDataError
from ecowas_lc.storage.keys import Keys


class Role(StrEnum):
    """A role of a user. A user can have several."""

    STAFF = "staff"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in user or API key.

    Attributes:
        name: The user's name.
        roles: The user's roles.
        prefix: The prefix of the user's organisation.
        groups: The groups that the user may ask; ``None`` means all.
        how: How the user signed in.
        csrf: The token that the browser must send with each change; ``None`` for API keys, which browsers do not
            send automatically.
    """

    name: str
    roles: frozenset[Role]
    prefix: str
    groups: frozenset[str] | None = None
    how: Literal["key", "link", "proxy"] = "key"
    csrf: str | None = None

    def may_use(self, groups: Collection[str]) -> bool:
        """Return whether the user may use all of these groups."""
        return self.groups is None or self.groups.issuperset(groups)

    @property
    def is_admin(self) -> bool:
        """Whether the user may use everything in the organisation."""
        return Role.ADMIN in self.roles

    def as_json(self) -> dict[str, Any]:
        """Return the user's fields as they are stored."""
        return {
            "name": self.name,
            "roles": sorted(self.roles),
            "prefix": self.prefix,
            "groups": None if self.groups is None else sorted(self.groups),
        }


def principal_of(stored: bytes, how: Literal["key", "link", "proxy"], csrf: str | None = None) -> Principal:
    """Return the user that :meth:`Principal.as_json` stored.

    Raises:
        CorruptDataError: The stored value does not describe a user.
    """
    try:
        found = json.loads(stored)
        roles, groups = found["roles"], found["groups"]  # if missing, do not read it as "all groups"
        if not _are_texts(roles) or not (groups is None or _are_texts(groups)):
            raise TypeError("roles and groups are lists of text")
        return checked_principal(found["name"], roles, found["prefix"], groups, how, csrf)
    except (ValueError, TypeError, KeyError, RecursionError, ConfigurationError) as error:
        raise CorruptDataError(
            "A stored key or sign-in can't be read. Remove the key and create a new one."
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
    """Return a user after checking its fields.

    Raises:
        ConfigurationError: The name is empty or too long, a role is missing or unknown, or the prefix is
            not valid.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        raise ConfigurationError("A name has 1 to 200 printable characters.")
    known = [role.value for role in Role]
    for role in roles:
        if role not in known:
            raise ConfigurationError(f"There is no role {role!r}. Choose from: {', '.join(known)}.")
    if not roles:
        raise ConfigurationError(f"Set at least one role: {', '.join(known)}.")
    Keys(prefix)
    allowed = None if groups is None else frozenset(groups)
    return Principal(name, frozenset(map(Role, roles)), prefix, allowed, how, csrf)
