"""Memory in Redis or Valkey and models on Ollama, for LangChain and LangGraph.

Everything public is here: ``from ecowas_lc import RedisSaver``. Importing the package imports nothing else; a
name brings its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecowas_lc._version import __version__
from ecowas_lc.errors import (
    CheckpointConflictError,
    ConfigurationError,
    ContextOverflowError,
    CorruptDataError,
    DecryptionError,
    EcowasError,
    EmbeddedServerError,
    EmptyQuestionError,
    FormatVersionError,
    InvalidIdError,
    InvalidInputError,
    LoopBudgetError,
    MissingExtraError,
    ModelCapabilityError,
    ModelError,
    ModelNotFoundError,
    ModelServerUnavailableError,
    ModelTimeoutError,
    NotReplicatedError,
    NotSerializableError,
    RedisRefusedError,
    RedisTimeoutError,
    RedisUnavailableError,
    StorageError,
    SupervisorError,
    TypeNotAllowedError,
    UnknownGroupError,
    UnknownSettingWarning,
    WrongTypeError,
)

if TYPE_CHECKING:
    from ecowas_lc.agents import (
        BaseAgent,
        RedisAgent,
        SupervisorAgent,
        create_agriculture_agent,
        create_digital_agent,
        create_energy_agent,
        create_minerals_agent,
        create_protocol_agent,
        create_resource_mobilization_agent,
        create_supervisor,
    )
    from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
    from ecowas_lc.drawing import GraphPicture, ThreadPicture, adraw_thread, draw_graph, draw_thread
    from ecowas_lc.history import (
        RedisChatMessageHistory,
        ahistory_to_thread,
        athread_to_history,
        history_factory,
        history_to_thread,
        thread_to_history,
    )
    from ecowas_lc.llm import LLMService, get_llm_service, make_chat_model
    from ecowas_lc.memory import (
        AsyncRedisMemoryService,
        ImportReport,
        RedisMemoryService,
        SessionInfo,
        create_redis_memory_from_config,
        get_async_redis_memory,
        get_redis_memory,
        test_redis_connection,
    )
    from ecowas_lc.settings import Settings, get_settings
    from ecowas_lc.supervisor import build_supervisor, twg_tools
    from ecowas_lc.supervisor.routing import PastTurn, RouteDecision, Router, get_router
    from ecowas_lc.twg import TWG, default_groups

_HOMES = {
    "BaseAgent": "agents",
    "RedisAgent": "agents",
    "SupervisorAgent": "agents",
    "create_agriculture_agent": "agents",
    "create_digital_agent": "agents",
    "create_energy_agent": "agents",
    "create_minerals_agent": "agents",
    "create_protocol_agent": "agents",
    "create_resource_mobilization_agent": "agents",
    "create_supervisor": "agents",
    "EncryptedRedisSerializer": "checkpoint",
    "RedisSaver": "checkpoint",
    "GraphPicture": "drawing",
    "ThreadPicture": "drawing",
    "adraw_thread": "drawing",
    "draw_graph": "drawing",
    "draw_thread": "drawing",
    "RedisChatMessageHistory": "history",
    "ahistory_to_thread": "history",
    "athread_to_history": "history",
    "history_factory": "history",
    "history_to_thread": "history",
    "thread_to_history": "history",
    "LLMService": "llm",
    "get_llm_service": "llm",
    "make_chat_model": "llm",
    "AsyncRedisMemoryService": "memory",
    "ImportReport": "memory",
    "RedisMemoryService": "memory",
    "SessionInfo": "memory",
    "create_redis_memory_from_config": "memory",
    "get_async_redis_memory": "memory",
    "get_redis_memory": "memory",
    "test_redis_connection": "memory",
    "Settings": "settings",
    "get_settings": "settings",
    "build_supervisor": "supervisor",
    "twg_tools": "supervisor",
    "PastTurn": "supervisor.routing",
    "RouteDecision": "supervisor.routing",
    "Router": "supervisor.routing",
    "get_router": "supervisor.routing",
    "TWG": "twg",
    "default_groups": "twg",
}

__all__ = [
    "TWG",
    "AsyncRedisMemoryService",
    "BaseAgent",
    "CheckpointConflictError",
    "ConfigurationError",
    "ContextOverflowError",
    "CorruptDataError",
    "DecryptionError",
    "EcowasError",
    "EmbeddedServerError",
    "EmptyQuestionError",
    "EncryptedRedisSerializer",
    "FormatVersionError",
    "GraphPicture",
    "ImportReport",
    "InvalidIdError",
    "InvalidInputError",
    "LLMService",
    "LoopBudgetError",
    "MissingExtraError",
    "ModelCapabilityError",
    "ModelError",
    "ModelNotFoundError",
    "ModelServerUnavailableError",
    "ModelTimeoutError",
    "NotReplicatedError",
    "NotSerializableError",
    "PastTurn",
    "RedisAgent",
    "RedisChatMessageHistory",
    "RedisMemoryService",
    "RedisRefusedError",
    "RedisSaver",
    "RedisTimeoutError",
    "RedisUnavailableError",
    "RouteDecision",
    "Router",
    "SessionInfo",
    "Settings",
    "StorageError",
    "SupervisorAgent",
    "SupervisorError",
    "ThreadPicture",
    "TypeNotAllowedError",
    "UnknownGroupError",
    "UnknownSettingWarning",
    "WrongTypeError",
    "__version__",
    "adraw_thread",
    "ahistory_to_thread",
    "athread_to_history",
    "build_supervisor",
    "create_agriculture_agent",
    "create_digital_agent",
    "create_energy_agent",
    "create_minerals_agent",
    "create_protocol_agent",
    "create_redis_memory_from_config",
    "create_resource_mobilization_agent",
    "create_supervisor",
    "default_groups",
    "draw_graph",
    "draw_thread",
    "get_async_redis_memory",
    "get_llm_service",
    "get_redis_memory",
    "get_router",
    "get_settings",
    "history_factory",
    "history_to_thread",
    "make_chat_model",
    "test_redis_connection",
    "thread_to_history",
    "twg_tools",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
