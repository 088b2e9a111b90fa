"""The commands that this package sends, and the ACL rule for a user who may run only these.

A category such as ``@write`` gains commands with every version of the server, including ``FUNCTION LOAD``, so the
rule names commands. If you add a command to a script or a program, add it here: a test compares the two.
"""

from __future__ import annotations

_KEYS = """
    copy del exists expire get hdel hexists hget hgetall hincrby hkeys hlen hmget hscan hset lindex llen lpop
    lrange lrem ltrim persist pexpire pexpireat pttl rename rpush set type unlink xadd xrange xrevrange zadd
    zcard zcount zlexcount zmscore zrange zrangebyscore zrem zremrangebyrank zremrangebyscore zrevrange
    zrevrangebyscore zscore
"""
_SCRIPTS = "eval evalsha time"
_CONNECTIONS = "hello ping select wait"
_CLUSTERS = "asking cluster|slots command"

COMMANDS = tuple(sorted(f"{_KEYS} {_SCRIPTS} {_CONNECTIONS} {_CLUSTERS}".split()))
"""Every command that the package needs, on single servers, with Sentinel and on clusters."""

FIGURES = ("cluster|info", "dbsize", "info")
"""Further commands for statistics and ``ecowas-lc doctor``; without them, they report *unknown*."""

REINDEX = ("scan",)
"""A further command for ``reindex``. It lists every user's keys, so grant it only while ``reindex`` runs."""

COURTESIES = ("client|setinfo",)
"""Commands that redis-py sends on each new connection if the server knows them; a refusal has no effect."""

ALWAYS = ("auth", "hello", "quit", "reset")
"""Commands that Redis and Valkey allow every user, whatever the rule says."""


def rule(prefix: str, *, figures: bool = False) -> str:
    """Return the ACL rule for a user who may do only what this package needs under ``prefix``.

    Args:
        prefix: The prefix of the user's keys, without the colon.
        figures: Also grant the server's figures, which statistics and ``ecowas-lc doctor`` show.
    """
    granted = (f"+{name}" for name in (*COMMANDS, *(FIGURES if figures else ())))
    return " ".join((f"~{prefix}:*", "resetchannels", "-@all", *granted))
