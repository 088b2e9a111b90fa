"""Access to the service: API keys, users signed in by a reverse proxy, one-time links, and cookies.

Keys and cookies are long random strings, so an unsalted digest of each is stored. The key or cookie cannot be
recovered from it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ecowas_lc.errors import ConfigurationError, CorruptDataError, InvalidInputError
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.left_out import warn_left_out
from ecowas_lc.storage.ops import Op, command
from ecowas_lc.storage.server import Server
from ecowas_lc.web.principals import Principal, Role, checked_principal, principal_of

log = logging.getLogger(__name__)

KEY_BEGINS = "elc_"
LOGIN_SECONDS = 12 * 3600
_SHOWN_OF_A_KEY = 8
_SHORTEST_SECRET = 32
_LAST_SECOND = 253_402_300_800  # the year 9999

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def digest_of(secret: str) -> str:
    """Return the digest that is stored for a key or a cookie."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_of(secret: str) -> str:
    """Return the CSRF token that a browser with this cookie must send with every change."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"csrf", hashlib.sha256).hexdigest()[:32]


def networks_of(text: str) -> tuple[Network, ...]:
    """Return the addresses and networks of a comma-separated setting.

    Raises:
        ConfigurationError: An entry is not a valid address or network.
    """
    found: list[Network] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError:
            raise ConfigurationError(
                f"ECOWAS_LC_WEB_PROXIES can't be used: {word!r} is not an address or a network. "
                "Example: 127.0.0.1,10.0.0.0/24"
            ) from None
    return tuple(found)


def is_among(host: str | None, networks: Iterable[Network]) -> bool:
    """Return whether an address belongs to one of the networks."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as listed: its owner and its first characters."""

    id: str
    owner: Principal
    begins: str
    made: float

    def as_json(self) -> dict[str, Any]:
        """Return the key's fields as ``--json`` prints them."""
        return {"id": self.id, **self.owner.as_json(), "begins": self.begins, "made": self.made}


def add_key_op(keys: Keys, owner: Principal) -> Op[str]:
    """Create an API key for a user and return it. Only its digest is stored, so it can't be shown again."""
    key = KEY_BEGINS + secrets.token_urlsafe(32)
    about = {**owner.as_json(), "begins": key[:_SHOWN_OF_A_KEY], "made": time.time()}
    yield (command("HSET", keys.access_keys(), digest_of(key), json.dumps(about)),)
    return key


def list_keys_op(keys: Keys) -> Op[list[StoredKey]]:
    """Return all keys, oldest first. Unreadable entries are skipped with a warning."""
    [stored] = yield (command("HGETALL", keys.access_keys()),)
    found = []
    for digest, about in _pairs(stored).items():
        try:
            found.append(_stored_key(digest, about))
        except CorruptDataError as error:
            warn_left_out(f"The key {_id_of(digest)}", error)
    return sorted(found, key=lambda key: key.made)


def _id_of(digest: bytes) -> str:
    return digest.decode("ascii", "backslashreplace")[:12]


def _stored_key(digest: bytes, about: bytes) -> StoredKey:
    owner = principal_of(about, "key")
    fields = json.loads(about)
    begins, made = fields.get("begins", ""), fields.get("made", 0.0)
    is_number = isinstance(made, (int, float)) and abs(made) < _LAST_SECOND
    return StoredKey(_id_of(digest), owner, begins if isinstance(begins, str) else "", made if is_number else 0.0)


def remove_keys_op(keys: Keys, name: str) -> Op[int]:
    """Remove the key with this id, or all keys of the owner with this name, and return the number removed."""
    [stored] = yield (command("HGETALL", keys.access_keys()),)
    gone = [
        digest for digest, about in _pairs(stored).items() if _id_of(digest) == name or _name_in(about) == name
    ]
    if gone:
        yield (command("HDEL", keys.access_keys(), *gone),)
    return len(gone)


def _name_in(about: bytes) -> str | None:
    try:
        return principal_of(about, "key").name
    except CorruptDataError:
        return None


def set_person_op(keys: Keys, person: Principal) -> Op[None]:
    """Store the roles of a user whom a reverse proxy signs in."""
    yield (command("HSET", keys.access_people(), id_bytes(person.name), json.dumps(person.as_json())),)


def remove_person_op(keys: Keys, name: str) -> Op[bool]:
    """Remove a user's access and return whether the user had any."""
    [gone] = yield (command("HDEL", keys.access_people(), id_bytes(name)),)
    return bool(gone)


def list_people_op(keys: Keys) -> Op[list[Principal]]:
    """Return the users whom a reverse proxy signs in, by name. Unreadable entries are skipped with a warning."""
    [stored] = yield (command("HGETALL", keys.access_people()),)
    found = []
    for name, about in _pairs(stored).items():
        try:
            found.append(_person_of(name, about))
        except CorruptDataError as error:
            warn_left_out(f"The user {name.decode('utf-8', 'backslashreplace')[:200]!r}", error)
    return sorted(found, key=lambda one: one.name)


def _person_of(name: bytes, about: bytes, csrf: str | None = None) -> Principal:
    """Return the user stored under a name.

    Raises:
        CorruptDataError: The entry can't be read, or it belongs to a different user.
    """
    found = principal_of(about, "proxy", csrf)
    if id_bytes(found.name) != name:
        raise CorruptDataError(f"The entry of a user holds a different user. {_SET_AGAIN}")
    return found


_SET_AGAIN = "Set the user's roles again: `ecowas-lc access add-person NAME --role ROLE`."


