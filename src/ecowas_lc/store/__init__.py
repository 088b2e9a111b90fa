"""Long-term memory on Redis or Valkey: langgraph's store, LangChain's vector store and its LLM cache."""

from ecowas_lc.store.batches import FoundItem, StoredItem
from ecowas_lc.store.indexing import RedisIndexConfig
from ecowas_lc.store.redis_store import RedisStore

__all__ = ["FoundItem", "RedisIndexConfig", "RedisStore", "StoredItem"]
