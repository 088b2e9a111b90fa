"""Key names: the published schema, the checkpoints' keys and the indexes, all from one encoding of ids.

An id is any text that is not empty. In a key, the five characters that would give it a second meaning stand
percent-encoded: ``%``, ``:`` (separates ids), ``{`` and ``}`` (choose the cluster slot), and control
characters (unreadable in redis-cli). Everything else, upper case and unicode included, stands as it is, so
for ordinary ids the published key is its text exactly, and no two ids ever share a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ecowas_lc.errors import ConfigurationError, CorruptDataError, InvalidIdError

_SPECIAL = re.compile(r"[%:{}\x00-\x1f\x7f]")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")
# A prefix also stands in ACL patterns, so none of the characters that mean something there.
_PREFIX = re.compile(r"[^\s:%{}*?\[\]\\\x00-\x1f\x7f]+")


def check_id(value: object, what: str) -> str:
    """``value`` where it is usable as an id.

    Raises:
        InvalidIdError: it is not text, or it is empty; ``what`` names it in the message.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"The {what} must be text, not {type(value).__name__}.")
    if not value:
        raise InvalidIdError(f"The {what} is empty. Give it at least one character.")
    return value


def checked_operation(operation: str | None) -> str | None:
    """The name of an operation where it is usable as one.

    Raises:
        InvalidIdError: it is not made of letters and digits.
    """
    if operation is not None and not (operation.isascii() and operation.isalnum()):
        raise InvalidIdError(f"The operation {operation!r} must be made of letters and digits.")
    return operation


def id_bytes(value: str) -> bytes:
    """An id as stored in an index: UTF-8, lone surrogates included, so that it always comes back."""
    return value.encode("utf-8", "surrogatepass")


def id_text(raw: bytes) -> str:
    """What :func:`id_bytes` stored.

    Raises:
        CorruptDataError: it stored nothing like this.
    """
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise CorruptDataError(
            f"Where an id should be stored, there is {raw[:40]!r}, which is not text. Another program uses this "
            "prefix: set ECOWAS_LC_PREFIX, or remove what it wrote."
        ) from None


def encode_id(value: object, what: str) -> bytes:
    """``value`` as it stands in a key.

    Raises:
        InvalidIdError: see :func:`check_id`.
    """
    text = check_id(value, what)
    if text.isalnum() or not _SPECIAL.search(text):
        return id_bytes(text)
    return id_bytes(_SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", text))


def decode_id(raw: bytes) -> str:
    """The id that :func:`encode_id` encoded."""
    return id_text(_ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), raw))


