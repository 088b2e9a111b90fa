"""langgraph's graphs on the saver: every feature yields the same history as in memory."""

from __future__ import annotations

import asyncio
import enum
import operator
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command, Interrupt, Send, interrupt

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from tests.redis.stored import assert_whole
from tests.redis.writer import key_of

LONG = "word " * 60
# LangGraph stores tasks' results in the background, so they may have later changes in place: since Python 3.13,
# InMemorySaver differs from itself there.
RACES_IN_MEMORY = sys.version_info >= (3, 13)


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, redis_server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver:
        yield saver


def thread(name: str = "t", **more: Any) -> Any:
    return {"configurable": {"thread_id": name, **more}}


def history(graph: Any, name: str = "t", *, results: bool = True) -> list[Any]:
    """A thread's history without random parts.

    With ``RACES_IN_MEMORY``, leave out the tasks' ``results`` if nodes change messages in place.
    """
    return [
        (
            each.values,
            each.next,
            {key: value for key, value in each.metadata.items() if key != "parents"},
            [
                (one.name, one.error, tuple(i.value for i in one.interrupts), one.result if results else None)
                for one in each.tasks
            ],
        )
        for each in graph.get_state_history(thread(name))
    ]


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def chat(*nodes: Callable[[Any], Any]) -> StateGraph[Any]:
    builder = StateGraph(Chat)
    for number, node in enumerate(nodes):
        builder.add_node(f"n{number}", node)
        builder.add_edge(START if number == 0 else f"n{number - 1}", f"n{number}")
    builder.add_edge(f"n{len(nodes) - 1}", END)
    return builder


def ask(number: int) -> Any:
    return {"messages": [HumanMessage(f"{number}? {LONG}", id=f"q{number}")]}


def answer(state: Any) -> Any:
    number = len(state["messages"])
    return {"messages": [AIMessage(f"{number}! {LONG}", id=f"a{number}", tool_calls=[])]}


def change_in_place(state: Any) -> Any:
    """Unusual changes by users: nested, repeated, and to numbers that are equal."""
    first, last = state["messages"][0], state["messages"][-1]
    marks = first.additional_kwargs.setdefault("marks", {"n": None, "seen": []})
    order = (1, True, 1.0, "1")
    marks["n"] = order[len(marks["seen"]) % 4]
    marks["seen"].append(last.id)
    last.response_metadata["at"] = {"step": [len(state["messages"])]}
    if isinstance(last, AIMessage):
        last.tool_calls.append({"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"})
    return {"messages": [AIMessage("changed", id=f"c{len(state['messages'])}")]}


def window(state: Any) -> Any:
    return {"messages": [RemoveMessage(id=each.id) for each in state["messages"][:-3]]}


def start_over(state: Any) -> Any:
    keep = state["messages"][-2:]
    return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("summary", id="s"), *keep]}


def twice(state: Any) -> Any:
    same = AIMessage("the same", id=None)
    return {"messages": [same.model_copy(update={"id": str(number)}) for number in range(2)] * 2}


CHATS = {
    "plain": (answer,),
    "changed in place": (answer, change_in_place),
    "a window": (answer, window),
    "started over": (answer, start_over),
    "equal ones": (answer, twice, change_in_place, window),
}


