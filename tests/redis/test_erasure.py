"""Erasing the data of one user, and the receipt."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.outputs import Generation
from langgraph.graph import START, MessagesState, StateGraph

from ecowas_lc import (
    EncryptedRedisSerializer,
    InvalidIdError,
    InvalidInputError,
    RedisLLMCache,
    RedisMemoryService,
    RedisSaver,
    RedisStore,
    aerase,
    erase,
)
from ecowas_lc.search.place import id_of
from ecowas_lc.storage.keys import Keys
from tests.fixtures.servers import RunningCluster, RunningServer


def fill(url: str, prefix: str, encryption: EncryptedRedisSerializer | None = None) -> None:
    """Data of two users and of no user, in every place that exists."""
    with (
        RedisSaver.from_url(url, prefix=prefix, serde=encryption) as saver,
        RedisMemoryService(url=url, prefix=prefix) as memory,
        RedisStore.from_url(url, prefix=prefix, encryption=encryption) as store,
        RedisStore.from_url(url, prefix=prefix, collection="other", encryption=encryption) as other,
        RedisLLMCache.from_url(url, prefix=prefix) as cache,
    ):
        graph = StateGraph(MessagesState).add_node("say", lambda state: {"messages": [("ai", "hi")]})
        app = graph.add_edge(START, "say").compile(checkpointer=saver)
        for user in ("ama", "kofi", None):
            for number in range(3):
                config: Any = {"configurable": {"thread_id": f"{user}-{number}"}}
                config |= {"metadata": {"user_id": user}} if user else {}
                app.invoke({"messages": [("user", "hello")]}, config)
            for number in range(2):
                memory.append_to_history("energy", f"{user}-s{number}", {"role": "user", "content": "hello"})
                memory.set_session_data(f"{user}-s{number}", "place", "Accra")
                if user:
                    memory.set_session_data(f"{user}-s{number}", "user_id", user)
            for each in (store, other):
                each.put((user or "shared", "notes"), "own", {"n": 1})
                each.put(("team", "notes"), f"by {user}", {"user_id": user})
        cache.update("p", "llm", [Generation(text="x")])


def check(url: str, prefix: str, encryption: EncryptedRedisSerializer | None = None) -> None:
    """The data that is left is everything except ama's."""
    with (
        RedisSaver.from_url(url, prefix=prefix, serde=encryption) as saver,
        RedisMemoryService(url=url, prefix=prefix) as memory,
        RedisStore.from_url(url, prefix=prefix, encryption=encryption) as store,
    ):
        threads = {each.config["configurable"]["thread_id"] for each in saver.list(None)}
        assert threads == {f"{user}-{n}" for user in ("kofi", None) for n in range(3)}
        assert set(memory.get_all_sessions_for_agent("energy")) == {
            f"{user}-s{n}" for user in ("kofi", None) for n in range(2)
        }
        assert memory.get_all_session_data("ama-s0") == {}
        items = {(item.namespace[0], item.key) for item in store.search((), limit=50)}
        assert items == {("kofi", "own"), ("shared", "own"), ("team", "by kofi"), ("team", "by None")}


def test_everything_of_a_user_goes_and_nothing_else(server: RunningServer, prefix: str) -> None:
    """Threads, sessions and items of the user are deleted, and others' stay; a second erasure finds nothing."""
    fill(server.url, prefix)
    counted = erase("ama", url=server.url, prefix=prefix, dry_run=True)
    receipt = erase("ama", url=server.url, prefix=prefix)
    assert counted.found == receipt.found == {"threads": 3, "sessions": 2, "items": 4}
    assert receipt.unattributed == {"sessions": 2, "threads": 3, "cached answers": 1}
    check(server.url, prefix)
    again = erase("ama", url=server.url, prefix=prefix)
    assert again.is_empty
    assert again.unattributed == receipt.unattributed
    assert not erase("kofi", url=server.url, prefix=prefix).is_empty


async def test_on_a_cluster(cluster: RunningCluster, prefix: str) -> None:
    """On a cluster it works as well, without blocking the event loop."""
    fill(cluster.url, prefix)
    receipt = await aerase("ama", url=cluster.url, prefix=prefix)
    assert receipt.found == {"threads": 3, "sessions": 2, "items": 4}
    check(cluster.url, prefix)
    assert (await aerase("ama", url=cluster.url, prefix=prefix)).is_empty


def test_what_is_encrypted(redis_server: RunningServer, prefix: str) -> None:
    """Without the key, encrypted threads and items are counted as unreadable; with it they are erased."""
    encryption = EncryptedRedisSerializer(b"k" * 32)
    fill(redis_server.url, prefix, encryption)
    keyless = erase("ama", url=redis_server.url, prefix=prefix, dry_run=True)
    assert keyless.unattributed["unreadable threads"] == 9
    assert keyless.unattributed["unreadable items"] == 10
    receipt = erase("ama", url=redis_server.url, prefix=prefix, encryption=encryption)
    assert receipt.found == {"threads": 3, "sessions": 2, "items": 4}
    check(redis_server.url, prefix, encryption)


def test_what_has_expired_is_not_counted(redis_server: RunningServer, prefix: str) -> None:
    """A receipt leaves out threads and items that expired and are still in an index, and the rest is erased."""
    fill(redis_server.url, prefix)
    with (
        RedisMemoryService(url=redis_server.url, prefix=prefix) as memory,
        RedisStore.from_url(redis_server.url, prefix=prefix) as store,
        redis_server.client() as raw,
    ):
        memory.set_session_data("ama-0", "user_id", "ama")  # a session with the id of an expired thread
        item = store._at.item(id_of(("ama", "notes"), "own"))
        assert raw.delete(Keys(prefix).thread("ama-0"), item) == 2
    receipt = erase("ama", url=redis_server.url, prefix=prefix)
    assert receipt.found == {"threads": 2, "sessions": 3, "items": 3}
    assert receipt.unattributed == {"sessions": 2, "threads": 3, "cached answers": 1}
    check(redis_server.url, prefix)


def test_other_marks(redis_server: RunningServer, prefix: str) -> None:
    """You choose the field and label that identify a user; one in another label is reported, not erased."""
    with (
        RedisStore.from_url(redis_server.url, prefix=prefix) as store,
        RedisMemoryService(url=redis_server.url, prefix=prefix) as memory,
    ):
        store.put(("memories", "ama"), "k", {"n": 1})
        store.put(("memories", "kofi", "ama"), "k", {"n": 1})
        store.put(("team",), "k", {"author": "ama"})
        memory.set_session_data("s", "author", "ama")
        where: Any = {"url": redis_server.url, "prefix": prefix}
        assert erase("ama", **where).found == {"threads": 0, "sessions": 0, "items": 0}
        assert erase("ama", **where).unattributed == {"sessions": 1, "items with the user as another label": 2}
        receipt = erase("ama", field="author", label=1, **where)
        assert receipt.found == {"threads": 0, "sessions": 1, "items": 2}
        assert receipt.unattributed == {"items with the user as another label": 1}
        assert [item.namespace for item in store.search(())] == [("memories", "kofi", "ama")]
        for marks in ({"label": -1}, {"label": True}, {"field": ""}):
            with pytest.raises((InvalidInputError, InvalidIdError)):
                erase("ama", **where, **marks)


@pytest.mark.parametrize("user", ["", None, 3])
def test_a_user_is_text(user: Any) -> None:
    """A user id that is empty or not text is refused before anything is read."""
    with pytest.raises(InvalidIdError):
        erase(user, url="redis://127.0.0.1:1/0")
