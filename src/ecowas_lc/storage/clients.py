"""redis-py clients for an address. Only this module handles topology, Sentinel, TLS, timeouts and retries."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncSentinelManagedConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncSentinelManagedSSLConnection
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.cluster import PRIMARY, ClusterNode
from redis.connection import URL_QUERY_ARGUMENT_PARSERS
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from ecowas_lc import _telemetry
from ecowas_lc._connection_settings import LONGEST_TIMEOUT, MOST_CONNECTIONS, ConnectionSettings
from ecowas_lc._secret import Secret
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.storage.addresses import Address
from ecowas_lc.storage.credentials import Credentials
from ecowas_lc.storage.fast_path import (
    DRIVER,
    IS_USABLE,
    IS_USABLE_ASYNC,
    AsyncDirectPool,
    DirectPool,
    driver_option,
    make_async_client,
    make_client,
)
from ecowas_lc.storage.ops import ReplicaWait

if TYPE_CHECKING:
    from ecowas_lc.settings import Settings
    from ecowas_lc.storage.clusters import NodePools


class Primary:
    """The primary that Sentinels name. To redis-py's connections this is the pool, which knows the address."""

    is_master = True
    check_connection = False

    def __init__(self, sentinel: Any, service_name: str) -> None:
        self.sentinel = sentinel
        self.service_name = service_name
        self.address: Any = None  # the one found last: connections to others are not used again

    def forget(self) -> None:
        """Have every connection ask again before its next use: the primary is gone, or has become a replica."""
        self.address = None

    def get_master_address(self) -> Any:
        """Return the primary's address."""
        self.address = found = self.sentinel.discover_master(self.service_name)
        return found


class AsyncPrimary(Primary):
    """:class:`Primary` for asyncio."""

    pool: Any = None  # a weak reference to its pool

    def forget(self) -> None:
        """Have every connection ask again; see :meth:`Primary.forget`."""
        self.address = None
        if isinstance(pool := self.pool(), AsyncDirectPool):
            pool.retire_lines()

    async def get_master_address(self) -> Any:
        """Return the primary's address."""
        found = await self.sentinel.discover_master(self.service_name)
        if found != self.address:
            self.forget()
            self.address = found
        return found


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary that a Sentinel names; it is closed if an answer does not arrive in time.

    redis-py leaves it open, so the next call would receive the late answer, and no new primary would be looked up.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next answer."""
        try:
            return super().read_response(*args, **{"disconnect_on_error": True} | options)
        except RedisConnectionError:  # redis-py raises this for READONLY as well
            self.connection_pool.forget()
            raise

    def can_read(self, *args: Any, **options: Any) -> bool:
        """Return whether to reopen the connection: something is unread, or its server is no longer the primary."""
        return _is_elsewhere(self) or bool(super().can_read(*args, **options))


class PrimaryTLSConnection(PrimaryConnection, SentinelManagedSSLConnection):
    """A connection to the primary that a Sentinel names, with TLS; see :class:`PrimaryConnection`."""


class AsyncPrimaryConnection(AsyncSentinelManagedConnection):
    """:class:`PrimaryConnection` for asyncio."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next answer."""
        try:
            return await super().read_response(*args, **options)
        except RedisConnectionError:
            self.connection_pool.forget()
            raise

    async def connect(self) -> None:
        """Connect to the primary, unless the connection is open and its server is still the primary."""
        if _is_elsewhere(self):
            await self.disconnect(nowait=True)
        await super().connect()


class AsyncPrimaryTLSConnection(AsyncPrimaryConnection, AsyncSentinelManagedSSLConnection):
    """:class:`PrimaryTLSConnection` for asyncio."""


def _with_names_of_redis_pys(client: Any, sentinel: Any, service: str | None) -> Any:
    """Set the attributes of redis-py's own Sentinel pool on the client's pool, for code that looks for them."""
    client.connection_pool.sentinel_manager = sentinel
    client.connection_pool.service_name = service
    return client


def _is_elsewhere(connection: Any) -> bool:
    return bool(connection.connection_pool.address != (connection.host, connection.port))


