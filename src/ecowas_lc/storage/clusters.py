"""Batches on clusters: each node gets its part in one flush, redirections are followed, replicas waited for.

redis-py's cluster clients know which node serves a slot. Their pipelines are not used, because after a redirection
they send commands one by one on any free connection. Then ``WAIT``, which answers for the writes of its own
connection, would answer for other writes, and ``ASKING`` could be sent on one connection and its command on
another (asyncio, redis-py 8.1).

Small calls that are ready at the same moment share a connection to their node, see :mod:`.multiplexing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from redis.asyncio.cluster import PipelineCommand as AsyncPipelineCommand
from redis.cluster import NodeCommands, PipelineCommand
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MaxConnectionsError,
    MovedError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ecowas_lc import forks
from ecowas_lc.storage.error_translation import FAILURES
from ecowas_lc.storage.multiplexing import LOST, UNSENT
from ecowas_lc.storage.ops import BYTES_OUT, Arg, Batch, Call, ReplicaWait, ScriptCall, Words, key_of

_ROUNDS = 16  # as many redirections as redis-py follows
# While a slot moves, a script with a key that has not arrived gets TRYAGAIN. Growing pauses, 7 seconds in all.
_PAUSE_SECONDS = 0.05
_GROWTH = 1.25
_BROKEN = (RedisConnectionError, RedisTimeoutError)
# Timeouts are not included: a server that hangs is not asked again.
_ELSEWHERE = (MovedError, ClusterDownError, RedisConnectionError)
# These may share a connection: they don't block, and redis-py passes their replies on as they are.
_SHARING = {"EVALSHA", "EVAL", "ZADD", "ZREM", "EXPIRE"}


class NodePools:
    """Our pools of connections to a cluster's nodes, opened on first use by ``open_pool(host, port)``.

    ``most``: how many callers may look for moved slots at the same time; others wait for ``timeout`` seconds.
    """

    def __init__(self, open_pool: Callable[[str, int], Any], most: int, timeout: float) -> None:
        self._open_pool = open_pool
        self._most = most
        self._timeout = timeout
        self._pools: dict[str, Any] = {}
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self._finding = threading.BoundedSemaphore(self._most)
        self._finding_async = asyncio.Semaphore(self._most)

    def forget_parent(self) -> None:
        """Start over in a forked child, without touching the parent's connections."""
        forks.keep(self._pools)
        self._pools = {}
        self._begin()

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._pools.values()))

    def of(self, node: Any) -> Any:
        """Return a node's pool."""
        if (pool := self._pools.get(node.name)) is None:
            pool = self._pools.setdefault(node.name, self._open_pool(node.host, node.port))
        return pool

    @contextlib.contextmanager
    def finding(self) -> Iterator[None]:
        """Limit the connections that redis-py opens to look for slots."""
        if not self._finding.acquire(timeout=self._timeout):
            raise MaxConnectionsError
        try:
            yield
        finally:
            self._finding.release()

    @contextlib.asynccontextmanager
    async def finding_async(self) -> AsyncIterator[None]:
        """Limit the connections that redis-py opens to look for slots."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._finding_async.acquire()
        except TimeoutError:
            raise MaxConnectionsError from None
        try:
            yield
        finally:
            self._finding_async.release()


@dataclass(slots=True)
class _PendingCommand:
    """One command in progress: what to send, where it was redirected to, and its result."""

    item: Call
    words: Words
    ask: AskError | None = None
    reply: Any = None
    replicas: Any = 0
    where: str = ""

    @property
    def key(self) -> Arg:
        return key_of(self.item)

    def node(self, client: Any) -> Any:
        asked = client.get_node(self.ask.host, self.ask.port) if self.ask else None
        return asked or client.get_node_from_key(self.key)

    def turn(self) -> str:
        """Return the next step after the reply: ``"again"``, ``"pause"``, ``"find"``; ``""`` for an answer."""
        error, self.ask = self.reply, None
        if isinstance(error, NoScriptError) and isinstance(self.item, ScriptCall):
            self.words = self.item.wire_with_source()
            return "again"
        if isinstance(error, TryAgainError):
            return "pause"
        if isinstance(error, AskError) and not isinstance(error, MovedError):
            self.ask = error
            return "again"
        return "find" if isinstance(error, _ELSEWHERE) and not isinstance(error, MaxConnectionsError) else ""


@dataclass(frozen=True, slots=True)
class _Flush:
    """A request to send each node its commands, in order. The answer has each node's replies, including errors."""

    nodes: list[tuple[Any, list[Words]]]


