"""A server as the rest of the package uses it: it runs programs, sync or async, from any thread or event loop.

Two shells run a program: one over a sync client, one over an async client.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import struct
import threading
import traceback
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, finalize

import redis
import redis.asyncio
from redis.exceptions import MaxConnectionsError, NoScriptError, RedisClusterException, ResponseError

from ecowas_lc import _telemetry, forks
from ecowas_lc._connection_settings import DEFAULTS, ConnectionSettings, may_be_set
from ecowas_lc._secret import Secret
from ecowas_lc.errors import ConfigurationError, EcowasError, NotReplicatedError, StorageError
from ecowas_lc.storage.addresses import Address, parse_url
from ecowas_lc.storage.clients import AsyncClusterClient, ClientFactory, ClusterClient
from ecowas_lc.storage.credentials import checked_provider
from ecowas_lc.storage.error_translation import FAILURES, Attempt, is_corrupt, translate
from ecowas_lc.storage.fast_path import broke_in_writing
from ecowas_lc.storage.ops import (
    BYTES_OUT,
    EVERY_NODE,
    Batch,
    Command,
    Op,
    Pause,
    ReplicaWait,
    name_of,
    prefix_of,
    writes,
)

if TYPE_CHECKING:  # loaded only where settings are used, because of what they load
    from ecowas_lc.settings import Settings

T = TypeVar("T")


def run(client: Any, op: Op[T], where: str, waiting: ReplicaWait | None = None) -> T:
    """Run ``op`` over a ``redis.Redis`` or ``redis.RedisCluster`` and return its result.

    With ``waiting`` each write waits until that many replicas have it.
    """
    times = 1
    try:
        batch = next(op)
        while True:
            try:
                replies = _send(client, batch, where, waiting)
            except NotReplicatedError as error:
                batch = op.throw(error)
            except FAILURES as error:
                if times == 1 and _may_read_again(error, batch):
                    times = 2
                    continue
                batch = op.throw(translate(error, where, _attempt(client, batch, times)))
            else:
                try:
                    batch = op.send(replies)
                except _OF_ANOTHER_SHAPE as error:
                    if (wrong := _out_of_step(error, where)) is None:
                        raise
                    _drop_connections(client)
                    raise wrong from error
            times = 1
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        op.close()


async def arun(client: Any, op: Op[T], where: str, waiting: ReplicaWait | None = None) -> T:
    """Run ``op`` over a ``redis.asyncio.Redis`` or ``RedisCluster`` and return its result; see :func:`run`."""
    times = 1
    try:
        batch = next(op)
        while True:
            try:
                replies = await _asend(client, batch, where, waiting)
            except NotReplicatedError as error:
                batch = op.throw(error)
            except AttributeError as error:
                if not broke_in_writing(error):
                    raise
                broken = redis.ConnectionError("Connection reset while writing.")
                batch = op.throw(translate(broken, where, _attempt(client, batch, times)))
            except FAILURES as error:
                if times == 1 and _may_read_again(error, batch):
                    times = 2
                    continue
                batch = op.throw(translate(error, where, _attempt(client, batch, times)))
            else:
                try:
                    batch = op.send(replies)
                except _OF_ANOTHER_SHAPE as error:
                    if (wrong := _out_of_step(error, where)) is None:
                        raise
                    await _adrop_connections(client)
                    raise wrong from error
            times = 1
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        op.close()


# The errors that a program raises if a reply does not have the expected shape.
_OF_ANOTHER_SHAPE = (TypeError, ValueError, LookupError, AttributeError, struct.error)
_PACKAGE = Path(__file__).parents[1]
# A call that blocks the event loop of the one it waits for would wait in vain: then it sends the value itself.
_LONGEST_PAUSE_SECONDS = 3.0


def _may_read_again(error: Exception, batch: Batch) -> bool:
    """Return whether to repeat a batch that met damaged data: real damage stays, a passing one does not."""
    return isinstance(error, ResponseError) and is_corrupt(error) and not writes(batch)


def _out_of_step(error: Exception, where: str) -> StorageError | None:
    """Return the error for a reply of unexpected shape; ``None`` for our errors, or those of the caller's code."""
    if isinstance(error, EcowasError):
        return None
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if _PACKAGE not in Path(frame.f_code.co_filename).parents:
        return None
    return StorageError(
        f"Redis at {where} sent an answer that does not match the command ({type(error).__name__}): a proxy or a "
        "network fault has mixed up its answers. The connections were closed: try again."
    )


def _drop_connections(client: Any) -> None:
    if (pool := getattr(client, "connection_pool", None)) is not None:
        pool.disconnect()
    elif isinstance(client, ClusterClient):
        client.disconnect_shared()


