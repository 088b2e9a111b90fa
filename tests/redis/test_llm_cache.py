"""``RedisLLMCache``: LangChain's own suites, sync and async, and its bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.caches import BaseCache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from ecowas_lc import (
    CorruptDataError,
    DecryptionError,
    EncryptedRedisSerializer,
    InvalidInputError,
    RedisLLMCache,
    TypeNotAllowedError,
)
from tests.fixtures.proxy import running_proxy
from tests.fixtures.servers import RunningCluster, RunningServer, wait_until


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, server: RunningServer, prefix: str) -> Iterator[BaseCache]:  # type: ignore[override]
        with RedisLLMCache.from_url(server.url, prefix=prefix) as cache:
            yield cache


class TestSyncOnACluster(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, cluster: RunningCluster, prefix: str) -> Iterator[BaseCache]:  # type: ignore[override]
        with RedisLLMCache.from_url(
            cluster.url, prefix=prefix, encryption=EncryptedRedisSerializer(b"k" * 32)
        ) as cache:
            yield cache


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, server: RunningServer, prefix: str) -> AsyncIterator[BaseCache]:  # type: ignore[override]
        async with RedisLLMCache.from_url(server.url, prefix=prefix, ttl=60) as cache:
            yield cache


@pytest.fixture
def cache(redis_server: RunningServer, prefix: str) -> Iterator[RedisLLMCache]:
    with RedisLLMCache.from_url(redis_server.url, prefix=prefix) as cache:
        yield cache


def test_a_chat_model_is_asked_once(cache: RedisLLMCache) -> None:
    """A model with the cache answers the same question from it, with everything its message carries."""
    model = FakeListChatModel(responses=["one", "two"], cache=cache)
    first = model.invoke("hello")
    again = model.invoke("hello")
    assert again.content == first.content == "one"
    assert model.invoke("something else").content == "two"


def test_messages_come_back_whole(cache: RedisLLMCache) -> None:
    """Tool calls, usage and metadata of a cached message are restored."""
    call = {"name": "tariff", "args": {"country": "Togo"}, "id": "c1", "type": "tool_call"}
    usage: Any = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    message = AIMessage("hi", tool_calls=[call], usage_metadata=usage, response_metadata={"model": "m"}, id="1")
    cache.update("p", "llm", [ChatGeneration(message=message, generation_info={"done": True})])
    [found] = cache.lookup("p", "llm") or []
    assert isinstance(found, ChatGeneration)
    assert found.message == message
    assert found.generation_info == {"done": True}


def test_prompt_and_model_are_told_apart(cache: RedisLLMCache) -> None:
    """No two pairs of prompt and model share an entry, wherever one ends and the other begins."""
    cache.update("ab", "c", [Generation(text="1")])
    assert cache.lookup("a", "bc") is None
    assert cache.lookup("ab", "C") is None
    assert cache.lookup("ab", "c") == [Generation(text="1")]


def test_answers_expire(redis_server: RunningServer, prefix: str) -> None:
    """After ``ttl`` seconds an answer is gone, and in the end all keys are."""
    with RedisLLMCache.from_url(redis_server.url, prefix=prefix, ttl=0.2) as cache, redis_server.client() as raw:
        cache.update("p", "llm", [Generation(text="1")])
        assert cache.lookup("p", "llm")
        wait_until(lambda: cache.lookup("p", "llm") is None, "expiry")
        wait_until(lambda: raw.keys(f"{prefix}:*") == [], "expiry of the keys")
    with RedisLLMCache.from_url(redis_server.url, prefix=prefix) as cache, redis_server.client() as raw:
        cache.update("p", "llm", [Generation(text="1")])
        assert all(raw.ttl(key) == -1 for key in raw.keys(f"{prefix}:*"))


def test_the_cache_is_bounded(redis_server: RunningServer, prefix: str) -> None:
    """It keeps about ``max_entries`` answers, those used most recently."""
    with (
        RedisLLMCache.from_url(redis_server.url, prefix=prefix, max_entries=160) as cache,
        redis_server.client() as raw,
    ):
        cache.update("kept", "llm", [Generation(text="kept")])
        for number in range(600):
            cache.update(f"p{number}", "llm", [Generation(text="x")])
            if number % 5 == 0:
                assert cache.lookup("kept", "llm")
        held = sum(raw.hlen(key) for key in raw.keys(f"{prefix}:*") if not key.endswith(b":uses"))
        assert 100 <= held <= 160


def test_one_round_trip(redis_server: RunningServer, prefix: str) -> None:
    """Reading and writing are one flush each."""
    with running_proxy(redis_server.port) as proxy, RedisLLMCache.from_url(proxy.url, prefix=prefix) as cache:
        cache.update("p", "llm", [Generation(text="1")])
        cache.lookup("p", "llm")
        for call in (lambda: cache.update("q", "llm", [Generation(text="1")]), lambda: cache.lookup("q", "llm")):
            proxy.reset_counts()
            call()
            assert proxy.flushes == 1


def test_encrypted_answers(redis_server: RunningServer, prefix: str) -> None:
    """Encrypted answers are unreadable on the server, and open with their key only."""
    options: Any = {"prefix": prefix, "encryption": EncryptedRedisSerializer(b"k" * 32)}
    with RedisLLMCache.from_url(redis_server.url, **options) as cache, redis_server.client() as raw:
        cache.update("p", "llm", [Generation(text="Tema corridor")])
        assert cache.lookup("p", "llm") == [Generation(text="Tema corridor")]
        assert not any(b"Tema" in value for key in raw.keys(f"{prefix}:*}}") for value in raw.hvals(key))
    options["encryption"] = EncryptedRedisSerializer(b"o" * 32)
    with RedisLLMCache.from_url(redis_server.url, **options) as other, pytest.raises(DecryptionError):
        other.lookup("p", "llm")


def test_nothing_is_constructed_but_answers(
    cache: RedisLLMCache, redis_server: RunningServer, prefix: str
) -> None:
    """An answer with an application's object is refused, and so is a stored value that is not an answer."""

    class Mine:
        pass

    with pytest.raises(TypeNotAllowedError):
        cache.update("p", "llm", [Generation(text="x", generation_info={"mine": Mine()})])
    cache.update("p", "llm", [Generation(text="x")])
    with redis_server.client() as raw:
        [key] = raw.keys(f"{prefix}:*}}")
        [digest] = raw.hkeys(key)
        raw.hset(key, digest, b"0 \x00\x00\xff")
        with pytest.raises(CorruptDataError):
            cache.lookup("p", "llm")


@pytest.mark.parametrize(
    "options", [{"ttl": 0}, {"ttl": -1}, {"ttl": "5"}, {"max_entries": 0}, {"max_entries": 1.5}]
)
def test_bad_options(options: Any) -> None:
    """Invalid arguments are reported at once."""
    with pytest.raises(InvalidInputError):
        RedisLLMCache.from_url("redis://127.0.0.1:1/0", **options)
