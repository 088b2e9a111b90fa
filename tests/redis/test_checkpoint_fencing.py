"""Fencing: of two runs that extend one checkpoint the second fails, and intended forks stay possible."""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import operator
import pickle
import threading
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import CheckpointConflictError
from tests.fixtures.proxy import running_proxy
from tests.redis.writer import Writer, at, id_of

THREAD: Any = {"configurable": {"thread_id": "t"}}


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, redis_server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde, fencing=True) as saver:
        yield saver


def steps(checkpointer: Any, second: Any = lambda state: {"log": ["second"]}) -> Any:
    builder = StateGraph(Log).add_node("first", lambda state: {"log": ["first"]}).add_node("second", second)
    builder.add_edge(START, "first").add_edge("first", "second")
    return builder.compile(checkpointer=checkpointer)


def test_the_second_of_two_fails(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """Two processes extend the same checkpoint: the first wins; the second gets an error and stores nothing."""
    first = Writer(saver)
    common = first.put(log=["common"])
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde, fencing=True) as other:
        second = Writer(other)
        second.config, second.versions, second.values = common, dict(first.versions), dict(first.values)
        won = first.put(log=["common", "first"])
        with pytest.raises(CheckpointConflictError, match="Another run has extended"):
            second.put(log=["common", "second"])
        assert [id_of(each.config) for each in other.list(at())] == [id_of(won), id_of(common)]
        assert other.get_tuple(at()).checkpoint["channel_values"]["log"] == ["common", "first"]
        again = Writer(other)
        again.config = other.get_tuple(at()).config
        again.put(log=["common", "first", "then"])


def test_beginning_a_thread_twice(saver: RedisSaver) -> None:
    """Of two runs that both found no thread, the second to write its first checkpoint gets an error."""
    Writer(saver).put(a=1)
    with pytest.raises(CheckpointConflictError):
        Writer(saver).put(a=2)
    Writer(saver, ns="sub").put(a=3)
    Writer(saver, "other").put(a=4)


def test_the_same_checkpoint_again(saver: RedisSaver) -> None:
    """A checkpoint that is put again, as after a lost reply, does not conflict with itself."""
    writer = Writer(saver)
    writer.put("0001", a=1)
    writer.put("0002", a=2)
    writer.config = at(checkpoint_id="0001")
    writer.put("0002", a=2)


def test_a_lost_answer_is_no_conflict(redis_server: Any, prefix: str) -> None:
    """If the reply to a checkpoint is lost, the client sends it again, and it does not fail for existing."""
    with (
        running_proxy(redis_server.port) as proxy,
        RedisSaver.from_url(proxy.url, prefix=prefix, fencing=True) as saver,
    ):
        writer = Writer(saver)
        for number in range(3):
            proxy.cut_next("reply", 0)
            writer.put(a=number)
        assert proxy.cuts == 3
        assert len(list(saver.list(at()))) == 3


def test_ordinary_runs_never_conflict(saver: RedisSaver) -> None:
    """Turn after turn, with any durability, interrupted and resumed: a single writer is never refused."""

    def ask(state: Any) -> Any:
        return {"log": [interrupt("?")]}

    graph = steps(saver, ask)
    for durability in ("sync", "async", "exit") * 2:
        graph.invoke({"log": ["in"]}, THREAD, durability=durability)
        graph.invoke(Command(resume="yes"), THREAD, durability=durability)
    assert graph.get_state(THREAD).values["log"] == ["in", "first", "yes"] * 6
    graph.update_state(THREAD, {"log": ["updated"]}, as_node="second")
    assert graph.get_state(THREAD).values["log"][-1] == "updated"


def test_racing_graphs(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """A run that another one overtakes while it works fails instead of forking the thread."""
    overtaken = threading.Event()

    def slow(state: Any) -> Any:
        if not overtaken.is_set():
            overtaken.set()
            with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde, fencing=True) as other:
                steps(other).invoke({"log": ["fast"]}, THREAD)
        return {"log": ["slow"]}

    with pytest.raises(CheckpointConflictError):
        steps(saver, slow).invoke({"log": ["in"]}, THREAD, durability="sync")
    final = steps(saver).get_state(THREAD)
    assert final.values["log"] == ["in", "first", "fast", "first", "second"]


