"""Rotating passwords: redis-py's credential providers, with every class that takes an address, on real servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation
from redis.credentials import CredentialProvider

from ecowas_lc import (
    AsyncRedisMemoryService,
    ConfigurationError,
    RedisChatMessageHistory,
    RedisLLMCache,
    RedisMemoryService,
    RedisRefusedError,
    RedisSaver,
    RedisStore,
    RedisVectorStore,
    history_factory,
)
from ecowas_lc.settings import load_settings
from ecowas_lc.storage.server import Server
from tests.faults.test_sentinel import running_sentinel
from tests.fixtures.servers import RunningServer, running_cluster, running_server, wait_until
from tests.redis.writer import Writer, at

USER = "app"
MESSAGE = {"role": "user", "content": "?"}


@dataclass
class Group:
    """Servers with a user whose password changes, and its provider."""

    url: str
    nodes: list[RunningServer]
    password: str = ""
    asked: list[str] = field(default_factory=list)

    def rotate(self) -> None:
        """Give the user a new password; the old one is void, and its connections are closed."""
        self.password = f"password-{len(self.password)}-{len(self.asked)}"
        for node in self.nodes:
            with node.client() as admin:
                rights = ("on", "resetpass", f">{self.password}", "~*", "&*", "+@all")
                admin.execute_command("ACL", "SETUSER", USER, *rights)
                for client in admin.client_list():
                    if client["user"] == USER:
                        admin.client_kill_filter(_id=client["id"])


class Provider(CredentialProvider):
    """Knows the password of now; written for asyncio as well."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def get_credentials(self) -> tuple[str, str]:
        self.group.asked.append("sync")
        return USER, self.group.password

    async def get_credentials_async(self) -> tuple[str, str]:
        self.group.asked.append("async")
        await asyncio.sleep(0)
        return USER, self.group.password


