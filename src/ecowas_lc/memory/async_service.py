"""The memory service for asyncio, which runs the same programs as the sync one."""

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
    """:class:`RedisMemoryService` for asyncio: the same arguments, methods, results and errors, with ``await``.

    One object serves any number of event loops, each with its own connections.

    Args:
        client: A redis-py client. It may be a ``redis.asyncio`` client, which belongs to one loop. You close it
            yourself.
        async_client: A ``redis.asyncio`` client, with the same rules.

    The other arguments are those of :class:`RedisMemoryService`.
    """

    async def save_conversation_history(
        self, agent_id: str, session_id: str, history: Sequence[dict[str, Any]], ttl: int | None = None
    ) -> None:
        """Replace a history with these messages.

        The arguments, result and errors are those of :meth:`RedisMemoryService.save_conversation_history`.
        """
        await self._server.arun(self._programs.save_op(agent_id, session_id, history, ttl))

    async def get_conversation_history(
        self, agent_id: str, session_id: str, last: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the messages of a history as they were saved, oldest first.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_conversation_history`.
        """
        return await self._server.arun(self._programs.conversations.read_op(agent_id, session_id, last))

    async def append_to_history(
        self,
        agent_id: str,
        session_id: str,
        message: dict[str, Any],
        max_history: int | None = None,
        ttl: int | None = None,
    ) -> int:
        """Append one message in one atomic step, at a cost that does not grow with the history.

        The arguments, result and errors are those of :meth:`RedisMemoryService.append_to_history`.
        """
        return await self._server.arun(self._programs.append_op(agent_id, session_id, message, max_history, ttl))

    async def clear_conversation_history(self, agent_id: str, session_id: str) -> bool:
        """Remove a history.

        The arguments, result and errors are those of
        :meth:`RedisMemoryService.clear_conversation_history`.
        """
        return await self._server.arun(self._programs.sessions.clear_op(agent_id, session_id))

    async def save_agent_state(self, agent_id: str, state: Any, ttl: int | None = None) -> None:
        """Store the state of an agent.

        The arguments, result and errors are those of :meth:`RedisMemoryService.save_agent_state`.
        """
        await self._server.arun(self._programs.values.save_state_op(agent_id, state, ttl))

    async def get_agent_state(self, agent_id: str) -> Any:
        """Return the state of an agent; ``None`` if there is none.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_agent_state`.
        """
        return await self._server.arun(self._programs.values.state_op(agent_id))

    async def set_session_data(self, session_id: str, key: str, value: Any, ttl: int | None = None) -> None:
        """Store one value of a session.

        The arguments, result and errors are those of :meth:`RedisMemoryService.set_session_data`.
        """
        await self._server.arun(self._programs.values.set_data_op(session_id, key, value, ttl))

    async def get_session_data(self, session_id: str, key: str) -> Any:
        """Return one value of a session; ``None`` if there is none.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_session_data`.
        """
        return await self._server.arun(self._programs.values.data_op(session_id, key))

    async def get_all_session_data(self, session_id: str) -> dict[str, Any]:
        """Return all values of a session by key.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_all_session_data`.
        """
        return await self._server.arun(self._programs.values.all_data_op(session_id))

    async def delete_session_data(self, session_id: str, key: str) -> bool:
        """Remove one value of a session.

        The arguments, result and errors are those of :meth:`RedisMemoryService.delete_session_data`.
        """
        return await self._server.arun(self._programs.values.delete_data_op(session_id, key))

    async def get_all_sessions_for_agent(self, agent_id: str) -> list[str]:
        """Return the ids of the sessions in which an agent has a history, most recently active first.

        The arguments, result and errors are those of
        :meth:`RedisMemoryService.get_all_sessions_for_agent`.
        """
        return await self._server.arun(self._programs.sessions.of_agent_op(agent_id))

    async def get_all_agents_for_session(self, session_id: str) -> list[str]:
        """Return the ids of the agents that have a history in a session, most recently active first.

        The arguments, result and errors are those of
        :meth:`RedisMemoryService.get_all_agents_for_session`.
        """
        return await self._server.arun(self._programs.sessions.agents_of_op(session_id))

    async def get_all_agents(self) -> list[str]:
        """Return the ids of the agents that have a history or a state, in alphabetical order."""
        return await self._server.arun(self._programs.sessions.agents_op())

    async def get_session_info(self, agent_id: str, session_id: str) -> SessionInfo | None:
        """Return the length, activity and time to live of a history without reading its messages.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_session_info`.
        """
        return await self._server.arun(self._programs.info_op(agent_id, session_id))

    async def get_session_infos(self, agent_id: str | None = None) -> list[SessionInfo]:
        """Return a ``SessionInfo`` for every history, most recently active first.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_session_infos`.
        """
        return await self._server.arun(self._programs.sessions.all_op(agent_id))

    async def get_histories_containing(self, pairs: Sequence[tuple[str, str]], text: str) -> set[tuple[str, str]]:
        """Return which of these histories have a message that contains ``text``, ignoring case.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_histories_containing`.
        """
        return await self._server.arun(self._programs.sessions.containing_op(pairs, text))

    async def extend_ttl(self, agent_id: str, session_id: str, ttl: int | None = None) -> bool:
        """Renew the expiry of a history and of its session's data.

        The arguments, result and errors are those of :meth:`RedisMemoryService.extend_ttl`.
        """
        return await self._server.arun(self._programs.sessions.extend_op(agent_id, session_id, ttl))

    async def clear_all_agent_data(self, agent_id: str) -> int:
        """Remove all histories and the state of an agent.

        The arguments, result and errors are those of :meth:`RedisMemoryService.clear_all_agent_data`.
        """
        return await self._server.arun(self._programs.sessions.clear_agent_op(agent_id))

    async def clear_session(self, session_id: str) -> int:
        """Remove the session's data and the history of every agent in it.

        The arguments, result and errors are those of :meth:`RedisMemoryService.clear_session`.
        """
        return await self._server.arun(self._programs.sessions.clear_session_op(session_id))

    async def get_memory_stats(self) -> dict[str, Any]:
        """Return the server's figures, summed over a cluster's primaries.

        The arguments, result and errors are those of :meth:`RedisMemoryService.get_memory_stats`.
        """
        return await self._server.arun(stats_op(self._programs.keys))

    async def reindex(self) -> int:
        """Scan the server once and add histories that are missing from the indexes.

        The arguments, result and errors are those of :meth:`RedisMemoryService.reindex`.
        """
        return await self._server.arun(reindex_op(self._programs.conversations))

    async def export_jsonl(
        self,
        agent_id: str | None = None,
        session_id: str | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> AsyncIterator[str]:
        """Yield histories, agent states and session data as lines of JSON, without newlines.

        The arguments, result and errors are those of :meth:`RedisMemoryService.export_jsonl`.
        """
        yield header()
        units = await self._server.arun(backup.units_op(self._programs.sessions, agent_id, session_id))
        for some in backup.chunks(units, on_progress):
            for line in await self._server.arun(backup.lines_op(self._programs.sessions, some)):
                yield line

    async def import_jsonl(
        self, lines: Iterable[str] | AsyncIterable[str], *, overwrite: bool = False
    ) -> ImportReport:
        """Restore the data that :meth:`export_jsonl` wrote. Times to live count from now.

        The arguments, result and errors are those of :meth:`RedisMemoryService.import_jsonl`.
        """
        importer = backup.Importer(self._programs.sessions, overwrite=overwrite)
        async for line in one_by_one(lines):
            if line.strip():
                await self._server.arun(importer.line_op(line))
        return importer.finish()

    async def health_check(self) -> bool:
        """Return whether the server answers. Never raises."""
        with contextlib.suppress(EcowasError):
            return await self._server.arun(ping_op(self._programs.keys))
        return False

    async def close(self) -> None:
        """Close the connections that this service opened in the running event loop."""
        if self._closes_server:
            await self._server.aclose()

    aclose = close
    """Close the running event loop's connections; see :meth:`close`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
