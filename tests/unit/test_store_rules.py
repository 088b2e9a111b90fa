"""Rules of stores that need no server: filters as JSON compares, names of namespaces, texts to index."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.store.base import InvalidNamespaceError, ListNamespacesOp, MatchCondition

from ecowas_lc.errors import CorruptDataError, InvalidInputError
from ecowas_lc.store import batches, indexing
from ecowas_lc.store.filters import check_filter, passes


@pytest.mark.parametrize(
    ("stored", "wanted", "fits"),
    [
        ([1, {"a": 2}], {"$eq": (1, {"a": 2})}, True),
        ([1, 2], {"$eq": (1,)}, False),
        ({"a": [True]}, {"$eq": {"a": [True]}}, True),
        ({"a": [1]}, {"$eq": {"a": [True]}}, False),
        ({"a": 1, "b": 2}, {"$eq": {"a": 1}}, False),
        (True, {"$gt": 0}, False),
        ("b", {"$gte": "a"}, True),
        ("b", {"$lt": 3}, False),
        ([1, "x"], (1, "x"), True),
    ],
)
def test_a_value_is_compared_as_json(stored: Any, wanted: Any, fits: bool) -> None:
    """Tuples are lists, ``True`` is not 1, and only numbers or texts have an order."""
    assert passes({"v": stored}, check_filter({"v": wanted})) is fits


@pytest.mark.parametrize("given", [["v"], {1: 2}, {"$eq": 1}, {"v": {"$near": 1}}, {"v": [{"a": {"$no": 1}}]}])
def test_a_filter_that_can_not_be_used_is_refused(given: Any) -> None:
    """Other types, keys that are no text, and operators that don't exist are named."""
    with pytest.raises(InvalidInputError):
        check_filter(given)


@pytest.mark.parametrize("namespace", ["text", (1,), ("a.b",), ("",), ("langgraph", "x"), ()])
def test_a_namespace_that_can_not_be_used_is_refused(namespace: Any) -> None:
    """The same rules as in langgraph's own stores."""
    with pytest.raises(InvalidNamespaceError):
        batches.check_namespace(namespace)
    odd: Any = MatchCondition("middle", ("a",))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="not by 'middle'"):
        batches._check_listing(ListNamespacesOp(match_conditions=(odd,)))


def test_what_is_indexed_are_words() -> None:
    """Names and escapes of JSON are left out, text that only looks like JSON is kept, and paths are checked."""
    assert indexing.readable('{"a": ["one", 2, null, true, {"b": "three"}]}') == "one 2 three"
    assert indexing.readable("[not JSON") == "[not JSON"
    with pytest.raises(InvalidInputError, match="list of paths"):
        indexing._checked_paths(5)
    with pytest.raises(CorruptDataError):
        indexing.first_vector(b"123", 2)
