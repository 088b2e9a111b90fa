"""``threads``, ``waiting`` and ``diff``: facts about threads, without reading their messages."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from ecowas_lc import (
    IncompleteWarning,
    InvalidInputError,
    OpaqueValue,
    ThreadRow,
    UnknownCheckpointError,
    draw_thread,
    migrate_threads,
)
from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.checkpoint.listing import _values_op
from ecowas_lc.checkpoint.viewing import plain
from ecowas_lc.storage import server as server_module
from tests.fixtures.proxy import running_proxy
from tests.redis.stored import read
from tests.redis.writer import Writer, at, id_of, key_of

QUESTION = "What is the tariff\n of electricity in Senegal?"


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, redis_server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver:
        yield saver


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def asking(saver: Any) -> Any:
    """Answers, then asks two people at the same time."""

    def ask(name: str) -> Any:
        return lambda state: {"log": [f"{name}: {interrupt({'approve': name})}"]}

    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"messages": [AIMessage("118 francs.", name="energy")]})
    builder.add_node("one", ask("one")).add_node("two", ask("two"))
    builder.add_edge(START, "answer").add_edge("answer", "one").add_edge("answer", "two")
    return builder.compile(checkpointer=saver)


def config(thread: str, **metadata: Any) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": metadata}


def test_what_a_row_says(saver: RedisSaver) -> None:
    """A row has the first question as its title, and the pending requests until each person has answered."""
    graph = asking(saver)
    begun = dt.datetime.now(dt.UTC)
    graph.invoke({"messages": [HumanMessage(QUESTION)]}, config("t", user_id="ada", n=1))
    [row] = saver.threads()
    assert (row.id, row.title) == ("t", "What is the tariff of electricity in Senegal?")
    assert (row.turns, row.messages, row.steps, row.ttl, row.unreadable, row.excerpt) == (1, 2, 1, None, "", "")
    assert row.checkpoint == graph.get_state(config("t")).config["configurable"]["checkpoint_id"]
    assert row.last_activity is not None
    assert begun <= row.last_activity <= dt.datetime.now(dt.UTC)
    assert dict(row.metadata) == {"user_id": "ada", "n": 1}
    assert set(row.next) == {"one", "two"}
    assert [asked.value for asked in row.waiting] == [{"approve": "one"}, {"approve": "two"}]
    [same] = saver.waiting()
    assert same == dataclasses.replace(row, ttl=same.ttl)
    first, second = row.waiting
    graph.invoke(Command(resume={first.id: "yes"}), config("t"))
    [row] = saver.waiting()
    assert row.waiting == (second,)
    graph.invoke(Command(resume={second.id: "yes"}), config("t"))
    assert saver.waiting() == []
    [row] = saver.threads(waiting=False)
    assert (row.waiting, row.next) == ((), ())
    assert asyncio.run(saver.athreads()) == [row]
    assert asyncio.run(saver.awaiting()) == []


def test_pages_and_filters(saver: RedisSaver) -> None:
    """Pages have no gap or overlap, and each filter returns exactly the matching threads."""
    moments = []
    for number in range(12):
        moments.append(dt.datetime.now(dt.UTC))
        thread = f"{'ab'[number % 2]}:{number}"
        Writer(saver, thread).put(None, {"user_id": f"u{number % 3}", "big": ["x" * 5000]}, messages=[])
    every = [f"{'ab'[number % 2]}:{number}" for number in range(12)][::-1]
    assert [row.id for row in saver.threads(limit=None)] == every
    pages: list[str] = []
    after: ThreadRow | str | None = None
    while page := saver.threads(limit=5, after=after):
        pages += [row.id for row in page]
        after = page[-1] if len(pages) < 10 else page[-1].cursor
    assert pages == every
    assert [row.id for row in saver.threads(prefix="a:", limit=2)] == ["a:10", "a:8"]
    assert [row.id for row in saver.threads(where={"user_id": "u2"})] == ["b:11", "a:8", "b:5", "a:2"]
    assert [row.id for row in saver.threads(where={"big": ["x" * 5000], "user_id": "u0"}, limit=1)] == ["b:9"]
    assert saver.threads(where={"nothing": None}) == []
    assert [row.id for row in saver.threads(since=moments[10])] == ["b:11", "a:10"]
    assert [row.id for row in saver.threads(since=moments[10].timestamp(), prefix="b")] == ["b:11"]
    assert saver.threads(waiting=True) == []


def test_threads_of_one_moment(redis_server: Any, prefix: str) -> None:
    """Pages are correct even if threads were written at the same time."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        for number in range(10):
            Writer(saver, f"{number}").put(n=1)
        raw.zadd(f"{prefix}:index:threads", {f"{number}": 1000.25 for number in range(10)})
        met: list[str] = []
        after = None
        while page := saver.threads(limit=3, after=after):
            met += [row.id for row in page]
            after = page[-1]
        assert met == [f"{number}" for number in range(10)][::-1]


