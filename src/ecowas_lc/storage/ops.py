"""Programs: the commands that an operation sends and its handling of the replies, without I/O.

A program is a generator that yields batches of commands, receives their replies and returns its result.
:mod:`ecowas_lc.storage.server` runs it over a sync or an async client, so that no logic is written twice. Each
batch is one flush to the server and, on a single server, one round trip. Each server-side script is one atomic
step; the scripts are Lua files in the folder ``lua``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeVar, cast

from ecowas_lc.errors import NotReplicatedError
from ecowas_lc.storage.keys import wait_key


class Script(NamedTuple):
    """A Lua script and its digest, by which a server that has loaded it knows it."""

    name: str
    source: bytes
    sha: str


@cache
def load_script(*names: str, name: str = "") -> Script:
    """Return the script made of these files of the folder ``lua``, in order, named ``name`` or after the last."""
    folder = resources.files(__package__).joinpath("lua")
    source = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
    return Script(name or names[-1], source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


T = TypeVar("T")

Arg = bytes | str | int | float
Words = tuple[Arg, ...]


class Command(NamedTuple):
    """One command, with its key in the position that Redis expects; ``optional``: an error counts as its reply.

    ``node``: for commands about a server instead of a key. Such a command is alone in its batch, and the reply is
    a dict by node name: of that node, or with ``EVERY_NODE`` of each primary (a single server's name is ``""``).
    ``settles``: see :func:`settled`.
    """

    args: tuple[Arg, ...]
    optional: bool = False
    node: str | None = None
    settles: bool = False

    def wire(self) -> tuple[Arg, ...]:
        """Return the words to send."""
        return self.args

    def wire_with_source(self) -> tuple[Arg, ...]:
        """Return the words to send, which are those of :meth:`wire`: a command has no source."""
        return self.args


class ScriptCall(NamedTuple):
    """One atomic step on the server: a script, the keys it may touch (all in one slot) and its arguments."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[Arg, ...] = ()
    optional: bool = False

    def wire(self) -> tuple[Arg, ...]:
        """Return the words to send if the server has loaded the script, which it nearly always has."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def wire_with_source(self) -> tuple[Arg, ...]:
        """Return the words to send if the server has not (a new server, ``SCRIPT FLUSH``, a failover)."""
        return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.args)


# In newer servers WAIT covers only the writes of its own connection, and a repeated write may change nothing. So
# this script writes to a temporary key, and WAIT then covers it and everything written before. It removes first,
# because a server that is out of memory refuses only a script's first write, and never a removal.
_SEEN = b"redis.call('UNLINK', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('UNLINK', KEYS[1])"


class ReplicaWait(NamedTuple):
    """The number of replicas that must have a write before its call returns, and how long to wait for them."""

    replicas: int
    milliseconds: int

    def words(self, written: Call) -> tuple[Words, Words]:
        """Return the commands to send after a write, on its connection: a replicated write, and ``WAIT``."""
        return ("EVAL", _SEEN, 1, wait_key(key_of(written))), ("WAIT", self.replicas, self.milliseconds)

    def check(self, replicas: int, where: str) -> None:
        """Raise an error if too few replicas have the writes made at ``where``.

        Raises:
            NotReplicatedError: Too few replicas have them.
        """
        if replicas < self.replicas:
            raise NotReplicatedError(
                f"Redis at {where} made the write, but only {replicas} of {self.replicas} replicas had it after "
                f"{self.milliseconds} ms. Start replicas again, or lower wait_replicas. The call may be repeated, "
                "but a message without an id would be stored twice."
            )


class Pause(NamedTuple):
    """Alone in its batch: nothing is sent, and the program goes on once ``until`` is done, or after a while."""

    until: Future[None]


EVERY_NODE = "*"
# Makes redis-py return bytes, whatever the client's decode_responses says.
BYTES_OUT: dict[str, Any] = {"NEVER_DECODE": True}
# Batches of only these commands change nothing, so they need not wait for replicas.
_READING = {"GET", "MGET", "TYPE", "EXISTS", "LRANGE", "LLEN", "PTTL", "ZSCORE", "ZMSCORE", "ZCARD", "ZREVRANGE"}
_READING |= {"ZRANGE", "HEXISTS", "HGETALL", "HLEN", "HMGET", "HSCAN", "DBSIZE", "INFO", "SCAN"}
_READING |= {"HGET", "XRANGE", "XREVRANGE", "ZRANGEBYSCORE"}
_READING |= {"checkpoint_read", "checkpoint_elements", "memory_index_list"}
_READING |= {"items_fetch", "items_changes", "items_newest", "items_versions"}

Call = Command | ScriptCall
Batch = tuple[Call, ...]
Op = Generator[Batch, list[Any], T]


def name_of(item: Call) -> str:
    """Return the script's name, or the command's."""
    return item.script.name if isinstance(item, ScriptCall) else str(item.args[0])


def key_of(item: Call) -> bytes:
    """Return the call's key, or the first of its keys."""
    key = item.keys[0] if isinstance(item, ScriptCall) else item.args[1]
    assert isinstance(key, bytes)
    return key


def prefix_of(batch: Batch) -> str:
    """Return the prefix of a batch's keys; empty if it is about the server."""
    for item in batch:
        words = item.keys if isinstance(item, ScriptCall) else item.args[1:]
        for word in words:
            if isinstance(word, bytes) and b":" in word:
                return word.partition(b":")[0].decode(errors="replace")
    return ""


def writes(batch: Batch) -> bool:
    """Return whether a batch may change anything, or stands for a write that did."""
    return any(name_of(item) not in _READING or (type(item) is Command and item.settles) for item in batch)


def command(*args: Arg, optional: bool = False, node: str | None = None) -> Command:
    """Return a command: ``command("GET", key)``."""
    return Command(args, optional, node)


def settled(key: bytes) -> Command:
    """Return the replacement for a write that has nothing to do: it only waits for the replicas of earlier writes.

    If no replicas are required, nothing is sent. It is alone in its batch.
    """
    return Command(("EXISTS", key), settles=True)


def call(script: Script, keys: tuple[bytes, ...], *args: Arg, optional: bool = False) -> ScriptCall:
    """Return a script call: ``call(APPEND, (history_key,), body, ttl_seconds)``."""
    return ScriptCall(script, keys, args, optional)


def pause(until: Future[None]) -> Batch:
    """Return a batch that sends nothing: the program continues when ``until`` is done, or after a while."""
    return cast("Batch", (Pause(until),))


def together(programs: Sequence[Op[Any]]) -> Op[list[Any]]:
    """Run several programs in step, so that commands for the same moment go out in one flush."""
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