@dataclass(frozen=True, slots=True)
class _Find:
    """A request for the nodes that serve these keys, by redis-py's rules and retries; without keys: any node."""

    keys: list[Arg]


_Steps = Generator[_Flush | _Find | float, Any, list[Any]]  # a float requests a pause in seconds


def send(client: Any, batch: Batch, waiting: ReplicaWait | None = None) -> list[Any]:
    """Return the replies to a batch, including errors; with ``waiting``, after enough replicas have the writes."""
    pools = _pools_of(client)
    steps = _follow(client, batch, waiting)
    try:
        step = next(steps)
        while True:
            if isinstance(step, _Flush):
                step = steps.send(_flush(client, step.nodes))
                continue
            if isinstance(step, float):
                time.sleep(step)
            elif step.keys:
                with contextlib.suppress(_ClosedError), pools.finding() if pools else contextlib.nullcontext():
                    for key in step.keys:
                        with _closed_by_another_caller():
                            client.execute_command("EXISTS", key)
            else:
                with contextlib.suppress(*FAILURES), _closed_by_another_caller():
                    client.nodes_manager.initialize()
            step = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def asend(client: Any, batch: Batch, waiting: ReplicaWait | None = None) -> list[Any]:
    """Return the replies to a batch; see :func:`send`."""
    await client.initialize()
    pools = _pools_of(client)
    steps = _follow(client, batch, waiting)
    try:
        step = next(steps)
        while True:
            if isinstance(step, _Flush):
                flushes = [_aflush(pools, node, words) for node, words in step.nodes]
                replies = [await flushes[0]] if len(flushes) == 1 else await asyncio.gather(*flushes)
                step = steps.send(replies)
                continue
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif step.keys:
                with contextlib.suppress(_ClosedError):
                    async with pools.finding_async() if pools else contextlib.nullcontext():
                        for key in step.keys:
                            with _closed_by_another_caller():
                                await client.execute_command("EXISTS", key)
            else:
                with contextlib.suppress(*FAILURES), _closed_by_another_caller():
                    await client.nodes_manager.initialize()
            step = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _follow(client: Any, batch: Batch, waiting: ReplicaWait | None) -> _Steps:
    commands = [_PendingCommand(item, item.wire()) for item in batch]
    pending = commands
    for number in range(_ROUNDS):
        by_node: dict[str, tuple[Any, list[_PendingCommand]]] = {}
        for each in pending:
            node = each.node(client)
            by_node.setdefault(node.name, (node, []))[1].append(each)
        answers = yield _Flush([(node, _queue(there, waiting)) for node, there in by_node.values()])
        for (name, (_, there)), answer in zip(by_node.items(), answers, strict=True):
            _take(there, answer, waiting, name)
        turns = [(each, each.turn()) for each in pending]
        pending = [each for each, turn in turns if turn]
        if not pending:
            if any(isinstance(each.reply, RedisTimeoutError) for each in commands):
                yield _Find([])  # refresh for the next batch: the node that hangs may have been replaced
            return _checked(commands, waiting)
        if any(turn == "pause" for _, turn in turns):
            yield _PAUSE_SECONDS * _GROWTH**number
        if lost := [each.key for each, turn in turns if turn == "find"]:
            yield _Find(lost)
    raise ClusterError("too many redirections")


def _queue(there: list[_PendingCommand], waiting: ReplicaWait | None) -> list[Words]:
    queue: list[Words] = []
    for each in there:
        queue += [("ASKING",), each.words] if each.ask else [each.words]
    if waiting is None:
        return queue
    asking: list[Words] = [("ASKING",)] if there[0].ask else []
    return [*queue, *asking, *waiting.words(there[0].item)]


def _take(there: list[_PendingCommand], answer: list[Any], waiting: ReplicaWait | None, where: str) -> None:
    # After a broken connection everything is repeated, as all our commands may be; also a write whose WAIT got no
    # answer.
    broken = next((reply for reply in answer if isinstance(reply, _BROKEN)), None)
    replicas = answer.pop() if waiting else 0  # the replies before it belong to the commands that make WAIT wait
    replies = iter(answer)
    for each in there:
        if each.ask:
            next(replies)
        each.reply, each.replicas, each.where = next(replies), replicas, where
        if broken is not None:
            each.reply = broken


