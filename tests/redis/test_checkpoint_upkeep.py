"""Pruning, copying and deleting remove exactly what was requested, and leave everything else whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.checkpoint.maintenance import copy_thread_op
from ecowas_lc.errors import InvalidInputError, RedisUnavailableError
from tests.fixtures.proxy import running_proxy
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, id_of, key_of

LONG = "word " * 60


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(server.url, prefix=prefix, serde=serde) as saver:
        yield saver


@pytest.fixture
def raw(server: Any) -> Iterator[Any]:
    with server.client() as client:
        yield client


def grow(saver: RedisSaver, thread_id: str = "t", ns: str = "", steps: int = 6) -> list[Any]:
    """A namespace with lists, shared texts, values of their own and pending writes; two steps are one run."""
    writer = Writer(saver, thread_id, ns)
    messages: list[Any] = []
    configs = []
    for step in range(steps):
        messages = [*messages[-4:], HumanMessage(f"{ns} {step} {LONG}", id=f"{step}")]
        values = {"m": messages, "text": f"{step // 2} {LONG}", "d": {"x": LONG}, "n": step}
        configs.append(writer.put(f"{step:04}{ns}", {"run_id": f"run{step // 2}"}, **values))
        saver.put_writes(configs[-1], [("m", [f"{step} {LONG}"]), ("n", step)], f"task{step}")
    return configs


def everything(saver: RedisSaver, thread_id: str = "t") -> list[Any]:
    return [
        (id_of(each.config), each.checkpoint, each.metadata, each.pending_writes, each.parent_config is None)
        for each in saver.list(at(thread_id, ns=None))
    ]


@pytest.mark.parametrize("keep", [1, 2, 5, 6, 100])
def test_keep_last(saver: RedisSaver, raw: Any, prefix: str, keep: int) -> None:
    """The newest checkpoints of each namespace are unchanged; all else is removed, down to the last element."""
    for ns in ("", "a", "b:c"):
        grow(saver, ns=ns)
    before = everything(saver)
    saver.prune(["t"], keep_last=keep)
    kept = everything(saver)
    expected = [each for each in before if int(each[0][:4]) >= 6 - keep]
    assert [each[:4] for each in kept] == [each[:4] for each in expected]
    stored = assert_whole(raw.hgetall(key_of(prefix)), exact=True)
    assert len(stored.rows) == 3 * min(keep, 6)
    saver.prune(["t"], keep_last=keep)
    assert everything(saver) == kept


def test_pruning_gives_memory_back(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A long thread pruned to its last checkpoint takes about as much as a thread of that checkpoint."""
    grow(saver, steps=150)
    before = raw.memory_usage(key_of(prefix), samples=0)
    saver.prune(["t"])
    after = raw.memory_usage(key_of(prefix), samples=0)
    saver.copy_thread("t", "copy")
    fresh = raw.memory_usage(key_of(prefix, "copy"), samples=0)
    assert after < before / 8
    assert after < 3 * fresh + 10_000


