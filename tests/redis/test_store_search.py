"""Search in a store: exact, never stale, in two flushes, and bounded by the items below a prefix."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from langchain_ollama import OllamaEmbeddings
from langgraph.store.base import PutOp
from ollama import ResponseError

from ecowas_lc import (
    CorruptDataError,
    DecryptionError,
    DimensionMismatchError,
    EcowasError,
    EncryptedRedisSerializer,
    InvalidInputError,
    RedisStore,
)
from ecowas_lc.search import copies
from ecowas_lc.search import index as index_module
from ecowas_lc.search.place import bucket_of, id_of
from ecowas_lc.search.words import stemmers
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.proxy import Proxy, running_proxy
from tests.fixtures.servers import RunningCluster, RunningServer, wait_until

NS = ("docs", "all")
DIMENSIONS = 24


def vector_of(text: str) -> list[float]:
    """A vector for a text: always the same, and different from any other text's."""
    return np.random.default_rng(int(text.split()[0])).standard_normal(DIMENSIONS).tolist()  # type: ignore[no-any-return]


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [vector_of(text) for text in texts]


INDEX: Any = {"dims": DIMENSIONS, "embed": embed, "fields": ["text"]}


def best(model: dict[str, str], query: str, limit: int) -> list[str]:
    """The results of an exact search, computed the plain way."""
    wanted = np.asarray(vector_of(query))
    scores = {}
    for key, text in model.items():
        vector = np.asarray(vector_of(text))
        scores[key] = float(vector @ wanted / np.linalg.norm(vector) / np.linalg.norm(wanted))
    return sorted(scores, key=lambda key: -scores[key])[:limit]


def keys(items: Any) -> list[str]:
    return [item.key for item in items]


@pytest.fixture
def store(redis_server: RunningServer, prefix: str) -> Iterator[RedisStore]:
    with RedisStore.from_url(redis_server.url, prefix=prefix, index=INDEX) as store:
        yield store


@pytest.fixture
def proxy(redis_server: RunningServer) -> Iterator[Proxy]:
    with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.mark.parametrize("vectors", ["int8", "float32"])
def test_results_are_exact_after_any_changes(server: RunningServer, prefix: str, vectors: str) -> None:
    """Two processes' stores find exactly the best, in order, after any puts, updates and deletions by either."""
    generator = random.Random(5)
    options: Any = {"prefix": prefix, "index": {**INDEX, "vectors": vectors}}
    stores = [RedisStore.from_url(server.url, **options) for _ in range(2)]
    model: dict[str, str] = {}
    for step in range(25):
        writer = generator.choice(stores)
        ops = []
        for _ in range(generator.randint(1, 40)):
            key = f"k{generator.randint(0, 150)}"
            if generator.random() < 0.3:
                model.pop(key, None)
                ops.append(PutOp(NS, key, None))
            else:
                model[key] = f"{generator.randint(0, 10**6)}"
                ops.append(PutOp(NS, key, {"text": model[key]}))
        writer.batch(ops)
        for reader in stores:
            query = str(generator.randint(0, 10**6))
            assert keys(reader.search(NS, query=query, limit=7)) == best(model, query, 7), step
            assert keys(reader.search(("docs",), query=query, limit=3, offset=2)) == best(model, query, 5)[2:]
    for each in stores:
        each.close()


@pytest.mark.parametrize("with_simsimd", [True, False])
def test_eight_bits_are_exact_among_thousands(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, with_simsimd: bool
) -> None:
    """Copies in 8 bits find the ten best of 5,000 as exact vectors do, also where simsimd is not installed."""
    if not with_simsimd:
        monkeypatch.setattr(copies, "simsimd", None)
    model = {f"k{n}": str(n) for n in range(5000)}
    store.batch([PutOp(NS, key, {"text": text}) for key, text in model.items()])
    for query in ("10001", "10002", "10003"):
        found = store.search(NS, query=query, limit=10)
        assert keys(found) == best(model, query, 10)
        assert all(one.score >= other.score for one, other in itertools.pairwise(found))


