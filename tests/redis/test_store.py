"""``RedisStore`` beyond langgraph's contract: costs, versions, bad input, foreign data, several writers."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.store.base import GetOp, InvalidNamespaceError, ListNamespacesOp, MatchCondition, PutOp, SearchOp

from ecowas_lc import (
    ConfigurationError,
    CorruptDataError,
    DecryptionError,
    EcowasError,
    EncryptedRedisSerializer,
    FormatVersionError,
    InvalidInputError,
    ItemConflictError,
    NotSerializableError,
    RedisStore,
    Settings,
    WrongTypeError,
)
from ecowas_lc.search.items import ids_op
from ecowas_lc.search.place import bucket_of, bucket_of_id, id_of, labels_of, place_of, range_of, space_of
from ecowas_lc.storage import server as server_module
from tests.fixtures.proxy import Proxy, running_proxy
from tests.fixtures.servers import RunningCluster, RunningServer, wait_until

NS = ("memories", "ama")


@pytest.fixture
def store(redis_server: RunningServer, prefix: str) -> Iterator[RedisStore]:
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store:
        yield store


@pytest.fixture
def proxy(redis_server: RunningServer) -> Iterator[Proxy]:
    with running_proxy(redis_server.port) as proxy:
        yield proxy


labels = st.text(min_size=1, max_size=8).filter(lambda label: "." not in label and "\0" not in label)
spaces = st.lists(labels, min_size=1, max_size=4).map(tuple)


@given(spaces, st.text(max_size=8))
def test_every_namespace_and_key_come_back(namespace: tuple[str, ...], key: str) -> None:
    """An id is built from any namespace and key, and yields them again, with the namespace's bucket."""
    item_id = id_of(namespace, key)
    assert place_of(item_id) == (namespace, key)
    assert labels_of(space_of(namespace)) == namespace
    assert bucket_of_id(item_id) == bucket_of(namespace)


@given(spaces, spaces, st.text(max_size=8))
def test_a_range_holds_what_is_below(under: tuple[str, ...], namespace: tuple[str, ...], key: str) -> None:
    """An id lies in the range of a namespace prefix exactly where its namespace begins with these labels."""
    bounds, item_id = range_of(under), id_of(namespace, key)
    inside = bounds.first[1:] <= item_id < bounds.last[1:]
    assert inside == (namespace[: len(under)] == under)


