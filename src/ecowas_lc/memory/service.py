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
from ecowas_lc.memory.json_values import check_history, check_message, check_ttl, lifetime_seconds
from ecowas_lc.memory.reindex import reindex_op
from ecowas_lc.memory.session_index import counting, entries, listing, recently_indexed
from ecowas_lc.memory.sessions import Sessions
from ecowas_lc.memory.states import Values
from ecowas_lc.settings import Settings, get_settings, usable_settings
from ecowas_lc.storage.backup_format import ImportReport, Progress, checked_lines, header
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import EVERY_NODE, Op, command
from ecowas_lc.storage.server import Server


def conversations_on(server: Server, prefix: str | None, default_ttl: int | None) -> Conversations:
    """Return the histories under a prefix on a server; ``prefix=None``: the prefix of the settings."""
    keys = Keys(usable_settings().prefix if prefix is None else prefix)
    return Conversations(keys, default_ttl, recently_indexed(server))


class MemoryPrograms:
    """The programs of one prefix on one server. They check their arguments."""

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
        """Append one message and return the number of messages in the history afterwards."""
        place = self.conversations.place(agent_id, session_id)
        words = entry(check_message(message))
        return (yield from self.conversations.append_op(place, words, max_history=max_history, ttl=ttl))

    def info_op(self, agent_id: str, session_id: str) -> Op[SessionInfo | None]:
        """Return the metadata of one history; ``None`` if it does not exist."""
        found = yield from self.conversations.describe_op([(agent_id, session_id)])
        return found[0] if found else None


_FORBIDDEN = "unknown (this user may not run INFO)"


def stats_op(keys: Keys) -> Op[dict[str, Any]]:
    """Return the server's figures, summed over a cluster's primaries, and the counts of the indexes."""
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
    """Return whether the server answers a command on a key of this prefix."""
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
    """The part that the sync and the async service share: the server, the prefix and the default time to live."""

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
        """Return a service for the server that the settings name.

        ``REDIS_MEMORY_TTL`` becomes its ``default_ttl``.

        Args:
            settings: The settings to use; default: those of the process.
            credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.

        Returns:
            The service. It connects on first use.

        Raises:
            ConfigurationError: The settings can't be used.
        """
        settings = settings or get_settings()
        ttl, prefix = settings.redis_memory_ttl, settings.prefix
        server = Server.from_settings(settings, credential_provider=credential_provider)
        service = cls(server=server, default_ttl=ttl, prefix=prefix)
        service._closes_server = True
        return service

    @property
    def default_ttl(self) -> int | None:
        """Time to live in seconds of data written without a ``ttl``; ``None``: it never expires."""
        return self._default_ttl

    @property
    def prefix(self) -> str:
        """The prefix of every key."""
        return self._programs.keys.prefix

    @property
    def server(self) -> Server:
        """The server; pass it to other objects to share its connections."""
        return self._server

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.where}, prefix={self.prefix!r})"


