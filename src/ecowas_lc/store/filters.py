"""Filters of a search. Values are compared as JSON compares them, so ``True`` is not 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ecowas_lc.errors import InvalidInputError

_NUMBERS = (int, float)
_COMBINING = ("$and", "$or", "$nor", "$not")  # of other databases


def check_filter(given: object) -> dict[str, Any]:
    """Return ``given`` if it is a filter.

    Raises:
        InvalidInputError: It is not a dict with text keys, or it has an unknown operator.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            'A filter must be a dict like {"kind": "report", "score": {"$gt": 3}}, not '
            f"{type(given).__name__}."
        )
    for name, wanted in given.items():
        if not isinstance(name, str):
            raise InvalidInputError(f"A filter's keys must be text, not {name!r}.")
        if name in _OPERATORS or name in _COMBINING:
            raise InvalidInputError(
                f"A filter's keys name fields of the value, and {name!r} is an operator. Use conditions "
                'that must all hold: {"kind": "report", "score": {"$gt": 3}}.'
            )
        _check_wanted(wanted)
    return dict(given)


def passes(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a stored value passes a filter: each key must match, and a missing key counts as ``None``."""
    return all(_matches(value.get(name), condition) for name, condition in wanted.items())


def _check_wanted(wanted: object) -> None:
    if isinstance(wanted, Mapping):
        operators = any(isinstance(name, str) and name.startswith("$") for name in wanted)
        for name, inner in wanted.items():
            if operators and name not in _OPERATORS:
                raise InvalidInputError(
                    f"A filter has the operator {name!r}, which does not exist. Use {', '.join(_OPERATORS)}."
                )
            if not operators:
                _check_wanted(inner)
    elif isinstance(wanted, (list, tuple)):
        for inner in wanted:
            _check_wanted(inner)


def _matches(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(name.startswith("$") for name in wanted):
            return all(_OPERATORS[name](found, operand) for name, operand in wanted.items())
        return isinstance(found, dict) and all(_matches(found.get(name), inner) for name, inner in wanted.items())
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_matches(one, other) for one, other in zip(found, wanted, strict=True))
        )
    return _equal(found, wanted)


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_equal(one, other) for one, other in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, Mapping):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(_equal(found[name], inner) for name, inner in wanted.items())
        )
    return bool(found == wanted)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(found: Any, wanted: Any) -> bool:
        if isinstance(found, bool) or isinstance(wanted, bool):
            return False
        alike = (isinstance(found, _NUMBERS) and isinstance(wanted, _NUMBERS)) or (
            isinstance(found, str) and isinstance(wanted, str)
        )
        return alike and compare(found, wanted)

    return compared


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$gt": _ordered(lambda found, wanted: found > wanted),
    "$gte": _ordered(lambda found, wanted: found >= wanted),
    "$lt": _ordered(lambda found, wanted: found < wanted),
    "$lte": _ordered(lambda found, wanted: found <= wanted),
}