def test_two_flushes_where_nothing_is_new(proxy: Proxy, prefix: str) -> None:
    """A search takes two flushes, and three if there is new data; with a filter no more."""
    with RedisStore.from_url(proxy.url, prefix=prefix, index=INDEX) as store:
        store.batch([PutOp(NS, f"k{n}", {"text": str(n), "n": n}) for n in range(300)])
        store.search(NS, query="3", limit=5)
        for options, flushes in (({}, 2), ({"filter": {"n": {"$gte": 0}}}, 2), ({"mode": "words"}, 3)):
            proxy.reset_counts()
            assert store.search(NS, query="3", limit=5, **options)
            assert proxy.round_trips == flushes, options
        proxy.reset_counts()
        store.search(NS, query="3", mode="both")
        assert proxy.round_trips == 2
        store.put(NS, "new", {"text": "77777"})
        proxy.reset_counts()
        assert keys(store.search(NS, query="77777", limit=1)) == ["new"]
        assert proxy.round_trips == 3
        store.put(("docs", "elsewhere"), "x", {"text": "1"})
        for _ in range(2):
            proxy.reset_counts()
            store.search(("docs",), query="3")
        assert proxy.round_trips == 2


def test_a_search_reads_what_is_new_and_no_more(proxy: Proxy, prefix: str) -> None:
    """A search receives as much as has changed and its hits, whatever the number of items."""
    with RedisStore.from_url(proxy.url, prefix=prefix, index=INDEX) as store:
        received = []
        for size in (200, 3000):
            store.batch([PutOp(NS, f"k{n}", {"text": str(n)}) for n in range(size)])
            store.search(NS, query="3", limit=5)
            store.put(NS, "new", {"text": "5"})
            proxy.reset_counts()
            store.search(NS, query="3", limit=5)
            received.append(proxy.received)
    assert received[1] <= 1.2 * received[0]


def test_a_first_search_reads_its_namespace_alone(proxy: Proxy, prefix: str) -> None:
    """A process's first search takes three flushes and receives only what is below its prefix."""
    received = []
    with RedisStore.from_url(proxy.url, prefix=prefix, index=INDEX) as writer:
        for others in (0, 60):
            for other in range(others):
                ops = [PutOp(("org", "users", f"u{other}"), f"k{n}", {"text": str(n)}) for n in range(100)]
                writer.batch(ops)
            writer.batch([PutOp(("org", "users", "ama"), f"k{n}", {"text": str(n)}) for n in range(100)])
            with RedisStore.from_url(proxy.url, prefix=prefix, index=INDEX) as reader:
                reader.get(NS, "connected")
                proxy.reset_counts()
                assert len(reader.search(("org", "users", "ama"), query="3")) == 10
                assert proxy.round_trips == 3
                received.append(proxy.received)
    assert received[1] <= 1.05 * received[0]


def test_deleted_and_expired_items_never_come_back(store: RedisStore, redis_server: RunningServer) -> None:
    """Items that another process deleted, or that expired, are no hits, though this process has copies of them."""
    store.batch([PutOp(NS, f"k{n}", {"text": str(n)}, ttl=0.004 if n < 5 else None) for n in range(30)])
    assert "k3" in keys(store.search(NS, query="3", refresh_ttl=False))
    with redis_server.client() as raw:
        wait_until(lambda: not raw.exists(store._at.item(id_of(NS, "k3"))), "expiry")
        found = keys(store.search(NS, query="3", limit=30))
        assert sorted(found) == sorted(f"k{n}" for n in range(5, 30))
        raw.delete(store._at.item(id_of(NS, "k7")))  # evicted, say: no script has seen it go
    assert "k7" not in keys(store.search(NS, query="7", limit=30))
    assert len(store.search(NS, query="7", limit=10)) == 10


