"""LangChain's chat message history on Redis or Valkey.

Reading returns all of it, a number of messages, or as many as fit a number of tokens.
"""

from __future__ import annotations

import inspect
import secrets
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately

from ecowas_lc._display import Displayed
from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.history.messages import from_document, to_document, to_entry, whole
from ecowas_lc.memory.connections import shared_server
from ecowas_lc.memory.histories import Conversations, SessionInfo
from ecowas_lc.memory.json_values import check_count, check_ttl, lifetime_and_rule, shown
from ecowas_lc.memory.service import MemoryPrograms
from ecowas_lc.settings import get_settings, usable_settings
from ecowas_lc.storage.credentials import check_belongs_to_address
from ecowas_lc.storage.keys import checked_operation
from ecowas_lc.storage.ops import Op
from ecowas_lc.storage.server import Server

HistoryTokenCounter = Callable[[list[BaseMessage]], int] | Callable[[BaseMessage], int] | BaseLanguageModel[Any]

_WITHOUT_ID = uuid.UUID("6bb8b9b0-0d0c-4a5e-9d5f-3a4c9e1f7a21")
_FIRST_PAGE = 16
_MOST_RESULTS = 100  # of one call, which are read with their call if nothing else would be left
_RESULTS = frozenset({"tool", "function", "ToolMessageChunk", "FunctionMessageChunk"})


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """The limits for reading a history: a number of messages and a number of tokens; ``None``: no limit."""

    max_messages: int | None = None
    max_tokens: int | None = None
    token_counter: HistoryTokenCounter | None = None

    def __post_init__(self) -> None:
        for name in ("max_messages", "max_tokens"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        if self.token_counter is not None and self.max_tokens is None:
            raise ConfigurationError("token_counter requires max_tokens: pass both.")


def read_op(
    conversations: Conversations, agent_id: str, session_id: str, window: HistoryWindow
) -> Op[list[BaseMessage]]:
    """Return the messages in the window, oldest first.

    A window never starts between a tool call and its results: results whose call lies outside are left out. If
    nothing else would be left of ``max_messages``, their call is read too.
    """
    key = conversations.keys.history(agent_id, session_id)
    most = window.max_messages
    if most is None and window.max_tokens is None:
        documents = yield from conversations.slice_op(key, 0, -1)
        return [from_document(document, key, index) for index, document in enumerate(documents)]
    wanted = most if window.max_tokens is None else min(_FIRST_PAGE, most or _FIRST_PAGE)
    assert wanted is not None
    while True:
        # Reading one more than wanted shows whether the history continues before the window.
        documents = yield from conversations.slice_op(key, -wanted - 1, -1)
        is_cut = len(documents) > wanted
        messages = _from_end(documents[-wanted:], key)
        fitting = _fitting(messages, window)
        if is_cut and len(fitting) == len(messages) and wanted != most and window.max_tokens is not None:
            wanted = min(wanted * 2, most) if most else wanted * 2
            continue
        if not is_cut and len(fitting) == len(messages):
            return messages
        paired = _without_orphans(fitting)
        if paired or len(fitting) < len(messages):
            return paired
        return (yield from _with_their_call_op(conversations, key))


def read_all_op(conversations: Conversations, agent_id: str, session_id: str) -> Op[list[BaseMessage]]:
    """Return all messages; one without an id gets an id derived from its text and its number of occurrences."""
    messages = yield from read_op(conversations, agent_id, session_id, HistoryWindow())
    seen: Counter[str] = Counter()
    for message in messages:
        if message.id is None:
            text = message.model_dump_json()
            seen[text] += 1
            message.id = str(uuid.uuid5(_WITHOUT_ID, f"{seen[text]} {text}"))
    return messages


def _with_their_call_op(conversations: Conversations, key: bytes) -> Op[list[BaseMessage]]:
    documents = yield from conversations.slice_op(key, -_MOST_RESULTS - 1, -1)
    messages = _from_end(documents, key)
    paired = next(
        (index for index in range(len(messages) - 1, -1, -1) if messages[index].type not in _RESULTS), None
    )
    return [] if paired is None or not isinstance(messages[paired], AIMessage) else messages[paired:]


def _from_end(documents: list[dict[str, Any]], key: bytes) -> list[BaseMessage]:
    return [from_document(document, key, index) for index, document in enumerate(documents, -len(documents))]


def _fitting(messages: list[BaseMessage], window: HistoryWindow) -> list[BaseMessage]:
    if window.max_tokens is None:
        return messages
    count, budget = _list_counter(window.token_counter or count_tokens_approximately), window.max_tokens
    fitting = bisect_right(range(1, len(messages) + 1), budget, key=lambda last: count(messages[-last:]))
    return messages[len(messages) - fitting :]


def _list_counter(counter: Any) -> Callable[[list[BaseMessage]], int]:
    if isinstance(counter, BaseLanguageModel):
        return counter.get_num_tokens_from_messages
    try:
        first = next(iter(inspect.signature(counter, eval_str=True).parameters.values()))
    except (NameError, StopIteration, ValueError):
        return counter  # type: ignore[no-any-return]
    if isinstance(first.annotation, type) and issubclass(first.annotation, BaseMessage):
        return lambda messages: sum(counter(message) for message in messages)
    return counter  # type: ignore[no-any-return]


def _without_orphans(messages: list[BaseMessage]) -> list[BaseMessage]:
    for index, message in enumerate(messages):
        if message.type not in _RESULTS:
            return messages[index:]
    return []


_ID_BYTES = 12  # long enough never to repeat, short enough to send and store with each message


class RedisChatMessageHistory(Displayed, BaseChatMessageHistory):
    """The messages of one agent in one session, sync and async. Every field of each message is kept.

    LangChain recommends a checkpointer for agents and graphs, and deprecated the base class. Use this class for a
    separate transcript: one that outlives a graph, that several programs read, or behind
    ``RunnableWithMessageHistory``.

    All histories of one process at one URL share their connections, so creating one costs nothing. Without
    ``url``, ``client`` and ``server`` the server of the settings is used.

    A message whose id is already in the history is not stored again, so adding can be repeated. A message without
    an id gets one when it is stored. Your object is not changed, so if you add it twice, it is stored twice.

    Neither the window (``max_messages``, ``max_tokens``) nor ``max_history`` separates a tool call from its
    results.

    Args:
        agent_id: The agent's id.
        session_id: The session's id.
        url: The server's URL.
        client: A redis-py client, sync or async. You close it yourself.
        server: The ``.server`` of another object, to share its connections.
        credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
        ttl: Time to live in seconds that each write sets exactly. Without it, a write keeps the longer of the
            remaining time and ``default_ttl``.
        default_ttl: In seconds; ``None``: no expiry. Default: ``REDIS_MEMORY_TTL`` of the settings.
        prefix: The prefix of every key; default: ``ECOWAS_LC_PREFIX`` of the settings.
        max_messages: Reading returns at most this many of the newest messages, and reads only these.
        max_tokens: Reading returns only as many of the newest messages as fit this number of tokens.
        token_counter: Counts tokens: a function of a list of messages, a function of one message if annotated so,
            or a model. Default: an approximation.
        max_history: Each write removes all but this many of the newest messages.

    Raises:
        InvalidIdError: An id that is empty or not text.
        ConfigurationError: Arguments that contradict each other or can't be used.
        InvalidInputError: A limit or ttl that is not a whole number of at least 1.
    """

    appends_once: ClassVar[bool] = True
    """Tells the supervisor that this history detects repeated ids, so it need not read before an append."""

    def __init__(
        self,
        agent_id: str,
        session_id: str,
        url: str | None = None,
        client: Any = None,
        ttl: int | None = None,
        max_messages: int | None = None,
        max_tokens: int | None = None,
        token_counter: HistoryTokenCounter | None = None,
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
        self._window = HistoryWindow(max_messages, max_tokens, token_counter)
        self._ttl = None if ttl is None else check_ttl(ttl)
        self._max_history = None if max_history is None else check_count(max_history, "max_history")
        settings = get_settings if url is client is server is None else usable_settings
        default = settings().redis_memory_ttl if default_ttl == "settings" else default_ttl
        self._programs = MemoryPrograms(self._server, prefix, default)
        self._place = self._programs.conversations.place(agent_id, session_id)

    @property
    def agent_id(self) -> str:
        """The id of the agent."""
        return self._agent_id

    @property
    def session_id(self) -> str:
        """The id of the session."""
        return self._session_id

    @property
    def max_history(self) -> int | None:
        """The number of messages that a write keeps; ``None``: all."""
        return self._max_history

    @property
    def key(self) -> str:
        """The key of the list on the server."""
        return shown(self._place.keys[0])

    @property
    def server(self) -> Server:
        """The server; pass it to other objects to share its connections."""
        return self._server

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # LangChain means a property, too
        """The messages in the window, oldest first; without a window, all of them."""
        return self._server.run(self._read_op())

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the messages in the window, oldest first; without a window, all of them."""
        return await self._server.arun(self._read_op())

    def all_messages(self) -> list[BaseMessage]:
        """Return all messages, whatever the window; a message without an id gets one derived from its contents."""
        return self._server.run(self._read_all_op())

    async def aall_messages(self) -> list[BaseMessage]:
        """Return all messages, whatever the window; see :meth:`all_messages`."""
        return await self._server.arun(self._read_all_op())

    def add_messages(
        self, messages: Sequence[BaseMessage], *, ages: Sequence[float] = (), after: str = ""
    ) -> None:
        """Append messages in one atomic step, except those whose id is already in the history.

        Args:
            messages: The messages. They are not changed: a message without an id gets one when it is stored.
            ages: The age of each message in seconds, for a program that kept messages while Redis was down.
                Messages older than the last time the history, or its whole session, was cleared are left out.
            after: The ``operation`` of your own last :meth:`clear`, if the messages are newer than it.

        Raises:
            InvalidInputError: One is not a LangChain message, or the number of ages differs from the number of
                messages.
            NotSerializableError: One would not be the same after writing and reading it; nothing is written.
        """
        self._server.run(self._add_op(messages, ages, after))

    async def aadd_messages(
        self, messages: Sequence[BaseMessage], *, ages: Sequence[float] = (), after: str = ""
    ) -> None:
        """Append messages in one atomic step; see :meth:`add_messages`."""
        await self._server.arun(self._add_op(messages, ages, after))

    def latest(self, count: int | None) -> list[BaseMessage]:
        """Return the newest messages as they are stored, whatever the window.

        Args:
            count: The number of messages; ``None``: all.
        """
        return self._server.run(self._latest_op(count))

    async def alatest(self, count: int | None) -> list[BaseMessage]:
        """Return the newest messages; see :meth:`latest`."""
        return await self._server.arun(self._latest_op(count))

    def replace_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Replace all messages of the history in one atomic step.

        Args:
            messages: The new messages; an empty sequence removes the history.

        Raises:
            NotSerializableError: One would not be the same after writing and reading it; nothing is written.
        """
        self._server.run(self._replace_op(messages))

    async def areplace_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Replace all messages; see :meth:`replace_messages`."""
        await self._server.arun(self._replace_op(messages))

    def clear(self, *, operation: str | None = None, age: float = 0) -> None:
        """Remove all messages.

        Args:
            operation: A name for this removal, of letters and digits. If you repeat the removal because you don't
                know whether it was done, the name protects messages that others have added since.
            age: The number of seconds since the removal was requested: a history that was created after that is
                kept.
        """
        self._server.run(self._clear_op(operation, age))

    async def aclear(self, *, operation: str | None = None, age: float = 0) -> None:
        """Remove all messages; see :meth:`clear`."""
        await self._server.arun(self._clear_op(operation, age))

    def info(self) -> SessionInfo | None:
        """Return the length, activity and time to live without reading the messages.

        Returns:
            A ``SessionInfo``; ``None`` if there are no messages.
        """
        return self._server.run(self._programs.info_op(self._agent_id, self._session_id))

    async def ainfo(self) -> SessionInfo | None:
        """Return the length, activity and time to live; see :meth:`info`."""
        return await self._server.arun(self._programs.info_op(self._agent_id, self._session_id))

    def extend_ttl(self, ttl: int | None = None) -> bool:
        """Renew the expiry of the history and of its session's data.

        Args:
            ttl: Time to live in seconds; default: this history's.

        Returns:
            Whether there was anything to renew.
        """
        return self._server.run(self._extend_op(ttl))

    async def aextend_ttl(self, ttl: int | None = None) -> bool:
        """Renew the expiry of the history and of its session's data; see :meth:`extend_ttl`."""
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
        documents = [to_document(whole(message)) for message in messages]
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
            raise InvalidInputError(f"There are {len(messages)} messages and {len(ages)} ages: pass one for each.")
        checked_operation(after or None)
        words: list[bytes] = []
        for message in map(whole, messages):
            if not isinstance(message, BaseMessage):
                raise InvalidInputError(
                    f"A history holds LangChain messages, not {type(message).__name__}. For dicts with role and "
                    "content use RedisMemoryService, or langchain_core.messages.convert_to_messages."
                )
            # The object itself gets no id: if the caller adds it again, that is another message, and other code
            # may hold it too.
            words += to_entry(message, secrets.token_urlsafe(_ID_BYTES) if message.id is None else None)
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
    """Return a function that makes the history of an agent id and a session id, all on one server's connections.

    Args:
        url: The server's URL; without ``url``, ``client`` and ``server``: the server of the settings.
        client: A redis-py client, sync or async. You close it yourself.
        server: The ``.server`` of another object, to share its connections.
        credential_provider: A redis-py ``CredentialProvider`` that supplies the login of each new connection.
        **options: Further arguments of :class:`RedisChatMessageHistory`.

    Raises:
        ConfigurationError: Arguments that contradict each other or can't be used.
    """
    at = _server(url, client, server, credential_provider)
    if url is client is server is None:
        options.setdefault("default_ttl", get_settings().redis_memory_ttl)

    def make(agent_id: str, session_id: str) -> RedisChatMessageHistory:
        return RedisChatMessageHistory(agent_id, session_id, server=at, **options)

    return make


def _server(url: str | None, client: Any, server: Server | None, credential_provider: Any) -> Server:
    if sum(given is not None for given in (url, client, server)) > 1:
        raise ConfigurationError("Pass only one of url, client and server.")
    if client is None and server is None:
        return shared_server(url, credential_provider=credential_provider)
    check_belongs_to_address(credential_provider)
    return server or Server.from_clients(client)
