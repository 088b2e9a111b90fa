"""Items of stores as lines of a backup, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.store.base import PutOp

from ecowas_lc import CorruptDataError, EncryptedRedisSerializer, FormatVersionError, RedisSaver, RedisStore
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.testing.stores.running import DIMENSIONS, embed
from tests.fixtures.servers import RunningCluster, RunningServer

INDEX: Any = {"dims": DIMENSIONS, "embed": embed, "fields": ["text"]}
NS = ("memories", "ama")


def fill(store: RedisStore) -> None:
    store.batch([PutOp(("docs", f"d{n % 7}"), f"k{n}", {"text": f"gold {n}"}) for n in range(450)])
    store.put(NS, "odd", {"text": "solar \ud800", "n": [1.5, None, True], "": {}})
    store.put(NS, "short", {"text": "rice"}, ttl=10)


def test_a_backup_restores_everything(server: RunningServer, prefix: str) -> None:
    """An import under another prefix restores values, times, expiry and the index."""
    with RedisStore.from_url(server.url, prefix=prefix, index=INDEX) as store:
        fill(store)
        lines = list(store.export_jsonl())
        before = store.get(NS, "odd")
    assert len(lines) == 453

    def refuse(texts: Any) -> Any:
        raise AssertionError("nothing is embedded again")

    with RedisStore.from_url(server.url, prefix=f"{prefix}2", index={**INDEX, "embed": refuse}) as other:
        report = other.import_jsonl(lines)
        assert (report.written, report.unchanged, report.kept) == (452, 0, ())
        again = other.import_jsonl(lines)
        assert (again.written, again.unchanged, again.kept) == (0, 452, ())
        item: Any = other.get(NS, "odd")
        assert item.value == before.value  # type: ignore[union-attr]
        assert item.created_at == before.created_at  # type: ignore[union-attr]
        with server.client() as raw:
            assert 0 < raw.pttl(other._at.item(b"memories:ama::short")) <= 600_000
    with RedisStore.from_url(server.url, prefix=f"{prefix}2", index=INDEX) as found:
        assert [item.key for item in found.search(NS, query="rice", limit=1)] == ["short"]
        assert [item.key for item in found.search(("docs",), query="449", mode="words")] == ["k449"]
        assert found.list_namespaces() == [*(("docs", f"d{n}") for n in range(7)), NS]


def test_what_differs_is_kept(redis_server: RunningServer, prefix: str) -> None:
    """An item with another value is left and named, unless it is to be overwritten."""
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store:
        store.put(NS, "k", {"n": 1})
        lines = list(store.export_jsonl(("memories",)))
        store.put(NS, "k", {"n": 2})
        report = store.import_jsonl(lines)
        assert report.kept == ("item store: memories/ama/k",)
        assert store.get(NS, "k").value == {"n": 2}  # type: ignore[union-attr]
        assert store.import_jsonl(lines, overwrite=True).written == 1
        assert store.get(NS, "k").value == {"n": 1}  # type: ignore[union-attr]


async def test_encrypted_items_and_async(cluster: RunningCluster, prefix: str) -> None:
    """Encrypted items are exported and restored without their key, and open with it afterwards."""
    encryption = EncryptedRedisSerializer(b"k" * 32)
    async with RedisStore.from_url(cluster.url, prefix=prefix, index=INDEX, encryption=encryption) as store:
        await store.aput(NS, "k", {"text": "gold of Siguiri"})
        await store.aput(NS, "n", {"text": "gold of Siguiri"}, index=False)
        async with RedisStore.from_url(cluster.url, prefix=prefix) as keyless:
            lines = [line async for line in keyless.aexport_jsonl()]
            assert not any("Siguiri" in line for line in lines)
            for key in ("k", "n"):
                await store.aput(NS, key, {"text": "gold of Kédougou"}, index=None if key == "k" else False)
            kept = ("item store: memories/ama/k", "item store: memories/ama/n")
            assert (await keyless.aimport_jsonl(lines)).kept == kept
            await keyless.aclear(())

            async def given() -> AsyncIterator[str]:
                for line in lines:
                    yield line

            assert (await keyless.aimport_jsonl(given())).written == 2
        assert [item.key for item in await store.asearch(NS, query="gold")] == ["k"]


def test_others_pass_items_over(redis_server: RunningServer, prefix: str) -> None:
    """The saver and the memory service pass over items of a joined backup, as the store passes over theirs."""
    with (
        RedisStore.from_url(redis_server.url, prefix=prefix) as store,
        RedisMemoryService(url=redis_server.url, prefix=prefix) as memory,
        RedisSaver.from_url(redis_server.url, prefix=prefix) as saver,
    ):
        store.put(NS, "k", {"n": 1})
        memory.save_agent_state("energy", {"n": 1})
        lines = [*store.export_jsonl(), *memory.export_jsonl(), *saver.export_jsonl()]
        assert store.import_jsonl(lines).passed_over == 1
        assert memory.import_jsonl(lines).passed_over == 1
        assert saver.import_jsonl(lines).passed_over == 2


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": []},
        {"namespace": ["a", ""]},
        {"namespace": "ab"},
        {"key": 3},
        {"created": "today"},
        {"created": 10**18},
        {"value": [1]},
        {"value": {"x": float("nan")}},
        {"vectors": "…"},
        {"ttl_seconds": -1},
        {"ttl_milliseconds": True},
        {"collection": ""},
        {"collection": 3},
    ],
    ids=str,
)
def test_bad_lines_are_named(redis_server: RunningServer, prefix: str, change: dict[str, Any]) -> None:
    """A line without an item is refused by its number, and nothing of it is stored."""
    with RedisStore.from_url(redis_server.url, prefix=prefix) as store:
        store.put(NS, "k", {"n": 1})
        head, line = store.export_jsonl()
        store.clear(())
        with pytest.raises(CorruptDataError, match="Line 2"):
            store.import_jsonl([head, json.dumps({**json.loads(line), **change})])
        assert store.search(()) == []
        with pytest.raises(FormatVersionError):
            store.import_jsonl(['{"format": "ecowas-lc", "version": 99}'])