def test_a_lost_server_is_read_anew(store: RedisStore, redis_server: RunningServer) -> None:
    """After the server lost everything, or returned to an older state, searches find what it has."""
    store.batch([PutOp(NS, f"k{n}", {"text": str(n)}) for n in range(20)])
    store.search(NS, query="3")
    prefix = store._at.keys.prefix
    with redis_server.client() as raw:
        before = {key: raw.dump(key) for key in raw.keys(f"{prefix}:*")}
        store.put(NS, "k3", {"text": "333"})
        store.put(NS, "late", {"text": "444"})
        store.delete(NS, "k4")
        store.search(NS, query="3")
        raw.delete(*raw.keys(f"{prefix}:*"))
        for key, value in before.items():
            raw.restore(key, 0, value)
        assert keys(store.search(NS, query="444", limit=20)).count("late") == 0
        store.put(NS, "after", {"text": "555"})
        for query, key in (("3", "k3"), ("4", "k4"), ("555", "after")):
            store.search(NS, query=query)
            assert keys(store.search(NS, query=query, limit=1)) == [key]
        assert store.search((), query="3")
        raw.delete(*raw.keys(f"{prefix}:*"))
    for everywhere in (NS, ()):
        assert store.search(everywhere, query="3") == []
    assert store._indexing is not None
    assert not any(copy.ids() or copy.known for copy in store._indexing.index._copies.values())
    store.put(NS, "only", {"text": "3"})
    for everywhere in (NS, ()):
        assert keys(store.search(everywhere, query="3")) == ["only"]


def test_an_item_that_is_no_longer_indexed_is_no_hit(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item may be stored again without an index between the two flushes of a search."""
    store.batch([PutOp(NS, f"k{n}", {"text": str(n)}) for n in range(20)])
    fetch = index_module.SearchIndex._fetch_op

    def fetch_late(*given: Any) -> Any:
        store.put(NS, "k3", {"text": "3"}, index=False)
        return fetch(*given)

    monkeypatch.setattr(index_module.SearchIndex, "_fetch_op", fetch_late)
    found = keys(store.search(NS, query="3", limit=20))
    assert len(found) == 19
    assert "k3" not in found


def test_a_copy_that_is_far_behind(store: RedisStore, redis_server: RunningServer, prefix: str) -> None:
    """A process that missed more deletions than are recorded reads everything again, and finds what is left."""
    with RedisStore.from_url(redis_server.url, prefix=prefix, index=INDEX) as reader:
        store.batch([PutOp(NS, f"k{n}", {"text": str(n)}) for n in range(1500)])
        assert keys(reader.search(NS, query="7", limit=1)) == ["k7"]
        store.batch([PutOp(NS, f"k{n}", None) for n in range(1400)])
        store.put(NS, "k7", {"text": "8"})
        found = keys(reader.search(NS, query="7", limit=200))
        assert sorted(found) == sorted(["k7", *(f"k{n}" for n in range(1400, 1500))])
        with redis_server.client() as raw:
            assert raw.zcard(store._at.bucket(index_module.bucket_of_id(id_of(NS, "k")))[3]) <= 1000


def test_a_first_search_of_many_reads_them_in_pages(
    store: RedisStore, redis_server: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of ids is bounded however many items there are, and no item is missed between two pages."""
    model = {f"k{n:03}": str(n) for n in range(40)}
    store.batch([PutOp(NS, key, {"text": text}) for key, text in model.items()])
    monkeypatch.setattr(index_module, "_IDS_AT_ONCE", 8)
    with RedisStore.from_url(redis_server.url, prefix=prefix, index=INDEX) as fresh:
        assert keys(fresh.search(NS, query="7", limit=40)) == best(model, "7", 40)


def test_nothing_is_stale_after_a_write_has_returned(server: RunningServer, prefix: str) -> None:
    """Threads write and search at once: the next search reflects every finished write and deletion."""
    shared = RedisStore.from_url(server.url, prefix=prefix, index=INDEX)
    wrong: list[str] = []

    def work(name: int) -> None:
        own = shared if name % 2 else RedisStore.from_url(server.url, prefix=prefix, index=INDEX)
        generator = random.Random(name)
        for step in range(25):
            text = str(generator.randint(0, 10**9))
            own.put(NS, f"w{name}", {"text": text})
            if keys(shared.search(NS, query=text, limit=1)) != [f"w{name}"]:
                wrong.append(f"w{name} is stale in step {step}")
            own.delete(NS, f"w{name}")
            if f"w{name}" in keys(shared.search(NS, query=text, limit=20)):
                wrong.append(f"w{name} came back in step {step}")
        if own is not shared:
            own.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert shared.search(NS, query="1") == []
    shared.close()


def test_several_processes_write_and_search(redis_server: RunningServer, prefix: str) -> None:
    """Processes that write and search at once lose no item, and each finds its own writes at once."""
    code = f"""
import sys
from ecowas_lc.store import RedisStore
def embed(texts): return [[float(text == str(n)) for n in range(60)] for text in texts]
index = {{"dims": 60, "embed": embed, "fields": ["text"]}}
store = RedisStore.from_url({redis_server.url!r}, prefix={prefix!r}, index=index)
for n in range(int(sys.argv[1]), 60, 2):
    store.put(("a", "b"), f"p{{n}}", {{"text": str(n)}})
    [found] = store.search(("a", "b"), query=str(n), limit=1)
    assert found.key == f"p{{n}}", found
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(me)], stderr=subprocess.PIPE, text=True)
        for me in range(2)
    ]
    for process in running:
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
        assert process.stderr is not None
        process.stderr.close()
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store:
        assert len(store.search(("a", "b"), limit=500)) == 60


def test_a_search_over_all_buckets_on_a_cluster(cluster: RunningCluster, prefix: str) -> None:
    """A search over many namespaces finds the best of all of them, on every node, and sees each later change."""
    with RedisStore.from_url(cluster.url, prefix=prefix, index=INDEX) as store:
        model = {}
        for n in range(60):
            store.put((f"tenant{n}", "notes"), f"k{n}", {"text": str(n)})
            model[f"k{n}"] = str(n)
        assert keys(store.search((), query="3", limit=9)) == best(model, "3", 9)
        for n in (3, 4):
            store.delete((f"tenant{n}", "notes"), f"k{n}")
            del model[f"k{n}"]
            assert keys(store.search((), query=str(n), limit=9)) == best(model, str(n), 9)


def test_forked_children_search_while_threads_do(redis_server: RunningServer, prefix: str) -> None:
    """A child forked while other threads search and write finds the stored items, and waits for no thread."""
    code = f"""
import os, threading
from ecowas_lc.store import RedisStore
def embed(texts): return [[float(text == str(n)) for n in range(200)] for text in texts]
index = {{"dims": 200, "embed": embed, "fields": ["text"]}}
store = RedisStore.from_url({redis_server.url!r}, prefix={prefix!r}, index=index)
going = True
def work(first):
    n = first
    while going:
        n = (n + 3) % 200
        store.put(("a", "b"), f"p{{n}}", {{"text": str(n)}})
        store.search(("a", "b"), query=str(n), limit=1, mode="both")
threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(3)]
for thread in threads: thread.start()
for number in range(12):
    child = os.fork()
    if not child:
        store.put(("a", "b"), f"child{{number}}", {{"text": str(number)}})
        found = [item.key for item in store.search(("a", "b"), query=str(number), limit=20)]
        os._exit(0 if f"child{{number}}" in found else 1)
    assert os.waitpid(child, 0)[1] == 0, number
