"""The langgraph checkpointer on Redis or Valkey."""

from ecowas_lc.checkpoint.differences import ChannelChange, ThreadDifference
from ecowas_lc.checkpoint.encryption import EncryptedRedisSerializer
from ecowas_lc.checkpoint.listing import ThreadRow
from ecowas_lc.checkpoint.migration import MigrationReport, amigrate_threads, migrate_threads
from ecowas_lc.checkpoint.saver import RedisSaver
from ecowas_lc.checkpoint.thread import SavedThread
from ecowas_lc.checkpoint.viewing import OpaqueValue

__all__ = [
    "ChannelChange",
    "EncryptedRedisSerializer",
    "MigrationReport",
    "OpaqueValue",
    "RedisSaver",
    "SavedThread",
    "ThreadDifference",
    "ThreadRow",
    "amigrate_threads",
    "migrate_threads",
]
