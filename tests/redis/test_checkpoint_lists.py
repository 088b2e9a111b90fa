"""Lists: stored as edits of one another, and read back equal in every version, whatever was done to them."""

from __future__ import annotations

import copy
import random
import uuid
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from tests.redis.stored import assert_whole
from tests.redis.writer import Writer, at, id_of, key_of

LONG = "word " * 60


@pytest.fixture
def saver(server: Any, prefix: str) -> Any:
    with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def fresh(server: Any, prefix: str) -> Any:
    """Another process's saver, which has not seen the first one's writes."""
    with RedisSaver.from_url(server.url, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def raw(server: Any) -> Any:
    with server.client() as client:
        yield client


def message(number: int) -> Any:
    """A message by its number: few enough that equal ones meet."""
    kind = (HumanMessage, AIMessage)[number % 2]
    return kind(f"{number} {LONG if number % 3 else ''}", id=f"m{number % 7}")


ITEMS = {
    "messages": message,
    "documents": lambda number: {"n": number, "text": f"{number} {LONG}", "more": [number, (number, None)]},
    "texts": lambda number: f"{number} {LONG}",
}

EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 9), min_size=1, max_size=6)),
        st.tuples(st.just("drop front"), st.integers(1, 5)),
        st.tuples(st.just("keep last"), st.integers(0, 6)),
        st.tuples(st.just("replace"), st.tuples(st.integers(0, 30), st.integers(0, 9))),
        st.tuples(st.just("insert"), st.tuples(st.integers(0, 30), st.integers(0, 9))),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("duplicate"), st.integers(0, 30)),
        st.tuples(st.just("double"), st.none()),
        st.tuples(st.just("reverse"), st.none()),
        st.tuples(st.just("shuffle"), st.integers(0, 9)),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("nothing"), st.none()),
        st.tuples(st.just("change in place"), st.integers(0, 30)),
        st.tuples(st.just("back to"), st.integers(0, 30)),
    ),
    min_size=1,
    max_size=14,
)


def edited(items: list[Any], edit: str, with_: Any, make: Any, versions: list[list[Any]]) -> list[Any]:
    """``items`` after an edit; in place where langgraph's users would do it in place."""
    size = len(items)
    if edit == "append":
        return [*items, *map(make, with_)]
    if edit == "drop front":
        return items[with_:]
    if edit == "keep last":
        return items[size - with_ :] if with_ else []
    if edit == "replace" and size:
        return [*items[: with_[0] % size], make(with_[1]), *items[with_[0] % size + 1 :]]
    if edit == "insert":
        return [*items[: with_[0]], make(with_[1]), *items[with_[0] :]]
    if edit == "remove" and size:
        return [*items[: with_ % size], *items[with_ % size + 1 :]]
    if edit == "duplicate" and size:
        return [*items, items[with_ % size]]
    if edit == "double":
        return (items + items)[:60]
    if edit == "reverse":
        return items[::-1]
    if edit == "shuffle":
        return random.Random(with_).sample(items, size)
    if edit == "clear":
        return []
    if edit == "change in place" and size:
        item = items[with_ % size]
        if isinstance(item, dict):
            item["more"].append({"deep": [with_]})
        elif not isinstance(item, str):
            item.additional_kwargs.setdefault("deep", []).append({"n": with_})
        return items
    if edit == "back to" and versions:
        return copy.deepcopy(versions[with_ % len(versions)])
    return items


@pytest.mark.parametrize("make", ITEMS.values(), ids=ITEMS.keys())
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(edits=EDITS, keep=st.integers(1, 3), new_process=st.integers(0, 12))
def test_any_sequence_of_edits(
    saver: RedisSaver,
    fresh: RedisSaver,
    raw: Any,
    prefix: str,
    make: Any,
    edits: Any,
    keep: int,
    new_process: int,
) -> None:
    """Every version of a list reads back equal, by the writer and by others, before and after pruning."""
    thread_id = uuid.uuid4().hex
    writer = Writer(saver, thread_id)
    items: list[Any] = []
    versions: list[list[Any]] = []
    configs = []
    for number, (edit, with_) in enumerate(edits):
        items = edited(items, edit, with_, make, versions)
        if number == new_process:
            items = fresh.get_tuple(writer.config).checkpoint["channel_values"]["items"] if number else items
            writer.saver = fresh
        configs.append(writer.put(items=items))
        versions.append(copy.deepcopy(items))
    for reader in (saver, fresh):
        for config, version in zip(configs, versions, strict=True):
            assert reader.get_tuple(config).checkpoint["channel_values"]["items"] == version
        listed = [each.checkpoint["channel_values"]["items"] for each in reader.list(at(thread_id))]
        assert listed == versions[::-1]
    key = key_of(prefix, thread_id)
    assert_whole(raw.hgetall(key))
    saver.prune([thread_id], keep_last=keep)
    kept = [each.checkpoint["channel_values"]["items"] for each in fresh.list(at(thread_id))]
    assert kept == versions[::-1][:keep]
    assert_whole(raw.hgetall(key), exact=True)
    items = [*items, make(3)]
    writer.saver = saver
    last = writer.put(items=items)
    assert fresh.get_tuple(last).checkpoint["channel_values"]["items"] == items
    assert_whole(raw.hgetall(key))