class SyncProvider(CredentialProvider):
    """A provider written without asyncio in mind; it must not be called in the event loop's thread."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def get_credentials(self) -> tuple[str, str]:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        self.group.asked.append("sync")
        return USER, self.group.password


@pytest.fixture(scope="module", params=["single", "Sentinel", "cluster"])
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """One server, one behind a Sentinel, and a cluster; all require a password."""
    if request.param == "cluster":
        with running_cluster() as cluster:
            made = Group(cluster.url, cluster.nodes)
            yield _locked(made)
        return
    with running_server("redis") as server:
        if request.param == "single":
            yield _locked(Group(server.url, [server]))
            return
        with running_sentinel(tmp_path_factory.mktemp("sentinel"), server) as port:
            sentinel = RunningServer("redis", port, Path())
            wait_until(lambda: _answers(sentinel), "a Sentinel")
            yield _locked(Group(f"redis+sentinel://127.0.0.1:{port}/main/0", [server]))


def _locked(group: Group) -> Group:
    group.rotate()
    for node in group.nodes:
        with node.client() as admin:
            admin.execute_command("CONFIG", "SET", "requirepass", "admin")
        node.password = "admin"
    return group


def _answers(server: RunningServer) -> bool:
    try:
        with server.client() as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def uses(group: Group, prefix: str, provider: Any) -> dict[str, Callable[[], object]]:
    """A call through everything that takes an address."""
    url: Any = {"url": group.url, "credential_provider": provider, "prefix": prefix}
    settings = load_settings(redis_url=group.url, prefix=prefix)
    memory = RedisMemoryService(**url)
    saver = RedisSaver.from_url(**url)
    history = RedisChatMessageHistory("a", "s", **url)
    made = history_factory(group.url, credential_provider=provider, prefix=prefix)("a", "s")
    store = RedisStore.from_url(**url)
    from_settings = RedisSaver.from_settings(settings, credential_provider=provider)
    service = RedisMemoryService.from_settings(settings, credential_provider=provider)
    cache = RedisLLMCache.from_url(**url)
    vectors = RedisVectorStore.from_url(group.url, _Embeddings(), credential_provider=provider, prefix=prefix)
    return {
        "memory": lambda: memory.append_to_history("a", "s", MESSAGE),
        "saver": lambda: Writer(saver).put(a=1),
        "history": lambda: history.add_messages([HumanMessage("?")]),
        "history factory": lambda: made.messages,
        "store": lambda: store.put(("a",), "k", {"x": 1}),
        "saver of the settings": lambda: from_settings.get_tuple(at()),
        "service of the settings": lambda: service.get_session_data("s", "k"),
        "cache": lambda: cache.update("?", "model", [Generation(text="yes")]),
        "vectors": lambda: vectors.add_documents([Document("solar")]),
    }


class _Embeddings(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]


def test_passwords_rotate(group: Group, prefix: str) -> None:
    """Objects with a provider continue with the new password, without being recreated and without an error."""
    calls = uses(group, prefix, Provider(group))
    for _ in range(3):
        for call in calls.values():
            call()
        group.rotate()
    assert "sync" in group.asked


@pytest.mark.parametrize("kind", [Provider, SyncProvider])
async def test_passwords_rotate_in_an_event_loop(group: Group, prefix: str, kind: Any) -> None:
    """In asyncio, the same holds; a provider without an async method is called in a worker thread."""
    group.asked.clear()
    async with AsyncRedisMemoryService(url=group.url, credential_provider=kind(group), prefix=prefix) as memory:
        saver = RedisSaver.from_url(group.url, credential_provider=kind(group), prefix=prefix)
        for _ in range(3):
            await memory.append_to_history("a", "s", MESSAGE)
            await Writer(saver).aput(a=1)
            await asyncio.to_thread(group.rotate)
        await saver.aclose()
    assert set(group.asked) >= {"async" if kind is Provider else "sync"}


def test_clients_with_a_provider(group: Group, prefix: str) -> None:
    """A redis-py client that the caller created with a provider works as on its own."""
    if "sentinel" in group.url:
        sentinel = redis.Sentinel([_host_and_port(group.url)])
        client: Any = sentinel.master_for("main", credential_provider=Provider(group))
    elif "cluster" in group.url:
        host, port = _host_and_port(group.url.partition(",")[0])
        client = redis.RedisCluster(host=host, port=port, credential_provider=Provider(group))
    else:
        host, port = _host_and_port(group.url)
        client = redis.Redis(host=host, port=port, credential_provider=Provider(group))
    saver, memory = RedisSaver(client, prefix=prefix), RedisMemoryService(client=client, prefix=prefix)
    for _ in range(2):
        Writer(saver).put(a=1)
        memory.append_to_history("a", "s", MESSAGE)
        group.rotate()
    client.close()


def _host_and_port(url: str) -> tuple[str, int]:
    host, _, port = url.partition("://")[2].partition("/")[0].rpartition(":")
    return host, int(port)


class Broken(CredentialProvider):
    def get_credentials(self) -> Any:
        raise LookupError("token hunter2 has expired")


class Odd(CredentialProvider):
    def get_credentials(self) -> Any:
        return {"password": "hunter2"}


class Stale(CredentialProvider):
    def get_credentials(self) -> Any:
        return USER, "hunter2"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Broken, "There is no login for Redis at .*: Broken raised LookupError. Fix the credential_provider"),
        (Odd, "There is no login for Redis at .*: Odd must return a password"),
        (Stale, "The user name or password is wrong"),
    ],
)
async def test_providers_that_fail(
    group: Group, prefix: str, kind: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that raises, returns something else or an old password is refused by name, without secrets."""
    caplog.set_level(logging.DEBUG)
    memory = RedisMemoryService(url=group.url, credential_provider=kind(), prefix=prefix)
    with pytest.raises(RedisRefusedError, match=message) as told:
        memory.get_session_data("s", "k")
    assert "hunter2" not in str(told.value)
    async with AsyncRedisMemoryService(server=memory.server, prefix=prefix) as awaited:
        with pytest.raises(RedisRefusedError, match=message) as told:
            await awaited.get_session_data("s", "k")
    assert "hunter2" not in str(told.value) + caplog.text


CONTRADICTIONS: dict[str, Callable[[Any], object]] = {
    "two logins": lambda provider: RedisSaver.from_url("redis://u:p@h", credential_provider=provider),
    "a password": lambda provider: RedisMemoryService(password="p", credential_provider=provider),
    "a user": lambda provider: RedisMemoryService(username="u", credential_provider=provider),
    "a password in the settings": lambda provider: Server.from_settings(
        load_settings(redis_host="h", redis_password="p"), credential_provider=provider
    ),
    "a client": lambda provider: RedisMemoryService(client=redis.Redis(), credential_provider=provider),
    "a client of a history": lambda provider: RedisChatMessageHistory(
        "a", "s", client=redis.Redis(), credential_provider=provider
    ),
    "a server": lambda provider: history_factory(
        server=Server.from_url("redis://h"), credential_provider=provider
    ),
    "no provider": lambda _: RedisSaver.from_url("redis://h", credential_provider="hunter2"),
}


@pytest.mark.parametrize("make", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions(make: Callable[[Any], object]) -> None:
    """A provider together with another login, or for connections of the caller, is refused at once."""
    with pytest.raises(ConfigurationError, match="credential_provider") as told:
        make(Stale())
    assert "hunter2" not in str(told.value)


def test_histories_share_by_provider() -> None:
    """Histories at one URL share a server where they have the same provider, and no other."""
    one, other = Stale(), Stale()
    first, second, third = (
        RedisChatMessageHistory("a", "s", url="redis://h", credential_provider=each) for each in (one, one, other)
    )
    assert first.server is second.server
    assert first.server is not third.server
