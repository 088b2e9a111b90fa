"""Programs for one history: a list of JSON objects and its metadata key, which are renewed and expire together."""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ecowas_lc.errors import CorruptDataError, IncompleteWarning, RedisRefusedError, WrongTypeError
from ecowas_lc.memory.json_values import (
    FOREVER,
    check_count,
    expiry_rule,
    from_json,
    lifetime_and_rule,
    lifetime_of,
    shown,
    to_json,
    wrong_type,
)
from ecowas_lc.memory.session_index import RecentlyIndexed, touch
from ecowas_lc.storage.backup_format import time_at
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.left_out import attempted_op, warn_left_out
from ecowas_lc.storage.ops import Op, ScriptCall, call, command, load_script

APPEND = load_script(  # in this order, rarely needed functions are rarely defined
    "history_shared", "history_trim", "history_append", "history_kind", "history_no_list", name="history_append"
)
REPLACE = load_script("history_shared", "history_kind", "history_replace")
CLEAR = load_script("history_shared", "history_kind", "history_clear")
EXTEND = load_script("history_shared", "history_kind", "history_extend")
CLEARED = load_script("memory_cleared")

_KEPT, _FOREIGN = 1, 2
_QUICK_REPLY_MS, _MOST_QUESTIONS = 5, 5
_JUST_NOW_MS = 40  # an older message waited for the server: first ask whether the history was removed since then

Entry = tuple[bytes, bytes]
"""A message to send: its id (empty if it has none) and its JSON."""


def entry(message: dict[str, Any]) -> Entry:
    """Return a message in the form in which it is sent.

    Raises:
        NotSerializableError: It would not be the same after a round trip through JSON.
    """
    identity = message.get("id")
    return id_bytes(identity) if isinstance(identity, str) else b"", to_json(message, "message")


@dataclass(frozen=True, slots=True)
class HistoryPlace:
    """The location of one history: its agent and session, and the keys of its list and its metadata."""

    agent_id: str
    session_id: str
    keys: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The metadata of one history, available without its messages. Times are in UTC, by the server's clock."""

    agent_id: str
    session_id: str
    messages: int
    ttl_seconds: float | None
    """Seconds until the history expires; ``None``: never."""
    first_activity: datetime | None
    """The time of its creation; ``None`` if another program wrote it."""
    last_activity: datetime | None