def _checked(commands: list[_PendingCommand], waiting: ReplicaWait | None) -> list[Any]:
    refused = any(isinstance(each.reply, Exception) and not each.item.optional for each in commands)
    for each in commands if waiting and not refused else ():
        if isinstance(each.replicas, Exception):
            raise each.replicas
        assert waiting is not None
        waiting.check(each.replicas, each.where)
    return [each.reply for each in commands]


def _pools_of(client: Any) -> NodePools | None:
    # Clients that the caller created have none.
    return getattr(client, "pools", None)


def _flush(client: Any, nodes: list[tuple[Any, list[Words]]]) -> list[list[Any]]:
    pools = _pools_of(client)
    if pools and len(nodes) == 1 and _may_share(nodes[0][1]):
        return [_shared(pools, *nodes[0])]
    try:
        with contextlib.ExitStack() as stack:
            # In the same order by every thread, so that no two wait for each other's connections.
            in_order = sorted(nodes, key=lambda each: str(each[0].name))
            open_ = {node.name: stack.enter_context(_connected(client, pools, node)) for node, _ in in_order}
            sent = [open_[node.name] for node, _ in nodes]
            for commands, (_, queue) in zip(sent, nodes, strict=True):
                for words in queue:
                    commands.append(PipelineCommand(words, dict(BYTES_OUT)))
                commands.write()
            for commands in sent:
                _read(commands)
    except _BROKEN as error:  # a connection could not be opened, and nothing was sent on the others
        return [[_named(error) for _ in queue] for _, queue in nodes]
    return [[command.result for command in commands.commands] for commands in sent]


class _ClosedError(RedisConnectionError):
    """Another caller has closed the connection that this one used."""


@contextlib.contextmanager
def _closed_by_another_caller() -> Iterator[None]:
    """Before redis-py 7, a thread or task that notices a failover closes connections that others use."""
    try:
        yield
    except AttributeError as error:
        if error.obj is not None:
            raise
        raise _ClosedError("another thread or task closed the connection") from error


def _read(commands: NodeCommands) -> None:
    try:
        with _closed_by_another_caller():
            commands.read()
    except RedisConnectionError as error:
        for command in commands.commands:
            command.result = error


def _may_share(queue: list[Words]) -> bool:
    return all(words[0] in _SHARING for words in queue)


def _shared(pools: NodePools, node: Any, queue: list[Words]) -> list[Any]:
    try:
        with _closed_by_another_caller():
            replies = pools.of(node).exchange_all(queue)
    except _BROKEN as error:
        replies = [_named(error) for _ in queue]
    return _lost(queue) if replies is LOST else replies


def _lost(queue: list[Words]) -> list[Any]:
    return [RedisConnectionError("The connection closed before the reply.") for _ in queue]


def _named(error: Exception) -> Exception:
    """Return an error that is not taken for a broken connection if all connections are in use."""
    return MaxConnectionsError() if "No connection available" in str(error) else error


@contextlib.contextmanager
def _connected(client: Any, pools: NodePools | None, node: Any) -> Iterator[NodeCommands]:
    redis_node = client.get_redis_connection(node)
    pool = pools.of(node) if pools else redis_node.connection_pool
    with _closed_by_another_caller():
        connection = pool.get_connection()
    try:
        yield NodeCommands(redis_node.parse_response, pool, connection)
    except BaseException:
        connection.disconnect()  # unread answers must not be taken for the next caller's
        raise
    finally:
        pool.release(connection)


async def _aflush(pools: NodePools | None, node: Any, queue: list[Words]) -> list[Any]:
    try:
        if pools is None:
            commands = [
                AsyncPipelineCommand(position, *words, **BYTES_OUT) for position, words in enumerate(queue)
            ]
            await node.execute_pipeline(commands)
            return [command.result for command in commands]
        pool = pools.of(node)
        replies = await pool.exchange_all(queue) if _may_share(queue) else UNSENT
        if replies is UNSENT:
            return await _alone(pool, node, queue)
    except _BROKEN as error:
        return [_named(error) for _ in queue]
    return _lost(queue) if replies is LOST else replies


async def _alone(pool: Any, node: Any, queue: list[Words]) -> list[Any]:
    replies: list[Any] = []
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(connection.pack_commands(queue))
        for words in queue:
            try:
                replies.append(await node.parse_response(connection, words[0], **BYTES_OUT))
            except ResponseError as error:
                replies.append(error)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    return replies
