"""What can't be read does not end a listing or an export: it is left out, and the caller learns which and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ecowas_lc.errors import (
    CorruptDataError,
    EcowasError,
    FormatVersionError,
    IncompleteWarning,
    TypeNotAllowedError,
    WrongTypeError,
)
from ecowas_lc.storage.keys import id_text
from ecowas_lc.storage.ops import Op, T

UNREADABLE = (CorruptDataError, FormatVersionError, TypeNotAllowedError, WrongTypeError)
"""What is wrong with one thread, history or value, and with no other."""


def attempted_op(op: Op[T]) -> Op[T | EcowasError]:
    """Run a program about one thing, and return its error where that thing can't be read."""
    try:
        return (yield from op)
    except UNREADABLE as error:
        return error


def warn_left_out(what: str, why: object) -> None:
    """Warn that one thing was left out."""
    warnings.warn(f"{what} can't be read and was left out: {why}", IncompleteWarning, stacklevel=2)


def readable_ids(members: Iterable[bytes], index: str) -> list[str]:
    """Return the ids among an index's members; what is none is left out."""
    ids = []
    for member in members:
        try:
            ids.append(id_text(member))
        except CorruptDataError as error:
            warn_left_out(f"An entry of the index of {index}", error)
    return ids
