"""The two shells that drive a program: one over a sync client, one over an async client."""

from __future__ import annotations

from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisClusterException, ResponseError

from ecowas_lc.errors import NotReplicatedError
from ecowas_lc.storage.failures import FAILURES, translate
from ecowas_lc.storage.ops import EVERY_NODE, Batch, Call, Command, Op, ScriptCall, Waiting

T = TypeVar("T")

# What redis-py takes for "bytes out", whatever the client's decode_responses says.
_BYTES_OUT: dict[str, Any] = {"NEVER_DECODE": True}


# Batches of these alone change nothing, so no replica need be waited for.
_READING = {
    "GET",
    "MGET",
    "TYPE",
    "EXISTS",
    "LRANGE",
    "LLEN",
    "HEXISTS",
    "HMGET",
    "HLEN",
    "HGETALL",
    "HSCAN",
    "PTTL",
    "ZSCORE",
    "ZMSCORE",
    "ZCARD",
    "ZREVRANGE",
}
_READING |= {"DBSIZE", "INFO", "SCAN", "checkpoint_read", "checkpoint_elements", "memory_index_list"}


def run(client: Any, op: Op[T], where: str, waiting: Waiting | None = None) -> T:
    """Drive ``op`` over a ``redis.Redis`` or ``redis.RedisCluster`` and give its result.

    With ``waiting`` each write waits until so many replicas have it (not on clusters).
    """
    try:
        batch = next(op)
        while True:
            try:
                replies = _replicated(_send(client, _waiting_batch(batch, waiting)), batch, waiting, where)
            except NotReplicatedError as error:
                batch = op.throw(error)
            except FAILURES as error:
                batch = op.throw(translate(error, where))
            else:
                batch = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun(client: Any, op: Op[T], where: str, waiting: Waiting | None = None) -> T:
    """Drive ``op`` over a ``redis.asyncio.Redis`` or ``RedisCluster`` and give its result; see :func:`run`."""
    try:
        batch = next(op)
        while True:
            try:
                sent = await _asend(client, _waiting_batch(batch, waiting))
                replies = _replicated(sent, batch, waiting, where)
            except NotReplicatedError as error:
                batch = op.throw(error)
            except FAILURES as error:
                batch = op.throw(translate(error, where))
            else:
                batch = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _waiting_batch(batch: Batch, waiting: Waiting | None) -> Batch:
    if waiting is None or all(_name(item) in _READING for item in batch):
        return batch
    # On the write's own connection and in its flush: where that is made again after a failover, so is this.
    return (*batch, waiting.command())


def _name(item: Call) -> str:
    return item.script.name if isinstance(item, ScriptCall) else str(item.args[0])


def _replicated(replies: list[Any], batch: Batch, waiting: Waiting | None, where: str) -> list[Any]:
    if waiting is None or len(replies) == len(batch):
        return replies
    *replies, replicas = replies
    if replicas < waiting.replicas:
        raise NotReplicatedError(
            f"Redis at {where} has made the write, and {replicas} of {waiting.replicas} replicas had it after "
            f"{waiting.milliseconds} ms. Start replicas again, or lower wait_replicas; the call may be repeated."
        )
    return replies


def _send(client: Any, batch: Batch) -> list[Any]:
    if isinstance(batch[0], Command) and batch[0].node is not None:
        return [_on_nodes(client, batch[0])]
    if len(batch) == 1 and not batch[0].optional:
        [item] = batch
        try:
            return [client.execute_command(*item.wire(), **_BYTES_OUT)]
        except NoScriptError:
            assert isinstance(item, ScriptCall)
            return [client.execute_command(*item.wire_with_source(), **_BYTES_OUT)]
    replies = _queue(client, [item.wire() for item in batch]).execute(raise_on_error=False)
    if unknown := _unknown_scripts(replies, _name(batch[-1]) == "WAIT"):
        again = [batch[index].wire_with_source() for index in unknown]
        for index, reply in zip(unknown, _queue(client, again).execute(raise_on_error=False), strict=True):
            replies[index] = reply
    return _checked(batch, replies)


async def _asend(client: Any, batch: Batch) -> list[Any]:
    if isinstance(batch[0], Command) and batch[0].node is not None:
        return [await _aon_nodes(client, batch[0])]
    if len(batch) == 1 and not batch[0].optional:
        [item] = batch
        try:
            return [await client.execute_command(*item.wire(), **_BYTES_OUT)]
        except NoScriptError:
            assert isinstance(item, ScriptCall)
            return [await client.execute_command(*item.wire_with_source(), **_BYTES_OUT)]
    replies = await _queue(client, [item.wire() for item in batch]).execute(raise_on_error=False)
    if unknown := _unknown_scripts(replies, _name(batch[-1]) == "WAIT"):
        again = [batch[index].wire_with_source() for index in unknown]
        resent = await _queue(client, again).execute(raise_on_error=False)
        for index, reply in zip(unknown, resent, strict=True):
            replies[index] = reply
    return _checked(batch, replies)


def _on_nodes(client: Any, item: Command) -> dict[str, Any]:
    replies: dict[str, Any] = {}
    for name, primary in _targets(client, item.node).items():
        target = client if primary is None else client.get_redis_connection(primary)
        try:
            replies[name] = target.execute_command(*item.wire(), **_BYTES_OUT)
        except ResponseError as error:
            if not item.optional:
                raise
            replies[name] = error
    return replies


async def _aon_nodes(client: Any, item: Command) -> dict[str, Any]:
    if hasattr(client, "get_primaries"):
        await client.initialize()
    replies: dict[str, Any] = {}
    for name, primary in _targets(client, item.node).items():
        target = client if primary is None else primary
        try:
            replies[name] = await target.execute_command(*item.wire(), **_BYTES_OUT)
        except ResponseError as error:
            if not item.optional:
                raise
            replies[name] = error
    return replies


def _targets(client: Any, node: str | None) -> dict[str, Any]:
    if not hasattr(client, "get_primaries"):
        return {"": None}
    found = {primary.name: primary for primary in client.get_primaries()}
    if node is None or node == EVERY_NODE:
        return found
    if node not in found:
        raise RedisClusterException(f"the node {node} is no primary any more")
    return {node: found[node]}


def _queue(client: Any, commands: list[tuple[Any, ...]]) -> Any:
    # No MULTI: what must be atomic is one script, and a cluster could not do it across slots.
    pipeline = client.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words, **_BYTES_OUT)
    return pipeline


def _unknown_scripts(replies: list[Any], waits: bool) -> list[int]:
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown and waits:
        unknown.append(len(replies) - 1)  # the WAIT has to come after what is sent again
    return unknown


def _checked(batch: Batch, replies: list[Any]) -> list[Any]:
    for item, reply in zip(batch, replies, strict=True):
        if isinstance(reply, Exception) and not item.optional:
            raise reply
    return replies
