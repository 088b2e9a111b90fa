"""Delta channels: the writes that rebuild them are found, and no operation on a thread removes them."""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Overwrite, interrupt

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.errors import ThreadGoneError
from tests.fixtures.proxy import running_proxy
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, id_of, key_of

LONG = "word " * 60


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, redis_server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver:
        yield saver


def chain(saver: Any, snapshots: dict[int, dict[str, Any]], steps: int, thread_id: str = "t") -> list[Any]:
    """A thread of ``steps`` checkpoints, with values at some, and a write to ``a`` and ``b`` pending on each."""
    writer = Writer(saver, thread_id)
    configs = []
    for step in range(steps):
        values = snapshots.get(step, {})
        configs.append(
            writer.put(None, {"run_id": f"run{step // 4}"}, tuple(set(writer.values) - set(values)), **values)
        )
        saver.put_writes(configs[-1], [("a", [f"a{step}"]), ("b", [f"b{step}"])], f"task{step}")
    return configs


def told(history: Any, channel: str) -> tuple[Any, list[Any]]:
    entry = history[channel]
    return entry.get("seed", "none"), [value for _, _, value in entry["writes"]]


def test_writes_since_the_nearest_value(saver: RedisSaver) -> None:
    """Writes are listed oldest first, from the nearest ancestor with a value on, including that ancestor's own.

    A checkpoint's value is what it began with: the writes pending on it come after. Those pending on the target
    itself are not history yet. Each channel ends its walk at its own value.
    """
    configs = chain(saver, {1: {"a": _DeltaSnapshot([LONG])}, 3: {"b": _DeltaSnapshot({"x": (1, LONG)})}}, 6)
    history = saver.get_delta_channel_history(config=configs[-1], channels=["a", "b", "none"])
    assert told(history, "a") == (_DeltaSnapshot([LONG]), [["a1"], ["a2"], ["a3"], ["a4"]])
    assert told(history, "b") == (_DeltaSnapshot({"x": (1, LONG)}), [["b3"], ["b4"]])
    assert told(history, "none") == ("none", [])
    assert type(history["a"]["seed"]) is _DeltaSnapshot
    assert told(saver.get_delta_channel_history(config=configs[1], channels=["a"]), "a") == ("none", [["a0"]])
    assert told(saver.get_delta_channel_history(config=at(), channels=["b"]), "b")[1] == [["b3"], ["b4"]]


@pytest.mark.parametrize("plain", [[1, LONG], {"n": 1}, 7, "x", None, [HumanMessage(LONG)]], ids=repr)
def test_a_plain_value_is_a_seed(saver: RedisSaver, plain: Any) -> None:
    """A value from before the channel was a delta channel ends the walk as a snapshot does, however small."""
    configs = chain(saver, {0: {"a": "older"}, 2: {"a": plain}}, 5)
    history = saver.get_delta_channel_history(config=configs[-1], channels=["a"])
    assert told(history, "a") == (plain, [["a2"], ["a3"]])


def test_nothing_asked_and_nothing_there(saver: RedisSaver) -> None:
    """No channels yield an empty mapping; a missing thread or checkpoint yields an empty history."""
    configs = chain(saver, {}, 3)
    assert saver.get_delta_channel_history(config=configs[-1], channels=[]) == {}
    for config in (at("other"), at(checkpoint_id="gone"), at(ns="other")):
        assert saver.get_delta_channel_history(config=config, channels=["a"]) == {"a": {"writes": []}}
    assert "seed" not in saver.get_delta_channel_history(config=configs[-1], channels=["a"])["a"]


def test_the_order_of_parallel_writes(saver: RedisSaver) -> None:
    """Within a step, writes come in the order of task path, task id and index; those without a path first."""
    writer = Writer(saver)
    step = writer.put(None, a=1)
    saver.put_writes(step, [("a", "2nd"), ("a", "3rd")], "0000", "~pull, 02")
    saver.put_writes(step, [("a", "1st")], "ffff", "~pull, 01")
    saver.put_writes(step, [("a", "input")], "ffff-input")
    head = writer.put(None, gone=("a",))
    history = saver.get_delta_channel_history(config=head, channels=["a"])
    assert told(history, "a") == (1, ["input", "1st", "2nd", "3rd"])