async def _adrop_connections(client: Any) -> None:
    if (pool := getattr(client, "connection_pool", None)) is not None:
        await pool.disconnect()
    elif isinstance(client, AsyncClusterClient):
        await client.disconnect_shared()


def _send(client: Any, batch: Batch, where: str, waiting: ReplicaWait | None) -> list[Any]:
    first: Any = batch[0]
    if type(first) is Pause:
        concurrent.futures.wait([first.until], _LONGEST_PAUSE_SECONDS)
        return []
    if type(first) is Command:
        if first.node is not None:
            return [_on_nodes(client, first)]
        if waiting is None and first.settles:
            return [None]
    if waiting is not None and not writes(batch):
        waiting = None
    if _is_cluster(client):
        from ecowas_lc.storage import clusters  # a program with one server needs none of it

        return _checked(batch, clusters.send(client, batch, waiting))
    if waiting is None:
        return _flush(client, batch)
    # WAIT goes on the write's own connection, in its flush. If the write is repeated after a failover, so is WAIT.
    *replies, _, replicas = _flush(client, (*batch, *map(Command, waiting.words(first))))
    waiting.check(replicas, where)
    return replies


async def _asend(client: Any, batch: Batch, where: str, waiting: ReplicaWait | None) -> list[Any]:
    first: Any = batch[0]
    if type(first) is Pause:
        await asyncio.wait([asyncio.wrap_future(first.until)], timeout=_LONGEST_PAUSE_SECONDS)
        return []
    if type(first) is Command:
        if first.node is not None:
            return [await _aon_nodes(client, first)]
        if waiting is None and first.settles:
            return [None]
    if waiting is not None and not writes(batch):
        waiting = None
    if _is_cluster(client):
        from ecowas_lc.storage import clusters  # as above

        return _checked(batch, await clusters.asend(client, batch, waiting))
    if waiting is None:
        return await _aflush(client, batch)
    *replies, _, replicas = await _aflush(client, (*batch, *map(Command, waiting.words(first))))
    waiting.check(replicas, where)
    return replies


def _attempt(client: Any, batch: Batch, times: int = 1) -> Attempt:
    """Return the details of a batch for the message of a refusal."""
    first = batch[0]
    alone = len(batch) == 1 and type(first) is Command
    return Attempt(_user(client), prefix_of(batch), name_of(first) if alone else "", times)


def _user(client: Any) -> str:
    pool = getattr(client, "connection_pool", None) or getattr(client, "nodes_manager", None)
    options = getattr(pool, "connection_kwargs", None) or getattr(client, "connection_kwargs", {})
    return str(options.get("username") or "")


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
        raise RedisClusterException(f"the node {node} is no longer a primary")
    return {node: found[node]}


def _queue(client: Any, commands: list[tuple[Any, ...]]) -> Any:
    # No MULTI: each step that must be atomic is one script.
    pipeline = client.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words, **BYTES_OUT)
    return pipeline


def _unknown_scripts(batch: Batch, replies: list[Any]) -> list[int]:
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown and name_of(batch[-1]) == "WAIT":
        unknown += [len(replies) - 2, len(replies) - 1]  # these must come after the commands that are repeated
    return unknown


def _checked(batch: Batch, replies: list[Any]) -> list[Any]:
    for item, reply in zip(batch, replies, strict=True):
        if isinstance(reply, Exception) and not item.optional:
            raise reply
    return replies


def _is_cluster(client: Any) -> bool:
    return hasattr(client, "get_primaries")


_SYNC_CLIENTS = (redis.Redis, redis.RedisCluster)
_ASYNC_CLIENTS = (redis.asyncio.Redis, redis.asyncio.RedisCluster)


class _LoopClient(NamedTuple):
    client: Any
    closer: AsyncGenerator[None]
    gate: asyncio.Semaphore | None


