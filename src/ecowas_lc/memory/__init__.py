"""Histories, agent state and session data in Redis or Valkey."""

from __future__ import annotations

from ecowas_lc.memory.async_service import AsyncRedisMemoryService
from ecowas_lc.memory.factories import (
    create_redis_memory_from_config,
    get_async_redis_memory,
    get_redis_memory,
    test_redis_connection,
)
from ecowas_lc.memory.histories import SessionInfo
from ecowas_lc.memory.service import RedisMemoryService
from ecowas_lc.storage.backup_format import ImportReport

__all__ = [
    "AsyncRedisMemoryService",
    "ImportReport",
    "RedisMemoryService",
    "SessionInfo",
    "create_redis_memory_from_config",
    "get_async_redis_memory",
    "get_redis_memory",
    "test_redis_connection",
]