class SentinelClient(Sentinel):
    """A Sentinel client that keeps all known Sentinels, even when several callers look up the primary at once."""

    def discover_master(self, service_name: str) -> Any:
        """Return the primary's address. If there is none, the error's cause is a Sentinel's connection error."""
        # redis-py reorders the shared list using positions from before its request, so two concurrent callers
        # lose an entry.
        own: Any = copy(self)
        own.sentinels = sentinels = [_Asked(sentinel) for sentinel in self.sentinels]
        try:
            found = super(SentinelClient, own).discover_master(service_name)
        except MasterNotFoundError as error:
            raise error from _first_failure(sentinels)
        self.sentinels = [each.asked for each in own.sentinels]
        return found


class AsyncSentinelClient(AsyncSentinel):
    """:class:`SentinelClient` for asyncio."""

    async def discover_master(self, service_name: str) -> Any:
        """Return the primary's address; see :meth:`SentinelClient.discover_master`."""
        own: Any = copy(self)
        own.sentinels = sentinels = [_AsyncAsked(sentinel) for sentinel in self.sentinels]
        try:
            found = await super(AsyncSentinelClient, own).discover_master(service_name)
        except AsyncMasterNotFoundError as error:
            raise error from _first_failure(sentinels)
        self.sentinels = [each.asked for each in own.sentinels]
        return found


class _Asked:
    """A Sentinel with its connection error, which redis-py discards."""

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


# A lost connection is retried. A timeout is not: the caller set it, and a retry would exceed it.
_RETRIES = 3


class CountedRetry(Retry):
    """redis-py's retries, with a report of each failed attempt to the observers."""

    def call_with_retry(self, do: Any, fail: Any, *more: Any, **options: Any) -> Any:
        """Call ``do`` until it succeeds; see redis-py's ``Retry``."""

        def failed(*why: Any) -> Any:
            _telemetry.count("redis_retry")
            return fail(*why)

        return super().call_with_retry(do, failed, *more, **options)


class AsyncCountedRetry(redis.asyncio.retry.Retry):
    """:class:`CountedRetry` for asyncio."""

    async def call_with_retry(self, do: Any, fail: Any, *more: Any, **options: Any) -> Any:
        """Await ``do`` until it succeeds; see redis-py's ``Retry``."""

        async def failed(*why: Any) -> Any:
            _telemetry.count("redis_retry")
            return await fail(*why)

        return await super().call_with_retry(do, failed, *more, **options)


_RETRY_ON: Any = (RedisConnectionError, ConnectionError)
_SECRET_OPTIONS = {"password", "ssl_password"}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _within(kind: type[float], most: float) -> Any:
    def parse(text: str) -> float:
        number = kind(text)
        if not 0 < number <= most:
            raise ValueError("out of range")
        return number

    return parse


def _certificate_requirement(text: str) -> str:
    """Return redis-py's word for Python's names as well, such as the ``CERT_NONE`` that Celery requires."""
    word = text.lower().removeprefix("cert_")
    if word not in ("none", "optional", "required"):
        raise ValueError("no such requirement")
    return word


_PARSERS: dict[str, Any] = {
    **URL_QUERY_ARGUMENT_PARSERS,
    "max_connections": _within(int, MOST_CONNECTIONS),
    "socket_timeout": _within(float, LONGEST_TIMEOUT),
    "socket_connect_timeout": _within(float, LONGEST_TIMEOUT),
    "ssl_cert_reqs": _certificate_requirement,
}


def _socket_of_embedded(settings: Settings) -> str:
    from ecowas_lc.embedded import use_server  # a program whose server has a URL needs none of it

    return str(use_server(settings).socket)


class EmbeddedConnection(redis.UnixDomainSocketConnection):
    """A connection to the embedded server that starts or repairs the server before it connects."""

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        self._settings = settings
        super().__init__(**kwargs)

    def _connect(self) -> Any:
        self.path = _socket_of_embedded(self._settings)
        return super()._connect()


class AsyncEmbeddedConnection(redis.asyncio.UnixDomainSocketConnection):
    """:class:`EmbeddedConnection` for asyncio; a worker thread starts the server."""

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        self._settings = settings
        super().__init__(**kwargs)

    async def _connect(self) -> None:
        self.path = await asyncio.to_thread(_socket_of_embedded, self._settings)
        await super()._connect()


def _but_timeouts(errors: tuple[type[Exception], ...]) -> Any:
    return tuple(error for error in errors if error is not RedisTimeoutError)


