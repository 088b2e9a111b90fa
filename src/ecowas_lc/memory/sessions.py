"""Programs over many histories at once: listing, renewing and removing them by the indexes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ecowas_lc.memory.histories import Conversations, SessionInfo, cleared_one, extended, was_cleared
from ecowas_lc.memory.index import entries, forget, listing, touch
from ecowas_lc.memory.json_values import lifetime_seconds
from ecowas_lc.memory.values import Values, removal, removed_one
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.ops import Command, Op, command

T = TypeVar("T")

_AT_ONCE = 500  # commands in flight: enough to hide the round trips, few enough to hold in memory


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of one prefix, over its histories and values."""

    conversations: Conversations
    values: Values

    @property
    def keys(self) -> Keys:
        """The prefix's key names."""
        return self.conversations.keys

    def of_agent_op(self, agent_id: str) -> Op[list[str]]:
        """The sessions in which an agent has a history now, most recently active first."""
        index = self.keys.sessions_of_agent(agent_id)
        [reply] = yield (listing(index),)
        scores = entries(reply)
        used = yield from self._last_uses_op([(agent_id, session_id) for session_id in scores])
        strays = [(session, score) for session, score in scores.items() if (agent_id, session) not in used]
        for some in _chunks(strays):
            yield (forget(index, some),)
        return [session for _, session in sorted(used, key=lambda pair: (-used[pair], pair))]

    def agents_of_op(self, session_id: str) -> Op[list[str]]:
        """The agents that have a history in a session now, most recently active first."""
        index = self.keys.agents_of_session(session_id)
        [reply] = yield (listing(index),)
        scores = entries(reply)
        used = yield from self._last_uses_op([(agent_id, session_id) for agent_id in scores])
        strays = [(agent, score) for agent, score in scores.items() if (agent, session_id) not in used]
        for some in _chunks(strays):
            yield (forget(index, some),)
        return [agent for agent, _ in sorted(used, key=lambda pair: (-used[pair], pair))]

    def agents_op(self) -> Op[list[str]]:
        """The agents that have histories or a state, in alphabetical order."""
        [reply] = yield (listing(self.keys.agents()),)
        names = sorted(entries(reply))
        living: list[str] = []
        for some in _chunks(names):
            replies = yield tuple(words for agent_id in some for words in self._belongings(agent_id))
            living += [name for name, *has in zip(some, replies[::2], replies[1::2], strict=True) if any(has)]
        return living

    def all_op(self, agent_id: str | None = None) -> Op[list[SessionInfo]]:
        """What is known of every history, or of every one of an agent; most recently active first."""
        agents = (yield from self.agents_op()) if agent_id is None else [agent_id]
        found: list[SessionInfo] = []
        for agent in agents:
            sessions = yield from self.of_agent_op(agent)
            for some in _chunks(sessions):
                found += yield from self.conversations.describe_op([(agent, session_id) for session_id in some])
        return sorted(found, key=_recent_first)

    def extend_op(self, agent_id: str, session_id: str, ttl: int | None = None) -> Op[bool]:
        """Renew a history and its session's data; whether there was anything to renew."""
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

    def clear_op(self, agent_id: str, session_id: str) -> Op[bool]:
        """Remove a history; whether there was one."""
        clear = self.conversations.clear_call(agent_id, session_id)
        [reply, *_] = yield (clear, *self._forgetting(agent_id, session_id))
        found = was_cleared(reply)
        yield from self._tidy_op([agent_id], [session_id])
        return found

    def clear_agent_op(self, agent_id: str) -> Op[int]:
        """Remove all histories and the state of an agent; how many there were."""
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
            # Afterwards: where removals did not reach the replicas that are waited for, a repetition finds them.
            yield (forget(index, some),)
        yield from self._tidy_op([agent_id], names)
        return gone

    def clear_session_op(self, session_id: str) -> Op[int]:
        """Remove every agent's history in a session and the session's data; how many there were."""
        agents_reply, data_reply = yield (
            listing(self.keys.agents_of_session(session_id)),
            listing(self.keys.data_of_session(session_id)),
        )
        gone = 0
        agents = entries(agents_reply)
        for some in _chunks(list(agents.items())):
            calls = [self.conversations.clear_call(agent_id, session_id) for agent_id, _ in some]
            tidy = [
                command("ZREM", self.keys.sessions_of_agent(agent_id), id_bytes(session_id))
                for agent_id, _ in some
            ]
            replies = yield (*calls, *tidy)
            gone += sum(map(cleared_one, replies[: len(calls)]))
            yield (forget(self.keys.agents_of_session(session_id), some),)
        for data in _chunks(list(entries(data_reply).items())):
            replies = yield tuple(removal(self.keys.session_data(session_id, name)) for name, _ in data)
            gone += sum(map(removed_one, replies))
            yield (forget(self.keys.data_of_session(session_id), data),)
        yield from self._tidy_op(agents, [session_id])
        return gone

    def _last_uses_op(self, pairs: Sequence[tuple[str, str]]) -> Op[dict[tuple[str, str], float]]:
        used: dict[tuple[str, str], float] = {}
        for some in _chunks(pairs):
            replies = yield tuple(
                words
                for pair in some
                for words in (
                    command("EXISTS", self.keys.history(*pair)),
                    command("ZSCORE", self.keys.history_meta(*pair), "used"),
                )
            )
            for pair, exists, last in zip(some, replies[::2], replies[1::2], strict=True):
                if exists:
                    used[pair] = float(last or 0)
        return used

    def _forgetting(self, agent_id: str, session_id: str) -> tuple[Command, Command]:
        return (
            command("ZREM", self.keys.sessions_of_agent(agent_id), id_bytes(session_id)),
            command("ZREM", self.keys.agents_of_session(session_id), id_bytes(agent_id)),
        )

    def _tidy_op(self, agent_ids: Iterable[str], session_ids: Iterable[str]) -> Op[None]:
        # Counts are taken from the indexes, so agents and sessions with nothing left go out of them at once.
        agents, sessions = self.keys.agents(), self.keys.sessions()
        for some in _chunks(list(agent_ids)):
            replies = yield tuple(
                words
                for agent_id in some
                for words in (*self._belongings(agent_id), command("ZSCORE", agents, id_bytes(agent_id)))
            )
            rows = zip(some, replies[::3], replies[1::3], replies[2::3], strict=True)
            idle = [
                (name, score) for name, has_history, has_state, score in rows if not (has_history or has_state)
            ]
            yield from _drop_op(agents, idle)
        for some in _chunks(list(session_ids)):
            replies = yield tuple(
                words
                for session_id in some
                for words in (
                    command("EXISTS", self.keys.agents_of_session(session_id)),
                    command("EXISTS", self.keys.data_of_session(session_id)),
                    command("ZSCORE", sessions, id_bytes(session_id)),
                )
            )
            rows = zip(some, replies[::3], replies[1::3], replies[2::3], strict=True)
            idle = [(name, score) for name, has_history, has_data, score in rows if not (has_history or has_data)]
            yield from _drop_op(sessions, idle)

    def _belongings(self, agent_id: str) -> tuple[Command, Command]:
        return (
            command("EXISTS", self.keys.sessions_of_agent(agent_id)),
            command("EXISTS", self.keys.state(agent_id)),
        )


def _drop_op(index: bytes, idle: list[tuple[str, Any]]) -> Op[None]:
    strays = [(name, repr(float(score)).encode()) for name, score in idle if score is not None]
    if strays:
        yield (forget(index, strays),)


def _recent_first(info: SessionInfo) -> tuple[float, str, str]:
    return (-info.last_activity.timestamp() if info.last_activity else 0.0, info.agent_id, info.session_id)


def _chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[first : first + _AT_ONCE] for first in range(0, len(items), _AT_ONCE))
