"""Checkpoints listed together: common values are read and built once, and changing one changes no other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from ecowas_lc.checkpoint import EncryptedRedisSerializer, RedisSaver
from ecowas_lc.checkpoint.codec import message_arrays
from ecowas_lc.checkpoint.codec import serializer as serializer_module
from ecowas_lc.checkpoint.codec.elements import Elements
from ecowas_lc.errors import CorruptDataError
from tests.fixtures.proxy import running_proxy
from tests.redis.writer import Writer, at, id_of, key_of

PAGE = 20


@pytest.fixture(params=["plain", "encrypted"])
def saver(request: pytest.FixtureRequest, redis_server: Any, prefix: str) -> Iterator[RedisSaver]:
    serde = EncryptedRedisSerializer(b"k" * 32) if request.param == "encrypted" else None
    with RedisSaver.from_url(redis_server.url, prefix=prefix, serde=serde) as saver:
        yield saver


def message(number: int) -> AnyMessage:
    text = f"{number} " + "x" * (300 if number % 2 else 20)
    if number % 2:
        call = {"name": "look", "args": {"at": [number]}, "id": str(number), "type": "tool_call"}
        return AIMessage(text, id=str(number), tool_calls=[call], response_metadata={"a": {"b": [number]}})
    return HumanMessage(text, id=str(number))


def grow(saver: RedisSaver, count: int) -> None:
    """A thread whose list of messages grows by one each time."""
    writer = Writer(saver)
    for number in range(count):
        writer.put(messages=[*writer.values.get("messages", ()), message(number)], kept={"text": ["y" * 200]})


def made_by(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> int:
    """How many messages are built."""
    made = 0
    unpack = message_arrays.unpack_array

    def counted(*given: Any) -> Any:
        nonlocal made
        made += 1
        return unpack(*given)

    with monkeypatch.context() as patch:
        patch.setattr(serializer_module, "unpack_array", counted)
        work()
    return made


@pytest.mark.parametrize("count", [30, 90])
def test_each_message_is_made_once(saver: RedisSaver, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A list of ten checkpoints and a walk of them all make each message once, filtered or not."""
    grow(saver, count)
    assert made_by(monkeypatch, lambda: list(saver.list(at(), limit=10))) == count
    assert made_by(monkeypatch, lambda: list(saver.list(at()))) == count
    assert made_by(monkeypatch, lambda: list(saver.list(at(), filter={"source": "loop"}))) == count
    assert (
        made_by(
            monkeypatch, lambda: [dict(each.checkpoint["channel_values"]) for each in saver.list(at(), limit=1)]
        )
        == count
    )
    assert made_by(monkeypatch, lambda: list(saver.list(at(), limit=PAGE + 1))) == count
    # Those of the checkpoint that you look at are built again, only for it.
    fourth = list(saver.list(at(), limit=10))[3].checkpoint["channel_values"]
    assert made_by(monkeypatch, fourth.values) == count - 3
    assert made_by(monkeypatch, fourth.values) == 0


def test_what_travels(redis_server: Any, prefix: str) -> None:
    """A walk takes one flush per page, and the replies grow with the thread, not with its square."""
    received = []
    with running_proxy(redis_server.port) as proxy, RedisSaver.from_url(proxy.url, prefix=prefix) as saver:
        for number, count in enumerate((2 * PAGE, 8 * PAGE)):
            writer = Writer(saver, str(number))
            for each in range(count):
                writer.put(messages=[*writer.values.get("messages", ()), message(each)], same=["z" * 40_000])
                if each == 0:
                    writer.put(note=1)
            list(saver.list(at(str(number))))
            proxy.reset_counts()
            assert len(list(saver.list(at(str(number))))) == count + 1
            assert proxy.flushes == count // PAGE + 1
            received.append(proxy.received)
    assert received[1] < 4.5 * received[0]


def updated(values: dict[str, Any]) -> Any:
    into: dict[str, Any] = {}
    into.update(values)
    return into["messages"]


def ways() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """How a channel's value is taken out of a checkpoint."""
    return {
        "index": lambda values: values["messages"],
        "get": lambda values: values.get("messages"),
        "items": lambda values: next(value for name, value in values.items() if name == "messages"),
        "values": lambda values: next(value for value in values.values() if type(value) is list),
        "dict": lambda values: dict(values)["messages"],
        "unpacked": lambda values: {**values}["messages"],
        "keywords": lambda values: (lambda **given: given)(**values)["messages"],
        "update": updated,
        "or": lambda values: (values | {})["messages"],
        "or, right": lambda values: ({} | values)["messages"],
        "method": lambda values: values.copy()["messages"],
        "copy": lambda values: copy.copy(values)["messages"],
        "deepcopy": lambda values: copy.deepcopy(values)["messages"],
        "pickle": lambda values: pickle.loads(pickle.dumps(values))["messages"],
        "pop": lambda values: values.pop("messages"),
        "popitem": lambda values: next(v for k, v in iter(values.popitem, None) if k == "messages"),
        "setdefault": lambda values: values.setdefault("messages"),
    }


