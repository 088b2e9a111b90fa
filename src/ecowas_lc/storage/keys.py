"""Key names: the published schema, the checkpoints' keys and the indexes, all with one encoding of ids.

An id is any text that is not empty. Five kinds of characters that would be ambiguous in a key are percent-encoded:
``%``, ``:`` (separates ids), ``{`` and ``}`` (choose the cluster slot), and control characters (unreadable in
redis-cli). All other characters, including upper case and Unicode, stay unchanged. So for ordinary ids the
published key contains the id's exact text, and two ids never share a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ecowas_lc.errors import ConfigurationError, CorruptDataError, InvalidIdError

_SPECIAL = re.compile(r"[%:{}\x00-\x1f\x7f]")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")
# A prefix is also used in ACL patterns, so it may not contain characters that are special there.
_PREFIX = re.compile(r"[^\s:%{}*?\[\]\\\x00-\x1f\x7f]+")


def check_id(value: object, what: str) -> str:
    """Return ``value`` if it can be used as an id.

    Raises:
        InvalidIdError: It is not text, or it is empty; the message calls it ``what``.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"The {what} must be text, not {type(value).__name__}.")
    if not value:
        raise InvalidIdError(f"The {what} is empty. Give it at least one character.")
    return value


def checked_operation(operation: str | None) -> str | None:
    """Return the name of an operation if it can be used.

    Raises:
        InvalidIdError: It is not made of letters and digits.
    """
    if operation is not None and not (operation.isascii() and operation.isalnum()):
        raise InvalidIdError(f"The operation {operation!r} must be made of letters and digits.")
    return operation


def id_bytes(value: str) -> bytes:
    """Return an id as stored in an index: UTF-8 that also keeps lone surrogates, so every id can be restored."""
    return value.encode("utf-8", "surrogatepass")


def id_text(raw: bytes) -> str:
    """Return the id that :func:`id_bytes` encoded.

    Raises:
        CorruptDataError: ``raw`` is not such an encoding.
    """
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise CorruptDataError(
            f"An index holds {raw[:40]!r} in place of an id, which is not text. Another program uses this "
            "prefix: set ECOWAS_LC_PREFIX, or remove what it wrote."
        ) from None


def encode_id(value: object, what: str) -> bytes:
    """Return ``value`` as part of a key.

    Raises:
        InvalidIdError: It is not text, or it is empty; see :func:`check_id`.
    """
    text = check_id(value, what)
    if text.isalnum() or not _SPECIAL.search(text):
        return id_bytes(text)
    return id_bytes(_SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", text))


def decode_id(raw: bytes) -> str:
    """Return the id that :func:`encode_id` encoded."""
    return id_text(_ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), raw))


