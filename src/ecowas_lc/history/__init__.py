"""LangChain's chat message history on Redis or Valkey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecowas_lc.history.chat_history import HistoryFactory, RedisChatMessageHistory, history_factory

if TYPE_CHECKING:
    from ecowas_lc.history.copying import (
        ahistory_to_thread,
        athread_to_history,
        history_to_thread,
        thread_to_history,
    )

__all__ = [
    "HistoryFactory",
    "RedisChatMessageHistory",
    "ahistory_to_thread",
    "athread_to_history",
    "history_factory",
    "history_to_thread",
    "thread_to_history",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # importing LangGraph takes half a second, and most users of a history don't need it
        from ecowas_lc.history import copying

        return getattr(copying, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
