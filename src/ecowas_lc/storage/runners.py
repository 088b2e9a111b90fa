"""The two shells that drive a program: one over a sync client, one over an async client."""

from __future__ import annotations

from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisClusterException, ResponseError

from ecowas_lc.errors import NotReplicatedError
from ecowas_lc.storage import clusters
from ecowas_lc.storage.failures import FAILURES, translate
from ecowas_lc.storage.ops import BYTES_OUT, EVERY_NODE, Batch, Command, Op, Waiting, name_of, writes

T = TypeVar("T")


def run(client: Any, op: Op[T], where: str, waiting: Waiting | None = None) -> T:
    """Drive ``op`` over a ``redis.Redis`` or ``redis.RedisCluster`` and give its result.

    With ``waiting`` each write waits until so many replicas have it.
    """
    try:
        batch = next(op)
        while True:
            try:
                replies = _send(client, batch, where, waiting)
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
                replies = await _asend(client, batch, where, waiting)
            except NotReplicatedError as error:
                batch = op.throw(error)
            except FAILURES as error:
                batch = op.throw(translate(error, where))
            else:
                batch = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _send(client: Any, batch: Batch, where: str, waiting: Waiting | None) -> list[Any]:
    first = batch[0]
    if type(first) is Command:
        if first.node is not None:
            return [_on_nodes(client, first)]
        if waiting is None and first.settles:
            return [None]
    if waiting is not None and not writes(batch):
        waiting = None
    if _is_cluster(client):
        return _checked(batch, clusters.send(client, batch, waiting))
    if waiting is None:
        return _flush(client, batch)
    # WAIT on the write's own connection and in its flush: where that is made again after a failover, so is this.
    *replies, _, replicas = _flush(client, (*batch, *map(Command, waiting.words(first))))
    waiting.check(replicas, where)
    return replies


async def _asend(client: Any, batch: Batch, where: str, waiting: Waiting | None) -> list[Any]:
    first = batch[0]
    if type(first) is Command:
        if first.node is not None:
            return [await _aon_nodes(client, first)]
        if waiting is None and first.settles:
            return [None]
    if waiting is not None and not writes(batch):
        waiting = None
    if _is_cluster(client):
        return _checked(batch, await clusters.asend(client, batch, waiting))
    if waiting is None:
        return await _aflush(client, batch)
    *replies, _, replicas = await _aflush(client, (*batch, *map(Command, waiting.words(first))))
    waiting.check(replicas, where)
    return replies


def _flush(client: Any, batch: Batch) -> list[Any]:
    if len(batch) == 1 and not batch[0].optional:
        [item] = batch
        try:
            return [client.execute_command(*item.wire(), **BYTES_OUT)]
        except NoScriptError:
            return [client.execute_command(*item.wire_with_source(), **BYTES_OUT)]
    replies = _queue(client, [item.wire() for item in batch]).execute(raise_on_error=False)
    if unknown := _unknown_scripts(batch, replies):
        again = [batch[index].wire_with_source() for index in unknown]
        for index, reply in zip(unknown, _queue(client, again).execute(raise_on_error=False), strict=True):
            replies[index] = reply
    return _checked(batch, replies)


async def _aflush(client: Any, batch: Batch) -> list[Any]:
    if len(batch) == 1 and not batch[0].optional:
        [item] = batch
        try:
            return [await client.execute_command(*item.wire(), **BYTES_OUT)]
        except NoScriptError:
            return [await client.execute_command(*item.wire_with_source(), **BYTES_OUT)]
    replies = await _queue(client, [item.wire() for item in batch]).execute(raise_on_error=False)
    if unknown := _unknown_scripts(batch, replies):
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
            replies[name] = target.execute_command(*item.wire(), **BYTES_OUT)
        except ResponseError as error:
            if not item.optional:
                raise
            replies[name] = error
    return replies


async def _aon_nodes(client: Any, item: Command) -> dict[str, Any]:
    if _is_cluster(client):
        await client.initialize()
    replies: dict[str, Any] = {}
    for name, primary in _targets(client, item.node).items():
        target = client if primary is None else primary
        try:
            replies[name] = await target.execute_command(*item.wire(), **BYTES_OUT)
        except ResponseError as error:
            if not item.optional:
                raise
            replies[name] = error
    return replies


def _targets(client: Any, node: str | None) -> dict[str, Any]:
    if not _is_cluster(client):
        return {"": None}
    found = {primary.name: primary for primary in client.get_primaries()}
    if node is None or node == EVERY_NODE:
        return found
    if node not in found:
        raise RedisClusterException(f"the node {node} is no primary any more")
    return {node: found[node]}


def _queue(client: Any, commands: list[tuple[Any, ...]]) -> Any:
    # No MULTI: what must be atomic is one script.
    pipeline = client.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words, **BYTES_OUT)
    return pipeline


def _unknown_scripts(batch: Batch, replies: list[Any]) -> list[int]:
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown and name_of(batch[-1]) == "WAIT":
        unknown += [len(replies) - 2, len(replies) - 1]  # which have to come after what is sent again
    return unknown


def _checked(batch: Batch, replies: list[Any]) -> list[Any]:
    for item, reply in zip(batch, replies, strict=True):
        if isinstance(reply, Exception) and not item.optional:
            raise reply
    return replies


def _is_cluster(client: Any) -> bool:
    return hasattr(client, "get_primaries")