class Server:
    """One Redis or Valkey server, Sentinel group or cluster, sync and async in one object.

    ``run`` runs a program from any thread, ``arun`` from any event loop. Async clients belong to one loop, so each
    loop gets its own client, which closes with the loop. Connections open on first use. Those of the sync client
    close with :meth:`close`, or when nothing refers to this object any more.
    """

    def __init__(
        self, factory: ClientFactory | None = None, *, client: Any = None, async_client: Any = None
    ) -> None:
        self._factory = factory
        self._client = client
        self._given_async_client = async_client
        self._closer: finalize[..., Server] | None = None
        self._lock = forks.Lock()
        limited = factory is not None and not factory.pool_blocks
        self._limit = factory.settings.redis_max_connections if factory and limited else None
        self._waiting = factory.waiting if factory else None
        self.where = factory.where if factory else _where(client if client is not None else async_client)
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = WeakKeyDictionary()
        self._gate = threading.BoundedSemaphore(self._limit) if self._limit else None

    def forget_parent(self) -> None:
        """Start over in a forked child, with no connections in use and no known event loop.

        The parent's clients are not touched. A client that the caller created stays the caller's responsibility.
        """
        if len(self._by_loop):
            forks.keep(self._by_loop)
        self._begin()
        if self._closer is not None:
            if parents := self._closer.detach():
                forks.keep(parents[2])  # its client, but not this object
            self._client = self._closer = None

    @classmethod
    def from_url(cls, url: str, *, settings: Settings | None = None, credential_provider: Any = None) -> Server:
        """Return the server at ``url``; timeouts, pool size and TLS files come from the settings.

        Each new connection asks ``credential_provider`` (redis-py's ``CredentialProvider``) for its login.

        Raises:
            ConfigurationError: The URL can't be used, or it contains a login although there is a provider.
        """
        return cls._at(parse_url(url), settings or _connection_settings(), credential_provider)

    @classmethod
    def _at(cls, address: Address, settings: Settings | ConnectionSettings, credential_provider: Any) -> Server:
        has_login = address.username is not None or address.password is not None
        credentials = checked_provider(credential_provider, has_login=has_login)
        return cls(ClientFactory(address, settings, credentials))

    @classmethod
    def from_parts(
        cls,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        username: str | None = None,
        *,
        settings: Settings | None = None,
        credential_provider: Any = None,
    ) -> Server:
        """Return the server at ``host`` and ``port``."""
        password = None if password is None else Secret(password)
        address = Address("single", hosts=((host, port),), db=db, username=username, password=password)
        return cls._at(address, settings or _connection_settings(), credential_provider)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, credential_provider: Any = None) -> Server:
        """Return the server that the settings name, or the default server.

        This is the first of: ``REDIS_URL``; ``REDIS_HOST`` and its parts; the embedded server, if its binary is
        installed; and ``localhost:6379``.
        """
        from ecowas_lc.settings import get_settings

        settings = settings or get_settings()
        if settings.redis_source == "url":
            assert settings.redis_url is not None
            url = Secret(settings.redis_url.get_secret_value())
            return cls.from_url(url, settings=settings, credential_provider=credential_provider)
        # If the user named a binary that does not exist, raise an error instead of using another server.
        if settings.redis_source == "default" and (settings.valkey_server is not None or _has_embedded(settings)):
            checked_provider(credential_provider, has_login=False, is_embedded=True)
            return cls(ClientFactory(None, settings))
        return cls.from_parts(
            settings.redis_host,
            settings.redis_port,
            settings.redis_db,
            Secret(settings.redis_password.get_secret_value()) if settings.redis_password else None,
            settings.redis_username,
            settings=settings,
            credential_provider=credential_provider,
        )

    @classmethod
    def from_clients(cls, client: Any = None, async_client: Any = None) -> Server:
        """Return a server for clients that the caller created and closes.

        If there is only a sync client, async methods run it in worker threads.

        Raises:
            ConfigurationError: Neither is given, or one is not a redis-py client of its kind.
        """
        if isinstance(client, _ASYNC_CLIENTS) and async_client is None:
            client, async_client = None, client
        if client is None and async_client is None:
            raise ConfigurationError("Pass a redis-py client or a URL.")
        if client is not None and not isinstance(client, _SYNC_CLIENTS):
            raise ConfigurationError(f"client must be redis.Redis or RedisCluster, not {type(client).__name__}.")
        if async_client is not None and not isinstance(async_client, _ASYNC_CLIENTS):
            raise ConfigurationError(
                f"async_client must be redis.asyncio.Redis or RedisCluster, not {type(async_client).__name__}."
            )
        return cls(client=client, async_client=async_client)

    @property
    def is_cluster(self) -> bool:
        """Whether keys are in slots on several servers."""
        if self._factory is not None:
            return self._factory.address is not None and self._factory.address.kind == "cluster"
        return isinstance(
            self._client or self._given_async_client, (redis.RedisCluster, redis.asyncio.RedisCluster)
        )

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded server, which no setting names."""
        return self._factory is not None and self._factory.address is None

    @property
    def client(self) -> Any:
        """The sync client, created on first use.

        Raises:
            StorageError: There is only an async client, or a cluster can't be reached.
        """
        if self._client is None:
            if self._factory is None:
                raise StorageError("Only an async client was given: use the async methods, or pass client= too.")
            with self._lock:
                if self._client is None:
                    try:
                        client = self._factory.make()
                    except FAILURES as error:
                        raise translate(error, self.where) from error
                    # In a reference cycle Python might finalize the sockets before the clients that close them.
                    self._closer = finalize(self, _close, client)
                    self._closer.atexit = False
                    self._client = client
        return self._client

    def run(self, op: Op[T]) -> T:
        """Run a program and return its result. Raises only the errors of :mod:`ecowas_lc.errors`."""
        if not _telemetry.is_watched():
            return self._run(op)
        with _watched(op, self.where):
            return self._run(op)

    def _run(self, op: Op[T]) -> T:
        gate = self._gate
        if gate is None:
            return run(self._client or self.client, op, self.where, self._waiting)
        assert self._factory is not None
        if not gate.acquire(timeout=self._factory.settings.redis_socket_timeout):
            raise translate(MaxConnectionsError(), self.where)
        try:
            return run(self.client, op, self.where, self._waiting)
        finally:
            gate.release()

    async def arun(self, op: Op[T]) -> T:
        """Run a program and return its result, without blocking the event loop."""
        if not _telemetry.is_watched():
            return await self._arun(op)
        with _watched(op, self.where):
            return await self._arun(op)

    async def _arun(self, op: Op[T]) -> T:
        if self._given_async_client is not None:
            return await arun(self._given_async_client, op, self.where, self._waiting)
        if self._factory is None:
            return await asyncio.to_thread(self.run, op)
        here = self._by_loop.get(asyncio.get_running_loop()) or await self._client_of_this_loop(self._factory)
        if here.gate is None:
            return await arun(here.client, op, self.where, self._waiting)
        try:
            await asyncio.wait_for(here.gate.acquire(), self._factory.settings.redis_socket_timeout)
        except TimeoutError:
            raise translate(MaxConnectionsError(), self.where) from None
        try:
            return await arun(here.client, op, self.where, self._waiting)
        finally:
            here.gate.release()

    async def _client_of_this_loop(self, factory: ClientFactory) -> _LoopClient:
        loop = asyncio.get_running_loop()
        with self._lock:
            # A loop's client refers to the loop, so weak keys alone would keep both forever.
            for gone in [known for known in self._by_loop if known.is_closed()]:
                del self._by_loop[gone]
            client = factory.make_async()
            gate = asyncio.Semaphore(self._limit) if self._limit else None
            entry = self._by_loop[loop] = _LoopClient(client, _closes_with_the_loop(client), gate)
        await anext(entry.closer)
        return entry

    def close(self) -> None:
        """Close the sync client's connections if this object opened them. The next use opens new ones."""
        with self._lock:
            closer, self._closer = self._closer, None
            if closer is not None:
                self._client = None
        if closer is not None:
            closer()

    async def aclose(self) -> None:
        """Close the connections of the running event loop and of the sync client if this object opened them."""
        entry = self._by_loop.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry.closer.aclose()
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where})"


