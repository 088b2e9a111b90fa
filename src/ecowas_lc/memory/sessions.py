"""Programs for many histories at once, which use the indexes to list, renew and remove them.

Removing a session also removes the runs that ``ecowas-lc serve`` stored for it, with their events and answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ecowas_lc.memory.histories import (
    CLEARED,
    Conversations,
    SessionInfo,
    cleared_one,
    extended,
    has_journal,
    was_cleared,
)
from ecowas_lc.memory.json_values import from_json, lifetime_of, lifetime_seconds
from ecowas_lc.memory.session_index import entries, forget, listing, touch
from ecowas_lc.memory.states import Values, removal, removed_one
from ecowas_lc.storage.evictions import warn_of_evictions_op
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.left_out import attempted_op, readable_ids, warn_left_out
from ecowas_lc.storage.ops import Call, Command, Op, call, command

_RUNS_AT_ONCE = 100


def runs_listing(keys: Keys, session_id: str) -> tuple[Call, Call]:
    """Return the commands whose replies :func:`forget_runs_op` takes."""
    return (
        command("LRANGE", keys.runs_of_session(session_id), 0, -1, optional=True),
        command("ZRANGE", keys.stored_runs(session_id), 0, -1, optional=True),
    )


def count_runs_op(keys: Keys, session_id: str) -> Op[int]:
    """Return the number of a session's stored runs."""
    return len(_runs_in((yield runs_listing(keys, session_id))))


def forget_runs_op(keys: Keys, session_id: str, replies: Sequence[Any] | None = None) -> Op[int]:
    """Remove a session's runs, finished or not.

    Args:
        keys: The keys of the prefix.
        session_id: The session.
        replies: The replies to :func:`runs_listing`, if they have been read.

    Returns:
        The number of runs.
    """
    if replies is None:
        replies = yield runs_listing(keys, session_id)
    runs = _runs_in(replies)
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        yield tuple(
            removal
            for run in runs[start : start + _RUNS_AT_ONCE]
            for removal in (
                command("UNLINK", keys.served_run(session_id, run)),
                command("UNLINK", keys.run_events(session_id, run)),
                command("UNLINK", keys.run_lease(session_id, run)),
                command("UNLINK", keys.session_of_run(run)),
                command("ZREM", keys.open_runs(), id_bytes(run) + b":" + id_bytes(session_id), optional=True),
            )
        )
    if any(replies):  # the lists go last: if the removal is interrupted, a repeated call still finds the runs
        yield (command("UNLINK", keys.runs_of_session(session_id), keys.stored_runs(session_id)),)
    return len(runs)


def _runs_in(replies: Sequence[Any]) -> list[str]:
    ids = [member for reply in replies if not isinstance(reply, Exception) for member in reply]
    return list(dict.fromkeys(readable_ids(ids, "runs")))


T = TypeVar("T")