def test_namespaces_that_vanish(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Deleting all checkpoints of a run also removes its namespaces, list logs and run marks."""
    grow(saver, steps=2)
    for number in range(5):
        writer = Writer(saver, ns=f"sub:{number}")
        for step in range(3):
            writer.put(None, {"run_id": f"sub{number}"}, m=[HumanMessage(f"{number} {step} {LONG}")])
    saver.delete_for_runs(["sub0", "sub2", "sub4"])
    stored = assert_whole(raw.hgetall(key_of(prefix)), exact=True)
    assert sorted(stored.namespaces) == [b"", b"sub:1", b"sub:3"]
    assert stored.runs == {b"run0", b"sub1", b"sub3"}
    Writer(saver, ns="sub:2").put(m=[HumanMessage(LONG)])
    assert saver.get_tuple(at(ns="sub:2")).checkpoint["channel_values"]["m"] == [HumanMessage(LONG)]  # type: ignore[union-attr]
    assert_whole(raw.hgetall(key_of(prefix)), exact=True)
    saver.delete_for_runs(["run0", "sub1", "sub3"])
    assert [id_of(each.config) for each in saver.list(at(ns=None))] == [
        id_of(each.config) for each in saver.list(at(ns="sub:2"))
    ]


def test_deleting_the_latest_run(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """With its last run deleted, a thread has its state from before it, and continues from there."""
    configs = grow(saver)
    before = everything(saver)
    saver.delete_for_runs(["run2"])
    assert everything(saver) == before[2:]
    assert id_of(saver.get_tuple(at()).config) == "0003"  # type: ignore[union-attr]
    writer = Writer(saver)
    writer.config = configs[3]
    writer.put("0009", m=[HumanMessage("again")], n=9)
    assert [each[0] for each in everything(saver)] == ["0009", "0003", "0002", "0001", "0000"]
    assert_whole(raw.hgetall(key_of(prefix)), exact=True)
    saver.delete_for_runs(["run0"])
    assert [each[0] for each in everything(saver)] == ["0009", "0003", "0002"]


def test_deleting_all_runs_deletes_the_thread(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A thread without checkpoints is deleted: its key, its index entry, and its runs' index entries."""
    grow(saver)
    grow(saver, "other")
    saver.delete_for_runs(["run0", "run1", "run2"])
    assert raw.keys(f"{prefix}:*") == []
    saver.delete_for_runs([])
    saver.delete_for_runs(["run0"])


@pytest.mark.parametrize("strategy", ["keep_latest", "delete"])
def test_strategies(saver: RedisSaver, strategy: str) -> None:
    """Both strategies of the contract, over several threads and over missing ones."""
    grow(saver)
    grow(saver, "other")
    grow(saver, "third")
    saver.prune(["t", "gone", "other"], strategy=strategy)
    left = 1 if strategy == "keep_latest" else 0
    assert [len(everything(saver, thread_id)) for thread_id in ("t", "other", "third")] == [left, left, 6]
    saver.prune([])


@pytest.mark.parametrize(
    "arguments",
    [
        {"strategy": "keep_all"},
        {"keep_last": 0},
        {"keep_last": -1},
        {"keep_last": True},
        {"keep_last": 1.5},
        {"strategy": "delete", "keep_last": 2},
    ],
    ids=str,
)
def test_what_prune_does_not_know(saver: RedisSaver, arguments: Any) -> None:
    """Meaningless arguments are refused before anything is changed."""
    with pytest.raises(InvalidInputError):
        saver.prune(["t"], **arguments)


def test_deleting_any_runs_of_any_tree(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Whatever runs are deleted from a tree of forks, the rest reads as it did, and nothing is left over."""
    generator = random.Random(8)
    configs: list[Any] = []
    for step in range(40):
        writer = Writer(saver, ns=generator.choice(["", "", "sub"]))
        same = [
            each
            for each in configs
            if each["configurable"]["checkpoint_ns"] == writer.config["configurable"]["checkpoint_ns"]
        ]
        if same:
            writer.config = generator.choice(same)
        items = [HumanMessage(f"{generator.randrange(9)} {LONG}") for _ in range(generator.randrange(1, 8))]
        configs.append(
            writer.put(f"{step:04}", {"run_id": f"run{generator.randrange(6)}"}, m=items, t=(step, LONG))
        )
        saver.put_writes(configs[-1], [("m", items)], f"task{step}")
    for run_id in ("run1", "run4", "run0", "run5"):
        expected = [each for each in everything(saver) if each[2]["run_id"] != run_id]
        saver.delete_for_runs([run_id])
        assert [each[:4] for each in everything(saver)] == [each[:4] for each in expected]
        assert_whole(raw.hgetall(key_of(prefix)), exact=True)


def test_copies_are_whole_and_apart(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A copy has every checkpoint, value, write and parent; changes to one do not affect the other."""
    for ns in ("", "sub"):
        grow(saver, ns=ns)
    saver.copy_thread("t", "copy")
    assert everything(saver, "copy") == everything(saver)
    for ours, theirs in zip(saver.list(at(ns=None)), saver.list(at("copy", ns=None)), strict=True):
        if ours.parent_config:
            assert theirs.parent_config is not None
            assert id_of(ours.parent_config) == id_of(theirs.parent_config)
            assert theirs.parent_config["configurable"]["thread_id"] == "copy"
    assert_whole(raw.hgetall(key_of(prefix, "copy")))
    before = everything(saver)
    saver.prune(["copy"])
    writer = Writer(saver, "copy")
    writer.put("0099", m=[HumanMessage("only in the copy")])
    assert everything(saver) == before
    saver.delete_thread("t")
    assert len(everything(saver, "copy")) == 3
    assert {each.config["configurable"]["thread_id"] for each in saver.list(None)} == {"copy"}


def test_copies_onto_something(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Copying onto an existing thread, or onto itself, is refused; copying a missing thread copies nothing."""
    grow(saver)
    Writer(saver, "other").put(a=1)
    with pytest.raises(InvalidInputError, match="already exists and was not changed"):
        saver.copy_thread("t", "other")
    with pytest.raises(InvalidInputError, match="onto itself"):
        saver.copy_thread("t", "t")
    assert saver.get_tuple(at("other")).checkpoint["channel_values"] == {"a": 1}  # type: ignore[union-attr]
    saver.copy_thread("gone", "new")
    assert saver.get_tuple(at("new")) is None
    assert raw.keys(f"{prefix}:checkpoint:*:copy:*") == []


def test_a_target_that_appears_during_a_copy(saver: RedisSaver) -> None:
    """A thread that another process starts during the copy under the copy's id is not replaced."""
    grow(saver)

    def meanwhile() -> Any:
        copying = copy_thread_op(saver._at, "t", "copy")
        replies = yield next(copying)
        Writer(saver, "copy").put(a=1)
        while True:
            replies = yield copying.send(replies)

    with pytest.raises(InvalidInputError, match="already exists and was not changed"):
        saver._server.run(meanwhile())
    assert saver.get_tuple(at("copy")).checkpoint["channel_values"] == {"a": 1}  # type: ignore[union-attr]


def test_copies_that_are_cut_off(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """An interrupted copy leaves no partial thread, and its data expires."""
    grow(saver, steps=3)
    steps = 0
    copying = copy_thread_op(saver._at, "t", "copy")
    batch = next(copying)
    while True:
        steps += 1
        replies = saver._server.run(once(batch))
        assert everything(saver, "copy") == [] or steps > 2
        assert all(raw.pttl(key) > 0 for key in raw.keys(f"{prefix}:checkpoint:*:copy:*"))
        try:
            batch = copying.send(replies)
        except StopIteration:
            break
        if steps == 1:
            interrupted = copy_thread_op(saver._at, "t", "never")
            first = next(interrupted)
            second = interrupted.send(saver._server.run(once(first)))
            saver._server.run(once(second))
            interrupted.close()
    assert everything(saver, "copy") == everything(saver)
    assert saver.get_tuple(at("never")) is None
    assert all(raw.pttl(key) > 0 for key in raw.keys(f"{prefix}:checkpoint:*:copy:*"))


def once(batch: Any) -> Any:
    """A program of one batch."""
    return (yield batch)


def test_a_server_that_goes_away_half_way(server: Any, prefix: str, raw: Any) -> None:
    """If the connection breaks for good, an error of ours is raised; the thread is unchanged, or the work done."""
    with running_proxy(server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        grow(saver)
        before = everything(saver)
        proxy.refuse()
        for call in (
            lambda: saver.prune(["t"]),
            lambda: saver.copy_thread("t", "copy"),
            lambda: list(saver.list(None)),
        ):
            with pytest.raises(RedisUnavailableError):
                call()
        proxy.accept()
        assert everything(saver) == before
        proxy.cut_next("reply", 0)
        saver.prune(["t"])
        assert len(everything(saver)) == 1
        assert_whole(raw.hgetall(key_of(prefix)), exact=True)


def test_writing_while_others_prune(server: Any, prefix: str, raw: Any) -> None:
    """A thread that others prune repeatedly while it is written loses nothing of its latest state."""
    with (
        RedisSaver.from_url(server.url, prefix=prefix) as saver,
        RedisSaver.from_url(server.url, prefix=prefix) as tidy,
    ):
        writer = Writer(saver)
        messages: list[Any] = []
        for step in range(30):
            messages = [*messages, HumanMessage(f"{step} {LONG}")]
            last = writer.put(m=messages, d={"t": LONG} if step == 0 else writer.values["d"])
            saver.put_writes(last, [("m", [f"{step} {LONG}"])], "task")
            if step % 3 == 0:
                tidy.prune(["t"], keep_last=1 + step % 2)
            found = tidy.get_tuple(at())
            assert found is not None
            assert found.checkpoint["channel_values"]["m"] == messages
            assert found.pending_writes == [("task", "m", [f"{step} {LONG}"])]
            assert_whole(raw.hgetall(key_of(prefix)))
