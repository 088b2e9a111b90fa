"""The two shells that drive a program: one over a sync client, one over an async client."""

from __future__ import annotations

from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisClusterException, ResponseError

from ecowas_lc.storage.failures import FAILURES, translate
from ecowas_lc.storage.ops import EVERY_NODE, Batch, Command, Op, ScriptCall

T = TypeVar("T")

# What redis-py takes for "bytes out", whatever the client's decode_responses says.
_BYTES_OUT: dict[str, Any] = {"NEVER_DECODE": True}


def run(client: Any, op: Op[T], where: str) -> T:
    """Drive ``op`` over a ``redis.Redis`` or ``redis.RedisCluster`` and give its result."""
    try:
        batch = next(op)
        while True:
            try:
                replies = _send(client, batch)
            except FAILURES as error:
                batch = op.throw(translate(error, where))
            else:
                batch = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun(client: Any, op: Op[T], where: str) -> T:
    """Drive ``op`` over a ``redis.asyncio.Redis`` or ``RedisCluster`` and give its result."""
    try:
        batch = next(op)
        while True:
            try:
                replies = await _asend(client, batch)
            except FAILURES as error:
                batch = op.throw(translate(error, where))
            else:
                batch = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


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
    if unknown := _unknown_scripts(replies):
        again = [batch[index].wire_with_source() for index in unknown]  # type: ignore[union-attr]
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
    if unknown := _unknown_scripts(replies):
        again = [batch[index].wire_with_source() for index in unknown]  # type: ignore[union-attr]
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


def _unknown_scripts(replies: list[Any]) -> list[int]:
    return [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _checked(batch: Batch, replies: list[Any]) -> list[Any]:
    for item, reply in zip(batch, replies, strict=True):
        if isinstance(reply, Exception) and not item.optional:
            raise reply
    return replies
