"""The langgraph checkpointer."""

from ecowas_lc.checkpoint.saver import RedisSaver

__all__ = ["RedisSaver"]
