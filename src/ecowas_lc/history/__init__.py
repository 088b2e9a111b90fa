"""LangChain's chat message history on Redis or Valkey."""

from __future__ import annotations

from ecowas_lc.history.chat_history import HistoryFactory, RedisChatMessageHistory, history_factory

__all__ = ["HistoryFactory", "RedisChatMessageHistory", "history_factory"]