def test_one_flush_each(proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``get``, ``put``, ``delete`` and a batch of them are one flush, whatever the number of items."""
    with RedisStore.from_url(proxy.url, prefix=prefix, ttl={"default_ttl": 10}) as store:
        store.put(NS, "warm", {"n": 1})
        store.get(NS, "warm")
        store.list_namespaces(prefix=NS)
        many = [PutOp((f"user{n}", "notes"), "k", {"n": n}, ttl=5) for n in range(50)]
        calls: dict[str, Callable[[], Any]] = {
            "put": lambda: store.put(NS, "k", {"text": "x" * 500}),
            "put again": lambda: store.put(NS, "k", {"text": "y" * 500}, ttl=None),
            "put if": lambda: store.put(NS, "new", {"n": 1}, if_version=0),
            "get": lambda: store.get(NS, "k"),
            "get without renewing": lambda: store.get(NS, "k", refresh_ttl=False),
            "list": lambda: store.list_namespaces(prefix=NS),
            "delete": lambda: store.delete(NS, "k"),
        }
        for name, call in calls.items():
            proxy.reset_counts()
            call()
            assert proxy.flushes == 1, name
        # The server answers the first of many commands before it has the last, so this is counted at its source.
        sent: list[Any] = []
        send = server_module._send
        monkeypatch.setattr(server_module, "_send", lambda *args: sent.append(args) or send(*args))
        store.batch([GetOp(NS, "k"), *many, ListNamespacesOp(store_prefix(NS)), GetOp(NS, "x")])
        assert len(sent) == 1


def store_prefix(namespace: tuple[str, ...]) -> Any:
    from langgraph.store.base import MatchCondition

    return (MatchCondition("prefix", namespace),)


async def test_one_flush_each_async(proxy: Proxy, prefix: str) -> None:
    """The async methods take the same number of flushes."""
    async with RedisStore.from_url(proxy.url, prefix=prefix) as store:
        await store.aput(NS, "warm", {"n": 1})
        await store.aget(NS, "warm")
        for name, call in {
            "put": lambda: store.aput(NS, "k", {"n": 1}),
            "get": lambda: store.aget(NS, "k"),
            "delete": lambda: store.adelete(NS, "k"),
        }.items():
            proxy.reset_counts()
            await call()
            assert proxy.flushes == 1, name


def test_a_put_sends_the_same_at_any_size(proxy: Proxy, prefix: str) -> None:
    """The size of a put does not grow with the number of items."""
    sent = []
    with RedisStore.from_url(proxy.url, prefix=prefix) as store:
        for size in (10, 2000):
            store.batch([PutOp(NS, f"k{n:06}", {"n": 1}) for n in range(size)])
            proxy.reset_counts()
            store.put(NS, "another", {"n": 1})
            sent.append(proxy.sent)
    assert sent[0] == sent[1]


def test_versions_guard_writes(store: RedisStore) -> None:
    """``if_version`` stores an item only if it has this version; 0: only if it does not exist."""
    store.put(NS, "k", {"n": 1}, if_version=0)
    with pytest.raises(ItemConflictError, match="Another writer"):
        store.put(NS, "k", {"n": 2}, if_version=0)
    item: Any = store.get(NS, "k")
    store.put(NS, "k", {"n": 2}, if_version=item.version)
    with pytest.raises(ItemConflictError):
        store.put(NS, "k", {"n": 3}, if_version=item.version)
    assert store.get(NS, "k").value == {"n": 2}  # type: ignore[union-attr]
    found: Any = store.search(NS)[0]
    assert found.version == store.get(NS, "k").version > item.version  # type: ignore[union-attr]
    with pytest.raises(ItemConflictError):
        store.put(NS, "gone", {"n": 1}, if_version=item.version)


def test_a_guarded_put_that_is_sent_again_is_made_once(store: RedisStore, redis_server: RunningServer) -> None:
    """If the connection breaks before the reply, the repeated put recognises itself instead of a conflict."""
    with running_proxy(redis_server.port) as proxy:
        through = RedisStore.from_url(
            proxy.url.replace("redis://", f"redis://{redis_server.user}:@") if redis_server.user else proxy.url,
            prefix=store._at.keys.prefix,
        )
        through.put(NS, "warm", {"n": 0}, if_version=0)
        proxy.cut_next("reply", 0)
        through.put(NS, "k", {"n": 1}, if_version=0)
        assert proxy.cuts == 1
        through.close()
    assert store.get(NS, "k").value == {"n": 1}  # type: ignore[union-attr]


def test_counters_that_several_threads_raise(store: RedisStore) -> None:
    """With ``if_version``, no update is lost, however many writers raise one counter at once."""
    store.put(NS, "counter", {"n": 0})

    def raise_it() -> None:
        for _ in range(10):
            while True:
                item: Any = store.get(NS, "counter")
                try:
                    store.put(NS, "counter", {"n": item.value["n"] + 1}, if_version=item.version)
                except ItemConflictError:
                    continue
                break

    threads = [threading.Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(NS, "counter").value == {"n": 40}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [None, "text", [1], 3, {"x": math.nan}, {"x": -math.inf}, {"x": object()}, {1: 2}, {"x": b"raw"}, {"x": {1}}],
)
def test_what_is_no_json_object_is_refused(store: RedisStore, value: Any) -> None:
    """A value must be a JSON object that JSON does not change; otherwise a ValueError names the place in it."""
    if value is None:
        store.put(NS, "k", value)  # deletes
    else:
        with pytest.raises(NotSerializableError) as error:
            store.put(NS, "k", value)
        assert isinstance(error.value, ValueError)
    assert store.get(NS, "k") is None


def test_a_value_that_contains_itself(store: RedisStore) -> None:
    """A circular value is refused like any other that JSON can't represent."""
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(NotSerializableError):
        store.put(NS, "k", value)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.search(NS, limit=-1),
        lambda store: store.search(NS, offset=-1),
        lambda store: store.search(NS, limit="3"),
        lambda store: store.search(NS, filter={"x": {"$near": 1}}),
        lambda store: store.search(NS, filter={"x": [{"y": {"$in": [1]}}]}),
        lambda store: store.search(NS, filter=[("x", 1)]),
        lambda store: store.search(NS, filter={1: 1}),
        lambda store: store.put(("langgraph",), "k", {}),
        lambda store: store.put("users", "k", {}),
        lambda store: store.put(("a", 1), "k", {}),
        lambda store: store.batch([ListNamespacesOp(match_conditions=(MatchCondition("middle", ("a",)),))]),
        lambda store: store.search(NS, filter={"$or": [{"x": 1}]}),
        lambda store: store.search(NS, filter={"$gt": 1}),
        lambda store: store.search(NS, query=3),
        lambda store: store.put(NS, "k", {}, ttl=0),
        lambda store: store.put(NS, "k", {}, ttl=-5),
        lambda store: store.put(NS, "k", {}, ttl=math.nan),
        lambda store: store.put(NS, "k", {}, ttl=True),
        lambda store: store.put(NS, "k", {}, ttl=1e300),
        lambda store: store.put(NS, "k", {}, if_version=-1),
        lambda store: store.batch([PutOp((), "k", {})]),
        lambda store: store.batch([PutOp(("a",), 3, {})]),
        lambda store: store.batch([GetOp(("a", ""), "k")]),
        lambda store: store.batch(["get"]),
        lambda store: store.clear(("a", "")),
        lambda store: store.list_namespaces(limit=-1),
    ],
)
def test_bad_arguments_are_named_errors(store: RedisStore, call: Callable[[RedisStore], Any]) -> None:
    """Invalid input is a ValueError of ours or langgraph's InvalidNamespaceError, and nothing is written."""
    with pytest.raises((InvalidInputError, InvalidNamespaceError)):
        call(store)
    assert store.search(()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": {"default_ttl": -1}},
        {"ttl": {"default": 5}},
        {"ttl": 5},
        {"index": {"dims": 3}},
        {"index": []},
        {"index": "text"},
        {"index": {"dims": 0, "embed": len}},
        {"index": {"dims": 3, "embed": len, "fileds": ["x"]}},
        {"index": {"dims": 3, "embed": len, "mode": "fuzzy"}},
        {"index": {"dims": 3, "embed": len, "vectors": "float64"}},
        {"index": {"dims": 3, "embed": len, "words": False, "mode": "both"}},
        {"index": {"embed": None, "mode": "meaning"}},
        {"index": {"embed": None, "words": False}},
        {"encryption": b"k" * 32},
        {"collection": ""},
        {"prefix": "a:b"},
    ],
    ids=repr,
)
def test_bad_options_are_named_errors(options: Any) -> None:
    """An impossible configuration is refused at once, with an alternative."""
    with pytest.raises((ConfigurationError, InvalidInputError)):
        RedisStore.from_url("redis://127.0.0.1:1/0", **options)


