"""The promises of langgraph's ``BaseStore`` as checks: one promise each, on a new and empty store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)

Run = Callable[[Any], Awaitable[None]]
_DEADLINE_SECONDS = 3.0
_SOON = 0.005  # minutes


class UnsupportedError(Exception):
    """Raised if the store does not support what a check requires."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise.

    ``index_fields``: the check needs an index of these fields; ``ttl``: it needs expiry with this configuration.
    """

    capability: str
    name: str
    promise: str
    run: Run
    index_fields: tuple[str, ...] | None = None
    ttl: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.capability}-{self.name}"


CHECKS: list[Check] = []


def _check(
    capability: str, *, index_fields: tuple[str, ...] | None = None, ttl: Mapping[str, Any] | None = None
) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        name = getattr(run, "__name__", "").strip("_")
        promise = (run.__doc__ or "").strip()
        CHECKS.append(Check(capability, name, promise, run, index_fields, ttl))
        return run

    return register


NS = ("memories", "ama")


def _keys(items: list[Any]) -> list[str]:
    return [item.key for item in items]


async def _raises(kind: type[Exception], call: Awaitable[Any], what: str) -> None:
    try:
        await call
    except kind:
        return
    raise AssertionError(f"{what} was accepted")


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + _DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < end, f"not within {_DEADLINE_SECONDS:.0f} s: {what}"
        await asyncio.sleep(0.02)


# --- put, get, delete ---


@_check("put")
async def _what_was_put_is_read(calls: Any) -> None:
    """``get`` returns the value, the key, the namespace and two times with a time zone."""
    await calls("put", NS, "k", {"text": "hello", "count": 3})
    item = await calls("get", NS, "k")
    assert item.value == {"text": "hello", "count": 3}
    assert (item.namespace, item.key) == (NS, "k")
    for moment in (item.created_at, item.updated_at):
        assert isinstance(moment, datetime), moment
        assert moment.tzinfo is not None, "a time without a time zone"


@_check("put")
async def _every_json_value_comes_back(calls: Any) -> None:
    """Nested dicts and lists, all kinds of numbers, booleans, ``None`` and any text come back the same."""
    value = {
        "text": "Lomé – 安全 \U0001f33e \" ' \\ \n \u0001",
        "": "an empty name",
        "a.b": {"$c": [1, [2, {"d": None}], []], "e": {}},
        "numbers": [0, -1, 2**53, 1.5, -1e-9, 1e300],
        "flags": [True, False, None],
    }
    await calls("put", NS, "k", value)
    found = (await calls("get", NS, "k")).value
    assert found == value, f"{found} is not {value}"
    assert [type(flag) for flag in found["flags"]] == [bool, bool, type(None)]


@_check("put")
async def _an_empty_value_is_a_value(calls: Any) -> None:
    """``{}`` is stored; only ``None`` deletes."""
    await calls("put", NS, "k", {})
    item = await calls("get", NS, "k")
    assert item is not None, "an empty value was taken for a deletion"
    assert item.value == {}


@_check("put")
async def _a_put_replaces_the_whole_value(calls: Any) -> None:
    """Putting again replaces the value and merges nothing."""
    await calls("put", NS, "k", {"a": 1, "b": 2})
    await calls("put", NS, "k", {"a": 3})
    assert (await calls("get", NS, "k")).value == {"a": 3}
    assert len(await calls("search", NS)) == 1


@_check("put")
async def _a_change_of_the_callers_value_changes_nothing(calls: Any) -> None:
    """What was put does not change with the caller's object, nor with what ``get`` returned."""
    value = {"list": [1]}
    await calls("put", NS, "k", value)
    value["list"].append(2)
    (await calls("get", NS, "k")).value["list"].append(3)
    assert (await calls("get", NS, "k")).value == {"list": [1]}, "the stored value is the caller's object"


@_check("put")
async def _what_is_not_json_is_refused(calls: Any) -> None:
    """NaN, infinity, sets and keys that are not text are refused at any depth, and nothing is stored."""
    for value in ({"x": float("nan")}, {"x": [{"y": float("inf")}]}, {"x": {1}}, {"x": {1: 2}}):
        await _raises(Exception, calls("put", NS, "k", value), repr(value))
        assert await calls("get", NS, "k") is None