_READ_AT_ONCE = 50  # whole histories per flush, as they may be long
_AT_ONCE = 500  # commands per flush: enough to hide the round trips, few enough to keep in memory


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of one prefix, with their histories and values."""

    conversations: Conversations
    values: Values

    @property
    def keys(self) -> Keys:
        """The key names of the prefix."""
        return self.conversations.keys

    def of_agent_op(self, agent_id: str) -> Op[list[str]]:
        """Return the sessions in which an agent has a history, most recently active first."""
        index = self.keys.sessions_of_agent(agent_id)
        [reply] = yield (listing(index),)
        scores = entries(reply)
        used = yield from self._last_uses_op([(agent_id, session_id) for session_id in scores])
        strays = [(session, score) for session, score in scores.items() if (agent_id, session) not in used]
        for some in _chunks(strays):
            yield (forget(index, some),)
        return [session for _, session in sorted(used, key=lambda pair: (-used[pair], pair))]

    def agents_of_op(self, session_id: str) -> Op[list[str]]:
        """Return the agents that have a history in a session, most recently active first."""
        index = self.keys.agents_of_session(session_id)
        [reply] = yield (listing(index),)
        scores = entries(reply)
        used = yield from self._last_uses_op([(agent_id, session_id) for agent_id in scores])
        strays = [(agent, score) for agent, score in scores.items() if (agent, session_id) not in used]
        for some in _chunks(strays):
            yield (forget(index, some),)
        return [agent for agent, _ in sorted(used, key=lambda pair: (-used[pair], pair))]

    def agents_op(self) -> Op[list[str]]:
        """Return the agents that have histories or a state, in alphabetical order."""
        [reply] = yield (listing(self.keys.agents()),)
        names = sorted(entries(reply))
        living: list[str] = []
        for some in _chunks(names):
            replies = yield tuple(words for agent_id in some for words in self._belongings(agent_id))
            living += [name for name, *has in zip(some, replies[::2], replies[1::2], strict=True) if any(has)]
        return living

    def all_op(self, agent_id: str | None = None) -> Op[list[SessionInfo]]:
        """Return the metadata of all histories, or of all of an agent's, most recently active first."""
        agents = (yield from self.agents_op()) if agent_id is None else [agent_id]
        found: list[SessionInfo] = []
        for agent in agents:
            sessions = yield from self.of_agent_op(agent)
            for some in _chunks(sessions):
                pairs = [(agent, session_id) for session_id in some]
                found += yield from self.conversations.describe_op(pairs, each=True)
        return sorted(found, key=_recent_first)

    def containing_op(self, pairs: Sequence[tuple[str, str]], text: str) -> Op[set[tuple[str, str]]]:
        """Return those agents and sessions whose history has a message that contains ``text``, ignoring case."""
        wanted, found = text.casefold(), set()
        for first in range(0, len(pairs), _READ_AT_ONCE):
            some = pairs[first : first + _READ_AT_ONCE]
            replies = yield tuple(
                command("LRANGE", self.keys.history(*pair), 0, -1, optional=True) for pair in some
            )
            for pair, reply in zip(some, replies, strict=True):
                # A key that another program wrote may not be a list: read it separately, and tolerate errors.
                messages = yield from attempted_op(self._texts_op(pair, reply))
                if isinstance(messages, Exception):
                    warn_left_out(f"The history of {pair[0]!r} in the session {pair[1]!r}", messages)
                elif any(wanted in each.casefold() for each in messages):
                    found.add(pair)
        return found

    def _texts_op(self, pair: tuple[str, str], reply: Any) -> Op[list[str]]:
        key = self.keys.history(*pair)
        if isinstance(reply, Exception):
            messages: list[Any] = yield from self.conversations.read_op(*pair)
        else:
            messages = [from_json(item, key, index) for index, item in enumerate(reply)]
        return [said for message in messages for said in _texts(message)]

    def extend_op(self, agent_id: str, session_id: str, ttl: int | None = None) -> Op[bool]:
        """Renew a history and its session's data; return whether there was anything to renew."""
        lifetime = lifetime_seconds(ttl, self.values.default_ttl)
        data_index = self.keys.data_of_session(session_id)
        extend = self.conversations.extend_call(agent_id, session_id, ttl)
        history, data = yield (extend, listing(data_index))
        found, history_lifetime = extended(history)
        if found:
            yield self.conversations.index_calls(agent_id, session_id, history_lifetime)
        for names in _chunks(list(entries(data))):
            renewals = [self.values.renew_call(session_id, name, ttl) for name in names]
            _, _, *renewed = yield (
                touch(data_index, lifetime, *names),
                touch(self.keys.sessions(), lifetime, session_id),
                *renewals,
            )
            found = found or any(renewed)
        return found

    def clear_op(
        self, agent_id: str, session_id: str, *, operation: str | None = None, age_ms: int = 0
    ) -> Op[bool]:
        """Remove a history; return whether it existed.

        A removal that is repeated with the same ``operation``, or that was requested ``age_ms`` ago, keeps data
        that others have created since then.
        """
        clear = self.conversations.clear_call(agent_id, session_id, operation=operation, age_ms=age_ms)
        [reply, *_] = yield (clear, *self._forgetting(agent_id, session_id))
        found = was_cleared(reply)
        yield from self._tidy_op([agent_id], [session_id], [(agent_id, session_id)])
        return found

    def clear_agent_op(self, agent_id: str) -> Op[int]:
        """Remove all histories and the state of an agent; return their number."""
        index = self.keys.sessions_of_agent(agent_id)
        reply, state = yield (listing(index), removal(self.keys.state(agent_id)))
        gone = int(removed_one(state))
        names = entries(reply)
        for some in _chunks(list(names.items())):
            calls = [self.conversations.clear_call(agent_id, session_id) for session_id, _ in some]
            tidy = [
                command("ZREM", self.keys.agents_of_session(session_id), id_bytes(agent_id))
                for session_id, _ in some
            ]
            replies = yield (*calls, *tidy)
            gone += sum(map(cleared_one, replies[: len(calls)]))
            # Last: if the removals did not reach the required replicas, a repeated call still finds the names.
            yield (forget(index, some),)
        if gone:
            yield (call(CLEARED, (self.keys.cleared_agent(agent_id),), "mark"),)
        yield from self._tidy_op([agent_id], names, [(agent_id, session_id) for session_id in names])
        yield from warn_of_evictions_op(
            self.keys, f"Removing all of the agent {agent_id!r} may have left histories behind", "sessions"
        )
        return gone

    def clear_session_op(self, session_id: str, *, leaves_trace: bool = True) -> Op[int]:
        """Remove the session's data and the history of every agent in it; return their number.

        Without ``leaves_trace`` the server does not record the removal, so it can't recognise a repetition.
        """
        agents_reply, data_reply, all_agents_reply, *runs = yield (
            listing(self.keys.agents_of_session(session_id)),
            listing(self.keys.data_of_session(session_id)),
            listing(self.keys.agents()),
            *runs_listing(self.keys, session_id),
        )
        yield from forget_runs_op(self.keys, session_id, tuple(runs))
        gone, is_known_elsewhere = 0, False
        agents = entries(agents_reply)
        lost = yield from self._unlisted_op(session_id, entries(all_agents_reply).keys() - agents.keys())
        operation = None if leaves_trace else ""
        for some in _chunks([*agents.items(), *((agent_id, b"") for agent_id in lost)]):
            calls = [
                self.conversations.clear_call(agent_id, session_id, operation=operation) for agent_id, _ in some
            ]
            tidy = [
                command("ZREM", self.keys.sessions_of_agent(agent_id), id_bytes(session_id))
                for agent_id, _ in some
            ]
            replies = yield (*calls, *tidy)
            gone += sum(map(cleared_one, replies[: len(calls)]))
            is_known_elsewhere = is_known_elsewhere or any(map(has_journal, replies[: len(calls)]))
            yield (forget(self.keys.agents_of_session(session_id), [entry for entry in some if entry[1]]),)
        for data in _chunks(list(entries(data_reply).items())):
            replies = yield tuple(removal(self.keys.session_data(session_id, name)) for name, _ in data)
            gone += sum(map(removed_one, replies))
            yield (forget(self.keys.data_of_session(session_id), data),)
        if is_known_elsewhere:
            yield (call(CLEARED, (self.keys.cleared_session(session_id),), "mark"),)
        removed = [*agents, *lost]
        yield from self._tidy_op(removed, [session_id], [(agent_id, session_id) for agent_id in removed])
        if leaves_trace:
            yield from warn_of_evictions_op(
                self.keys,
                f"Removing the session {session_id!r} may have left histories or data behind",
                "sessions",
            )
        return gone

    def _unlisted_op(self, session_id: str, agent_ids: Iterable[str]) -> Op[list[str]]:
        """Return the agents with a history in a session that an evicted index of the session lacks."""
        found: list[str] = []
        for some in _chunks(sorted(agent_ids)):
            there = yield tuple(command("EXISTS", self.keys.history(agent_id, session_id)) for agent_id in some)
            found += [agent_id for agent_id, exists in zip(some, there, strict=True) if exists]
        return found

    def _last_uses_op(self, pairs: Sequence[tuple[str, str]]) -> Op[dict[tuple[str, str], float]]:
        used: dict[tuple[str, str], float] = {}
        for some in _chunks(pairs):
            replies = yield tuple(
                words
                for pair in some
                for words in (
                    command("EXISTS", self.keys.history(*pair)),
                    command("ZSCORE", self.keys.history_meta(*pair), "used", optional=True),
                )
            )
            for pair, exists, last in zip(some, replies[::2], replies[1::2], strict=True):
                if exists:
                    used[pair] = 0.0 if isinstance(last, Exception) else float(last or 0)
        return used

    def _forgetting(self, agent_id: str, session_id: str) -> tuple[Command, Command]:
        return (
            command("ZREM", self.keys.sessions_of_agent(agent_id), id_bytes(session_id)),
            command("ZREM", self.keys.agents_of_session(session_id), id_bytes(agent_id)),
        )

    def _tidy_op(
        self, agent_ids: Iterable[str], session_ids: Iterable[str], removed: Sequence[tuple[str, str]]
    ) -> Op[None]:
        # Counts come from the indexes, so agents and sessions without data are removed from them at once.
        agents, sessions = list(agent_ids), list(session_ids)
        asked: list[Command] = []
        for agent_id in agents:
            asked += *self._belongings(agent_id), command("ZSCORE", self.keys.agents(), id_bytes(agent_id))
        for session_id in sessions:
            asked += (
                command("EXISTS", self.keys.agents_of_session(session_id)),
                command("EXISTS", self.keys.data_of_session(session_id)),
                command("ZSCORE", self.keys.sessions(), id_bytes(session_id)),
            )
        asked += (command("PTTL", self.keys.history(*pair)) for pair in removed)
        replies: list[Any] = []
        for some in _chunks(asked):
            replies += yield tuple(some)
        of_agents, end = 3 * len(agents), 3 * (len(agents) + len(sessions))
        yield from _drop_op(self.keys.agents(), agents, replies[:of_agents])
        yield from _drop_op(self.keys.sessions(), sessions, replies[of_agents:end])
        # Others may have recreated a removed history before its name was removed from the indexes.
        for pair, milliseconds in zip(removed, replies[end:], strict=True):
            if milliseconds != -2:
                yield self.conversations.index_calls(*pair, lifetime_of(milliseconds))

    def _belongings(self, agent_id: str) -> tuple[Command, Command]:
        return (
            command("EXISTS", self.keys.sessions_of_agent(agent_id)),
            command("EXISTS", self.keys.state(agent_id)),
        )


def _texts(value: Any) -> Iterable[str]:
    """Yield the texts of a stored message, wherever its form keeps them."""
    if isinstance(value, dict):
        for name in ("content", "text", "data"):
            held = value.get(name)
            if isinstance(held, str):
                yield held
            elif held is not None:
                yield from _texts(held)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, str):
                yield each
            else:
                yield from _texts(each)


def _drop_op(index: bytes, names: Sequence[str], replies: Sequence[Any]) -> Op[None]:
    """Remove idle names from an index; ``replies`` has, for each name, two existence flags and its score."""
    rows = zip(names, replies[::3], replies[1::3], replies[2::3], strict=True)
    strays = [
        (name, repr(float(score)).encode()) for name, *has, score in rows if not any(has) and score is not None
    ]
    for some in _chunks(strays):
        yield (forget(index, some),)


def _recent_first(info: SessionInfo) -> tuple[float, str, str]:
    return (-info.last_activity.timestamp() if info.last_activity else 0.0, info.agent_id, info.session_id)


def _chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[first : first + _AT_ONCE] for first in range(0, len(items), _AT_ONCE))
