"""Other libraries' names for our features: an error says what to use, and nothing is opened."""

from __future__ import annotations

import asyncio
import copy
import importlib
from typing import Any

import pytest

import ecowas_lc
from ecowas_lc import (
    ConfigurationError,
    InvalidInputError,
    RedisLLMCache,
    RedisSaver,
    RedisStore,
    RedisVectorStore,
)

CLASSES: list[Any] = [RedisSaver, RedisStore, RedisLLMCache, RedisVectorStore]
URL = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("redis_client", "client="),
        ("conn", "client="),
        ("connection", "client="),
        ("async_redis_client", "async_client="),
        ("redis_url", "from_url(url)"),
        ("conn_string", "from_url(url)"),
        ("checkpoint_prefix", "prefix="),
        ("store_prefix", "prefix="),
        ("cluster_mode", "redis+cluster://"),
    ],
)
def test_arguments(cls: Any, name: str, right: str) -> None:
    """An argument under another library's name is refused with our name for it."""
    with pytest.raises(ConfigurationError) as refused:
        cls(**{name: "redis://:secret@127.0.0.1:1/0"})
    assert f"{cls.__name__} takes no {name}=" in str(refused.value)
    assert right in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("cls", [RedisSaver, RedisStore, RedisLLMCache])
@pytest.mark.parametrize("how", ["positional", "client", "async_client"])
def test_an_address_in_the_place_of_a_client(cls: Any, how: str) -> None:
    """An address is not a client; the error says how to pass it, without showing it."""
    address = "redis://:secret@127.0.0.1:1/0"
    with pytest.raises(ConfigurationError, match="from_url") as refused:
        cls(address) if how == "positional" else cls(**{how: address})
    assert "secret" not in str(refused.value)


def test_minutes_in_a_dict() -> None:
    """A saver's ttl is seconds, not a dict of minutes."""
    ttl: Any = {"default_ttl": 60, "refresh_on_read": True}
    with pytest.raises(InvalidInputError, match="refresh_on_read= here"):
        RedisSaver.from_url(URL, ttl=ttl)


@pytest.mark.parametrize(
    "name",
    [
        "AsyncRedisSaver",
        "ShallowRedisSaver",
        "AsyncShallowRedisSaver",
        "AsyncRedisStore",
        "ValkeySaver",
        "RedisCache",
    ],
)
def test_names(name: str) -> None:
    """The import error for another library's class says what to use instead."""
    with pytest.raises(ImportError, match=f"has no {name}. Use Redis"):
        exec(f"from ecowas_lc import {name}", {})
    assert name not in dir(ecowas_lc)


def test_unknown_names_stay_attribute_errors() -> None:
    """Any other missing name raises Python's usual error."""
    assert not hasattr(importlib.import_module("ecowas_lc"), "NoSuchName")


@pytest.mark.parametrize("cls", [RedisSaver, RedisStore])
def test_from_conn_string(cls: Any) -> None:
    """It returns an object for plain use and for both kinds of ``with``; ``setup`` and ``asetup`` do nothing."""
    plain = cls.from_conn_string(URL)
    assert isinstance(plain, cls)
    plain.setup()
    plain.close()
    with cls.from_conn_string(URL) as entered:
        assert isinstance(entered, cls)

    async def use() -> None:
        async with cls.from_conn_string(URL) as entered:
            await entered.asetup()
            assert isinstance(copy.copy(entered), cls)

    asyncio.run(use())
