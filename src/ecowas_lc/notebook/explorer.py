"""All data of one server, to explore in a notebook."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Any, Self

from ecowas_lc._display import Displayed
from ecowas_lc.checkpoint import RedisSaver, SavedThread
from ecowas_lc.checkpoint.listing import ThreadRow
from ecowas_lc.documents import Documents
from ecowas_lc.drawing import (
    ActivityPicture,
    GraphPicture,
    StatePicture,
    ThreadPicture,
    draw_activity,
    draw_graph,
    draw_state,
    draw_thread,
)
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.server import Server
from ecowas_lc.store import RedisStore
from ecowas_lc.supervisor.routing import RouteDecision, get_router
from ecowas_lc.twg import TWG, default_groups

_COMPLETED = 200


def explore(url: str | None = None, *, prefix: str | None = None, settings: Settings | None = None) -> Explorer:
    """Return a server's data to explore: threads, sessions, histories, stores and documents.

    Args:
        url: The server's URL. Defaults to the server that the settings name, or the embedded server.
        prefix: The prefix of all keys. Defaults to the settings' prefix.
        settings: The settings to use. Defaults to those of the environment.

    Returns:
        The explorer.
    """
    chosen = settings or get_settings()
    server = Server.from_url(url) if url is not None else Server.from_settings(chosen)
    return Explorer(server, chosen.prefix if prefix is None else prefix, default_ttl=chosen.redis_memory_ttl)


class Threads:
    """A saver's threads by id: ``threads["summit"]``. Tab completes ids."""

    def __init__(self, saver: RedisSaver) -> None:
        self._saver = saver

    def __getitem__(self, thread_id: str) -> SavedThread:
        return self._saver.thread(thread_id)

    def _ipython_key_completions_(self) -> list[str]:
        return [row.id for row in self._saver.threads(limit=_COMPLETED)]

    def _repr_html_(self) -> str | None:
        return self._saver._repr_html_()


class Explorer(Displayed):
    """The data of one server; :func:`explore` creates one. In a notebook, it shows an overview.

    Args:
        server: The server.
        prefix: The prefix of all keys.
        default_ttl: Seconds until data written here expires (``None``: never).
    """

    def __init__(self, server: Server, prefix: str, *, default_ttl: int | None = None) -> None:
        self.server = server
        self.prefix = prefix
        self.default_ttl = default_ttl

    @cached_property
    def saver(self) -> RedisSaver:
        """The checkpointer, which stores the threads."""
        return RedisSaver(server=self.server, prefix=self.prefix, default_ttl=self.default_ttl)

    @cached_property
    def memory(self) -> RedisMemoryService:
        """The histories, agents' states and sessions' data."""
        return RedisMemoryService(server=self.server, prefix=self.prefix, default_ttl=self.default_ttl)

    @cached_property
    def store(self) -> RedisStore:
        """The long-term memory."""
        return RedisStore(server=self.server, prefix=self.prefix)

    @cached_property
    def documents(self) -> Documents:
        """The documents that answers are based on."""
        return Documents.from_server(self.server, prefix=self.prefix)

    @property
    def threads(self) -> Threads:
        """The threads by id, with completion: ``threads["summit"]`` shows a conversation."""
        return Threads(self.saver)

    @property
    def groups(self) -> tuple[TWG, ...]:
        """The summit's working groups."""
        return tuple(default_groups())

    def thread(self, thread_id: str) -> SavedThread:
        """Return a thread, which notebooks display as a conversation."""
        return self.saver.thread(thread_id)

    def history(self, agent_id: str, session_id: str) -> RedisChatMessageHistory:
        """Return an agent's history in a session."""
        return RedisChatMessageHistory(agent_id, session_id, server=self.server, prefix=self.prefix)

    def waiting(self) -> list[ThreadRow]:
        """Return the threads that wait for a decision."""
        return self.saver.waiting()

    def route(self, question: str, *, router: str = "hybrid") -> RouteDecision:
        """Return the groups that a question concerns, and why."""
        return get_router(router).route(question)

    def timeline(self, thread_id: str, *, limit: int | None = 100) -> ThreadPicture:
        """Return a picture of a thread's checkpoints, with forks, approvals and failures."""
        return draw_thread(self.saver, thread_id, limit=limit)

    def state(self, thread_id: str) -> StatePicture:
        """Return a picture of how a thread's state grew and changed."""
        return draw_state(self.saver, thread_id)

    def activity(self) -> ActivityPicture:
        """Return a picture of the sessions over time."""
        return draw_activity(self.memory)

    def picture(self, graph: Any, route: Any = None) -> GraphPicture:
        """Return a picture of a compiled graph or a chain, and of the route that a run took."""
        return draw_graph(graph, route)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.where}, prefix={self.prefix!r})"