def test_a_list_of_another_process_under_the_same_name(saver: RedisSaver, fresh: RedisSaver) -> None:
    """Edits are never applied to a list other than their base, whatever its name."""

    def put(writer: Writer, version: int, items: list[Any]) -> Any:
        writer.versions, writer.values = {"items": version}, {"items": items}
        checkpoint, _ = writer.draft()
        return writer.saver.put(writer.config, checkpoint, {}, {"items": version})

    first, second = Writer(saver), Writer(fresh)
    put(first, 1, [message(1), message(2), message(3)])
    fresh.delete_thread("t")
    put(second, 1, [message(4), message(5), message(6)])
    stored = put(first, 2, [message(1), message(2), message(3), message(7)])
    assert fresh.get_tuple(stored).checkpoint["channel_values"]["items"] == [message(n) for n in (1, 2, 3, 7)]


def test_large_bytes_that_the_process_has(saver: RedisSaver, fresh: RedisSaver) -> None:
    """Bytes that a process read as a value come back, without being sent again, in a list of another process."""
    data, writer = random.Random(1).randbytes(20_000), Writer(saver)
    writer.put(file=data)
    assert fresh.get_tuple(at()).checkpoint["channel_values"]["file"] == data
    writer.put(file=data, parts=[data, b"x" * 500])
    assert fresh.get_tuple(at()).checkpoint["channel_values"]["parts"] == [data, b"x" * 500]