def test_what_has_expired(redis_server: Any, prefix: str) -> None:
    """Threads that have gone are not listed, and leave the index."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        for number in range(5):
            Writer(saver, f"{number}").put(n=1)
        raw.delete(key_of(prefix, "4"), key_of(prefix, "2"))
        assert [row.id for row in saver.threads(limit=2)] == ["3", "1"]
        assert raw.zscore(f"{prefix}:index:threads", "4") is None


def test_threads_without_a_checkpoint_of_their_own(saver: RedisSaver) -> None:
    """A thread in which only a subgraph has checkpoints has no row."""
    for thread, namespace in (("whole", ""), ("part", "sub:1")):
        Writer(saver, thread, namespace).put(n=1)
    assert list(saver.list(at("part", ns="sub:1")))
    assert [row.id for row in saver.threads()] == ["whole"]


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Flushes, counted by the client: a server replies to a long one before it has all of it."""
    made: list[Any] = []
    send = server_module._send

    def counted(client: Any, batch: Any, *others: Any) -> Any:
        made.append(batch)
        return send(client, batch, *others)

    monkeypatch.setattr(server_module, "_send", counted)
    return made


@pytest.mark.parametrize("threads", [3, 60])
def test_flushes(redis_server: Any, prefix: str, threads: int, flushes: list[Any]) -> None:
    """A page is three flushes, whatever threads hold, and putting a checkpoint is still one."""
    with running_proxy(redis_server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        for number in range(threads):
            writer = Writer(saver, f"{number}")
            writer.put(messages=[HumanMessage(f"{each} {'x' * 1000}") for each in range(50)])
        saver.threads(limit=1)
        proxy.reset_counts()
        writer.put(messages=[*writer.values["messages"], AIMessage("y")])
        assert proxy.flushes == 1
        proxy.reset_counts()
        flushes.clear()
        assert len(saver.threads(limit=threads)) == threads
        assert len(flushes) <= 3
        assert proxy.received <= 2000 * threads + 2000


def test_a_cluster(cluster: Any, prefix: str, flushes: list[Any]) -> None:
    """On a cluster a checkpoint is one flush as well, and threads of all nodes are listed."""
    with RedisSaver.from_url(cluster.url, prefix=prefix) as saver:
        for number in range(12):
            writer = Writer(saver, f"t{number}")
            writer.put(messages=[HumanMessage(f"Question {number}")])
        flushes.clear()
        writer.put(messages=[*writer.values["messages"], AIMessage("y")])
        assert len(flushes) == 1
        rows = saver.threads()
    assert len(flushes) == 4, flushes[1:]
    assert [row.title for row in rows] == [f"Question {number}" for number in range(12)][::-1]
    assert rows[0].messages == 2


def test_a_checkpoint_of_another_version(saver: RedisSaver, redis_server: Any, prefix: str) -> None:
    """If the entry is missing, or is about another checkpoint, the messages themselves are read."""
    with redis_server.client() as raw:
        for thread in ("none", "late", "right"):
            writer = Writer(saver, thread)
            writer.put(messages=[HumanMessage("Before")])
            before = raw.hget(key_of(prefix, thread), "T")
            writer.put(messages=[HumanMessage("After"), AIMessage("Yes.")])
            if thread == "none":
                raw.hdel(key_of(prefix, thread), "T")
            elif thread == "late":
                raw.hset(key_of(prefix, thread), "T", before)
    assert [(row.id, row.title, row.messages) for row in saver.threads()] == [
        (thread, "After", 2) for thread in ("right", "late", "none")
    ]


def test_forks_and_removed_messages(saver: RedisSaver) -> None:
    """The row is only about the latest checkpoint: removed messages are not shown."""
    builder = StateGraph(State).add_node("n", lambda state: {"messages": [AIMessage("Yes.")]})
    graph = builder.add_edge(START, "n").compile(checkpointer=saver)
    graph.invoke({"messages": [HumanMessage("Secret?")]}, config("t"))
    older = Writer(saver, "t")
    older.put("0" * 36, messages=[HumanMessage("An older one")])
    [row] = saver.threads()
    assert (row.title, row.messages) == ("Secret?", 2)
    graph.update_state(
        config("t"), {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("Open?")]}, as_node="n"
    )
    [row] = saver.threads()
    assert (row.title, row.messages) == ("Open?", 1)