class ClusterClient(redis.RedisCluster):
    """A cluster client that does not wait for several timeouts if a node hangs."""

    ERRORS_ALLOW_RETRY = _but_timeouts(redis.RedisCluster.ERRORS_ALLOW_RETRY)

    def __init__(self, pools: NodePools | None, *, startup_nodes: list[ClusterNode], **options: Any) -> None:
        self.pools = pools
        try:
            super().__init__(startup_nodes=startup_nodes, **options)
        except BaseException:  # redis-py leaves the connections open that it has made to these nodes
            for node in startup_nodes:
                if node.redis_connection is not None:
                    node.redis_connection.close()
            raise

    def close(self) -> None:
        """Close all connections. The next use opens new ones."""
        super().close()
        self.disconnect_shared()

    def disconnect_shared(self) -> None:
        """Close the connections that calls share."""
        for pool in self.pools or ():
            pool.disconnect()

    def get_node(self, host: Any = None, port: Any = None, node_name: Any = None) -> Any:
        """Return the node at this address, even one without slots: redirections name such nodes."""
        if known := super().get_node(host, port, node_name):
            return known
        node = ClusterNode(*_host_and_port(host, port, node_name), PRIMARY)
        return self.nodes_manager.nodes_cache.setdefault(node.name, node)


class AsyncClusterClient(redis.asyncio.RedisCluster):
    """:class:`ClusterClient` for asyncio, which also closes no connection that another task is using."""

    ERRORS_ALLOW_RETRY = _but_timeouts(redis.asyncio.RedisCluster.ERRORS_ALLOW_RETRY)

    def __init__(self, pools: NodePools | None, **options: Any) -> None:
        self.pools = pools
        super().__init__(**options)

    async def disconnect_shared(self) -> None:
        """Close the connections that calls share."""
        await asyncio.gather(*(pool.disconnect() for pool in self.pools or ()), return_exceptions=True)

    async def aclose(self) -> None:
        """Have the next command look up the cluster's layout. redis-py calls this to close all connections."""
        self._initialize = True

    async def close_connections(self) -> None:
        """Close all connections."""
        self._initialize = True
        await self.disconnect_shared()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")

    def get_node(self, host: Any = None, port: Any = None, node_name: Any = None) -> Any:
        """Return the node at this address; see :meth:`ClusterClient.get_node`."""
        if known := super().get_node(host, port, node_name):
            return known
        node = AsyncClusterNode(*_host_and_port(host, port, node_name), PRIMARY, **self.connection_kwargs)
        return self.nodes_manager.nodes_cache.setdefault(node.name, node)


def _host_and_port(host: Any, port: Any, name: str | None) -> tuple[str, int]:
    if name is not None:
        host, _, port = name.rpartition(":")
    return host, int(port)


