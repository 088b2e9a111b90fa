"""The supervisor for a LangGraph Agent Server. ``langgraph.json`` names the three functions of this module.

``langgraph dev``, from the extra ``server``, serves them on 127.0.0.1:2024 for LangGraph's SDKs and Studio. Redis
and Ollama are taken from the settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.history import history_factory
from ecowas_lc.settings import get_settings
from ecowas_lc.store import RedisStore
from ecowas_lc.store.indexing import offline_index
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.routing import Router, get_router


def graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Return the supervisor graph, in which each group has its own history per thread; built once per process."""
    return _graph()


@asynccontextmanager
async def checkpointer() -> AsyncGenerator[RedisSaver]:
    """Yield a saver for the server of the settings; its connections close with the Agent Server."""
    async with await asyncio.to_thread(_ready) as saver:
        yield saver


@asynccontextmanager
async def store() -> AsyncGenerator[RedisStore]:
    """Yield a store for the server of the settings; it can search if the offline embeddings are installed."""
    async with await asyncio.to_thread(_store) as opened:
        yield opened


@cache
def _graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    return build_supervisor(router=_router(), history_factory=history_factory(), on_busy="queue")


@cache
def _router() -> Router:
    return get_router(get_settings().router)


def _ready() -> RedisSaver:
    """Do all blocking work before it can block the Agent Server's event loop, and fail early if Redis is down."""
    _graph()
    _router().route("energy")  # reads the embeddings
    saver = RedisSaver.from_settings()
    saver.ttl("-")
    return saver


def _store() -> RedisStore:
    """Create the store here, where loading the embeddings does not block the Agent Server's event loop."""
    opened = RedisStore.from_settings(index=offline_index())
    if opened.embeddings is not None:
        opened.embeddings.embed_query("-")
    opened.get(("warm", "up"), "-")
    return opened