async def _closes_with_the_loop(client: Any) -> AsyncGenerator[None]:
    # asyncio.run, Runner, pytest-asyncio and uvicorn end a loop's async generators before they close it. This is
    # the only hook for closing connections while their loop still runs.
    try:
        yield
    finally:
        manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
        closing = [sentinel.aclose() for sentinel in getattr(manager, "sentinels", ())]
        closing.append(client.close_connections() if isinstance(client, AsyncClusterClient) else client.aclose())
        # A connection whose server is gone may raise; it is closed anyway, and the others must be closed too.
        await asyncio.gather(*closing, return_exceptions=True)


def _watched(op: Any, where: str) -> AbstractContextManager[_telemetry.Span]:
    """Return the span of a program, with its package and its operation."""
    code, scope = op.gi_code, op.gi_frame.f_globals if op.gi_frame is not None else {}
    part = str(scope.get("__name__", "")).removeprefix("ecowas_lc.").partition(".")[0] or "storage"
    name = code.co_name.strip("_").removesuffix("_op") or "run"
    return _telemetry.span(
        "redis",
        f"{part} {name}",
        client=True,
        db__system__name="redis",
        db__operation__name=f"{part}.{name}",
        server__address=where,
    )


def _connection_settings() -> Settings | ConnectionSettings:
    if not may_be_set():
        return DEFAULTS
    from ecowas_lc.settings import usable_settings

    return usable_settings()


def _has_embedded(settings: Settings) -> bool:
    from ecowas_lc.embedded import is_available  # a program whose server has a URL needs none of it

    return is_available(settings)


def _close(client: Any) -> None:
    client.close()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in getattr(manager, "sentinels", ()):
        sentinel.close()


def _where(client: Any) -> str:
    if isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        return ",".join(sorted(node.name for node in client.get_nodes())) or "the cluster"
    options = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