@pytest.mark.parametrize("nodes", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_conversations(saver: RedisSaver, redis_server: Any, prefix: str, nodes: Any, durability: Any) -> None:
    """Every checkpoint of a conversation equals the one in memory, whatever nodes do to its messages."""
    changes = change_in_place in nodes
    races = changes and durability == "async"  # what is stored in the background may be changed meanwhile
    results = not changes or durability == "exit" or not RACES_IN_MEMORY
    graphs = [chat(*nodes).compile(checkpointer=each) for each in (saver, InMemorySaver())]
    for number in range(6):
        states = [graph.invoke(ask(number), thread(), durability=durability) for graph in graphs]
        assert states[0] == states[1]
        assert repr(states[0]) == repr(states[1])
    ours, theirs = (history(graph, results=results) for graph in graphs)
    assert len(ours) == len(theirs)
    for each in range(1 if races else len(ours)):
        assert ours[each] == theirs[each]
        assert repr(ours[each]) == repr(theirs[each])
    with redis_server.client() as raw:
        assert_whole(raw.hgetall(key_of(prefix)))
        saver.prune(["t"])
        assert_whole(raw.hgetall(key_of(prefix)), exact=True)
    assert history(graphs[0], results=results)[0] == theirs[0]
    assert graphs[0].invoke(ask(7), thread()) == graphs[1].invoke(ask(7), thread())


def test_a_process_that_continues(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """Savers that take turns on a thread, without seeing each other's writes, lose nothing."""
    others = [RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde) for _ in range(2)]
    theirs = chat(answer, change_in_place, window).compile(checkpointer=InMemorySaver())
    for number in range(6):
        ours = chat(answer, change_in_place, window).compile(checkpointer=[saver, *others][number % 3])
        states = [graph.invoke(ask(number), thread(), durability="sync") for graph in (ours, theirs)]
        assert states[0] == states[1]
    results = not RACES_IN_MEMORY
    assert repr(history(ours, results=results)) == repr(history(theirs, results=results))
    for other in others:
        other.close()


class Work(TypedDict, total=False):
    items: Annotated[list[Any], operator.add]
    log: Annotated[list[str], operator.add]
    approved: Any


def approval() -> StateGraph[Any]:
    def prepare(state: Any) -> Any:
        return {"log": ["prepared"], "items": [{"text": LONG, "n": 1}]}

    def left(state: Any) -> Any:
        return {"items": [HumanMessage(LONG)], "log": [f"left {interrupt({'q': 'left?', 'long': LONG})}"]}

    def right(state: Any) -> Any:
        return {"items": [[1, LONG]], "log": ["right"]}

    def finish(state: Any) -> Any:
        return {"approved": interrupt("sure?"), "log": ["finished"]}

    builder = StateGraph(Work)
    for node in (prepare, left, right, finish):
        builder.add_node(node)
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "left")
    builder.add_edge("prepare", "right")
    builder.add_edge(["left", "right"], "finish")
    return builder


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("prune", [False, True])
def test_interrupted_and_resumed_elsewhere(
    saver: RedisSaver, redis_server: Any, prefix: str, durability: Any, prune: bool
) -> None:
    """An interrupted run continues in another saver object, pruned in between or not, with its tasks' results."""
    theirs = approval().compile(checkpointer=InMemorySaver())
    steps: list[Any] = [{"items": []}, Command(resume="yes"), Command(resume={"ok": [1, 2]})]
    for step in steps:
        with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde) as other:
            ours = approval().compile(checkpointer=other)
            states = [graph.invoke(step, thread(), durability=durability) for graph in (ours, theirs)]
            shown = [[each.value for each in state.pop("__interrupt__", ())] for state in states]
            assert states[0] == states[1]
            assert shown[0] == shown[1]
            assert history(ours)[0] == history(theirs)[0]
            if prune:
                saver.prune(["t"])
    final = ours.get_state(thread())
    assert final.next == ()
    assert final.values["approved"] == {"ok": [1, 2]}
    if not prune:
        assert history(ours) == history(theirs)


def test_a_failing_node_is_kept_for_people(saver: RedisSaver) -> None:
    """A task's error is in the history as text, and the run continues from there."""

    class OddError(Exception):
        pass

    attempts: list[int] = []

    def fails(state: Any) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise OddError(LONG)
        return {"log": ["done"]}

    builder = StateGraph(Work).add_node(fails).add_edge(START, "fails")
    graph = builder.compile(checkpointer=saver)
    with pytest.raises(OddError):
        graph.invoke({"log": ["begun"]}, thread())
    [failed] = graph.get_state(thread()).tasks
    assert "OddError" in str(failed.error)
    assert graph.invoke(None, thread())["log"] == ["begun", "done"]


def test_sends_and_commands(saver: RedisSaver) -> None:
    """Fan-out with Send and gotos with Command are stored and read as they were."""

    def split(state: Any) -> Any:
        return [Send("part", {"items": [{"n": number, "text": LONG}, [number]]}) for number in range(5)]

    def part(state: Any) -> Any:
        return Command(update={"items": state["items"], "log": [f"part {state['items'][0]['n']}"]}, goto="join")

    def join(state: Any) -> Any:
        return {"log": ["join"]}

    def build(checkpointer: Any) -> Any:
        builder = (
            StateGraph(Work).add_node("begin", lambda state: {"log": ["begin"]}).add_node(part).add_node(join)
        )
        builder.add_edge(START, "begin").add_conditional_edges("begin", split, ["part"])
        return builder.compile(checkpointer=checkpointer)

    graphs = [build(each) for each in (saver, InMemorySaver())]
    assert graphs[0].invoke({"items": []}, thread()) == graphs[1].invoke({"items": []}, thread())
    assert history(graphs[0]) == history(graphs[1])


