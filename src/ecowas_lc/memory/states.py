"""Programs for single JSON values: an agent's state and a session's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecowas_lc.errors import WrongTypeError
from ecowas_lc.memory.json_values import FOREVER, expiry_rule, from_json, lifetime_seconds, to_json, wrong_type
from ecowas_lc.memory.session_index import entries, listing, touch
from ecowas_lc.storage.keys import Keys, id_bytes
from ecowas_lc.storage.ops import Op, ScriptCall, call, command, load_script

STORE = load_script("memory_value")
RENEW = load_script("memory_renew")
REMOVE = load_script("memory_remove")

_FOREIGN = 2
_KEYS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Values:
    """The states and session data of one prefix; ``default_ttl`` is in seconds, ``None``: no expiry."""

    keys: Keys
    default_ttl: int | None

    def save_state_op(self, agent_id: str, state: Any, ttl: int | None = None) -> Op[None]:
        """Store an agent's state, replacing the previous one."""
        yield from self.put_state_op(agent_id, state, lifetime_seconds(ttl, self.default_ttl))

    def put_state_op(
        self, agent_id: str, state: Any, lifetime: float, *, only_if_absent: bool = False
    ) -> Op[bool]:
        """Store an agent's state for ``lifetime`` seconds; return whether it was written."""
        store = _store(self.keys.state(agent_id), to_json(state, "state"), lifetime, only_if_absent)
        replies = yield (touch(self.keys.agents(), lifetime, agent_id), store)
        return _was_changed(replies[-1])

    def state_op(self, agent_id: str) -> Op[Any]:
        """Return an agent's state; ``None`` if there is none."""
        return (yield from _value_op(self.keys.state(agent_id)))

    def set_data_op(self, session_id: str, name: str, value: Any, ttl: int | None = None) -> Op[None]:
        """Store a value of a session."""
        yield from self.put_data_op(session_id, name, value, lifetime_seconds(ttl, self.default_ttl))

    def put_data_op(
        self, session_id: str, name: str, value: Any, lifetime: float, *, only_if_absent: bool = False
    ) -> Op[bool]:
        """Store a value of a session for ``lifetime`` seconds; return whether it was written."""
        store = _store(self.keys.session_data(session_id, name), to_json(value, "value"), lifetime, only_if_absent)
        replies = yield (
            touch(self.keys.data_of_session(session_id), lifetime, name),
            touch(self.keys.sessions(), lifetime, session_id),
            store,
        )
        return _was_changed(replies[-1])

    def data_op(self, session_id: str, name: str) -> Op[Any]:
        """Return a value of a session; ``None`` if there is none."""
        return (yield from _value_op(self.keys.session_data(session_id, name)))

    def delete_data_op(self, session_id: str, name: str) -> Op[bool]:
        """Remove a value of a session; return whether it existed."""
        gone, _ = yield (
            removal(self.keys.session_data(session_id, name)),
            command("ZREM", self.keys.data_of_session(session_id), id_bytes(name)),
        )
        return _was_changed(gone)

    def all_data_op(self, session_id: str) -> Op[dict[str, Any]]:
        """Return all values of a session by key."""
        [reply] = yield (listing(self.keys.data_of_session(session_id)),)
        names = sorted(entries(reply))
        found: dict[str, Any] = {}
        for first in range(0, len(names), _KEYS_AT_ONCE):
            some = names[first : first + _KEYS_AT_ONCE]
            keys = [self.keys.session_data(session_id, name) for name in some]
            bodies = yield tuple(command("GET", key, optional=True) for key in keys)
            for name, key, body in zip(some, keys, bodies, strict=True):
                if isinstance(body, Exception):
                    value = yield from _value_op(key)  # raises the value's error, unless it is valid by now
                    found |= {} if value is None else {name: value}
                elif body is not None:
                    found[name] = from_json(body, key)
        return found

    def renew_call(self, session_id: str, name: str, ttl: int | None) -> ScriptCall:
        """Return the call that renews a value of a session; its reply is 1 if the value exists."""
        return call(RENEW, (self.keys.session_data(session_id, name),), expiry_rule(ttl, self.default_ttl))


def removal(key: bytes) -> ScriptCall:
    """Return the call that removes a value; :func:`removed_one` reads its reply."""
    return call(REMOVE, (key,))


def removed_one(reply: list[Any]) -> bool:
    """Return whether the value existed, for one of many: another program's data is kept, and is not an error."""
    return reply[0] != _FOREIGN and bool(reply[0])


def _store(key: bytes, body: bytes, lifetime: float, only_if_absent: bool) -> ScriptCall:
    milliseconds: str | int = "" if lifetime == FOREVER else int(lifetime * 1000)
    return call(STORE, (key,), body, milliseconds, *(("absent",) if only_if_absent else ()))


def _value_op(key: bytes) -> Op[Any]:
    try:
        [body] = yield (command("GET", key),)
    except WrongTypeError:
        [kind] = yield (command("TYPE", key),)
        raise wrong_type(key, kind.decode() if isinstance(kind, bytes) else kind) from None
    return None if body is None else from_json(body, key)


def _was_changed(reply: list[Any]) -> bool:
    if reply[0] == _FOREIGN:
        raise wrong_type(reply[1], reply[2].decode())
    return bool(reply[0])