@dataclass(frozen=True, slots=True)
class Conversations:
    """The histories of one prefix; ``default_ttl`` is in seconds, ``None``: no expiry."""

    keys: Keys
    default_ttl: int | None
    indexed: RecentlyIndexed = field(default_factory=RecentlyIndexed)
    _usual: tuple[float, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_usual", lifetime_and_rule(None, self.default_ttl))

    def place(self, agent_id: str, session_id: str) -> HistoryPlace:
        """Return the location of an agent's history in a session.

        Raises:
            InvalidIdError: An id is empty or not text.
        """
        key = self.keys.history(agent_id, session_id)
        return HistoryPlace(agent_id, session_id, (key, self.keys.companion(key)))

    def append_op(
        self,
        place: HistoryPlace,
        words: Sequence[bytes],
        *,
        max_history: int | None = None,
        ttl: int | None = None,
        ages: Sequence[int] = (),
        after: str = "",
    ) -> Op[int]:
        """Append messages, each ``id`` once; return the number of messages in the history afterwards.

        ``words`` are the entries of the messages, joined. ``ages`` has the age of each message in milliseconds.
        Messages from before the history, or all of its agent's or session's data, was removed are left out, unless
        the operation ``after`` removed it.
        """
        key = place.keys[0]
        if ages and max(ages) > _JUST_NOW_MS:
            ages, oldest = yield from self._ages_op(place, ages)
            if oldest is not None:
                kept = [index for index, age in enumerate(ages) if age <= oldest]
                words = [word for index in kept for word in words[2 * index : 2 * index + 2]]
                ages = [ages[index] for index in kept]
        lifetime, rule = self._usual if ttl is None else lifetime_and_rule(ttl, None)
        most = 0 if max_history is None else check_count(max_history, "max_history")
        operation = new_operation() if b"" in words else ""
        since = f" {','.join(map(str, ages))} {after}" if ages else ""
        append = ScriptCall(APPEND, place.keys, (f"{rule} {most} {operation}  0{since}", *words))
        is_indexed = self.indexed.covers(key, lifetime)
        if is_indexed:
            [reply] = yield (append,)
        else:
            touches = self.index_calls(place.agent_id, place.session_id, lifetime)
            *touched, reply = yield (*(each._replace(optional=True) for each in touches), append)
            if any(isinstance(each, Exception) for each in touched):
                # The message is already stored: after an error the caller would store it again.
                try:
                    yield touches
                except RedisRefusedError as error:
                    what = f"the history of {place.agent_id!r} in the session {place.session_id!r}"
                    warnings.warn(f"Lists may lack {what}: {error}", IncompleteWarning, stacklevel=2)
        is_converted = False
        while reply[0] != _KEPT:
            _refuse_foreign(reply)
            sha, older = _converted(reply[1], key)
            how = f"{rule} {most} {operation} {sha} {len(older) // 2}{since}"
            [reply] = yield (call(APPEND, place.keys, how, *older, *words),)
            is_converted = True
        length: int = reply[1]
        if is_converted:
            # The program that wrote the history may have set a longer expiry, and did not update our indexes.
            [left] = yield (command("PTTL", key),)
            lifetime = max(lifetime, lifetime_of(left))
            yield self.index_calls(place.agent_id, place.session_id, lifetime)
            self.indexed.remember(key, lifetime)
            return length
        if is_indexed and len(reply) == 2:
            return length
        is_new, is_eternal = reply[2:] or (False, False)
        if is_eternal and lifetime != FOREVER:
            lifetime = FOREVER
            index_again = not self.indexed.covers(key, lifetime)
        else:
            index_again = is_indexed and is_new  # another process may have cleared the history since
        if index_again:
            yield self.index_calls(place.agent_id, place.session_id, lifetime)
        if index_again or not is_indexed:
            self.indexed.remember(key, lifetime)
        return length

    def _ages_op(self, place: HistoryPlace, ages: Sequence[int]) -> Op[tuple[list[int], int | None]]:
        """Return the messages' ages, and how long ago everything of the agent or the session was removed.

        Both are in milliseconds and of the same moment, which is known as exactly as the reply is quick. A slow
        reply, for example because the client had to connect again, could make a message seem younger than the
        removal: then the server is asked again, and the fastest reply counts.
        """
        began = time.monotonic()
        marks = self.keys.cleared_agent(place.agent_id), self.keys.cleared_session(place.session_id)
        fastest, moment, removed = math.inf, began, [-1]
        for _ in range(_MOST_QUESTIONS):
            asked = time.monotonic()
            replies = yield tuple(call(CLEARED, (mark,)) for mark in marks)
            took = time.monotonic() - asked
            if took < fastest:
                fastest, moment, removed = took, asked + took / 2, replies
            if took * 1000 <= _QUICK_REPLY_MS:
                break
        passed = round((moment - began) * 1000)
        return [age + passed for age in ages], min((since for since in removed if since >= 0), default=None)

    def replace_op(
        self,
        agent_id: str,
        session_id: str,
        messages: Sequence[dict[str, Any]],
        *,
        lifetime: float,
        rule: str = "",
        only_if_absent: bool = False,
        began: datetime | None = None,
        used: datetime | None = None,
    ) -> Op[bool]:
        """Replace the history with ``messages``, at least one; return whether it was written.

        ``lifetime`` is in seconds, and exact unless the expiry ``rule`` says otherwise. Without ``began`` and
        ``used`` the creation time is kept, and the last use is now.
        """
        place = self.place(agent_id, session_id)
        words = [word for message in messages for word in entry(message)]
        rule = rule or ("=" if lifetime == FOREVER else f"={int(lifetime * 1000)}")
        condition = "absent" if only_if_absent else ""
        times = (_milliseconds(began), _milliseconds(used))
        replace = call(REPLACE, place.keys, rule, new_operation(), condition, *times, *words)
        replies = yield (*self.index_calls(agent_id, session_id, lifetime), replace)
        _refuse_foreign(replies[-1])
        _, _, expires_at, is_written = replies[-1]
        if expires_at == -1 and lifetime != FOREVER:  # it had no expiry before, and the rule keeps that
            lifetime = FOREVER
            yield self.index_calls(agent_id, session_id, lifetime)
        self.indexed.remember(place.keys[0], lifetime)
        return bool(is_written)

    def read_op(self, agent_id: str, session_id: str, last: int | None = None) -> Op[list[dict[str, Any]]]:
        """Return the messages, oldest first; with ``last``, only this many of the newest."""
        key = self.keys.history(agent_id, session_id)
        start = 0 if last is None else -check_count(last, "last")
        return (yield from self.slice_op(key, start, -1))

    def slice_op(self, key: bytes, start: int, stop: int) -> Op[list[dict[str, Any]]]:
        """Return the messages from ``start`` to ``stop``, both included; negative positions count from the end."""
        try:
            [items] = yield (command("LRANGE", key, start, stop),)
        except WrongTypeError:
            items = None
        if items is not None:
            first = start if start >= 0 else -len(items)
            return [_message(from_json(item, key, index), key, index) for index, item in enumerate(items, first)]
        messages = _legacy_messages((yield from self._legacy_text_op(key)), key)
        return messages[start : stop + 1 or None]

    def _legacy_length_op(self, key: bytes) -> Op[int]:
        return len(_legacy_messages((yield from self._legacy_text_op(key)), key))

    def _legacy_text_op(self, key: bytes) -> Op[bytes]:
        try:
            [text] = yield (command("GET", key),)
        except WrongTypeError:
            [kind] = yield (command("TYPE", key),)
            raise wrong_type(key, _text(kind)) from None
        return text if text is not None else b"[]"

    def clear_call(
        self, agent_id: str, session_id: str, *, operation: str | None = None, age_ms: int = 0
    ) -> ScriptCall:
        """Return the call that removes a history; :func:`was_cleared` reads its reply.

        ``operation`` names the removal, so that repeating it removes nothing else. ``age_ms`` is the time since
        the removal was requested: a history that was created after that is kept. An empty ``operation`` leaves no
        trace.
        """
        place = self.place(agent_id, session_id)
        self.indexed.forget(place.keys[0])
        return call(CLEAR, place.keys, new_operation() if operation is None else operation, age_ms)

    def describe_op(self, pairs: Sequence[tuple[str, str]], *, each: bool = False) -> Op[list[SessionInfo]]:
        """Return the metadata of the histories of these agents and sessions, without those that don't exist.

        With ``each``, a history that can't be read is left out with a warning instead of an error.
        """
        places = [self.place(*pair) for pair in pairs]
        replies = yield tuple(
            words
            for place in places
            for words in (
                command("LLEN", place.keys[0], optional=True),
                command("PTTL", place.keys[0]),
                command("ZMSCORE", place.keys[1], "began", "used", optional=True),
            )
        )
        found: list[SessionInfo] = []
        rows = zip(places, replies[::3], replies[1::3], replies[2::3], strict=True)
        for place, counted, left, times in rows:
            if left == -2:
                continue
            length = counted
            if isinstance(counted, Exception):
                length = yield from attempted_op(self._legacy_length_op(place.keys[0]))
            if isinstance(length, Exception):
                if not each:
                    raise length
                warn_left_out(f"The history of {place.agent_id!r} in the session {place.session_id!r}", length)
                continue
            began, used = (None, None) if isinstance(times, Exception) else times
            ids, ttl_seconds = (place.agent_id, place.session_id), None if left == -1 else left / 1000
            found.append(SessionInfo(*ids, length, ttl_seconds, _time(began), _time(used)))
        return found

    def extend_call(self, agent_id: str, session_id: str, ttl: int | None) -> ScriptCall:
        """Return the call that renews a history; :func:`extended` reads its reply."""
        place = self.place(agent_id, session_id)
        return call(EXTEND, place.keys, expiry_rule(ttl, self.default_ttl))

    def index_calls(self, agent_id: str, session_id: str, ttl_seconds: float) -> tuple[ScriptCall, ...]:
        """Return the calls that add a history to the indexes."""
        return (
            touch(self.keys.sessions_of_agent(agent_id), ttl_seconds, session_id),
            touch(self.keys.agents_of_session(session_id), ttl_seconds, agent_id),
            touch(self.keys.agents(), ttl_seconds, agent_id),
            touch(self.keys.sessions(), ttl_seconds, session_id),
        )


def cleared_since_op(mark: bytes) -> Op[float | None]:
    """Return the seconds since all data of an agent or a session was removed; ``None``: not recently."""
    [since] = yield (call(CLEARED, (mark,)),)
    return None if since < 0 else since / 1000


def extended(reply: list[Any]) -> tuple[bool, float]:
    """Return whether the history of :meth:`Conversations.extend_call` existed, and its new lifetime in seconds."""
    _refuse_foreign(reply)
    return bool(reply[1]), lifetime_of(reply[2])


def was_cleared(reply: list[Any]) -> bool:
    """Return whether the history of :meth:`Conversations.clear_call` existed."""
    _refuse_foreign(reply)
    return bool(reply[1])


def has_journal(reply: list[Any]) -> bool:
    """Return whether a process keeps a journal of the history of :meth:`Conversations.clear_call`."""
    return reply[0] != _FOREIGN and bool(reply[2])


def cleared_one(reply: list[Any]) -> bool:
    """Return whether the history existed, for one of many: another program's data is kept, and is not an error."""
    return reply[0] != _FOREIGN and was_cleared(reply)


def new_operation() -> str:
    """Return a name for one call, by which the server recognises its repetition."""
    # A call is sent again after a broken connection. The name identifies it if no message has an id.
    return os.urandom(9).hex()


def _message(value: Any, key: bytes, position: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorruptDataError(
            f"The key {shown(key)} holds at position {position} something that is not a JSON object. Fix it, or "
            "delete the key."
        )
    return value


def _legacy_messages(text: bytes, key: bytes) -> list[dict[str, Any]]:
    value = from_json(text, key)
    if not isinstance(value, list):
        raise CorruptDataError(
            f"The key {shown(key)} holds a JSON {type(value).__name__} where a list of messages should be. "
            "Fix it, or restore the history from a backup."
        )
    return [_message(item, key, index) for index, item in enumerate(value)]


def _converted(text: bytes, key: bytes) -> tuple[str, list[bytes]]:
    words = [word for message in _legacy_messages(text, key) for word in entry(message)]
    return hashlib.sha1(text, usedforsecurity=False).hexdigest(), words


def _refuse_foreign(reply: list[Any]) -> None:
    if reply[0] == _FOREIGN:
        raise wrong_type(reply[1], _text(reply[2]))


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word


def _time(score: Any) -> datetime | None:
    return None if score is None else time_at(float(score) / 1000)


def _milliseconds(time: datetime | None) -> str:
    return "" if time is None else str(round(time.timestamp() * 1000))
