"""The langgraph checkpointer."""

from ecowas_lc.checkpoint.encryption import EncryptedRedisSerializer
from ecowas_lc.checkpoint.saver import RedisSaver

__all__ = ["EncryptedRedisSerializer", "RedisSaver"]