def test_forks_and_any_tree(saver: RedisSaver) -> None:
    """Only ancestors count: on any tree the result is that of the base class's own walk."""
    generator = random.Random(6)
    configs: list[Any] = []
    for step in range(60):
        writer = Writer(saver)
        if configs:
            writer.config = generator.choice(configs[-6:])
        values = {
            name: generator.choice([[step], _DeltaSnapshot([LONG, step])])
            for name in "ab"
            if generator.random() < 0.15
        }
        configs.append(writer.put(None, None, **values))
        for task in range(generator.randrange(3)):
            writes = [(generator.choice("abc"), [step, task, LONG]) for _ in range(generator.randrange(1, 3))]
            saver.put_writes(configs[-1], writes, f"task{generator.random()}", generator.choice(["", "~1", "~2"]))
    for config in generator.sample(configs, 20):
        ours = saver.get_delta_channel_history(config=config, channels=["a", "b", "c"])
        assert ours == BaseCheckpointSaver.get_delta_channel_history(
            saver, config=config, channels=["a", "b", "c"]
        )


def test_long_histories(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """More ancestors than fit one page are all found; up to 200 take one flush, and one for a large value."""
    configs = chain(saver, {0: {"a": _DeltaSnapshot([LONG])}, 290: {"b": _DeltaSnapshot([LONG])}}, 450)
    seed, writes = told(saver.get_delta_channel_history(config=configs[-1], channels=["a"]), "a")
    assert seed == _DeltaSnapshot([LONG])
    assert writes == [[f"a{step}"] for step in range(449)]
    with (
        running_proxy(redis_server.port) as proxy,
        RedisSaver.from_url(proxy.url, prefix=prefix, serde=saver.serde) as near,
    ):
        near.get_delta_channel_history(config=at(), channels=["b"])
        proxy.reset_counts()
        near.get_delta_channel_history(config=at(), channels=["b"])
        assert proxy.flushes == 2


async def test_async_history(redis_server: Any, prefix: str) -> None:
    """The async method returns the same as the sync one."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        configs = chain(saver, {1: {"a": _DeltaSnapshot([LONG])}}, 5)
        ours = await saver.aget_delta_channel_history(config=configs[-1], channels=["a", "b"])
        assert ours == saver.get_delta_channel_history(config=configs[-1], channels=["a", "b"])


@pytest.mark.parametrize("what", ["prune", "keep 3", "copy", "delete other runs", "copy of a pruned one"])
def test_history_survives(saver: RedisSaver, redis_server: Any, prefix: str, what: str) -> None:
    """Pruning, copying and deleting runs leave every kept checkpoint all that its delta channels need."""
    delta = {"counters_since_delta_snapshot": {"a": [1, 1], "b": [1, 1]}}
    writer = Writer(saver)
    configs = []
    for step in range(12):
        values = {}
        if step in (0, 5):
            values["a"] = _DeltaSnapshot([LONG, step])
        if step == 3:
            values["b"] = _DeltaSnapshot([HumanMessage(LONG)])
        writer.values = {}
        writer.versions.update(dict.fromkeys("ab", 1) if step == 0 else {})
        configs.append(writer.put(None, {"run_id": f"run{step // 2}", **delta}, **values))
        saver.put_writes(configs[-1], [("a", [f"a{step}"]), ("b", [f"b{step}"])], f"task{step}")
    config, head = at(checkpoint_id=id_of(configs[-1])), configs[-1]
    before = saver.get_delta_channel_history(config=config, channels=["a", "b"])
    third = saver.get_delta_channel_history(config=configs[-3], channels=["a", "b"])
    if what == "prune":
        saver.prune(["t"])
    elif what == "keep 3":
        saver.prune(["t"], keep_last=3)
        assert saver.get_delta_channel_history(config=configs[-3], channels=["a", "b"]) == third
    elif what == "delete other runs":
        saver.delete_for_runs([f"run{number}" for number in range(5)])
    else:
        if what.endswith("pruned one"):
            saver.prune(["t"])
        saver.copy_thread("t", "copy")
        config = at("copy", id_of(head))
    assert saver.get_delta_channel_history(config=config, channels=["a", "b"]) == before
    with redis_server.client() as raw:
        thread_id = config["configurable"]["thread_id"]
        stored = assert_whole(raw.hgetall(key_of(prefix, thread_id)), exact=True)
        assert len(stored.rows) == (12 if what == "copy" else 9)
    saver.delete_thread(thread_id)


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(lambda old, new: fold(old, new), snapshot_frequency=7)]  # noqa: PLW0108
    asked: int


def fold(old: list[Any], new: list[Any]) -> list[Any]:
    for each in new:
        old = add_messages(old, each)  # type: ignore[assignment]
    return old


def conversation(checkpointer: Any) -> Any:
    def answer(state: Any) -> Any:
        number = state["asked"]
        return {"messages": [AIMessage(f"{number}! {LONG}", id=f"a{number}")]}

    def tidy(state: Any) -> Any:
        number = state["asked"]
        if number % 10 == 9:
            return {"messages": [RemoveMessage(id=f"q{number - 8}")]}
        return {"messages": Overwrite(state["messages"][-30:])} if number == 47 else {}

    builder = StateGraph(Chat).add_node(answer).add_node(tidy)
    builder.add_edge(START, "answer").add_edge("answer", "tidy").add_edge("tidy", END)
    return builder.compile(checkpointer=checkpointer)


def ask(number: int) -> Any:
    return {"messages": [HumanMessage(f"{number}? {LONG}", id=f"q{number}")], "asked": number}


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
def test_no_message_is_lost(saver: RedisSaver, redis_server: Any, prefix: str, durability: Any) -> None:
    """200 messages through a delta channel are all there, with every durability, for another process too."""
    graph, memory = conversation(saver), conversation(InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    for number in range(100):
        graph.invoke(ask(number), thread, durability=durability)
        memory.invoke(ask(number), thread, durability=durability)
        if number in (30, 60, 90):
            saver.prune(["t"], keep_last=1 + number // 30)
    expected = memory.get_state(thread).values["messages"]
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde) as other:
        again = conversation(other)
        assert again.get_state(thread).values["messages"] == expected
        assert len(expected) > 100
        other.copy_thread("t", "copy")
        copied = {"configurable": {"thread_id": "copy"}}
        for number in (100, 101):
            again.invoke(ask(number), copied, durability=durability)
            memory.invoke(ask(number), thread, durability=durability)
        assert again.get_state(copied).values["messages"] == memory.get_state(thread).values["messages"]


def test_every_step_of_the_past(saver: RedisSaver) -> None:
    """Each checkpoint of a delta thread, not only the last, can be rebuilt, and so can forks of it."""
    graph, memory = conversation(saver), conversation(InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    for number in range(12):
        graph.invoke(ask(number), thread)
        memory.invoke(ask(number), thread)
    ours, theirs = list(graph.get_state_history(thread)), list(memory.get_state_history(thread))
    assert [each.values for each in ours] == [each.values for each in theirs]
    for place in (5, 17):
        forked = graph.invoke(ask(50), ours[place].config)
        assert forked == memory.invoke(ask(50), theirs[place].config)
        assert graph.get_state(thread).values == memory.get_state(thread).values
    saver.prune(["t"])
    assert graph.invoke(ask(51), thread) == memory.invoke(ask(51), thread)


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
def test_interrupted_delta_runs(saver: RedisSaver, durability: Any) -> None:
    """An interrupted run with delta channels, pruned while it waits, continues with all its messages."""

    def build(checkpointer: Any) -> Any:
        def human(state: Any) -> Any:
            return {"messages": [HumanMessage(interrupt("?"), id=f"h{len(state['messages'])}")]}

        builder = StateGraph(Chat).add_node(
            "answer", lambda s: {"messages": [AIMessage(LONG, id=f"a{s['asked']}")]}
        )
        builder.add_node(human).add_edge(START, "answer").add_edge("answer", "human")
        return builder.compile(checkpointer=checkpointer)

    graph, memory = build(saver), build(InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    for number in range(4):
        graph.invoke(ask(number), thread, durability=durability)
        memory.invoke(ask(number), thread, durability=durability)
        saver.prune(["t"])
        states = [
            each.invoke(Command(resume=f"r{number}"), thread, durability=durability) for each in (graph, memory)
        ]
        assert states[0] == states[1]
        assert len(states[0]["messages"]) == 3 * (number + 1)


def join(old: list[str], new: list[list[str]]) -> list[str]:
    return [*old, *(each for part in new for each in part)]


class Idle(TypedDict):
    n: int
    docs: Annotated[list[str], DeltaChannel(join, snapshot_frequency=1)]


class Delta(TypedDict):
    log: Annotated[list[str], DeltaChannel(join)]


class Plain(TypedDict):
    log: Annotated[list[str], operator.add]


def counting(checkpointer: Any) -> Any:
    return StateGraph(Idle).add_node("a", lambda s: {"n": s["n"] + 1}).add_edge(START, "a").compile(checkpointer)


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
async def test_an_idle_channel(redis_server: Any, prefix: str, saver: RedisSaver, durability: Any) -> None:
    """A snapshot whose version the head still names is read with the head, and is all that pruning keeps.

    However long ago it was stored, reading takes one flush.
    """
    graph, memory = counting(saver), counting(InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    for each in (graph, memory):
        each.invoke({"n": 0, "docs": [LONG]}, thread, durability=durability)
        for n in range(12):
            each.invoke({"n": n}, thread, durability=durability)
    head = saver.get_tuple(at())
    assert head is not None
    assert head.checkpoint["channel_values"]["docs"] == _DeltaSnapshot([LONG])
    with (
        running_proxy(redis_server.port) as proxy,
        RedisSaver.from_url(proxy.url, prefix=prefix, serde=saver.serde) as near,
    ):
        counting(near).invoke({"n": 11}, thread, durability="sync")
        proxy.reset_counts()
        assert counting(near).get_state(thread).values == memory.get_state(thread).values
        assert proxy.flushes == 1
        proxy.reset_counts()
        counting(near).invoke({"n": 1}, thread, durability="sync")
        assert proxy.flushes <= 6
    saver.copy_thread("t", "copy")
    saver.prune(["t", "copy"], strategy="keep_latest")
    for thread_id in ("t", "copy"):
        kept = list(saver.list(at(thread_id)))
        assert len(kept) == 1
        config: Any = {"configurable": {"thread_id": thread_id}}
        assert graph.get_state(config).values == {"n": 2, "docs": [LONG]}
        graph.invoke({"n": 5, "docs": ["more"]}, config, durability=durability)
        saver.prune([thread_id], strategy="keep_latest")
        assert graph.get_state(config).values == {"n": 6, "docs": [LONG, "more"]}
        with redis_server.client() as raw:
            assert_whole(raw.hgetall(key_of(prefix, thread_id)), exact=True)
    past = list(graph.get_state_history(thread))
    assert (await graph.aget_state(past[-1].config)).values == past[-1].values


def test_a_value_that_was_never_stored(saver: RedisSaver) -> None:
    """An idle channel whose value is in a row, or nowhere, keeps its history."""
    idle = {"counters_since_delta_snapshot": {"small": (0, 1), "odd": 7, "unknown": (0, 3)}}
    writer = Writer(saver)
    first = writer.put(None, {"run_id": "r"}, small=7)
    writer.values = {}
    for _ in range(3):
        writer.put(None, idle)
    head = saver.get_tuple(at())
    assert head is not None
    assert "small" not in head.checkpoint["channel_values"]
    assert told(saver.get_delta_channel_history(config=head.config, channels=["small"]), "small") == (7, [])
    assert first is not None


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
async def test_a_thread_that_goes_in_mid_run(saver: RedisSaver, durability: Any) -> None:
    """A run whose thread is deleted meanwhile fails by name: no delta channel silently loses its past."""

    def graph(forget: Any, state: Any) -> Any:
        builder = StateGraph(state).add_node("first", lambda s: forget() or {"log": ["first"]})
        builder.add_node("second", lambda s: {"log": ["second"]})
        return builder.add_edge(START, "first").add_edge("first", "second").compile(checkpointer=saver)

    def forget() -> None:
        saver.delete_thread("t")

    thread: Any = {"configurable": {"thread_id": "t"}}
    for state in (Plain, Delta):
        saver.delete_thread("t")
        graph(lambda: None, state).invoke({"log": ["in"]}, thread, durability=durability)
        if state is Delta:
            with pytest.raises(ThreadGoneError, match="delta channels"):
                graph(forget, state).invoke({"log": ["again"]}, thread, durability=durability)
            saver.delete_thread("t")
            graph(lambda: None, state).invoke({"log": ["in"]}, thread, durability=durability)
            with pytest.raises(ThreadGoneError, match="delta channels"):
                await graph(forget, state).ainvoke({"log": ["again"]}, thread, durability=durability)
        else:
            out = graph(forget, state).invoke({"log": ["again"]}, thread, durability=durability)
            assert graph(forget, state).get_state(thread).values == out