going = False
for thread in threads: thread.join()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_copy_that_was_being_changed_is_dropped_in_a_child(store: RedisStore) -> None:
    """A copy that another thread was changing at the fork may be inconsistent: a child reads it again."""
    store.put(NS, "k", {"text": "1"})
    store.search(NS, query="1")
    store.search(("docs",), query="1")
    assert store._indexing is not None
    index = store._indexing.index
    with index._copies["meaning", NS].lock:
        index.forget_parent()
    assert list(index._copies) == [("meaning", ("docs",))]
    assert keys(store.search(NS, query="1")) == ["k"]


async def _reindexed(url: str, prefix: str, raw: Any) -> None:
    """Evict every index of a store, in whole or in part, and have it rebuilt."""
    options: dict[str, Any] = {"prefix": prefix, "index": INDEX, "ttl": {"refresh_on_read": False}}
    async with (
        RedisStore.from_url(url, **options) as store,
        RedisStore.from_url(url, prefix=prefix, collection="a:b {c}") as other,
    ):
        store.batch([PutOp(("u", str(n)), "k", {"text": str(n)}) for n in range(30)])
        store.put(("u", "a:b%*"), "x:{y}", {"text": "77"}, ttl=60)
        other.put(("only",), "k", {"n": 1})
        before = [(item.namespace, item.key, item.version) for item in store.search((), limit=50)]
        listed, ranked = store.list_namespaces(limit=50), keys(store.search((), query="7", limit=5))
        for part in ("", ":ids", ":log", ":gone", ":expiry", ":namespaces"):
            for bucket in range(0, 256, 1 if part in ("", ":log") else 2):
                raw.unlink(store._at.bucket(bucket)[0] + part.encode())
        for key in (other._at.keys.collections(), *other._at.bucket(bucket_of(("only",)))):
            raw.unlink(key)
        assert store.search(()) == other.search(()) == []
        assert store.get(("u", "3"), "k") is not None
        assert await store.areindex() == 32
        assert [(item.namespace, item.key, item.version) for item in store.search((), limit=50)] == before
        assert store.list_namespaces(limit=50) == listed
        assert keys(store.search((), query="7", limit=5)) == ranked
        assert len(other.search(())) == 1
        assert raw.zcard(store._at.bucket(bucket_of(("u", "a:b%*")))[4]) == 1
        store.put(("u", "3"), "k", {"text": "3 again"})
        assert store.search(("u", "3"))[0].value == {"text": "3 again"}
        assert store.reindex() == 0
        assert sorted(raw.zrange(store._at.keys.collections(), 0, -1)) == [b"a:b {c}", b"store"]