def test_foreign_data_is_left_alone(store: RedisStore, redis_server: RunningServer) -> None:
    """Foreign data at a key of ours is a named error, and is unchanged."""
    item, head = store._at.item(id_of(NS, "k")), store._at.bucket(bucket_of(NS))[0]
    with redis_server.client() as raw:
        for key in (item, head):
            for make in (lambda key: raw.set(key, "theirs"), lambda key: raw.hset(key, "their", "field")):
                make(key)
                before = raw.dump(key)
                with pytest.raises(WrongTypeError):
                    store.put(NS, "k", {"n": 1})
                assert raw.dump(key) == before
                raw.delete(key)
    store.put(NS, "k", {"n": 1})


def test_a_newer_format_is_refused(store: RedisStore, redis_server: RunningServer) -> None:
    """Data of a newer version is neither read nor overwritten."""
    store.put(NS, "k", {"n": 1})
    item, head = store._at.item(id_of(NS, "k")), store._at.bucket(bucket_of(NS))[0]
    with redis_server.client() as raw:
        raw.hset(item, "h", "2 something else")
        for call in (lambda: store.get(NS, "k"), lambda: store.put(NS, "k", {"n": 2})):
            with pytest.raises(FormatVersionError, match=r"Upgrade|newer"):
                call()
        raw.hset(head, "format", "2")
        for call in (lambda: store.put(NS, "x", {}), lambda: store.search(NS), store.list_namespaces):
            with pytest.raises(FormatVersionError, match=r"Upgrade|newer"):
                call()