class ClientFactory(NamedTuple):
    """Creates sync and async clients for one address (``None``: the embedded server)."""

    address: Address | None
    settings: Settings | ConnectionSettings
    credentials: Credentials | None = None

    @property
    def where(self) -> str:
        """The server's name for messages, without secrets."""
        return "the embedded server" if self.address is None else str(self.address)

    @property
    def pool_blocks(self) -> bool:
        """Whether clients wait for a free connection; redis-py's cluster clients fail instead."""
        return self.address is None or self.address.kind != "cluster" or (IS_USABLE and IS_USABLE_ASYNC)

    @property
    def waiting(self) -> ReplicaWait | None:
        """The replication that ``wait_replicas`` in the URL, or else in the settings, requires.

        Raises:
            ConfigurationError: It is not a number.
        """
        given = dict(self.address.options).get("wait_replicas") if self.address else None
        if given is not None and not (given.isascii() and given.isdigit()):
            raise ConfigurationError("The Redis URL's option wait_replicas must be a number, 0 or more")
        replicas = self.settings.wait_replicas if given is None else int(given)
        if not replicas:
            return None
        # Less than the socket timeout, because WAIT's answer has the number of replicas and a timeout does not.
        return ReplicaWait(replicas, max(1, int(self.settings.redis_socket_timeout * 500)))

    def make(self) -> Any:
        """Return a new ``redis.Redis`` or ``redis.RedisCluster``; only the cluster client connects at once."""
        retry = CountedRetry(_backoff(), _RETRIES, supported_errors=_RETRY_ON)
        if self.address is None:
            return make_client(
                connection_class=EmbeddedConnection, settings=self.settings, retry=retry, **self._pool_options()
            )
        if self.address.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self.address.hosts]
            pools = self._node_pools(DirectPool, redis.Connection, redis.SSLConnection, Retry)
            return ClusterClient(pools, startup_nodes=nodes, retry=retry, **self._options())
        if self.address.kind == "sentinel":
            sentinel = SentinelClient(self.address.hosts, sentinel_kwargs=self._sentinel_options(Retry))
            client: Any = make_client(
                **self._options_of_primary(PrimaryConnection, PrimaryTLSConnection),
                connection_pool=Primary(sentinel, self.address.service),
                retry=retry,
            )
            return _with_names_of_redis_pys(client, sentinel, self.address.service)
        endpoint = self._endpoint(redis.UnixDomainSocketConnection, redis.SSLConnection, redis.Connection)
        return make_client(**self._pool_options() | endpoint, retry=retry)

    def make_async(self) -> Any:
        """Return a new ``redis.asyncio.Redis`` or ``RedisCluster`` for the running event loop."""
        if self.address is not None:
            _check_options_of_asyncio(self.address)
        retry = AsyncCountedRetry(_backoff(), _RETRIES, supported_errors=_RETRY_ON)
        if self.address is None:
            return make_async_client(
                connection_class=AsyncEmbeddedConnection,
                settings=self.settings,
                retry=retry,
                **self._pool_options(),
            )
        if self.address.kind == "cluster":
            nodes = [AsyncClusterNode(host, port) for host, port in self.address.hosts]
            pools = self._node_pools(
                AsyncDirectPool, redis.asyncio.Connection, redis.asyncio.SSLConnection, redis.asyncio.retry.Retry
            )
            return AsyncClusterClient(pools, startup_nodes=nodes, retry=retry, **self._options())
        if self.address.kind == "sentinel":
            sentinel: Any = AsyncSentinelClient(
                self.address.hosts, sentinel_kwargs=self._sentinel_options(redis.asyncio.retry.Retry)
            )
            primary = AsyncPrimary(sentinel, self.address.service)
            client: Any = make_async_client(
                **self._options_of_primary(AsyncPrimaryConnection, AsyncPrimaryTLSConnection),
                connection_pool=primary,
                retry=retry,
            )
            primary.pool = weakref.ref(client.connection_pool)
            return _with_names_of_redis_pys(client, sentinel, self.address.service)
        endpoint = self._endpoint(
            redis.asyncio.UnixDomainSocketConnection, redis.asyncio.SSLConnection, redis.asyncio.Connection
        )
        return make_async_client(**self._pool_options() | endpoint, retry=retry)

    def _pool_options(self) -> dict[str, Any]:
        # If the wait for a free connection were longer than the wait for an answer, it would hide which is slow.
        return {
            "max_connections": self.settings.redis_max_connections,
            "timeout": self.settings.redis_socket_timeout,
            **self._common(),
        }

    def _common(self) -> dict[str, Any]:
        return {
            "socket_timeout": self.settings.redis_socket_timeout,
            "socket_connect_timeout": self.settings.redis_connect_timeout,
            "protocol": 2,  # bytes in, bytes out: RESP3 would add nothing, and requires Redis 6
            **DRIVER,
        }

    def _login(self) -> dict[str, Any]:
        assert self.address is not None
        if self.credentials is not None:  # asked at each new connection
            return {"credential_provider": self.credentials}
        return {"username": self.address.username, "password": self.address.password}

    def _options(self) -> dict[str, Any]:
        address = self.address
        assert address is not None
        options = self._common() | self._login()
        if address.tls:
            options |= {"ssl": True} | self._tls_files()
        return options | _query_options(address)

    def _options_of_primary(self, tcp: Any, tls: Any) -> dict[str, Any]:
        assert self.address is not None
        return self._options_of_node(tcp, tls) | {"db": self.address.db}

    def _options_of_node(self, tcp: Any, tls: Any) -> dict[str, Any]:
        options = self._pool_options() | self._options()
        return options | {"connection_class": tls if options.pop("ssl", False) else tcp}

    def _node_pools(self, pool: Any, tcp: Any, tls: Any, retry: Any) -> NodePools | None:
        if not self.pool_blocks:
            return None
        from ecowas_lc.storage.clusters import NodePools  # a program with one server needs none of it

        # A node that breaks is looked for in the cluster, not tried again.
        options = self._options_of_node(tcp, tls) | {"retry": retry(NoBackoff(), 0, supported_errors=_RETRY_ON)}
        return NodePools(
            lambda host, port: pool(host=host, port=port, **options),
            self.settings.redis_max_connections,
            self.settings.redis_socket_timeout,
        )

    def _endpoint(self, unix: Any, tls: Any, tcp: Any) -> dict[str, Any]:
        address = self.address
        assert address is not None
        options = self._login() | {"db": address.db} | _query_options(address)
        if address.kind == "unix":
            return options | {"connection_class": unix, "path": address.path}
        [(host, port)] = address.hosts if len(address.hosts) == 1 else [("", 0)]
        if not host:
            raise ConfigurationError("Several hosts need redis+cluster:// or redis+sentinel:// in the URL")
        options |= {"host": host, "port": port, "connection_class": tls if address.tls else tcp}
        return (self._tls_files() if address.tls else {}) | options  # options in the URL have priority

    def _sentinel_options(self, retry: Any) -> dict[str, Any]:
        # Sentinels have their own logins; the URL's login is for the data servers. Every attempt to connect asks
        # the Sentinels again, so redis-py's own three tries per Sentinel, seconds apart, would add up to 20 s.
        address = self.address
        assert address is not None
        options = self._common() | {"retry": retry(_backoff(), 0, supported_errors=_RETRY_ON)}
        if not address.tls:
            return options
        told = {name: value for name, value in _query_options(address).items() if name.startswith("ssl_")}
        return options | {"ssl": True} | self._tls_files() | told

    def _tls_files(self) -> dict[str, Any]:
        files = {
            "ssl_ca_certs": self.settings.redis_ssl_ca_certs,
            "ssl_certfile": self.settings.redis_ssl_certfile,
            "ssl_keyfile": self.settings.redis_ssl_keyfile,
        }
        for name, path in files.items():
            if path is not None and not path.is_file():
                raise ConfigurationError(f"There is no file {path}: fix {name}, or REDIS_{name.upper()}.")
        return {name: str(path) for name, path in files.items() if path is not None}


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=1.0)


