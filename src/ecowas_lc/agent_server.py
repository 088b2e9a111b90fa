"""The supervisor for a LangGraph Agent Server: ``langgraph.json`` names its three functions.

``langgraph dev`` comes with the extra ``server`` and serves them on 127.0.0.1:2024, for LangGraph's SDKs and
Studio. Redis and Ollama are those of the settings.
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
from ecowas_lc.store.offline import offline_index
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.supervisor.routing import Router, get_router


def graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Return the supervisor graph, each group with its history of the thread; built once for each process."""
    return _graph()


@asynccontextmanager
async def checkpointer() -> AsyncGenerator[RedisSaver]:
    """A saver for the server that the settings name; its connections are closed with the Agent Server."""
    async with await asyncio.to_thread(_ready) as saver:
        yield saver


@asynccontextmanager
async def store() -> AsyncGenerator[RedisStore]:
    """A store for the server that the settings name; it searches if the offline embeddings are installed."""
    async with await asyncio.to_thread(_store) as opened:
        yield opened


@cache
def _graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    return build_supervisor(router=_router(), history_factory=history_factory(), on_busy="queue")


@cache
def _router() -> Router:
    return get_router(get_settings().router)


def _ready() -> RedisSaver:
    """Do now what would block the Agent Server's event loop later, and say now if Redis can't be reached."""
    _graph()
    _router().route("energy")  # reads the embeddings
    saver = RedisSaver.from_settings()
    saver.ttl("-")
    return saver


def _store() -> RedisStore:
    """Load now what would block the Agent Server's event loop later."""
    opened = RedisStore.from_settings(index=offline_index())
    if opened.embeddings is not None:
        opened.embeddings.embed_query("-")
    opened.get(("warm", "up"), "-")
    return opened
