"""Long-term memory on Redis or Valkey: langgraph's store, LangChain's vector store and its LLM cache."""

from ecowas_lc.store.batches import FoundItem, StoredItem
from ecowas_lc.store.indexing import RedisIndexConfig
from ecowas_lc.store.llm_cache import RedisLLMCache
from ecowas_lc.store.redis_store import ItemPage, RedisStore
from ecowas_lc.store.vector_store import RedisRetriever, RedisVectorStore

__all__ = [
    "FoundItem",
    "ItemPage",
    "RedisIndexConfig",
    "RedisLLMCache",
    "RedisRetriever",
    "RedisStore",
    "RedisVectorStore",
    "StoredItem",
]
