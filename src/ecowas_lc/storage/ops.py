"""Programs: what an operation sends and what it makes of the replies, with no I/O of its own.

A program is a generator that yields batches of commands, receives their replies and returns its result.
:mod:`ecowas_lc.storage.server` drives it over a sync or an async client, so that no logic is written
twice. Each batch is one flush to the server and, on a single server, one round trip. Server-side scripts are one
atomic step each, kept as Lua files in the folder ``lua``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeVar

from ecowas_lc.errors import NotReplicatedError
from ecowas_lc.storage.keys import wait_key


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the digest under which a server that has seen it knows it."""

    name: str
    source: bytes
    sha: str


@cache
def load_script(*names: str, name: str = "") -> Script:
    """The script made of these files of the folder ``lua``, in order; called ``name``, or as the last of them."""
    folder = resources.files(__package__).joinpath("lua")
    source = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
    return Script(name or names[-1], source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


T = TypeVar("T")

Arg = bytes | str | int | float
Words = tuple[Arg, ...]


class Command(NamedTuple):
    """One command, its key among ``args`` where Redis expects it; ``optional``: an error is its reply.

    ``node``: for commands about a server rather than a key. They are alone in their batch, and the reply is a dict
    by the node's name: that one node's, or with ``EVERY_NODE`` each primary's (a single server's name is ``""``).
    ``settles``: see :func:`settled`.
    """

    args: tuple[Arg, ...]
    optional: bool = False
    node: str | None = None
    settles: bool = False

    def wire(self) -> tuple[Arg, ...]:
        """The words to send."""
        return self.args

    def wire_with_source(self) -> tuple[Arg, ...]:
        """The same."""
        return self.args


class ScriptCall(NamedTuple):
    """One atomic step on the server: a script, the keys it may touch (all in one slot) and its arguments."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[Arg, ...] = ()
    optional: bool = False

    def wire(self) -> tuple[Arg, ...]:
        """The words to send where the server has the script already, as it nearly always does."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def wire_with_source(self) -> tuple[Arg, ...]:
        """The words to send where it has not (a new server, ``SCRIPT FLUSH``, a failover)."""
        return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.args)


# Newer servers' WAIT is for what its own connection wrote, and a write that is repeated may find all done: then
# this is what is waited for, and with it what was written before. Removal first: a server that is out of memory
# refuses a script's first write alone, and never that.
_SEEN = b"redis.call('UNLINK', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('UNLINK', KEYS[1])"


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many replicas must have a write before its call returns, and for how long that is waited for."""

    replicas: int
    milliseconds: int

    def words(self, written: Call) -> tuple[Words, Words]:
        """To send after a write, on its connection: something that replicas see, and the wait for it."""
        return ("EVAL", _SEEN, 1, wait_key(key_of(written))), ("WAIT", self.replicas, self.milliseconds)

    def check(self, replicas: int, where: str) -> None:
        """Raise where too few replicas have what was written at ``where``."""
        if replicas < self.replicas:
            raise NotReplicatedError(
                f"Redis at {where} has made the write, and {replicas} of {self.replicas} replicas had it after "
                f"{self.milliseconds} ms. Start replicas again, or lower wait_replicas. The call may be repeated, "
                "but a message without an id would be there twice."
            )


EVERY_NODE = "*"
# What redis-py takes for "bytes out", whatever the client's decode_responses says.
BYTES_OUT: dict[str, Any] = {"NEVER_DECODE": True}
# Batches of these alone change nothing, so no replica need be waited for.
_READING = {"GET", "MGET", "TYPE", "EXISTS", "LRANGE", "LLEN", "PTTL", "ZSCORE", "ZMSCORE", "ZCARD", "ZREVRANGE"}
_READING |= {"ZRANGE", "HEXISTS", "HGETALL", "HLEN", "HMGET", "HSCAN", "DBSIZE", "INFO", "SCAN"}
_READING |= {"HGET", "XRANGE", "XREVRANGE", "ZRANGEBYSCORE"}
_READING |= {"checkpoint_read", "checkpoint_elements", "memory_index_list"}
_READING |= {"items_fetch", "items_changes", "items_newest", "items_versions"}

Call = Command | ScriptCall
Batch = tuple[Call, ...]
Op = Generator[Batch, list[Any], T]


def name_of(item: Call) -> str:
    """The script's name, or the command's."""
    return item.script.name if isinstance(item, ScriptCall) else str(item.args[0])


def key_of(item: Call) -> bytes:
    """The key that it is about, or the first of them."""
    key = item.keys[0] if isinstance(item, ScriptCall) else item.args[1]
    assert isinstance(key, bytes)
    return key


def prefix_of(batch: Batch) -> str:
    """The prefix of the keys that a batch is about; empty where it is about the server."""
    for item in batch:
        words = item.keys if isinstance(item, ScriptCall) else item.args[1:]
        for word in words:
            if isinstance(word, bytes) and b":" in word:
                return word.partition(b":")[0].decode(errors="replace")
    return ""


def writes(batch: Batch) -> bool:
    """Whether a batch may change anything, or stands for one that has."""
    return any(name_of(item) not in _READING or (type(item) is Command and item.settles) for item in batch)


def command(*args: Arg, optional: bool = False, node: str | None = None) -> Command:
    """``command("GET", key)``."""
    return Command(args, optional, node)


def settled(key: bytes) -> Command:
    """Instead of a write that finds nothing to do: replicas that writes wait for are waited for as well.

    Where there are none, nothing is sent. It is alone in its batch.
    """
    return Command(("EXISTS", key), settles=True)


def call(script: Script, keys: tuple[bytes, ...], *args: Arg, optional: bool = False) -> ScriptCall:
    """``call(APPEND, (history_key,), body, ttl_seconds)``."""
    return ScriptCall(script, keys, args, optional)


def together(programs: Sequence[Op[Any]]) -> Op[list[Any]]:
    """Run several programs in step, so that what they send at the same time goes out in one flush."""
    results: list[Any] = [None] * len(programs)
    pending: dict[int, Batch] = {}

    def advance(number: int, replies: list[Any] | None) -> None:
        try:
            pending[number] = next(programs[number]) if replies is None else programs[number].send(replies)
        except StopIteration as stop:
            pending.pop(number, None)
            results[number] = stop.value

    for number in range(len(programs)):
        advance(number, None)
    while pending:
        sent = list(pending.items())
        replies = yield tuple(item for _, batch in sent for item in batch)
        start = 0
        for number, batch in sent:
            advance(number, replies[start : start + len(batch)])
            start += len(batch)
    return results
