"""Where agents keep what was said: on a server, or in this process alone."""

from __future__ import annotations

from ecowas_lc.agents.link import Link, link_to
from ecowas_lc.agents.said import Said
from ecowas_lc.agents.transcript import Transcript
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.memory.arguments import check_count, check_ttl
from ecowas_lc.memory.connections import shared_server
from ecowas_lc.settings import Settings
from ecowas_lc.storage.keys import check_id


class Keeping:
    """What all agents of one conversation share: the server (with ``use_redis``) and how long it keeps things.

    Raises:
        InvalidInputError: ``ttl`` is not a whole number of seconds from 1 on.
        ConfigurationError: ``memory`` is something else, or the settings can't be used.
    """

    def __init__(
        self, settings: Settings, *, use_redis: bool, ttl: int | None, memory: RedisMemoryService | None
    ) -> None:
        if memory is not None and not isinstance(memory, RedisMemoryService):
            raise ConfigurationError(f"memory must be a RedisMemoryService, not {type(memory).__name__}.")
        self.ttl = None if ttl is None else check_ttl(ttl, "memory_ttl")
        self.link: Link | None = None
        self._said: dict[tuple[str, str], Said] = {}
        if not use_redis:
            return
        if memory is None:
            memory = RedisMemoryService(
                server=shared_server(settings=settings),
                default_ttl=settings.redis_memory_ttl,
                prefix=settings.prefix,
            )
        self.memory = memory
        self.async_memory = AsyncRedisMemoryService(
            server=memory.server, default_ttl=memory.default_ttl, prefix=memory.prefix
        )
        self.link = link_to(memory.server, memory.prefix)

    def transcript(self, agent_id: str, session_id: str, limit: int) -> Transcript:
        """An agent's transcript of a session, of which the last ``limit`` messages are kept."""
        check_id(agent_id, "agent id")
        check_id(session_id, "session id")
        check_count(limit, "max_history")
        key = (agent_id, session_id)
        if self.link is None:
            return Transcript(self._said.setdefault(key, Said(*key)), limit)
        store = RedisChatMessageHistory(
            agent_id,
            session_id,
            ttl=self.ttl,
            max_messages=limit,
            max_history=limit,
            server=self.link.server,
            prefix=self.link.prefix,
            default_ttl=self.memory.default_ttl,
        )
        said = self.link.shared(("history", *key), lambda: Said(*key))
        return Transcript(said, limit, self.link, store)