@_check("get")
async def _what_is_not_there_is_none(calls: Any) -> None:
    """``get`` returns ``None`` for a key or a namespace that does not exist."""
    assert await calls("get", NS, "k") is None
    await calls("put", NS, "k", {"a": 1})
    assert await calls("get", NS, "other") is None
    assert await calls("get", (*NS, "below"), "k") is None
    assert await calls("get", NS[:1], "k") is None


@_check("get")
async def _keys_are_any_text(calls: Any) -> None:
    """A key is any text: separators, wildcards, quotes, letter case and accents tell keys apart."""
    keys = ["k", "K", "k:1", "k/1", "k.1", "k 1", "k%", "k_", "k*", "k'\"", "é", "e\u0301", "{k}", "k\n", "$", "0"]
    for number, key in enumerate(keys):
        await calls("put", NS, key, {"n": number})
    for number, key in enumerate(keys):
        item = await calls("get", NS, key)
        assert item is not None, f"the key {key!r} is lost"
        assert (item.key, item.value) == (key, {"n": number}), f"{key!r} was mixed up with another key"
    found = _keys(await calls("search", NS, limit=100))
    assert sorted(found) == sorted(keys), "search does not return every key"


@_check("delete")
async def _what_was_deleted_is_gone(calls: Any) -> None:
    """A deleted item is not found by any method, and the other items stay."""
    await calls("put", NS, "a", {"n": 1})
    await calls("put", NS, "b", {"n": 2})
    await calls("delete", NS, "a")
    assert await calls("get", NS, "a") is None
    assert _keys(await calls("search", NS)) == ["b"]
    await calls("delete", NS, "a")
    await calls("delete", ("nowhere",), "a")


@_check("delete")
async def _a_put_of_none_deletes(calls: Any) -> None:
    """``PutOp`` with the value ``None`` deletes the item."""
    await calls("put", NS, "a", {"n": 1})
    assert await calls("batch", [PutOp(NS, "a", None)]) == [None]
    assert await calls("get", NS, "a") is None


@_check("timestamps")
async def _created_at_survives_updates(calls: Any) -> None:
    """An update moves ``updated_at`` and leaves ``created_at``."""
    await calls("put", NS, "k", {"n": 1})
    first = await calls("get", NS, "k")

    async def moved() -> bool:
        await calls("put", NS, "k", {"n": 2})
        return bool((await calls("get", NS, "k")).updated_at > first.updated_at)

    await _until(moved, "updated_at moves")
    second = await calls("get", NS, "k")
    assert second.created_at == first.created_at, "created_at changed with an update"
    assert second.updated_at >= second.created_at


@_check("timestamps")
async def _a_deleted_item_begins_anew(calls: Any) -> None:
    """An item that was deleted and put again has a new ``created_at``."""
    await calls("put", NS, "k", {"n": 1})
    first = await calls("get", NS, "k")

    async def later() -> bool:
        await calls("delete", NS, "k")
        await calls("put", NS, "k", {"n": 1})
        return bool((await calls("get", NS, "k")).created_at > first.created_at)

    await _until(later, "created_at moves")


# --- namespaces ---


@_check("namespaces")
async def _bad_namespaces_are_refused(calls: Any) -> None:
    """An empty namespace, empty labels, labels with periods or that are not text, and the root ``langgraph``."""
    for namespace in ((), ("a", ""), ("a.b",), ("a", 1), ("langgraph", "x")):
        await _raises(InvalidNamespaceError, calls("put", namespace, "k", {"n": 1}), repr(namespace))
    assert await calls("search", ()) == []


@_check("namespaces")
async def _no_two_namespaces_meet(calls: Any) -> None:
    """Namespaces are compared label by label and exactly: separators, wildcards and letter case are text."""
    spaces: list[tuple[str, ...]] = [
        ("a", "b:c"),
        ("a:b", "c"),
        ("a", "b", "c"),
        ("a", "B", "c"),
        ("a/b", "c"),
        ("a%", "c"),
        ("a_", "c"),
        ("ab", "c"),
        ("*", "c"),
        ("a'", "c"),
        ("é", "c"),
        ("a ", "c"),
        ("{a}", "c"),
    ]
    for number, space in enumerate(spaces):
        await calls("put", space, "k", {"n": number})
    for number, space in enumerate(spaces):
        assert (await calls("get", space, "k")).value == {"n": number}, (
            f"{space} was mixed up with another namespace"
        )
        found = [(item.namespace, item.value["n"]) for item in await calls("search", space)]
        assert found == [(space, number)], f"searching {space} found {found}"
    assert sorted(await calls("list_namespaces")) == sorted(spaces)


