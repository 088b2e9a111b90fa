"""``RedisSaver(keep_last=n)``: each checkpoint removes those that are no longer needed, and no others."""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from ecowas_lc import InvalidInputError
from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.storage import server as server_module
from tests.fixtures.servers import RunningServer
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, key_of


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    approved: bool


def join(old: list[Any], new: list[Any]) -> list[Any]:
    return [*old, *(each for part in new for each in part)]


class Deltas(TypedDict):
    often: Annotated[list[str], DeltaChannel(join, snapshot_frequency=3)]
    seldom: Annotated[list[str], DeltaChannel(join, snapshot_frequency=7)]
    messages: Annotated[list[AnyMessage], add_messages]


CONFIG: Any = {"configurable": {"thread_id": "t"}}


def waiting_graph(saver: Any) -> Any:
    """Three steps and a question in each turn."""

    def approve(state: State) -> Any:
        return {"approved": bool(interrupt("?")), "log": ["approved"]}

    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"messages": [AIMessage("x" * 300)], "log": ["answered"]})
    builder.add_node(approve).add_edge(START, "answer").add_edge("answer", "approve")
    return builder.compile(checkpointer=saver)


def delta_graph(saver: Any) -> Any:
    def step(state: Deltas) -> Any:
        number = len(state["often"])
        changes: dict[str, Any] = {"often": [f"{number}"], "messages": [AIMessage(f"{number}")]}
        return changes if number % 2 else changes | {"seldom": [f"{number}"]}

    return StateGraph(Deltas).add_node(step).add_edge(START, "step").compile(checkpointer=saver)


@pytest.fixture(params=["plain", "encrypted"])
def serde(request: pytest.FixtureRequest) -> Any:
    return EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None


@pytest.fixture
def raw(redis_server: Any) -> Iterator[Any]:
    with redis_server.client() as raw:
        yield raw


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_stay(server: RunningServer, prefix: str, serde: Any, keep: int) -> None:
    """After each step exactly the newest remain, whole; a waiting turn resumes with its full state."""
    with (
        RedisSaver.from_url(server.url, prefix=prefix, serde=serde, keep_last=keep) as saver,
        server.client() as raw,
    ):
        graph, whole = waiting_graph(saver), waiting_graph(InMemorySaver())
        for turn in range(8):
            for each in (graph, whole):
                each.invoke({"messages": [HumanMessage(f"{turn}", id=f"{turn}")]}, CONFIG)
            assert len(list(saver.list(CONFIG))) == min(keep, 4 * turn + 3)
            assert [task.interrupts[0].value for task in graph.get_state(CONFIG).tasks] == ["?"]
            assert_whole(raw.hgetall(key_of(prefix)))
            for each in (graph, whole):
                each.invoke(Command(resume="yes"), CONFIG)
        ours, theirs = graph.get_state(CONFIG).values, whole.get_state(CONFIG).values
        assert [each.text for each in ours["messages"]] == [each.text for each in theirs["messages"]]
        assert ours["log"] == theirs["log"]
        assert len(list(saver.list(CONFIG))) == keep
        fields = raw.hgetall(key_of(prefix))
        assert_whole(fields)
        assert sum(name.startswith(b"k") for name in fields) == keep


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_delta_channels(redis_server: Any, prefix: str, serde: Any, raw: Any, keep: int) -> None:
    """At each listed checkpoint, delta channels have the same values as when everything is kept.

    Older checkpoints kept for them are removed as soon as a newer value replaces them.
    """
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde, keep_last=keep) as saver:
        graph, whole = delta_graph(saver), delta_graph(InMemorySaver())
        most = 0
        for turn in range(15):
            for each in (graph, whole):
                each.invoke({"messages": [HumanMessage(f"{turn}")]}, CONFIG)
            ours = [state.values for state in graph.get_state_history(CONFIG)][:keep]
            theirs = [state.values for state in whole.get_state_history(CONFIG)][:keep]
            for here, there in zip(ours, theirs, strict=True):
                assert (here["often"], here["seldom"]) == (there["often"], there["seldom"])
            most = max(most, len(list(saver.list(CONFIG))))
            assert_whole(raw.hgetall(key_of(prefix)))
        assert most < 45
        before = sorted(found.checkpoint["id"] for found in saver.list(CONFIG))
        saver.prune(["t"], keep_last=keep)
        after = sorted(found.checkpoint["id"] for found in saver.list(CONFIG))
        assert set(after) <= set(before)
        assert len(before) - len(after) <= 2  # it keeps what it can't distinguish without reading values