def test_corrupt_values_are_named(store: RedisStore, redis_server: RunningServer) -> None:
    """Data that is not an item, at an item's key, is a CorruptDataError with advice."""
    store.put(NS, "k", {"n": 1})
    with redis_server.client() as raw:
        for damage in (b"{", b"[1]", b"\xff", b'{"x": NaN}'):
            raw.hset(store._at.item(id_of(NS, "k")), "v", damage)
            with pytest.raises(CorruptDataError):
                store.get(NS, "k")
        raw.hdel(store._at.item(id_of(NS, "k")), "v")
        with pytest.raises(CorruptDataError):
            store.get(NS, "k")


def test_encrypted_values(redis_server: RunningServer, prefix: str) -> None:
    """Encrypted values are unreadable on the server, a moved value can't be opened, and keys can be rotated."""
    old, new = b"o" * 32, b"n" * 32
    url = redis_server.url
    first = RedisStore.from_url(url, prefix=prefix, encryption=EncryptedRedisSerializer({"a": old}))
    first.put(NS, "k", {"secret": "Tema corridor"})
    first.put(NS, "other", {"secret": "nothing"})
    rotated = EncryptedRedisSerializer({"a": old, "b": new}, current="b")
    second = RedisStore.from_url(url, prefix=prefix, encryption=rotated)
    assert second.get(NS, "k").value == {"secret": "Tema corridor"}  # type: ignore[union-attr]
    with redis_server.client() as raw:
        key, other = (first._at.item(id_of(NS, name)) for name in ("k", "other"))
        assert b"Tema" not in raw.hget(key, "v")
        raw.hset(other, "v", raw.hget(key, "v"))
    with pytest.raises(DecryptionError):
        first.get(NS, "other")
    plain = RedisStore.from_url(url, prefix=prefix)
    with pytest.raises(EcowasError):
        plain.get(NS, "k")
    for each in (first, second, plain):
        each.close()


def test_clear_removes_what_is_below(store: RedisStore) -> None:
    """``clear`` deletes the items under a prefix, returns their number, and leaves the others."""
    store.batch([PutOp(("a", str(n % 3)), f"k{n}", {"n": n}) for n in range(1200)])
    store.put(("ab",), "stays", {})
    assert store.clear(("a", "1")) == 400
    assert store.clear(("a",)) == 800
    assert store.clear(("a",)) == 0
    assert store.list_namespaces() == [("ab",)]


def test_clear_and_delete_end_though_items_are_gone(store: RedisStore, redis_server: RunningServer) -> None:
    """``clear`` and ``delete`` also remove expired and evicted items from the indexes."""
    store.batch([PutOp(NS, f"k{n}", {"n": n}, ttl=0.001 if n % 2 else None) for n in range(700)])
    with redis_server.client() as raw:
        wait_until(
            lambda: raw.exists(*(store._at.item(id_of(NS, f"k{n}")) for n in range(1, 700, 2))) == 0, "expiry"
        )
        raw.delete(store._at.item(id_of(NS, "k0")), store._at.item(id_of(NS, "k2")))
        store.delete(NS, "k0")
        store.clear(NS)
        _, ids, log, _, expiry, spaces_ = store._at.bucket(bucket_of(NS))
        assert [raw.zcard(key) for key in (ids, log, expiry, spaces_)] == [0, 0, 0, 0]
    assert store.list_namespaces() == []