def organisations_op(keys: Keys) -> Op[set[str]]:
    """Return the prefixes of all users and keys that can be read."""
    found_keys, people = yield (
        command("HGETALL", keys.access_keys()),
        command("HGETALL", keys.access_people()),
    )
    both = (*_pairs(found_keys).values(), *_pairs(people).values())
    prefixes = {keys.prefix}
    for about in both:
        with suppress(CorruptDataError):  # the commands that list keys and users warn about it
            prefixes.add(principal_of(about, "key").prefix)
    return prefixes


def _pairs(stored: Any) -> dict[bytes, bytes]:
    return stored if isinstance(stored, dict) else dict(zip(stored[::2], stored[1::2], strict=True))


class Access:
    """Identifies the user behind a request. All data is stored under the service's own prefix."""

    def __init__(
        self,
        server: Server,
        prefix: str,
        *,
        proxies: str = "",
        proxy_header: str = "X-Forwarded-User",
        proxy_role: str = "",
    ) -> None:
        self._server = server
        self.keys = Keys(prefix)
        self.proxies = networks_of(proxies)
        self.proxy_header = proxy_header
        self._default = (
            checked_principal("somebody", [proxy_role], prefix, how="proxy") if proxy_role.strip() else None
        )
        self._links: dict[str, Principal] = {}
        self._secret: str | None = None

    # --- one-time links ---

    def one_time_token(self, prefix: str | None = None) -> str:
        """Return a token that signs in an administrator once, in this process only."""
        token = secrets.token_urlsafe(32)
        owner = checked_principal("local", [Role.ADMIN], prefix or self.keys.prefix, how="link")
        self._links[digest_of(token)] = owner
        return token

    async def use_token(self, token: str) -> str | None:
        """Exchange a one-time token for a cookie.

        Returns:
            The cookie, or ``None`` if the token is wrong or already used.
        """
        digest = digest_of(token)
        owner = self._links.get(digest)
        if owner is None:
            return None
        cookie = await self.signed_in(owner)
        return cookie if self._links.pop(digest, None) is not None else None

    # --- cookies ---

    async def signed_in(self, owner: Principal) -> str:
        """Create and store a sign-in cookie for a user, and return it."""
        cookie = secrets.token_urlsafe(32)
        key = self.keys.login(digest_of(cookie))
        await self._server.arun(_one(command("SET", key, json.dumps(owner.as_json()), "EX", LOGIN_SECONDS)))
        return cookie

    async def sign_out(self, cookie: str) -> None:
        """Delete a sign-in cookie."""
        await self._server.arun(_one(command("DEL", self.keys.login(digest_of(cookie)))))

    async def of_cookie(self, cookie: str) -> Principal | None:
        """Return the user of a cookie, or ``None`` if the cookie is not valid."""
        if not _is_plain(cookie):
            return None
        stored = await self._server.arun(_one(command("GET", self.keys.login(digest_of(cookie)))))
        try:
            return None if stored is None else principal_of(stored, "link", csrf_of(cookie))
        except CorruptDataError as error:
            log.warning("A stored sign-in can't be used, so its user has to sign in again: %s", error)
            return None

    # --- keys and proxies ---

    async def of_key(self, key: str) -> Principal | None:
        """Return the user of an API key, or ``None`` if the key is not valid."""
        if not _is_plain(key) or not key.startswith(KEY_BEGINS):
            return None
        stored = await self._server.arun(_one(command("HGET", self.keys.access_keys(), digest_of(key))))
        return None if stored is None else principal_of(stored, "key")

    def is_trusted(self, host: str | None) -> bool:
        """Return whether this is the address of a trusted reverse proxy."""
        return is_among(host, self.proxies)

    async def of_proxy(self, name: str) -> Principal | None:
        """Return the user whom a trusted proxy names, or ``None`` if the user has no access."""
        if not name.strip() or len(name) > 200 or not name.isprintable():
            return None
        stored = await self._server.arun(_one(command("HGET", self.keys.access_people(), id_bytes(name))))
        csrf = csrf_of(f"{await self._shared_secret()}:{name}")
        if stored is not None:
            return _person_of(id_bytes(name), stored, csrf)
        return None if self._default is None else replace(self._default, name=name, csrf=csrf)

    async def _shared_secret(self) -> str:
        """Return the secret that the service's processes share, for the CSRF tokens of users without a cookie."""
        if self._secret is None:
            key = self.keys.login("secret")
            fresh = secrets.token_urlsafe(32)
            stored = await self._server.arun(_set_once_op(key, fresh))
            if len(stored) < _SHORTEST_SECRET or not stored.isascii():  # short ones make guessable tokens
                raise CorruptDataError(
                    f"The key {key.decode()} does not hold the secret that the service stored. Delete the key: "
                    "the service creates a new one."
                )
            self._secret = stored.decode()
        return self._secret


def _set_once_op(key: bytes, value: str) -> Op[bytes]:
    _, stored = yield (command("SET", key, value, "NX"), command("GET", key))
    assert isinstance(stored, bytes)
    return stored


def _one(words: Any) -> Op[Any]:
    [reply] = yield (words,)
    return reply


def _is_plain(secret: str) -> bool:
    return 0 < len(secret) <= 200 and secret.isascii()


def checked_groups_of(groups: Collection[str], known: Collection[str]) -> None:
    """Check that all groups are known.

    Raises:
        InvalidInputError: A group is unknown.
    """
    for group in groups:
        if group not in known:
            raise InvalidInputError(f"There is no working group {group!r}. Available: {', '.join(known)}.")
