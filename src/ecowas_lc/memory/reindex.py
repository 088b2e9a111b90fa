"""The only program that scans: it finds histories, states and session data that are missing from the indexes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ecowas_lc.errors import InvalidIdError
from ecowas_lc.memory.histories import Conversations
from ecowas_lc.memory.json_values import lifetime_of, shown
from ecowas_lc.memory.session_index import touch
from ecowas_lc.storage.evictions import evicted_op, made_whole_op
from ecowas_lc.storage.keys import Keys, decode_id, id_bytes
from ecowas_lc.storage.ops import Op, ScriptCall, command
from ecowas_lc.storage.scanning import scan_op

_log = logging.getLogger("ecowas_lc.memory")


def reindex_op(conversations: Conversations) -> Op[int]:
    """Add missing data to the indexes; return the number of histories added."""
    keys = conversations.keys
    evicted = yield from evicted_op()
    added = yield from scan_op(id_bytes(keys.prefix) + b":*", lambda names: _enter_op(conversations, names))
    yield from made_whole_op(keys, "sessions", evicted)
    return added


def _enter_op(conversations: Conversations, names: Iterable[bytes]) -> Op[int]:
    keys = conversations.keys
    named = [(name, *place) for name in names if (place := _place(keys, name))]
    if not named:
        return 0
    replies = yield tuple(words for name, *_ in named for words in (command("PTTL", name), command("TYPE", name)))
    found = [
        (kind, ids, lifetime_of(left))
        for (name, kind, ids), left, stored in zip(named, replies[::2], replies[1::2], strict=True)
        if _is_ours(name, kind, stored)
    ]
    histories = [ids for kind, ids, _ in found if kind == b"history"]
    known = (
        (
            yield tuple(
                command("ZSCORE", keys.sessions_of_agent(agent_id), id_bytes(session_id))
                for agent_id, session_id in histories
            )
        )
        if histories
        else []
    )
    calls: list[ScriptCall] = []
    for kind, ids, lifetime in found:
        if kind == b"history":
            agent_id, session_id = ids
            calls += conversations.index_calls(agent_id, session_id, lifetime)
        elif kind == b"state":
            calls.append(touch(keys.agents(), lifetime, *ids))
        else:
            session_id, name = ids
            calls.append(touch(keys.data_of_session(session_id), lifetime, name))
            calls.append(touch(keys.sessions(), lifetime, session_id))
    if calls:
        yield tuple(calls)
    return sum(score is None for score in known)


def _is_ours(name: bytes, kind: bytes, reply: bytes | str) -> bool:
    stored = reply.decode() if isinstance(reply, bytes) else reply
    if stored == "string" or (stored == "list" and kind == b"history"):
        return True
    if stored != "none":  # if it is, the key has expired in the meantime
        _log.warning("The key %s holds a %s that this package never wrote: it was skipped", shown(name), stored)
    return False


def _place(keys: Keys, name: bytes) -> tuple[bytes, list[str]] | None:
    kind, _, rest = name.removeprefix(id_bytes(keys.prefix) + b":").partition(b":")
    names: dict[bytes, Callable[..., bytes]] = {
        b"history": keys.history,
        b"state": keys.state,
        b"session": keys.session_data,
    }
    if kind not in names:
        return None
    try:
        ids = [decode_id(part) for part in rest.split(b":")]
        if names[kind](*ids) == name:
            return kind, ids
    except (InvalidIdError, TypeError, UnicodeDecodeError):
        pass
    _log.warning(
        "The key %s names no ids, so it can't be found: rename it, and write : in ids as %%3A", shown(name)
    )
    return None