def wait_key(key: bytes) -> bytes:
    """Return a key in the slot of ``key`` and under its prefix, which never keeps a value."""
    prefix, _, _ = key.partition(b":")
    tag = key.partition(b"{")[2].partition(b"}")[0] or key
    return prefix + b":wait:{" + tag + b"}"


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys of one prefix. One prefix is one organisation: an ACL of ``~{prefix}:*`` is enough."""

    prefix: str = "ecowas"

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise ConfigurationError(
                f"The prefix {self.prefix!r} can't be used: it must be text without spaces, control "
                "characters or any of : % { } * ? [ ] \\"
            )

    def _key(self, *parts: bytes) -> bytes:
        return b":".join((id_bytes(self.prefix), *parts))

    # --- the published schema ---

    def history(self, agent_id: str, session_id: str) -> bytes:
        """Return a list's key: a history's JSON objects, one per message, oldest first."""
        return self._key(b"history", encode_id(agent_id, "agent id"), encode_id(session_id, "session id"))

    def state(self, agent_id: str) -> bytes:
        """Return a string's key: an agent's state as JSON."""
        return self._key(b"state", encode_id(agent_id, "agent id"))

    def session_data(self, session_id: str, key: str) -> bytes:
        """Return a string's key: one value of a session as JSON."""
        return self._key(b"session", encode_id(session_id, "session id"), encode_id(key, "session data key"))

    # --- metadata of a history, in its cluster slot ---

    def history_meta(self, agent_id: str, session_id: str) -> bytes:
        """Return a sorted set's key: a history's message ids, and when it was created and last used."""
        return self.companion(self.history(agent_id, session_id))

    def companion(self, history: bytes) -> bytes:
        """Return the key of :meth:`history_meta` for the key of a history."""
        return self._key(b"history-meta", b"{" + history + b"}")

    # --- indexes: sorted sets scored by time, so that nothing is ever scanned ---

    def sessions(self) -> bytes:
        """Return a sorted set's key: sessions with a history or data, by the time until which they may live."""
        return self._key(b"index", b"sessions")

    def sessions_of_agent(self, agent_id: str) -> bytes:
        """Return a sorted set's key: the sessions with a history of an agent, by the time they may live until."""
        return self._key(b"index", b"sessions", encode_id(agent_id, "agent id"))

    def agents_of_session(self, session_id: str) -> bytes:
        """Return a sorted set's key: the agents with a history in a session, by the time they may live until."""
        return self._key(b"index", b"session-agents", encode_id(session_id, "session id"))

    def data_of_session(self, session_id: str) -> bytes:
        """Return a sorted set's key: a session's data keys, by the time until which they may live."""
        return self._key(b"index", b"session-data", encode_id(session_id, "session id"))

    def agents(self) -> bytes:
        """Return a sorted set's key: agents with a history or a state, by the time until which they may live."""
        return self._key(b"index", b"agents")

    def threads(self) -> bytes:
        """Return a sorted set's key: threads with checkpoints, by last write."""
        return self._key(b"index", b"threads")

    def collections(self) -> bytes:
        """Return a sorted set's key: the collections of stores, by a process's last start of writing."""
        return self._key(b"index", b"collections")

    def run(self, run_id: str) -> bytes:
        """Return a sorted set's key: the threads in which a run wrote checkpoints in the last 30 days."""
        return self._key(b"index", b"runs", encode_id(run_id, "run id"))

    def whole(self) -> bytes:
        """Return a hash's key: the number of keys each server had evicted when the indexes were last rebuilt."""
        return self._key(b"index", b"whole")

    # --- the service: runs; all keys of a session are in the cluster slot of its thread ---

    def runs_of_session(self, session_id: str) -> bytes:
        """Return a list's key: a session's running and queued runs, in that order."""
        return self._of_runs(session_id, b"queue")

    def stored_runs(self, session_id: str) -> bytes:
        """Return a sorted set's key: every stored run of a session, finished or not, by its last sign of life."""
        return self._of_runs(session_id, b"all")

    def served_run(self, session_id: str, run_id: str) -> bytes:
        """Return a hash's key: a run's question, its user and its status."""
        return self._of_runs(session_id, b"run", encode_id(run_id, "run id"))

    def run_lease(self, session_id: str, run_id: str) -> bytes:
        """Return a string's key: the process that drives a run; it expires unless the process renews it."""
        return self._of_runs(session_id, b"lease", encode_id(run_id, "run id"))

    def run_events(self, session_id: str, run_id: str) -> bytes:
        """Return a stream's key: a run's events; their ids are the attempt and a number."""
        return self._of_runs(session_id, b"events", encode_id(run_id, "run id"))

    def _of_runs(self, session_id: str, *parts: bytes) -> bytes:
        return self._key(b"runs", b"{" + encode_id(session_id, "session id") + b"}", *parts)

    def session_of_run(self, run_id: str) -> bytes:
        """Return a string's key: the session of a run."""
        return self._key(b"run-session", encode_id(run_id, "run id"))

    def open_runs(self) -> bytes:
        """Return a sorted set's key: unfinished runs with their sessions, by their process's last sign of life."""
        return self._key(b"index", b"open-runs")

    # --- the service: users and audit ---

    def access_keys(self) -> bytes:
        """Return a hash's key: the digests of API keys, and their owners."""
        return self._key(b"access", b"keys")

    def access_people(self) -> bytes:
        """Return a hash's key: the people that a reverse proxy signs in, and their roles."""
        return self._key(b"access", b"people")

    def login(self, digest: str) -> bytes:
        """Return a string's key: the user who is signed in with the cookie of this digest."""
        return self._key(b"login", encode_id(digest, "digest"))

    def audit(self) -> bytes:
        """Return a stream's key: changes, with user and time."""
        return self._key(b"audit")

    def analytics(self, day: str) -> bytes:
        """Return a hash's key: the counts of a day's questions."""
        return self._key(b"analytics", encode_id(day, "day"))

    # --- removals, kept for a day ---

    def cleared_session(self, session_id: str) -> bytes:
        """Return a string's key: when all data of a session was last removed, in milliseconds."""
        return self._key(b"cleared", b"session", encode_id(session_id, "session id"))

    def cleared_agent(self, agent_id: str) -> bytes:
        """Return a string's key: when all data of an agent was last removed, in milliseconds."""
        return self._key(b"cleared", b"agent", encode_id(agent_id, "agent id"))

    # --- checkpoints: all keys of a thread are in one cluster slot ---

    def thread(self, thread_id: str) -> bytes:
        """Return a hash's key: all data of a thread (checkpoints, values, elements, pending writes)."""
        # Cached, because each operation needs it, but not for long ids, which would fill the memory.
        make = _thread_key if len(thread_id) <= 200 else _thread_key.__wrapped__
        return make(self.prefix, thread_id)


@lru_cache(maxsize=4096)
def _thread_key(prefix: str, thread_id: str) -> bytes:
    return b"%b:checkpoint:{%b}" % (id_bytes(prefix), encode_id(thread_id, "thread id"))
