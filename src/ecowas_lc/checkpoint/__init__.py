"""The langgraph checkpointer."""

from ecowas_lc.checkpoint.encryption import EncryptedRedisSerializer
from ecowas_lc.checkpoint.saver import RedisSaver
from ecowas_lc.checkpoint.thread import SavedThread

__all__ = ["EncryptedRedisSerializer", "RedisSaver", "SavedThread"]
