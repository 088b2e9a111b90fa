"""Programs that ask about the server: how much it holds, whether it answers."""

from __future__ import annotations

from typing import Any

from ecowas_lc.memory.index import counting, entries, listing
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import EVERY_NODE, Op, command

_FORBIDDEN = "unknown (this user may not run INFO)"


def stats_op(keys: Keys) -> Op[dict[str, Any]]:
    """What the server holds, summed over a cluster's primaries, and what the indexes count."""
    [sizes] = yield (command("DBSIZE", optional=True, node=EVERY_NODE),)
    [infos] = yield (command("INFO", "memory", optional=True, node=EVERY_NODE),)
    used = [_used_memory(info) for info in infos.values()]
    used_bytes = None if None in used else sum(size for size in used if size is not None)
    known_sizes = [size for size in sizes.values() if isinstance(size, int)]
    agents, sessions, threads = yield (
        listing(keys.agents()),
        counting(keys.sessions()),
        command("ZCARD", keys.threads()),
    )
    names = list(entries(agents))
    histories = (yield tuple(counting(keys.sessions_of_agent(name)) for name in names)) if names else []
    return {
        "used_memory": _FORBIDDEN if used_bytes is None else _human(used_bytes),
        "used_memory_bytes": used_bytes,
        "total_keys": sum(known_sizes) if len(known_sizes) == len(sizes) else None,
        "nodes": len(sizes),
        "agents": len(names),
        "sessions": sessions,
        "histories": sum(histories),
        "threads": threads,
    }


def ping_op(keys: Keys) -> Op[bool]:
    """Whether the server answers a question about this prefix."""
    yield (command("EXISTS", keys.agents()),)
    return True


def _used_memory(info: Any) -> int | None:
    if isinstance(info, Exception):
        return None
    if isinstance(info, dict):  # redis-py parses INFO by itself
        return int(info["used_memory"])
    lines = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    return int(lines[b"used_memory"])


def _human(size: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if size < 1024 or unit == "G":
            break
        size /= 1024
    return f"{size:.2f}{unit}"
