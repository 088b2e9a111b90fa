"""The commands that this package sends, and the ACL rule for a user who may do nothing else.

A category such as ``@write`` gains commands with every version of the server, ``FUNCTION LOAD`` among them, so the
rule names commands. Whoever adds a command to a script or a program adds it here: a test compares the two.
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
"""What statistics and ``ecowas-lc doctor`` ask as well; without them they answer *unknown*."""

REINDEX = ("scan",)
"""What ``reindex`` needs as well. It names every user's keys, so it is granted only while that runs."""

COURTESIES = ("client|setinfo",)
"""What redis-py sends on each new connection where the server knows it; a refusal changes nothing."""

ALWAYS = ("auth", "hello", "quit", "reset")
"""What Redis and Valkey let every user do, whatever the rule says."""


def rule(prefix: str, *, figures: bool = False) -> str:
    """Return the ACL rule for a user who may do what this package needs under ``prefix``, and nothing else.

    Args:
        prefix: what the user's keys begin with, before the colon.
        figures: grant the server's figures too, which statistics and ``ecowas-lc doctor`` show.
    """
    granted = (f"+{name}" for name in (*COMMANDS, *(FIGURES if figures else ())))
    return " ".join((f"~{prefix}:*", "resetchannels", "-@all", *granted))
