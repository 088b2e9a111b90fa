"""The common part of savers, stores and caches: they are created from a client or a URL, and close connections."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.storage.server import Server

_CLIENT = "client=, a redis-py client"
_URL = "{cls}.from_url(url)"
_PREFIX = "prefix=, what every key begins with"
# Argument names in other libraries, and the names of the same arguments here.
_SPELLINGS = {
    "redis_client": _CLIENT,
    "redis": _CLIENT,
    "conn": _CLIENT,
    "connection": _CLIENT,
    "connection_pool": f"{_CLIENT}: redis.Redis(connection_pool=…)",
    "pool": f"{_CLIENT}: redis.Redis(connection_pool=…)",
    "async_redis_client": "async_client=, a client of redis.asyncio",
    "redis_url": _URL,
    "url": _URL,
    "conn_string": _URL,
    "connection_string": _URL,
    "connection_args": "{cls}.from_url(url) with the options in the URL, or client= with a client that has them",
    "connection_kwargs": "{cls}.from_url(url) with the options in the URL, or client= with a client that has them",
    "cluster_mode": "{cls}.from_url('redis+cluster://…'), or client= with a redis.RedisCluster",
    "checkpoint_prefix": _PREFIX,
    "checkpoint_write_prefix": _PREFIX,
    "checkpoint_blob_prefix": _PREFIX,
    "store_prefix": _PREFIX,
    "vector_prefix": _PREFIX,
    "key_prefix": _PREFIX,
}


class Connected:
    """Closes its connections, explicitly or at the end of a ``with`` or ``async with``."""

    _server: Server
    _CLIENT_AT = 0  # the client's position among the positional arguments

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        """Refuse other libraries' argument names, and an address passed as the client.

        Raises:
            ConfigurationError: An argument has another name here; the message gives it.
        """
        for name in named:
            if name in _SPELLINGS:
                right = _SPELLINGS[name].format(cls=cls.__name__)
                raise ConfigurationError(f"{cls.__name__} takes no {name}=. Use {right}.")
        clients = positional[cls._CLIENT_AT :]
        if any(isinstance(each, str) for each in (*clients, named.get("client"), named.get("async_client"))):
            raise ConfigurationError(
                f"{cls.__name__} takes redis-py clients, not an address. Use {cls.__name__}.from_url(url)."
            )
        return super().__new__(cls)

    def close(self) -> None:
        """Close the connections that this object opened. The next use opens new ones."""
        self._server.close()

    async def aclose(self) -> None:
        """Close the connections that this object opened, including the running event loop's."""
        await self._server.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
