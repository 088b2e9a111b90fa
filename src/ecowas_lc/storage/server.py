"""A server as the rest of the package sees it: runs programs, sync or async, from any thread or event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.exceptions import MaxConnectionsError

from ecowas_lc.embedded import is_available
from ecowas_lc.errors import ConfigurationError, StorageError
from ecowas_lc.secret import Secret
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.addresses import Address, parse_url
from ecowas_lc.storage.clients import AsyncClusterClient, ClientFactory
from ecowas_lc.storage.failures import FAILURES, translate
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.runners import arun, run

T = TypeVar("T")

_SYNC_CLIENTS = (redis.Redis, redis.RedisCluster)
_ASYNC_CLIENTS = (redis.asyncio.Redis, redis.asyncio.RedisCluster)


@dataclass(frozen=True, slots=True)
class _LoopClient:
    client: Any
    closer: AsyncGenerator[None]
    gate: asyncio.Semaphore | None


class Server:
    """One Redis or Valkey server, Sentinel group or cluster, sync and async in one object.

    ``run`` drives a program from any thread, ``arun`` from any event loop: async clients belong to one loop, so
    each loop gets its own, which is closed with the loop. Connections are opened on first use.
    """

    def __init__(
        self, factory: ClientFactory | None = None, *, client: Any = None, async_client: Any = None
    ) -> None:
        self._factory = factory
        self._client = client
        self._given_async_client = async_client
        self._lock = threading.Lock()
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = WeakKeyDictionary()
        limited = factory is not None and not factory.pool_blocks
        self._limit = factory.settings.redis_max_connections if factory and limited else None
        self._gate = threading.BoundedSemaphore(self._limit) if self._limit else None
        self._waiting = factory.waiting if factory else None
        self.where = factory.where if factory else _where(client if client is not None else async_client)

    @classmethod
    def from_url(cls, url: str, *, settings: Settings | None = None) -> Server:
        """The server at ``url``; timeouts, pool size and TLS files come from the settings.

        Raises:
            ConfigurationError: the URL can't be used.
        """
        return cls(ClientFactory(parse_url(url), settings or get_settings()))

    @classmethod
    def from_parts(
        cls,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        username: str | None = None,
        *,
        settings: Settings | None = None,
    ) -> Server:
        """The server at ``host`` and ``port``."""
        password = None if password is None else Secret(password)
        address = Address("single", hosts=((host, port),), db=db, username=username, password=password)
        return cls(ClientFactory(address, settings or get_settings()))

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Server:
        """``REDIS_URL``; else ``REDIS_HOST`` and its parts; else the embedded server; else ``localhost:6379``.

        The embedded server is taken where its binary is installed.
        """
        settings = settings or get_settings()
        if settings.redis_source == "url":
            assert settings.redis_url is not None
            return cls.from_url(Secret(settings.redis_url.get_secret_value()), settings=settings)
        # A binary that was named and is not there is the user's to hear about, not a reason to go elsewhere.
        embedded = settings.valkey_server is not None or is_available(settings)
        if settings.redis_source == "default" and embedded:
            return cls(ClientFactory(None, settings))
        return cls.from_parts(
            settings.redis_host,
            settings.redis_port,
            settings.redis_db,
            Secret(settings.redis_password.get_secret_value()) if settings.redis_password else None,
            settings.redis_username,
            settings=settings,
        )

    @classmethod
    def from_clients(cls, client: Any = None, async_client: Any = None) -> Server:
        """A server behind clients that the caller made and closes.

        With a sync client alone, async methods run it in worker threads.

        Raises:
            ConfigurationError: neither is given, or one is not a redis-py client of its kind.
        """
        if isinstance(client, _ASYNC_CLIENTS) and async_client is None:
            client, async_client = None, client
        if client is None and async_client is None:
            raise ConfigurationError("Give a redis-py client, or a URL.")
        if client is not None and not isinstance(client, _SYNC_CLIENTS):
            raise ConfigurationError(f"client must be redis.Redis or RedisCluster, not {type(client).__name__}.")
        if async_client is not None and not isinstance(async_client, _ASYNC_CLIENTS):
            raise ConfigurationError(
                f"async_client must be redis.asyncio.Redis or RedisCluster, not {type(async_client).__name__}."
            )
        return cls(client=client, async_client=async_client)

    @property
    def is_cluster(self) -> bool:
        """Whether keys live in slots on several servers."""
        if self._factory is not None:
            return self._factory.address is not None and self._factory.address.kind == "cluster"
        return isinstance(
            self._client or self._given_async_client, (redis.RedisCluster, redis.asyncio.RedisCluster)
        )

    @property
    def client(self) -> Any:
        """The sync client, made on first use.

        Raises:
            StorageError: there is only an async client, or a cluster can't be reached.
        """
        if self._client is None:
            if self._factory is None:
                raise StorageError("Only an async client was given: use the async methods, or give client= too.")
            with self._lock:
                if self._client is None:
                    try:
                        self._client = self._factory.make()
                    except FAILURES as error:
                        raise translate(error, self.where) from error
        return self._client

    def run(self, op: Op[T]) -> T:
        """The program's result. Raises the errors of :mod:`ecowas_lc.errors` and no other library's."""
        if self._gate is None:
            return run(self._client or self.client, op, self.where, self._waiting)
        assert self._factory is not None
        if not self._gate.acquire(timeout=self._factory.settings.redis_socket_timeout):
            raise translate(MaxConnectionsError(), self.where)
        try:
            return run(self.client, op, self.where, self._waiting)
        finally:
            self._gate.release()

    async def arun(self, op: Op[T]) -> T:
        """The program's result, without blocking the event loop."""
        if self._given_async_client is not None:
            return await arun(self._given_async_client, op, self.where, self._waiting)
        if self._factory is None:
            return await asyncio.to_thread(self.run, op)
        here = await self._client_of_this_loop(self._factory)
        if here.gate is None:
            return await arun(here.client, op, self.where, self._waiting)
        try:
            await asyncio.wait_for(here.gate.acquire(), self._factory.settings.redis_socket_timeout)
        except TimeoutError:
            raise translate(MaxConnectionsError(), self.where) from None
        try:
            return await arun(here.client, op, self.where, self._waiting)
        finally:
            here.gate.release()

    async def _client_of_this_loop(self, factory: ClientFactory) -> _LoopClient:
        loop = asyncio.get_running_loop()
        if entry := self._by_loop.get(loop):
            return entry
        with self._lock:
            # What belongs to a loop refers to it, so that weak keys alone would keep both for ever.
            for gone in [known for known in self._by_loop if known.is_closed()]:
                del self._by_loop[gone]
            client = factory.make_async()
            gate = asyncio.Semaphore(self._limit) if self._limit else None
            entry = self._by_loop[loop] = _LoopClient(client, _closes_with_the_loop(client), gate)
        await anext(entry.closer)
        return entry

    def close(self) -> None:
        """Close the sync client's connections, where they are ours; the next use opens new ones."""
        with self._lock:
            client, self._client = (self._client, None) if self._factory else (None, self._client)
        if client is not None:
            client.close()
            _close_sentinels(client)

    async def aclose(self) -> None:
        """Close the connections of the running event loop and the sync client's, where they are ours."""
        entry = self._by_loop.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry.closer.aclose()
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where})"


async def _closes_with_the_loop(client: Any) -> AsyncGenerator[None]:
    # asyncio.run, Runner, pytest-asyncio and uvicorn end a loop's async generators before they close it: the
    # one hook there is to close connections while their loop still runs.
    try:
        yield
    finally:
        manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
        closing = [sentinel.aclose() for sentinel in getattr(manager, "sentinels", ())]
        closing.append(client.close_connections() if isinstance(client, AsyncClusterClient) else client.aclose())
        # One whose server is gone may say so; it is closed nevertheless, and the others must be.
        await asyncio.gather(*closing, return_exceptions=True)


def _close_sentinels(client: Any) -> None:
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in getattr(manager, "sentinels", ()):
        sentinel.close()


def _where(client: Any) -> str:
    if isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        return ",".join(sorted(node.name for node in client.get_nodes())) or "the cluster"
    options = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