async def test_the_async_twins(redis_server: RunningServer, prefix: str) -> None:
    """Methods beyond the contract don't block the event loop either."""
    async with RedisStore.from_conn_string(redis_server.url, prefix=prefix) as store:
        await store.asetup()
        await store.aput(NS, "k", {"n": 1}, if_version=0)
        with pytest.raises(ItemConflictError):
            await store.aput(NS, "k", {"n": 1}, if_version=0)
        assert len(await store.asearch(NS)) == 1
        assert await store.aclear(NS) == 1


def test_collections_and_prefixes_share_nothing(redis_server: RunningServer, prefix: str) -> None:
    """Stores of another prefix or collection are separate."""
    stores = [
        RedisStore.from_url(redis_server.url, prefix=prefix),
        RedisStore.from_url(redis_server.url, prefix=prefix, collection="other"),
        RedisStore.from_url(redis_server.url, prefix=f"{prefix}2"),
    ]
    for number, store in enumerate(stores):
        store.setup()
        store.put(NS, "k", {"n": number})
    for number, store in enumerate(stores):
        assert [item.value["n"] for item in store.search(())] == [number]
        store.close()


def test_from_settings(redis_server: RunningServer, prefix: str) -> None:
    """The server and the prefix are those of the settings."""
    settings = Settings(redis_url=redis_server.url, ECOWAS_LC_PREFIX=prefix)
    with RedisStore.from_settings(settings) as store:
        store.put(NS, "k", {"n": 1})
        assert prefix in repr(store)
    with RedisStore.from_url(redis_server.url, prefix=prefix) as again:
        assert again.get(NS, "k") is not None


def test_given_clients(redis_server: RunningServer, prefix: str) -> None:
    """A client of the caller's serves sync code, and async code in threads."""
    with redis_server.client() as client:
        store = RedisStore(client, prefix=prefix)
        store.put(NS, "k", {"n": 1})
        assert asyncio.run(store.aget(NS, "k")).value == {"n": 1}  # type: ignore[union-attr]
        store.close()
        assert client.ping()


def test_expired_items_leave_the_indexes(store: RedisStore, redis_server: RunningServer) -> None:
    """After later writes, no index lists expired items, without any sweep."""
    store.batch([PutOp(NS, f"k{n}", {"n": n}, ttl=0.002) for n in range(50)])
    with redis_server.client() as raw:
        wait_until(lambda: raw.exists(*(store._at.item(id_of(NS, f"k{n}")) for n in range(50))) == 0, "expiry")
        store.put((*NS, "new"), "k", {"n": 1})
        _, ids, log, _, expiry, spaces_ = store._at.bucket(bucket_of(NS))
        assert [raw.zcard(key) for key in (ids, log, expiry, spaces_)] == [1, 1, 0, 1]