def test_one_item_again_and_again(saver: RedisSaver, fresh: RedisSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that repeats an item too often to be read item by item is stored as a whole, and is read back."""
    for module in ("elements", "serializer"):
        monkeypatch.setattr(f"ecowas_lc.checkpoint.codec.{module}.MOST_REPEATED", 2**16)
    items = [{"numbers": list(range(200))}] * 1_100
    Writer(saver).put(items=items)
    assert fresh.get_tuple(at()).checkpoint["channel_values"]["items"] == items


SIZES = [1, 63, 64, 65, 128, 1999, 2001, 8001]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_the_bounds(saver: RedisSaver, fresh: RedisSaver, raw: Any, prefix: str, size: int) -> None:
    """Lists whose sizes touch segments of 64 and chunks of 2,000 grow, shrink and read back equal."""
    items = [HumanMessage(str(number), id=str(number)) for number in range(size)]
    writer = Writer(saver)
    versions = [items, [*items, *items[:64]], items[1:], items[size // 2 :], [*items[1:], *items[:1]], items[::7]]
    configs = [writer.put(items=version) for version in versions]
    for config, version in zip(configs, versions, strict=True):
        assert fresh.get_tuple(config).checkpoint["channel_values"]["items"] == version
    saver.prune(["t"])
    assert fresh.get_tuple(at()).checkpoint["channel_values"]["items"] == versions[-1]
    assert_whole(raw.hgetall(key_of(prefix)), exact=True)


def test_a_hundred_thousand_messages(redis_server: Any, prefix: str) -> None:
    """A list of 100,000 messages, more words than one command may have, is stored, halved, pruned and read."""
    items = [HumanMessage(f"number {number}", id=str(number)) for number in range(100_000)]
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        writer = Writer(saver)
        writer.put(items=items)
        writer.put(items=items[50_000:])
        saver.prune(["t"])
        assert saver.get_tuple(at()).checkpoint["channel_values"]["items"] == items[50_000:]
        assert raw.hlen(key_of(prefix)) < 55_000


def test_a_large_value_goes_ahead_in_parts(redis_server: Any, prefix: str) -> None:
    """If the elements exceed one command's size, they are sent before it, and none of them is lost."""
    items = [{"number": number, "text": str(number) * 4_000_000} for number in range(10)]
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        saver.put_writes(at(checkpoint_id="1"), [("items", items)], "task")
        last = Writer(saver).put(items=items)
        assert saver.get_tuple(last).checkpoint["channel_values"]["items"] == items


def longest_script_ms(raw: Any) -> float:
    """How long the longest command since the last reset of the slow log held the server."""
    return max(entry[2] for entry in raw.execute_command("SLOWLOG", "GET", 128)) / 1000


def test_another_order_takes_no_more_time_than_another_list(redis_server: Any, prefix: str) -> None:
    """A list in thousands of pieces, put into another order, holds the server about as long as a new one does."""
    items = [HumanMessage(f"number {number}", id=str(number)) for number in range(20_000)]
    swapped = [items[number ^ 8] for number in range(20_000)]  # runs of 8 change places: 2,500 pieces
    shuffled = random.Random(1).sample(items, len(items))
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        raw.execute_command("CONFIG", "SET", "slowlog-log-slower-than", "0")
        raw.execute_command("SLOWLOG", "RESET")
        writer = Writer(saver)
        writer.put(items=items)
        writer.put(items=swapped)
        whole = longest_script_ms(raw)
        raw.execute_command("SLOWLOG", "RESET")
        last = writer.put(items=shuffled)
        reordered = longest_script_ms(raw)
        raw.execute_command("CONFIG", "SET", "slowlog-log-slower-than", "10000")
        assert saver.get_tuple(last).checkpoint["channel_values"]["items"] == shuffled
        assert reordered < 10 * whole


def test_many_small_edits_stay_small(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """A list edited in the middle on each step takes neither more and more pieces nor more and more time."""
    items = [HumanMessage(str(number), id=str(number)) for number in range(100)]
    writer = Writer(saver)
    generator = random.Random(2)
    for step in range(60):
        items = [*items]
        items[generator.randrange(100)] = HumanMessage(f"changed {step}", id=f"c{step}")
        last = writer.put(items=items)
    fields = raw.hgetall(key_of(prefix))
    longest = max(len(value) for name, value in fields.items() if name.startswith(b"v"))
    assert longest <= 18 + 8 * (16 + 100 // 8 + 1)
    assert saver.get_tuple(last).checkpoint["channel_values"]["items"] == items


def test_small_things_are_not_shared(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Only large items are stored one by one: 200,000 numbers take at most 1.3 times their msgpack size."""
    numbers = list(range(200_000))
    writer = Writer(saver)
    writer.put(start=1)
    before = raw.memory_usage(key_of(prefix), samples=0)
    last = writer.put(numbers=numbers)
    assert saver.get_tuple(last).checkpoint["channel_values"]["numbers"] == numbers
    assert raw.memory_usage(key_of(prefix), samples=0) - before <= 1.3 * len(ormsgpack.packb(numbers))
    assert not [name for name in raw.hkeys(key_of(prefix)) if name.startswith((b"g", b"n"))]


MIXED = [
    [],
    [None],
    [HumanMessage("a")],
    [HumanMessage("a"), 1, "x", None, {"a": [1]}, HumanMessage("a"), [HumanMessage("b")], (1, 2), "\ud800", LONG],
    [ToolMessage(LONG, tool_call_id="1", artifact=HumanMessage(LONG))],
    [{"text": LONG, "n": 1}, {"text": LONG, "n": True}, {"text": LONG, "n": 1.0}],
    [[LONG, [LONG]], [LONG, [LONG]]],
    [b"x" * 500, bytearray(b"x" * 500), "x" * 500],
]


@pytest.mark.parametrize("encrypted", [False, True])
def test_lists_of_anything(server: Any, prefix: str, encrypted: bool) -> None:
    """Lists that mix messages with anything else keep every item's type and order, one after the other."""
    serde = EncryptedRedisSerializer(b"k" * 32) if encrypted else None
    with RedisSaver.from_url(server.url, prefix=prefix, serde=serde) as saver:
        writer = Writer(saver)
        configs = [writer.put(items=items, other=items) for items in MIXED]
        for config, items in zip(configs, MIXED, strict=True):
            values = saver.get_tuple(config).checkpoint["channel_values"]
            assert repr(values["items"]) == repr(items)
            assert values["items"] == values["other"] == items


def test_no_list_is_anothers(saver: RedisSaver) -> None:
    """Changing the result of one read, or one channel's value, does not change another."""
    writer = Writer(saver)
    items = [HumanMessage(LONG)]
    last = writer.put(a=items, b=items)
    first, second = (saver.get_tuple(last).checkpoint["channel_values"] for _ in range(2))
    first["a"][0].content = "changed"
    first["a"].append(1)
    assert first["b"] == second["a"] == [HumanMessage(LONG)]


def test_out_of_order(saver: RedisSaver, raw: Any, prefix: str) -> None:
    """Checkpoints that arrive late, or twice, take their place among the others."""
    ids = [f"{number:04}" for number in range(30)]
    order = random.Random(3).sample(ids, len(ids))
    writer = Writer(saver)
    for id_ in [*order, *order[:5]]:
        writer.put(id_, items=[HumanMessage(id_)])
    assert [id_of(each.config) for each in saver.list(at())] == ids[::-1]
    assert id_of(saver.get_tuple(at()).config) == ids[-1]
    assert_whole(raw.hgetall(key_of(prefix)))
    before = at(checkpoint_id="0010")
    assert [id_of(each.config) for each in saver.list(at(), before=before, limit=3)] == ["0009", "0008", "0007"]


def test_before_what_is_not_there(saver: RedisSaver) -> None:
    """A page of the past is found whether or not the checkpoint that it precedes exists."""
    writer = Writer(saver)
    for number in range(0, 60, 2):
        writer.put(f"{number:04}", n=number)
    listed = [id_of(each.config) for each in saver.list(at(), before=at(checkpoint_id="0035"))]
    assert listed == [f"{number:04}" for number in range(34, -1, -2)]