def join(old: list[Any], new: list[Any]) -> list[Any]:
    known = {message.id for message in old}
    added = [each for part in new for each in part if each.type != "remove" or each.id in known]
    return add_messages(old, added)  # type: ignore[return-value]


def test_delta_channels(saver: RedisSaver) -> None:
    """Messages in a delta channel, which most checkpoints have no value for, are counted too."""

    class Deltas(TypedDict):
        messages: Annotated[list[AnyMessage], DeltaChannel(join, snapshot_frequency=50)]

    builder = StateGraph(Deltas).add_node("n", lambda state: {"messages": [AIMessage("Yes.")]})
    graph = builder.add_edge(START, "n").compile(checkpointer=saver)
    for number in range(3):
        graph.invoke({"messages": [HumanMessage(f"Question {number}", id=f"{number}")]}, config("t"))
    assert len(graph.get_state(config("t")).values["messages"]) == 6
    [row] = saver.threads()
    assert (row.title, row.messages, row.turns) == ("Question 0", 6, 3)
    # This reducer ignores the removal of a message that does not exist, which add_messages refuses: no title then.
    graph.update_state(config("t"), {"messages": [RemoveMessage(id="none")]}, as_node="n")
    [row] = saver.threads()
    assert (row.title, row.messages) == (None, None)


def test_a_thread_whose_values_cant_be_read(redis_server: Any, prefix: str) -> None:
    """A thread is listed without its title if only its messages can't be read; another unreadable one is named."""
    key = b"k" * 32
    with (
        RedisSaver.from_url(redis_server.url, prefix=prefix, serde=EncryptedRedisSerializer(key)) as sealed,
        RedisSaver.from_url(redis_server.url, prefix=prefix) as saver,
        redis_server.client() as raw,
    ):
        for thread in ("fine", "sealed", "damaged", "broken"):
            writer = Writer(sealed if thread == "sealed" else saver, thread)
            writer.put(messages={"text": "x" * 300} if thread == "sealed" else [HumanMessage("Hello")])
            writer.saver = saver
            writer.put(step=1)
            raw.hdel(key_of(prefix, thread), "T")
        [message] = [name for name in raw.hkeys(key_of(prefix, "damaged")) if name.startswith(b"e")]
        raw.hset(key_of(prefix, "damaged"), message, b"\0\0\xc1")
        latest = b"c\0" + raw.hget(key_of(prefix, "broken"), "L")
        row = raw.hget(key_of(prefix, "broken"), latest)
        raw.hset(key_of(prefix, "broken"), latest, row.replace(b"\x9a\x04", b"\xc1\x04"))
    with (
        RedisSaver.from_url(redis_server.url, prefix=prefix) as saver,  # with nothing in its memory
        redis_server.client() as raw,
    ):
        with pytest.warns(IncompleteWarning) as found:
            rows = {row.id: row for row in saver.threads()}
        told = "\n".join(str(one.message) for one in found)
        assert "The thread 'broken'" in told
        assert "The messages of the thread 'damaged'" in told
        assert {name: row.title for name, row in rows.items()} == {
            "fine": "Hello",
            "sealed": None,
            "damaged": None,
        }
        # Between the two reads of a listing, a thread may be deleted or replaced.
        raw.set(key_of(prefix, "other"), "theirs")
        values = saver._server.run(_values_op(saver._at, ["gone", "other", "fine"]))
        assert list(values) == ["fine"]