@pytest.mark.rights("+scan")
async def test_lost_indexes_are_made_anew(server: RunningServer, prefix: str) -> None:
    """After an eviction ``reindex`` enters all items again: with their versions, expiry and place in searches."""
    with server.client() as raw:
        await _reindexed(server.url, prefix, raw)


async def test_lost_indexes_on_a_cluster(cluster: RunningCluster, prefix: str) -> None:
    """On a cluster, ``reindex`` does so node by node."""
    with redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as raw:
        await _reindexed(cluster.url, prefix, raw)


def test_dimensions_that_differ(store: RedisStore, redis_server: RunningServer, prefix: str) -> None:
    """Vectors of another length than configured, or than those stored, are refused; nothing is written."""
    store.put(NS, "k", {"text": "1"})

    def short(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, 2.0] for _ in texts]

    lying: Any = {**INDEX, "embed": short}
    other: Any = {**INDEX, "embed": short, "dims": 2}
    for index, words in ((lying, "dims"), (other, "24")):
        with RedisStore.from_url(redis_server.url, prefix=prefix, index=index) as wrong:
            with pytest.raises(DimensionMismatchError, match=words):
                wrong.put(NS, "new", {"text": "2"})
            with pytest.raises(DimensionMismatchError):
                wrong.search(NS, query="2")
    assert keys(store.search(NS)) == ["k"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda texts: (_ for _ in ()).throw(RuntimeError("the model went away")),
        lambda texts: embed(texts)[:-1],
        lambda texts: [[math.nan] * DIMENSIONS for _ in texts],
        lambda texts: [["x"] * DIMENSIONS for _ in texts],
        lambda texts: None,
    ],
)
def test_embeddings_that_fail_write_nothing(redis_server: RunningServer, prefix: str, answer: Any) -> None:
    """If embedding fails midway, nothing of the batch is written."""
    index: Any = {**INDEX, "embed": answer}
    with RedisStore.from_url(redis_server.url, prefix=prefix, index=index) as store:
        with pytest.raises((InvalidInputError, RuntimeError)):
            store.batch(
                [PutOp(NS, "a", {"none": "1"}), PutOp(NS, "b", {"text": "1"}), PutOp(NS, "c", {"text": "2"})]
            )
        assert store.search(()) == []


def test_what_is_corrupt_is_named(store: RedisStore, redis_server: RunningServer, prefix: str) -> None:
    """Rows that no store of ours wrote are a named error of ours, never nonsense and never a foreign exception."""
    for field, damages in {
        "q": [b"x", b"\xff" * (DIMENSIONS + 4), b""],
        "f": [b"x", b"\xff" * 4 * DIMENSIONS],
        "w": [b"x", b"12345"],
    }.items():
        for damage in damages:
            store.put(NS, "k", {"text": "1"})
            with redis_server.client() as raw:
                raw.hset(store._at.item(id_of(NS, "k")), field, damage)
            with RedisStore.from_url(redis_server.url, prefix=prefix, index=INDEX) as reader:
                try:
                    found = reader.search(NS, query="1", mode="words" if field == "w" else "meaning")
                except (CorruptDataError, DimensionMismatchError):
                    pass
                else:
                    assert found == [], (field, damage)


