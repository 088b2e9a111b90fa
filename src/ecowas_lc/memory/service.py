"""The memory service: histories, agent state and session data by name, in Redis or Valkey.

The programs of its API are written once here; the sync and the async service run them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ecowas_lc._display import Displayed
from ecowas_lc.errors import ConfigurationError, EcowasError, InvalidInputError
from ecowas_lc.memory import backup
from ecowas_lc.memory.connections import server_from
from ecowas_lc.memory.histories import Conversations, SessionInfo, entry
from ecowas_lc.memory.index import counting, entries, listing, recently_indexed
from ecowas_lc.memory.json_values import check_history, check_message, check_ttl, lifetime_seconds
from ecowas_lc.memory.reindex import reindex_op
from ecowas_lc.memory.sessions import Sessions
from ecowas_lc.memory.values import Values
from ecowas_lc.settings import Settings, get_settings, usable_settings
from ecowas_lc.storage.backup_format import ImportReport, Progress, checked_lines, header
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import EVERY_NODE, Op, command
from ecowas_lc.storage.server import Server


def conversations_on(server: Server, prefix: str | None, default_ttl: int | None) -> Conversations:
    """The histories of a prefix (``None``: the settings') on a server."""
    keys = Keys(usable_settings().prefix if prefix is None else prefix)
    return Conversations(keys, default_ttl, recently_indexed(server))


class MemoryPrograms:
    """The programs of one prefix on one server, arguments checked."""

    def __init__(self, server: Server, prefix: str | None, default_ttl: int | None) -> None:
        if default_ttl is not None:
            try:
                check_ttl(default_ttl, "default_ttl")
            except InvalidInputError as error:
                raise ConfigurationError(str(error)) from None
        self.conversations = conversations_on(server, prefix, default_ttl)
        self.keys = self.conversations.keys
        self.values = Values(self.keys, default_ttl)
        self.sessions = Sessions(self.conversations, self.values)

    def save_op(self, agent_id: str, session_id: str, history: Any, ttl: int | None) -> Op[None]:
        """Replace a history; an empty one is removed."""
        messages = check_history(history)
        lifetime = lifetime_seconds(ttl, self.values.default_ttl)
        if messages:
            yield from self.conversations.replace_op(agent_id, session_id, messages, lifetime=lifetime)
        else:
            yield from self.sessions.clear_op(agent_id, session_id)

    def append_op(
        self, agent_id: str, session_id: str, message: Any, max_history: int | None, ttl: int | None
    ) -> Op[int]:
        """Append one message; how many the history holds then."""
        place = self.conversations.place(agent_id, session_id)
        words = entry(check_message(message))
        return (yield from self.conversations.append_op(place, words, max_history=max_history, ttl=ttl))

    def info_op(self, agent_id: str, session_id: str) -> Op[SessionInfo | None]:
        """What is known of one history."""
        found = yield from self.conversations.describe_op([(agent_id, session_id)])
        return found[0] if found else None


_FORBIDDEN = "unknown (this user may not run INFO)"


def stats_op(keys: Keys) -> Op[dict[str, Any]]:
    """What the server holds, summed over a cluster's primaries, and what the indexes count."""
    [sizes] = yield (command("DBSIZE", optional=True, node=EVERY_NODE),)
    [infos] = yield (command("INFO", "memory", optional=True, node=EVERY_NODE),)
    used = [_used_memory(info) for info in infos.values()]
    used_bytes = None if None in used else sum(size for size in used if size is not None)
    known_sizes = [size for size in sizes.values() if isinstance(size, int)]
    agents, sessions, threads = yield (
        listing(keys.agents()),
        counting(keys.sessions()),
        command("ZCARD", keys.threads()),
    )
    names = list(entries(agents))
    histories = (yield tuple(counting(keys.sessions_of_agent(name)) for name in names)) if names else []
    return {
        "used_memory": _FORBIDDEN if used_bytes is None else _human(used_bytes),
        "used_memory_bytes": used_bytes,
        "total_keys": sum(known_sizes) if len(known_sizes) == len(sizes) else None,
        "nodes": len(sizes),
        "agents": len(names),
        "sessions": sessions,
        "histories": sum(histories),
        "threads": threads,
    }


def ping_op(keys: Keys) -> Op[bool]:
    """Whether the server answers a question about this prefix."""
    yield (command("EXISTS", keys.agents()),)
    return True


def _used_memory(info: Any) -> int | None:
    if isinstance(info, Exception):
        return None
    if isinstance(info, dict):  # redis-py parses INFO by itself
        return int(info["used_memory"])
    lines = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    return int(lines[b"used_memory"])


def _human(size: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if size < 1024 or unit == "G":
            break
        size /= 1024
    return f"{size:.2f}{unit}"


class MemoryServiceBase(Displayed):
    """What the sync and the async service share: where they store, and for how long."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        default_ttl: int | None = 86400,
        *,
        url: str | None = None,
        client: Any = None,
        async_client: Any = None,
        server: Server | None = None,
        prefix: str | None = None,
        username: str | None = None,
        ssl: bool = False,
        ssl_ca_certs: str | Path | None = None,
        ssl_certfile: str | Path | None = None,
        ssl_keyfile: str | Path | None = None,
        socket_timeout: float | None = None,
        connect_timeout: float | None = None,
        max_connections: int | None = None,
        credential_provider: Any = None,
    ) -> None:
        self._server = server_from(
            host,
            port,
            db,
            password,
            username=username,
            url=url,
            client=client,
            async_client=async_client,
            server=server,
            ssl=ssl,
            ssl_ca_certs=ssl_ca_certs,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            socket_timeout=socket_timeout,
            connect_timeout=connect_timeout,
            max_connections=max_connections,
            credential_provider=credential_provider,
        )
        self._closes_server = server is None
        self._programs = MemoryPrograms(self._server, prefix, default_ttl)
        self._default_ttl = default_ttl

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, credential_provider: Any = None) -> Self:
        """A service for the server that the settings name, ``REDIS_MEMORY_TTL`` being its ``default_ttl``."""
        settings = settings or get_settings()
        ttl, prefix = settings.redis_memory_ttl, settings.prefix
        server = Server.from_settings(settings, credential_provider=credential_provider)
        service = cls(server=server, default_ttl=ttl, prefix=prefix)
        service._closes_server = True
        return service

    @property
    def default_ttl(self) -> int | None:
        """Seconds that what is written without a ``ttl`` lives; ``None``: for ever."""
        return self._default_ttl

    @property
    def prefix(self) -> str:
        """What every key starts with."""
        return self._programs.keys.prefix

    @property
    def server(self) -> Server:
        """The server, for other objects that are to share its connections."""
        return self._server

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.where}, prefix={self.prefix!r})"


class RedisMemoryService(MemoryServiceBase):
    """Histories, agent state and session data in Redis or Valkey, safe to share between threads.

    Without arguments it talks to ``localhost:6379``. ``default_ttl`` is in seconds (``None``: for ever).
    Instead of host and port give ``url`` (``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``,
    ``redis+cluster://``), ``client`` (a redis-py client that stays yours to close) or ``server`` (another
    object's ``.server``). Each new connection asks ``credential_provider``, redis-py's ``CredentialProvider``, for
    its login: for passwords that rotate. ``prefix`` starts every key (default: the settings'
    ``ECOWAS_LC_PREFIX``); timeouts are in seconds, and what is not given comes from the settings. Connections are
    opened on first use, so creating a service never fails for want of a server. It is also a context manager.

    Every method but ``health_check`` may raise ``InvalidIdError`` (an id that is empty or not text),
    ``RedisUnavailableError`` and ``RedisRefusedError``; those that read, ``CorruptDataError``; and where another
    program's data is at one of our keys, ``WrongTypeError``, nothing being overwritten.

    Raises:
        ConfigurationError: arguments that contradict each other or can't be used.
    """

    def save_conversation_history(
        self, agent_id: str, session_id: str, history: Sequence[dict[str, Any]], ttl: int | None = None
    ) -> None:
        """Replace a history with these messages, to live ``ttl`` seconds (default: ``default_ttl``).

        Each message is a dict with ``role`` and ``content``; other keys are kept as they are. An empty list
        removes the history.

        Raises:
            InvalidInputError: not a list of such dicts, or a ttl that is not a whole number from 1 on.
            NotSerializableError: a value that would not come back from JSON the same; nothing is written.
        """
        self._server.run(self._programs.save_op(agent_id, session_id, history, ttl))

    def get_conversation_history(
        self, agent_id: str, session_id: str, last: int | None = None
    ) -> list[dict[str, Any]]:
        """The messages, oldest first, as they were saved; ``[]`` if there are none.

        With ``last``, only the last so many, at the cost of so many.
        """
        return self._server.run(self._programs.conversations.read_op(agent_id, session_id, last))

    def append_to_history(
        self,
        agent_id: str,
        session_id: str,
        message: dict[str, Any],
        max_history: int | None = None,
        ttl: int | None = None,
    ) -> int:
        """Append one message; the number of messages that the history holds then.

        One atomic step at a cost that does not grow with the history. ``max_history`` keeps the last so many,
        and never cuts between a call of tools and its results: results whose call goes, go too, and where
        nothing but results would be left their call stays with them (of up to a hundred results). Without
        ``ttl`` (seconds) the history lives for the longer of what it had left and ``default_ttl``; with it,
        exactly so long. A message whose ``id`` the history knows is not stored again; nor is one sent again
        because the connection broke.

        Raises:
            InvalidInputError: not a dict with ``role`` and ``content``; ``max_history`` or ``ttl`` below 1.
            NotSerializableError: a value that would not come back from JSON the same; nothing is written.
        """
        return self._server.run(self._programs.append_op(agent_id, session_id, message, max_history, ttl))

    def clear_conversation_history(self, agent_id: str, session_id: str) -> bool:
        """Remove a history; whether there was one."""
        return self._server.run(self._programs.sessions.clear_op(agent_id, session_id))

    def save_agent_state(self, agent_id: str, state: Any, ttl: int | None = None) -> None:
        """Store an agent's state, any JSON-able value, for ``ttl`` seconds (default: ``default_ttl``).

        Raises:
            NotSerializableError: a value that would not come back from JSON the same; nothing is written.
        """
        self._server.run(self._programs.values.save_state_op(agent_id, state, ttl))

    def get_agent_state(self, agent_id: str) -> Any:
        """An agent's state; ``None`` if there is none."""
        return self._server.run(self._programs.values.state_op(agent_id))

    def set_session_data(self, session_id: str, key: str, value: Any, ttl: int | None = None) -> None:
        """Store a session's value, any JSON-able one, for ``ttl`` seconds (default: ``default_ttl``).

        Raises:
            NotSerializableError: a value that would not come back from JSON the same; nothing is written.
        """
        self._server.run(self._programs.values.set_data_op(session_id, key, value, ttl))

    def get_session_data(self, session_id: str, key: str) -> Any:
        """A session's value; ``None`` if there is none."""
        return self._server.run(self._programs.values.data_op(session_id, key))

    def get_all_session_data(self, session_id: str) -> dict[str, Any]:
        """Every value of a session by its key."""
        return self._server.run(self._programs.values.all_data_op(session_id))

    def delete_session_data(self, session_id: str, key: str) -> bool:
        """Remove a session's value; whether there was one."""
        return self._server.run(self._programs.values.delete_data_op(session_id, key))

    def get_all_sessions_for_agent(self, agent_id: str) -> list[str]:
        """The ids of the sessions in which an agent has a history now, most recently active first."""
        return self._server.run(self._programs.sessions.of_agent_op(agent_id))

    def get_all_agents_for_session(self, session_id: str) -> list[str]:
        """The ids of the agents that have a history in a session now, most recently active first."""
        return self._server.run(self._programs.sessions.agents_of_op(session_id))

    def get_all_agents(self) -> list[str]:
        """The ids of the agents with histories or a state, in alphabetical order."""
        return self._server.run(self._programs.sessions.agents_op())

    def get_session_info(self, agent_id: str, session_id: str) -> SessionInfo | None:
        """What is known of a history without reading it: length, activity, time to live; ``None`` if none."""
        return self._server.run(self._programs.info_op(agent_id, session_id))

    def get_session_infos(self, agent_id: str | None = None) -> list[SessionInfo]:
        """The same for every history, or every one of an agent; most recently active first."""
        return self._server.run(self._programs.sessions.all_op(agent_id))

    def get_histories_containing(self, pairs: Sequence[tuple[str, str]], text: str) -> set[tuple[str, str]]:
        """Which of these histories, as (agent, session), have a message with ``text`` in it, in any case."""
        return self._server.run(self._programs.sessions.containing_op(pairs, text))

    def extend_ttl(self, agent_id: str, session_id: str, ttl: int | None = None) -> bool:
        """Renew a history and its session's data; whether there was anything to renew.

        With ``ttl`` they live exactly so many seconds from now; without, for the longer of what they had left and
        ``default_ttl``.
        """
        return self._server.run(self._programs.sessions.extend_op(agent_id, session_id, ttl))

    def clear_all_agent_data(self, agent_id: str) -> int:
        """Remove all histories and the state of an agent; how many there were."""
        return self._server.run(self._programs.sessions.clear_agent_op(agent_id))

    def clear_session(self, session_id: str) -> int:
        """Remove every agent's history in a session and the session's data; how many there were."""
        return self._server.run(self._programs.sessions.clear_session_op(session_id))

    def get_memory_stats(self) -> dict[str, Any]:
        """What the server holds, summed over a cluster's primaries.

        ``used_memory`` (text), ``used_memory_bytes`` and ``total_keys`` are the whole server's; where this user
        may not ask for them the text says so and the numbers are ``None``. ``agents``, ``sessions``,
        ``histories`` and ``threads`` are this prefix's as its indexes count them; ``nodes`` counts primaries.
        """
        return self._server.run(stats_op(self._programs.keys))

    def reindex(self) -> int:
        """Find, by scanning the server once, what the indexes don't know; how many histories were new to them.

        Needed once for data that other programs wrote; nothing else ever scans.
        """
        return self._server.run(reindex_op(self._programs.conversations))

    def export_jsonl(
        self,
        agent_id: str | None = None,
        session_id: str | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> Iterator[str]:
        """Histories, agent states and session data as lines of JSON, without newlines.

        Everything, or only an agent's or a session's. Streams: a few histories are in memory at a time.
        ``on_progress`` is called with how many of them are done and how many there are. Threads are a
        saver's to export, in the same format: ``RedisSaver.export_jsonl``.
        """
        yield header()
        units = self._server.run(backup.units_op(self._programs.sessions, agent_id, session_id))
        for some in backup.chunks(units, on_progress):
            yield from self._server.run(backup.lines_op(self._programs.sessions, some))

    def import_jsonl(self, lines: Iterable[str], *, overwrite: bool = False) -> ImportReport:
        """Restore what :meth:`export_jsonl` gave. Times to live count from now.

        What exists with other contents is left as it is, and named in the report, unless ``overwrite``. Importing
        again changes nothing. Threads in the lines are passed over: a saver imports them.

        Raises:
            InvalidInputError: ``lines`` is one text, or nothing that has lines.
            CorruptDataError: a line that can't be read, by its number; those before it are imported.
            FormatVersionError: a newer version of this package wrote the lines.
        """
        importer = backup.Importer(self._programs.sessions, overwrite=overwrite)
        for line in checked_lines(lines):
            if line.strip():
                self._server.run(importer.line_op(line))
        return importer.finish()

    def health_check(self) -> bool:
        """Whether the server answers; never raises."""
        with contextlib.suppress(EcowasError):
            return self._server.run(ping_op(self._programs.keys))
        return False

    def close(self) -> None:
        """Close the connections, where they are this service's own; the next use opens new ones."""
        if self._closes_server:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