def test_after_a_saver_that_keeps_all(redis_server: Any, prefix: str, raw: Any) -> None:
    """A thread with delta channels that another saver began is cut short only once nothing needs its beginning."""
    with (
        RedisSaver.from_url(redis_server.url, prefix=prefix) as every,
        RedisSaver.from_url(redis_server.url, prefix=prefix, keep_last=1) as saver,
    ):
        said: list[str] = []
        for turn in range(30):
            graph = delta_graph(every if turn < 4 or turn == 6 else saver)
            said = graph.invoke({"messages": [HumanMessage(f"{turn}")]}, CONFIG)["often"]
            assert said == [f"{number}" for number in range(turn + 1)]
            assert_whole(raw.hgetall(key_of(prefix)))
        left = len(list(saver.list(CONFIG)))
        saver.prune(["t"], keep_last=1)
        assert left <= len(list(saver.list(CONFIG))) + 2


def test_one_flush_and_little_memory(redis_server: Any, prefix: str, raw: Any, monkeypatch: Any) -> None:
    """A checkpoint still takes one flush, and a thread's size follows what it keeps, not its past."""
    flushes: list[Any] = []
    send = server_module._send

    def counted(client: Any, batch: Any, *others: Any) -> Any:
        if prefix in str(batch):  # background threads of other tests' agents may still ping their servers
            flushes.append(batch)
        return send(client, batch, *others)

    with RedisSaver.from_url(redis_server.url, prefix=prefix, keep_last=2) as saver:
        writer = Writer(saver)
        writer.put()
        monkeypatch.setattr(server_module, "_send", counted)
        sizes = []
        for number in range(400):
            writer.put(None, {"run_id": f"r{number}"}, messages=[HumanMessage(f"{number} {'x' * 500}")], n=number)
            sizes.append(raw.hlen(key_of(prefix)))
        assert len(flushes) == 400, Counter(str(batch)[:120] for batch in flushes)
        assert max(sizes) <= 160
        assert {name for name in raw.hkeys(key_of(prefix)) if name[:1] == b"r"} == {b"rr398", b"rr399"}
        saver.prune(["t"])
        assert_whole(raw.hgetall(key_of(prefix)), exact=True)


def test_a_cluster(cluster: Any, prefix: str) -> None:
    """On a cluster as well, each checkpoint removes the one that is no longer needed."""
    with RedisSaver.from_url(cluster.url, prefix=prefix, keep_last=3) as saver:
        writer = Writer(saver)
        for number in range(10):
            writer.put(n=number, text=["x" * 200])
        assert [found.checkpoint["channel_values"]["n"] for found in saver.list(at())] == [9, 8, 7]


def test_forks_and_namespaces(redis_server: Any, prefix: str, raw: Any) -> None:
    """Each namespace keeps its newest; a checkpoint older than the newest removes nothing."""
    generator = random.Random(4)
    with RedisSaver.from_url(redis_server.url, prefix=prefix, keep_last=3) as saver:
        for _ in range(60):
            writer = Writer(saver, ns=generator.choice(["", "a", "b|c"]))
            id_ = f"{generator.randrange(10**6):036}"
            writer.put(id_, n=1, text=[generator.choice("xyz") * 300])
            saver.put_writes(writer.config, [("n", 2)], "task")
            assert_whole(raw.hgetall(key_of(prefix)))
        for ns in ("", "a", "b|c"):
            found = [each.checkpoint["id"] for each in saver.list(at(ns=ns))]
            assert found[:3] == sorted(found, reverse=True)[:3]
            assert all(each.pending_writes for each in saver.list(at(ns=ns)))


@pytest.mark.parametrize("keep", [0, -1, True, "2", 1.5])
def test_wrong_numbers(redis_server: Any, keep: Any) -> None:
    """An invalid number of checkpoints is refused when the saver is created."""
    with pytest.raises(InvalidInputError, match="keep_last"):
        RedisSaver.from_url(redis_server.url, keep_last=keep)