def test_an_encrypted_index(redis_server: RunningServer, prefix: str) -> None:
    """With encryption, vectors and words are unreadable on the server, and searches find the right items."""
    options: Any = {"prefix": prefix, "index": INDEX}
    secret = RedisStore.from_url(redis_server.url, **options, encryption=EncryptedRedisSerializer(b"k" * 32))
    plain = RedisStore.from_url(redis_server.url, **options)
    secret.put(NS, "k", {"text": "17 lithium"})
    for mode in ("meaning", "words", "both"):
        assert keys(secret.search(NS, query="17 lithium", mode=mode)) == ["k"]  # type: ignore[arg-type]
        with pytest.raises(EcowasError):
            plain.search(NS, query="17 lithium", mode=mode)  # type: ignore[arg-type]
    with redis_server.client() as raw:
        item = raw.hgetall(secret._at.item(id_of(NS, "k")))
        shorter = {name: value[:2] for name, value in item.items() if name != b"h"}
        assert set(shorter.values()) == {b"\xc1\x01"}
        raw.hset(secret._at.item(id_of(NS, "k")), "q", item[b"f"])
    with (
        RedisStore.from_url(redis_server.url, **options, encryption=EncryptedRedisSerializer(b"k" * 32)) as again,
        pytest.raises(DecryptionError),
    ):
        again.search(NS, query="17 lithium")
    secret.close()
    plain.close()


WORDS: Any = {"embed": None, "fields": ["text"]}


@pytest.fixture
def words(redis_server: RunningServer, prefix: str) -> Iterator[RedisStore]:
    with RedisStore.from_url(redis_server.url, prefix=prefix, index=WORDS) as store:
        for key, text in {
            "en": "The ministers discussed regional electricity tariffs and interconnections.",
            "fr": "Les ministres ont financé l'interconnexion électrique régionale.",
            "pt": "As negociações sobre a segurança alimentar continuam em Praia.",
            "code": "The answer is user_id=42, see README.md.",
        }.items():
            store.put(NS, key, {"text": text})
        yield store


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("minister tariff", "en"),
        ("TARIFFS", "en"),
        ("interconnexions électriques", "fr"),
        ("interconnexion electrique", "fr"),
        ("financer", "fr"),
        ("negociação", "pt"),
        ("negociacoes", "pt"),
        ("SEGURANÇA", "pt"),
        ("readme", "code"),
        ("42", "code"),
    ],
)
def test_words_of_three_languages(words: RedisStore, query: str, key: str) -> None:
    """Words are found in other forms, in any case, and with or without their accents."""
    assert keys(words.search(NS, query=query, limit=1)) == [key]


def test_words_that_nobody_has(words: RedisStore) -> None:
    """A query that shares no word with an item finds nothing, and one without words neither."""
    for query in ("zebra", "?!", " "):
        assert words.search(NS, query=query) == []


def test_rare_words_count_more(words: RedisStore) -> None:
    """A rare word weighs more than a common one, and several occurrences more than one."""
    words.batch([PutOp(NS, f"c{n}", {"text": f"common filler number{n}"}) for n in range(30)])
    words.put(NS, "rare", {"text": "common lithium filler"})
    words.put(NS, "twice", {"text": "lithium lithium filler"})
    assert set(keys(words.search(NS, query="common lithium", limit=2))) == {"rare", "twice"}
    assert keys(words.search(NS, query="lithium", limit=2)) == ["twice", "rare"]