@cache
def _connection_options(tls: bool, module: Any = redis) -> frozenset[str]:
    classes: list[Any] = [
        module.connection.AbstractConnection,
        module.Connection,
        *([module.SSLConnection] if tls else []),
    ]
    names = {name for cls in classes for name in inspect.signature(cls).parameters}
    # The URL may not set options that control encoding, or whose value is not text.
    not_ours = {
        "self",
        "args",
        "kwargs",
        "host",
        "port",
        "protocol",
        "driver_info",
        "decode_responses",
        "retry",
        "retry_on_error",
        "credential_provider",
    }
    return frozenset(names | {"max_connections"}) - not_ours


def _check_options_of_asyncio(address: Address) -> None:
    """Refuse an option that redis-py has for its synchronous connections only, as ``ssl_password`` before 7.0."""
    known = _connection_options(address.tls, redis.asyncio)
    for name, _ in address.options:
        if name not in known and name in _connection_options(address.tls):
            raise ConfigurationError(
                f"redis-py {redis.__version__} can't use the Redis URL's option {name} in asyncio. Install a "
                "newer version of redis-py, or use the synchronous methods."
            )


def _query_options(address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {}
    unread: list[str] = []
    known = _connection_options(address.tls)
    for name, text in address.options:
        if name == "wait_replicas":
            continue
        if name not in known:
            if name in _connection_options(True):
                raise ConfigurationError(f"The Redis URL's option {name} is for TLS. Use rediss:// for TLS.")
            raise ConfigurationError(f"The Redis URL has an unknown option: {name}")
        try:
            parse: Any = _PARSERS.get(name, str)
            options[name] = Secret(parse(text)) if name in _SECRET_OPTIONS else parse(text)
        except (TypeError, ValueError):
            unread.append(name)  # not raised here: the error quotes the value
    if unread:
        raise ConfigurationError(f"The Redis URL's option {unread[0]} has a value that can't be used.")
    for name in _TLS_FILES:
        if name in options and not Path(options[name]).is_file():
            raise ConfigurationError(f"There is no file {options[name]}: fix {name} in the Redis URL.")
    named = {name: options.pop(name) for name in ("lib_name", "lib_version") if name in options}
    return options | driver_option(**named) if named else options
