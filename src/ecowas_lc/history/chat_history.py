"""LangChain's chat message history on Redis or Valkey."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from ecowas_lc._display import Displayed
from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.history.messages import from_document, to_document, to_entry
from ecowas_lc.history.window import TokenCounter, Window, read_all_op, read_op
from ecowas_lc.memory.connections import shared_server
from ecowas_lc.memory.histories import SessionInfo
from ecowas_lc.memory.json_values import check_count, check_ttl, lifetime_and_rule, shown
from ecowas_lc.memory.service import MemoryPrograms
from ecowas_lc.settings import get_settings, usable_settings
from ecowas_lc.storage.credentials import check_belongs_to_address
from ecowas_lc.storage.keys import checked_operation
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server

_ID_BYTES = 12  # enough that no two are ever the same, short enough to travel and be kept with each message


class RedisChatMessageHistory(Displayed, BaseChatMessageHistory):
    """The messages of one agent in one session, sync and async, each message with every field it has.

    LangChain recommends a checkpointer for agents and graphs, and deprecated the base class; use this for a
    transcript of its own: one that outlives a graph, that several programs read, or behind
    ``RunnableWithMessageHistory``.

    Give ``url``, or ``client`` (a redis-py client, sync or async, that stays yours to close), or ``server``
    (another object's ``.server``); without any it is the server that the settings name. Each new connection asks
    ``credential_provider`` (redis-py's ``CredentialProvider``) for its login. All histories of one
    process at one URL share their connections, so making one costs nothing.

    ``ttl`` is in seconds: each write makes the history live exactly so long. Without it, a write keeps the
    longer of what was left and ``default_ttl`` (default: the settings' ``REDIS_MEMORY_TTL``). Reading gives at
    most the last ``max_messages``, and of those what fits ``max_tokens`` as ``token_counter`` counts (a function
    of a list of messages, or of one if annotated so, or a model; default: an approximation); it costs what it
    gives. ``max_history`` removes all but the last so many on each write. Neither cuts between a call of tools
    and its results.

    A message whose id the history knows is not stored again, so adding may be repeated. One without an id gets one
    where it is stored, and your object stays as it is: added twice, it is stored twice.

    Raises:
        InvalidIdError: an id that is empty or not text.
        ConfigurationError: arguments that contradict each other or can't be used.
        InvalidInputError: a limit or ttl that is not a whole number from 1 on.
    """

    appends_once: ClassVar[bool] = True
    """For the supervisor: a repeated id is told here, so nothing need be read before an append."""

    def __init__(
        self,
        agent_id: str,
        session_id: str,
        url: str | None = None,
        client: Any = None,
        ttl: int | None = None,
        max_messages: int | None = None,
        max_tokens: int | None = None,
        token_counter: TokenCounter | None = None,
        *,
        max_history: int | None = None,
        server: Server | None = None,
        prefix: str | None = None,
        default_ttl: int | Literal["settings"] | None = "settings",
        credential_provider: Any = None,
    ) -> None:
        super().__init__()
        self._agent_id = agent_id
        self._session_id = session_id
        self._server = _server(url, client, server, credential_provider)
        self._window = Window(max_messages, max_tokens, token_counter)
        self._ttl = None if ttl is None else check_ttl(ttl)
        self._max_history = None if max_history is None else check_count(max_history, "max_history")
        settings = get_settings if url is client is server is None else usable_settings
        default = settings().redis_memory_ttl if default_ttl == "settings" else default_ttl
        self._programs = MemoryPrograms(self._server, prefix, default)
        self._place = self._programs.conversations.place(agent_id, session_id)

    @property
    def agent_id(self) -> str:
        """Whose messages these are."""
        return self._agent_id

    @property
    def session_id(self) -> str:
        """The session they belong to."""
        return self._session_id

    @property
    def max_history(self) -> int | None:
        """How many messages a write leaves; ``None``: all."""
        return self._max_history

    @property
    def key(self) -> str:
        """The key of the list on the server."""
        return shown(self._place.keys[0])

    @property
    def server(self) -> Server:
        """The server, for other objects that are to share its connections."""
        return self._server

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # LangChain means a property, too
        """The messages in the window, oldest first; without a window, all of them."""
        return self._server.run(self._read_op())

    async def aget_messages(self) -> list[BaseMessage]:
        """The messages in the window, oldest first; without a window, all of them."""
        return await self._server.arun(self._read_op())

    def all_messages(self) -> list[BaseMessage]:
        """Every message, whatever the window; those without an id have one made from what they hold."""
        return self._server.run(self._read_all_op())

    async def aall_messages(self) -> list[BaseMessage]:
        """Every message, whatever the window: see :meth:`all_messages`."""
        return await self._server.arun(self._read_all_op())

    def add_messages(
        self, messages: Sequence[BaseMessage], *, ages: Sequence[float] = (), after: str = ""
    ) -> None:
        """Append messages in one atomic step, except those that the history knows by their id.

        Args:
            messages: The messages. They are left as they are: one without an id gets an id where it is stored.
            ages: For a program that kept messages while Redis was down: how many seconds ago each was said.
                Messages that were said before the history, or its whole session, was cleared are left out.
            after: The operation of your own last :meth:`clear`, after which they were said.

        Raises:
            InvalidInputError: One is not a LangChain message, or there are not as many ages as messages.
            NotSerializableError: One would not come back the same; nothing is written.
        """
        self._server.run(self._add_op(messages, ages, after))

    async def aadd_messages(
        self, messages: Sequence[BaseMessage], *, ages: Sequence[float] = (), after: str = ""
    ) -> None:
        """Append messages: see :meth:`add_messages`."""
        await self._server.arun(self._add_op(messages, ages, after))

    def latest(self, count: int | None) -> list[BaseMessage]:
        """Return the last ``count`` messages as they are stored (``None``: all), whatever the window."""
        return self._server.run(self._latest_op(count))

    async def alatest(self, count: int | None) -> list[BaseMessage]:
        """Return the last ``count`` messages: see :meth:`latest`."""
        return await self._server.arun(self._latest_op(count))

    def replace_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Put messages in the place of all that the history holds, in one atomic step; none remove it.

        Raises:
            NotSerializableError: one would not come back the same; nothing is written.
        """
        self._server.run(self._replace_op(messages))

    async def areplace_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Replace all messages: see :meth:`replace_messages`."""
        await self._server.arun(self._replace_op(messages))

    def clear(self, *, operation: str | None = None, age: float = 0) -> None:
        """Remove all messages.

        Args:
            operation: A name for this removal, of letters and digits. If you repeat it because you don't know
                whether it was done, it removes nothing that others have added since.
            age: How many seconds ago the removal was asked for: a history that began since is left as it is.
        """
        self._server.run(self._clear_op(operation, age))

    async def aclear(self, *, operation: str | None = None, age: float = 0) -> None:
        """Remove all messages: see :meth:`clear`."""
        await self._server.arun(self._clear_op(operation, age))

    def info(self) -> SessionInfo | None:
        """Length, activity and time to live, without reading the messages; ``None`` while there are none."""
        return self._server.run(self._programs.info_op(self._agent_id, self._session_id))

    async def ainfo(self) -> SessionInfo | None:
        """Length, activity and time to live: see :meth:`info`."""
        return await self._server.arun(self._programs.info_op(self._agent_id, self._session_id))

    def extend_ttl(self, ttl: int | None = None) -> bool:
        """Renew the history and its session's data for ``ttl`` seconds (default: this history's); whether any."""
        return self._server.run(self._extend_op(ttl))

    async def aextend_ttl(self, ttl: int | None = None) -> bool:
        """Renew the history and its session's data: see :meth:`extend_ttl`."""
        return await self._server.arun(self._extend_op(ttl))

    def _read_op(self) -> Op[list[BaseMessage]]:
        return read_op(self._programs.conversations, self._agent_id, self._session_id, self._window)

    def _read_all_op(self) -> Op[list[BaseMessage]]:
        return read_all_op(self._programs.conversations, self._agent_id, self._session_id)

    def _latest_op(self, count: int | None) -> Op[list[BaseMessage]]:
        start = 0 if count is None else -check_count(count, "count")
        key = self._place.keys[0]
        documents = yield from self._programs.conversations.slice_op(key, start, -1)
        first = 0 if count is None else -len(documents)
        return [from_document(document, key, index) for index, document in enumerate(documents, first)]

    def _replace_op(self, messages: Sequence[BaseMessage]) -> Op[None]:
        if not messages:
            yield from self._programs.sessions.clear_op(self._agent_id, self._session_id)
            return
        documents = [to_document(message) for message in messages]
        conversations = self._programs.conversations
        lifetime, rule = lifetime_and_rule(self._ttl, conversations.default_ttl)
        yield from conversations.replace_op(
            self._agent_id, self._session_id, documents, lifetime=lifetime, rule=rule
        )

    def _clear_op(self, operation: str | None, age: float) -> Op[bool]:
        checked_operation(operation)
        return self._programs.sessions.clear_op(
            self._agent_id, self._session_id, operation=operation, age_ms=max(0, int(1000 * age))
        )

    def _add_op(self, messages: Sequence[BaseMessage], ages: Sequence[float], after: str) -> Op[None]:
        if ages and len(ages) != len(messages):
            raise InvalidInputError(f"There are {len(messages)} messages and {len(ages)} ages: give one for each.")
        checked_operation(after or None)
        words: list[bytes] = []
        for message in messages:
            if not isinstance(message, BaseMessage):
                raise InvalidInputError(
                    f"A history holds LangChain messages, not {type(message).__name__}. For dicts with role and "
                    "content use RedisMemoryService, or langchain_core.messages.convert_to_messages."
                )
            # On a copy: added once more, the caller's object is another message, and others may hold it too.
            named = message.id is not None
            words += to_entry(
                message if named else message.model_copy(update={"id": secrets.token_urlsafe(_ID_BYTES)})
            )
        if words:
            yield from self._programs.conversations.append_op(
                self._place,
                words,
                max_history=self._max_history,
                ttl=self._ttl,
                ages=[max(0, int(1000 * age)) for age in ages],
                after=after,
            )

    def _extend_op(self, ttl: int | None) -> Op[bool]:
        ttl = self._ttl if ttl is None else ttl
        return self._programs.sessions.extend_op(self._agent_id, self._session_id, ttl)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key!r} at {self._server.where})"


HistoryFactory = Callable[[str, str], RedisChatMessageHistory]


def history_factory(
    url: str | None = None,
    client: Any = None,
    *,
    server: Server | None = None,
    credential_provider: Any = None,
    **options: Any,
) -> HistoryFactory:
    """A function from an agent id and a session id to their history, all of them on one server's connections.

    ``options`` are the further arguments of :class:`RedisChatMessageHistory`.

    Raises:
        ConfigurationError: arguments that contradict each other or can't be used.
    """
    at = _server(url, client, server, credential_provider)
    if url is client is server is None:
        options.setdefault("default_ttl", get_settings().redis_memory_ttl)

    def make(agent_id: str, session_id: str) -> RedisChatMessageHistory:
        return RedisChatMessageHistory(agent_id, session_id, server=at, **options)

    return make


def _server(url: str | None, client: Any, server: Server | None, credential_provider: Any) -> Server:
    if sum(given is not None for given in (url, client, server)) > 1:
        raise ConfigurationError("Give a url, a client or a server; not more than one of these.")
    if client is None and server is None:
        return shared_server(url, credential_provider=credential_provider)
    check_belongs_to_address(credential_provider)
    return server or Server.from_clients(client)