@pytest.mark.parametrize("way", ways())
def test_a_change_stays_in_its_checkpoint(redis_server: Any, prefix: str, way: str) -> None:
    """However a value is taken out of a listed checkpoint, a change to it is seen in no other, on no page."""
    take = ways()[way]
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        grow(saver, PAGE + 4)
        expected = [list(map(message, range(count))) for count in range(PAGE + 4, 0, -1)]
        listed = list(saver.list(at()))
        for place in (0, 1, PAGE - 1, PAGE, PAGE + 1):
            taken = take(listed[place].checkpoint["channel_values"])
            assert taken == expected[place]
            for each in taken:
                each.content = "changed"
                each.additional_kwargs["changed"] = True
                if isinstance(each, AIMessage):
                    each.tool_calls[0]["args"]["at"].append("changed")
                    each.response_metadata["a"]["b"].append("changed")
            taken.append("changed")
        others = [number for number in range(PAGE + 4) if number not in (0, 1, PAGE - 1, PAGE, PAGE + 1)]
        for number in others:
            assert listed[number].checkpoint["channel_values"] == {
                "messages": expected[number],
                "kept": {"text": ["y" * 200]},
            }
            assert listed[number].checkpoint["channel_values"]["messages"] == expected[number]
        assert [each.checkpoint["channel_values"]["messages"] for each in saver.list(at())] == expected


def test_a_change_stays_in_its_own_checkpoint(saver: RedisSaver) -> None:
    """Whatever you change, set or delete in a checkpoint's values is kept in that checkpoint."""
    writer = Writer(saver)
    for number in range(3):
        new: dict[str, Any] = {} if number else {"kept": {"text": ["y" * 2000]}, "messages": [message(1)]}
        writer.put(n=number, **new)
    first, second, third = (each.checkpoint["channel_values"] for each in saver.list(at()))
    first["kept"]["text"].append("changed")
    first["messages"][0].content = "changed"
    assert first["kept"] is first["kept"]
    assert (first["kept"]["text"][1:], first["messages"][0].content) == (["changed"], "changed")
    second["kept"] = None
    del second["messages"]
    assert (second["kept"], second.get("messages", 0), second.pop("messages", 0)) == (None, 0, 0)
    with pytest.raises(KeyError):
        second["messages"]
    with pytest.raises(KeyError):
        second.pop("messages")
    assert third == {"n": 0, "kept": {"text": ["y" * 2000]}, "messages": [message(1)]}
    assert list(third) == list(dict(third)) == list(third.keys())


def test_listed_as_read_one_by_one(saver: RedisSaver) -> None:
    """However lists change between checkpoints and pages, listing yields the same as reading each checkpoint."""
    outer, inner = Writer(saver), Writer(saver, ns="inner:1")
    steps: list[list[Any]] = []
    for number in range(60):
        before = steps[-1] if steps else []
        changes = {
            0: [*before, message(number)],
            1: before[2:],
            2: [message(number), *before],
            3: [message(number) if place == 1 else each for place, each in enumerate(before)],
            4: before + before[:1],
            5: [],
            6: [message(each) for each in range(number)],
        }
        steps.append(changes[(number * number + number // 7) % 7])
        outer.put(messages=steps[-1], snapshot=_DeltaSnapshot(steps[-1]), big={"n": ["x" * 3000] * (number // 9)})
        outer.put(note=number)
        if number % 3 == 0:
            inner.put(messages=steps[-1], other=steps[-1][::-1])
    every = list(saver.list(at(ns=None)))
    assert len(every) == 140
    for listed in every:
        assert listed == saver.get_tuple(listed.config)
    assert list(saver.list(at(ns=None), filter={"source": "loop"})) == every
    assert list(saver.list(at(ns=None), limit=PAGE + 1)) == every[: PAGE + 1]
    some = list(saver.list(at(ns=None), before=every[30].config, limit=45))
    assert [id_of(each.config) for each in some] == [id_of(each.config) for each in every[31:76]]
    assert some == every[31:76]


def test_a_walk_forgets_what_it_is_past(redis_server: Any, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk over large values that all differ holds those of a few pages at a time, not of the thread."""
    held = []
    add = Elements.add

    def seen(self: Elements, more: Elements) -> None:
        add(self, more)
        held.append(len(self))

    monkeypatch.setattr(Elements, "add", seen)
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        writer = Writer(saver)
        for number in range(8 * PAGE):
            writer.put(messages=[HumanMessage(f"{number}" + "x" * 60_000, id=str(number))])
        values = (each.checkpoint["channel_values"]["messages"][0].id for each in saver.list(at()))
        assert list(values) == [str(number) for number in reversed(range(8 * PAGE))]
    assert len(held) == 7
    assert max(held) < 4 * PAGE * 60_000


@pytest.mark.parametrize(
    "value",
    [b"s" + bytes(8), b"b" + b"b" + bytes(16) + bytes(8) + b"\0\0\0\x10", b"k" + bytes(17), b"s", b""],
)
def test_a_stored_value_is_no_reference(redis_server: Any, prefix: str, value: bytes) -> None:
    """A stored value that imitates a part of a reply is refused, not followed."""
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver, redis_server.client() as raw:
        writer = Writer(saver)
        writer.put(a={"x": "y" * 100})
        writer.put(b={"x": "y" * 100})
        [field] = [each for each in raw.hkeys(key_of(prefix)) if each.startswith(b"v\0b\0")]
        raw.hset(key_of(prefix), field, value)
        with pytest.raises(CorruptDataError):
            list(saver.list(at()))
        with pytest.raises(CorruptDataError):
            RedisSaver.from_url(redis_server.url, prefix=prefix).get_tuple(at())