@_check("namespaces")
async def _a_prefix_ends_where_a_label_ends(calls: Any) -> None:
    """A search under ``("user",)`` does not find what is under ``("user2",)``."""
    await calls("put", ("user", "x"), "k", {"n": 1})
    await calls("put", ("user2", "x"), "k", {"n": 2})
    await calls("put", ("user",), "k", {"n": 3})
    assert sorted(item.value["n"] for item in await calls("search", ("user",))) == [1, 3]


@_check("namespaces")
async def _equal_keys_in_two_namespaces_are_two_items(calls: Any) -> None:
    """The same key in two namespaces names two items."""
    await calls("put", ("a",), "k", {"n": 1})
    await calls("put", ("a", "b"), "k", {"n": 2})
    await calls("delete", ("a",), "k")
    assert (await calls("get", ("a", "b"), "k")).value == {"n": 2}


# --- search without a query ---


async def _fill(calls: Any) -> None:
    for number in range(12):
        namespace = ("docs", "even" if number % 2 == 0 else "odd")
        value = {
            "n": number,
            "kind": "report" if number < 6 else "letter",
            "big": number >= 6,
            "name": f"d{number:02}",
        }
        await calls("put", namespace, f"k{number}", value)


@_check("search")
async def _search_finds_what_is_below(calls: Any) -> None:
    """A search finds every item under the namespace prefix; the empty one finds all."""
    await _fill(calls)
    assert len(await calls("search", ("docs",), limit=50)) == 12
    assert len(await calls("search", ("docs", "even"), limit=50)) == 6
    assert len(await calls("search", (), limit=50)) == 12
    assert await calls("search", ("docs", "neither")) == []
    found = (await calls("search", ("docs", "odd"), limit=1))[0]
    assert found.namespace == ("docs", "odd")
    assert found.score is None
    assert found.value["n"] % 2 == 1


