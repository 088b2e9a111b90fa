"""Logins that change while a program runs: redis-py's credential providers, asked at each new connection."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError

from ecowas_lc._secret import Secret
from ecowas_lc.errors import ConfigurationError


class CredentialProviderError(AuthenticationError):
    """An error for a credential provider that failed, or that returned something other than a login."""


class Credentials(CredentialProvider):
    """A provider with clear errors for failures; its logins are never shown, and it never blocks an event loop."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._name = type(provider).__name__

    def get_credentials(self) -> Any:
        """Return the provider's current login: a password, or a user name and a password."""
        return self._checked(self._asked())

    async def get_credentials_async(self) -> Any:
        """Return the login, without blocking the event loop; see :meth:`get_credentials`."""
        own = getattr(type(self._provider), "get_credentials_async", None)
        if own is None or own is CredentialProvider.get_credentials_async:
            return self._checked(await asyncio.to_thread(self._asked))
        try:
            found = await self._provider.get_credentials_async()
        except Exception as error:
            raise self._failed(error) from error
        return self._checked(found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name})"

    def _asked(self) -> Any:
        try:
            return self._provider.get_credentials()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> CredentialProviderError:
        # Only the class is shown: the text may contain a token.
        return CredentialProviderError(f"{self._name} raised {type(error).__name__}")

    def _checked(self, found: Any) -> tuple[str, ...]:
        is_login = isinstance(found, tuple | list) and len(found) in (1, 2)
        if not is_login or not all(isinstance(text, str) for text in found):
            raise CredentialProviderError(
                f"{self._name} must return a password, or a user name and a password, as a tuple of strings"
            )
        *name, password = found
        return (*name, Secret(password))


def checked_provider(provider: Any, *, has_login: bool, is_embedded: bool = False) -> Credentials | None:
    """Return the provider as connections use it; ``None`` if there is none.

    Raises:
        ConfigurationError: It is not a credential provider, or there is another login as well.
    """
    if provider is None:
        return None
    if not callable(getattr(provider, "get_credentials", None)):
        raise ConfigurationError(
            f"credential_provider must be a redis.CredentialProvider, not {type(provider).__name__}."
        )
    if has_login:
        raise ConfigurationError(
            "There are two logins: that of the credential_provider, and a user name or password in the URL, the "
            "arguments or the settings. Use one of them."
        )
    if is_embedded:
        raise ConfigurationError(
            "The embedded server has no logins, so it can't use a credential_provider. Set REDIS_URL to a server, "
            "or leave the provider out."
        )
    return Credentials(provider)


def check_belongs_to_address(provider: Any) -> None:
    """Check that no provider was passed along with clients or servers whose connections the caller opens.

    Raises:
        ConfigurationError: A provider was passed.
    """
    if provider is not None:
        raise ConfigurationError(
            "A credential_provider belongs to an address. Pass it to the client, or to the object whose server is "
            "shared."
        )
