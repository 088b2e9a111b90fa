"""Programs that say which run has a thread: for a while, so that one that died keeps nobody out for long."""

from __future__ import annotations

from ecowas_lc.errors import InvalidInputError
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import Op, call, load_script

_LEASE = load_script("thread_lease")


def hold_op(keys: Keys, thread_id: str, holder: str, seconds: float) -> Op[bool]:
    """Take a thread for a holder, or renew its time; return whether the holder has it now."""
    if not holder or seconds <= 0:
        raise InvalidInputError("A thread is held by somebody with a name, for more than 0 seconds.")
    [taken] = yield (call(_LEASE, (_key(keys, thread_id),), "take", holder, max(1, round(1000 * seconds))),)
    return bool(taken)


def release_op(keys: Keys, thread_id: str, holder: str) -> Op[None]:
    """Let go of a thread, where the holder has it."""
    yield (call(_LEASE, (_key(keys, thread_id),), "drop", holder, 0),)


def _key(keys: Keys, thread_id: str) -> bytes:
    return keys.thread(thread_id) + b":run"