def test_words_after_changes(words: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """BM25 uses current counts, after updates and deletions, also after the postings were merged."""
    merged = []
    merge = copies.WordCopy._merge
    monkeypatch.setattr(copies, "_TAIL_TERMS", 500)
    monkeypatch.setattr(copies.WordCopy, "_merge", lambda copy: merged.append(copy) or merge(copy))
    model = {f"k{n}": f"word{n % 7} word{n % 11} text" for n in range(4000)}
    words.batch([PutOp(("w", "x"), key, {"text": text}) for key, text in model.items()])
    assert len(words.search(("w", "x"), query="word3", limit=5000)) == sum(
        "word3 " in f"{t} " for t in model.values()
    )
    words.batch([PutOp(("w", "x"), f"k{n}", None) for n in range(0, 4000, 2)])
    words.batch([PutOp(("w", "x"), f"k{n}", {"text": "lithium"}) for n in range(1, 4000, 4)])
    left = [text for n, text in enumerate(model.values()) if n % 4 == 3]
    found = words.search(("w", "x"), query="word3", limit=5000)
    assert len(found) == sum("word3 " in f"{text} " for text in left)
    assert len(words.search(("w", "x"), query="lithium", limit=5000)) == 1000
    words.batch([PutOp(("w", "x"), f"n{n}", {"text": "lithium copper gold"}) for n in range(1500)])
    words.batch([PutOp(("w", "x"), f"n{n}", None) for n in range(500)])
    assert len(words.search(("w", "x"), query="lithium", limit=5000)) == 2000
    assert len(words.search(("w", "x"), query="word3", limit=5000)) == len(found)
    assert len(merged) == 2
    assert words.index_bytes() > 0


def test_the_whole_value_is_words(redis_server: RunningServer, prefix: str) -> None:
    """Without ``fields`` all texts and numbers of a value are searched, not its field names."""
    with RedisStore.from_url(redis_server.url, prefix=prefix, index={"embed": None}) as store:
        store.put(NS, "k", {"title": "Deal\nroom", "parts": [{"t": "guarantee"}], "year": 2026})
        for query, count in (("room", 1), ("guarantees", 1), ("2026", 1), ("title", 0)):
            assert len(store.search(NS, query=query)) == count, query


def test_meaning_and_words_together(store: RedisStore) -> None:
    """``both`` ranks items that either method ranks high above others, and those that both rank high first."""
    store.put(NS, "meaning", {"text": "7 nothing else"})
    store.put(NS, "words", {"text": "1234 seven eight nine"})
    store.put(NS, "both", {"text": "7 seven eight nine"})
    store.batch([PutOp(NS, f"k{n}", {"text": f"{n} other"}) for n in range(100, 160)])
    found = keys(store.search(NS, query="7 seven eight nine", mode="both", limit=3))
    assert found[0] == "both"
    assert set(found) == {"both", "meaning", "words"}


def test_modes_are_the_index_configurations_or_the_searchs(words: RedisStore, store: RedisStore) -> None:
    """A mode that the index can't serve is refused with the configuration that it needs."""
    with pytest.raises(InvalidInputError, match="embeddings"):
        words.search(NS, query="x", mode="meaning")
    with pytest.raises(InvalidInputError, match="mode"):
        store.search(NS, query="1", mode="fuzzy")  # type: ignore[arg-type]
    vectors: Any = {**INDEX, "words": False}
    with RedisStore(server=store._server, prefix="none", index=vectors) as bare:
        for mode in ("words", "both"):
            with pytest.raises(InvalidInputError, match="words"):
                bare.search(NS, query="1", mode=mode)  # type: ignore[arg-type]


def test_copies_are_bounded(store: RedisStore) -> None:
    """The process drops the least recently used copies when they take too much memory."""
    assert store._indexing is not None
    index = store._indexing.index
    index._copies_bytes = 50_000
    for tenant in range(30):
        store.batch([PutOp(("t", f"u{tenant}"), f"k{n}", {"text": str(n)}) for n in range(50)])
        assert keys(store.search(("t", f"u{tenant}"), query="3", limit=1)) == ["k3"]
    assert index.nbytes() <= 60_000
    assert keys(store.search(("t", "u0"), query="3", limit=1)) == ["k3"]


def test_several_vectors_of_an_item(store: RedisStore) -> None:
    """An item with several texts is one hit, found by its nearest, also after it got fewer texts."""
    paths = ["parts[*]"]
    for n in range(20):
        parts = [str(1000 * n + m) for m in range(n % 5 + 1)]
        store.put(NS, f"k{n}", {"parts": parts}, index=paths)
    assert keys(store.search(NS, query="9004", limit=1)) == ["k9"]
    store.put(NS, "k9", {"parts": ["9000"]}, index=paths)
    assert keys(store.search(NS, query="9004", limit=20)).count("k9") == 1
    assert keys(store.search(NS, query="9000", limit=1)) == ["k9"]
    found = store.search(NS, query="9004", limit=20)
    assert sorted(keys(found)) == sorted(f"k{n}" for n in range(20))


def test_without_numpy_a_store_without_an_index_works(redis_server: RunningServer, prefix: str) -> None:
    """A store without an index needs neither numpy nor the stemmer; with one, the error says what to install."""
    code = f"""
import sys
sys.modules["numpy"] = None
sys.modules["snowballstemmer"] = None
from ecowas_lc import MissingExtraError, RedisStore
with RedisStore.from_url({redis_server.url!r}, prefix={prefix!r}) as store:
    store.put(("a", "b"), "k", {{"n": 1}})
    assert store.get(("a", "b"), "k") and store.search(("a",), query="x", filter={{"n": 1}})
try:
    RedisStore.from_url({redis_server.url!r}, index={{"embed": None}})
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Search needs numpy. Run: pip install" in done.stdout


def test_the_offline_embeddings(redis_server: RunningServer, prefix: str) -> None:
    """``index={}`` searches by meaning with the model of the extra ``semantic``, across languages."""
    with RedisStore.from_url(redis_server.url, prefix=prefix, index={}) as store:
        store.put(NS, "power", {"text": "The electricity tariff rises in March."})
        store.put(NS, "port", {"text": "The port exports phosphate to Europe."})
        assert keys(store.search(NS, query="prix du courant électrique", limit=1)) == ["power"]


async def test_embeddings_of_ollama(redis_server: RunningServer, prefix: str) -> None:
    """``OllamaEmbeddings`` work in sync and async code; where Ollama fails, nothing is written."""
    with serving_stub() as stub:
        closed = {"limits": httpx.Limits(max_keepalive_connections=0)}  # nothing closes its connections
        embed = OllamaEmbeddings(model="tiny", base_url=stub.url, keep_alive=60, client_kwargs=closed)
        async with RedisStore.from_url(redis_server.url, prefix=prefix, index={"embed": embed}) as store:
            store.batch([PutOp(NS, key, {"text": key}) for key in ("zzz pizza", "solar")])
            await store.aput(NS, "mills", {"text": "mills"})
            assert store.search(NS, query="jazz fizz", limit=1)[0].key == "zzz pizza"
            assert (await store.asearch(NS, query="mills", limit=1))[0].key == "mills"
            assert [len(body["input"]) for body in stub.bodies("/api/embed")] == [2, 1, 1, 1]
            assert stub.bodies("/api/embed")[0]["keep_alive"] == 60
            stub.error = (500, "out of memory")
            with pytest.raises(ResponseError, match="out of memory"):
                store.put(NS, "lost", {"text": "lost"})
            assert store.get(NS, "lost") is None


def test_the_index_is_json_free(store: RedisStore, redis_server: RunningServer) -> None:
    """An item holds its value once, as JSON that any program reads."""
    store.put(NS, "k", {"text": "1 hello"})
    with redis_server.client() as raw:
        item = raw.hgetall(store._at.item(id_of(NS, "k")))
    assert json.loads(item[b"v"]) == {"text": "1 hello"}
    assert sum(b"hello" in value for value in item.values()) == 1


def test_threads_stem_at_once() -> None:
    """A stemmer works on one word at a time: each thread has its own, and the index gets the right stems."""
    words = [
        "réglementations",
        "electrification",
        "abastecimento",
        "nationalities",
        "relacionamentos",
        "généreusement",
    ]
    right = [[stemmer.stemWord(word) for word in words] for stemmer in stemmers()]
    all_at_work = threading.Barrier(8)

    def stemmers_of_a_thread(_: int) -> int:
        all_at_work.wait(20)
        return id(stemmers())

    def stemmed(_: int) -> list[list[str]]:
        return [[[stemmer.stemWord(word) for word in words] for stemmer in stemmers()] for _ in range(100)][-1]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(stemmed, range(16))) == [right] * 16
            assert len(set(pool.map(stemmers_of_a_thread, range(8)))) == 8
    finally:
        sys.setswitchinterval(interval)


def test_older_numpy(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy 1 has no ``vecdot``; scores are the same without it."""
    store.batch([PutOp(NS, f"k{n}", {"text": str(n)}) for n in range(700)])
    found = [(item.key, item.score) for item in store.search(NS, query="5", limit=20)]
    monkeypatch.delattr(np, "vecdot", raising=False)  # the lowest numpy does not have it
    again = [(item.key, item.score) for item in store.search(NS, query="5", limit=20)]
    assert [key for key, _ in again] == [key for key, _ in found]