def nested(checkpointer: Any, own: bool | None) -> Any:
    def inner_ask(state: Any) -> Any:
        return {"items": [HumanMessage(LONG)], "log": [f"inner {interrupt('inner?')}"]}

    inner = StateGraph(Work).add_node("inner_first", lambda state: {"log": ["first"]}).add_node(inner_ask)
    inner.add_edge(START, "inner_first").add_edge("inner_first", "inner_ask")
    outer = StateGraph(Work).add_node("sub", inner.compile(checkpointer=own))
    outer.add_node("after", lambda state: {"log": ["after"]})
    outer.add_edge(START, "sub").add_edge("sub", "after")
    return outer.compile(checkpointer=checkpointer)


@pytest.mark.parametrize("own", [None, True], ids=["inherited", "own"])
def test_subgraphs(saver: RedisSaver, redis_server: Any, prefix: str, own: bool | None) -> None:
    """Subgraphs write to namespaces of their own, can be looked into while interrupted, and resumed elsewhere."""
    graphs = [nested(each, own) for each in (saver, InMemorySaver())]
    for turn in range(2):
        logs = [graph.invoke({"log": [f"turn {turn}"]}, thread())["log"] for graph in graphs]
        assert logs[0] == logs[1]
        inside = [graph.get_state(thread(), subgraphs=True).tasks[0].state for graph in graphs]
        assert inside[0].values == inside[1].values
        assert inside[0].next == inside[1].next == ("inner_ask",)
        assert inside[0].config["configurable"]["checkpoint_ns"].startswith("sub")
        saver.prune(["t"])
        with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde) as other:
            assert nested(other, own).invoke(Command(resume="go"), thread()) == graphs[1].invoke(
                Command(resume="go"), thread()
            )
    with redis_server.client() as raw:
        stored = assert_whole(raw.hgetall(key_of(prefix)))
        assert len(stored.namespaces) == (2 if own else 3)


def test_forks_from_an_old_checkpoint(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """Branches from one checkpoint keep their own values: no version of a channel is ever used twice."""
    graph = chat(answer, change_in_place).compile(checkpointer=saver)
    for number in range(3):
        graph.invoke(ask(number), thread())
    old = list(graph.get_state_history(thread()))[4]
    forks = []
    for number in range(3):
        config = graph.update_state(old.config, {"messages": [HumanMessage(f"fork {number}", id="f")]})
        forks.append((config, graph.get_state(config).values))
        forks.append((graph.invoke(ask(100 + number), old.config) and graph.get_state(thread()).config,) * 1)
    graph.invoke(None, old.config)
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=saver.serde) as other:
        again = chat(answer, change_in_place).compile(checkpointer=other)
        for number in range(3):
            config, values = forks[2 * number]
            assert again.get_state(config).values == values
            assert values["messages"][-1].content == f"fork {number}"
        versions = [
            each.checkpoint["channel_versions"]["messages"]
            for each in other.list(thread())
            if "messages" in (each.checkpoint["updated_channels"] or ())
        ]
        assert len(set(versions)) == len(versions)
        before = again.get_state(old.config).values
        assert before == old.values


def test_the_functional_api(saver: RedisSaver) -> None:
    """Entrypoints keep their return values, and tasks their results, over interrupts and turns."""

    def flow(checkpointer: Any) -> Any:
        @task
        def square(number: int) -> Any:
            return {"n": number * number, "text": LONG}

        @entrypoint(checkpointer=checkpointer)
        def main(number: int, *, previous: Any = None) -> Any:
            squares = [square(each).result() for each in range(number)]
            if number == 2:
                squares.append(interrupt("more?"))
            total = (previous or 0) + number
            return entrypoint.final(value=squares, save=total)

        return main

    flows = [flow(each) for each in (saver, InMemorySaver())]
    for step in (3, 2, Command(resume=(1, LONG)), 1):
        outcomes = [each.invoke(step, thread()) for each in flows]
        assert repr(outcomes[0]).partition("id=")[0] == repr(outcomes[1]).partition("id=")[0]
    assert [each.get_state(thread()).values for each in flows] == [6, 6] or flows[0].get_state(
        thread()
    ).values == flows[1].get_state(thread()).values