def wait_key(key: bytes) -> bytes:
    """A key in the slot of ``key`` and under its prefix, where nothing ever stays."""
    prefix, _, _ = key.partition(b":")
    tag = key.partition(b"{")[2].partition(b"}")[0] or key
    return prefix + b":wait:{" + tag + b"}"


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key of one prefix. One prefix is one organisation: an ACL of ``~{prefix}:*`` is enough."""

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
        """List of JSON objects, one message each, oldest first."""
        return self._key(b"history", encode_id(agent_id, "agent id"), encode_id(session_id, "session id"))

    def state(self, agent_id: str) -> bytes:
        """String: an agent's state as JSON."""
        return self._key(b"state", encode_id(agent_id, "agent id"))

    def session_data(self, session_id: str, key: str) -> bytes:
        """String: one value of a session as JSON."""
        return self._key(b"session", encode_id(session_id, "session id"), encode_id(key, "session data key"))

    # --- beside a history, in its cluster slot ---

    def history_meta(self, agent_id: str, session_id: str) -> bytes:
        """Sorted set beside a history: message ids that it knows, and when it began and was last used."""
        return self.beside(self.history(agent_id, session_id))

    def beside(self, history: bytes) -> bytes:
        """The key of :meth:`history_meta` from that of the history."""
        return self._key(b"history-meta", b"{" + history + b"}")

    # --- indexes: sorted sets scored by time, so that nothing is ever scanned ---

    def sessions(self) -> bytes:
        """Sorted set: sessions with a history or data, by the time until which they may live."""
        return self._key(b"index", b"sessions")

    def sessions_of_agent(self, agent_id: str) -> bytes:
        """Sorted set: the sessions in which an agent has a history, by the time until which they may live."""
        return self._key(b"index", b"sessions", encode_id(agent_id, "agent id"))

    def agents_of_session(self, session_id: str) -> bytes:
        """Sorted set: the agents with a history in a session, by the time until which they may live."""
        return self._key(b"index", b"session-agents", encode_id(session_id, "session id"))

    def data_of_session(self, session_id: str) -> bytes:
        """Sorted set: a session's data keys, by the time until which they may live."""
        return self._key(b"index", b"session-data", encode_id(session_id, "session id"))

    def agents(self) -> bytes:
        """Sorted set: agents with a history or a state, by the time until which they may live."""
        return self._key(b"index", b"agents")

    def threads(self) -> bytes:
        """Sorted set: threads with checkpoints, by last write."""
        return self._key(b"index", b"threads")

    def collections(self) -> bytes:
        """Sorted set: the collections of stores, by when a process last began to write to them."""
        return self._key(b"index", b"collections")

    def run(self, run_id: str) -> bytes:
        """Sorted set: the threads in which a run wrote checkpoints in the last 30 days."""
        return self._key(b"index", b"runs", encode_id(run_id, "run id"))

    def whole(self) -> bytes:
        """Hash: how many keys each server had evicted when the indexes were last written anew."""
        return self._key(b"index", b"whole")

    # --- the service: runs, every key of a session's in the cluster slot of its thread ---

    def runs_of_session(self, session_id: str) -> bytes:
        """List: the runs of a session that are under way or wait for their turn, in that order."""
        return self._of_runs(session_id, b"queue")

    def served_run(self, session_id: str, run_id: str) -> bytes:
        """Hash: what a run was asked, by whom, and how it stands."""
        return self._of_runs(session_id, b"run", encode_id(run_id, "run id"))

    def run_lease(self, session_id: str, run_id: str) -> bytes:
        """String: the process that drives a run, for as long as it renews this."""
        return self._of_runs(session_id, b"lease", encode_id(run_id, "run id"))

    def run_events(self, session_id: str, run_id: str) -> bytes:
        """Stream: what happened in a run; ids are the attempt and a number."""
        return self._of_runs(session_id, b"events", encode_id(run_id, "run id"))

    def _of_runs(self, session_id: str, *parts: bytes) -> bytes:
        return self._key(b"runs", b"{" + encode_id(session_id, "session id") + b"}", *parts)

    def session_of_run(self, run_id: str) -> bytes:
        """String: the session of a run."""
        return self._key(b"run-session", encode_id(run_id, "run id"))

    def open_runs(self) -> bytes:
        """Sorted set: runs that have not ended, with their sessions, by when their process was last heard of."""
        return self._key(b"index", b"open-runs")

    # --- the service: who may use it, and what was done ---

    def access_keys(self) -> bytes:
        """Hash: digests of API keys, and whose they are."""
        return self._key(b"access", b"keys")

    def access_people(self) -> bytes:
        """Hash: people that a reverse proxy signs in, and what they may."""
        return self._key(b"access", b"people")

    def login(self, digest: str) -> bytes:
        """String: who is signed in with the cookie of this digest."""
        return self._key(b"login", encode_id(digest, "digest"))

    def audit(self) -> bytes:
        """Stream: what was changed, by whom and when."""
        return self._key(b"audit")

    def analytics(self, day: str) -> bytes:
        """Hash: what was asked on a day, counted."""
        return self._key(b"analytics", encode_id(day, "day"))

    # --- removals, remembered for a day ---

    def cleared_session(self, session_id: str) -> bytes:
        """String: when everything of a session was last removed, in milliseconds."""
        return self._key(b"cleared", b"session", encode_id(session_id, "session id"))

    def cleared_agent(self, agent_id: str) -> bytes:
        """String: when everything of an agent was last removed, in milliseconds."""
        return self._key(b"cleared", b"agent", encode_id(agent_id, "agent id"))

    # --- checkpoints: every key of a thread in one cluster slot ---

    def thread(self, thread_id: str) -> bytes:
        """Hash: everything a thread holds (checkpoints, values, elements, pending writes)."""
        # Asked for with each operation; ids of any length must not stay in memory, though.
        make = _thread_key if len(thread_id) <= 200 else _thread_key.__wrapped__
        return make(self.prefix, thread_id)


@lru_cache(maxsize=4096)
def _thread_key(prefix: str, thread_id: str) -> bytes:
    return b"%b:checkpoint:{%b}" % (id_bytes(prefix), encode_id(thread_id, "thread id"))