def test_nothing_readable_of_encrypted_threads(redis_server: Any, prefix: str) -> None:
    """Titles of encrypted threads are encrypted; without the key the thread is listed, and says why it is bare."""
    serde = EncryptedRedisSerializer(b"k" * 32)
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde, ttl=100) as saver:
        writer = Writer(saver, "t")
        writer.put(None, {"user_id": "ada"}, messages=[HumanMessage(QUESTION)])
        saver.put_writes(writer.config, [("__interrupt__", ["Really?"])], "task")
        with redis_server.client() as raw:
            fields = raw.hgetall(key_of(prefix))
        assert b"T" in fields
        assert not any(word in value for value in fields.values() for word in (b"tariff", b"ada", b"Really"))
        saver.threads(query="tariff")
        with redis_server.client() as raw:
            assert raw.hgetall(key_of(prefix)) == fields
            assert len(raw.keys(f"{prefix}:*")) == 2
    for other in (None, EncryptedRedisSerializer(b"q" * 32)):
        with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=other) as saver:
            [row] = saver.threads()
            assert (row.id, row.title, row.messages, row.waiting) == ("t", None, None, ())
            assert row.last_activity is not None
            assert row.ttl is not None
            assert "encrypted" in row.unreadable or "can't be decrypted" in row.unreadable
            assert saver.threads(query="tariff") == []


def test_an_entry_that_was_moved(redis_server: Any, prefix: str) -> None:
    """An encrypted entry can be opened only in its own place."""
    serde = EncryptedRedisSerializer(b"k" * 32)
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver, redis_server.client() as raw:
        same = "1" * 36
        for thread in ("a", "b"):
            Writer(saver, thread).put(same, messages=[HumanMessage(thread)])
        raw.hset(key_of(prefix, "a"), "T", raw.hget(key_of(prefix, "b"), "T"))
        rows = {row.id: row for row in saver.threads()}
        assert rows["b"].title == "b"
        assert rows["a"].title is None
        assert "can't be decrypted" in rows["a"].unreadable


def test_the_entry_as_the_page_on_storage_says(redis_server: Any, prefix: str) -> None:
    """The independent reader finds the entry of the latest checkpoint, a blob without references."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        writer = Writer(saver)
        writer.put(messages=[HumanMessage("Hello")])
        Writer(saver, ns="sub").put(messages=[HumanMessage("Of a subgraph")])
        entry = read(raw.hgetall(key_of(prefix))).entry
        assert entry is not None
        assert entry.startswith(b"\0\0\x93\xa5Hello\x01\x01")


@pytest.mark.parametrize("content", ["", "  \n", [], [{"type": "image_url", "image_url": "x"}], ["a ", "b"]])
def test_odd_questions(saver: RedisSaver, content: Any) -> None:
    """A question without text has no title; storing it never fails."""
    Writer(saver).put(messages=[HumanMessage("x").model_copy(update={"content": content})])
    [row] = saver.threads()
    assert (row.title, row.messages) == ("a b" if content == ["a ", "b"] else None, 1)


@pytest.mark.parametrize("messages", ["text", {"a": 1}, [1, 2], [("user", "hello")], None, 3])
def test_other_things_under_the_name(saver: RedisSaver, messages: Any) -> None:
    """Graphs may keep anything in a channel of this name."""
    Writer(saver).put(messages=messages)
    [row] = saver.threads()
    assert (row.title, row.messages or 0) == (None, 0)


def test_a_serializer_of_ones_own(redis_server: Any, prefix: str) -> None:
    """With an application's own serializer, rows are the same."""
    serde = JsonPlusSerializer()
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver:
        Writer(saver).put(messages=[HumanMessage("Hello")])
        [row] = saver.threads()
        assert (row.title, row.messages) == ("Hello", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": True},
        {"after": "no cursor"},
        {"after": 5},
        {"after": "nan:x"},
        {"prefix": 1},
        {"since": "yesterday"},
        {"since": float("nan")},
        {"waiting": "yes"},
        {"where": [("a", 1)]},
        {"query": " "},
        {"query": "a", "after": "1.0:x"},
        {"speaker": "energy"},
    ],
)
def test_arguments(redis_server: Any, prefix: str, arguments: Any) -> None:
    """An invalid argument is refused by name, before any command is sent."""
    with (
        RedisSaver.from_url(redis_server.url, prefix=prefix) as saver,
        pytest.raises(InvalidInputError, match=next(iter(arguments))),
    ):
        saver.threads(**arguments)


