"""The memory service for asyncio: a thin shell around the same programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from ecowas_lc.errors import EcowasError
from ecowas_lc.memory import backup
from ecowas_lc.memory.histories import SessionInfo
from ecowas_lc.memory.reindex import reindex_op
from ecowas_lc.memory.service import MemoryServiceBase, ping_op, stats_op
from ecowas_lc.storage.backup_format import ImportReport, Progress, header, one_by_one


class AsyncRedisMemoryService(MemoryServiceBase):
    """:class:`RedisMemoryService` with ``await``: the same arguments, methods, results and errors.

    One object serves any number of event loops, each with connections of its own. ``client`` or ``async_client``
    may be a ``redis.asyncio`` client, which belongs to one loop and stays yours to close.
    """

    async def save_conversation_history(
        self, agent_id: str, session_id: str, history: Sequence[dict[str, Any]], ttl: int | None = None
    ) -> None:
        """Replace a history with these messages, to live ``ttl`` seconds (default: ``default_ttl``)."""
        await self._server.arun(self._programs.save_op(agent_id, session_id, history, ttl))

    async def get_conversation_history(
        self, agent_id: str, session_id: str, last: int | None = None
    ) -> list[dict[str, Any]]:
        """The messages, oldest first, as they were saved; ``[]`` if there are none."""
        return await self._server.arun(self._programs.conversations.read_op(agent_id, session_id, last))

    async def append_to_history(
        self,
        agent_id: str,
        session_id: str,
        message: dict[str, Any],
        max_history: int | None = None,
        ttl: int | None = None,
    ) -> int:
        """Append one message; the number of messages that the history holds then."""
        return await self._server.arun(self._programs.append_op(agent_id, session_id, message, max_history, ttl))

    async def clear_conversation_history(self, agent_id: str, session_id: str) -> bool:
        """Remove a history; whether there was one."""
        return await self._server.arun(self._programs.sessions.clear_op(agent_id, session_id))

    async def save_agent_state(self, agent_id: str, state: Any, ttl: int | None = None) -> None:
        """Store an agent's state, any JSON-able value, for ``ttl`` seconds (default: ``default_ttl``)."""
        await self._server.arun(self._programs.values.save_state_op(agent_id, state, ttl))

    async def get_agent_state(self, agent_id: str) -> Any:
        """An agent's state; ``None`` if there is none."""
        return await self._server.arun(self._programs.values.state_op(agent_id))

    async def set_session_data(self, session_id: str, key: str, value: Any, ttl: int | None = None) -> None:
        """Store a session's value, any JSON-able one, for ``ttl`` seconds (default: ``default_ttl``)."""
        await self._server.arun(self._programs.values.set_data_op(session_id, key, value, ttl))

    async def get_session_data(self, session_id: str, key: str) -> Any:
        """A session's value; ``None`` if there is none."""
        return await self._server.arun(self._programs.values.data_op(session_id, key))

    async def get_all_session_data(self, session_id: str) -> dict[str, Any]:
        """Every value of a session by its key."""
        return await self._server.arun(self._programs.values.all_data_op(session_id))

    async def delete_session_data(self, session_id: str, key: str) -> bool:
        """Remove a session's value; whether there was one."""
        return await self._server.arun(self._programs.values.delete_data_op(session_id, key))

    async def get_all_sessions_for_agent(self, agent_id: str) -> list[str]:
        """The ids of the sessions in which an agent has a history now, most recently active first."""
        return await self._server.arun(self._programs.sessions.of_agent_op(agent_id))

    async def get_all_agents_for_session(self, session_id: str) -> list[str]:
        """The ids of the agents that have a history in a session now, most recently active first."""
        return await self._server.arun(self._programs.sessions.agents_of_op(session_id))

    async def get_all_agents(self) -> list[str]:
        """The ids of the agents with histories or a state, in alphabetical order."""
        return await self._server.arun(self._programs.sessions.agents_op())

    async def get_session_info(self, agent_id: str, session_id: str) -> SessionInfo | None:
        """What is known of a history without reading it: length, activity, time to live; ``None`` if none."""
        return await self._server.arun(self._programs.info_op(agent_id, session_id))

    async def get_session_infos(self, agent_id: str | None = None) -> list[SessionInfo]:
        """The same for every history, or every one of an agent; most recently active first."""
        return await self._server.arun(self._programs.sessions.all_op(agent_id))

    async def get_histories_containing(self, pairs: Sequence[tuple[str, str]], text: str) -> set[tuple[str, str]]:
        """Which of these histories, as (agent, session), have a message with ``text`` in it, in any case."""
        return await self._server.arun(self._programs.sessions.containing_op(pairs, text))

    async def extend_ttl(self, agent_id: str, session_id: str, ttl: int | None = None) -> bool:
        """Renew a history and its session's data; whether there was anything to renew."""
        return await self._server.arun(self._programs.sessions.extend_op(agent_id, session_id, ttl))

    async def clear_all_agent_data(self, agent_id: str) -> int:
        """Remove all histories and the state of an agent; how many there were."""
        return await self._server.arun(self._programs.sessions.clear_agent_op(agent_id))

    async def clear_session(self, session_id: str) -> int:
        """Remove every agent's history in a session and the session's data; how many there were."""
        return await self._server.arun(self._programs.sessions.clear_session_op(session_id))

    async def get_memory_stats(self) -> dict[str, Any]:
        """What the server holds, summed over a cluster's primaries."""
        return await self._server.arun(stats_op(self._programs.keys))

    async def reindex(self) -> int:
        """Find, by scanning the server once, what the indexes don't know; how many histories were new to them."""
        return await self._server.arun(reindex_op(self._programs.conversations))

    async def export_jsonl(
        self,
        agent_id: str | None = None,
        session_id: str | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> AsyncIterator[str]:
        """Histories, agent states and session data as lines of JSON, without newlines."""
        yield header()
        units = await self._server.arun(backup.units_op(self._programs.sessions, agent_id, session_id))
        for some in backup.chunks(units, on_progress):
            for line in await self._server.arun(backup.lines_op(self._programs.sessions, some)):
                yield line

    async def import_jsonl(
        self, lines: Iterable[str] | AsyncIterable[str], *, overwrite: bool = False
    ) -> ImportReport:
        """Restore what :meth:`export_jsonl` gave. Times to live count from now."""
        importer = backup.Importer(self._programs.sessions, overwrite=overwrite)
        async for line in one_by_one(lines):
            if line.strip():
                await self._server.arun(importer.line_op(line))
        return importer.finish()

    async def health_check(self) -> bool:
        """Whether the server answers; never raises."""
        with contextlib.suppress(EcowasError):
            return await self._server.arun(ping_op(self._programs.keys))
        return False

    async def close(self) -> None:
        """Close the running event loop's connections, where they are this service's own."""
        if self._closes_server:
            await self._server.aclose()

    aclose = close
    """The same as :meth:`close`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
