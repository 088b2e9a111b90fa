"""Detection of evictions: whether indexes may have lost entries, and how callers are warned.

The next write recreates an evicted index, which then names only what was written since. The index itself does not
show that, so the server is asked how many keys it has evicted.
"""

from __future__ import annotations

import warnings
from typing import Any

from ecowas_lc.errors import IncompleteWarning
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import EVERY_NODE, Op, command

_CURE = {
    "sessions": "`ecowas-lc sessions reindex` (or RedisMemoryService.reindex)",
    "threads": "`ecowas-lc threads reindex` (or RedisSaver.reindex)",
}


def facts_in(info: Any) -> dict[str, str]:
    """Return the fields of an ``INFO`` or ``CLUSTER INFO`` reply, by name."""
    if isinstance(info, dict):
        return {_text(key): _text(value) for key, value in info.items()}
    pairs = (line.split(":", 1) for line in _text(info).splitlines() if ":" in line)
    return {key: value.strip() for key, value in pairs}


def evicted_op() -> Op[dict[str, int]]:
    """Return the number of evicted keys by server run id; servers that refuse the question are left out."""
    [infos] = yield (command("INFO", optional=True, node=EVERY_NODE),)
    facts = [facts_in(info) for info in infos.values() if not isinstance(info, Exception)]
    return {each["run_id"]: int(each["evicted_keys"]) for each in facts if "run_id" in each}


def made_whole_op(keys: Keys, kind: str, evicted: dict[str, int]) -> Op[None]:
    """Record that the indexes of ``kind`` are complete, as of these numbers of evicted keys."""
    words = [word for run_id, count in evicted.items() if count for word in (f"{kind}:{run_id}", count)]
    if words:
        yield (command("HSET", keys.whole(), *words),)


def lost_op(keys: Keys, kind: str) -> Op[int]:
    """Return the number of keys evicted since the indexes of ``kind`` were last known to be complete."""
    evicted = {run_id: count for run_id, count in (yield from evicted_op()).items() if count}
    if not evicted:
        return 0
    [known] = yield (command("HMGET", keys.whole(), *(f"{kind}:{run_id}" for run_id in evicted)),)
    return sum(max(0, count - _number(then)) for count, then in zip(evicted.values(), known, strict=True))


def warn_of_evictions_op(keys: Keys, what: str, kind: str) -> Op[int]:
    """Warn about ``what`` if the indexes of ``kind`` may have lost entries; return the number of evictions."""
    count = yield from lost_op(keys, kind)
    if count:
        warnings.warn(
            f"{what}: Redis has evicted {count} keys, so indexes may lack entries. "
            f"Set maxmemory-policy to noeviction, run {_CURE[kind]}, then repeat this.",
            IncompleteWarning,
            stacklevel=2,
        )
    return count


def _number(stored: Any) -> int:
    text = _text(stored or "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