# --- classes of other applications ---


@dataclasses.dataclass
class Plan:
    text: str


def test_classes_that_are_not_allowed(redis_server: Any, prefix: str) -> None:
    """Threads with an application's classes are listed, compared and drawn without importing them."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix, allow=[Plan]) as theirs:
        writer = Writer(theirs)
        writer.put(messages=[HumanMessage("Hello")], plan=Plan("first"))
        second = writer.put(None, {"plan": Plan("meta")}, plan=Plan("second"))
        theirs.put_writes(second, [("__interrupt__", [])], "task")
        assert theirs.viewing().get_tuple(at()) == theirs.get_tuple(at())
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        name = f"{__name__}.Plan"
        [row] = saver.threads()
        assert (row.title, row.metadata["plan"]) == ("Hello", OpaqueValue(name, {"text": "meta"}))
        change = saver.diff("t").channels["plan"]
        assert change.before == OpaqueValue(name, {"text": "first"})
        assert change.after == OpaqueValue(name, {"text": "second"})
        assert len(draw_thread(saver, "t")) == 2
        raw.hdel(key_of(prefix), "T")
        assert saver.threads() == [row]
        with pytest.raises(Exception, match="not allowed"):
            saver.get_tuple(at())
        with pytest.raises(Exception, match="can't be stored"):
            Writer(saver, "other").put(plan=change.after)


def test_diff(saver: RedisSaver) -> None:
    """A diff lists each changed channel, and what lists gained and lost; by default against the parent."""
    writer = Writer(saver)
    first, second = HumanMessage("a", id="1"), AIMessage("b", id="2")
    ids = [
        id_of(writer.put(messages=[first], same=[1.5], lost={"a": 1}, number=1.0)),
        id_of(writer.put(messages=[first, second], number=2.0, fresh="x")),
        id_of(writer.put(gone=("lost",), messages=[second])),
    ]
    found = saver.diff("t", ids[0], ids[1])
    assert (found.thread, found.before.checkpoint["id"], found.after.checkpoint["id"]) == ("t", ids[0], ids[1])
    assert set(found.channels) == {"messages", "number", "fresh"}
    messages = found.channels["messages"]
    assert (messages.change, messages.removed, messages.added) == ("changed", (), (second,))
    assert (found.channels["number"].before, found.channels["number"].after) == (1.0, 2.0)
    assert found.channels["number"].added is None
    assert (found.channels["fresh"].change, found.channels["fresh"].after) == ("new", "x")
    latest = saver.diff("t")
    assert latest.before.checkpoint["id"] == ids[1]
    assert latest.channels["messages"].removed == (first,)
    assert latest.channels["lost"].change == "gone"
    assert asyncio.run(saver.adiff("t", ids[0], ids[2])).channels.keys() == {"messages", "number", "fresh", "lost"}
    with pytest.raises(InvalidInputError, match="first"):
        saver.diff("t", after=ids[0])
    assert [id_of(one.config) for one in saver.thread("t").checkpoints(limit=2)] == [ids[2], ids[1]]
    with pytest.raises(InvalidInputError, match="where can't be compared"):
        saver.threads(where={"step": np.array([1, 2])})
    with pytest.raises(InvalidInputError, match="filter can't be compared"):
        list(saver.list(None, filter={"step": np.array([1, 2])}))
    with pytest.raises(InvalidInputError, match="list of thread ids"):
        migrate_threads(saver, saver, threads="t")  # type: ignore[arg-type]
    for arguments in (("none",), ("t", "x"), ("t", None, "x")):
        with pytest.raises(UnknownCheckpointError):
            saver.diff(*arguments)


# --- words ---


def test_words(saver: RedisSaver) -> None:
    """Words are found by their stems, with and without accents, in questions and answers, best first."""
    texts = {
        "a": [HumanMessage("Le prix de l'électricité?"), AIMessage("118 francs.", name="energy")],
        "b": [HumanMessage("Vaccines?"), AIMessage(f"{'y ' * 200} Tariffs are not my subject.", name="health")],
        "c": [HumanMessage("A tariff for electricity " + "x " * 300), AIMessage("tariff", name="energy")],
        "d": [HumanMessage("Nothing of that.")],
    }
    for thread, messages in texts.items():
        Writer(saver, thread).put(None, {"user_id": thread}, messages=messages)

    def found(query: str, **filters: Any) -> list[str]:
        return [row.id for row in saver.threads(query=query, **filters)]

    assert found("electricite") == ["a"]
    assert set(found("tariff")) == {"b", "c"}
    assert found("tariff electricity")[0] == "c"
    assert found("vaccine") == ["b"]
    assert found("tariffs", where={"user_id": "c"}) == ["c"]
    assert found("francs", speaker="energy") == ["a"]
    assert found("tariff", speaker="energy") == ["c"]
    assert len(found("tariff", limit=1)) == 1
    assert found("absent") == []
    [row] = saver.threads(query="prix")
    assert row.excerpt == "Le prix de l'électricité?"
    [long] = saver.threads(query="subject")
    assert "subject" in long.excerpt
    assert len(long.excerpt) <= 162
    saver.delete_thread("a")
    assert found("electricite") == []
    Writer(saver, "d").put(messages=[HumanMessage("Now the electricity.")])
    assert set(found("electricity")) == {"c", "d"}
    assert [row.id for row in asyncio.run(saver.athreads(query="vaccine"))] == ["b"]
    Writer(saver, "b").put(messages=[HumanMessage("Tariff!")])
    assert found("tariff", limit=1) == ["b"]
    Writer(saver, "b").put(messages=[HumanMessage("…")])
    assert found("tariff", limit=1) == ["c"]


def test_a_second_search_reads_what_is_new(
    redis_server: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search reads the messages of threads that changed since the last one, and of its hits; of all if the words
    were too many to keep."""
    with running_proxy(redis_server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        writers = [Writer(saver, f"{number}") for number in range(40)]
        for number, writer in enumerate(writers):
            writer.put(messages=[HumanMessage(f"word{number} {'x' * 4000}")])
        assert [row.id for row in saver.threads(query="word7")] == ["7"]
        assert proxy.received >= 40 * 4000
        proxy.reset_counts()
        assert [row.id for row in saver.threads(query="word8")] == ["8"]
        assert proxy.received <= 40 * 1000
        writers[3].put(messages=[HumanMessage("word9")])
        assert {row.id for row in saver.threads(query="word9")} == {"9", "3"}
        assert [row.id for row in saver.threads(query="word3")] == []
        monkeypatch.setattr("ecowas_lc.checkpoint.thread_words._MOST_BYTES", 1000)
        assert [row.id for row in saver.threads(query="word7")] == ["7"]
        proxy.reset_counts()
        assert [row.id for row in saver.threads(query="word8")] == ["8"]
        assert proxy.received >= 39 * 4000


class Colour(enum.Enum):
    RED = "red"


class Form(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Colour.RED, "red"),
        (Form(name="a"), {"class": "Form", "name": "a"}),
        (Plan("x"), {"class": "Plan", "text": "x"}),
        (b"abc", {"bytes": 3}),
        ({1: (1.5, float("inf"))}, {"1": [1.5, "inf"]}),
        (OpaqueValue("m.C", {"a": 1}), {"class": "m.C", "data": {"a": 1}}),
        (dt.date(2026, 3, 27), "2026-03-27"),
    ],
)
def test_any_value_is_shown_as_json(value: Any, shown: Any) -> None:
    """Whatever a state holds, people and programs see it as plain JSON."""
    assert plain(value) == shown