@_check("search")
async def _limit_and_offset_page_through(calls: Any) -> None:
    """At most ``limit`` items, ten by default; pages repeat nothing and leave nothing out."""
    await _fill(calls)
    assert len(await calls("search", ("docs",))) == 10
    pages = [_keys(await calls("search", ("docs",), limit=5, offset=start)) for start in (0, 5, 10, 15)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert len({key for page in pages for key in page}) == 12, "pages overlap"


@_check("filter")
async def _filters_compare_values(calls: Any) -> None:
    """A filter names values that must all be equal."""
    await _fill(calls)
    for wanted, count in (
        ({"kind": "report"}, 6),
        ({"kind": "report", "n": 3}, 1),
        ({"kind": "none"}, 0),
        ({}, 12),
    ):
        assert len(await calls("search", ("docs",), filter=wanted, limit=50)) == count, wanted
    assert len(await calls("search", ("docs",), filter={"big": True}, limit=50)) == 6
    assert len(await calls("search", ("docs",), filter={"big": False}, limit=50)) == 6


@_check("filter")
async def _filter_operators(calls: Any) -> None:
    """``$eq``, ``$ne``, ``$gt``, ``$gte``, ``$lt`` and ``$lte``; several of them must all hold."""
    await _fill(calls)
    for wanted, count in (
        ({"n": {"$eq": 4}}, 1),
        ({"n": {"$ne": 4}}, 11),
        ({"n": {"$gt": 9}}, 2),
        ({"n": {"$gte": 9}}, 3),
        ({"n": {"$lt": 2}}, 2),
        ({"n": {"$lte": 2}}, 3),
        ({"n": {"$gt": 2, "$lt": 5}}, 2),
        ({"n": {"$gt": 2.5}}, 9),
        ({"kind": {"$ne": "report"}}, 6),
        ({"n": {"$gte": 6}, "kind": "letter"}, 6),
    ):
        found = await calls("search", ("docs",), filter=wanted, limit=50)
        assert len(found) == count, f"{wanted} found {len(found)} items, not {count}"


@_check("filter")
async def _filters_apply_before_the_limit(calls: Any) -> None:
    """``limit`` and ``offset`` count what passes the filter."""
    await _fill(calls)
    wanted = {"kind": "letter"}
    first = _keys(await calls("search", ("docs",), filter=wanted, limit=4))
    second = _keys(await calls("search", ("docs",), filter=wanted, limit=4, offset=4))
    assert (len(first), len(second)) == (4, 2)
    assert not set(first) & set(second)


@_check("filter")
async def _unknown_operators_are_refused(calls: Any) -> None:
    """An unknown operator raises a ``ValueError`` instead of silently matching nothing."""
    await _fill(calls)
    await _raises(ValueError, calls("search", ("docs",), filter={"n": {"$near": 3}}), "$near")


@_check("filter")
async def _filter_values_are_compared_as_they_are(calls: Any) -> None:
    """Lists, dicts, ``None`` and text with quotes are compared as JSON is; texts by their order."""
    await calls("put", NS, "a", {"tags": ["x", "y"], "at": {"city": "Lomé"}, "none": None, "text": 'it\'s "so"'})
    await calls("put", NS, "b", {"tags": ["x"], "at": {"city": "Accra"}, "none": 0, "text": "plain"})
    for wanted, keys in (
        ({"tags": ["x", "y"]}, ["a"]),
        ({"at": {"city": "Accra"}}, ["b"]),
        ({"none": None}, ["a"]),
        ({"text": 'it\'s "so"'}, ["a"]),
        ({"text": {"$gt": "k"}}, ["b"]),
    ):
        assert _keys(await calls("search", NS, filter=wanted)) == keys, wanted


# --- list_namespaces ---


SPACES = [
    ("a", "b", "c"),
    ("a", "b", "d", "e"),
    ("a", "b", "d", "i"),
    ("a", "b", "f"),
    ("a", "c", "f"),
    ("b", "a"),
    ("users", "123", "prefs"),
    ("users", "456", "prefs"),
    ("users", "456"),
]


async def _fill_spaces(calls: Any) -> None:
    for space in SPACES:
        await calls("put", space, "k", {"n": 1})


@_check("list_namespaces")
async def _each_namespace_once(calls: Any) -> None:
    """Every namespace with items, once, in a stable order."""
    await _fill_spaces(calls)
    await calls("put", ("a", "b", "c"), "k2", {"n": 2})
    found = await calls("list_namespaces")
    assert sorted(found) == sorted(SPACES)
    assert found == await calls("list_namespaces")


@_check("list_namespaces")
async def _a_namespace_without_items_is_not_listed(calls: Any) -> None:
    """A namespace whose last item was deleted is gone; those below it stay."""
    await _fill_spaces(calls)
    await calls("delete", ("users", "456"), "k")
    await calls("delete", ("b", "a"), "k")
    found = await calls("list_namespaces")
    assert sorted(found) == sorted(set(SPACES) - {("users", "456"), ("b", "a")})


@_check("list_namespaces")
async def _prefix_and_suffix(calls: Any) -> None:
    """``prefix`` and ``suffix`` compare whole labels, alone and together."""
    await _fill_spaces(calls)
    for options, count in (
        ({"prefix": ("a", "b")}, 4),
        ({"prefix": ("a",)}, 5),
        ({"prefix": ("use",)}, 0),
        ({"suffix": ("f",)}, 2),
        ({"suffix": ("d", "e")}, 1),
        ({"prefix": ("users",), "suffix": ("prefs",)}, 2),
        ({"prefix": ("a", "b", "c", "d", "e")}, 0),
    ):
        found = await calls("list_namespaces", **options)
        assert len(found) == count, f"{options} found {found}"


@_check("list_namespaces")
async def _wildcards_stand_for_one_label(calls: Any) -> None:
    """``*`` in a prefix or suffix stands for any one label."""
    await _fill_spaces(calls)
    for options, count in (
        ({"prefix": ("users", "*", "prefs")}, 2),
        ({"prefix": ("*", "b")}, 4),
        ({"prefix": ("a", "*", "f")}, 2),
        ({"suffix": ("*", "prefs")}, 2),
        ({"suffix": ("b", "*")}, 3),
        ({"prefix": ("users", "*", "*")}, 2),
    ):
        found = await calls("list_namespaces", **options)
        assert len(found) == count, f"{options} found {found}"


@_check("list_namespaces")
async def _max_depth_cuts_and_lists_once(calls: Any) -> None:
    """``max_depth`` cuts namespaces, and what becomes equal is listed once."""
    await _fill_spaces(calls)
    found = await calls("list_namespaces", prefix=("a", "b"), max_depth=3)
    assert sorted(found) == [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")]
    assert sorted(await calls("list_namespaces", max_depth=1)) == [("a",), ("b",), ("users",)]


@_check("list_namespaces")
async def _limit_and_offset(calls: Any) -> None:
    """Pages of namespaces repeat nothing and leave nothing out, also of those that were cut."""
    await _fill_spaces(calls)
    pages = [await calls("list_namespaces", limit=4, offset=start) for start in (0, 4, 8, 12)]
    assert [len(page) for page in pages] == [4, 4, 1, 0]
    assert sorted(space for page in pages for space in page) == sorted(SPACES)
    cut = [await calls("list_namespaces", max_depth=1, limit=2, offset=start) for start in (0, 2)]
    assert sorted(space for page in cut for space in page) == [("a",), ("b",), ("users",)]


@_check("list_namespaces")
async def _all_conditions_must_hold(calls: Any) -> None:
    """A ``ListNamespacesOp`` with several conditions lists what fits all of them."""
    await _fill_spaces(calls)
    op = ListNamespacesOp(
        match_conditions=(MatchCondition("prefix", ("a", "*")), MatchCondition("suffix", ("f",)))
    )
    [found] = await calls("batch", [op])
    assert sorted(found) == [("a", "b", "f"), ("a", "c", "f")]


# --- batch ---


@_check("batch")
async def _results_are_in_the_order_of_the_operations(calls: Any) -> None:
    """Results are in the order of their operations, whatever their kinds."""
    await calls("put", NS, "a", {"n": 1})
    results = await calls(
        "batch",
        [
            SearchOp(NS),
            GetOp(NS, "a"),
            PutOp(("other",), "x", {"n": 9}),
            GetOp(NS, "missing"),
            ListNamespacesOp(),
            GetOp(NS, "a"),
        ],
    )
    assert len(results) == 6
    assert _keys(results[0]) == ["a"]
    assert results[1].value == results[5].value == {"n": 1}
    assert results[2] is None
    assert results[3] is None
    assert NS in results[4]
    assert (await calls("get", ("other",), "x")).value == {"n": 9}


@_check("batch")
async def _the_last_of_several_writes_counts(calls: Any) -> None:
    """Of several writes to a key in a batch the last one counts."""
    await calls("batch", [PutOp(NS, "a", {"n": 1}), PutOp(NS, "a", None), PutOp(NS, "a", {"n": 3})])
    assert (await calls("get", NS, "a")).value == {"n": 3}
    await calls("batch", [PutOp(NS, "a", {"n": 4}), PutOp(NS, "a", None)])
    assert await calls("get", NS, "a") is None


@_check("batch")
async def _an_empty_batch_does_nothing(calls: Any) -> None:
    """An empty batch returns nothing."""
    assert await calls("batch", []) == []


@_check("batch")
async def _a_bad_operation_writes_nothing(calls: Any) -> None:
    """If an operation is refused, nothing of its batch is written."""
    ops = [PutOp(NS, "a", {"n": 1}), PutOp(NS, "b", {"n": float("nan")})]
    await _raises(Exception, calls("batch", ops), "NaN")
    assert await calls("get", NS, "a") is None, "the batch was written in part"


@_check("batch")
async def _batches_check_namespaces_too(calls: Any) -> None:
    """A label with a period in an operation is refused: it must not address another namespace."""
    await calls("put", ("foo", "bar"), "k", {"n": 1})
    await _raises(InvalidNamespaceError, calls("batch", [GetOp(("foo.bar",), "k")]), "foo.bar")


@_check("concurrency")
async def _concurrent_writes_are_all_there(calls: Any) -> None:
    """All values that tasks write at the same time are stored."""
    await asyncio.gather(*(calls("put", (*NS, str(n % 3)), f"k{n}", {"n": n}) for n in range(30)))
    assert sorted(item.value["n"] for item in await calls("search", NS, limit=100)) == list(range(30))


# --- expiry ---


@_check("ttl", ttl={"refresh_on_read": False})
async def _an_item_expires(calls: Any) -> None:
    """After its time to live, no method finds an item, and its namespace is not listed; other items stay."""
    await calls("put", NS, "short", {"n": 1}, ttl=_SOON)
    await calls("put", ("stays",), "long", {"n": 2})
    await calls("put", ("stays",), "longer", {"n": 3}, ttl=600)

    async def gone() -> bool:
        return await calls("get", NS, "short") is None

    await _until(gone, "the item expires")
    assert await calls("search", NS) == []
    assert await calls("list_namespaces") == [("stays",)]
    assert len(await calls("search", ("stays",))) == 2


@_check("ttl", ttl={"refresh_on_read": True})
async def _reading_renews(calls: Any) -> None:
    """Reading an item renews its time to live, unless ``refresh_ttl=False``."""
    ttl = 3 * _SOON
    await calls("put", NS, "read", {"n": 1}, ttl=ttl)
    await calls("put", NS, "looked at", {"n": 2}, ttl=ttl)
    end = time.monotonic() + 120 * ttl
    while time.monotonic() < end:
        assert await calls("get", NS, "read") is not None, "reading did not renew the item"
        await calls("get", NS, "looked at", refresh_ttl=False)
        await asyncio.sleep(0.02)
    assert await calls("get", NS, "looked at", refresh_ttl=False) is None, "refresh_ttl=False renewed the item"


@_check("ttl", ttl={"refresh_on_read": True})
async def _searching_renews_what_it_returns(calls: Any) -> None:
    """A search renews the items that it returns."""
    ttl = 3 * _SOON
    await calls("put", NS, "k", {"n": 1}, ttl=ttl)
    end = time.monotonic() + 120 * ttl
    while time.monotonic() < end:
        assert await calls("search", NS), "searching did not renew the item"
        await asyncio.sleep(0.02)


@_check("ttl", ttl={"default_ttl": _SOON, "refresh_on_read": False})
async def _the_default_holds_unless_a_put_says(calls: Any) -> None:
    """``default_ttl`` applies to items put without a ``ttl``; an item with ``ttl=None`` never expires."""
    await calls("put", NS, "default", {"n": 1})
    await calls("put", NS, "kept", {"n": 2}, ttl=None)

    async def gone() -> bool:
        return await calls("get", NS, "default") is None

    await _until(gone, "the item expires by default")
    assert await calls("get", NS, "kept") is not None


@_check("ttl", ttl={"refresh_on_read": False})
async def _a_put_sets_the_time_anew(calls: Any) -> None:
    """A put without a time to live removes the one that an earlier put set."""
    await calls("put", NS, "k", {"n": 1}, ttl=_SOON)
    await calls("put", NS, "other", {"n": 1}, ttl=_SOON)
    await calls("put", NS, "k", {"n": 2})

    async def gone() -> bool:
        return await calls("get", NS, "other") is None

    await _until(gone, "the other item expires")
    assert (await calls("get", NS, "k")).value == {"n": 2}


# --- search by meaning ---


async def _fill_index(calls: Any) -> None:
    await calls("put", ("docs", "energy"), "sun", {"text": "solar solar", "year": 2020})
    await calls("put", ("docs", "energy"), "air", {"text": "wind", "year": 2021})
    await calls("put", ("docs", "energy"), "both", {"text": "solar wind", "year": 2022})
    await calls("put", ("docs", "mines"), "gold", {"text": "gold", "year": 2023})


@_check("index", index_fields=("text",))
async def _the_nearest_comes_first(calls: Any) -> None:
    """A query ranks by meaning: the nearest first, with scores that fall."""
    await _fill_index(calls)
    found = await calls("search", ("docs",), query="solar", limit=2)
    assert _keys(found) == ["sun", "both"]
    assert found[0].score > found[1].score
    assert _keys(await calls("search", ("docs",), query="gold", limit=1)) == ["gold"]
    assert _keys(await calls("search", ("docs", "energy"), query="gold wind", limit=1)) == ["air"]


@_check("index", index_fields=("text",))
async def _ranked_results_have_pages(calls: Any) -> None:
    """``limit`` and ``offset`` page through what a query found."""
    await _fill_index(calls)
    whole = _keys(await calls("search", ("docs",), query="solar wind", limit=4))
    pages = [_keys(await calls("search", ("docs",), query="solar wind", limit=2, offset=n)) for n in (0, 2)]
    assert pages[0] + pages[1] == whole


@_check("index", index_fields=("text",))
async def _a_filter_goes_with_a_query(calls: Any) -> None:
    """A query ranks what passes the filter."""
    await _fill_index(calls)
    found = await calls("search", ("docs",), query="solar", filter={"year": {"$gte": 2021}}, limit=1)
    assert _keys(found) == ["both"]


@_check("index", index_fields=("text",))
async def _an_update_is_found_by_its_new_text(calls: Any) -> None:
    """After an update, a query finds the new text and no longer the old one."""
    await _fill_index(calls)
    await calls("put", ("docs", "energy"), "sun", {"text": "cattle", "year": 2020})
    assert _keys(await calls("search", ("docs",), query="cattle", limit=1)) == ["sun"]
    assert _keys(await calls("search", ("docs",), query="solar", limit=1)) == ["both"]


@_check("index", index_fields=("text",))
async def _a_deleted_item_is_not_found(calls: Any) -> None:
    """A deleted item is not found, even by a store that keeps a copy of the index."""
    await _fill_index(calls)
    assert _keys(await calls("search", ("docs",), query="solar", limit=1)) == ["sun"]
    await calls("delete", ("docs", "energy"), "sun")
    assert "sun" not in _keys(await calls("search", ("docs",), query="solar", limit=10))


@_check("index", index_fields=("text",))
async def _index_false_keeps_an_item_out(calls: Any) -> None:
    """An item put with ``index=False`` is not ranked; ``get`` and searches without a query find it."""
    await _fill_index(calls)
    await calls("put", ("docs", "energy"), "hidden", {"text": "solar solar solar"}, index=False)
    ranked = [item for item in await calls("search", ("docs",), query="solar", limit=10) if item.score is not None]
    assert "hidden" not in _keys(ranked)
    assert await calls("get", ("docs", "energy"), "hidden") is not None
    assert "hidden" in _keys(await calls("search", ("docs",), limit=20))


@_check("index", index_fields=("text",))
async def _each_put_decides_what_is_indexed(calls: Any) -> None:
    """An item put again with ``index=False`` is no longer ranked; put without it, it is ranked again."""
    await _fill_index(calls)
    for index, is_ranked in ((None, True), (False, False), (None, True), (["other"], False), (None, True)):
        await calls("put", NS, "changed", {"text": "solar", "n": 1}, index=index)
        found = [item for item in await calls("search", NS, query="solar", limit=10) if item.score is not None]
        assert ("changed" in _keys(found)) is is_ranked, f"after index={index!r} the search found {_keys(found)}"


@_check("index", index_fields=("text",))
async def _a_put_names_its_own_paths(calls: Any) -> None:
    """``index=[…]`` names the paths to index instead of the store's, into dicts and lists."""
    await calls("put", NS, "a", {"text": "gold", "meta": {"title": "rice"}}, index=["meta.title"])
    await calls("put", NS, "b", {"text": "wind", "parts": [{"t": "visa"}, {"t": "cable"}]}, index=["parts[*].t"])
    await calls("put", NS, "c", {"text": "cattle"})
    for query, key in (("rice", "a"), ("cable", "b"), ("visa", "b"), ("cattle", "c")):
        found = await calls("search", NS, query=query, limit=1)
        assert _keys(found) == [key], f"{query} found {_keys(found)}"


@_check("index", index_fields=("title", "parts[*].t"))
async def _an_item_with_several_texts_is_one_hit(calls: Any) -> None:
    """Each text has a vector of its own; an item is found by its nearest, once."""
    parts = [{"t": "gold"}, {"t": "lithium"}, {"t": "rice"}]
    await calls("put", NS, "many", {"title": "solar", "parts": parts})
    await calls("put", NS, "one", {"title": "wind", "parts": []})
    for query in ("solar", "gold", "lithium", "rice"):
        found = await calls("search", NS, query=query, limit=5)
        assert found[0].key == "many", query
        assert _keys(found).count("many") == 1


@_check("index", index_fields=("text",))
async def _an_item_without_the_text_is_kept(calls: Any) -> None:
    """An item that lacks the indexed field is stored anyway."""
    await calls("put", NS, "a", {"other": "gold"})
    assert (await calls("get", NS, "a")).value == {"other": "gold"}
    await calls("put", NS, "b", {"text": "gold"})
    assert (await calls("search", NS, query="gold", limit=5))[0].key == "b"
