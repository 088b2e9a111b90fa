"""What ``doctor`` asks of the servers around the one that answers: a cluster's nodes, the sentinels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ecowas_lc.cli.findings import Finding, broken, ok, warning
from ecowas_lc.cli.redis_commands import Commands
from ecowas_lc.storage.ops import EVERY_NODE, Op, command
from ecowas_lc.storage.server import Server

AREA = "Redis"
_SLOTS = "16384"


def examine_cluster(server: Server, commands: Commands) -> Iterator[Finding]:
    """Yield how the cluster stands: whether every slot is served, by nodes that agree on it."""
    for name, reply in server.run(on_every_node("CLUSTER", "INFO")).items():
        facts = facts_in(reply) if not isinstance(reply, Exception) else {}
        if facts.get("cluster_state", "ok") != "ok" or facts.get("cluster_slots_ok", _SLOTS) != _SLOTS:
            text = (
                f"{name}: {facts.get('cluster_slots_ok')} of {_SLOTS} slots are served: conversations are missing"
            )
            yield broken(AREA, "cluster", text, commands.redis_cli("--cluster", "fix", name))
            return
    yield ok(AREA, "cluster", f"every slot is served, by {len(server.client.get_primaries())} primaries")


def examine_sentinels(server: Server) -> Iterator[Finding]:
    """Yield whether the sentinels that were named answer, and would agree on another primary."""
    from redis.exceptions import RedisError, ResponseError

    pool = server.client.connection_pool
    answering = 0
    for sentinel in pool.sentinel_manager.sentinels:
        options = sentinel.connection_pool.connection_kwargs
        at = f"{options.get('host')}:{options.get('port')}"
        try:
            sentinel.execute_command("SENTINEL", "CKQUORUM", pool.service_name)
        except ResponseError as error:
            if "NOQUORUM" not in str(error) and "quorum" not in str(error):
                yield warning(AREA, "sentinel", f"{at}: it refuses to tell: {error}", _start(options))
                continue
            text = f"{at}: too few sentinels to choose another primary, should this one fail"
            yield warning(
                AREA, "sentinel", text, "start the other sentinels: redis-server sentinel.conf --sentinel"
            )
        except (RedisError, OSError):
            yield warning(AREA, "sentinel", f"{at} does not answer", _start(options))
        else:
            answering += 1
    if answering:
        count = len(pool.sentinel_manager.sentinels)
        yield ok(AREA, "sentinel", f"{answering} of {count} named answer and would agree on another primary")


def _start(options: dict[str, Any]) -> str:
    return f"on {options.get('host')}: redis-server sentinel.conf --sentinel --port {options.get('port')}"


def on_every_node(*words: str) -> Op[dict[str, Any]]:
    """What each primary answers, by its name; an error is an answer."""
    [replies] = yield (command(*words, optional=True, node=EVERY_NODE),)
    return dict(replies)


def facts_in(info: Any) -> dict[str, str]:
    """What INFO or CLUSTER INFO tells."""
    if isinstance(info, dict):
        return {text_of(key): text_of(value) for key, value in info.items()}
    pairs = (line.split(":", 1) for line in text_of(info).splitlines() if ":" in line)
    return {key: value.strip() for key, value in pairs}


def text_of(value: Any) -> str:
    """Bytes and whatever else as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
