"""Clients of Sentinel, which names the primary of the moment."""

from __future__ import annotations

from copy import copy
from typing import Any

from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary that a Sentinel names, closed when an answer does not come in time.

    redis-py leaves it open, so that the next call would be given that answer, and no other primary be looked for.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next answer."""
        return super().read_response(*args, **{"disconnect_on_error": True} | options)


class PrimaryTLSConnection(PrimaryConnection, SentinelManagedSSLConnection):
    """The same with TLS."""


class SentinelClient(Sentinel):
    """Sentinels that are all remembered, however many callers look for the primary at once."""

    def discover_master(self, service_name: str) -> Any:
        """The primary's address; the error for none has as its cause what kept a Sentinel from answering."""
        # redis-py swaps entries of the common list, by places from before it asked: two callers at once lose one.
        own: Any = copy(self)
        own.sentinels = sentinels = [_Asked(sentinel) for sentinel in self.sentinels]
        try:
            found = super(SentinelClient, own).discover_master(service_name)
        except MasterNotFoundError as error:
            raise error from _first_failure(sentinels)
        self.sentinels = [each.asked for each in own.sentinels]
        return found


class AsyncSentinelClient(AsyncSentinel):
    """The same for asyncio."""

    async def discover_master(self, service_name: str) -> Any:
        """The primary's address."""
        own: Any = copy(self)
        own.sentinels = sentinels = [_AsyncAsked(sentinel) for sentinel in self.sentinels]
        try:
            found = await super(AsyncSentinelClient, own).discover_master(service_name)
        except AsyncMasterNotFoundError as error:
            raise error from _first_failure(sentinels)
        self.sentinels = [each.asked for each in own.sentinels]
        return found


class _Asked:
    """A Sentinel, and what kept it from answering: redis-py drops that."""

    def __init__(self, sentinel: Any) -> None:
        self.asked = sentinel
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.asked, name)

    def sentinel_masters(self) -> Any:
        try:
            return self.asked.sentinel_masters()
        except Exception as error:
            self.failure = error
            raise


class _AsyncAsked(_Asked):
    async def sentinel_masters(self) -> Any:
        try:
            return await self.asked.sentinel_masters()
        except Exception as error:
            self.failure = error
            raise


def _first_failure(sentinels: list[Any]) -> Exception | None:
    return next((each.failure for each in sentinels if each.failure), None)
