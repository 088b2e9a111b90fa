"""Memory services shared within the process, and a quick connection test."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from ecowas_lc import forks
from ecowas_lc.memory.async_service import AsyncRedisMemoryService
from ecowas_lc.memory.service import MemoryServiceBase, RedisMemoryService
from ecowas_lc.settings import get_settings, usable_settings

S = TypeVar("S", bound=MemoryServiceBase)

_lock = forks.Lock()
_instances: dict[tuple[Any, ...], Any] = {}


def get_redis_memory(
    host: str | None = None, port: int | None = None, password: str | None = None, db: int | None = None
) -> RedisMemoryService:
    """Return the process's shared service for these arguments; without arguments, for the server of the settings.

    ``default_ttl`` is ``REDIS_MEMORY_TTL`` from the settings. Made for ``fastapi.Depends(get_redis_memory)``: the
    visible signature has no parameters, so no parameter of a request can choose the server.

    Args:
        host: The server's host name. Default, if you pass any other argument: ``localhost``.
        port: The server's port. Default, if you pass any other argument: 6379.
        password: The server's password. Default, if you pass any other argument: none.
        db: The number of the database. Default, if you pass any other argument: 0.

    Returns:
        The same object for the same arguments.

    Raises:
        ConfigurationError: The arguments or the settings can't be used.
    """
    return _instance(RedisMemoryService, host, port, password, db)


def get_async_redis_memory(
    host: str | None = None, port: int | None = None, password: str | None = None, db: int | None = None
) -> AsyncRedisMemoryService:
    """Return the process's shared async service for these arguments; see :func:`get_redis_memory`.

    Args:
        host: The server's host name.
        port: The server's port.
        password: The server's password.
        db: The number of the database.

    Returns:
        The same object for the same arguments.

    Raises:
        ConfigurationError: The arguments or the settings can't be used.
    """
    return _instance(AsyncRedisMemoryService, host, port, password, db)


# FastAPI turns a dependency's parameters into query parameters: a request with `?host=evil.example` would choose
# the server. So the visible signature has none.
_seen = inspect.Signature
get_redis_memory.__signature__ = _seen(return_annotation=RedisMemoryService)  # type: ignore[attr-defined]
get_async_redis_memory.__signature__ = _seen(return_annotation=AsyncRedisMemoryService)  # type: ignore[attr-defined]


def create_redis_memory_from_config() -> RedisMemoryService:
    """Return a new service for the server of the settings, with ``REDIS_MEMORY_TTL`` as its ``default_ttl``.

    Raises:
        ConfigurationError: The settings can't be used.
    """
    return RedisMemoryService.from_settings()


def test_redis_connection() -> bool:
    """Return whether the server of the settings answers.

    Raises:
        ConfigurationError: The settings can't be used.
    """
    with create_redis_memory_from_config() as memory:
        return memory.health_check()


test_redis_connection.__test__ = False  # type: ignore[attr-defined]  # else pytest collects it where it is imported


def _instance(kind: type[S], host: str | None, port: int | None, password: str | None, db: int | None) -> S:
    names_its_server = (host, port, password, db) != (None, None, None, None)
    settings = usable_settings() if names_its_server else get_settings()
    key = (kind, host, port, password, db, settings)
    with _lock:
        if key not in _instances:
            if not names_its_server:
                _instances[key] = kind.from_settings(settings)
            else:
                _instances[key] = kind(
                    "localhost" if host is None else host,
                    6379 if port is None else port,
                    0 if db is None else db,
                    password,
                    settings.redis_memory_ttl,
                )
        return _instances[key]  # type: ignore[no-any-return]
