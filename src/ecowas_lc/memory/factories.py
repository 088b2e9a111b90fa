"""Memory services that a process shares, and the quick connection test."""

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
    """The process's one service for these arguments; without any, for the server that the settings name.

    What is left out of several is ``localhost``, 6379, no password and database 0. ``default_ttl`` is the
    settings' ``REDIS_MEMORY_TTL``. Made for ``fastapi.Depends(get_redis_memory)``: a framework that looks at
    the signature finds no parameters, so none of a request's can choose the server.

    Raises:
        ConfigurationError: the arguments or the settings can't be used.
    """
    return _instance(RedisMemoryService, host, port, password, db)


def get_async_redis_memory(
    host: str | None = None, port: int | None = None, password: str | None = None, db: int | None = None
) -> AsyncRedisMemoryService:
    """The same for asyncio: see :func:`get_redis_memory`."""
    return _instance(AsyncRedisMemoryService, host, port, password, db)


# FastAPI turns a dependency's parameters into query parameters: `?host=evil.example` would be obeyed.
_seen = inspect.Signature
get_redis_memory.__signature__ = _seen(return_annotation=RedisMemoryService)  # type: ignore[attr-defined]
get_async_redis_memory.__signature__ = _seen(return_annotation=AsyncRedisMemoryService)  # type: ignore[attr-defined]


def create_redis_memory_from_config() -> RedisMemoryService:
    """A new service for the server that the settings name, with ``REDIS_MEMORY_TTL`` as its ``default_ttl``.

    Raises:
        ConfigurationError: the settings can't be used.
    """
    return RedisMemoryService.from_settings()


def test_redis_connection() -> bool:
    """Whether the server that the settings name answers.

    Raises:
        ConfigurationError: the settings can't be used.
    """
    with create_redis_memory_from_config() as memory:
        return memory.health_check()


test_redis_connection.__test__ = False  # type: ignore[attr-defined]  # not a test of whoever imports it


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