class RedisMemoryService(MemoryServiceBase):
    """Histories, agent state and session data in Redis or Valkey; safe to share between threads.

    Without arguments it uses ``localhost:6379``. Instead of a host and port you can pass a URL, a client or a
    server. Connections open on first use, so creating a service never fails because the server is down. Use the
    service as it is or with ``with``, which closes it at the end.

    Args:
        host: The server's host name.
        port: The server's port.
        password: The server's password.
        db: The number of the database.
        username: The user name for the login.
        ssl: Whether to connect with TLS.
        ssl_ca_certs: The file of the certificate authorities.
        ssl_certfile: The file of the client certificate.
        ssl_keyfile: The file of the client certificate's key.
        socket_timeout: Seconds to wait for an answer.
        connect_timeout: Seconds to wait for a connection.
        max_connections: The maximum number of connections.
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``.
        client: A redis-py client. You close it yourself.
        async_client: A ``redis.asyncio`` client. You close it yourself.
        server: The ``.server`` of another object, to share its connections.
        credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection, for
            passwords that rotate.
        default_ttl: Time to live in seconds of data written without a ``ttl``; ``None``: it never expires.
        prefix: The prefix of every key; default: ``ECOWAS_LC_PREFIX`` from the settings.

    Timeouts and other options that you leave out come from the settings.

    Every method except ``health_check`` may raise ``InvalidIdError`` (an id that is empty or not text),
    ``RedisUnavailableError`` and ``RedisRefusedError``. Methods that read may raise ``CorruptDataError``. If a key
    holds another program's data, methods raise ``WrongTypeError`` and overwrite nothing.

    Raises:
        ConfigurationError: Arguments that contradict each other or can't be used.
    """

    def save_conversation_history(
        self, agent_id: str, session_id: str, history: Sequence[dict[str, Any]], ttl: int | None = None
    ) -> None:
        """Replace a history with these messages.

        Args:
            agent_id: The agent's id.
            session_id: The session's id.
            history: The messages, oldest first: dicts with ``role`` and ``content``. Other keys are kept
                unchanged. An empty list removes the history.
            ttl: Time to live in seconds; default: ``default_ttl``.

        Raises:
            InvalidInputError: ``history`` is not a list of such dicts, or ``ttl`` is not a whole number of at
                least 1.
            NotSerializableError: A value would not be the same after a round trip through JSON; nothing is
                written.
        """
        self._server.run(self._programs.save_op(agent_id, session_id, history, ttl))

    def get_conversation_history(
        self, agent_id: str, session_id: str, last: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the messages of a history as they were saved, oldest first.

        Args:
            agent_id: The agent's id.
            session_id: The session's id.
            last: Return only this many of the newest messages; only these are read. Default: all.

        Returns:
            A list of dicts with ``role`` and ``content``; ``[]`` if there is no history.
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
        """Append one message in one atomic step, at a cost that does not grow with the history.

        A message whose ``id`` is already in the history is not stored twice, and neither is a message that is sent
        again because the connection broke.

        Args:
            agent_id: The agent's id.
            session_id: The session's id.
            message: A dict with ``role`` and ``content``; other keys are kept unchanged.
            max_history: Keep only this many of the newest messages. A tool call and its results are never
                separated: results whose call is removed are removed too. If only results would be left, their call
                stays with them (for up to 100 results). Default: keep all messages.
            ttl: The exact time to live in seconds from now. Default: the longer of the remaining time and
                ``default_ttl``.

        Returns:
            The number of messages in the history afterwards.

        Raises:
            InvalidInputError: ``message`` is not a dict with ``role`` and ``content``, or ``max_history`` or
                ``ttl`` is below 1.
            NotSerializableError: A value would not be the same after a round trip through JSON; nothing is
                written.
        """
        return self._server.run(self._programs.append_op(agent_id, session_id, message, max_history, ttl))

    def clear_conversation_history(self, agent_id: str, session_id: str) -> bool:
        """Remove a history.

        Args:
            agent_id: The agent's id.
            session_id: The session's id.

        Returns:
            Whether the history existed.
        """
        return self._server.run(self._programs.sessions.clear_op(agent_id, session_id))

    def save_agent_state(self, agent_id: str, state: Any, ttl: int | None = None) -> None:
        """Store the state of an agent.

        Args:
            agent_id: The agent's id.
            state: Any value that JSON can represent.
            ttl: Time to live in seconds; default: ``default_ttl``.

        Raises:
            NotSerializableError: A value would not be the same after a round trip through JSON; nothing is
                written.
        """
        self._server.run(self._programs.values.save_state_op(agent_id, state, ttl))

    def get_agent_state(self, agent_id: str) -> Any:
        """Return the state of an agent; ``None`` if there is none.

        Args:
            agent_id: The agent's id.
        """
        return self._server.run(self._programs.values.state_op(agent_id))

    def set_session_data(self, session_id: str, key: str, value: Any, ttl: int | None = None) -> None:
        """Store one value of a session.

        Args:
            session_id: The session's id.
            key: The name of the value.
            value: Any value that JSON can represent.
            ttl: Time to live in seconds; default: ``default_ttl``.

        Raises:
            NotSerializableError: A value would not be the same after a round trip through JSON; nothing is
                written.
        """
        self._server.run(self._programs.values.set_data_op(session_id, key, value, ttl))

    def get_session_data(self, session_id: str, key: str) -> Any:
        """Return one value of a session; ``None`` if there is none.

        Args:
            session_id: The session's id.
            key: The name of the value.
        """
        return self._server.run(self._programs.values.data_op(session_id, key))

    def get_all_session_data(self, session_id: str) -> dict[str, Any]:
        """Return all values of a session by key.

        Args:
            session_id: The session's id.

        Returns:
            A dict of the values; ``{}`` if the session has none.
        """
        return self._server.run(self._programs.values.all_data_op(session_id))

    def delete_session_data(self, session_id: str, key: str) -> bool:
        """Remove one value of a session.

        Args:
            session_id: The session's id.
            key: The name of the value.

        Returns:
            Whether the value existed.
        """
        return self._server.run(self._programs.values.delete_data_op(session_id, key))

    def get_all_sessions_for_agent(self, agent_id: str) -> list[str]:
        """Return the ids of the sessions in which an agent has a history, most recently active first.

        Args:
            agent_id: The agent's id.
        """
        return self._server.run(self._programs.sessions.of_agent_op(agent_id))

    def get_all_agents_for_session(self, session_id: str) -> list[str]:
        """Return the ids of the agents that have a history in a session, most recently active first.

        Args:
            session_id: The session's id.
        """
        return self._server.run(self._programs.sessions.agents_of_op(session_id))

    def get_all_agents(self) -> list[str]:
        """Return the ids of the agents that have a history or a state, in alphabetical order."""
        return self._server.run(self._programs.sessions.agents_op())

    def get_session_info(self, agent_id: str, session_id: str) -> SessionInfo | None:
        """Return the length, activity and time to live of a history without reading its messages.

        Args:
            agent_id: The agent's id.
            session_id: The session's id.

        Returns:
            A ``SessionInfo``; ``None`` if the history does not exist.
        """
        return self._server.run(self._programs.info_op(agent_id, session_id))

    def get_session_infos(self, agent_id: str | None = None) -> list[SessionInfo]:
        """Return a ``SessionInfo`` for every history, most recently active first.

        Args:
            agent_id: Only the histories of this agent; default: of all agents.
        """
        return self._server.run(self._programs.sessions.all_op(agent_id))

    def get_histories_containing(self, pairs: Sequence[tuple[str, str]], text: str) -> set[tuple[str, str]]:
        """Return which of these histories have a message that contains ``text``, ignoring case.

        Args:
            pairs: The histories to search, as (agent id, session id).
            text: The text to search for.

        Returns:
            The pairs of the histories that contain it.
        """
        return self._server.run(self._programs.sessions.containing_op(pairs, text))

    def extend_ttl(self, agent_id: str, session_id: str, ttl: int | None = None) -> bool:
        """Renew the expiry of a history and of its session's data.

        Args:
            agent_id: The agent's id.
            session_id: The session's id.
            ttl: The exact time to live in seconds from now. Default: the longer of the remaining time and
                ``default_ttl``.

        Returns:
            Whether there was anything to renew.
        """
        return self._server.run(self._programs.sessions.extend_op(agent_id, session_id, ttl))

    def clear_all_agent_data(self, agent_id: str) -> int:
        """Remove all histories and the state of an agent.

        Args:
            agent_id: The agent's id.

        Returns:
            The number of histories and states removed.
        """
        return self._server.run(self._programs.sessions.clear_agent_op(agent_id))

    def clear_session(self, session_id: str) -> int:
        """Remove the session's data and the history of every agent in it.

        Args:
            session_id: The session's id.

        Returns:
            The number of histories and values removed.
        """
        return self._server.run(self._programs.sessions.clear_session_op(session_id))

    def get_memory_stats(self) -> dict[str, Any]:
        """Return the server's figures, summed over a cluster's primaries.

        Returns:
            A dict. ``used_memory`` (text), ``used_memory_bytes`` and ``total_keys`` cover the whole server; if
            this user may not read them, the text says so and the numbers are ``None``. ``agents``, ``sessions``,
            ``histories`` and ``threads`` are the counts of this prefix's indexes; ``nodes`` is the number of
            primaries.
        """
        return self._server.run(stats_op(self._programs.keys))

    def reindex(self) -> int:
        """Scan the server once and add histories that are missing from the indexes.

        Call this if other programs wrote data, or if Redis evicted the indexes. No other method scans. The user
        needs permission for SCAN.

        Returns:
            The number of histories added.
        """
        return self._server.run(reindex_op(self._programs.conversations))

    def export_jsonl(
        self,
        agent_id: str | None = None,
        session_id: str | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> Iterator[str]:
        """Yield histories, agent states and session data as lines of JSON, without newlines.

        The export streams: only a few histories are in memory at a time. To export threads, use
        ``RedisSaver.export_jsonl``, which writes the same format.

        Args:
            agent_id: Only the data of this agent; default: of all agents.
            session_id: Only the data of this session; default: of all sessions.
            on_progress: Called with the number of histories done and their total.
        """
        yield header()
        units = self._server.run(backup.units_op(self._programs.sessions, agent_id, session_id))
        for some in backup.chunks(units, on_progress):
            yield from self._server.run(backup.lines_op(self._programs.sessions, some))

    def import_jsonl(self, lines: Iterable[str], *, overwrite: bool = False) -> ImportReport:
        """Restore the data that :meth:`export_jsonl` wrote. Times to live count from now.

        Importing the same lines again changes nothing. Lines with threads are skipped; import them with a saver.

        Args:
            lines: The lines of an export.
            overwrite: Replace existing data that differs; by default it is kept and listed in the report.

        Returns:
            An ``ImportReport``.

        Raises:
            InvalidInputError: ``lines`` is a single string, or not an iterable of lines.
            CorruptDataError: A line can't be read; the message gives its number. The lines before it are imported.
            FormatVersionError: A newer version of this package wrote the lines.
        """
        importer = backup.Importer(self._programs.sessions, overwrite=overwrite)
        for line in checked_lines(lines):
            if line.strip():
                self._server.run(importer.line_op(line))
        return importer.finish()

    def health_check(self) -> bool:
        """Return whether the server answers. Never raises."""
        with contextlib.suppress(EcowasError):
            return self._server.run(ping_op(self._programs.keys))
        return False

    def close(self) -> None:
        """Close the connections that this service opened. The next use opens new ones."""
        if self._closes_server:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