def test_a_forked_child_uses_the_store(redis_server: RunningServer, prefix: str) -> None:
    """A child of a process that has used the store reads and writes; so does its parent afterwards."""
    code = f"""
import os
from ecowas_lc import RedisStore
store = RedisStore.from_url({redis_server.url!r}, prefix={prefix!r}, index={{"embed": None}})
store.put(("a", "b"), "parent", {{"text": "gold"}})
store.search(("a", "b"), query="gold")
children = []
for number in range(4):
    child = os.fork()
    if not child:
        store.put(("a", "b"), f"child{{number}}", {{"text": "gold"}})
        os._exit(0 if len(store.search(("a", "b"), query="gold")) > 1 else 1)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert len(store.search(("a", "b"), query="gold")) == 5
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cluster_keeps_a_tenant_together(cluster: RunningCluster, prefix: str) -> None:
    """Namespaces with the same first two labels share a slot, and many tenants are spread over the nodes."""
    with RedisStore.from_url(cluster.url, prefix=prefix) as store:
        for number in range(60):
            store.put(("users", f"u{number}", "notes"), "k", {"n": number})
            store.put(("users", f"u{number}"), "k", {"n": number})
        assert len(store.search(("users",), limit=200)) == 120
        held = []
        for node in cluster.nodes:
            with node.client() as raw:
                held.append(len(raw.keys(f"{prefix}:items:*:item:*")))
        assert sum(held) == 120
        assert min(held) >= 10
        assert bucket_of(("users", "u1", "notes")) == bucket_of(("users", "u1"))


def test_a_listing_has_a_cursor(server: RunningServer, prefix: str) -> None:
    """Pages of a listing leave nothing out and repeat nothing, whatever is written meanwhile."""
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        names = {(f"user{n % 9}", "notes", f"k{n}") for n in range(300)}
        store.batch([PutOp(name[:2], name[2], {"n": 1}) for name in sorted(names)])
        store.put(("user1", "notes"), "brief", {"n": 1}, ttl=0.001)
        found: list[tuple[str, ...]] = []
        cursor: str | None = None
        while True:
            page = store.list_items(after=cursor, limit=37)
            assert len(page.items) <= 37
            found += [(*item.namespace, item.key) for item in page.items]
            store.put(("user5", "notes"), "k5", {"n": len(found)})
            if (cursor := page.cursor) is None:
                break
        assert sorted(name for name in found if name[2] != "brief") == sorted(names)
        below = store.list_items(("user3",), limit=1000)
        assert {item.key for item in below.items} == {key for user, _, key in names if user == "user3"}
        assert asyncio.run(store.alist_items(("nobody",))).items == ()
        for options in ({"limit": 0}, {"limit": 10**6}, {"after": "k"}):
            with pytest.raises(InvalidInputError):
                store.list_items(**options)  # type: ignore[arg-type]


def test_an_item_that_expires_while_it_is_listed(
    store: RedisStore, redis_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing leaves out an item that expires after its id was read; the page has the next item instead."""
    store.batch([PutOp(NS, f"k{n}", {"n": n}) for n in range(5)])

    def then_one_expires(*arguments: Any) -> Any:
        ids = yield from ids_op(*arguments)
        raw.delete(store._at.item(id_of(NS, "k1")))
        return ids

    monkeypatch.setattr("ecowas_lc.store.redis_store.ids_op", then_one_expires)
    with redis_server.client() as raw:
        first = store.list_items(NS, limit=3)
        assert [item.key for item in first.items] == ["k0", "k2", "k3"]
        assert [item.key for item in store.list_items(NS, after=first.cursor).items] == ["k4"]


def test_search_pages_by_last_change(store: RedisStore) -> None:
    """Without a query the items changed last come first, page after page, also of thousands stored in one step."""
    store.batch([PutOp(NS, f"k{n:04}", {"n": n}) for n in range(2500)])
    store.put(NS, "k0100", {"n": 100})
    found = [item.key for start in range(0, 2600, 500) for item in store.search(NS, limit=500, offset=start)]
    assert found[0] == "k0100"
    assert sorted(found) == [f"k{n:04}" for n in range(2500)]
    assert store.batch([SearchOp(NS, limit=0)]) == [[]]
    big = store.search(NS, filter={"n": {"$gte": 2400}}, limit=500)
    assert sorted(item.value["n"] for item in big) == list(range(2400, 2500))
    store.put(("memories", "kofi"), "x", {"n": 1})
    assert [item.key for item in store.search(["memories", "kofi"])] == ["x"]  # type: ignore[arg-type]
    assert [item.key for item in store.batch([SearchOp(("memories", "kofi"))])[0]] == ["x"]  # type: ignore[union-attr]