async def test_async_graphs_at_once(redis_server: Any, prefix: str) -> None:
    """Many threads of one graph at once, through one saver, stay separate."""
    async with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        graph = chat(answer, change_in_place).compile(checkpointer=saver)
        memory = chat(answer, change_in_place).compile(checkpointer=InMemorySaver())
        for number in range(3):
            calls = [graph.ainvoke(ask(number), thread(f"t{i}"), durability="sync") for i in range(12)]
            states = await asyncio.gather(*calls)
            expected = await memory.ainvoke(ask(number), thread(), durability="sync")
            assert states == [expected] * 12
        for i in (0, 11):
            snapshots = [each.values async for each in graph.aget_state_history(thread(f"t{i}"))]
            assert snapshots == [each.values for each in memory.get_state_history(thread())]


@pytest.mark.parametrize("first", [None, 7, 3.0, "0000000000000000000000000000000007.0123", 2**40], ids=repr)
def test_versions_go_on_from_any_saver(saver: RedisSaver, first: Any) -> None:
    """Versions rise from those of any other saver, in their type, and no two forks share one."""
    current = first
    for _ in range(5):
        forks = {saver.get_next_version(current, None) for _ in range(50)}
        assert len(forks) == 50
        following = min(forks)
        if current is not None:
            assert following > current
            assert isinstance(following, str) == isinstance(current, str)
        current = following


def test_threads_from_other_savers_go_on(saver: RedisSaver) -> None:
    """A thread copied from a saver with text or plain integer versions continues here as it would there."""

    class Plain(InMemorySaver):
        def get_next_version(self, current: Any, channel: None) -> Any:
            return (current or 0) + 1

    for name, other in (("text", InMemorySaver()), ("numbers", Plain())):
        theirs = chat(answer).compile(checkpointer=other)
        for number in range(2):
            theirs.invoke(ask(number), thread(name))
        for each in reversed(list(other.list(thread(name)))):
            saver.put(
                each.parent_config or thread(name, checkpoint_ns=""),
                each.checkpoint,
                each.metadata,
                each.checkpoint["channel_versions"],
            )
            for task_id in dict.fromkeys(write[0] for write in each.pending_writes or ()):
                writes = [write[1:] for write in each.pending_writes or () if write[0] == task_id]
                saver.put_writes(each.config, writes, task_id)
        ours = chat(answer).compile(checkpointer=saver)
        assert history(ours, name) == history(theirs, name)
        assert ours.invoke(ask(5), thread(name)) == theirs.invoke(ask(5), thread(name))
        assert len(history(ours, name)) == len(history(theirs, name))


def test_ids_and_metadata_of_any_kind(saver: RedisSaver) -> None:
    """Thread ids may be numbers and UUIDs; metadata that langgraph copies from a config is stored and found."""

    class Level(enum.IntEnum):
        HIGH = 3

    graph = chat(answer).compile(checkpointer=saver)
    for name in (5, uuid.uuid4(), "ünï {cöde}: *\n"):
        config = {
            "configurable": {"thread_id": name, "level": Level.HIGH},
            "metadata": {"score": 1.5, "who": "me"},
        }
        graph.invoke(ask(1), config)  # type: ignore[arg-type]
        state = graph.get_state({"configurable": {"thread_id": name}})
        assert state.metadata["level"] == 3
        assert state.metadata["who"] == "me"
        assert list(saver.list({"configurable": {"thread_id": str(name)}}, filter={"level": 3, "score": 1.5}))


def test_interrupts_come_back_as_interrupts(saver: RedisSaver) -> None:
    """The interrupt that a client sees is langgraph's own object, with its id."""
    graph = approval().compile(checkpointer=saver)
    shown = graph.invoke({"items": []}, thread())["__interrupt__"]
    again = graph.get_state(thread()).interrupts
    assert list(again) == list(shown)
    assert isinstance(again[0], Interrupt)
    assert again[0].id == shown[0].id


def test_tool_messages_with_artifacts(saver: RedisSaver) -> None:
    """Artifacts of a tool are stored beside its text, with their types."""

    def tool(state: Any) -> Any:
        artifact = {"rows": [(1, 2)], "raw": b"\x00\xff", "document": HumanMessage(LONG)}
        return {"messages": [ToolMessage(LONG, tool_call_id="c", artifact=artifact, id="tool")]}

    graph = chat(tool).compile(checkpointer=saver)
    shown = graph.invoke(ask(1), thread())["messages"][-1]
    stored = graph.get_state(thread()).values["messages"][-1]
    assert stored == shown
    assert stored.artifact["rows"] == [(1, 2)]