def test_looking_at_the_past_opens_no_door(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """Reading an old checkpoint does not let an overtaken run extend it."""
    first, common = Writer(saver), None
    common = first.put(log=["common"])
    second = Writer(saver)
    second.config = saver.get_tuple(at()).config
    first.put(log=["common", "first"])
    assert saver.get_tuple(common) is not None
    assert len(list(saver.list(at()))) == 2
    with pytest.raises(CheckpointConflictError):
        second.put(log=["common", "second"])


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_forks_that_are_meant(saver: RedisSaver, durability: Any) -> None:
    """Time travel, input to an old checkpoint and an update of one fork the thread, in one object or another."""
    graph = steps(saver)
    for turn in range(3):
        graph.invoke({"log": [f"turn {turn}"]}, THREAD, durability=durability)
    past = list(graph.get_state_history(THREAD))
    old = past[len(past) // 2]
    assert graph.invoke(None, old.config, durability=durability) is not None
    assert graph.invoke({"log": ["branch"]}, old.config, durability=durability)["log"][-2:] == ["first", "second"]
    fork = graph.update_state(old.config, {"log": ["edited"]}, as_node="first")
    assert graph.get_state(fork).values["log"] == [*old.values["log"], "edited"]
    assert graph.invoke(None, fork, durability=durability)["log"][-2:] == ["edited", "second"]
    config = {"configurable": {"thread_id": "t", "checkpoint_id": id_of(old.config)}}  # as a client sends it
    assert graph.invoke({"log": ["again"]}, config, durability=durability)
    copied = graph.update_state(old.config, None, as_node="__copy__")
    assert graph.get_state(copied).values == old.values
    with pytest.raises(CheckpointConflictError):
        saver.put(at(checkpoint_id=str(id_of(old.config))), Writer(saver).draft()[0], {}, {})


@pytest.mark.parametrize("own", [None, True], ids=["inherited", "own"])
def test_time_travel_through_subgraphs(saver: RedisSaver, own: bool | None) -> None:
    """Replaying a parent from a checkpoint in the past lets its subgraphs fork too."""
    inner = StateGraph(Log).add_node("one", lambda s: {"log": ["one"]}).add_node("two", lambda s: {"log": ["two"]})
    inner.add_edge(START, "one").add_edge("one", "two")
    outer = StateGraph(Log).add_node("before", lambda s: {"log": ["before"]})
    outer.add_node("sub", inner.compile(checkpointer=own))
    outer.add_edge(START, "before").add_edge("before", "sub")
    graph = outer.compile(checkpointer=saver)
    for turn in range(2):
        graph.invoke({"log": [f"turn {turn}"]}, THREAD)
    for old in list(graph.get_state_history(THREAD)):
        if old.next:
            assert graph.invoke(None, old.config)["log"][-1] == "two"


async def test_async_racers(redis_server: Any, prefix: str) -> None:
    """Of many coroutines that extend one checkpoint at once, exactly one succeeds."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix, fencing=True) as saver:
        writers = [Writer(saver) for _ in range(8)]
        outcomes = await asyncio.gather(*(each.aput(a=1) for each in writers), return_exceptions=True)
        assert sum(isinstance(each, CheckpointConflictError) for each in outcomes) == 7
        assert len([each async for each in saver.alist(at())]) == 1


def race(url: str, prefix: str, start: Any, results: Any) -> None:
    with RedisSaver.from_url(url, prefix=prefix, fencing=True) as saver:
        writer = Writer(saver)
        writer.config = saver.get_tuple(at()).config
        start.wait(30)
        try:
            writer.put(a=2)
        except CheckpointConflictError:
            results.put("conflict")
        else:
            results.put("stored")


def test_processes_race(redis_server: Any, prefix: str) -> None:
    """Processes that share nothing but the server: exactly one extends the checkpoint."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        Writer(saver).put(a=1)
        context = multiprocessing.get_context("fork")
        start, results = context.Barrier(3), context.Queue()
        racers = [context.Process(target=race, args=(redis_server.url, prefix, start, results)) for _ in range(3)]
        for racer in racers:
            racer.start()
        outcomes = sorted(results.get(timeout=60) for _ in racers)
        for racer in racers:
            racer.join(30)
        assert outcomes == ["conflict", "conflict", "stored"]
        assert len(list(saver.list(at()))) == 2


def test_without_fencing_the_last_wins(redis_server: Any, prefix: str) -> None:
    """Without fencing, runs fork as with every saver, and no config has a mark of ours."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        writer = Writer(saver)
        common = writer.put(a=1)
        for number in range(2):
            writer.config = common
            writer.put(a=number)
        assert len(list(saver.list(at()))) == 3
        assert set(saver.get_tuple(common).config["configurable"]) == {
            "thread_id",
            "checkpoint_ns",
            "checkpoint_id",
        }


async def test_configs_are_langgraphs_own(saver: RedisSaver) -> None:
    """A snapshot's config equals the next one's parent_config, the result of put, and what streams show."""
    graph = steps(saver)
    shown = [
        event["payload"]["config"]
        for turn in range(2)
        for event in graph.stream({"log": [f"turn {turn}"]}, THREAD, stream_mode="debug")
        if event["type"] == "checkpoint"
    ]
    for history in (
        list(graph.get_state_history(THREAD)),
        [each async for each in graph.aget_state_history(THREAD)],
    ):
        for newer, older in itertools.pairwise(history):
            assert older.config == newer.parent_config
            assert graph.get_state(older.config).config == newer.parent_config
        assert {id_of(each.config) for each in history} == {id_of(each) for each in shown}
    writer = Writer(saver, "other")
    first = writer.put(a=1)
    writer.put(a=2)
    read = saver.get_tuple(first)
    assert read is not None
    assert read.config == first
    assert set(read.config["configurable"]) == {"thread_id", "checkpoint_ns", "checkpoint_id"}
    assert pickle.loads(pickle.dumps(read.config)) == first
    assert type(pickle.loads(pickle.dumps(read.config))["configurable"]["checkpoint_id"]) is str
    assert json.loads(json.dumps(read.config)) == first
    # Its ids are text as well, stored in state or compared with objects that define comparison.
    checkpoint_id = read.config["configurable"]["checkpoint_id"]
    writer.put(a={"seen": checkpoint_id})
    kept = saver.get_tuple(at("other"))
    assert kept is not None
    assert type(kept.checkpoint["channel_values"]["a"]["seen"]) is str

    class AnyText(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, str)

        __hash__ = str.__hash__

    assert checkpoint_id == AnyText()
    assert checkpoint_id != "another"
    assert {checkpoint_id: 1} == {id_of(first): 1}
